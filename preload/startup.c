/*
 * Start-up, in order, before main: real functions, settings, the table of
 * descriptors, forks. Anything that fails leaves the program on kernel TCP.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/log.h"
#include "preload/backends.h"
#include "preload/endpoint.h"
#include "preload/epoll_set.h"
#include "preload/kernel.h"
#include "preload/process.h"
#include "preload/waiter.h"

static void name_program(void)
{
    const char *name = program_invocation_short_name;

    if (name == NULL)
        name = "?";
    strncpy(process.program, name, sizeof(process.program) - 1);
}

static void complain(void *arg, const char *line)
{
    (void)arg;
    log_error("%s", line);
}

/*
 * Behind all that the program does at its end: what was registered first runs
 * last, and what on_exit() knows is no library's, so it runs after the
 * destructors of all of them.
 */
static void leave(int status, void *arg)
{
    (void)status;
    (void)arg;
    process_leave();
}

__attribute__((constructor)) static void start_up(void)
{
    kernel_resolve();
    name_program();
    log_init("fastsock", LOG_ERROR);
    if (settings_load(&process.settings, NULL, environ, complain, NULL) < 0) {
        log_error("acceleration is off until this is corrected");
        return;
    }
    log_init("fastsock", process.settings.log_level);
    if (process_watch_forks() != 0 || endpoint_places_start() != 0 ||
        waiters_start() != 0 || epoll_sets_start() != 0 ||
        on_exit(leave, NULL) != 0 || at_quick_exit(process_leave) != 0) {
        log_error("not enough memory: acceleration is off");
        return;
    }
    process.pid = getpid();
    process.bell_token = process_new_token();
    process_count_cpus();
    endpoint_plan_first();
    backends_look();
    process.ready = true;
}

/* The libraries of a device have destructors: not behind those. */
__attribute__((destructor)) static void shut_down(void)
{
    if (backends_between_hosts)
        process_leave();
}
