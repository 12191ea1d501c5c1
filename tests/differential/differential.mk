# The differential tester, and the library with links that break.
DIFF     := $(B)/tests/differential/differential
BREAKING := $(B)/tests/differential/libfastsock-breaks.so
DIFF_OBJ := $(call obj,$(filter-out %/breaking_links.c,$(wildcard tests/differential/*.c)))

# What it says by syscall() goes past the library.
$(DIFF): $(DIFF_OBJ) $(E2E_SUPPORT) $(call obj,transport/raw_syscall.c)
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -Wl,--wrap=syscall -o $@ $^

$(BREAKING).map: preload/exports.map
	@mkdir -p $(@D)
	$(Q)sed 's/^local:/	breaking_links_plan; breaking_links_count;\n&/' $< >$@

$(BREAKING): $(call obj,tests/differential/breaking_links.c) $(PRELOAD_OBJ) \
	$(TRANSPORT_OBJ) $(CONFIG_OBJ) $(BREAKING).map
	$(if $(V),,@echo '  LD    $@')
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libfastsock.so -Wl,-z,now \
		-Wl,--wrap=syscall -Wl,--wrap=link_take -Wl,--version-script=$(BREAKING).map \
		-o $@ $(filter %.o,$^)
