/*
 * RDMA devices: their files, their ports, and the addresses that lead to
 * them. rdma_cm finds a device by the address of a connection, so a port is
 * of use only if a net device of its own has one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "preload/fastsock_doctor.h"
#include "preload/fastsock_tree.h"

#define DEVICES "/sys/class/infiniband"
#define UVERBS  "/sys/class/infiniband_verbs"

enum {
    NETDEVS_MAX = 8,
    ADDRESSES_MAX = 8,
    GIDS_SHOWN = 8,
    GIDS_MAX = 4096,
    PATH_SIZE = 4 * TREE_NAME_MAX + 64,
    NODE_CHANNEL_ADAPTER = 1, /* node_type */
    PORT_INIT = 2,            /* state */
    PORT_ACTIVE = 4
};

struct port {
    struct doctor *d;
    const char *device, *name;
    bool roce;
    unsigned n_netdevs, n_addresses;
    char netdev[NETDEVS_MAX][TREE_NAME_MAX];
    char address[ADDRESSES_MAX][INET6_ADDRSTRLEN];
};

/* A line of a file of the device. */
static int read_device(struct doctor *d, const char *device, char *buf,
                       size_t size, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static int read_device(struct doctor *d, const char *device, char *buf,
                       size_t size, const char *format, ...)
{
    char path[PATH_SIZE];
    int at = snprintf(path, sizeof(path), DEVICES "/%s/", device);
    va_list ap;

    va_start(ap, format);
    vsnprintf(path + at, sizeof(path) - (size_t)at, format, ap);
    va_end(ap);
    return tree_line(d->root, path, buf, size);
}

/* "4: ACTIVE": the number; *word is behind it. */
static int number_of(const char *text, const char **word)
{
    const char *colon = strstr(text, ": ");

    *word = colon != NULL ? colon + 2 : text;
    return *text >= '0' && *text <= '9' ? (int)strtol(text, NULL, 10) : -1;
}

/* ---- net devices and addresses ---- */

static void add_netdev(struct port *p, const char *name)
{
    for (unsigned i = 0; i < p->n_netdevs; i++)
        if (strcmp(p->netdev[i], name) == 0)
            return;
    if (name[0] == '\0' || p->n_netdevs == NETDEVS_MAX)
        return;
    snprintf(p->netdev[p->n_netdevs++], TREE_NAME_MAX, "%s", name);
}

static void add_address(struct port *p, const char *address)
{
    for (unsigned i = 0; i < p->n_addresses; i++)
        if (strcmp(p->address[i], address) == 0)
            return;
    if (p->n_addresses < ADDRESSES_MAX)
        snprintf(p->address[p->n_addresses++], INET6_ADDRSTRLEN, "%s", address);
}

/* A GID of RoCE is an address of its net device, but for fe80:: ones. */
static void show_gid(const struct in6_addr *gid, char buf[INET6_ADDRSTRLEN])
{
    if (IN6_IS_ADDR_V4MAPPED(gid))
        inet_ntop(AF_INET, &gid->s6_addr[12], buf, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, gid, buf, INET6_ADDRSTRLEN);
}

/* Net devices of the same card; one with a number belongs to that port. */
static void take_netdevs(struct port *p)
{
    char path[PATH_SIZE], text[TREE_NAME_MAX], *end;
    struct tree_names names;

    if (read_device(p->d, p->device, text, sizeof(text), "parent") > 0)
        add_netdev(p, text);
    snprintf(path, sizeof(path), DEVICES "/%s/device/net", p->device);
    tree_list(p->d->root, path, &names);
    for (unsigned i = 0; i < names.n; i++) {
        long number = 0;

        if (names.n > 1 &&
            read_device(p->d, p->device, text, sizeof(text),
                        "device/net/%s/dev_port", names.name[i]) > 0)
            number = strtol(text, &end, 10) + 1;
        if (number == 0 || number == strtol(p->name, &end, 10))
            add_netdev(p, names.name[i]);
    }
}

/* 0; -ENOENT: the table ends here. */
static int take_gid(struct port *p, unsigned idx, unsigned *shown)
{
    char text[64], type[32], netdev[TREE_NAME_MAX], name[INET6_ADDRSTRLEN];
    struct in6_addr gid;
    int rc;

    rc = read_device(p->d, p->device, text, sizeof(text), "ports/%s/gids/%u",
                     p->name, idx);
    if (rc == -ENOENT || inet_pton(AF_INET6, text, &gid) != 1 ||
        IN6_IS_ADDR_UNSPECIFIED(&gid))
        return rc == -ENOENT ? rc : 0;
    read_device(p->d, p->device, type, sizeof(type),
                "ports/%s/gid_attrs/types/%u", p->name, idx);
    read_device(p->d, p->device, netdev, sizeof(netdev),
                "ports/%s/gid_attrs/ndevs/%u", p->name, idx);
    add_netdev(p, netdev);
    show_gid(&gid, name);
    if (p->roce && !IN6_IS_ADDR_LINKLOCAL(&gid))
        add_address(p, name);
    if ((*shown)++ < GIDS_SHOWN)
        doctor_say(p->d, DOCTOR_OK, "gid", "%s/%s gid %u is %s%s%s%s%s",
                   p->device, p->name, idx, text, type[0] != '\0' ? ", " : "",
                   type, netdev[0] != '\0' ? ", of " : "", netdev);
    return 0;
}

/* By number: a device may have a thousand places, most of them empty. */
static void take_gids(struct port *p)
{
    unsigned shown = 0;

    for (unsigned i = 0; i < GIDS_MAX; i++)
        if (take_gid(p, i, &shown) < 0)
            break;
    if (shown > GIDS_SHOWN)
        doctor_say(p->d, DOCTOR_OK, "gid", "%s/%s has %u more", p->device,
                   p->name, shown - GIDS_SHOWN);
    else if (shown == 0)
        doctor_say(p->d, DOCTOR_HINT, "gid",
                   "%s/%s has none: its net device has to be up, ip link set "
                   "%s up",
                   p->device, p->name,
                   p->n_netdevs > 0 ? p->netdev[0] : "NAME");
}

static bool has_netdev(const struct port *p, const char *name)
{
    for (unsigned i = 0; i < p->n_netdevs; i++)
        if (strcmp(p->netdev[i], name) == 0)
            return true;
    return false;
}

/* This machine's; a saved tree tells only what GIDs say. */
static void take_addresses(struct port *p)
{
    struct ifaddrs *list;
    char name[INET6_ADDRSTRLEN];

    if (!doctor_live(p->d) || getifaddrs(&list) < 0)
        return;
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        const struct sockaddr_in6 *in6 = (const void *)i->ifa_addr;
        const struct sockaddr_in *in = (const void *)i->ifa_addr;

        if (i->ifa_addr == NULL || !has_netdev(p, i->ifa_name))
            continue;
        if (in->sin_family == AF_INET)
            inet_ntop(AF_INET, &in->sin_addr, name, sizeof(name));
        else if (in->sin_family == AF_INET6 &&
                 !IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr))
            inet_ntop(AF_INET6, &in6->sin6_addr, name, sizeof(name));
        else
            continue;
        add_address(p, name);
    }
    freeifaddrs(list);
}

