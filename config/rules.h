/*
 * Rules: what the operator wants for some connections only.
 *
 * A rule has conditions (program, role, peer, port; an absent one is true)
 * and overrides. The first rule whose conditions all hold decides, the
 * others are not looked at. Pure: no I/O, no state; matching allocates
 * nothing and may be done by any thread while nobody changes the list.
 */
#ifndef CONFIG_RULES_H
#define CONFIG_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct settings;
struct sockaddr;

enum {
    RULES_MAX = 1024,
    RULE_PROGRAM_MAX = 256,
    RULE_NAMES_MAX = 64,
    RULE_ERROR_MAX = 256
};

/* The keys of a rule: bits of rule.set, conditions before overrides. */
enum rule_key {
    RULE_PROGRAM,
    RULE_ROLE,
    RULE_PEER,
    RULE_PORT,
    RULE_ACCELERATE,
    RULE_TRANSPORTS,
    RULE_UPGRADE_AFTER,
    RULE_UPGRADE_BYTES,
    RULE_POLL_USEC,
    RULE_RING_SIZE,
    RULE_KEYS
};

struct rule {
    unsigned set;                    /* 1u << key for every key given */
    char program[RULE_PROGRAM_MAX];  /* glob on the base name */
    bool client;                     /* the role asked for */
    bool ipv6;                       /* what peer holds */
    uint8_t peer[16];                /* network order, IPv4 in the first 4 */
    unsigned prefix;                 /* bits of peer that count */
    uint16_t port_from, port_to;     /* both included */
    uint64_t value[RULE_KEYS];       /* of overrides; accelerate is 0 or 1 */
    char transports[RULE_NAMES_MAX]; /* in order of choice */
};

struct rule_list {
    struct rule *rule; /* n of them, in the order of the file; ours */
    size_t n;
};

/* What one connection gets in the end. */
struct stream_settings {
    bool accelerate;
    const char *transports; /* "shm,verbs"; of the rule or the settings */
    uint64_t upgrade_after; /* socket calls */
    uint64_t upgrade_bytes;
    uint64_t poll_usec;
    uint64_t ring_size; /* bytes, a power of two */
};

/*
 * The first rule that matches, borrowed from the list, or NULL. client: this
 * end called connect(). local and peer are complete addresses of their
 * family; NULL or a family other than IPv4 and IPv6 matches only rules that
 * do not ask. program may be a path; NULL is the empty name.
 */
const struct rule *rules_match(const struct rule_list *list,
                               const char *program, bool client,
                               const struct sockaddr *local,
                               const struct sockaddr *peer);

/*
 * The settings of a connection; rule may be NULL (none matched). What `out`
 * points to belongs to rule and settings.
 */
void rule_apply(const struct rule *rule, const struct settings *settings,
                struct stream_settings *out);

void rules_init(struct rule_list *list);
void rules_fini(struct rule_list *list);

/*
 * Building a list. Each returns 0, -ENOMEM, or -EINVAL and then error holds
 * what was expected, as a piece of a sentence without line end.
 *
 * rule_assign: set one key from its text form; a key given twice is refused.
 * rules_add: append a copy.
 * rules_parse: append all of "program=redis*,port=6379; peer=10.0.0.0/8".
 */
int rule_assign(struct rule *rule, const char *key, const char *text,
                char error[RULE_ERROR_MAX]);
int rules_add(struct rule_list *list, const struct rule *rule,
              char error[RULE_ERROR_MAX]);
int rules_parse(struct rule_list *list, const char *text,
                char error[RULE_ERROR_MAX]);

/* The name of a key as written in a rule: "program", "poll_usec". */
const char *rule_key_name(enum rule_key key);

#endif
