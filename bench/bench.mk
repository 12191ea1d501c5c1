# Measurements. `make bench` runs the table of bench/README.md, `make
# bench-quick` a minute of it and compares with bench/reference.txt.
BENCH_PROGRAMS := $(patsubst %.c,$(B)/%,$(wildcard bench/*.c))

$(B)/bench/support.a: $(call obj,$(wildcard bench/support/*.c))

# Of the rooms only the engine is measured by itself. What it and the sockets
# are measured beside is left out where its package is not there.
ENGINE_DEPS := libpmemobj-dev liblmdb-dev
BENCH_DEPS  := $(ENGINE_DEPS) redis-server redis-tools sockperf
BENCH_LIBS  = -lpmem $(foreach lib,libpmemobj lmdb,$(shell pkg-config --libs $(lib) 2>/dev/null))

$(B)/bench/engine: $(call obj,$(wildcard bench/stores/*.c store/pm/*.c store/engine/*.c)) $(CONFIG_OBJ)
$(B)/bench/engine: LDLIBS += $(BENCH_LIBS)

$(B)/bench/open: $(call obj,$(wildcard store/pm/*.c store/engine/*.c)) $(CONFIG_OBJ)
$(B)/bench/open: LDLIBS += -lpmem

deps-bench:
	$(Q)$(MAKE) --no-print-directory deps DEPS='$(BENCH_DEPS)'

$(BENCH_PROGRAMS): %: %.o $(B)/bench/support.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lm

bench bench-quick: deps
	$(Q)$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	$(Q)BUILD=$(B) $(if $(filter bench-quick,$@),QUICK=1) sh bench/run.sh

bench-profile: deps
	$(Q)$(MAKE) --no-print-directory deps DEPS='linux-perf redis-server redis-tools'
	$(Q)$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	$(Q)BUILD=$(B) sh bench/profile.sh

bench-engine: deps
	$(Q)$(MAKE) --no-print-directory deps DEPS='$(ENGINE_DEPS)'
	$(Q)$(MAKE) --no-print-directory $(B)/bench/engine $(B)/bench/open
	$(Q)BUILD=$(B) sh bench/engine.sh

# What `make bench-quick` compares with, and the pictures of the documents:
# from a whole run, on a machine that has nothing else to do.
bench-reference: bench
	cp $(B)/bench/table.txt bench/reference.txt
	mkdir -p docs/pictures
	cp $(B)/bench/*.svg docs/pictures

.PHONY: bench bench-engine bench-profile bench-quick bench-reference deps-bench
