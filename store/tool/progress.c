/* See progress.h. */
#include "store/tool/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define STEPS  1000 /* looks at the clock, about */
#define WIDTH  40

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

void progress_begin(struct progress *progress, const char *what, uint64_t total,
                    bool lines)
{
    const char *term = getenv("TERM");
    *progress = (struct progress){
        .what = what, .total = total, .lines = lines, .started = now_ns()};
    progress->bar =
        !lines && isatty(STDERR_FILENO) && term && strcmp(term, "dumb") != 0;
    progress->shown = progress->started;
    progress->next = progress->bar || lines ? total / STEPS : UINT64_MAX;
}

static unsigned percent_of(const struct progress *progress)
{
    if (progress->total == 0 || progress->done >= progress->total)
        return 100;
    return (unsigned)((double)progress->done * 100 / (double)progress->total);
}

static void draw(const struct progress *progress, uint64_t now)
{
    char bar[WIDTH + 1];
    unsigned percent = percent_of(progress);
    unsigned full = percent * WIDTH / 100;
    uint64_t spent = (now - progress->started) / SECOND;
    memset(bar, '.', WIDTH);
    memset(bar, '#', full);
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%s [%s] %3u%%", progress->what, bar, percent);
    if (percent > 0 && percent < 100)
        fprintf(stderr, ", %llu s left ",
                (unsigned long long)(spent * (100 - percent) / percent));
    fflush(stderr);
}

void progress_show(struct progress *progress)
{
    uint64_t now = now_ns(), step = progress->total / STEPS;
    progress->next = progress->done + (step ? step : 1);
    if (progress->lines && percent_of(progress) >= progress->percent + 10 &&
        progress->done < progress->total) {
        progress->percent = percent_of(progress) / 10 * 10;
        fprintf(stderr, "%s %u%%\n", progress->what, progress->percent);
    }
    if (!progress->bar || now - progress->started < SECOND / 2 ||
        now - progress->shown < SECOND / 10)
        return;
    progress->shown = now;
    draw(progress, now);
}

void progress_end(struct progress *progress)
{
    if (progress->lines)
        fprintf(stderr, "%s 100%%\n", progress->what);
    if (progress->bar && progress->shown != progress->started)
        fprintf(stderr, "\r%*s\r", WIDTH + 40, "");
    fflush(stderr);
    progress->next = UINT64_MAX;
}
