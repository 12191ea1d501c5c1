/*
 * See spread.h.
 */
#include "preload/spread.h"

#include <errno.h>
#include <sched.h>

#include "preload/process.h"
#include "transport/pause.h"

enum { MOVES_APART_NS = 10000000 };

static __thread uint64_t not_before_ns
    __attribute__((tls_model("initial-exec")));

/* The scheduler chooses where to; what the thread may use stays as it was. */
static bool move_off(uint32_t cpu)
{
    uint64_t now = clock_ns();
    cpu_set_t may, others;
    int error = errno;
    bool moved = false;

    if (now < not_before_ns)
        return false;
    not_before_ns = now + MOVES_APART_NS;
    if (cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof(may), &may) == 0) {
        others = may;
        CPU_CLR(cpu, &others);
        if (CPU_COUNT(&others) > 0 &&
            sched_setaffinity(0, sizeof(others), &others) == 0) {
            sched_setaffinity(0, sizeof(may), &may);
            moved = cpu_now() != cpu;
        }
    }
    errno = error;
    return moved;
}

enum spread_place spread_look(struct link *link, bool initiator)
{
    if (link == NULL || !link->ops->peer_is_here(link, cpu_now()))
        return SPREAD_APART;
    return process.settings.spread && initiator ? SPREAD_MAY_LEAVE
                                                : SPREAD_TOGETHER;
}

bool spread_is_here(enum spread_place place)
{
    return place == SPREAD_TOGETHER ||
           (place == SPREAD_MAY_LEAVE && !move_off(cpu_now()));
}
