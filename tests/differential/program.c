/*
 * Programs as text. See program.h; what a step does is in the steps_*.c.
 */
#include "tests/differential/program.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct word {
    const char *name;
    uint32_t value;
};

static const struct word message_flags[] = {
    {"peek", MSG_PEEK},         {"dontwait", MSG_DONTWAIT},
    {"waitall", MSG_WAITALL},   {"trunc", MSG_TRUNC},
    {"nosignal", MSG_NOSIGNAL}, {"waitforone", MSG_WAITFORONE},
    {"oob", MSG_OOB},           {NULL, 0}};

static const struct word event_bits[] = {{"in", EPOLLIN},
                                         {"out", EPOLLOUT},
                                         {"pri", EPOLLPRI},
                                         {"err", EPOLLERR},
                                         {"hup", EPOLLHUP},
                                         {"rdhup", EPOLLRDHUP},
                                         {"et", EPOLLET},
                                         {"oneshot", EPOLLONESHOT},
                                         {"exclusive", EPOLLEXCLUSIVE},
                                         {"rdnorm", EPOLLRDNORM},
                                         {"wrnorm", EPOLLWRNORM},
                                         {NULL, 0}};

static const struct word socket_flags[] = {
    {"nonblock", SOCK_NONBLOCK}, {"cloexec", SOCK_CLOEXEC}, {NULL, 0}};

/* One of a list: the value is the place. */
static const char *const senders[] = {"write",      "writev",  "send",
                                      "sendto",     "sendmsg", "sendmmsg",
                                      "sys_sendto", NULL};
static const char *const receivers[] = {"read",         "readv",   "recv",
                                        "recvfrom",     "recvmsg", "recvmmsg",
                                        "sys_recvfrom", NULL};
static const char *const accepts[] = {"accept", "accept4", NULL};
static const char *const polls[] = {"poll", "ppoll", "select", "pselect", NULL};
static const char *const waits[] = {"epoll_wait", "epoll_pwait", "epoll_pwait2",
                                    NULL};
static const char *const dups[] = {"dup", "dup2", "dupfd", NULL};
static const char *const hows[] = {"rd", "wr", "rdwr", NULL};
static const char *const exits[] = {"exit", "_exit", "kill", NULL};
static const char *const spawns[] = {"posix_spawn", "system", "vfork", NULL};
static const char *const controls[] = {"fcntl", "ioctl", NULL};
static const char *const options[] = {"rcvtimeo",   "sndtimeo", "linger",
                                      "rcvlowat",   "error",    "type",
                                      "acceptconn", NULL};
static const char *const handlers[] = {"plain", "restart", NULL};
static const char *const libraries[] = {"without", "with", NULL};

/*
 * The kind of each argument: n number, m mask of slots (in hexadecimal),
 * f message flags, e events, k socket flags; a capital letter is one of the
 * lists above.
 */
static const struct {
    const char *name, *args;
} ops[OPS] = {
    [OP_LISTEN] = {"listen", "n"},         /* slot */
    [OP_CONNECT] = {"connect", "nnk"},     /* slot, connection, flags */
    [OP_ACCEPT] = {"accept", "nnnAk"},     /* slot, listener, connection */
    [OP_UP] = {"up", "n"},                 /* slot: wait until it left TCP */
    [OP_SEND] = {"send", "nSnf"},          /* slot, call, length, flags */
    [OP_RECV] = {"recv", "nRnf"},          /* the same */
    [OP_FILL] = {"fill", "n"},             /* slot: write until it is full */
    [OP_DRAIN] = {"drain", "n"},           /* slot: read what fill wrote */
    [OP_SENDFILE] = {"sendfile", "nn"},    /* slot, length */
    [OP_SHUTDOWN] = {"shutdown", "nH"},    /* slot, how */
    [OP_CLOSE] = {"close", "n"},           /* slot */
    [OP_DUP] = {"dup", "nnD"},             /* slot, new slot, call */
    [OP_NONBLOCK] = {"nonblock", "nnC"},   /* slot, on, call */
    [OP_FLAGS] = {"flags", "n"},           /* slot: F_GETFL, F_GETFD */
    [OP_NAMES] = {"names", "n"},           /* slot: both addresses */
    [OP_UNREAD] = {"unread", "n"},         /* slot: FIONREAD */
    [OP_SETOPT] = {"setopt", "nOn"},       /* slot, option, value */
    [OP_GETOPT] = {"getopt", "nO"},        /* slot, option */
    [OP_POLL] = {"poll", "Pnem"},          /* call, ms, events, slots */
    [OP_EPOLL_NEW] = {"epoll_new", "n"},   /* slot */
    [OP_EPOLL_ADD] = {"epoll_add", "nne"}, /* set, slot (also the data) */
    [OP_EPOLL_MOD] = {"epoll_mod", "nne"},
    [OP_EPOLL_DEL] = {"epoll_del", "nn"},
    [OP_EPOLL_WAIT] = {"epoll_wait", "nnW"}, /* set, ms or -1, call */
    [OP_EVENT_NEW] = {"event_new", "n"},     /* slot: an eventfd */
    [OP_EVENT_RING] = {"event_ring", "n"},
    [OP_EVENT_TAKE] = {"event_take", "n"},
    [OP_FORK] = {"fork", ""},        /* the kid has what the parent has */
    [OP_EXIT] = {"exit", "X"},       /* of the kid */
    [OP_IMAGE] = {"image", "L"},     /* the kid execs itself */
    [OP_SPAWN] = {"spawn", "V"},     /* a program that does nothing */
    [OP_PASS] = {"pass", "n"},       /* slot, to the kid, by SCM_RIGHTS */
    [OP_RECEIVE] = {"receive", "n"}, /* slot: what was passed */
    [OP_HANDLER] = {"handler", "G"}, /* of SIGUSR1 */
    [OP_SIGNAL] = {"signal", "n"},   /* SIGUSR1 to that thread */
    [OP_JOIN] = {"join", "n"},       /* wait for that thread's step */
    [OP_PAUSE] = {"pause", "n"},     /* ms */
};

