#include "bench/support/requests.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/support/program.h"

enum { HEAD_MAX = REQUESTS_KEY_MAX + 96 }; /* a first line, any of ours */

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

/* First lines of a get, of a set and of a value, for one key. */
static void write_heads(char head[3][HEAD_MAX], enum protocol protocol,
                        unsigned key, size_t key_len, size_t value_len)
{
    char name[REQUESTS_KEY_MAX + 1];

    snprintf(name, sizeof(name), "k%0*u", (int)key_len - 1, key);
    if (protocol == PROTOCOL_MEMCACHED) {
        snprintf(head[0], HEAD_MAX, "get %s\r\n", name);
        snprintf(head[1], HEAD_MAX, "set %s 0 0 %zu\r\n", name, value_len);
        snprintf(head[2], HEAD_MAX, "VALUE %s 0 %zu\r\n", name, value_len);
        return;
    }
    snprintf(head[0], HEAD_MAX, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", key_len,
             name);
    snprintf(head[1], HEAD_MAX, "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n",
             key_len, name, value_len);
    snprintf(head[2], HEAD_MAX, "$%zu\r\n", value_len);
}

void requests_init(struct requests *r, enum protocol protocol, unsigned n,
                   size_t key_len, size_t value_len)
{
    bool redis = protocol == PROTOCOL_REDIS;
    char *value = allocate(1, value_len + 1);
    char head[3][HEAD_MAX];
    char *at;

    r->n = n;
    r->get = allocate(n, sizeof(*r->get));
    r->set = allocate(n, sizeof(*r->set));
    r->value = allocate(n, sizeof(*r->value));
    r->memory = allocate(n + 1, 3 * HEAD_MAX + 2 * value_len);
    at = r->memory;
    r->stored = compose(&at, redis ? "+OK\r\n" : "STORED\r\n", NULL, 0, "");
    for (unsigned i = 0; i < n; i++) {
        fill_value(value, value_len, i);
        write_heads(head, protocol, i, key_len, value_len);
        r->get[i] = compose(&at, head[0], NULL, 0, "");
        r->set[i] = compose(&at, head[1], value, value_len, "\r\n");
        r->value[i] = compose(&at, head[2], value, value_len,
                              redis ? "\r\n" : "\r\nEND\r\n");
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
