# Crash images and mutants of the engine.
#
# The engine is compiled once more for them: call sites are found by frame
# pointers, which a tail call or an inlined function would hide.
CRASH_FLAGS := -fno-omit-frame-pointer -fno-optimize-sibling-calls -fno-inline
CRASH_ROOM  := $(patsubst %.c,$(B)/crash/%.o,$(CONFIG_SRC) \
	$(wildcard store/pm/*.c store/engine/*.c))
# kvpool's check, which stores nothing.
CRASH_TOOL  := $(call obj,$(filter-out store/tool/kvpool_%.c,$(wildcard store/tool/*.c)))
CRASH_SRC   := $(wildcard tests/crash/*.c)
CRASH       := $(B)/tests/crash/crash

$(B)/crash/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC    $< (for call sites)')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(CRASH_FLAGS) -c -o $@ $<

$(B)/tests/crash/crash: $(CRASH_SRC:%.c=$(B)/crash/%.o) $(CRASH_ROOM) $(CRASH_TOOL)
	@mkdir -p $(@D)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lpmem

tests: $(CRASH)

# The images of a night, by kind; every mutant with its verdict.
check-images: $(B)/tests/crash/crash
	$(Q)$< long

check-mutants: $(B)/tests/crash/crash
	$(Q)BUILD=$(B) sh tests/crash/mutants.sh

.PHONY: check-images check-mutants
