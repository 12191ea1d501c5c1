/*
 * What a call costs on a descriptor that is not a socket.
 *
 * Each call is made through the libc name, which a preloaded library may
 * intercept, and as the bare system call, in alternating blocks. The figure
 * "<call>_over_ns" is the median difference of neighbouring blocks: what the
 * way through libc adds. With a library it is larger by the cost of the
 * library, and a drift of the machine's speed cancels out.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench/support/program.h"

enum { CALLS = 500, BLOCKS_MAX = 2000 };

struct fds {
    int null;
    int epoll;
    struct pollfd pipe;
    struct epoll_event event;
    char byte;
};

static inline long bare(long number, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
    long rc;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = 0;

    __asm__ volatile("syscall"
                     : "=a"(rc)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
                       "r"(r9)
                     : "rcx", "r11", "memory");
    return rc;
#else
    return syscall(number, a, b, c, d, e, 0);
#endif
}

static void null_libc(struct fds *f)
{
    (void)f;
    getppid();
}

static void null_bare(struct fds *f)
{
    (void)f;
    bare(SYS_getppid, 0, 0, 0, 0, 0);
}

static void read_libc(struct fds *f)
{
    if (read(f->null, &f->byte, 1) != 0)
        program_die("read of /dev/null: expected end of file");
}

static void read_bare(struct fds *f)
{
    if (bare(SYS_read, f->null, (long)&f->byte, 1, 0, 0) != 0)
        program_die("bare read of /dev/null: expected end of file");
}

static void write_libc(struct fds *f)
{
    if (write(f->null, &f->byte, 1) != 1)
        program_die("write to /dev/null: expected 1 byte");
}

static void write_bare(struct fds *f)
{
    if (bare(SYS_write, f->null, (long)&f->byte, 1, 0, 0) != 1)
        program_die("bare write to /dev/null: expected 1 byte");
}

static void epoll_libc(struct fds *f)
{
    if (epoll_wait(f->epoll, &f->event, 1, 0) != 0)
        program_die("epoll_wait on an empty set: expected no event");
}

static void epoll_bare(struct fds *f)
{
#ifdef SYS_epoll_wait
    long rc = bare(SYS_epoll_wait, f->epoll, (long)&f->event, 1, 0, 0);
#else
    long rc = bare(SYS_epoll_pwait, f->epoll, (long)&f->event, 1, 0, 0);
#endif

    if (rc != 0)
        program_die("bare epoll_wait on an empty set: expected no event");
}

static void poll_libc(struct fds *f)
{
    if (poll(&f->pipe, 1, 0) != 0)
        program_die("poll of an empty pipe: expected nothing");
}

static void poll_bare(struct fds *f)
{
#ifdef SYS_poll
    long rc = bare(SYS_poll, (long)&f->pipe, 1, 0, 0, 0);
#else
    struct timespec none = {0};
    long rc = bare(SYS_ppoll, (long)&f->pipe, 1, (long)&none, 0, 0);
#endif

    if (rc != 0)
        program_die("bare poll of an empty pipe: expected nothing");
}

static const struct {
    const char *name;
    void (*libc)(struct fds *f);
    void (*bare)(struct fds *f);
} calls[] = {
    {"null", null_libc, null_bare},    {"read", read_libc, read_bare},
    {"write", write_libc, write_bare}, {"epoll", epoll_libc, epoll_bare},
    {"poll", poll_libc, poll_bare},
};
enum { N_CALLS = sizeof(calls) / sizeof(calls[0]) };

static double block(void (*call)(struct fds *f), struct fds *f)
{
    uint64_t before = program_now_ns();

    for (unsigned i = 0; i < CALLS; i++)
        call(f);
    return (double)(program_now_ns() - before) / CALLS;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), compare);
    return values[n / 2];
}

static void measure(struct fds *f, unsigned blocks, double *libc, double *over)
{
    static double through[BLOCKS_MAX], extra[BLOCKS_MAX];

    for (unsigned call = 0; call < N_CALLS; call++) {
        for (unsigned i = 0; i < blocks; i++) {
            double bare_before = block(calls[call].bare, f);

            through[i] = block(calls[call].libc, f);
            extra[i] =
                through[i] - (bare_before + block(calls[call].bare, f)) / 2;
        }
        libc[call] = median(through, blocks);
        over[call] = median(extra, blocks);
    }
}

static void open_fds(struct fds *f)
{
    int ends[2];

    memset(f, 0, sizeof(*f));
    f->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (f->null < 0 || f->epoll < 0 || pipe2(ends, O_CLOEXEC) < 0)
        program_die("cannot open /dev/null, an epoll set and a pipe: %s",
                    strerror(errno));
    f->pipe = (struct pollfd){.fd = ends[0], .events = POLLIN};
}

int main(int argc, char **argv)
{
    struct figure figures[2 * N_CALLS];
    char names[2 * N_CALLS][32];
    double libc[N_CALLS], over[N_CALLS];
    unsigned blocks = 300;
    bool json = false;
    struct fds fds;
    int option;

    while ((option = getopt(argc, argv, "b:j")) >= 0) {
        if (option == 'b')
            blocks = (unsigned)program_number('b', optarg, 1, BLOCKS_MAX);
        else if (option == 'j')
            json = true;
        else
            program_die("usage: fd_cost [-b blocks of %d calls] [-j]", CALLS);
    }
    open_fds(&fds);
    measure(&fds, blocks / 10 + 1, libc, over); /* warm-up */
    measure(&fds, blocks, libc, over);
    for (unsigned i = 0; i < N_CALLS; i++) {
        snprintf(names[2 * i], sizeof(names[0]), "%s_ns", calls[i].name);
        snprintf(names[2 * i + 1], sizeof(names[0]), "%s_over_ns",
                 calls[i].name);
        figures[2 * i] = (struct figure){names[2 * i], libc[i]};
        figures[2 * i + 1] = (struct figure){names[2 * i + 1], over[i]};
    }
    program_print(figures, 2 * N_CALLS, json);
    return 0;
}
