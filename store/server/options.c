/*
 * memcached's options, by its names. One that changes what clients see is
 * followed or refused; one that only tunes memcached's insides is accepted and
 * noted in `ignored`. A mistake is one line and memcached's exit status.
 */
#include "store/server/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sysexits.h>

#define MEGABYTE     (UINT64_C(1) << 20)
#define PORT_MAX     65535
#define ITEM_MIN     1024
#define ITEM_TOP     (1024 * MEGABYTE)
#define GO_ON        (-1)
#define DEFAULT_POOL "/var/lib/kvserver"

enum { OPTION_POOL = 256, OPTION_DURABILITY };

static const char short_options[] =
    "p:U:s:a:Al:dru:m:Mc:khiVvP:f:n:LD:t:R:Cb:B:I:SFXWY:e:Zo:N:";

static const struct option long_options[] = {
    {"port", required_argument, NULL, 'p'},
    {"udp-port", required_argument, NULL, 'U'},
    {"unix-socket", required_argument, NULL, 's'},
    {"unix-mask", required_argument, NULL, 'a'},
    {"enable-shutdown", no_argument, NULL, 'A'},
    {"listen", required_argument, NULL, 'l'},
    {"daemon", no_argument, NULL, 'd'},
    {"enable-coredumps", no_argument, NULL, 'r'},
    {"user", required_argument, NULL, 'u'},
    {"memory-limit", required_argument, NULL, 'm'},
    {"disable-evictions", no_argument, NULL, 'M'},
    {"conn-limit", required_argument, NULL, 'c'},
    {"lock-memory", no_argument, NULL, 'k'},
    {"help", no_argument, NULL, 'h'},
    {"license", no_argument, NULL, 'i'},
    {"version", no_argument, NULL, 'V'},
    {"verbose", no_argument, NULL, 'v'},
    {"pidfile", required_argument, NULL, 'P'},
    {"slab-growth-factor", required_argument, NULL, 'f'},
    {"slab-min-size", required_argument, NULL, 'n'},
    {"enable-largepages", no_argument, NULL, 'L'},
    {"threads", required_argument, NULL, 't'},
    {"max-reqs-per-event", required_argument, NULL, 'R'},
    {"disable-cas", no_argument, NULL, 'C'},
    {"listen-backlog", required_argument, NULL, 'b'},
    {"protocol", required_argument, NULL, 'B'},
    {"max-item-size", required_argument, NULL, 'I'},
    {"enable-sasl", no_argument, NULL, 'S'},
    {"disable-flush-all", no_argument, NULL, 'F'},
    {"disable-dumping", no_argument, NULL, 'X'},
    {"disable-watch", no_argument, NULL, 'W'},
    {"auth-file", required_argument, NULL, 'Y'},
    {"memory-file", required_argument, NULL, 'e'},
    {"enable-ssl", no_argument, NULL, 'Z'},
    {"extended", required_argument, NULL, 'o'},
    {"napi_ids", required_argument, NULL, 'N'},
    {"pool", required_argument, NULL, OPTION_POOL},
    {"durability", required_argument, NULL, OPTION_DURABILITY},
    {NULL, 0, NULL, 0},
};

/* -o names that only tune memcached's insides. */
static const char *const tuning[] = {"hashpower",
                                     "tail_repair_time",
                                     "hash_algorithm",
                                     "lru_crawler",
                                     "lru_crawler_sleep",
                                     "lru_crawler_tocrawl",
                                     "read_buf_mem_limit",
                                     "lru_maintainer",
                                     "hot_lru_pct",
                                     "warm_lru_pct",
                                     "hot_max_factor",
                                     "warm_max_factor",
                                     "temporary_ttl",
                                     "slab_chunk_max",
                                     "slab_reassign",
                                     "slab_automove",
                                     "slab_automove_ratio",
                                     "slab_automove_window",
                                     "slab_automove_freeratio",
                                     "watcher_logbuf_size",
                                     "worker_logbuf_size",
                                     "track_sizes",
                                     "hashexpand",
                                     "modern",
                                     "inline_ascii_resp",
                                     "idle_timeout",
                                     "sock_cookie_id",
                                     NULL};

