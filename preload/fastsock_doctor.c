/*
 * fastsock doctor: the order of what is examined, the lines, the verdicts.
 *
 *   fastsock_doctor_rdma.c    RDMA devices, module, limits
 *   fastsock_doctor_memory.c  what the shared memory transport needs
 *   fastsock_doctor_host.c    CPUs and kernel
 *   fastsock_tree.c           how files are read
 */
#include "preload/fastsock_doctor.h"

#include <fcntl.h>
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
    char text[1024];
    va_list ap;

    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    fprintf(doctor->out, "%-7s  %-12s  ", marks[mark], subject);
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

bool doctor_live(const struct doctor *doctor)
{
    return doctor->root == AT_FDCWD;
}

/* Is the name one of the setting's? first: the first of them. */
static bool names_transport(const struct settings *s, const char *name,
                            bool first)
{
    size_t len = strlen(name);

    for (const char *p = s->transports; *p != '\0'; p += *p == ',') {
        size_t n = strcspn(p, ",");

        if (n == len && memcmp(p, name, n) == 0)
            return true;
        if (first)
            return false;
        p += n;
    }
    return false;
}

static void conclude(struct doctor *d, const char *title, const char *name,
                     const struct doctor_verdict *v)
{
    fprintf(d->out, "%s: ", title);
    if (!v->usable) {
        fputs("not here: ", d->out);
        print_ascii(d->out, v->why);
    } else if (!names_transport(d->settings, name, false)) {
        fprintf(d->out,
                "would be usable, but the setting transports does not "
                "name %s",
                name);
    } else if (v->through[0] != '\0') {
        fputs("would be used through ", d->out);
        print_ascii(d->out, v->through);
    } else {
        fputs("ready", d->out);
    }
    putc('\n', d->out);
}

bool doctor_examine(struct doctor *doctor)
{
    doctor->shm.usable = doctor->verbs.usable = true;
    doctor_examine_rdma(doctor);
    conclude(doctor, "RDMA", "verbs", &doctor->verbs);
    if (names_transport(doctor->settings, "verbs", true))
        return doctor->verbs.usable;
    return doctor->shm.usable;
}

static void complain_line(void *arg, const char *line)
{
    (void)arg;
    text_error("doctor", "%s", line);
}

int command_doctor(int argc, char **argv)
{
    struct doctor doctor = {.out = stdout};
    struct settings *s;
    const char *root = NULL;
    bool usable;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--root") != 0)
            return command_usage("doctor", "expected --root DIR, not '%s'",
                                 argv[i]);
        if (++i == argc)
            return command_usage("doctor", "expected a folder after --root");
        root = argv[i];
    }
    doctor.root = tree_open(root);
    if (doctor.root < 0 && doctor.root != AT_FDCWD)
        return command_usage("doctor", "--root %s: %s; expected a folder", root,
                             strerror(-doctor.root));
    s = calloc(1, sizeof(*s));
    if (s == NULL)
        return COMMAND_FAILED;
    settings_load(s, NULL, environ, complain_line, NULL);
    doctor.settings = s;
    usable = doctor_examine(&doctor);
    settings_free(s);
    free(s);
    if (!doctor_live(&doctor))
        close(doctor.root);
    return usable ? COMMAND_DONE : COMMAND_FAILED;
}
