/*
 * The helper's thread: work that others asked for, then descriptors and
 * timers. It starts with the first request and has all signals blocked.
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "config/log.h"
#include "preload/admin.h"
#include "preload/backends.h"
#include "preload/helper_private.h"
#include "preload/process.h"
#include "transport/bell.h"

enum {
    MEET_NS = 1000000000, /* one rendezvous */
    WORK_A_TURN = 32,
    HELPER_STACK = 1024 * 1024 /* modules and what they bring run on it */
};

struct helper helper;
__thread bool helper_is_me __attribute__((tls_model("initial-exec")));

/*
 * Nobody has asked for anything since the last look. Whoever asks says so
 * first and wakes the loop then, once: what is not looked at here is lost.
 */
static bool may_sleep(void *arg)
{
    (void)arg;
    return atomic_load(&helper.asked) == NULL && helper.taken == NULL &&
           !atomic_load(&helper.ends) && !atomic_load(&helper.some_end) &&
           atomic_load(&helper.forks) == 0 && !helper_has_to_look();
}

/* What has been asked for since, the oldest first. */
static struct endpoint *all_asked(void)
{
    struct endpoint *newest = atomic_exchange(&helper.asked, NULL);
    struct endpoint *oldest = NULL;

    while (newest != NULL) {
        struct endpoint *e = newest;

        newest = e->next_asked;
        e->next_asked = oldest;
        oldest = e;
    }
    return oldest;
}

static struct endpoint *queue_take(unsigned *work)
{
    struct endpoint *e;

    if (helper.taken == NULL)
        helper.taken = all_asked();
    e = helper.taken;
    if (e != NULL) {
        helper.taken = e->next_asked;
        atomic_store(&e->in_hand, true); /* never neither of the two */
        atomic_store(&e->queued, false);
        *work = atomic_exchange(&e->work, 0);
    }
    return e;
}

static void *helper_main(void *arg)
{
    struct endpoint *e;
    unsigned work;

    (void)arg;
    helper_is_me = true;
    helper.tid = (pid_t)syscall(SYS_gettid);
    pthread_setname_np(pthread_self(), "fastsock");
    admin_start(helper.loop);
    while (!atomic_load(&helper.ends)) {
        if (atomic_load(&helper.forks) > 0)
            helper_stand();
        /* Whoever asks in a row must not keep us from what peers say. */
        for (int i = 0; i < WORK_A_TURN && (e = queue_take(&work)) != NULL;
             i++) {
            helper_work_on(e, work);
            atomic_store(&e->in_hand, false);
        }
        helper_end_listening();
        helper_look_if_alone();
        atomic_fetch_add(&helper.turns, 1);
        loop_turn(helper.loop, may_sleep, NULL);
    }
    return NULL;
}

static const struct loop_calls calls = {ours_keep, ours_close};

static int start_thread(void)
{
    pthread_attr_t attr;
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, HELPER_STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&helper.thread, &attr, helper_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return -rc;
}

/* helper.lock held. */
static bool start(void)
{
    struct backend_config config = {
        .bell_token = process.bell_token,
        .max_memory = process.settings.max_memory,
        .max_links = process.settings.max_links,
        .meet_ns = MEET_NS,
        .users = process.settings.users.uid,
        .n_users = process.settings.users.n,
    };

    if (helper.started || helper.failed)
        return helper.started;
    helper.failed = true;
    process_count_cpus();
    process.ringer = ours_keep(bell_ringer_open());
    if (process.ringer < 0)
        return false;
    config.ringer = process.ringer;
    if (loop_create(&calls, &helper.loop) < 0)
        goto no_helper;
    backends_start(helper.loop, &config, &helper_events);
    if (start_thread() < 0)
        goto no_helper;
    helper.failed = false;
    helper.started = true;
    return true;
no_helper:
    log_warn("no helper thread: connections stay on TCP");
    return false;
}

void helper_begin_again(void)
{
    if (helper.started && start_thread() < 0)
        log_warn("no helper thread any more: connections may hang");
}

/*
 * True when the thread runs, or is about to: a handler that has interrupted its
 * own thread in here may ask already, and that thread wakes the helper then.
 */
static bool is_started(bool *first)
{
    bool runs;

    *first = false;
    if (atomic_load(&helper.started))
        return true;
    if (lock_take(&helper.lock) != 0)
        return true;
    *first = true;
    runs = start();
    lock_give(&helper.lock);
    return runs;
}

/* Also in a signal handler, wherever it has interrupted its thread. */
void helper_ask(struct endpoint *e, unsigned work)
{
    bool first;

    if (!is_started(&first))
        return;
    atomic_fetch_or(&e->work, work);
    if (!atomic_exchange(&e->queued, true)) {
        e->next_asked = atomic_load(&helper.asked);
        while (!atomic_compare_exchange_weak(&helper.asked, &e->next_asked, e))
            ;
        first = true;
    }
    if (first && atomic_load(&helper.started))
        loop_wake(helper.loop);
}

void helper_after_fork(void)
{
    bool started = helper.started;

    helper_forget_forks();
    if (!started) { /* another thread may just have been about to */
        memset(&helper, 0, sizeof(helper));
        return;
    }
    /* Memory of the loop and the backends is left as it is: the parent's thread
     * may have been inside. Descriptors are closed with all of ours. */
    memset(&helper, 0, sizeof(helper));
    admin_after_fork();
    backends_after_fork();
    process.ringer = -1;
}
