/*
 * Rules: matching.
 *
 * Addresses are compared in one form: an IPv4-mapped IPv6 address is an IPv4
 * address wherever it appears, so 10.0.0.0/8 holds for both and ::/0 is
 * IPv6 only. rules_parse.c builds the lists.
 */
#include "config/rules.h"

#include "config/settings_table.h"

#include <fnmatch.h>
#include <netinet/in.h>
#include <string.h>

struct address {
    bool known;
    bool ipv6;
    uint8_t byte[16];
    uint16_t port;
};

static bool rule_has(const struct rule *rule, enum rule_key key)
{
    return (rule->set & 1u << key) != 0;
}

bool address_unmap(uint8_t byte[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    if (memcmp(byte, mapped, sizeof(mapped)) != 0)
        return false;
    memmove(byte, byte + 12, 4);
    memset(byte + 4, 0, 12);
    return true;
}

static struct address address_of(const struct sockaddr *sa)
{
    struct address a = {.known = false};

    if (sa != NULL && sa->sa_family == AF_INET) {
        struct sockaddr_in in;

        memcpy(&in, sa, sizeof(in));
        memcpy(a.byte, &in.sin_addr, 4);
        a.port = ntohs(in.sin_port);
        a.known = true;
    } else if (sa != NULL && sa->sa_family == AF_INET6) {
        struct sockaddr_in6 in6;

        memcpy(&in6, sa, sizeof(in6));
        memcpy(a.byte, &in6.sin6_addr, 16);
        a.port = ntohs(in6.sin6_port);
        a.ipv6 = !address_unmap(a.byte);
        a.known = true;
    }
    return a;
}

static bool prefix_holds(const uint8_t *net, const uint8_t *byte, unsigned n)
{
    unsigned whole = n / 8, rest = n % 8;

    if (memcmp(net, byte, whole) != 0)
        return false;
    return rest == 0 || ((net[whole] ^ byte[whole]) >> (8 - rest)) == 0;
}

static bool rule_holds(const struct rule *rule, const char *program,
                       bool client, const struct address *peer,
                       const struct address *server)
{
    if (rule_has(rule, RULE_ROLE) && rule->client != client)
        return false;
    if (rule_has(rule, RULE_PORT) &&
        (!server->known || server->port < rule->port_from ||
         server->port > rule->port_to))
        return false;
    if (rule_has(rule, RULE_PEER) &&
        (!peer->known || peer->ipv6 != rule->ipv6 ||
         !prefix_holds(rule->peer, peer->byte, rule->prefix)))
        return false;
    return !rule_has(rule, RULE_PROGRAM) ||
           fnmatch(rule->program, program, 0) == 0;
}

const struct rule *rules_match(const struct rule_list *list,
                               const char *program, bool client,
                               const struct sockaddr *local,
                               const struct sockaddr *peer)
{
    struct address far = address_of(peer);
    struct address server = client ? far : address_of(local);
    const char *slash;

    if (program == NULL)
        program = "";
    slash = strrchr(program, '/');
    if (slash != NULL)
        program = slash + 1;
    for (size_t i = 0; i < list->n; i++)
        if (rule_holds(&list->rule[i], program, client, &far, &server))
            return &list->rule[i];
    return NULL;
}

static uint64_t override_or(const struct rule *rule, enum rule_key key,
                            uint64_t otherwise)
{
    return rule != NULL && rule_has(rule, key) ? rule->value[key] : otherwise;
}

void rule_apply(const struct rule *rule, const struct settings *settings,
                struct stream_settings *out)
{
    out->accelerate =
        override_or(rule, RULE_ACCELERATE, settings->accelerate) != 0;
    out->transports = rule != NULL && rule_has(rule, RULE_TRANSPORTS)
                          ? rule->transports
                          : settings->transports;
    out->upgrade_after =
        override_or(rule, RULE_UPGRADE_AFTER, settings->upgrade_after);
    out->upgrade_bytes =
        override_or(rule, RULE_UPGRADE_BYTES, settings->upgrade_bytes);
    out->poll_usec = override_or(rule, RULE_POLL_USEC, settings->poll_usec);
    out->ring_size = override_or(rule, RULE_RING_SIZE, settings->ring_size);
}
