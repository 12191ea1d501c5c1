/*
 * What a library adds to the start and the end of a program that does nothing.
 *
 * This program runs itself, told to return from main at once, alternately as
 * it is and with the variables of -e, from before the spawn until it has been
 * waited for. "start_over_ns" is the median difference of neighbours; without
 * -e both are the same, so that it says what chance alone makes of it.
 */
#include <errno.h>
#include <getopt.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/support/program.h"

enum { WORDS_MAX = 16, PAIRS_MAX = 10000 };

static const char nothing[] = "--nothing", maps[] = "--maps";

/* One start; `what` says what the program is to do. */
static uint64_t start(const char *what, const char *argument, char **env)
{
    char *argv[] = {(char *)"startup", (char *)what, (char *)argument, NULL};
    uint64_t before = program_now_ns();
    pid_t child;
    int rc = posix_spawn(&child, "/proc/self/exe", NULL, NULL, argv, env);

    if (rc != 0)
        program_die("cannot start itself: %s", strerror(rc));
    program_reap(child, what == maps ? "search for what LD_PRELOAD names in a "
                                       "started program"
                                     : "program");
    return program_now_ns() - before;
}

/* In the started program: is there such a file in its memory? */
static int look_for(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char line[4096];
    FILE *file = fopen("/proc/self/maps", "re");
    int found = 1;

    while (file && found && fgets(line, sizeof(line), file))
        found = strstr(line, name) == NULL;
    return found;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
    qsort(values, n, sizeof(*values), compare);
    return values[n / 2];
}

/* Who is first changes from pair to pair. */
static void measure(unsigned pairs, char **env, double *plain, double *over)
{
    static double without[PAIRS_MAX], extra[PAIRS_MAX];

    for (unsigned i = 0; i < pairs; i++) {
        double with = 0;

        if (i % 2)
            with = (double)start(nothing, NULL, env);
        without[i] = (double)start(nothing, NULL, environ);
        if (i % 2 == 0)
            with = (double)start(nothing, NULL, env);
        extra[i] = with - without[i];
    }
    *plain = median(without, pairs);
    *over = median(extra, pairs);
}

/* Ours and those of -e, which come first and win. */
static char **make_environment(char *const *words, unsigned n)
{
    size_t have = 0, filled = n;
    char **env;

    while (environ[have])
        have++;
    env = calloc(n + have + 1, sizeof(*env));
    if (!env)
        program_die("no memory for %zu variables", n + have);
    memcpy(env, words, n * sizeof(*env));
    for (size_t i = 0; i < have; i++) {
        size_t name = strcspn(environ[i], "=") + 1;
        bool ours = false;

        for (unsigned k = 0; k < n; k++)
            ours |= strncmp(words[k], environ[i], name) == 0;
        if (!ours)
            env[filled++] = environ[i];
    }
    return env;
}

int main(int argc, char **argv)
{
    char *words[WORDS_MAX], **env;
    unsigned n_words = 0, pairs = 300;
    bool json = false;
    double plain, over;
    int option;

    if (argc == 2 && strcmp(argv[1], nothing) == 0)
        return 0;
    if (argc == 3 && strcmp(argv[1], maps) == 0)
        return look_for(argv[2]);
    while ((option = getopt(argc, argv, "n:e:j")) >= 0) {
        if (option == 'n')
            pairs = (unsigned)program_number('n', optarg, 1, PAIRS_MAX);
        else if (option == 'e' && strchr(optarg, '=') && n_words < WORDS_MAX)
            words[n_words++] = optarg;
        else if (option == 'j')
            json = true;
        else
            program_die("usage: startup [-n pairs] [-e NAME=VALUE]... [-j]");
    }
    env = make_environment(words, n_words);
    for (unsigned i = 0; i < n_words; i++)
        if (strncmp(words[i], "LD_PRELOAD=", 11) == 0)
            start(maps, words[i] + 11, env);
    measure(pairs / 10 + 1, env, &plain, &over); /* warm-up */
    measure(pairs, env, &plain, &over);
    const struct figure figures[] = {{"start_ns", plain},
                                     {"start_over_ns", over}};
    program_print(figures, 2, json);
    free(env);
    return 0;
}
