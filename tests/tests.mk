# Tests. `make check` is for every day, `make check-long` for the night.
# A unit test is tests/unit/<room>/check_<module>.c; it may link every room
# but the intercepted names. See tests/README.md.
UNIT_SRC := $(shell find tests/unit -name 'check_*.c')
UNIT     := $(call obj,$(UNIT_SRC))
UNIT     := $(UNIT:.o=)
FUZZ_SRC := $(filter-out tests/fuzz/driver.c,$(wildcard tests/fuzz/*.c))
FUZZ     := $(patsubst %.c,$(B)/%,$(FUZZ_SRC))
STRESS   := $(patsubst %.c,$(B)/%,$(wildcard tests/stress/*.c))
E2E_PROG := $(patsubst %.c,$(B)/%,$(wildcard tests/e2e/*.c))
SUPPORT  := $(call obj,$(wildcard tests/support/*.c))

$(B)/rooms.a: $(CONFIG_OBJ) $(TRANSPORT_OBJ) $(STORE_OBJ) \
	$(call obj,$(filter-out $(HOOK_SRC),$(PRELOAD_SRC))) \
	$(call obj,$(filter-out preload/fastsock_main.c,$(TOOL_SRC))) \
	$(call obj,$(filter-out store/tool/kvpool_main.c,$(KVPOOL_SRC)))
$(B)/support.a: $(SUPPORT)

$(UNIT): %: %.o $(B)/support.a $(B)/rooms.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(B)/support.a $(B)/rooms.a \
		-lcheck -lsubunit -lm -lrt -lpmem $(LDLIBS)

# One allocation fails when the test says so.
$(B)/tests/unit/store/pm/check_pool: LDLIBS += -Wl,--wrap=malloc

# Two ends of a stream, with tags that come back with a seed: no other program
# may have that getrandom().
STREAM_UNIT := $(filter $(B)/tests/unit/transport/stream/%,$(UNIT))
$(STREAM_UNIT): $(B)/tests/unit/transport/stream/two_ends.o

# Counts what the parser is shown.
COUNTING := tests/unit/store/server/check_long_get
$(B)/$(COUNTING): override LDFLAGS += -Wl,--wrap=parser_next -Wl,--wrap=text_parse

# With a device that the test makes.
VERBS_UNIT := $(filter $(B)/tests/unit/transport/backend/check_verbs_%,$(UNIT))
$(VERBS_UNIT): $(VERBS_OBJ)
$(VERBS_UNIT): LDLIBS += -libverbs -lrdmacm

# Modules as a transport of its own library is one, sound ones and others.
MODULES := $(patsubst %.c,$(B)/%/libfastsock-verbs.so,$(wildcard tests/unit/preload/modules/*.c))

$(MODULES): %/libfastsock-verbs.so: %.o
	@mkdir -p $(@D)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $<

$(B)/tests/unit/preload/check_backends: | $(MODULES)

$(FUZZ): %: %.o $(B)/tests/fuzz/driver.o $(B)/rooms.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(B)/rooms.a -lpmem

$(B)/tests/fuzz/pool: $(B)/tests/support/damaged_pool.o

$(STRESS): %: %.o $(B)/rooms.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lpmem

# End-to-end programs are plain socket programs: they link nothing of ours.
# One of them also in the form that distributions build.
E2E_SUPPORT := $(call obj,$(wildcard tests/e2e/support/*.c))
E2E_PROG    += $(B)/tests/e2e/calls_fortified

$(B)/tests/e2e/calls_fortified.o: tests/e2e/calls.c
	@mkdir -p $(@D)
	$(if $(V),,@echo '  CC    $< (fortified)')
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -O2 -D_FORTIFY_SOURCE=2 -c -o $@ $<

# A library that one of them loads.
E2E_LIBRARY := $(B)/tests/e2e/library/last_words.so

$(E2E_LIBRARY): %.so: %.o
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $<

$(B)/tests/e2e/ends: | $(E2E_LIBRARY)

$(E2E_PROG): %: %.o $(E2E_SUPPORT)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^)

# Who breaks the rules has to know them: this one links the rooms.
$(B)/tests/e2e/hostile/hostile_peer: $(call obj,$(wildcard tests/e2e/hostile/*.c)) \
	$(E2E_SUPPORT) $(B)/rooms.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lpmem

E2E_HOSTILE := $(B)/tests/e2e/hostile/hostile_peer

# One suite for every transport; each program may look into its own.
CONTRACT     := $(patsubst %.c,$(B)/%,$(wildcard tests/contract/check_*.c))
CONTRACT_OBJ := $(call obj,$(filter-out tests/contract/check_%,$(wildcard tests/contract/*.c)))

$(CONTRACT): %: %.o $(CONTRACT_OBJ) $(B)/support.a $(B)/rooms.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(B)/rooms.a -lcheck -lsubunit -lm -lrt $(LDLIBS)

$(B)/tests/contract/check_verbs: $(VERBS_OBJ) $(B)/tests/contract/verbs/memory_cases.o
$(B)/tests/contract/check_verbs: LDLIBS += -libverbs -lrdmacm

include tests/differential/differential.mk
include tests/crash/crash.mk
include tests/aarch64.mk
include tests/programs/programs.mk

tests: $(PROGRAMS) $(DIFF) $(BREAKING) $(UNIT) $(FUZZ) $(STRESS) $(E2E_PROG) $(E2E_HOSTILE) \
	$(CONTRACT) $(BENCH_PROGRAMS)

check-unit: $(UNIT)
	$(Q)BUILD=$(B) sh tests/run.sh unit

check: deps
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)BUILD=$(B) sh tests/run.sh unit static contract fuzz crash stress differential e2e

check-long: deps
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)LONG=1 BUILD=$(B) sh tests/run.sh unit static contract fuzz crash stress \
		differential e2e programs
	$(Q)$(MAKE) --no-print-directory SAN=address,undefined check-operations
	$(Q)$(MAKE) --no-print-directory SAN=thread check-operations

# Ten million random operations on streams.
check-operations: $(B)/tests/stress/streams
	$(Q)LONG=1 ONLY=stress/streams BUILD=$(B) sh tests/run.sh stress

# In a virtual machine with RDMA devices, persistent memory and a kernel that
# may be killed. See tests/guest/README.md.
check-guest: deps
	$(Q)$(MAKE) --no-print-directory deps DEPS='$(GUEST_DEPS)'
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)BUILD=$(B) sh tests/run.sh guest

.PHONY: tests check check-unit check-long check-operations check-guest

# The library under sanitizers cannot be preloaded into programs that lack
# them: here unit tests, fuzzers, crash images and stress run, which link all of
# its code.
check-sanitized: deps
	$(Q)$(MAKE) --no-print-directory $(UNIT) $(FUZZ) $(CRASH) $(STRESS)
	$(Q)BUILD=$(B) sh tests/run.sh unit fuzz crash stress

check-threads: deps
	$(Q)$(MAKE) --no-print-directory $(STRESS)
	$(Q)BUILD=$(B) sh tests/run.sh stress

# Under a library whose threads stop now and then at each fence and lock: what
# waits, and what moves.
DELAYED := stress/ differential/ e2e/blocking e2e/edges e2e/echo e2e/ends e2e/forked e2e/handlers \
	e2e/handover e2e/inherited e2e/one_way e2e/passes e2e/processes e2e/readiness e2e/returns e2e/semantics \
	e2e/stopped e2e/threads e2e/told_once e2e/transfers e2e/turns
check-delays: deps
	$(Q)$(MAKE) --no-print-directory tests
	$(Q)ONLY='$(DELAYED)' SLOW=3 BUILD=$(B) sh tests/run.sh stress differential e2e

.PHONY: check-sanitized check-threads check-delays

# The protocol's models, explored by spin; some minutes.
check-models:
	@command -v spin >/dev/null || { \
		echo "check-models needs spin; on Debian: apt-get install spin"; \
		exit 1; }
	$(Q)sh docs/model/check.sh

.PHONY: check-models
