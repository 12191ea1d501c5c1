/*
 * Steps that ask what is ready: poll, select, epoll; and an eventfd, which is
 * the kernel's whatever happens to the streams.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>

#include "tests/differential/actor.h"
#include "tests/e2e/support/plain.h"

/* The upper half of each event's user data. */
#define DATA_MARK UINT64_C(0xfedcba9800000000)

enum { EVENTS_MOST = 2 * SLOTS };

/* ---- poll and select ---- */

static int collect_slots(const struct actor *a, struct pollfd *fds, int *which)
{
    int n = 0;

    for (int i = 0; i < SLOTS; i++) {
        if (!(a->step->arg[3] >> i & 1))
            continue;
        which[n] = i;
        fds[n++] = (struct pollfd){.fd = slot_fd(a, i),
                                   .events = (short)a->step->arg[2]};
    }
    return n;
}

static void by_select(struct actor *a, struct outcome *o, struct pollfd *fds,
                      int n)
{
    int ms = a->step->arg[1], top = -1;
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    struct timeval tv = {ms / 1000, ms % 1000 * 1000L};
    fd_set in, out, except;

    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_ZERO(&except);
    for (int i = 0; i < n; i++) {
        if (fds[i].fd < 0)
            continue;
        if (fds[i].events & POLLIN)
            FD_SET(fds[i].fd, &in);
        if (fds[i].events & POLLOUT)
            FD_SET(fds[i].fd, &out);
        FD_SET(fds[i].fd, &except);
        top = fds[i].fd > top ? fds[i].fd : top;
    }
    if (a->step->arg[0] == BY_SELECT)
        o->rc = select(top + 1, &in, &out, &except, ms < 0 ? NULL : &tv);
    else
        o->rc = pselect(top + 1, &in, &out, &except, ms < 0 ? NULL : &t, NULL);
    o->err = o->rc < 0 ? errno : 0;
    for (int i = 0; i < n; i++) {
        fds[i].revents = 0;
        if (o->rc <= 0 || fds[i].fd < 0)
            continue;
        fds[i].revents = (short)((FD_ISSET(fds[i].fd, &in) ? POLLIN : 0) |
                                 (FD_ISSET(fds[i].fd, &out) ? POLLOUT : 0) |
                                 (FD_ISSET(fds[i].fd, &except) ? POLLPRI : 0));
    }
}

static void step_poll(struct actor *a, struct outcome *o)
{
    int which[SLOTS], ms = a->again ? 0 : a->step->arg[1];
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    struct pollfd fds[SLOTS];
    int n = collect_slots(a, fds, which);
    uint64_t start = now_us();

    memset(o->val, 0, sizeof(o->val));
    if (a->step->arg[0] >= BY_SELECT) {
        by_select(a, o, fds, n);
    } else {
        o->rc = a->step->arg[0] == BY_POLL
                    ? poll(fds, (nfds_t)n, ms)
                    : ppoll(fds, (nfds_t)n, ms < 0 ? NULL : &t, NULL);
        o->err = o->rc < 0 ? errno : 0;
    }
    if (o->rc == 0 && ms > 0 && now_us() - start < (uint64_t)ms * 500)
        o->early = 1;
    for (int i = 0; i < n && o->rc >= 0; i++)
        o->val[which[i]] = (uint16_t)fds[i].revents;
}

/* ---- epoll ---- */

static void note_reg(struct slot *set, int slot, uint32_t events)
{
    if (set != NULL && slot >= 0 && slot < SLOTS)
        set->reg[slot] = events;
}