/* ---- a port ---- */

static void say_down(struct port *p, int state, const char *word,
                     const char *netdevs)
{
    if (state == PORT_INIT && !p->roce)
        doctor_say(p->d, DOCTOR_MISSING, "port",
                   "%s/%s is %s: no subnet manager has configured it; run one "
                   "in the network, apt-get install opensm",
                   p->device, p->name, word);
    else
        doctor_say(p->d, DOCTOR_MISSING, "port",
                   "%s/%s is %s: look at the cable, and ip link set %s up",
                   p->device, p->name, word[0] != '\0' ? word : "not readable",
                   netdevs[0] != '\0' ? netdevs : "NAME");
}

/* Its addresses go to `addresses`; NULL: usable, else why not. */
static const char *examine_port(struct port *p, char *addresses, size_t size)
{
    char state[64], layer[32], rate[64], netdevs[DOCTOR_LIST_MAX] = "";
    const char *word;
    int number;

    read_device(p->d, p->device, state, sizeof(state), "ports/%s/state",
                p->name);
    read_device(p->d, p->device, layer, sizeof(layer), "ports/%s/link_layer",
                p->name);
    read_device(p->d, p->device, rate, sizeof(rate), "ports/%s/rate", p->name);
    p->roce = strcmp(layer, "Ethernet") == 0;
    take_netdevs(p);
    take_gids(p);
    take_addresses(p);
    for (unsigned i = 0; i < p->n_netdevs; i++)
        doctor_list(netdevs, sizeof(netdevs), "%s", p->netdev[i]);
    number = number_of(state, &word);
    if (number != PORT_ACTIVE) {
        say_down(p, number, word, p->n_netdevs > 0 ? p->netdev[0] : "");
        return "its port is not active";
    }
    if (p->n_addresses == 0) {
        doctor_say(p->d, DOCTOR_MISSING, "port",
                   "%s/%s is active, but no address leads to it: ip address "
                   "add ADDRESS dev %s",
                   p->device, p->name,
                   p->n_netdevs > 0 ? p->netdev[0] : "NAME");
        return "its port has no address";
    }
    for (unsigned i = 0; i < p->n_addresses; i++)
        doctor_list(addresses, size, "%s", p->address[i]);
    doctor_say(p->d, DOCTOR_OK, "port",
               "%s/%s is active, %s, %s, net device %s, reached by %s",
               p->device, p->name, layer, rate[0] != '\0' ? rate : "no rate",
               netdevs[0] != '\0' ? netdevs : "unknown", addresses);
    return NULL;
}

