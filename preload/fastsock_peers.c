/*
 * See fastsock_peers.h. Sorted, as a server may have many thousand streams
 * and each asks for its peer.
 */
#include "preload/fastsock_peers.h"

#include <stdlib.h>
#include <string.h>

static void take_rows(void *arg, struct target *target)
{
    struct peers *peers = arg;
    struct segment_row row;
    struct peer *more, *p;
    unsigned n;

    if (target->state != TARGET_OPEN)
        return;
    n = segment_highest(&target->segment);
    for (unsigned i = 0; i < n; i++) {
        if (!target_row(target, i, &row) || row.family == 0)
            continue;
        if (peers->n == peers->room) {
            more = realloc(peers->peer, (peers->room * 2 + 64) * sizeof(*more));
            if (more == NULL)
                return;
            peers->peer = more;
            peers->room = peers->room * 2 + 64;
        }
        p = &peers->peer[peers->n++];
        p->pid = target->pid;
        memcpy(p->program, target->head.program, sizeof(p->program));
        memcpy(p->network, target->network, sizeof(p->network));
        p->row = row;
    }
}

static int compare_names(const struct segment_name *a,
                         const struct segment_name *b)
{
    int order = memcmp(a->address, b->address, sizeof(a->address));

    return order != 0 ? order : (int)a->port - (int)b->port;
}

static int compare_rows(const struct segment_row *a,
                        const struct segment_row *b)
{
    int order = a->family - b->family;

    if (order == 0)
        order = compare_names(&a->local, &b->local);
    return order != 0 ? order : compare_names(&a->peer, &b->peer);
}

static int compare_peers(const void *a, const void *b)
{
    return compare_rows(&((const struct peer *)a)->row,
                        &((const struct peer *)b)->row);
}

void peers_read(struct peers *peers)
{
    *peers = (struct peers){.n = 0};
    target_each(take_rows, peers);
    if (peers->n > 0)
        qsort(peers->peer, peers->n, sizeof(*peers->peer), compare_peers);
}

void peers_free(struct peers *peers)
{
    free(peers->peer);
    *peers = (struct peers){.n = 0};
}

const struct peer *peers_find(const struct peers *peers,
                              const struct target *target,
                              const struct segment_row *row)
{
    struct segment_row key = {
        .family = row->family,
        .local = row->peer,
        .peer = row->local,
    };
    const struct peer *found = NULL;
    size_t low = 0, high = peers->n;

    if (row->family == 0)
        return NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_rows(&peers->peer[middle].row, &key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < peers->n && compare_rows(&peers->peer[low].row, &key) == 0;
         low++) {
        if (strcmp(peers->peer[low].network, target->network) != 0)
            continue;
        if (found == NULL || (uint32_t)peers->peer[low].pid == row->peer_pid)
            found = &peers->peer[low];
    }
    return found;
}
