/*
 * fastsock explain: sentences about the streams of one process.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "preload/fastsock_command.h"
#include "preload/fastsock_peers.h"
#include "preload/fastsock_program.h"
#include "preload/fastsock_target.h"
#include "preload/fastsock_text.h"

enum { ANY_FD = -1 };

static const char *times(uint32_t n, char buf[32])
{
    snprintf(buf, 32, n == 1 ? "once" : "%" PRIu32 " times", n);
    return buf;
}

/* "has been accelerated over shm for 12s" */
static void print_place(const struct segment_row *row)
{
    char span[TEXT_SPAN_MAX];

    text_since(row->since_ns, span);
    switch (row->stage) {
    case STATS_STAGE_UP:
        printf("has been accelerated over %s for %s", row->transport, span);
        break;
    case STATS_STAGE_RAW:
        printf("has been on kernel TCP for %s", span);
        break;
    case STATS_STAGE_DEAD:
        printf("was reset %s ago", span);
        break;
    default:
        printf("has been between kernel TCP and a link (stage %s) for %s",
               stats_stage_name(row->stage), span);
    }
}

static void print_bytes(const struct segment_row *row)
{
    printf("  Out: %" PRIu64 " bytes over the link, %" PRIu64 " over TCP."
           " In: %" PRIu64 " over the link, %" PRIu64 " over TCP.\n",
           row->link_out, row->tcp_out, row->link_in, row->tcp_in);
}

static void print_moves(const struct segment_row *row)
{
    char ups[32], returns[32];

    if (row->ups == 0) {
        printf("  It never left TCP.\n");
        return;
    }
    printf("  It left TCP %s and came back %s.", times(row->ups, ups),
           times(row->returns, returns));
    if (row->returns != 0)
        printf(" The last time because %s (%s).",
               reason_sentence(row->last_return),
               reason_token(row->last_return));
    putchar('\n');
}

static void print_why(const struct segment_row *row)
{
    if (row->stage != STATS_STAGE_UP)
        printf("  Why: %s (%s).\n", reason_sentence(row->reason),
               reason_token(row->reason));
    for (unsigned i = 0; i < STATS_TRANSPORTS; i++)
        if (row->not_over[i] != REASON_NONE && stats_transport_name(i) != NULL)
            printf("  Not over %s: %s (%s).\n", stats_transport_name(i),
                   reason_sentence(row->not_over[i]),
                   reason_token(row->not_over[i]));
}

static void print_missing_peer(const struct segment_row *row)
{
    struct target other;

    if (row->peer_pid == 0) {
        printf("  No process that can be read here has the other end under "
               "the library.\n");
        return;
    }
    printf("  The other end is process %" PRIu32, row->peer_pid);
    switch (target_open((pid_t)row->peer_pid, &other)) {
    case TARGET_UNREADABLE:
        printf(", which cannot be read: run as root to see its view.\n");
        break;
    case TARGET_GONE:
        printf(", which is gone or in another container.\n");
        break;
    default:
        printf(", which does not list the stream.\n");
    }
    target_close(&other);
}

static void print_peer(const struct peers *peers, const struct target *target,
                       const struct segment_row *row)
{
    const struct peer *peer = peers_find(peers, target, row);

    if (peer == NULL) {
        print_missing_peer(row);
        return;
    }
    printf("  The other end is process %d (%s), descriptor %u. Seen from "
           "there it ",
           (int)peer->pid, peer->program, peer->row.fd);
    print_place(&peer->row);
    if (peer->row.stage != STATS_STAGE_UP)
        printf(", because %s (%s)", reason_sentence(peer->row.reason),
               reason_token(peer->row.reason));
    printf(".\n");
}

static void explain_row(const struct peers *peers, const struct target *target,
                        const struct segment_row *row)
{
    char local[TEXT_NAME_MAX], peer[TEXT_NAME_MAX], span[TEXT_SPAN_MAX];

    printf("\nDescriptor %u: %s to %s, %s here, opened %s ago.\n", row->fd,
           text_name(row->family, &row->local, local),
           text_name(row->family, &row->peer, peer),
           row->initiator ? "connected" : "accepted",
           text_since(row->opened_ns, span));
    printf("  It ");
    print_place(row);
    printf(".\n");
    print_why(row);
    print_bytes(row);
    print_moves(row);
    print_peer(peers, target, row);
}

static void print_withdrawn(enum reason why)
{
    printf("All of its streams are on kernel TCP for good: %s (%s).\n",
           reason_sentence(why), reason_token(why));
}

