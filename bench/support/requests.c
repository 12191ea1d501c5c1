#include "bench/support/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/program.h"

enum { HEAD_MAX = REQUESTS_KEY_MAX + 64 }; /* a first line, any of ours */

static void *allocate(size_t n, size_t size)
{
    void *p = calloc(n, size);

    if (!p)
        program_die("no memory for %zu bytes of prepared requests: fewer keys "
                    "(-K) or smaller values (-v)",
                    n * size);
    return p;
}

static void fill_value(char *at, size_t len, unsigned key)
{
    unsigned x = key * 2654435761u + 12345;

    for (size_t i = 0; i < len; i++) {
        x = x * 1664525u + 1013904223u;
        at[i] = (char)('!' + (x >> 16) % 94);
    }
}

/* Puts head, value (unless NULL) and tail at *memory and moves it on. */
static struct bytes compose(char **memory, const char *head, const char *value,
                            size_t value_len, const char *tail)
{
    struct bytes made = {.at = *memory};
    char *at = stpcpy(made.at, head);

    if (value) {
        memcpy(at, value, value_len);
        at += value_len;
    }
    at = stpcpy(at, tail);
    made.len = (size_t)(at - made.at);
    *memory = at + 1;
    return made;
}

void requests_init(struct requests *r, unsigned n, size_t key_len,
                   size_t value_len)
{
    char *value = allocate(1, value_len + 1);
    char head[HEAD_MAX];
    char *at;

    r->n = n;
    r->get = allocate(n, sizeof(*r->get));
    r->set = allocate(n, sizeof(*r->set));
    r->value = allocate(n, sizeof(*r->value));
    r->memory = allocate(n + 1, 3 * HEAD_MAX + 2 * value_len);
    at = r->memory;
    r->stored = compose(&at, "STORED\r\n", NULL, 0, "");
    for (unsigned i = 0; i < n; i++) {
        int digits = (int)key_len - 1;

        fill_value(value, value_len, i);
        snprintf(head, sizeof(head), "get k%0*u\r\n", digits, i);
        r->get[i] = compose(&at, head, NULL, 0, "");
        snprintf(head, sizeof(head), "set k%0*u 0 0 %zu\r\n", digits, i,
                 value_len);
        r->set[i] = compose(&at, head, value, value_len, "\r\n");
        snprintf(head, sizeof(head), "VALUE k%0*u 0 %zu\r\n", digits, i,
                 value_len);
        r->value[i] = compose(&at, head, value, value_len, "\r\nEND\r\n");
    }
    free(value);
}

void requests_fini(struct requests *r)
{
    free(r->memory);
    free(r->value);
    free(r->set);
    free(r->get);
}
