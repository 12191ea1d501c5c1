/*
 * See raw_syscall.h.
 */
#include "transport/raw_syscall.h"

#include <errno.h>
#include <stdarg.h>

#if defined(__x86_64__)
long raw_syscall(long number, const long *a)
{
    register long a3 __asm__("r10") = a[3];
    register long a4 __asm__("r8") = a[4];
    register long a5 __asm__("r9") = a[5];
    long rc;

    __asm__ volatile("syscall"
                     : "=a"(rc)
                     : "0"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(a3),
                       "r"(a4), "r"(a5)
                     : "rcx", "r11", "memory");
    return rc;
}
#elif defined(__aarch64__)
long raw_syscall(long number, const long *a)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a[0];
    register long x1 __asm__("x1") = a[1];
    register long x2 __asm__("x2") = a[2];
    register long x3 __asm__("x3") = a[3];
    register long x4 __asm__("x4") = a[4];
    register long x5 __asm__("x5") = a[5];

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#else
#error "syscall: this processor needs its own few lines here"
#endif

long __wrap_syscall(long number, ...)
{
    long a[6], rc;
    va_list args;

    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    rc = raw_syscall(number, a);
    if (rc >= 0 || rc < -4095)
        return rc;
    errno = (int)-rc;
    return -1;
}
