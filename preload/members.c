/*
 * See members.h. One slot for each number, in memory of the whole family; a
 * slot gets another number when the process of its last one has ended.
 *
 * Not the pid alone: it may be another process's by now, and in another
 * namespace it means nothing. Not the lock alone: a program that closes what
 * is not its own, past libc, loses it and lives on. A pid that is in use again
 * and a lock that could not be had cost speed only.
 */
#include "preload/members.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#include "preload/fd_table.h"
#include "transport/kernel_calls.h"

enum {
    SLOTS = 65536,
    TRIES = 16,
    NUMBERS = INT32_MAX, /* none is given out twice */
    UNTOLD = 1 << 30     /* in `hides`, before a process knows its number */
};

struct slot {
    _Atomic uint64_t who;   /* the number, and below it the pid */
    _Atomic uint32_t hides; /* how many of its threads do, at the moment */
};

struct table {
    int fd; /* of the file for the locks; the same number in all of them */
    _Atomic uint32_t last;
    struct slot slot[SLOTS];
};

static struct {
    _Atomic(struct table *) table;
    _Atomic uint32_t self;
    _Atomic uint32_t hiding; /* threads */
    _Atomic bool has_none;   /* and gets none */
} members;

/* Of this thread's, those that the slot knows of: the last ones. */
static __thread unsigned in_slot __attribute__((tls_model("initial-exec")));

static struct slot *slot_of(struct table *table, uint32_t number)
{
    return &table->slot[number % SLOTS];
}

static int lock_of(struct table *table, int command, uint32_t number,
                   struct flock *lock)
{
    *lock = (struct flock){.l_type = F_WRLCK,
                           .l_whence = SEEK_SET,
                           .l_start = (off_t)number,
                           .l_len = 1};
    return kernel_fcntl(table->fd, command, (long)lock);
}

/* Of its table of descriptors nothing is left, nor of itself. */
static bool has_ended(struct table *table, uint64_t who)
{
    struct flock lock;
    int saved = errno;

    if (lock_of(table, F_GETLK, (uint32_t)(who >> 32), &lock) < 0 ||
        lock.l_type != F_UNLCK)
        return false;
    return kernel_result(syscall(SYS_kill, (pid_t)(uint32_t)who, 0), saved) ==
           -ESRCH;
}

static struct table *make_table(void)
{
    struct table *table, *none = NULL;
    int saved = errno, fd;

    table = mmap(NULL, sizeof(*table), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table == MAP_FAILED)
        return NULL;
    fd = (int)kernel_result(
        syscall(SYS_memfd_create, "fastsock.family", MFD_CLOEXEC), saved);
    table->fd = ours_keep(fd);
    if (fd >= 0 && atomic_compare_exchange_strong(&members.table, &none, table))
        return table;
    ours_close(table->fd); /* or another thread has made one meanwhile */
    munmap(table, sizeof(*table));
    return none;
}

static uint32_t take_number(struct table *table)
{
    uint64_t pid = (uint32_t)syscall(SYS_getpid);
    struct flock lock;

    for (int i = 0; i < TRIES; i++) {
        uint32_t number = atomic_fetch_add(&table->last, 1) + 1;
        struct slot *slot = slot_of(table, number);
        uint64_t old = atomic_load(&slot->who);

        if (number >= NUMBERS) {
            atomic_store(&table->last, NUMBERS);
            return 0;
        }
        if (old != 0 && !has_ended(table, old))
            continue;
        if (!atomic_compare_exchange_strong(&slot->who, &old,
                                            (uint64_t)number << 32 | pid))
            continue;
        atomic_store(&slot->hides, UNTOLD);
        return lock_of(table, F_SETLK, number, &lock) == 0 ? number : 0;
    }
    return 0;
}

/* Who began to hide before it was known hides for ever. */
uint32_t member_self(void)
{
    struct table *table = atomic_load(&members.table);
    uint32_t number = atomic_load(&members.self), none = 0;

    if (number != 0 || atomic_load(&members.has_none))
        return number;
    if (table == NULL)
        table = make_table();
    number = table != NULL ? take_number(table) : 0;
    if (number == 0)
        atomic_store(&members.has_none, true);
    else if (!atomic_compare_exchange_strong(&members.self, &none, number))
        number = none; /* another thread's; this one is never used */
    else if (atomic_load(&members.hiding) == 0)
        atomic_fetch_sub(&slot_of(table, number)->hides, UNTOLD);
    return number;
}

void members_forked(void)
{
    atomic_store(&members.self, 0);
    atomic_store(&members.hiding, 0);
    atomic_store(&members.has_none, false);
    in_slot = 0;
}

static _Atomic uint32_t *hides_of_self(uint32_t number)
{
    return &slot_of(atomic_load(&members.table), number)->hides;
}

void member_hides(void)
{
    uint32_t number;

    atomic_fetch_add(&members.hiding, 1);
    number = atomic_load(&members.self);
    if (number != 0) {
        atomic_fetch_add(hides_of_self(number), 1);
        in_slot++;
    }
}

void member_shows(void)
{
    if (in_slot > 0) {
        in_slot--;
        atomic_fetch_sub(hides_of_self(atomic_load(&members.self)), 1);
    }
    atomic_fetch_sub(&members.hiding, 1);
}

unsigned member_hiding(void)
{
    return atomic_load(&members.hiding);
}

/* Whether it hides is asked last: it may have begun to, and then ended. */
bool member_is_gone(uint32_t number)
{
    struct table *table = atomic_load(&members.table);
    struct slot *slot;
    uint64_t who;

    if (table == NULL || number == 0)
        return false;
    slot = slot_of(table, number);
    who = atomic_load(&slot->who);
    return who >> 32 == number && has_ended(table, who) &&
           atomic_load(&slot->hides) == 0 && atomic_load(&slot->who) == who;
}

int members_fd(void)
{
    struct table *table = atomic_load(&members.table);

    return table != NULL ? table->fd : -1;
}
