/*
 * Levelled lines on standard error.
 *
 * log_line() allocates nothing, takes no lock and makes one write(2) system
 * call per line past any interposed name, so it may be called from inside an
 * intercepted libc call, from a signal handler and after fork. Lines above
 * the set level cost one load. errno is kept.
 */
#ifndef CONFIG_LOG_H
#define CONFIG_LOG_H

#include <stdarg.h>

enum log_level { LOG_NONE, LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

extern enum log_level log_threshold; /* set once at start-up by log_init() */

/* name: put before each line ("fastsock", "kvserver"); borrowed for ever. */
void log_init(const char *name, enum log_level threshold);

void log_line(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_at(level, ...)                                                     \
    do {                                                                       \
        if ((level) <= log_threshold)                                          \
            log_line((level), __VA_ARGS__);                                    \
    } while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
