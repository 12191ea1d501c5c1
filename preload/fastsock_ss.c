/*
 * fastsock ss: one line, or one JSON object, per stream, or per process.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/fastsock_command.h"
#include "preload/fastsock_target.h"
#include "preload/fastsock_text.h"

struct list {
    pid_t only; /* 0: every process */
    bool all, json, spins;
    unsigned unreadable;
    enum target_state state; /* of `only` */
    struct text_table table;
    const char *comma; /* before the next object */
};

enum { COLUMNS = 13, SPIN_COLUMNS = 10 };

static void start_table(struct list *list)
{
    static const char *const head[COLUMNS] = {
        "PROCESS", "FD",       "LOCAL",  "PEER",     "VIA",
        "STAGE",   "TCP-OUT",  "TCP-IN", "LINK-OUT", "LINK-IN",
        "SINCE",   "PEER-PID", "REASON",
    };

    text_table_init(&list->table, COLUMNS,
                    1u << 1 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 10 |
                        1u << 11);
    for (unsigned i = 0; i < COLUMNS; i++)
        text_cell(&list->table, "%s", head[i]);
}

/* Of the processes: what their threads do when they wait. */
static void start_spins(struct list *list)
{
    static const char *const head[SPIN_COLUMNS] = {
        "PROCESS", "STREAMS", "ON-LINKS", "SPINNERS", "BUDGET",
        "SPINS",   "GAIN",    "IN-VAIN",  "SLEEPS",   "CPU-LIMIT",
    };

    text_table_init(&list->table, SPIN_COLUMNS, (1u << SPIN_COLUMNS) - 2);
    for (unsigned i = 0; i < SPIN_COLUMNS; i++)
        text_cell(&list->table, "%s", head[i]);
}

static void count_streams(struct target *target, unsigned *all,
                          unsigned *on_links)
{
    unsigned n = segment_highest(&target->segment);
    struct segment_row row;

    *all = *on_links = 0;
    for (unsigned i = 0; i < n; i++)
        if (target_row(target, i, &row)) {
            ++*all;
            *on_links += row.stage == STATS_STAGE_UP;
        }
}

/* Each hit is a sleep and a wake-up that did not take place. */
static void add_spins(struct list *list, struct target *target)
{
    const struct segment_head *h = &target->head;
    uint64_t spins = h->spins_hit + h->spins_missed;
    struct text_table *t = &list->table;
    unsigned all, on_links;

    count_streams(target, &all, &on_links);
    text_cell(t, "%d/%s", (int)target->pid, h->program);
    text_cell(t, "%u", all);
    text_cell(t, "%u", on_links);
    text_cell(t, "%" PRIu32, h->spinners);
    text_cell(t, "%.1fus", h->spin_budget_ns / 1e3);
    text_cell(t, "%" PRIu64, spins);
    if (spins != 0)
        text_cell(t, "%.1f%%", 100.0 * (double)h->spins_hit / (double)spins);
    else
        text_cell(t, "-");
    text_cell(t, "%.3fs", (double)h->spun_in_vain_ns / 1e9);
    text_cell(t, "%" PRIu64, h->sleeps);
    if (h->cpu_quota != 0)
        text_cell(t, "%u.%02u", h->cpu_quota / 100, h->cpu_quota % 100);
    else
        text_cell(t, "-");
}

static void print_spins(struct list *list, struct target *target)
{
    const struct segment_head *h = &target->head;
    unsigned all, on_links;

    count_streams(target, &all, &on_links);
    printf("%s\n  {\"pid\": %d, \"program\": ", list->comma, (int)target->pid);
    text_json(stdout, h->program);
    printf(", \"streams\": %u, \"on_links\": %u, \"spinners\": %" PRIu32
           ", \"spin_budget_ns\": %" PRIu32,
           all, on_links, h->spinners, h->spin_budget_ns);
    printf(", \"spins_hit\": %" PRIu64 ", \"spins_missed\": %" PRIu64
           ", \"spun_in_vain_ns\": %" PRIu64 ", \"sleeps\": %" PRIu64,
           h->spins_hit, h->spins_missed, h->spun_in_vain_ns, h->sleeps);
    printf(", \"cpu_limit_percent\": ");
    if (h->cpu_quota != 0)
        printf("%" PRIu32 "}", h->cpu_quota);
    else
        printf("null}");
    list->comma = ",";
}

/* Only what is neither here nor there is worth a word. */
static const char *stage_between(const struct segment_row *row)
{
    if (row->stage == STATS_STAGE_RAW || row->stage == STATS_STAGE_UP)
        return "-";
    return stats_stage_name(row->stage);
}

static void add_line(struct list *list, const struct target *target,
                     const struct segment_row *row)
{
    struct text_table *t = &list->table;
    char name[TEXT_NAME_MAX], span[TEXT_SPAN_MAX];

    text_cell(t, "%d/%s", (int)target->pid, target->head.program);
    text_cell(t, "%u", row->fd);
    text_cell(t, "%s", text_name(row->family, &row->local, name));
    text_cell(t, "%s", text_name(row->family, &row->peer, name));
    text_cell(t, "%s", row->transport);
    text_cell(t, "%s", stage_between(row));
    text_cell(t, "%" PRIu64, row->tcp_out);
    text_cell(t, "%" PRIu64, row->tcp_in);
    text_cell(t, "%" PRIu64, row->link_out);
    text_cell(t, "%" PRIu64, row->link_in);
    text_cell(t, "%s", text_since(row->since_ns, span));
    if (row->peer_pid != 0)
        text_cell(t, "%" PRIu32, row->peer_pid);
    else
        text_cell(t, "-");
    text_cell(t, "%s", reason_token(row->reason));
}

