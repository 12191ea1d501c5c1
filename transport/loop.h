/*
 * The helper thread's event loop: descriptors and deadlines, one thread.
 *
 * A watch is embedded in what owns the descriptor. loop_remove() may be
 * called from inside any callback, also for a watch whose event is still
 * pending in this turn. No locks: only the thread that runs loop_turn() may
 * call anything here, except loop_wake() and loop_change().
 */
#ifndef TRANSPORT_LOOP_H
#define TRANSPORT_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "transport/timer_heap.h"

struct loop;

struct watch {
    int fd;
    void (*ready)(struct watch *watch, uint32_t events); /* EPOLL* */
    void *arg;
    struct watch *next; /* loop's own: list of added watches */
    bool added;
};

/* How the loop gets and gives back descriptors of the library's own. */
struct loop_calls {
    int (*keep)(int fd); /* move it out of the application's way; -errno */
    void (*close)(int fd);
};

int loop_create(const struct loop_calls *calls, struct loop **out);
void loop_destroy(struct loop *loop);

/* 0 or -errno. events: EPOLLIN and so on, EPOLLET allowed. */
int loop_add(struct loop *loop, struct watch *watch, uint32_t events);
void loop_remove(struct loop *loop, struct watch *watch);
/* Other events from now on; those that hold already are told. Any thread. */
void loop_change(struct loop *loop, struct watch *watch, uint32_t events);

/* Forget the descriptor before it is closed elsewhere. Any thread. */
void loop_detach(struct loop *loop, struct watch *watch);
/* The same socket under another number. Any thread; see helper_adopt(). */
void loop_move(struct loop *loop, struct watch *watch, int new_fd);

void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t at_ns);
void loop_timer_clear(struct loop *loop, struct timer *timer);

/*
 * Handles what is ready and what has expired, waiting for it if nothing is.
 * After loop_wake() it returns. may_sleep is asked, after the loop has
 * announced that it sleeps, whether there is really nothing to do.
 */
void loop_turn(struct loop *loop, bool (*may_sleep)(void *arg), void *arg);

/* From any thread: let loop_turn() return. Cheap when it does not sleep. */
void loop_wake(struct loop *loop);

const struct loop_calls *loop_calls(const struct loop *loop);

#endif
