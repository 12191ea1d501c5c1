/*
 * The helper thread: one per process, started with the first stream that may
 * go up, asleep otherwise, all signals blocked. It meets peers, answers
 * control records while the application is elsewhere, and closes what the
 * application has closed before the peer has answered.
 */
#ifndef PRELOAD_HELPER_H
#define PRELOAD_HELPER_H

#include <stdbool.h>

#include "preload/endpoint.h"

/*
 * This is the helper thread. Libraries below a transport call libc in it, and
 * what they call is ours: they may close descriptors that are the library's.
 */
extern __thread bool helper_is_me __attribute__((tls_model("initial-exec")));

/* WORK_ bits for an endpoint; starts the thread if need be. Any thread. */
void helper_ask(struct endpoint *e, unsigned work);

/*
 * Bring every stream back to TCP (WISH_RETURN, for `why`), or end them all
 * (WISH_LEAVE), and wait for it at most return_timeout. Returns how many
 * could not. No stream goes up until helper_release().
 */
int helper_gather(enum stream_wish wish, enum reason why);
/* Reset what helper_gather() could not bring back in its time. */
void helper_abort_rest(void);
void helper_release(void);
/* The same for one endpoint. True when it is on TCP. */
bool helper_bring_back(struct endpoint *e, enum reason why);

/*
 * The thread ends, after it has seen off what is closed: the process is about
 * to be where there must be no other thread. It can begin again.
 */
void helper_end(void);
void helper_begin_again(void);

/*
 * The administrator: back to TCP and no way up, or that no more. Does not
 * wait. Helper thread only; _new is about streams that are not known yet.
 */
void helper_hold(struct endpoint *e, bool on);
void helper_hold_new(bool on);

/* pthread_exit() of a thread; the process shall end with its last one. */
void helper_main_leaves(void);

/* A socket that accepted at this port is about to be closed. Any thread. */
void helper_stop_listening(uint16_t port);

/*
 * Around a fork: the helper stands still, with nothing in hand that the child
 * would inherit and not know of. Waits for it at most return_timeout.
 */
void helper_before_fork(void);
void helper_after_fork_here(void);
/* In the child of a fork: there is no helper, no link, no peer. */
void helper_after_fork(void);

/* The descriptor of the socket changed (close keeps a private one). */
void helper_detach(struct endpoint *e);
void helper_adopt(struct endpoint *e, int new_fd);
/* The same to another descriptor of the application's. */
void helper_move(struct endpoint *e, int new_fd);

#endif
