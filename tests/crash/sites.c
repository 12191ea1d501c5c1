/* See sites.h. */
#include "tests/crash/sites.h"

#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE 512

struct sites *sites_create(void)
{
    struct sites *sites = calloc(1, sizeof(*sites));
    if (sites)
        sites->n_calls = sites->n_names = sites->n_named = 1;
    return sites;
}

void sites_destroy(struct sites *sites)
{
    free(sites);
}

uint32_t sites_add(struct sites *sites, void *const callers[SITE_DEPTH])
{
    for (uint32_t i = 1; i < sites->n_calls; i++)
        if (memcmp(sites->calls[i], callers, sizeof(sites->calls[i])) == 0)
            return i;
    if (sites->n_calls == SITE_CALLS)
        return 0;
    memcpy(sites->calls[sites->n_calls], callers, sizeof(sites->calls[0]));
    return sites->n_calls++;
}

/* The first object that the loader names is the program. */
static int program_base(struct dl_phdr_info *info, size_t size, void *base)
{
    (void)size;
    *(uintptr_t *)base = (uintptr_t)info->dlpi_addr;
    return 1;
}

static FILE *ask_addr2line(const struct sites *sites)
{
    char program[256], *command;
    uintptr_t base = 0;
    size_t len = 0;
    FILE *text;
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    if (n < 0 || !(text = open_memstream(&command, &len)))
        return NULL;
    program[n] = '\0';
    dl_iterate_phdr(program_base, &base);
    fprintf(text, "addr2line -a -i -f -s -e '%s'", program);
    for (uint32_t i = sites->n_named; i < sites->n_calls; i++)
        for (int d = 0; d < SITE_DEPTH; d++) /* inside the call, not after it */
            fprintf(text, " 0x%zx", (uintptr_t)sites->calls[i][d] - base - 1);
    fputs(" 2>/dev/null", text);
    fclose(text);
    FILE *answer = popen(command, "r");
    free(command);
    return answer;
}

static uint32_t name_number(struct sites *sites, const char *name)
{
    for (uint32_t i = 1; i < sites->n_names; i++)
        if (strcmp(sites->names[i], name) == 0)
            return i;
    snprintf(sites->names[sites->n_names], SITE_NAME, "%s", name);
    return sites->n_names++;
}

/* "function (file:line)" becomes part of the name, unless it is persist's. */
static void add_frame(char *name, int *frames, const char *function,
                      const char *place)
{
    size_t len = strlen(name);
    bool persist =
        strncmp(place, "persist.", 8) == 0 || strncmp(function, "pm_", 3) == 0;
    if (persist || *frames == 2)
        return;
    if ((*frames)++ == 0)
        snprintf(name, SITE_NAME, "%.40s (%.*s)", function,
                 (int)strcspn(place, " "), place);
    else
        snprintf(name + len, SITE_NAME - len, " < %.40s (%.*s)", function,
                 (int)strcspn(place, " "), place);
}

void sites_name_all(struct sites *sites)
{
    char line[LINE], function[LINE], name[SITE_NAME] = "";
    int frames = 0, address = 0;
    FILE *answer;

    if (sites->n_named == sites->n_calls)
        return;
    answer = ask_addr2line(sites);
    function[0] = '\0';
    while (answer && fgets(line, sizeof(line), answer)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "0x", 2) == 0) { /* the next address */
            if (address++ % SITE_DEPTH == 0 && address > 1) {
                sites->name_of[sites->n_named++] = name_number(sites, name);
                frames = 0;
                name[0] = '\0';
            }
            function[0] = '\0';
        } else if (function[0] == '\0') {
            snprintf(function, sizeof(function), "%s", line);
        } else {
            add_frame(name, &frames, function, line);
            function[0] = '\0';
        }
    }
    if (address > 0)
        sites->name_of[sites->n_named++] = name_number(sites, name);
    if (answer)
        pclose(answer);
    while (sites->n_named < sites->n_calls) {
        snprintf(name, sizeof(name), "%p < %p", sites->calls[sites->n_named][0],
                 sites->calls[sites->n_named][1]);
        sites->name_of[sites->n_named++] = name_number(sites, name);
    }
}
