# store/ for aarch64, and its unit tests under qemu-user. The compiler and the
# emulator are packages; the libraries for that machine, which are not for this
# one, are unpacked into the build folder, so that the system stays as it is.
A64      := $(B)/aarch64
A64_ROOT := $(A64)/root
A64_LIBS := check libpmem-dev
# What `make check-long` skips a test without.
LONG_DEPS := valgrind gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
A64_UNIT := $(patsubst %.c,$(A64)/%,$(filter tests/unit/store/%,$(UNIT_SRC)))
A64_OBJ  := $(patsubst %.c,$(A64)/%.o,$(CONFIG_SRC) $(STORE_SRC) \
	$(filter-out store/tool/kvpool_main.c,$(KVPOOL_SRC)))
A64_HELP := $(patsubst %.c,$(A64)/%.o,$(wildcard tests/support/*.c))

$(A64)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC    $< (aarch64)')
	$(Q)aarch64-linux-gnu-gcc $(CPPFLAGS) $(CFLAGS) \
		-isystem $(A64_ROOT)/usr/include -c -o $@ $<

$(A64)/rooms.a: $(A64_OBJ)
	$(Q)rm -f $@ && aarch64-linux-gnu-ar rcs $@ $^

$(A64)/support.a: $(A64_HELP)
	$(Q)rm -f $@ && aarch64-linux-gnu-ar rcs $@ $^

$(A64_UNIT): %: %.o $(A64)/support.a $(A64)/rooms.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)aarch64-linux-gnu-gcc $(LDFLAGS) -o $@ $^ \
		-L$(A64_ROOT)/usr/lib/aarch64-linux-gnu \
		-L$(A64_ROOT)/lib/aarch64-linux-gnu -Wl,--allow-shlib-undefined \
		-lcheck -lsubunit -lm -lrt -lpmem $(LDLIBS)

$(A64)/tests/unit/store/pm/check_pool: LDLIBS += -Wl,--wrap=malloc

$(A64)/$(COUNTING): override LDFLAGS += -Wl,--wrap=parser_next -Wl,--wrap=text_parse

a64-unit: $(A64_UNIT)

deps-long:
	$(Q)$(MAKE) --no-print-directory deps DEPS='$(LONG_DEPS)'
	$(Q)sh tests/aarch64.sh unpack $(A64_ROOT) $(A64_LIBS)

check-aarch64:
	$(Q)BUILD=$(B) MAKE='$(MAKE)' sh tests/aarch64.sh run

.PHONY: a64-unit deps-long check-aarch64