static void note_ignored(struct options *o, const char *name)
{
    size_t len = strlen(o->ignored);

    snprintf(o->ignored + len, sizeof(o->ignored) - len, " %s", name);
}

static int refuse(FILE *err, int status, const char *what)
{
    fprintf(err, "kvserver: %s\n", what);
    return status;
}

/* A whole number of least to most; false when text is none. */
static bool read_number(const char *text, int64_t least, int64_t most,
                        int64_t *out)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < least ||
        value > most)
        return false;
    *out = value;
    return true;
}

/* A size with K, M or G behind it; unit is what a bare number counts. */
static bool read_size(const char *text, uint64_t unit, uint64_t *out)
{
    static const char suffixes[] = "kmg";
    const char *suffix;
    char *end;
    unsigned long long value;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoull(text, &end, 10);
    if (*end != '\0') {
        suffix = strchr(suffixes, *end | 0x20);
        if (suffix == NULL || end[1] != '\0')
            return false;
        unit = UINT64_C(1) << (10 * (suffix - suffixes + 1));
    }
    if (errno != 0 || value > INT64_MAX / unit)
        return false;
    *out = value * unit;
    return true;
}

static int read_unsigned(FILE *err, const char *text, int64_t least,
                         unsigned *out, const char *complaint)
{
    int64_t value;

    if (!read_number(text, least, INT32_MAX, &value))
        return refuse(err, EXIT_FAILURE, complaint);
    *out = (unsigned)value;
    return GO_ON;
}

/* -l may be a list, and may come again. */
static int add_listen(struct options *o, char *list, FILE *err)
{
    char *save = NULL, *word;

    for (word = strtok_r(list, ", ", &save); word != NULL;
         word = strtok_r(NULL, ", ", &save)) {
        if (o->n_listen == OPTIONS_LISTEN_MAX)
            return refuse(err, EX_USAGE,
                          "too many addresses after -l: "
                          "expected at most 64");
        o->listen[o->n_listen++] = word;
    }
    return GO_ON;
}

static int set_pool(struct options *o, const char *text, FILE *err)
{
    const char *colon = strrchr(text, ':');
    size_t len = strlen(text);

    if (colon != NULL && strchr(colon, '/') == NULL) {
        len = (size_t)(colon - text);
        if (!read_size(colon + 1, 1, &o->pool_size) ||
            o->pool_size < KV_MIN_POOL)
            return refuse(err, EX_USAGE,
                          "the size after --pool PATH: is a number with K, M "
                          "or G, at least 256K; for example --pool "
                          "/mnt/pmem/pool:1G");
    }
    if (len == 0 || len >= sizeof(o->pool))
        return refuse(err, EX_USAGE, "expected --pool PATH[:SIZE]");
    memcpy(o->pool, text, len);
    o->pool[len] = '\0';
    return GO_ON;
}

static int set_durability(struct options *o, const char *text, FILE *err)
{
    if (strcmp(text, "pmem") == 0)
        o->durability = KV_DURABILITY_PMEM;
    else if (strcmp(text, "sync") == 0)
        o->durability = KV_DURABILITY_SYNC;
    else if (strcmp(text, "process") == 0)
        o->durability = KV_DURABILITY_PROCESS;
    else
        return refuse(err, EX_USAGE,
                      "expected --durability pmem, sync or process");
    return GO_ON;
}

static int set_extended(struct options *o, char *list, FILE *err)
{
    char *save = NULL, *word;

    for (word = strtok_r(list, ",", &save); word != NULL;
         word = strtok_r(NULL, ",", &save)) {
        char *value = strchr(word, '=');
        bool no = strncmp(word, "no_", 3) == 0;
        size_t i = 0;

        if (value != NULL)
            *value = '\0';
        if (strcmp(word + 3 * no, "maxconns_fast") == 0) {
            o->refuse_fast = !no;
            continue;
        }
        while (tuning[i] != NULL && strcmp(tuning[i], word + 3 * no) != 0)
            i++;
        if (tuning[i] == NULL) {
            fprintf(err,
                    "kvserver: Illegal suboption \"%s\": see -h for those "
                    "after -o\n",
                    word);
            return EXIT_FAILURE;
        }
        note_ignored(o, word);
    }
    return GO_ON;
}

