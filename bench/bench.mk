# Measurements. `make bench` runs the table of bench/README.md.
BENCH_PROGRAMS := $(patsubst %.c,$(B)/%,$(wildcard bench/*.c))

$(B)/bench/support.a: $(call obj,$(wildcard bench/support/*.c))

# Of the rooms only the engine is measured by itself.
$(B)/bench/engine: $(call obj,$(wildcard store/pm/*.c store/engine/*.c)) $(CONFIG_OBJ)
$(B)/bench/engine: LDLIBS += -lpmem

$(BENCH_PROGRAMS): %: %.o $(B)/bench/support.a
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lm

bench: deps
	$(Q)$(MAKE) --no-print-directory all $(BENCH_PROGRAMS)
	$(Q)BUILD=$(B) sh bench/run.sh

.PHONY: bench
