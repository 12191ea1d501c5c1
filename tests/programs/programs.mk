# Debian's programs, with and without the library: see README.md here.
PROGRAM_DEPS := redis-server redis-tools memcached nginx-light haproxy wrk curl \
	postgresql rsync socat iperf3 python3 openssl nodejs \
	openjdk-17-jdk-headless ruby perl php-cli openmpi-bin libopenmpi-dev mpich \
	libmpich-dev openssh-server openssh-client golang-go gccgo
LONG_DEPS += $(PROGRAM_DEPS)

check-programs: deps
	$(Q)$(MAKE) --no-print-directory deps DEPS='$(PROGRAM_DEPS)'
	$(Q)$(MAKE) --no-print-directory $(PROGRAMS)
	$(Q)BUILD=$(B) sh tests/run.sh programs

.PHONY: check-programs
