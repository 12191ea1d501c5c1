/*
 * A program's main thread may leave by pthread_exit(); the process ends with
 * its last thread. Ours would keep it for ever, with every signal blocked: once
 * the main thread has left, it looks now and then whether it is alone.
 */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/helper_private.h"
#include "preload/process.h"
#include "transport/pause.h"

enum {
    LOOK_NS = 50000000,
    LEAVING_NS = 200000,
    OURS_AND_MAIN = 2 /* the kernel lists one that has left until the end */
};

static bool is_alone(void)
{
    DIR *folder = opendir("/proc/self/task");
    struct dirent *d;
    int threads = 0;

    if (folder == NULL)
        return false;
    while ((d = readdir(folder)) != NULL)
        threads += d->d_name[0] != '.';
    closedir(folder);
    return threads <= OURS_AND_MAIN;
}

static void look(struct timer *timer)
{
    helper.alone = is_alone();
    loop_timer_set(helper.loop, timer,
                   clock_ns() + (helper.alone ? LEAVING_NS : LOOK_NS));
}

/* As at any other exit, peers get what is under way before the end. */
static void leave(void)
{
    static uint64_t until;
    sigset_t all;
    bool first = until == 0;

    if (first)
        until = clock_ns() + process.settings.return_timeout_ms * 1000000;
    if (helper_not_left(first) > 0 && clock_ns() < until)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    exit(0); /* what libc does in a last thread */
}

bool helper_has_to_look(void)
{
    return atomic_load(&process.main_left) && !helper.look.added;
}

void helper_look_if_alone(void)
{
    struct timer *timer = &helper.look;

    if (!atomic_load(&process.main_left))
        return;
    timer->expired = look;
    if (helper_has_to_look())
        loop_timer_set(helper.loop, timer, clock_ns() + LOOK_NS);
    if (helper.alone)
        leave();
}

void helper_main_leaves(void)
{
    if ((pid_t)syscall(SYS_gettid) != (pid_t)syscall(SYS_getpid))
        return;
    atomic_store(&process.main_left, true);
    if (helper.started)
        loop_wake(helper.loop);
}
