/*
 * See family.h. One place for each that was ever shared. It is in memory of
 * the whole family, and of nobody else.
 *
 * That a program was replaced by another one is told by the kernel: it lets go
 * of the robust mutexes of the thread that called execve(2), after all others
 * have gone (get_robust_list(2)), and marks them. So who is about to call it
 * holds one. The mark alone would not do: a thread that ends in the midst of
 * a look leaves one, too.
 *
 * Of a process that ended without a word the place has a name, its number as
 * a member of the family. A name stands for one of the holders, always: it
 * comes after that was counted, and goes before. A holder that finds its name
 * gone was counted out by somebody else.
 */
#include "preload/family.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "preload/members.h"

enum { PLACES = 65536, LOOKS = 256, NAMES = 6 };

/* In an endpoint's word, beside the place: this process has its name there. */
#define NAMED UINT32_C(0x80000000)

struct place {
    _Atomic uint32_t holders; /* processes; 0: the place is free */
    _Atomic bool made;        /* the mutex, once and for ever */
    _Atomic bool execs;       /* who holds the mutex is about to exec */
    pthread_mutex_t mutex;
    _Atomic uint32_t name[NAMES]; /* of as many of the holders */
};

static struct {
    _Atomic(struct place *) places;
    _Atomic uint32_t next;
} family;