static void step_ctl(struct actor *a, struct outcome *o, int op)
{
    struct slot *set = slot_at(a, a->step->arg[0]);
    int slot = a->step->arg[1];
    struct epoll_event event = {.events = (uint32_t)a->step->arg[2],
                                .data.u64 = DATA_MARK | (uint32_t)slot};

    o->rc = epoll_ctl(slot_fd(a, a->step->arg[0]), op, slot_fd(a, slot),
                      op == EPOLL_CTL_DEL ? NULL : &event);
    o->err = o->rc < 0 ? errno : 0;
    if (o->rc == 0)
        note_reg(set, slot,
                 op == EPOLL_CTL_DEL ? 0 : (uint32_t)a->step->arg[2]);
}

static int wait_by(struct actor *a, int epfd, struct epoll_event *events,
                   int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    sigset_t none;

    sigemptyset(&none);
    switch (a->step->arg[2]) {
    case BY_WAIT:
        return epoll_wait(epfd, events, EVENTS_MOST, ms);
    case BY_PWAIT:
        return epoll_pwait(epfd, events, EVENTS_MOST, ms, &none);
    default:
        return epoll_pwait2(epfd, events, EVENTS_MOST, ms < 0 ? NULL : &t,
                            NULL);
    }
}

/*
 * Descriptors of different kinds may come by turns, so several tries add up
 * while less has come than is expected. `rc` counts the descriptors.
 */
static void step_epoll_wait(struct actor *a, struct outcome *o)
{
    struct epoll_event events[EVENTS_MOST];
    int ms = a->again ? 0 : a->step->arg[1], n;
    int64_t seen[SLOTS] = {0};
    uint64_t start = now_us();

    n = wait_by(a, slot_fd(a, a->step->arg[0]), events, ms);
    o->err = n < 0 ? errno : 0;
    if (n == 0 && ms > 0 && now_us() - start < (uint64_t)ms * 500)
        o->early = 1;
    for (int i = 0; i < n; i++) {
        uint64_t slot = events[i].data.u64 ^ DATA_MARK;

        if (slot >= SLOTS || seen[slot] != 0) {
            o->val[STRANGE]++; /* nobody's, or the same one twice */
            continue;
        }
        seen[slot] = events[i].events;
        o->val[slot] |= events[i].events;
    }
    o->rc = n < 0 ? -1 : 0;
    for (int i = 0; i < SLOTS && n >= 0; i++)
        o->rc += o->val[i] != 0;
}

/* ---- an eventfd ---- */

static void step_event(struct actor *a, struct outcome *o)
{
    uint64_t one = 1;
    int slot = a->step->arg[0], fd;

    if (a->step->op == OP_EVENT_RING) {
        o->rc = write(slot_fd(a, slot), &one, sizeof(one));
    } else if (a->step->op == OP_EVENT_TAKE) {
        o->rc = read(slot_fd(a, slot), &one, sizeof(one));
        o->val[0] = o->rc == sizeof(one) ? (int64_t)one : 0;
    } else if (slot_at(a, slot) != NULL && slot_fd(a, slot) < 0) {
        fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        slot_set(a, slot, fd, SLOT_EVENT, 0, 0);
    }
    o->err = o->rc < 0 ? errno : 0;
}

void step_wait(struct actor *a, struct outcome *o)
{
    int slot = a->step->arg[0], fd;

    switch (a->step->op) {
    case OP_POLL:
        step_poll(a, o);
        break;
    case OP_EPOLL_NEW:
        if (slot_at(a, slot) == NULL || slot_fd(a, slot) >= 0)
            break;
        fd = epoll_create1(EPOLL_CLOEXEC);
        slot_set(a, slot, fd, SLOT_EPOLL, 0, 0);
        break;
    case OP_EPOLL_ADD:
        step_ctl(a, o, EPOLL_CTL_ADD);
        break;
    case OP_EPOLL_MOD:
        step_ctl(a, o, EPOLL_CTL_MOD);
        break;
    case OP_EPOLL_DEL:
        step_ctl(a, o, EPOLL_CTL_DEL);
        break;
    case OP_EPOLL_WAIT:
        step_epoll_wait(a, o);
        break;
    default:
        step_event(a, o);
    }
}