static const char *const actors[ACTORS] = {"c",  "s",  "ck", "sk",
                                           "c1", "c2", "s1", "s2"};

static const char *const *list_of(char kind)
{
    switch (kind) {
    case 'A':
        return accepts;
    case 'S':
        return senders;
    case 'R':
        return receivers;
    case 'H':
        return hows;
    case 'D':
        return dups;
    case 'C':
        return controls;
    case 'O':
        return options;
    case 'P':
        return polls;
    case 'W':
        return waits;
    case 'X':
        return exits;
    case 'L':
        return libraries;
    case 'V':
        return spawns;
    default:
        return handlers;
    }
}

static const struct word *words_of(char kind)
{
    return kind == 'f'   ? message_flags
           : kind == 'e' ? event_bits
                         : socket_flags;
}

unsigned actor_process(unsigned actor)
{
    if (actor < PROCESSES)
        return actor;
    return actor < SERVER_1 ? CLIENT : SERVER;
}

int actor_worker(unsigned actor)
{
    return actor < PROCESSES ? -1 : (int)(actor - PROCESSES) % WORKERS;
}

const char *actor_name(unsigned actor)
{
    return actors[actor];
}

void program_init(struct program *p)
{
    memset(p, 0, sizeof(*p));
    p->family = 4;
}

static void bits_text(const struct word *w, uint32_t bits, char *out,
                      size_t size)
{
    size_t n = 0;

    if (size > 0)
        snprintf(out, size, "0");
    for (; w->name != NULL; w++) {
        if (!(bits & w->value))
            continue;
        bits &= ~w->value;
        n += (size_t)snprintf(out + n, size - n, "%s%s", n ? "|" : "", w->name);
    }
    if (bits != 0)
        snprintf(out + n, size - n, "%s0x%x", n ? "|" : "", bits);
}

void events_text(uint32_t events, char *out, size_t size)
{
    bits_text(event_bits, events, out, size);
}

void step_text(const struct step *s, char *out, size_t size)
{
    const char *kinds = ops[s->op].args;
    size_t n =
        (size_t)snprintf(out, size, "%s %s", actors[s->actor], ops[s->op].name);

    for (int i = 0; kinds[i] != '\0'; i++) {
        char bits[100];

        if (kinds[i] == 'n')
            snprintf(bits, sizeof(bits), "%d", s->arg[i]);
        else if (kinds[i] == 'm')
            snprintf(bits, sizeof(bits), "0x%x", (unsigned)s->arg[i]);
        else if (kinds[i] >= 'a')
            bits_text(words_of(kinds[i]), (uint32_t)s->arg[i], bits,
                      sizeof(bits));
        else
            snprintf(bits, sizeof(bits), "%s", list_of(kinds[i])[s->arg[i]]);
        if (n < size)
            n += (size_t)snprintf(out + n, size - n, " %s", bits);
    }
}

