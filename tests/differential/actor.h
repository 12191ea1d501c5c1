/*
 * One actor at work: a process of a pair, or a thread of one. The steps of all
 * actors are made in turn; what a thread was given goes on in the background.
 */
#ifndef TESTS_DIFFERENTIAL_ACTOR_H
#define TESTS_DIFFERENTIAL_ACTOR_H

#include "tests/differential/shared.h"

struct actor {
    struct shared *shared;
    unsigned process; /* CLIENT to SERVER_KID */
    unsigned at;      /* the step's number */
    const struct step *step;
    const struct outcome *expected; /* NULL: this run says what is expected */
    bool loose;                     /* a stream may move at any moment */
    bool again;                     /* another try of the same step */
    int limit_ms;                   /* how long what is due may take */
};

/* actor.c */
/* Runs programs until the runner is gone. Never returns. */
_Noreturn void actor_main(struct shared *shared, unsigned process);
/* The new image of a kid, which goes on behind step `at`. Never returns. */
_Noreturn void actor_image(struct shared *shared, unsigned process,
                           unsigned at);
/* In the child of a fork: it is the kid from now on. Never returns. */
_Noreturn void actor_become_kid(struct shared *shared, unsigned process);
int actor_pair_fd(void); /* to the kid, or of a kid to its parent */
void actor_set_pair_fd(int fd);
extern volatile int actor_pipes;

/* slots, in actor.c */
int slot_fd(const struct actor *a, int slot);
struct slot *slot_at(const struct actor *a, int slot); /* NULL: no such */
/* NULL unless it is a connection's. */
struct conn *slot_conn(const struct actor *a, int slot, int *end);
void slot_set(const struct actor *a, int slot, int fd, int kind, int conn,
              int end);
/* The descriptor is closed, or its process has ended. */
void slot_clear(const struct actor *a, struct slot *s);

/* settle.c */
/* Until what the step before has set off has come to rest. */
void settle(const struct actor *a);
void settle_workers(const struct actor *a);
/* Notes whether a stream has been on a link and is not any more. */
void settle_moves(const struct actor *a);
bool settle_up(const struct actor *a, int slot);
void settle_forget(void);
/* Counters of the library in this process, since the last time. */
void settle_count(struct shared *shared);
void settle_plan_break(uint32_t at);
void pause_us(unsigned us);

/* steps_*.c: what each step does; one try. */
void run_step(struct actor *a, struct outcome *o);
void step_bytes(struct actor *a, struct outcome *o);
void step_socket(struct actor *a, struct outcome *o);
void step_wait(struct actor *a, struct outcome *o);
void step_process(struct actor *a, struct outcome *o);

/* outcome.c */
/* Not what is expected, but what may well come to be that. */
bool outcome_is_early(const struct actor *a, const struct outcome *o);
/* Equal, as far as this run can say. May count known differences. */
bool outcome_same(const struct actor *a, struct outcome *o);
void outcome_text(const struct step *s, const struct outcome *o, char *out,
                  size_t size);

#endif
