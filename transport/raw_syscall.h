/*
 * The kernel, without libc in between.
 *
 * libfastsock.so exports a syscall() of its own, so what the library itself
 * says by syscall() must not come back to it: it is linked with
 * --wrap=syscall, which makes __wrap_syscall() of those calls.
 */
#ifndef TRANSPORT_RAW_SYSCALL_H
#define TRANSPORT_RAW_SYSCALL_H

/* Six arguments, used or not. Returns what the kernel does: -errno. */
long raw_syscall(long number, const long *arguments);

/* As syscall(2): -1 and errno. */
long __wrap_syscall(long number, ...);

#endif