static void print_object(struct list *list, const struct target *target,
                         const struct segment_row *row)
{
    char local[TEXT_NAME_MAX], peer[TEXT_NAME_MAX];

    printf("%s\n  {\"pid\": %d, \"program\": ", list->comma, (int)target->pid);
    text_json(stdout, target->head.program);
    printf(", \"fd\": %u, \"local\": ", row->fd);
    text_json(stdout, text_name(row->family, &row->local, local));
    printf(", \"peer\": ");
    text_json(stdout, text_name(row->family, &row->peer, peer));
    printf(", \"initiator\": %s, \"transport\": ",
           row->initiator ? "true" : "false");
    text_json(stdout, row->transport);
    printf(", \"stage\": \"%s\", \"tcp_out\": %" PRIu64 ", \"tcp_in\": %" PRIu64
           ", \"link_out\": %" PRIu64 ", \"link_in\": %" PRIu64,
           stats_stage_name(row->stage), row->tcp_out, row->tcp_in,
           row->link_out, row->link_in);
    printf(", \"since_ns\": %" PRIu64 ", \"opened_ns\": %" PRIu64
           ", \"peer_pid\": %" PRIu32 ", \"ups\": %" PRIu32
           ", \"returns\": %" PRIu32,
           row->since_ns, row->opened_ns, row->peer_pid, row->ups,
           row->returns);
    printf(", \"reason\": \"%s\", \"last_return\": \"%s\"}",
           reason_token(row->reason), reason_token(row->last_return));
    list->comma = ",";
}

static void list_target(void *arg, struct target *target)
{
    struct list *list = arg;
    struct segment_row row;
    unsigned n;

    if (target->state == TARGET_UNREADABLE)
        list->unreadable++;
    if (target->state != TARGET_OPEN)
        return;
    if (list->spins && list->json)
        print_spins(list, target);
    else if (list->spins)
        add_spins(list, target);
    n = list->spins ? 0 : segment_highest(&target->segment);
    for (unsigned i = 0; i < n; i++) {
        if (!target_row(target, i, &row))
            continue;
        if (list->json)
            print_object(list, target, &row);
        else
            add_line(list, target, &row);
    }
}

/* What to say about the one process that was asked for. */
static int judge_only(const struct list *list)
{
    int pid = (int)list->only;

    switch (list->state) {
    case TARGET_OPEN:
        return COMMAND_DONE;
    case TARGET_UNREADABLE:
        text_error(
            "ss", "process %d cannot be read: run as root or as its user", pid);
        return COMMAND_FAILED;
    case TARGET_GONE:
        text_error("ss", "there is no process %d", pid);
        return COMMAND_FAILED;
    case TARGET_OTHER_RELEASE:
        text_error("ss",
                   "process %d carries another release of the library: use "
                   "the fastsock command of that release",
                   pid);
        return COMMAND_FAILED;
    case TARGET_DAMAGED:
        text_error("ss", "the statistics of process %d cannot be understood",
                   pid);
        return COMMAND_FAILED;
    default:
        if (target_carries_library(list->only))
            return COMMAND_DONE;
        text_error("ss",
                   "process %d does not carry the library: 'fastsock explain "
                   "%d' says more",
                   pid, pid);
        return COMMAND_FAILED;
    }
}

static int collect(struct list *list)
{
    struct target target;
    int rc;

    if (list->only == 0) {
        rc = target_each(list_target, list);
        if (rc < 0)
            text_error("ss", "/proc cannot be read: %s", strerror(-rc));
        return rc < 0 ? COMMAND_FAILED : COMMAND_DONE;
    }
    list->state = target_open(list->only, &target);
    list_target(list, &target);
    target_close(&target);
    return judge_only(list);
}

static void print_unreadable(unsigned n)
{
    const char *plural = n == 1 ? "" : "es";

    if (n == 0)
        printf("Every process could be read.\n");
    else if (geteuid() == 0)
        printf("%u process%s cannot be read, not even by root.\n", n, plural);
    else
        printf("%u process%s of other users cannot be read; run as root to see "
               "%s.\n",
               n, plural, n == 1 ? "it" : "them");
}

static int list_streams(struct list *list)
{
    int rc;

    list->comma = "";
    if (list->json)
        printf("{\"%s\": [", list->spins ? "processes" : "streams");
    else if (list->spins)
        start_spins(list);
    else
        start_table(list);
    rc = collect(list);
    if (list->json) {
        printf("%s], \"unreadable_processes\": %u}\n",
               list->comma[0] != '\0' ? "\n" : "", list->unreadable);
        return rc;
    }
    if (text_table_print(&list->table, stdout) < 0) {
        text_error("ss", "out of memory: ask for one process with -p");
        rc = COMMAND_FAILED;
    }
    text_table_fini(&list->table);
    if (list->all)
        print_unreadable(list->unreadable);
    return rc;
}

int command_ss(int argc, char **argv)
{
    struct list list = {.only = 0};

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-a") == 0) {
            list.all = true;
        } else if (strcmp(argv[i], "-s") == 0) {
            list.spins = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            list.json = true;
        } else if (strcmp(argv[i], "-p") == 0) {
            const char *pid = ++i < argc ? argv[i] : "";

            list.only = command_pid(pid, pid + strlen(pid));
            if (list.only == 0)
                return command_usage("ss", "expected a process id after -p");
        } else {
            return command_usage(
                "ss", "expected -p PID, -s, -a or --json, not '%s'", argv[i]);
        }
    }
    return list_streams(&list);
}
