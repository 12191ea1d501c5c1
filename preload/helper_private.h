/*
 * What helper.c (the thread), helper_meet.c (meeting) and helper_gather.c
 * (everybody back) share. Of the functions, the helper thread alone calls
 * those that do not say otherwise.
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
    bool failed, ends;
};

struct helper {
    struct lock lock; /* queue, start, listening */
    struct endpoint *head, *tail;
    struct loop *loop;
    bool started, failed;
    _Atomic uint64_t turns; /* a wish that was made before is done after two */
    struct endpoint *all;   /* with links or meetings; under all_lock */
    struct lock all_lock;
    pthread_t thread;
    struct listening listening[HELPER_LISTENING];
    _Atomic bool some_end;
};

extern struct helper helper;

/* helper.c */
void helper_list_in(struct endpoint *e);
void helper_list_out(struct endpoint *e);
void helper_watch_tcp(struct endpoint *e, bool on);
void helper_try_again_in(struct endpoint *e, uint64_t ns);

/* helper_meet.c */
void helper_meet(struct endpoint *e);
void helper_stop_meeting(struct endpoint *e);
/* On TCP for good. */
void helper_stays(struct endpoint *e, enum reason why);
/* The first of its transports that suits it lets others find us there. */
void helper_listen(struct endpoint *e);
void helper_end_listening(void);

#endif
