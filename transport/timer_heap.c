/*
 * See timer_heap.h. No timer expires before its parent; the root has no
 * siblings.
 */
#include "transport/timer_heap.h"

#include <stddef.h>

static struct timer *meld(struct timer *a, struct timer *b)
{
    struct timer *later;

    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    later = b->at_ns < a->at_ns ? a : b;
    a = later == a ? b : a;
    later->prev = a;
    later->next = a->child;
    if (later->next != NULL)
        later->next->prev = later;
    a->child = later;
    return a;
}

/* One heap of a list of siblings: pairs from the left, then all together. */
static struct timer *meld_all(struct timer *first)
{
    struct timer *pairs = NULL, *root = NULL;

    while (first != NULL) {
        struct timer *a = first, *b = a->next;

        first = b != NULL ? b->next : NULL;
        a->next = NULL;
        if (b != NULL)
            b->next = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    while (pairs != NULL) {
        struct timer *rest = pairs->next;

        pairs->next = NULL;
        root = meld(root, pairs);
        pairs = rest;
    }
    return root;
}

void timer_heap_put(struct timer **heap, struct timer *timer)
{
    timer->child = timer->next = timer->prev = NULL;
    timer->added = true;
    *heap = meld(*heap, timer);
}

void timer_heap_remove(struct timer **heap, struct timer *timer)
{
    struct timer *below;

    if (!timer->added)
        return;
    timer->added = false;
    below = meld_all(timer->child);
    if (timer == *heap) {
        *heap = below;
        return;
    }
    if (timer->prev->child == timer)
        timer->prev->child = timer->next;
    else
        timer->prev->next = timer->next;
    if (timer->next != NULL)
        timer->next->prev = timer->prev;
    *heap = meld(*heap, below);
}