void program_write(const struct program *p, FILE *file)
{
    char line[200];

    if (p->seed != 0)
        fprintf(file, "# seed %llu\n", (unsigned long long)p->seed);
    fprintf(file, "family %u\n", p->family);
    if (p->loose)
        fprintf(file, "loose\n");
    if (p->break_at[0] != 0 || p->break_at[1] != 0)
        fprintf(file, "break %u %u\n", p->break_at[0], p->break_at[1]);
    for (uint32_t i = 0; i < p->n; i++) {
        step_text(&p->step[i], line, sizeof(line));
        fprintf(file, "%s\n", line);
    }
}

/* ---- reading ---- */

static bool read_number(const char *text, int32_t *out)
{
    char *end;
    long n = strtol(text, &end, 0);

    if (end == text || *end != '\0' || n < INT32_MIN || n > INT32_MAX)
        return false;
    *out = (int32_t)n;
    return true;
}

static bool read_bits(const struct word *words, char *text, int32_t *out)
{
    uint32_t bits = 0;
    char *rest;

    for (char *t = strtok_r(text, "|", &rest); t != NULL;
         t = strtok_r(NULL, "|", &rest)) {
        const struct word *w = words;
        int32_t number;

        while (w->name != NULL && strcmp(w->name, t) != 0)
            w++;
        if (w->name != NULL)
            bits |= w->value;
        else if (read_number(t, &number))
            bits |= (uint32_t)number;
        else
            return false;
    }
    *out = (int32_t)bits;
    return true;
}

static bool read_choice(const char *const *list, const char *text, int32_t *out)
{
    for (int i = 0; list[i] != NULL; i++)
        if (strcmp(list[i], text) == 0) {
            *out = i;
            return true;
        }
    return false;
}

static bool read_args(struct step *s, char **rest)
{
    const char *kinds = ops[s->op].args;

    for (int i = 0; kinds[i] != '\0'; i++) {
        char *t = strtok_r(NULL, " \t\r\n", rest);
        bool good;

        if (t == NULL)
            return kinds[i] == 'f' || kinds[i] == 'k'; /* may be left out */
        if (kinds[i] == 'n' || kinds[i] == 'm')
            good = read_number(t, &s->arg[i]);
        else if (kinds[i] >= 'a')
            good = read_bits(words_of(kinds[i]), t, &s->arg[i]);
        else
            good = read_choice(list_of(kinds[i]), t, &s->arg[i]);
        if (!good)
            return false;
    }
    return strtok_r(NULL, " \t\r\n", rest) == NULL;
}

static bool read_step(struct program *p, char *actor, char **rest)
{
    struct step *s = &p->step[p->n];
    char *name = strtok_r(NULL, " \t\r\n", rest);

    if (p->n == STEPS_MOST || name == NULL)
        return false;
    memset(s, 0, sizeof(*s));
    while (s->actor < ACTORS && strcmp(actors[s->actor], actor) != 0)
        s->actor++;
    while (s->op < OPS && strcmp(ops[s->op].name, name) != 0)
        s->op++;
    if (s->actor == ACTORS || s->op == OPS || !read_args(s, rest))
        return false;
    p->n++;
    return true;
}

static bool read_line(struct program *p, char *line)
{
    char *rest, *first = strtok_r(line, " \t\r\n", &rest), *second, *third;

    if (first == NULL)
        return true;
    if (strcmp(first, "loose") == 0) {
        p->loose = 1;
        return true;
    }
    if (strcmp(first, "family") == 0) {
        second = strtok_r(NULL, " \t\r\n", &rest);
        p->family = second != NULL ? (uint32_t)atoi(second) : 0;
        return p->family == 4 || p->family == 6 || p->family == 46;
    }
    if (strcmp(first, "break") == 0) {
        second = strtok_r(NULL, " \t\r\n", &rest);
        third = strtok_r(NULL, " \t\r\n", &rest);
        if (second == NULL || third == NULL)
            return false;
        p->break_at[0] = (uint32_t)atoi(second);
        p->break_at[1] = (uint32_t)atoi(third);
        return true;
    }
    return read_step(p, first, &rest);
}

bool program_read(struct program *p, FILE *file, const char *name)
{
    char line[300];

    program_init(p);
    for (int number = 1; fgets(line, sizeof(line), file) != NULL; number++) {
        if (strncmp(line, "# seed ", 7) == 0)
            p->seed = strtoull(line + 7, NULL, 10);
        line[strcspn(line, "#")] = '\0';
        if (!read_line(p, line)) {
            fprintf(stderr,
                    "%s:%d: expected a step: ACTOR STEP ARGUMENTS, as "
                    "docs/differential.md lists them\n",
                    name, number);
            return false;
        }
    }
    return true;
}
