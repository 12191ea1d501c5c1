/*
 * One-shots that are spent. Has the kernel reported one already? Its set's
 * fdinfo tells, and nothing else (proc_pid_fdinfo(5)).
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/epoll_private.h"
#include "transport/kernel_calls.h"

enum {
    KERNEL_FLAGS = EPOLLWAKEUP | EPOLLONESHOT | (int)EPOLLET | EPOLLEXCLUSIVE
};

struct asked {
    const struct epoll_reg *reg;
    uint64_t data;
    bool unread; /* the answer if the file cannot be read */
};

/* One line of the set's fdinfo, whose end is a zero. */
typedef bool line_is(const char *line, const struct asked *asked);

/*
 * A spent one-shot has no events but flags. The number alone may be that of
 * another file, too, which had it before.
 */
static bool says_spent(const char *line, const struct asked *asked)
{
    const struct epoll_reg *reg = asked->reg;
    unsigned long inode = reg->endpoint->inode;
    unsigned events;
    int fd;

    return sscanf(line, "tfd: %d events: %x data: %*x pos:%*d ino:%lx", &fd,
                  &events, &inode) >= 2 &&
           fd == reg->fd && inode == reg->endpoint->inode &&
           (events & ~(unsigned)KERNEL_FLAGS) == 0;
}

static bool has_data(const char *line, const struct asked *asked)
{
    unsigned long long data;

    return sscanf(line, "tfd: %*d events: %*x data: %llx", &data) == 1 &&
           data == asked->data;
}

static bool any_line(const struct epoll_set *set, line_is *is,
                     const struct asked *asked)
{
    char path[48], buf[4096];
    size_t have = 0;
    bool found = false;
    long n;
    int info;

    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", set->epfd);
    info = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (info < 0)
        return asked->unread;
    while (!found && (n = syscall(SYS_read, info, buf + have,
                                  sizeof(buf) - 1 - have)) > 0) {
        char *line = buf, *end;

        have += (size_t)n;
        buf[have] = '\0';
        for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            found |= is(line, asked);
        }
        have = (size_t)(buf + have - line);
        memmove(buf, line, have);
        if (have == sizeof(buf) - 1)
            have = 0; /* no line of fdinfo is that long */
    }
    kernel_close(info);
    return found;
}

bool epoll_spent_in_kernel(const struct epoll_reg *reg)
{
    struct asked asked = {.reg = reg};

    return any_line(reg->set, says_spent, &asked);
}

/* ---- what the kernel told of while it gave it away ---- */

static bool is_told(const struct epoll_reg *reg,
                    const struct epoll_event *events, int n, uint32_t since)
{
    if (!(reg->events & EPOLLONESHOT) || !epoll_is_taken_since(reg, since))
        return false;
    for (int i = 0; i < n; i++)
        if (events[i].data.u64 == reg->data.u64)
            return true;
    return false;
}

/*
 * Registry lock held. Events have no more of a name than the program's data. If
 * another one has it as well, it may be the one that was told of: to tell of
 * this one again does less harm than never to do so.
 */
static bool is_the_only_one(const struct epoll_reg *reg, uint32_t since)
{
    struct asked asked = {.data = reg->data.u64, .unread = true};

    for (struct epoll_reg *r = reg->set->regs; r != NULL; r = r->set_next)
        if (r != reg && r->data.u64 == asked.data &&
            epoll_is_taken_since(r, since))
            return false;
    return !any_line(reg->set, has_data, &asked);
}

static void mark_those(struct epoll_set *set, const struct epoll_event *events,
                       int n, uint32_t since)
{
    epoll_registry_lock();
    lock_enter(&set->lock);
    for (struct epoll_reg *r = set->regs; r != NULL; r = r->set_next)
        if (r->managed && !r->disarmed && is_told(r, events, n, since))
            r->disarmed = is_the_only_one(r, since);
    lock_leave(&set->lock);
    epoll_registry_unlock();
}

/*
 * Told after it was asked whether it had, and before it gave the one-shot away
 * (out_of_kernel()): the program knows.
 */
void epoll_mark_spent(struct epoll_set *set, const struct epoll_event *events,
                      int n, uint32_t since)
{
    bool any = false;

    /* In this order: who takes one over counts it, and then is done. */
    if (n == 0 || (!atomic_load(&set->taking) && epoll_takeovers(set) == since))
        return;
    lock_enter(&set->lock);
    for (unsigned i = 0; i < set->n_hot && !any; i++)
        any = is_told(set->hot[i], events, n, since);
    lock_leave(&set->lock);
    if (any)
        mark_those(set, events, n, since);
}