static int set_port(int *port, const char *text, FILE *err)
{
    int64_t value;

    if (!read_number(text, -1, PORT_MAX, &value)) {
        fprintf(err,
                "kvserver: Invalid port number %s: expected 0 to 65535, or -1 "
                "for any free one\n",
                text);
        return EX_USAGE;
    }
    *port = (int)value;
    return GO_ON;
}

static int set_item_max(struct options *o, const char *text, FILE *err)
{
    if (!read_size(text, 1, &o->item_max) || o->item_max < ITEM_MIN)
        return refuse(err, EX_USAGE,
                      "Item max size cannot be less than 1024 bytes: expected "
                      "a size after -I, for example 2m");
    if (o->item_max > ITEM_TOP)
        return refuse(err, EX_USAGE,
                      "Cannot set item size limit higher than a gigabyte.");
    return GO_ON;
}

static int set_memory(struct options *o, const char *text, FILE *err)
{
    int64_t value;

    if (!read_number(text, 1, INT32_MAX, &value))
        return refuse(err, EX_USAGE,
                      "expected a number of megabytes after -m, at least 1");
    o->memory = (uint64_t)value * MEGABYTE;
    return GO_ON;
}

static int set_mask(struct options *o, const char *text, FILE *err)
{
    char *end;
    unsigned long value = strtoul(text, &end, 8);

    if (end == text || *end != '\0' || value > 0777)
        return refuse(err, EX_USAGE,
                      "expected an octal mode after -a, for example 700");
    o->unix_mask = (unsigned)value;
    return GO_ON;
}

static int set_protocol(const char *text, FILE *err)
{
    if (strcmp(text, "auto") == 0 || strcmp(text, "ascii") == 0)
        return GO_ON;
    return refuse(err, EX_USAGE,
                  "Invalid value for binding protocol: expected auto or "
                  "ascii after -B; the binary protocol is not built in");
}

static int set_udp(const char *text, FILE *err)
{
    int port;
    int status = set_port(&port, text, err);

    if (status == GO_ON && port != 0)
        return refuse(err, EX_USAGE, "UDP is not built in: expected -U 0");
    return status;
}

/* Options that would change what clients see, and are not there. */
static int refuse_missing(int option, FILE *err)
{
    const char *what = option == 'S'   ? "authentication (-S) is not built in"
                       : option == 'Y' ? "authentication (-Y) is not built in"
                       : option == 'Z' ? "TLS (-Z) is not built in"
                       : option == 'C'
                           ? "cas ids are always kept: leave out -C"
                           : "-e is not needed: expected --pool PATH, which "
                             "survives restarts";
    return refuse(err, EX_USAGE, what);
}

static int set_flag(struct options *o, int option, FILE *out)
{
    char name[3] = {'-', (char)option, '\0'};

    switch (option) {
    case 'A':
        o->shutdown_allowed = true;
        break;
    case 'd':
        o->daemon = true;
        break;
    case 'M':
        o->evict = false;
        break;
    case 'k':
        o->lock_memory = true;
        break;
    case 'v':
        o->verbosity += o->verbosity < 2;
        break;
    case 'F':
        o->flush_allowed = false;
        break;
    case 'X':
        o->dump_allowed = false;
        break;
    case 'h':
        fputs(options_help, out);
        return EXIT_SUCCESS;
    case 'V':
        fprintf(out, "kvserver %s (memcached %s protocol)\n", OPTIONS_VERSION,
                OPTIONS_PROTOCOL);
        return EXIT_SUCCESS;
    case 'i':
        fprintf(out, "kvserver %s: see the file LICENSE\n", OPTIONS_VERSION);
        return EXIT_SUCCESS;
    default:
        note_ignored(o, name);
        break;
    }
    return GO_ON;
}

