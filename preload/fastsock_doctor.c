/*
 * fastsock doctor: the order of what is examined, the lines, the verdicts.
 *
 *   fastsock_doctor_memory.c  what the shared memory transport needs
 *   fastsock_doctor_rdma.c    what the RDMA transport needs besides a device
 *   fastsock_doctor_device.c  RDMA devices, their ports and addresses
 *   fastsock_doctor_host.c    settings, CPUs and kernel
 *   fastsock_tree.c           how files are read
 */
#include "preload/fastsock_doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "preload/fastsock_command.h"
#include "preload/fastsock_text.h"
#include "preload/fastsock_tree.h"

static void print_ascii(FILE *out, const char *text)
{
    for (; *text != '\0'; text++)
        putc(*text >= ' ' && *text <= '~' ? *text : '?', out);
}

void doctor_say(struct doctor *doctor, enum doctor_mark mark,
                const char *subject, const char *format, ...)
{
    static const char *const marks[] = {"ok", "missing", "hint"};
    char text[2048];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    fprintf(doctor->out, "%-7s  %-9s  ", marks[mark], subject);
    print_ascii(doctor->out, text);
    putc('\n', doctor->out);
}

void doctor_lacks(struct doctor_verdict *verdict, const char *format, ...)
{
    va_list ap;

    if (!verdict->usable)
        return;
    verdict->usable = false;
    va_start(ap, format);
    vsnprintf(verdict->why, sizeof(verdict->why), format, ap);
    va_end(ap);
}

void doctor_list(char *list, size_t size, const char *format, ...)
{
    size_t at = strlen(list);
    char one[256];
    va_list ap;
    int len;

    va_start(ap, format);
    len = vsnprintf(one, sizeof(one), format, ap);
    va_end(ap);
    if (len < 0 || at + 2 + strlen(one) >= size)
        return;
    snprintf(list + at, size - at, "%s%s", at > 0 ? ", " : "", one);
}

bool doctor_live(const struct doctor *doctor)
{
    return doctor->root == AT_FDCWD;
}

/* ---- the verdicts ---- */

static bool listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *p = list; *p != '\0'; p += *p == ',') {
        size_t n = strcspn(p, ",");

        if (n == len && memcmp(p, name, n) == 0)
            return true;
        p += n;
    }
    return false;
}

static bool a_rule_names(const struct settings *s, const char *name)
{
    for (size_t i = 0; i < s->rules.n; i++)
        if ((s->rules.rule[i].set & 1u << RULE_TRANSPORTS) != 0 &&
            listed(s->rules.rule[i].transports, name))
            return true;
    return false;
}

static void conclude(struct doctor *d, const char *title, const char *name,
                     const struct doctor_verdict *v)
{
    const struct settings *s = d->settings;

    fprintf(d->out, "%s: ", title);
    if (!v->usable) {
        fputs("not here: ", d->out);
        print_ascii(d->out, v->why);
    } else if (!s->accelerate) {
        fputs("not used: the setting accelerate is false", d->out);
    } else if (!listed(s->transports, name) && !a_rule_names(s, name)) {
        fprintf(d->out, "not used: the setting transports does not name %s",
                name);
    } else if (v->through[0] != '\0') {
        fputs("would be used through ", d->out);
        print_ascii(d->out, v->through);
    } else {
        fputs(doctor_live(d) ? "ready" : "ready, as far as a saved tree tells",
              d->out);
    }
    putc('\n', d->out);
}

bool doctor_examine(struct doctor *doctor)
{
    const struct settings *s = doctor->settings;
    const struct doctor_verdict *first;

    doctor->shm = doctor->verbs = (struct doctor_verdict){.usable = true};
    doctor_examine_host(doctor);
    doctor_examine_memory(doctor);
    doctor_examine_devices(doctor);
    doctor_examine_rdma(doctor);
    putc('\n', doctor->out);
    conclude(doctor, "shared memory", "shm", &doctor->shm);
    conclude(doctor, "RDMA", "verbs", &doctor->verbs);
    first =
        strncmp(s->transports, "verbs", 5) == 0 ? &doctor->verbs : &doctor->shm;
    return s->accelerate && first->usable;
}

/* ---- the command ---- */

static void complain_line(void *arg, const char *line)
{
    (void)arg;
    text_error("doctor", "%s", line);
}

/* As a program would find them, in a saved tree with the tree's file. */
static int load_settings(struct settings *s, const char *root,
                         const char *config)
{
    char path[PATH_MAX] = "";

    if (config == NULL && root != NULL) {
        if (snprintf(path, sizeof(path), "%s/etc/fastsock.conf", root) >=
                (int)sizeof(path) ||
            access(path, F_OK) != 0)
            path[0] = '\0';
        config = path;
    }
    return settings_load(s, config, environ, complain_line, NULL);
}

static int examine(const char *root, const char *config)
{
    struct doctor doctor = {.out = stdout, .root = tree_open(root)};
    struct settings *s;
    bool usable;
    int rc;

    if (doctor.root < 0 && doctor.root != AT_FDCWD)
        return command_usage("doctor", "--root %s: %s; expected a folder", root,
                             strerror(-doctor.root));
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        text_error("doctor", "out of memory");
        rc = COMMAND_FAILED;
        goto close_root;
    }
    rc = load_settings(s, root, config);
    doctor.settings = s;
    if (rc < 0)
        doctor_say(&doctor, DOCTOR_MISSING, "settings",
                   "there are mistakes: a program would stay on TCP; correct "
                   "what standard error names");
    usable = doctor_examine(&doctor);
    rc = rc == 0 && usable ? COMMAND_DONE : COMMAND_FAILED;
    settings_free(s);
    free(s);
close_root:
    if (!doctor_live(&doctor))
        close(doctor.root);
    return rc;
}

int command_doctor(int argc, char **argv)
{
    const char *root = NULL, *config = NULL;

    for (int i = 1; i < argc; i++) {
        bool is_root = strcmp(argv[i], "--root") == 0;

        if (!is_root && strcmp(argv[i], "--config") != 0)
            return command_usage("doctor",
                                 "expected --root DIR or --config FILE, not "
                                 "'%s'",
                                 argv[i]);
        if (++i == argc)
            return command_usage("doctor", "expected %s after %s",
                                 is_root ? "a folder" : "a file", argv[i - 1]);
        *(is_root ? &root : &config) = argv[i];
    }
    return examine(root, config);
}
