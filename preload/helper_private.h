/*
 * What helper_thread.c (the thread), helper.c (what it does for a stream),
 * helper_meet.c (meeting) and helper_gather.c (everybody back) share. Of the
 * functions, the helper thread alone calls those that do not say otherwise.
 */
#ifndef PRELOAD_HELPER_PRIVATE_H
#define PRELOAD_HELPER_PRIVATE_H

#include <pthread.h>

#include "preload/helper.h"

enum { HELPER_LISTENING = 32 };

/* An address at which a transport lets peers find us. */
struct listening {
    struct backend *backend; /* NULL: a free place */
    struct sockaddr_storage at;
    int error; /* why peers do not find us there, for good, or 0 */
    bool ends;
};

struct helper {
    struct lock lock;               /* start, listening */
    struct endpoint *_Atomic asked; /* endpoints with work, the newest first */
    struct endpoint *taken; /* of those, the thread's own; the oldest first */
    struct loop *loop;
    _Atomic bool started;
    bool failed;
    _Atomic uint64_t turns; /* a wish that was made before is done after two */
    LIST_HEAD(, endpoint) all; /* with links or meetings; under all_lock */
    struct lock all_lock;
    pthread_t thread;
    pid_t tid;
    struct timer look; /* whether it is alone: helper_alone.c */
    bool alone;
    _Atomic bool ends;    /* the thread is to come to its end */
    _Atomic bool hurries; /* and no close() waits for TCP any more */
    _Atomic int forks;    /* under way: it stands still between two turns */
    _Atomic bool stands;
    struct listening listening[HELPER_LISTENING];
    _Atomic bool some_end;
    bool hold_new;     /* see helper_hold_new() */
    struct timer rest; /* of links; see stream_rest() */
};

extern struct helper helper;

/* helper.c */
void helper_work_on(struct endpoint *e, unsigned work);
extern const struct link_events helper_events;
void helper_list_in(struct endpoint *e);
void helper_list_out(struct endpoint *e);
void helper_try_again_in(struct endpoint *e, uint64_t ns);

/* helper_gather.c: streams that have not left yet; say: they shall. */
int helper_not_left(bool say);

/* helper_gather.c: while a fork is under way. */
void helper_stand(void);
void helper_forget_forks(void); /* in the child */

/* helper_alone.c */
void helper_look_if_alone(void);
/* The main thread has left, just now. */
bool helper_has_to_look(void);

/* helper_meet.c */
void helper_meet(struct endpoint *e);
void helper_stop_meeting(struct endpoint *e);
/* On TCP for good. */
void helper_stays(struct endpoint *e, enum reason why);
/* The first of its transports that suits it lets others find us there. */
void helper_listen(struct endpoint *e);
void helper_end_listening(void);

#endif
