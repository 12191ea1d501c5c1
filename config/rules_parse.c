/*
 * Rules: how a list is built, from the file and the environment alike.
 *
 * One rule is a set of keys with values as text. Ranges of overrides are
 * those of the settings of the same name.
 */
#include "config/rules.h"

#include "config/settings_table.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const key_name[RULE_KEYS] = {
    [RULE_PROGRAM] = "program",
    [RULE_ROLE] = "role",
    [RULE_PEER] = "peer",
    [RULE_PORT] = "port",
    [RULE_ACCELERATE] = "accelerate",
    [RULE_TRANSPORTS] = "transports",
    [RULE_UPGRADE_AFTER] = "upgrade_after",
    [RULE_UPGRADE_BYTES] = "upgrade_bytes",
    [RULE_POLL_USEC] = "poll_usec",
    [RULE_RING_SIZE] = "ring_size",
};

const char *rule_key_name(enum rule_key key)
{
    return key_name[key];
}

void rules_init(struct rule_list *list)
{
    list->rule = NULL;
    list->n = 0;
}

void rules_fini(struct rule_list *list)
{
    free(list->rule);
    rules_init(list);
}

static int refuse(const char *expected, const char *text,
                  char error[RULE_ERROR_MAX])
{
    snprintf(error, RULE_ERROR_MAX, "expected %s, got '%.60s'", expected, text);
    return -EINVAL;
}

static int program_parse(struct rule *rule, const char *text,
                         char error[RULE_ERROR_MAX])
{
    size_t len = strlen(text);

    if (len == 0 || len >= sizeof(rule->program) || strchr(text, '/') != NULL)
        return refuse("the base name of a program, * ? and [] allowed, "
                      "without '/'",
                      text, error);
    memcpy(rule->program, text, len + 1);
    return 0;
}

static int role_parse(struct rule *rule, const char *text,
                      char error[RULE_ERROR_MAX])
{
    if (strcmp(text, "client") != 0 && strcmp(text, "server") != 0)
        return refuse("client or server", text, error);
    rule->client = text[0] == 'c';
    return 0;
}

/* At most limit; digits only, up to end. */
static bool small_number(const char *text, const char *end, unsigned limit,
                         unsigned *out)
{
    unsigned n = 0;

    if (text == end || end - text > 5)
        return false;
    for (; text < end; text++) {
        if (*text < '0' || *text > '9')
            return false;
        n = n * 10 + (unsigned)(*text - '0');
    }
    *out = n;
    return n <= limit;
}

static bool bits_beyond(const uint8_t *byte, unsigned prefix, unsigned bits)
{
    for (unsigned i = prefix; i < bits; i++)
        if ((byte[i / 8] & 0x80 >> i % 8) != 0)
            return true;
    return false;
}

static int peer_parse(struct rule *rule, const char *text,
                      char error[RULE_ERROR_MAX])
{
    static const char expected[] =
        "an IPv4 or IPv6 address, or a network like 10.0.0.0/8";
    char host[INET6_ADDRSTRLEN];
    uint8_t byte[16] = {0};
    size_t len = strcspn(text, "/");
    unsigned bits, prefix;

    if (len >= sizeof(host))
        return refuse(expected, text, error);
    memcpy(host, text, len);
    host[len] = '\0';
    if (inet_pton(AF_INET, host, byte) == 1)
        bits = 32;
    else if (inet_pton(AF_INET6, host, byte) == 1)
        bits = 128;
    else
        return refuse(expected, text, error);
    prefix = bits;
    if (text[len] == '/' &&
        !small_number(text + len + 1, strchr(text, '\0'), bits, &prefix))
        return refuse(expected, text, error);
    if (bits_beyond(byte, prefix, bits))
        return refuse("a network without bits beyond its length, like "
                      "10.0.0.0/8",
                      text, error);
    rule->ipv6 = bits == 128;
    if (rule->ipv6 && prefix >= 96 && address_unmap(byte)) {
        rule->ipv6 = false;
        prefix -= 96;
    }
    memcpy(rule->peer, byte, sizeof(rule->peer));
    rule->prefix = prefix;
    return 0;
}

static int port_parse(struct rule *rule, const char *text,
                      char error[RULE_ERROR_MAX])
{
    const char *end = strchr(text, '\0');
    const char *dash = strchr(text, '-');
    unsigned from, to;

    if (!small_number(text, dash != NULL ? dash : end, 65535, &from))
        goto refused;
    to = from;
    if (dash != NULL && !small_number(dash + 1, end, 65535, &to))
        goto refused;
    if (from == 0 || to < from)
        goto refused;
    rule->port_from = (uint16_t)from;
    rule->port_to = (uint16_t)to;
    return 0;
refused:
    return refuse("a port 1 to 65535, or a range like 7000-7999", text, error);
}

