/*
 * usage: watches [CASE]
 *
 * A user has room for so many members of epoll sets, and no more
 * (/proc/sys/fs/epoll/max_user_watches): who is a member already stays one,
 * wherever its stream goes meanwhile.
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/e2e/support/asleep.h"
#include "tests/e2e/support/cases.h"
#include "tests/e2e/support/sets.h"

enum { PAIRS = 12, PROGRAMS_OWN = 48 /* descriptors, at most */ };

/*
 * From now on the kernel says that there is no room, to every thread, for any
 * descriptor from this one on. Asked for by libc's own call: the library would
 * get out of the way.
 */
static void use_watches_from(int fd)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_ctl, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, EPOLL_CTL_ADD, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)fd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSPC),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    long (*call)(long number, ...) =
        libc != NULL ? (long (*)(long, ...))dlsym(libc, "syscall") : NULL;

    if (call == NULL || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
             &program) != 0)
        die("seccomp");
}

static void use_all_watches(void)
{
    use_watches_from(0);
}

/* Whoever has it as standard input may be any program: it stays on TCP. */
static void bring_back(void)
{
    said("standard input", dup2(b, 0));
}

static void back_without_room(void)
{
    int edges, level;

    new_set();
    edges = set;
    add(b, EPOLLIN | EPOLLET, 1);
    new_set();
    level = set;
    add(b, EPOLLIN, 2);
    until_moved(a, b);
    use_all_watches();
    bring_back();
    put(a, "x");
    waits("edge", edges, 1000);
    waits("level", level, 1000);
    waits("edge again", edges, 0);
    waits("level again", level, 0);
    take(b, 1);
    waits("edge", edges, 0);
    waits("level", level, 0);
    said("modified", ctl(EPOLL_CTL_MOD, b, EPOLLOUT, 3));
    waits("room", level, 0);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("not again", ctl(EPOLL_CTL_ADD, b, EPOLLIN, 4));
}

static void spent_without_room(void)
{
    new_set();
    add(b, EPOLLIN | EPOLLONESHOT, 1);
    until_moved(a, b);
    said("armed", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT, 2));
    put(a, "x");
    waits("once", set, 1000);
    use_all_watches();
    bring_back();
    waits("nothing", set, 10);
    said("armed", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT, 3));
    waits("once more", set, 1000);
    waits("nothing", set, 10);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("no member", ctl(EPOLL_CTL_DEL, b, 0, 0));
}

static void exclusive_without_room(void)
{
    new_set();
    add(b, EPOLLIN | EPOLLEXCLUSIVE, 1);
    until_moved(a, b);
    use_all_watches();
    bring_back();
    put(a, "x");
    waits("bytes", set, 1000);
    said("modified", ctl(EPOLL_CTL_MOD, b, EPOLLIN, 1));
    take(b, 1);
    waits("nothing", set, 0);
}

static void no_room_for_another(void)
{
    new_set();
    until_moved(a, b);
    add(b, EPOLLIN, 1);
    said("twice", ctl(EPOLL_CTL_ADD, b, EPOLLIN, 1));
    use_all_watches();
    said("another", ctl(EPOLL_CTL_ADD, a, EPOLLIN, 2));
    put(a, "x");
    waits("bytes", set, 1000);
    take(b, 1);
    said("modified", ctl(EPOLL_CTL_MOD, b, EPOLLOUT, 3));
    waits("room", set, 1000);
    said("removed", ctl(EPOLL_CTL_DEL, b, 0, 0));
    said("no member", ctl(EPOLL_CTL_MOD, b, EPOLLIN, 1));
}

/* What the kernel says of the socket is not what the program hears. */
static void hung_up_when_spent(void)
{
    new_set();
    add(b, EPOLLIN | EPOLLONESHOT, 1);
    until_moved(a, b);
    said("armed", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT, 2));
    put(a, "x");
    waits("once", set, 1000);
    take(b, 1);
    close(a);
    said("the other way", shutdown(b, SHUT_WR));
    wait_events(b, 0);
    waits("nothing", set, 50);
    said("armed", ctl(EPOLL_CTL_MOD, b, EPOLLIN | EPOLLONESHOT, 3));
    waits("the end", set, 1000);
    waits("nothing", set, 10);
}

/* They are not events, but they stand in the kernel's list before what is. */
static void behind_hang_ups(void)
{
    struct epoll_event event;
    int c[PAIRS], d[PAIRS];

    new_set();
    for (int i = 0; i < PAIRS; i++) {
        tcp_pair("4", 0, &c[i], &d[i]);
        add(d[i], EPOLLIN | EPOLLONESHOT, 1);
        until_moved(c[i], d[i]);
        said("armed", ctl(EPOLL_CTL_MOD, d[i], EPOLLIN | EPOLLONESHOT, 2));
        put(c[i], "x");
        waits("once", set, 1000);
        take(d[i], 1);
    }
    for (int i = 0; i < PAIRS; i++) {
        close(c[i]);
        said("the other way", shutdown(d[i], SHUT_WR));
        wait_events(d[i], 0);
    }
    sleep_ms(20);
    add(eventfd(1, EFD_CLOEXEC), EPOLLIN, 3);
    said("one place", epoll_wait(set, &event, 1, 0));
    waits("many", set, 0);
}

static void *sleeps(void *arg)
{
    (void)arg;
    waits("asleep", set, 2000);
    return NULL;
}

/*
 * A member has the last place, and none is left for what the library puts in
 * besides, which has high numbers.
 */
static void no_room_for_the_library(void)
{
    pthread_t thread;
    int first;

    until_moved(a, b);
    use_watches_from(PROGRAMS_OWN);
    new_set();
    first = set;
    add(b, EPOLLIN, 1);
    thread = start_asleep(sleeps, NULL);
    put(a, "x");
    end_of(thread);
    waits("level", set, 0);
    take(b, 1);
    new_set();
    add(b, EPOLLIN | EPOLLET, 2);
    thread = start_asleep(sleeps, NULL);
    put(a, "y");
    end_of(thread);
    waits("edge again", set, 0);
    waits("level", first, 0);
    take(b, 1);
    waits("level", first, 0);
    talk("afterwards", a, b);
}

/* The stream is up, and has something, when it is put in. */
static void no_room_once_it_is_up(void)
{
    until_moved(a, b);
    use_watches_from(PROGRAMS_OWN);
    put(a, "x");
    wait_unread(b, 1);
    new_set();
    add(b, EPOLLIN, 1);
    waits("bytes", set, 2000);
    take(b, 1);
    waits("nothing", set, 0);
}

static const struct test_case cases[] = {
    {"back_without_room", back_without_room, RETURNS},
    {"spent_without_room", spent_without_room, RETURNS},
    {"exclusive_without_room", exclusive_without_room, RETURNS},
    {"no_room_for_another", no_room_for_another, STAYS},
    {"no_room_for_the_library", no_room_for_the_library, GOES_UP},
    {"no_room_once_it_is_up", no_room_once_it_is_up, GOES_UP},
    {"hung_up_when_spent", hung_up_when_spent, GOES_UP},
    {"behind_hang_ups", behind_hang_ups, GOES_UP},
};

int main(int argc, char **argv)
{
    return run_cases(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
