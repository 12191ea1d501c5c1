#include "bench/support/load_options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/program.h"

static const char usage[] =
    "usage: load [-h host] [-p port] [-r] [-t threads] [-c connections]\n"
    "            [-i idle connections] [-d depth] [-K keys] [-k key size]\n"
    "            [-v value size] [-g percent of gets] [-s seconds]\n"
    "            [-n requests] [-W warm-up seconds] [-w read|epoll|self]\n"
    "            [-G gap] [-C cpu,cpu...] [-P pid of the server] [-j]\n"
    "-r: redis' protocol, not memcached's. -i: with -w epoll, so many more\n"
    "connections that have moved bytes and rest. -w read: one connection per\n"
    "thread, blocking; epoll: any number; self: no server, what the program\n"
    "itself costs. -G: with -w read, so many us of work after each answer,\n"
    "not measured. -P: refuse any other server. -j: one line of JSON.\n"
    "Defaults: 127.0.0.1 11211, 1 thread, 1 connection, depth 1, 100 keys\n"
    "of 16 bytes, values of 64 bytes, gets only, 1 second after a warm-up of\n"
    "0.3 seconds, -w read.\n";

static const struct load_options defaults = {.host = "127.0.0.1",
                                             .port = "11211",
                                             .threads = 1,
                                             .conns = 1,
                                             .depth = 1,
                                             .keys = 100,
                                             .key_len = 16,
                                             .value_len = 64,
                                             .get_percent = 100,
                                             .warm_seconds = 0.3,
                                             .seconds = 1};

static void parse_cpus(struct load_options *o, char *list)
{
    for (char *cpu = strtok(list, ","); cpu; cpu = strtok(NULL, ",")) {
        if (o->n_cpus == LOAD_THREADS_MAX)
            program_die("-C expects at most %d CPUs", LOAD_THREADS_MAX);
        o->cpus[o->n_cpus++] = (int)program_number('C', cpu, 0, 1023);
    }
}

static enum wait_mode parse_mode(const char *text)
{
    if (strcmp(text, "read") == 0)
        return WAIT_READ;
    if (strcmp(text, "epoll") == 0)
        return WAIT_EPOLL;
    if (strcmp(text, "self") == 0)
        return WAIT_SELF;
    program_die("-w expects read, epoll or self, got \"%s\"", text);
}

/* An option whose value is a number; false for all others. */
static bool parse_number(struct load_options *o, int option, const char *text)
{
    unsigned *field = option == 't'   ? &o->threads
                      : option == 'c' ? &o->conns
                      : option == 'i' ? &o->idle
                      : option == 'd' ? &o->depth
                      : option == 'K' ? &o->keys
                      : option == 'k' ? &o->key_len
                      : option == 'v' ? &o->value_len
                      : option == 'g' ? &o->get_percent
                      : option == 'G' ? &o->gap
                                      : NULL;
    static const struct {
        char option;
        long min, max;
    } bounds[] = {{'t', 1, LOAD_THREADS_MAX},
                  {'c', 1, LOAD_CONNS_MAX},
                  {'i', 0, LOAD_CONNS_MAX},
                  {'d', 1, 1024},
                  {'K', 1, 1000000},
                  {'k', REQUESTS_KEY_MIN, REQUESTS_KEY_MAX},
                  {'v', 0, REQUESTS_VALUE_MAX},
                  {'g', 0, 100},
                  {'G', 0, 1000000}};

    for (unsigned i = 0; field && i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        if (bounds[i].option == option)
            *field = (unsigned)program_number((char)option, text, bounds[i].min,
                                              bounds[i].max);
    }
    return field;
}

static void parse_option(struct load_options *o, int option, char *text)
{
    if (parse_number(o, option, text))
        return;
    switch (option) {
    case 'h':
        o->host = text;
        break;
    case 'p':
        o->port = text;
        break;
    case 's':
        o->seconds = program_seconds('s', text, 0.01, 3600);
        break;
    case 'W':
        o->warm_seconds = program_seconds('W', text, 0, 600);
        break;
    case 'n':
        o->requests = (uint64_t)program_number('n', text, 1, 1000000000000);
        break;
    case 'P':
        o->server = (pid_t)program_number('P', text, 1, 1 << 30);
        break;
    case 'w':
        o->mode = parse_mode(text);
        break;
    case 'C':
        parse_cpus(o, text);
        break;
    case 'r':
        o->protocol = PROTOCOL_REDIS;
        break;
    case 'j':
        o->json = true;
        break;
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

static void check(const struct load_options *o)
{
    if (o->mode != WAIT_EPOLL && (o->conns != o->threads || o->idle))
        program_die("-w read and self serve one connection per thread: use -w "
                    "epoll for %u on %u threads",
                    o->conns + o->idle, o->threads);
    if (o->gap && o->mode != WAIT_READ)
        program_die("-G expects -w read");
    if (o->requests && o->requests < o->threads)
        program_die("-n expects at least one request per thread");
    if ((uint64_t)o->keys * o->value_len > 256u << 20)
        program_die("keys times value size is more than 256 MiB: fewer keys "
                    "(-K)");
}

void load_options_parse(struct load_options *o, int argc, char **argv)
{
    int option;

    *o = defaults;
    while ((option = getopt(argc, argv,
                            "h:p:rt:c:i:d:K:k:v:g:G:s:n:W:w:C:P:j")) >= 0)
        parse_option(o, option, optarg);
    if (optind < argc)
        program_die("unexpected \"%s\": see load -?", argv[optind]);
    if (o->conns < o->threads)
        o->conns = o->threads;
    check(o);
}