/* "+" may stand for the comma, which separates keys in the environment. */
static int transports_parse(struct rule *rule, const char *text,
                            char error[RULE_ERROR_MAX])
{
    char names[RULE_PROGRAM_MAX];
    size_t len = strlen(text);

    if (len >= sizeof(names))
        return refuse("a short list of transports", text, error);
    for (size_t i = 0; i <= len; i++)
        names[i] = (char)(text[i] == '+' ? ',' : text[i]);
    return setting_names(setting_find("transports"), names, rule->transports,
                         error);
}

static int key_parse(struct rule *rule, enum rule_key key, const char *text,
                     char error[RULE_ERROR_MAX])
{
    switch (key) {
    case RULE_PROGRAM:
        return program_parse(rule, text, error);
    case RULE_ROLE:
        return role_parse(rule, text, error);
    case RULE_PEER:
        return peer_parse(rule, text, error);
    case RULE_PORT:
        return port_parse(rule, text, error);
    case RULE_TRANSPORTS:
        return transports_parse(rule, text, error);
    default:
        return setting_number(setting_find(key_name[key]), text,
                              &rule->value[key], error);
    }
}

int rule_assign(struct rule *rule, const char *key, const char *text,
                char error[RULE_ERROR_MAX])
{
    char reason[RULE_ERROR_MAX];
    int k = 0;

    while (k < RULE_KEYS && strcmp(key_name[k], key) != 0)
        k++;
    if (k == RULE_KEYS)
        return refuse("program, role, peer, port, accelerate, transports, "
                      "upgrade_after, upgrade_bytes, poll_usec or ring_size",
                      key, error);
    if ((rule->set & 1u << k) != 0) {
        snprintf(error, RULE_ERROR_MAX,
                 "expected %s once in a rule, got it "
                 "twice",
                 key);
        return -EINVAL;
    }
    if (key_parse(rule, (enum rule_key)k, text, reason) < 0) {
        snprintf(error, RULE_ERROR_MAX, "%s: %.*s", key, RULE_ERROR_MAX - 20,
                 reason);
        return -EINVAL;
    }
    rule->set |= 1u << k;
    return 0;
}

int rules_add(struct rule_list *list, const struct rule *rule,
              char error[RULE_ERROR_MAX])
{
    struct rule *grown;

    if (list->n == RULES_MAX) {
        snprintf(error, RULE_ERROR_MAX, "expected at most %d rules", RULES_MAX);
        return -EINVAL;
    }
    grown = realloc(list->rule, (list->n + 1) * sizeof(*grown));
    if (grown == NULL) {
        snprintf(error, RULE_ERROR_MAX,
                 "expected memory for %zu rules, got "
                 "none",
                 list->n + 1);
        return -ENOMEM;
    }
    grown[list->n++] = *rule;
    list->rule = grown;
    return 0;
}

/* Copies text[0..len) without the blanks around it; false if too long. */
static bool piece_copy(const char *text, size_t len, char *out, size_t size)
{
    while (len > 0 && text[0] == ' ') {
        text++;
        len--;
    }
    while (len > 0 && text[len - 1] == ' ')
        len--;
    if (len >= size)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

/* One "key=value" of len bytes. */
static int pair_parse(struct rule *rule, const char *text, size_t len,
                      char error[RULE_ERROR_MAX])
{
    char key[32], value[RULE_PROGRAM_MAX];
    const char *equals = memchr(text, '=', len);

    if (equals == NULL ||
        !piece_copy(text, (size_t)(equals - text), key, sizeof(key)) ||
        !piece_copy(equals + 1, len - (size_t)(equals - text) - 1, value,
                    sizeof(value)) ||
        key[0] == '\0') {
        snprintf(error, RULE_ERROR_MAX,
                 "expected key=value separated by commas, rules separated by "
                 "';', got '%.*s'",
                 (int)(len < 60 ? len : 60), text);
        return -EINVAL;
    }
    return rule_assign(rule, key, value, error);
}

/* text[0..len) is one rule, not blank. */
static int rule_parse(struct rule *rule, const char *text, size_t len,
                      char error[RULE_ERROR_MAX])
{
    const char *end = text + len;

    memset(rule, 0, sizeof(*rule));
    for (;;) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        const char *stop = comma != NULL ? comma : end;
        int rc = pair_parse(rule, text, (size_t)(stop - text), error);

        if (rc < 0 || comma == NULL)
            return rc;
        text = comma + 1;
    }
}

int rules_parse(struct rule_list *list, const char *text,
                char error[RULE_ERROR_MAX])
{
    for (;;) {
        size_t len = strcspn(text, ";");
        size_t blank = strspn(text, " ");
        struct rule rule;
        int rc = 0;

        if (blank < len)
            rc = rule_parse(&rule, text, len, error);
        if (rc == 0 && blank < len)
            rc = rules_add(list, &rule, error);
        if (rc < 0 || text[len] == '\0')
            return rc;
        text += len + 1;
    }
}
