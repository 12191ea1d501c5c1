/*
 * See fastsock_text.h. Nothing here knows what it prints.
 */
#include "preload/fastsock_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)

const char *text_name(int family, const struct segment_name *name,
                      char buf[TEXT_NAME_MAX])
{
    char address[INET6_ADDRSTRLEN] = "?";

    if (family == 0)
        return strcpy(buf, "?");
    inet_ntop(family == 4 ? AF_INET : AF_INET6, name->address, address,
              sizeof(address));
    snprintf(buf, TEXT_NAME_MAX, family == 4 ? "%s:%u" : "[%s]:%u", address,
             name->port);
    return buf;
}

const char *text_since(uint64_t ns, char buf[TEXT_SPAN_MAX])
{
    struct timespec now;
    uint64_t now_ns, s;

    clock_gettime(CLOCK_MONOTONIC, &now);
    now_ns = (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
    if (ns > now_ns)
        return strcpy(buf, "?");
    s = (now_ns - ns) / SECOND;
    if (s < 10)
        snprintf(buf, TEXT_SPAN_MAX, "%" PRIu64 ".%us", s,
                 (unsigned)((now_ns - ns) % SECOND / (SECOND / 10)));
    else if (s < 60)
        snprintf(buf, TEXT_SPAN_MAX, "%" PRIu64 "s", s);
    else if (s < 3600)
        snprintf(buf, TEXT_SPAN_MAX, "%um%02us", (unsigned)(s / 60),
                 (unsigned)(s % 60));
    else if (s < 86400)
        snprintf(buf, TEXT_SPAN_MAX, "%uh%02um", (unsigned)(s / 3600),
                 (unsigned)(s / 60 % 60));
    else
        snprintf(buf, TEXT_SPAN_MAX, "%" PRIu64 "d%02uh", s / 86400,
                 (unsigned)(s / 3600 % 24));
    return buf;
}

void text_json(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < ' ' || c > '~')
            fprintf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else
            putc(c, out);
    }
    putc('"', out);
}

void text_table_init(struct text_table *table, unsigned columns, unsigned right)
{
    *table = (struct text_table){.columns = columns, .right = right};
}

void text_table_fini(struct text_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        free(table->cell[i]);
    free(table->cell);
}

void text_cell(struct text_table *table, const char *format, ...)
{
    size_t room = table->room == 0 ? 64 : table->room * 2;
    char **cell;
    va_list ap;
    int rc;

    if (table->n == table->room && !table->failed) {
        cell = realloc(table->cell, room * sizeof(*cell));
        if (cell == NULL) {
            table->failed = true;
        } else {
            table->cell = cell;
            table->room = room;
        }
    }
    if (table->failed)
        return;
    va_start(ap, format);
    rc = vasprintf(&table->cell[table->n], format, ap);
    va_end(ap);
    if (rc < 0)
        table->failed = true;
    else
        table->n++;
}

int text_table_print(const struct text_table *table, FILE *out)
{
    unsigned columns = table->columns;
    int width[32] = {0};

    if (table->failed || columns > 32)
        return -ENOMEM;
    for (size_t i = 0; i < table->n; i++) {
        int len = (int)strlen(table->cell[i]);

        if (len > width[i % columns])
            width[i % columns] = len;
    }
    for (size_t i = 0; i < table->n; i++) {
        unsigned at = (unsigned)(i % columns);
        bool last = at + 1 == columns;

        if ((table->right >> at & 1) != 0)
            fprintf(out, "%*s", width[at], table->cell[i]);
        else
            fprintf(out, "%-*s", last ? 0 : width[at], table->cell[i]);
        fputs(last ? "\n" : "  ", out);
    }
    return 0;
}

void text_error(const char *command, const char *format, ...)
{
    va_list ap;

    fflush(stdout);
    fprintf(stderr, "fastsock%s%s: ", command[0] != '\0' ? " " : "", command);
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    putc('\n', stderr);
}
