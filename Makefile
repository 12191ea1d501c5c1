# make | make V=1 | make SAN=address,undefined check | make CC=clang | make DELAYS=1
CC       ?= gcc
CFLAGS   ?= -O2 -g
PREFIX   ?= /usr/local
LIBDIR   ?= $(PREFIX)/lib
comma    := ,
B        := build$(if $(SAN),-$(subst $(comma),-,$(SAN)))$(if $(filter clang%,$(CC)),-clang)$(if $(PLANT),-plant-$(PLANT))$(if $(DELAYS),-delays)
Q        := $(if $(V),,@)

override CPPFLAGS += -I. -D_GNU_SOURCE -MMD -MP
override CFLAGS   += -std=c17 -Wall -Wextra -Wmissing-prototypes \
	-Wshadow -Wstrict-prototypes -Wpointer-arith -fvisibility=hidden -fPIC \
	-pthread $(if $(CI),-Werror)
override LDFLAGS  += -pthread
ifdef PLANT # a mistake that tests have to find: tests/differential/plants.sh
override CFLAGS   += -DPLANT_$(shell echo $(PLANT) | tr a-z A-Z)
endif
ifdef DELAYS # threads stop where they race: make DELAYS=1 check-delays
override CFLAGS   += -DFASTSOCK_DELAYS
endif
ifdef SAN
override CFLAGS   += -fsanitize=$(SAN) -fno-omit-frame-pointer -DFASTSOCK_TEST
override LDFLAGS  += -fsanitize=$(SAN)
endif

# Packages of Debian 12, by name: what the build needs, then what the demo
# and the tests need.
DEPS := gcc make pkg-config libc6-dev libconfig-dev libpmem-dev libxxhash-dev check \
	memcached libmemcached-tools python3-minimal python3 procps iproute2 util-linux nftables \
	gnuplot-nox libibverbs-dev librdmacm-dev rdma-core
# What `make check-guest` needs besides.
GUEST_DEPS := qemu-system-x86 seabios busybox-static kmod cpio xz-utils zstd \
	python3 util-linux iproute2 rdma-core ibverbs-providers rdmacm-utils \
	ndctl e2fsprogs

