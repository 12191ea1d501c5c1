/*
 * What the files of the explorer share: explorer.c tries every event in every
 * state, explorer_events.c is what can happen.
 */
#ifndef TESTS_SUPPORT_EXPLORER_WORLD_H
#define TESTS_SUPPORT_EXPLORER_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/support/explorer.h"
#include "transport/stream/handover.h"

enum { CAP = 14, BYTES_CAP = 6, SAID_CAP = 6 };
enum { KIND_BYTE = 64, KIND_FIN };

struct item {
    uint8_t kind; /* KIND_BYTE, KIND_FIN, or enum record_type */
    uint8_t off, flags, epoch, seq, count;
};

struct said {
    uint8_t type, epoch, off, tag, number;
};

struct side {
    struct handover h;
    uint8_t committed, landed, released; /* what this end's link says */
    bool shut, eof, knows_dead;
};

struct world {
    struct side side[2];
    struct item tcp[2][CAP];
    struct said oob[2][SAID_CAP];
    uint8_t n_tcp[2], n_oob[2];
    bool broken, dead;
    uint8_t both_up;
};

struct explorer_event {
    const char *name;
    /* At the end `me`. False, and nothing changed: it is not possible now. */
    bool (*run)(struct world *w, int me);
};

extern const struct explorer_event explorer_events[];
extern const unsigned explorer_n_events;

extern struct explored explorer_limits;
extern const char *explorer_wrong;    /* set by the event that breaks a rule */
extern unsigned long explorer_epochs; /* that came to their end */

#endif
