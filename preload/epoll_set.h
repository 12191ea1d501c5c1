/*
 * An epoll set of the application with accelerated streams in it.
 *
 * The kernel's set stays the truth for all that is on TCP. While a stream is
 * managed its registration says nothing in the kernel's set and is looked at
 * here; when it returns to TCP it speaks again. The set's bell is a member of
 * the kernel's set, so a thread that sleeps in the kernel is woken by either.
 *
 * The registry lock orders changes of membership; the set's own lock guards
 * what epoll_wait looks at. Order: stream, registry, set.
 */
#ifndef PRELOAD_EPOLL_SET_H
#define PRELOAD_EPOLL_SET_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "preload/endpoint.h"
#include "preload/fd_table.h"
#include "preload/waiter.h"

struct epoll_set;

struct epoll_reg {
    struct epoll_set *set;
    struct endpoint *endpoint;
    struct epoll_reg *next;     /* of the endpoint */
    struct epoll_reg *set_next; /* of the set */
    int fd;
    uint32_t events; /* as the application said */
    epoll_data_t data;
    bool managed, hot, disarmed, out_seen, promote;
    bool parked;  /* the kernel's set has it under our cookie, or, if the set is
                     watched, not at all: while managed, and on TCP as a spent
                     one-shot until it is armed again */
    bool lingers; /* not the program's any more; see epoll_set.lingering */
    uint32_t told_seen, refused_seen, quiet_scans;
    uint32_t hit_at;   /* the set's hit_scans when it was last ready */
    uint32_t taken_at; /* the set's take-overs, with this one; 0: none yet */
    uint64_t news_seen;
    uint64_t news_rung; /* as settle() has it */
    struct peer *peer;  /* while managed */
};

/* Once, before the first set. 0 or a negative errno. */
int epoll_sets_start(void);
/* A new epoll descriptor; NULL when memory is out (then it is the kernel's). */
struct epoll_set *epoll_set_create(int epfd);
/*
 * A call is inside the set that it began with, whoever has the number by then.
 * False: it has been closed. A thread that is cancelled leaves as it ends.
 */
bool epoll_set_enter(struct epoll_set *set);
void epoll_set_leave(struct epoll_set *set);
/*
 * Close of its descriptor, by how(arg), which does it; returns its result. The
 * row stays until then: nobody finds the number without the set, and the bell
 * in what the kernel says of it.
 */
int epoll_set_close(struct epoll_set *set, int fd, int (*how)(void *arg),
                    void *arg);
/* It was closed past us. */
void epoll_set_lost(struct epoll_set *set);

/* epoll_ctl of an endpoint's descriptor; 0 or -errno. */
int epoll_set_ctl(struct epoll_set *set, int op, int fd, struct endpoint *e,
                  struct epoll_event *event);
/* epoll_wait in all its forms; timeout_ns -1 is for ever. */
int epoll_set_wait(struct epoll_set *set, struct epoll_event *events, int max,
                   int64_t timeout_ns, const sigset_t *mask);

/* As epoll_set_wait() without a mask, while object.plain, and enters the set.
 */
int epoll_set_wait_plain(struct epoll_set *set, struct epoll_event *events,
                         int max, int timeout_ms);

/*
 * object.plain: the events are all the kernel's, and nothing of ours is in the
 * set. Another thread may change that at any moment: look again after a wait,
 * and take the bell out of what it returned. since: object.takeovers before
 * the kernel was asked.
 */
int epoll_set_without_bell(struct epoll_set *set, struct epoll_event *events,
                           int n, uint32_t since);

/* The stream left the kernel, or is back. Stream locks held. */
void epoll_sets_managed(struct endpoint *e, bool on);
/* News of the stream for sets that do not look at it each time. */
void epoll_sets_told(struct endpoint *e);
/* Is it registered anywhere under that number? */
bool epoll_sets_have(struct endpoint *e, int fd);
/* That number is about to be closed, and there are others of the stream. */
void epoll_sets_leave_number(struct endpoint *e, int fd);
/* In a set that was there before a fork? */
bool epoll_sets_inherited(struct endpoint *e);
/*
 * Does endpoint.set_shared keep it on TCP still? If not, it is taken back. A
 * look costs system calls: in a while, and then in a longer one.
 */
bool epoll_sets_keep_on_tcp(struct endpoint *e);
/*
 * The endpoint's last descriptor is about to be closed. unlist: take it out of
 * the kernel's sets, too. The kernel tells of a connection until nobody has it
 * open, and the helper may have it a moment longer than the application.
 */
void epoll_sets_forget(struct endpoint *e, bool unlist);
/*
 * The set has a second descriptor, or is watched by what we do not see: only
 * the kernel can serve that. Its streams come back to TCP, now and in future,
 * and those of the sets in it.
 */
void epoll_set_to_kernel(struct epoll_set *set);

/* epoll_ctl of a set in another one; 0 or -errno. */
int epoll_set_ctl_set(struct epoll_set *outer, int op, int fd,
                      struct epoll_set *inner, struct epoll_event *event);

/*
 * Sets that a thread waits for, in poll or in another set, and those in them.
 * Begin with {.n = 0}, end with epoll_watch_end().
 */
enum { WATCHED_MOST = 32 };

struct epoll_watch {
    struct epoll_set *set[WATCHED_MOST];
    unsigned n;
    uint32_t nestings; /* of all of them, when they were gathered */
};

/* Those in the set, and itself. What there is no place for is the kernel's. */
void epoll_watch_add(struct epoll_watch *w, struct epoll_set *set, bool itself);
void epoll_watch_end(struct epoll_watch *w);
/* Before a look: what shows in them to wake others is gone. */
void epoll_watch_let_wake(const struct epoll_watch *w);
/* Before the kernel is asked: it sees what their streams have to say. */
void epoll_watch_settle(const struct epoll_watch *w);
/* Is there news that it has not said yet? */
bool epoll_watch_has_news(const struct epoll_watch *w);
/* None of them has a stream on a link, or had: the kernel knows it all. */
bool epoll_watch_is_plain(const struct epoll_watch *w);
/* Around a sleep: settle again, and see that the watch is whole, in between. */
void epoll_watch_sleep(const struct epoll_watch *w);
void epoll_watch_awake(const struct epoll_watch *w);
/* No set has been put into one of them meanwhile. */
bool epoll_watch_is_whole(const struct epoll_watch *w,
                          const struct epoll_set *outer);
/* How long to look before a sleep. */
uint64_t epoll_watch_poll_ns(const struct epoll_watch *w);

/* Around fork: the bell leaves the kernel's set. */
void epoll_sets_before_fork(void);
void epoll_sets_after_fork(void); /* after members_forked() */
/* The process is about to end: what it has belongs to others alone. */
void epoll_sets_exit(void);
/*
 * The same for what an exec closes, as family_execs() has it, for so many at
 * most; returns how many. If the program does not run: _failed.
 */
unsigned epoll_sets_exec(unsigned most);
void epoll_sets_exec_failed(void);
/* Every set is the kernel's from now on; no stream is managed. */
void epoll_sets_leave_alone(void);

#endif