CONFIG_SRC    := $(wildcard config/*.c)
VERBS_SRC     := $(wildcard transport/backend/verbs*.c)
TRANSPORT_SRC := $(filter-out $(VERBS_SRC),$(wildcard transport/*.c transport/backend/*.c transport/stream/*.c))
TOOL_SRC      := $(wildcard preload/fastsock_*.c)
PRELOAD_SRC   := $(filter-out $(TOOL_SRC),$(wildcard preload/*.c)) $(wildcard preload/*.S)
STORE_SRC     := $(wildcard store/pm/*.c store/engine/*.c store/protocol/*.c store/server/*.c)
KVPOOL_SRC    := $(wildcard store/tool/*.c)

# What unit tests may link: everything but the intercepted names themselves.
HOOK_SRC      := $(wildcard preload/intercept_*.c preload/startup.c preload/*.S)

obj = $(patsubst %,$(B)/%.o,$(basename $(1)))

CONFIG_OBJ    := $(call obj,$(CONFIG_SRC))
TRANSPORT_OBJ := $(call obj,$(TRANSPORT_SRC))
VERBS_OBJ     := $(call obj,$(VERBS_SRC))
PRELOAD_OBJ   := $(call obj,$(PRELOAD_SRC))
STORE_OBJ     := $(call obj,$(STORE_SRC))

# The engine as a library: the objects of kvserver.
KVPOOL_OBJ    := $(call obj,$(wildcard store/pm/*.c store/engine/*.c)) $(B)/config/log.o

PROGRAMS := $(B)/libfastsock.so $(B)/libfastsock-verbs.so $(B)/kvserver $(B)/fastsock $(B)/kvpool \
	$(B)/libkvpool.so $(B)/libkvpool.a

all: $(PROGRAMS)

include bench/bench.mk
include tests/tests.mk

$(B)/libfastsock.so: $(PRELOAD_OBJ) $(TRANSPORT_OBJ) $(CONFIG_OBJ) preload/exports.map
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libfastsock.so -Wl,-z,now \
		-Wl,--wrap=syscall \
		-Wl,--version-script=preload/exports.map \
		-o $@ $(filter %.o,$^)

# A module with what it uses of transport/: none of that has state of its own.
$(B)/libfastsock-verbs.so: $(VERBS_OBJ) $(call obj,$(wildcard transport/*.c))
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libfastsock-verbs.so -Wl,-z,now \
		-Wl,--wrap=syscall \
		-o $@ $^ -libverbs -lrdmacm

$(B)/libkvpool.so: $(KVPOOL_OBJ) store/engine/exports.map
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libkvpool.so -Wl,-z,now \
		-Wl,--version-script=store/engine/exports.map \
		-o $@ $(filter %.o,$^) -lpmem

# One object, in which only the functions of the header have names.
$(B)/libkvpool.a: $(B)/kvpool.o
$(B)/kvpool.o: $(KVPOOL_OBJ)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(LD) -r -o $@ $^
	$(Q)objcopy --localize-hidden $@

$(B)/kvserver: $(B)/store/main.o $(STORE_OBJ) $(CONFIG_OBJ)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lpmem

$(B)/kvpool: $(call obj,$(KVPOOL_SRC)) $(KVPOOL_OBJ)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lpmem

$(B)/fastsock: $(call obj,$(TOOL_SRC)) $(B)/preload/cpu_quota.o \
	$(B)/transport/shared_memory.o $(B)/transport/reason.o $(CONFIG_OBJ)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC    $<')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/%.o: %.S
	@mkdir -p $(@D)
	$(if $(V),,@echo '  AS    $<')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(B)/%.a:
	@mkdir -p $(@D)
	$(if $(V),,@echo '  AR    $@')
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# Names the Debian packages that are missing; as root installs them.
deps:
	@missing=$$(for p in $(DEPS); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; \
	done); \
	if [ -z "$$missing" ]; then exit 0; fi; \
	echo "missing packages:" $$missing; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "install them with: sudo apt-get install --no-install-recommends" $$missing; exit 1; \
	fi; \
	apt-get update -q >/dev/null; \
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing

demo: deps
	$(Q)$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	$(Q)BUILD=$(B) sh tests/demo.sh

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR) $(DESTDIR)$(PREFIX)/share/man/man1 \
		$(DESTDIR)$(PREFIX)/share/man/man3 $(DESTDIR)$(PREFIX)/share/man/man7 \
		$(DESTDIR)$(PREFIX)/share/doc/fastsock $(DESTDIR)$(PREFIX)/include
	install -m 755 $(B)/kvserver $(B)/fastsock $(B)/kvpool $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(B)/libfastsock.so $(B)/libfastsock-verbs.so $(DESTDIR)$(LIBDIR)
	install -m 755 $(B)/libkvpool.so $(DESTDIR)$(LIBDIR)
	install -m 644 $(B)/libkvpool.a $(DESTDIR)$(LIBDIR)
	install -m 644 store/engine/engine.h $(DESTDIR)$(PREFIX)/include/kvpool.h
	install -m 644 docs/man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 docs/man/*.7 $(DESTDIR)$(PREFIX)/share/man/man7
	install -m 644 config/fastsock.conf README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/fastsock
	$(if $(DESTDIR),,ldconfig)

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

tidy:
	clang-tidy --quiet --warnings-as-errors='*' $(filter-out preload/vfork.S,$(CONFIG_SRC) $(TRANSPORT_SRC) $(VERBS_SRC) \
		$(PRELOAD_SRC) $(TOOL_SRC) $(STORE_SRC) $(KVPOOL_SRC) store/main.c) -- -I. -D_GNU_SOURCE -std=c17

clean:
	rm -rf build build-*

.PHONY: all deps demo install format tidy clean
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