/* ---- a device ---- */

static const char *examine_file(struct doctor *d, const char *device)
{
    char path[PATH_SIZE], owner[TREE_NAME_MAX], name[TREE_NAME_MAX] = "";
    struct tree_names names;
    int rc;

    tree_list(d->root, UVERBS, &names);
    for (unsigned i = 0; i < names.n && name[0] == '\0'; i++) {
        snprintf(path, sizeof(path), UVERBS "/%s/ibdev", names.name[i]);
        if (tree_line(d->root, path, owner, sizeof(owner)) > 0 &&
            strcmp(owner, device) == 0)
            memcpy(name, names.name[i], sizeof(name));
    }
    if (name[0] == '\0') {
        doctor_say(d, DOCTOR_MISSING, "access",
                   "%s has no device file: modprobe ib_uverbs", device);
        return "it has no device file";
    }
    snprintf(path, sizeof(path), "/dev/infiniband/%s", name);
    rc = tree_may_use(d->root, path);
    if (rc == 0) {
        doctor_say(d, DOCTOR_OK, "access", "%s may be used, for %s", path,
                   device);
        return NULL;
    }
    doctor_say(d, DOCTOR_MISSING, "access",
               rc == -ENOENT ? "%s of %s is not there: in a container, start "
                               "it with --device=%s; else apt-get install "
                               "rdma-core"
                             : "%s of %s may not be used: the package "
                               "rdma-core has the udev rule that lets "
                               "everybody, or as root, chmod 666 %s",
               path, device, path);
    return rc == -ENOENT ? "its device file is not there"
                         : "its device file may not be used";
}

/* NULL: usable, and then it is in the verdict's list. */
static const char *examine_device(struct doctor *d, const char *device)
{
    char path[PATH_SIZE], type[64], addresses[DOCTOR_LIST_MAX] = "";
    const char *why, *word, *port_why = "it has no port";
    struct tree_names names;
    bool active = false;

    if (read_device(d, device, type, sizeof(type), "node_type") > 0 &&
        number_of(type, &word) != NODE_CHANNEL_ADAPTER) {
        doctor_say(d, DOCTOR_MISSING, "device",
                   "%s is of a kind (%s) that has no reliable connections "
                   "with immediate data: use InfiniBand or RoCE",
                   device, type);
        return "it is neither InfiniBand nor RoCE";
    }
    why = examine_file(d, device);
    snprintf(path, sizeof(path), DEVICES "/%s/ports", device);
    tree_list(d->root, path, &names);
    for (unsigned i = 0; i < names.n; i++) {
        struct port port = {.d = d, .device = device, .name = names.name[i]};

        port_why = examine_port(&port, addresses, sizeof(addresses));
        active |= port_why == NULL;
    }
    if (why == NULL && !active)
        why = port_why;
    if (why == NULL)
        doctor_list(d->verbs.through, sizeof(d->verbs.through), "%s (%s)",
                    device, addresses);
    return why;
}

static void say_none(struct doctor *d)
{
    doctor_say(d, DOCTOR_MISSING, "device",
               "no RDMA device in " DEVICES ": a network card for RoCE or "
               "InfiniBand and its driver; to try it without one, as root: "
               "modprobe rdma_rxe && rdma link add rxe0 type rxe netdev eth0 "
               "(apt-get install iproute2 rdma-core)");
    doctor_lacks(&d->verbs, "no device");
}

void doctor_examine_devices(struct doctor *d)
{
    char first[DOCTOR_WHY_MAX] = "";
    struct tree_names names;

    tree_list(d->root, DEVICES, &names);
    if (names.n == 0) {
        say_none(d);
        return;
    }
    for (unsigned i = 0; i < names.n; i++) {
        const char *why = examine_device(d, names.name[i]);

        if (why != NULL && first[0] == '\0')
            snprintf(first, sizeof(first), "%s: %s", names.name[i], why);
    }
    if (d->verbs.through[0] == '\0')
        doctor_lacks(&d->verbs, "%s", first);
}