static void explain_process(const struct target *target)
{
    const struct segment_head *h = &target->head;
    char span[TEXT_SPAN_MAX], ups[32], returns[32];

    printf("Process %d (%s) carries the library; its first connection was %s "
           "ago.\n",
           (int)target->pid, h->program, text_since(h->started_ns, span));
    printf("It has had %" PRIu64 " connection%s; streams left TCP %s and came "
           "back %s; %" PRIu64 " had to be reset.\n",
           h->streams_seen, h->streams_seen == 1 ? "" : "s",
           times((uint32_t)h->streams_up, ups),
           times((uint32_t)h->returns, returns), h->broken);
    if (h->unlisted != 0)
        printf("%" PRIu64 " of them found no room in the statistics and are "
               "not listed.\n",
               h->unlisted);
    if (h->withdrawn != REASON_NONE)
        print_withdrawn(h->withdrawn);
}

static int explain_streams(struct target *target, int fd)
{
    unsigned n = segment_highest(&target->segment), shown = 0;
    struct segment_row row;
    struct peers peers;

    peers_read(&peers);
    if (fd == ANY_FD)
        explain_process(target);
    for (unsigned i = 0; i < n; i++) {
        if (!target_row(target, i, &row) ||
            (fd != ANY_FD && row.fd != (unsigned)fd))
            continue;
        if (fd != ANY_FD && shown == 0)
            printf("Process %d (%s) carries the library.\n", (int)target->pid,
                   target->head.program);
        explain_row(&peers, target, &row);
        shown++;
    }
    peers_free(&peers);
    if (shown > 0)
        return COMMAND_DONE;
    if (fd == ANY_FD) {
        printf("No stream is open now.\n");
        return COMMAND_DONE;
    }
    text_error("explain",
               "descriptor %d of process %d is no connected TCP socket under "
               "the library: 'fastsock ss -p %d' lists those",
               fd, (int)target->pid, (int)target->pid);
    return COMMAND_FAILED;
}

/* A process that has no segment: why, and what can be done. */
static int explain_without(pid_t pid)
{
    char name[64], exe[64];
    const char *obstacle;

    target_name(pid, name, sizeof(name));
    if (target_carries_library(pid)) {
        printf("Process %d (%s) carries the library and has had no connected "
               "TCP socket so far.\n",
               (int)pid, name);
        if (target_has_ring(pid))
            print_withdrawn(REASON_IO_URING);
        else if (target_is_filtered(pid))
            printf("A filter of system calls (seccomp) is on it: if it "
                   "installed that itself, it stays on kernel TCP.\n");
        return COMMAND_DONE;
    }
    snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)pid);
    obstacle = program_obstacle(program_judge(exe));
    printf("Process %d (%s) does not carry the library: all of its connections "
           "stay on kernel TCP.\n",
           (int)pid, name);
    if (obstacle != NULL)
        printf("Its program %s.\n", obstacle);
    else if (target_was_asked(pid))
        printf("It was started with LD_PRELOAD naming the library, but the "
               "library could not be loaded: check that path, and standard "
               "error of its start.\n");
    else
        printf("To accelerate it, start it again with: fastsock run -- %s "
               "...\n",
               name);
    return COMMAND_DONE;
}

static int explain(pid_t pid, int fd)
{
    struct target target;
    int rc = COMMAND_FAILED;

    switch (target_open(pid, &target)) {
    case TARGET_OPEN:
        rc = explain_streams(&target, fd);
        break;
    case TARGET_NO_SEGMENT:
        rc = explain_without(pid);
        break;
    case TARGET_UNREADABLE:
        text_error("explain",
                   "process %d cannot be read: run as root or as its user",
                   (int)pid);
        break;
    case TARGET_GONE:
        text_error("explain", "there is no process %d", (int)pid);
        break;
    case TARGET_OTHER_RELEASE:
        text_error("explain",
                   "process %d carries another release of the library: use "
                   "the fastsock command of that release",
                   (int)pid);
        break;
    case TARGET_DAMAGED:
        text_error("explain",
                   "the statistics of process %d cannot be understood: they "
                   "are damaged or not the library's",
                   (int)pid);
        break;
    }
    target_close(&target);
    return rc;
}

int command_explain(int argc, char **argv)
{
    pid_t pid;
    int fd;

    if (argc != 2 || !command_pid_fd(argv[1], &pid, &fd))
        return command_usage("explain", "expected PID or PID/FD, not '%s'",
                             argc == 2  ? argv[1]
                             : argc < 2 ? "nothing"
                                        : argv[2]);
    return explain(pid, fd);
}
