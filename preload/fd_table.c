/*
 * See fd_table.h. The rows are zero-filled memory for every number that the
 * kernel could give out; pages appear when they are written.
 */
#include "preload/fd_table.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "transport/kernel_calls.h"
#include "transport/lock.h"

enum {
    BEHIND_STDIO = 3,
    OURS_LOWEST = 64,
    OURS_HIGHEST = 16384,
    TAKE_TRIES = 2000
};

_Atomic(struct object *) fd_rows[FD_ROWS];
static struct object ours = {.kind = OBJECT_OURS};
static _Atomic uint64_t claimed[FD_ROWS / 64]; /* a bit for each number */
static _Atomic unsigned rows_used;
static struct lock changing; /* numbers and rows of ours */
static _Atomic bool room_made;
/* A handler may fork in the midst of a fork of its own thread. */
static __thread int forking __attribute__((tls_model("initial-exec")));
static __thread bool fork_has_it __attribute__((tls_model("initial-exec")));

/* Who takes it out ends the claim, and leaves it to who closes it. */
static struct object *taken_out(int fd, struct object *old)
{
    if (__builtin_expect(old != NULL, 0) && fd_is_claimed(fd)) {
        fd_unclaim(fd);
        return NULL;
    }
    return old;
}

struct object *fd_set_row(int fd, struct object *object)
{
    unsigned used;

    if ((unsigned)fd >= FD_ROWS)
        return NULL;
    /* Rows that stay empty are not touched: no page for them. */
    if (object == NULL &&
        atomic_load_explicit(&fd_rows[fd], memory_order_relaxed) == NULL)
        return NULL;
    used = atomic_load_explicit(&rows_used, memory_order_relaxed);
    while ((unsigned)fd >= used &&
           !atomic_compare_exchange_weak(&rows_used, &used, (unsigned)fd + 1))
        ;
    return taken_out(fd, atomic_exchange(&fd_rows[fd], object));
}

void fd_forget(int fd, struct object *object)
{
    struct object *old = object;

    if (atomic_compare_exchange_strong(&fd_rows[fd], &old, NULL))
        taken_out(fd, object);
}

unsigned fd_rows_used(void)
{
    return atomic_load(&rows_used);
}

static uint64_t claim_bit(int fd)
{
    return UINT64_C(1) << fd % 64;
}

bool fd_claim(int fd, struct object *object)
{
    struct timespec t = {0, 50000};

    /* Perhaps of the one before, whose row is another's by now. */
    for (int i = 0;
         atomic_fetch_or(&claimed[fd / 64], claim_bit(fd)) & claim_bit(fd);
         i++) {
        if (i == TAKE_TRIES || fd_find(fd) != object)
            return false;
        syscall(SYS_nanosleep, &t, NULL);
    }
    if (fd_find(fd) == object)
        return true;
    fd_unclaim(fd);
    return false;
}

void fd_unclaim(int fd)
{
    atomic_fetch_and(&claimed[fd / 64], ~claim_bit(fd));
}

bool fd_is_claimed(int fd)
{
    return (unsigned)fd < FD_ROWS &&
           (atomic_load(&claimed[fd / 64]) & claim_bit(fd));
}

void fd_forget_claimed(void)
{
    for (unsigned fd = 0; fd < fd_rows_used(); fd++)
        if (fd_is_claimed((int)fd)) {
            fd_set_row((int)fd, NULL);
            fd_unclaim((int)fd);
        }
}

/* The upper end of what the application is likely to use. */
static int ours_floor(void)
{
    struct rlimit limit;
    long floor = OURS_HIGHEST;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < (rlim_t)OURS_HIGHEST)
        floor = (long)limit.rlim_cur;
    floor -= floor / 4;
    return floor < OURS_LOWEST ? OURS_LOWEST : (int)floor;
}

/*
 * False: an outer frame of a signal handler has it, or a fork has had it for
 * long, whose other handlers may wait for what the caller holds.
 */
static bool take(void)
{
    struct timespec t = {0, 20000};

    for (int i = 0; i < TAKE_TRIES && !lock_is_mine(&changing); i++) {
        if (lock_try(&changing))
            return true;
        syscall(SYS_nanosleep, &t, NULL);
    }
    return false;
}

static void give(bool taken)
{
    if (taken)
        lock_give(&changing);
}

int ours_copy(int fd)
{
    bool taken = take();
    int kept = kernel_fcntl(fd, F_DUPFD_CLOEXEC, ours_floor());

    if (kept < 0)
        kept = kernel_fcntl(fd, F_DUPFD_CLOEXEC, BEHIND_STDIO);
    if (kept >= 0)
        fd_set_row(kept, &ours);
    give(taken);
    return kept;
}

bool fd_is_same(int a, int b)
{
    struct stat first, second;

    return fstat(a, &first) == 0 && fstat(b, &second) == 0 &&
           first.st_ino == second.st_ino && first.st_dev == second.st_dev;
}

int ours_keep(int fd)
{
    bool taken;
    int high;

    if (fd < 0)
        return fd;
    taken = take();
    high = kernel_fcntl(fd, F_DUPFD_CLOEXEC, ours_floor());
    if (high >= 0) {
        kernel_close(fd);
        fd = high;
    }
    fd_set_row(fd, &ours);
    give(taken);
    return fd;
}

/* The row goes first: another thread may get the number at once. */
void ours_close(int fd)
{
    bool taken;

    if (fd < 0)
        return;
    taken = take();
    fd_set_row(fd, NULL);
    kernel_close(fd);
    give(taken);
}

void ours_make_room(int fd)
{
    bool taken;
    int high;

    if (atomic_load_explicit(&room_made, memory_order_relaxed) ||
        atomic_exchange(&room_made, true))
        return;
    taken = take();
    high = kernel_fcntl(fd, F_DUPFD_CLOEXEC, ours_floor());
    if (high >= 0)
        kernel_close(high);
    give(taken);
}

bool ours_stand(void)
{
    return take();
}

void ours_go_on(bool stood)
{
    give(stood);
}

void ours_before_fork(void)
{
    if (forking++ == 0)
        fork_has_it = take();
}

void ours_after_fork(bool child)
{
    if (child) {
        forking = 0;
        atomic_store(&room_made, false); /* it has a table of its own */
        lock_init(&changing);
    } else if (forking > 0 && --forking == 0) {
        give(fork_has_it);
    }
}
