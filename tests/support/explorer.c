/*
 * See explorer.h. `seen` has the states that were there already; `trail` is
 * the way to the one at hand.
 */
#include "tests/support/explorer.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/explorer_world.h"
#include "tests/support/state_set.h"

enum { DEPTH_MOST = 400 };

struct explored explorer_limits;
const char *explorer_wrong;
unsigned long explorer_epochs;

static struct state_set seen;
static struct {
    const char *what;
    int side;
} trail[DEPTH_MOST];
static int depth;

static bool is_new(struct world *w)
{
    for (int i = 0; i < 2; i++)
        w->side[i].h.why = REASON_NONE;
    return state_set_add(&seen, w, sizeof(*w));
}

static void give_report(const struct world *w)
{
    static char text[8192];
    size_t at = 0;

    for (int i = 0; i < 2; i++)
        at += (size_t)snprintf(
            text + at, sizeof(text) - at, "%s epoch %u wrote %d took %d; ",
            handover_stage_name(w->side[i].h.stage), w->side[i].h.epoch,
            (int)w->side[i].h.wrote, (int)w->side[i].h.took);
    for (int i = 0; i < depth; i++)
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%d ",
                               trail[i].what, trail[i].side);
    ck_abort_msg("%s: %s", explorer_wrong, text);
}

static bool between_paths(const struct handover *h)
{
    return h->stage == STAGE_ACCEPTED || h->stage == STAGE_CANCELLED ||
           h->stage == STAGE_SWITCHED || h->stage == STAGE_GAVE_UP;
}

static void look_for_unread(const struct world *w)
{
    if (explorer_limits.become ||
        !(explorer_limits.careful[0] || explorer_limits.careful[1]))
        return;
    for (int i = 0; i < 2; i++) {
        const struct handover *h = &w->side[i].h;

        if (between_paths(h) && !h->in_record && h->took != h->arrive)
            explorer_wrong = "bytes lie unread before the moment";
    }
}

static void explore(const struct world *w)
{
    struct world next;
    bool any = false;

    memcpy(&next, w, sizeof(next));
    if (depth == DEPTH_MOST - 1) {
        explorer_wrong = "it never ends";
        give_report(w);
    }
    for (unsigned i = 0; i < explorer_n_events; i++) {
        for (int me = 0; me < 2; me++) {
            if (!explorer_events[i].run(&next, me))
                continue; /* and next is as it was */
            any = true;
            trail[depth].what = explorer_events[i].name;
            trail[depth++].side = me;
            look_for_unread(&next);
            if (explorer_wrong != NULL)
                give_report(&next);
            if (is_new(&next))
                explore(&next);
            depth--;
            memcpy(&next, w, sizeof(next));
        }
    }
    if (!any && !(w->side[0].eof && w->side[1].eof)) {
        explorer_wrong = "nothing can happen any more";
        give_report(w);
    }
}

void explore_all(const struct explored *what)
{
    static struct world first;

    memset(&first, 0, sizeof(first));
    ck_assert(state_set_init(&seen, 22));
    explorer_limits = *what;
    explorer_epochs = 0;
    depth = 0;
    for (int i = 0; i < 2; i++) {
        handover_init(&first.side[i].h, i == 0);
        first.side[i].h.leave_room = 0;
        first.side[i].h.careful = explorer_limits.careful[i];
    }
    explore(&first);
    state_set_fini(&seen);
    if (getenv("VERBOSE") != NULL)
        printf("%u bytes, %u epochs: %lu states\n", what->bytes, what->epochs,
               seen.n);
    ck_assert_uint_ge(seen.n, what->least);
    ck_assert_uint_gt(explorer_epochs, 0); /* whole epochs are among them */
}