static int set_value(struct options *o, int option, char *value, FILE *err)
{
    switch (option) {
    case 'p':
        return set_port(&o->port, value, err);
    case 'U':
        return set_udp(value, err);
    case 's':
        o->unix_path = value;
        return GO_ON;
    case 'a':
        return set_mask(o, value, err);
    case 'l':
        return add_listen(o, value, err);
    case 'u':
        o->user = value;
        return GO_ON;
    case 'm':
        return set_memory(o, value, err);
    case 'c':
        return read_unsigned(err, value, 1, &o->max_connections,
                             "Maximum connections must be greater than 0");
    case 'P':
        o->pid_file = value;
        return GO_ON;
    case 't':
        return read_unsigned(err, value, 1, &o->threads,
                             "Number of threads must be greater than 0");
    case 'R':
        return read_unsigned(
            err, value, 1, &o->requests_per_event,
            "Number of requests per event must be greater than 0");
    case 'b':
        return read_unsigned(err, value, 0, &o->backlog,
                             "expected a number after -b");
    case 'B':
        return set_protocol(value, err);
    case 'I':
        return set_item_max(o, value, err);
    case 'o':
        return set_extended(o, value, err);
    case OPTION_POOL:
        return set_pool(o, value, err);
    case OPTION_DURABILITY:
        return set_durability(o, value, err);
    default:
        return GO_ON;
    }
}

/* Where the pool is when nobody said, or said only a folder. */
static int place_pool(struct options *o, FILE *err)
{
    const char *state = getenv("STATE_DIRECTORY");
    struct stat st;
    size_t len;

    if (o->pool[0] == '\0') {
        if (state == NULL || *state == '\0')
            state = DEFAULT_POOL;
        len = strcspn(state, ":");
        if (len + sizeof("/pool") > sizeof(o->pool))
            return refuse(err, EX_USAGE, "STATE_DIRECTORY is too long");
        memcpy(o->pool, state, len);
        strcpy(o->pool + len, "/pool");
    } else if (stat(o->pool, &st) == 0 && S_ISDIR(st.st_mode)) {
        len = strlen(o->pool);
        while (len > 0 && o->pool[len - 1] == '/')
            len--;
        if (len + sizeof("/pool") > sizeof(o->pool))
            return refuse(err, EX_USAGE, "the path after --pool is too long");
        strcpy(o->pool + len, "/pool");
    }
    if (o->pool_size == 0)
        o->pool_size = o->memory;
    if (o->item_max > o->pool_size / 2)
        return refuse(err, EX_USAGE,
                      "Cannot set item size limit higher than 1/2 of memory "
                      "max.");
    return GO_ON;
}

static bool is_among(const char *letters, int option)
{
    return option < OPTION_POOL && strchr(letters, option) != NULL;
}

static void set_defaults(struct options *o)
{
    *o = (struct options){.port = 11211,
                          .unix_mask = 0700,
                          .memory = 64 * MEGABYTE,
                          .item_max = MEGABYTE,
                          .max_connections = 1024,
                          .backlog = 1024,
                          .threads = 1,
                          .requests_per_event = 20,
                          .evict = true,
                          .flush_allowed = true,
                          .dump_allowed = true,
                          .durability = KV_DURABILITY_DEFAULT};
}

int options_parse(struct options *o, int argc, char **argv, FILE *out,
                  FILE *err)
{
    int option, status = GO_ON;

    set_defaults(o);
    optind = 0;
    opterr = 0;
    while (status == GO_ON &&
           (option = getopt_long(argc, argv, short_options, long_options,
                                 NULL)) != -1) {
        if (option == '?') {
            fprintf(err,
                    "kvserver: %s is not an option or lacks its value; "
                    "kvserver -h lists them\n",
                    argv[optind - 1]);
            status = EXIT_FAILURE;
        } else if (is_among("SYZCe", option)) {
            status = refuse_missing(option, err);
        } else if (is_among("fnDN", option)) {
            char name[3] = {'-', (char)option, '\0'};

            note_ignored(o, name);
        } else if (optarg != NULL) {
            status = set_value(o, option, optarg, err);
        } else {
            status = set_flag(o, option, out);
        }
    }
    return status == GO_ON ? place_pool(o, err) : status;
}