static bool have_memory(void)
{
    size_t size = PLACES * sizeof(struct place);
    struct place *none = NULL;
    void *at;

    if (atomic_load(&family.places) != NULL)
        return true;
    at = mmap(NULL, size, PROT_READ | PROT_WRITE,
              MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return false;
    if (!atomic_compare_exchange_strong(&family.places, &none, at))
        munmap(at, size); /* another thread forks, too */
    return true;
}

/* Never made again: a process of the family may just be letting it go. */
static void make(struct place *p)
{
    pthread_mutexattr_t attr;

    if (atomic_load(&p->made) || pthread_mutexattr_init(&attr) != 0)
        return;
    pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
    atomic_store(&p->made, pthread_mutex_init(&p->mutex, &attr) == 0);
    pthread_mutexattr_destroy(&attr);
}

/* Of a mutex that was just taken: had its owner become another program? */
static void count_out(struct place *p, int rc)
{
    if (rc == EOWNERDEAD) {
        if (atomic_exchange(&p->execs, false))
            atomic_fetch_sub(&p->holders, 1);
        pthread_mutex_consistent(&p->mutex);
    }
}

static void look_for_exec(struct place *p)
{
    int rc;

    if (!atomic_load(&p->execs))
        return;
    rc = pthread_mutex_trylock(&p->mutex);
    if (rc != 0 && rc != EOWNERDEAD)
        return;
    count_out(p, rc);
    pthread_mutex_unlock(&p->mutex);
}

static void look_for_ended(struct place *p)
{
    for (int i = 0; i < NAMES; i++) {
        uint32_t name = atomic_load(&p->name[i]);

        if (member_is_gone(name) &&
            atomic_compare_exchange_strong(&p->name[i], &name, 0))
            atomic_fetch_sub(&p->holders, 1);
    }
}

static bool put_name(struct place *p, uint32_t before, uint32_t name)
{
    for (int i = 0; i < NAMES; i++) {
        uint32_t there = before;

        if (atomic_compare_exchange_strong(&p->name[i], &there, name))
            return true;
    }
    return false;
}

static bool add_name(struct place *p)
{
    uint32_t self = member_self();

    if (self == 0)
        return false;
    if (put_name(p, 0, self))
        return true;
    look_for_ended(p);
    return put_name(p, 0, self);
}

static bool take_name(struct place *p)
{
    uint32_t self = member_self();

    return self != 0 && put_name(p, self, 0);
}

/* For a process that is counted there. */
static void look(struct place *p)
{
    look_for_exec(p);
    if (atomic_load(&p->holders) > 1)
        look_for_ended(p);
}

static struct place *place_at(uint32_t word)
{
    return &family.places[word & ~NAMED];
}

/* This process is one of its holders no more; it is no place of `h` now. */
static void give_up(uint32_t word)
{
    struct place *p = place_at(word);

    if (!(word & NAMED) || take_name(p))
        atomic_fetch_sub(&p->holders, 1);
}

/* Place 0 is nobody's: "not counted". A fork does not look for long. */
static uint32_t take_place(void)
{
    for (int i = 0; i < LOOKS; i++) {
        uint32_t at = atomic_fetch_add(&family.next, 1) % PLACES, none = 0;
        struct place *p = &family.places[at];

        look_for_exec(p); /* it may have been the last one */
        if (at != 0 && atomic_compare_exchange_strong(&p->holders, &none, 1)) {
            make(p);
            for (int n = 0; n < NAMES; n++)
                atomic_store(&p->name[n], 0); /* who became another program */
            return add_name(p) ? at | NAMED : at;
        }
    }
    return 0;
}

static uint32_t place_of(const struct holding *h)
{
    uint32_t place = atomic_load(&h->place);

    return place != 0 ? place : h->exec_place;
}

/* Of threads that fork at once one finds the place, for all of them. */
static uint32_t find_place(struct holding *h)
{
    uint32_t place = place_of(h), none = 0;

    if (place != 0)
        return place;
    place = take_place();
    if (place == 0 || atomic_compare_exchange_strong(&h->place, &none, place))
        return place;
    give_up(place);
    return none;
}

void family_grows(struct holding *h)
{
    if (!have_memory())
        return;
    for (;;) {
        uint32_t place = find_place(h);

        if (place == 0)
            return;
        atomic_fetch_add(&place_at(place)->holders, 1);
        if (place_of(h) == place)
            return;
        /* Another thread has found it alone just before. */
        atomic_fetch_sub(&place_at(place)->holders, 1);
    }
}

bool family_counts(const struct holding *h)
{
    return place_of(h) != 0;
}

void family_leave(struct holding *h)
{
    uint32_t place = atomic_exchange(&h->place, 0);

    /* A child that another thread is making may have it: counted for good. */
    if (place != 0 && member_hiding() == 0)
        give_up(place);
}

/*
 * Other threads may ask the same, close it or fork meanwhile, so the place is
 * taken out of their sight first. A fork then counts in a place of its own; if
 * there are others in this one, too, it is never alone again.
 */
bool family_is_alone(struct holding *h)
{
    uint32_t place = atomic_load(&h->place), one = 1, none = 0;
    bool counted;

    if (place == 0)
        return false;
    look(place_at(place));
    if (atomic_load(&place_at(place)->holders) != 1)
        return false;
    place = atomic_exchange(&h->place, 0);
    if (place == 0)
        return false;
    counted = !(place & NAMED) || take_name(place_at(place));
    if (counted &&
        atomic_compare_exchange_strong(&place_at(place)->holders, &one, 0))
        return true;
    /* The name stays away: this place may be left behind, and whose count it
     * was would not be found out any more. */
    if (counted)
        place &= ~NAMED;
    if (!atomic_compare_exchange_strong(&h->place, &none, place))
        family_grows(h);
    return false;
}

/*
 * Without a place no other thread of this process counts it out meanwhile. Who
 * closes it leaves that to the mutex: it is marked when its thread ends, too.
 */
bool family_execs(struct holding *h)
{
    uint32_t at = atomic_load(&h->place), there = at;
    struct place *p = place_at(at);
    int rc;

    if (at == 0 || !atomic_load(&p->made) || member_hiding() > 1)
        return false;
    rc = pthread_mutex_trylock(&p->mutex);
    if (rc != 0 && rc != EOWNERDEAD)
        return false; /* another one is at it: not counted out */
    count_out(p, rc);
    h->exec_place = at;
    if (!atomic_compare_exchange_strong(&h->place, &there, 0))
        goto not_there; /* just closed */
    /* From now on by the mutex, not by the name. */
    if ((at & NAMED) && !take_name(p)) {
        atomic_store(&h->place, at);
        goto not_there;
    }
    h->exec_place = at & ~NAMED;
    atomic_store(&p->execs, true);
    return true;
not_there:
    h->exec_place = 0;
    pthread_mutex_unlock(&p->mutex);
    return false;
}

void family_exec_failed(struct holding *h)
{
    uint32_t at = h->exec_place;

    if (at == 0)
        return;
    atomic_store(&place_at(at)->execs, false);
    pthread_mutex_unlock(&place_at(at)->mutex);
    if (add_name(place_at(at)))
        at |= NAMED;
    atomic_store(&h->place, at);
    h->exec_place = 0;
}

/* The name that is there is the parent's. */
void family_forked(struct holding *h)
{
    uint32_t at = place_of(h) & ~NAMED;

    h->exec_place = 0;
    if (at != 0 && add_name(place_at(at)))
        at |= NAMED;
    atomic_store(&h->place, at);
}
