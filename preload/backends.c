/*
 * See backends.h.
 */
#include "preload/backends.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "config/log.h"
#include "preload/process.h"
#include "transport/backend/shm.h"
#include "transport/kernel_calls.h"

struct known {
    const char *name;
    const struct backend_ops *ops; /* NULL: a module, not opened yet */
    const char *devices;           /* its devices are in this folder */
    const char *package;           /* of a module: what it may lack */
    struct backend *backend;       /* NULL: not made yet */
    enum reason why_not;           /* final */
};

static struct known known[] = {
    {.name = "shm", .ops = &fastsock_backend_shm},
    {.name = "verbs",
     .devices = "/sys/class/infiniband",
     .package = "rdma-core, libibverbs1 and librdmacm1"},
};

enum { KNOWN = sizeof(known) / sizeof(known[0]) };

static struct {
    struct loop *loop;
    struct backend_config config;
    const struct link_events *events;
} with;

/* Where the library itself is; modules are beside it. */
static char folder[SETTINGS_PATH_MAX];

bool backends_between_hosts;

/* Is `name` one of the list? */
static bool listed(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = list; *at != '\0'; at += *at == ',') {
        size_t n = strcspn(at, ",");

        if (n == len && memcmp(at, name, n) == 0)
            return true;
        at += n;
    }
    return false;
}

static bool wanted(const char *name)
{
    const struct rule_list *rules = &process.settings.rules;

    if (listed(process.settings.transports, name))
        return true;
    for (size_t i = 0; i < rules->n; i++)
        if ((rules->rule[i].set & 1u << RULE_TRANSPORTS) &&
            listed(rules->rule[i].transports, name))
            return true;
    return false;
}

static bool has_entries(const char *path)
{
    char buf[1024];
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path,
                          O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool found = false;
    long n;

    if (fd < 0)
        return false;
    while (!found && (n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0)
        for (long at = 0; at < n;) {
            struct dirent64 *d = (struct dirent64 *)(buf + at);

            found |= d->d_name[0] != '.';
            at += d->d_reclen;
        }
    kernel_close(fd);
    return found;
}

/*
 * Of the library, if none is given. An absolute path, since the application
 * may change its folder.
 */
static bool find_folder(const char *given)
{
    Dl_info info;
    char *slash;

    if (given != NULL)
        return realpath(given, folder) != NULL;
    if (dladdr((void *)&backends_between_hosts, &info) == 0 ||
        realpath(info.dli_fname, folder) == NULL)
        return false;
    slash = strrchr(folder, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}

void backends_look_in(const char *root, const char *modules, bool secure)
{
    char devices[SETTINGS_PATH_MAX];

    for (int i = 0; i < KNOWN; i++) {
        struct known *k = &known[i];

        if (k->devices == NULL)
            continue;
        snprintf(devices, sizeof(devices), "%s%s", root, k->devices);
        if (!wanted(k->name) || !has_entries(devices))
            k->why_not = REASON_NO_DEVICE;
        else if (secure || !find_folder(modules))
            k->why_not = REASON_NO_MODULE;
        else
            backends_between_hosts = true;
    }
}

void backends_look(void)
{
    backends_look_in("", NULL, getauxval(AT_SECURE) != 0);
}

void backends_start(struct loop *loop, const struct backend_config *config,
                    const struct link_events *events)
{
    with.loop = loop;
    with.config = *config;
    with.events = events;
}

/* Logs why it cannot be used and what to do; the handle is closed then. */
static void open_module(struct known *k)
{
    char path[SETTINGS_PATH_MAX + 64], name[64];
    const struct backend_ops *ops;
    void *handle;

    snprintf(path, sizeof(path), "%s/libfastsock-%s.so", folder, k->name);
    snprintf(name, sizeof(name), "fastsock_backend_%s", k->name);
    k->why_not = REASON_NO_MODULE;
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL) {
        log_warn("%s cannot be loaded (%s): install it beside libfastsock.so, "
                 "and %s, or leave %s out of the setting transports",
                 path, dlerror(), k->package, k->name);
        return;
    }
    ops = dlsym(handle, name);
    if (ops == NULL || ops->version != BACKEND_VERSION) {
        log_warn("%s is of another release: install the one that came with "
                 "this libfastsock.so",
                 path);
        dlclose(handle);
        return;
    }
    k->why_not = REASON_NONE;
    k->ops = ops;
}

static bool is_loopback(const struct connection_name *name)
{
    static const uint8_t loopback6[16] = {[15] = 1};

    return name->family == 4 ? name->server[0] == 127
                             : memcmp(name->server, loopback6, 16) == 0;
}

static struct backend *backend_of(struct known *k,
                                  const struct connection_name *name,
                                  enum reason *why)
{
    int rc;

    if (k->devices != NULL && k->why_not == REASON_NONE && is_loopback(name)) {
        *why = REASON_NO_ROUTE;
        return NULL;
    }
    if (k->backend == NULL && k->why_not == REASON_NONE && k->ops == NULL)
        open_module(k);
    if (k->backend == NULL && k->why_not == REASON_NONE) {
        rc = k->ops->create(with.loop, &with.config, with.events, &k->backend);
        if (rc < 0) {
            k->backend = NULL;
            k->why_not = rc == -ENOMEM ? REASON_NO_MEMORY : REASON_NO_DEVICE;
            log_warn("the transport %s could not be started (%s): 'fastsock "
                     "doctor' tells what it lacks",
                     k->name, strerror(-rc));
        }
    }
    *why = k->why_not;
    return k->backend;
}

struct backend *backends_next(const char **at,
                              const struct connection_name *name,
                              enum reason *why)
{
    size_t n = strcspn(*at, ",");
    const char *word = *at;

    *why = REASON_NONE;
    if (n == 0)
        return NULL;
    *at += n + (word[n] == ',');
    for (int i = 0; i < KNOWN; i++)
        if (strlen(known[i].name) == n && memcmp(known[i].name, word, n) == 0)
            return backend_of(&known[i], name, why);
    *why = REASON_OTHER_HOST;
    return NULL;
}

bool backend_needs_proof(const struct backend *backend)
{
    for (int i = 0; i < KNOWN; i++)
        if (known[i].backend == backend)
            return known[i].devices != NULL;
    return false;
}

void backends_after_fork(void)
{
    for (int i = 0; i < KNOWN; i++) {
        /* The libraries below a module know descriptors of the parent's. */
        if (known[i].backend != NULL && known[i].devices != NULL)
            known[i].why_not = REASON_FORK;
        known[i].backend = NULL;
    }
}
