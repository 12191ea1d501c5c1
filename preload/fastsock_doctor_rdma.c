/*
 * What the RDMA transport needs besides a device: kernel modules, device
 * files, the module and the libraries under it, memory that may be locked.
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "preload/fastsock_doctor.h"
#include "preload/fastsock_library.h"
#include "preload/fastsock_tree.h"
#include "transport/backend.h"

#define MODULE     "libfastsock-verbs.so"
#define CONNECTION "/dev/infiniband/rdma_cm"

/* ---- the kernel ---- */

/* What is built into the kernel shows by its device only. */
static void say_kernel_module(struct doctor *d, const char *name,
                              const char *sign)
{
    char path[64];

    snprintf(path, sizeof(path), "/sys/module/%s", name);
    if (tree_has(d->root, path) || tree_has(d->root, sign)) {
        doctor_say(d, DOCTOR_OK, "kernel", "%s is loaded", name);
        return;
    }
    doctor_say(d, DOCTOR_MISSING, "kernel",
               "%s is not loaded: as root, modprobe %s; for each start, write "
               "its name into /etc/modules-load.d/rdma.conf",
               name, name);
    doctor_lacks(&d->verbs, "the kernel module %s is not loaded", name);
}

static void say_connection(struct doctor *d)
{
    int rc = tree_may_use(d->root, CONNECTION);

    if (rc == 0) {
        doctor_say(d, DOCTOR_OK, "access", CONNECTION " may be used");
        return;
    }
    doctor_say(d, DOCTOR_MISSING, "access",
               rc == -ENOENT
                   ? CONNECTION " is not there: modprobe rdma_ucm; in a "
                                "container, start it with "
                                "--device=" CONNECTION
                   : CONNECTION " may not be used: the package rdma-core has "
                                "the udev rule that lets everybody, or as "
                                "root, chmod 666 " CONNECTION);
    doctor_lacks(&d->verbs, CONNECTION ": %s", strerror(-rc));
}

/* ---- libraries ---- */

static const char *judge_module(void *handle)
{
    const struct backend_ops *ops = dlsym(handle, "fastsock_backend_verbs");

    return ops == NULL || ops->version != BACKEND_VERSION
               ? "it is of another release: install the one that came with "
                 "this fastsock"
               : NULL;
}

/* In a saved tree: only whether the file is there. */
static bool find_saved(struct doctor *d, const char *name, char path[128])
{
    static const char *const folders[] = {"/usr/local/lib",
                                          "/usr/lib",
                                          "/lib",
                                          "/usr/lib64",
                                          "/lib64",
                                          "/usr/lib/x86_64-linux-gnu",
                                          "/usr/lib/aarch64-linux-gnu",
                                          "/lib/x86_64-linux-gnu",
                                          "/lib/aarch64-linux-gnu"};

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        snprintf(path, 128, "%s/%s", folders[i], name);
        if (tree_has(d->root, path))
            return true;
    }
    return false;
}

static void say_library(struct doctor *d, const char *name, const char *package)
{
    char error[256] = "it is in no library folder", path[128];
    bool found = doctor_live(d)
                     ? library_try(name, NULL, error, sizeof(error)) == 0
                     : find_saved(d, name, path);

    if (found) {
        doctor_say(d, DOCTOR_OK, "library", "%s", name);
        return;
    }
    doctor_say(d, DOCTOR_MISSING, "library",
               "%s cannot be loaded (%s): apt-get install %s", name, error,
               package);
    doctor_lacks(&d->verbs, "%s cannot be loaded", name);
}

/* Drivers in user space: libibverbs reads their names from this folder. */
static void say_drivers(struct doctor *d)
{
    struct tree_names names;

    if (tree_list(d->root, "/etc/libibverbs.d", &names) == 0 && names.n > 0)
        doctor_say(d, DOCTOR_OK, "library",
                   "/etc/libibverbs.d names %u%s drivers", names.n,
                   names.more ? " or more" : "");
    else
        doctor_say(d, DOCTOR_HINT, "library",
                   "/etc/libibverbs.d names no driver: apt-get install "
                   "ibverbs-providers");
}

/* Beside the library, wherever that is. */
static int find_module(char path[LIBRARY_PATH_MAX])
{
    char library[PATH_MAX];

    if (library_find(LIBRARY_NAME, library) < 0) {
        strcpy(path, MODULE);
        return -ENOENT;
    }
    *strrchr(library, '/') = '\0';
    snprintf(path, LIBRARY_PATH_MAX, "%s/" MODULE, library);
    return 0;
}

static void say_module(struct doctor *d)
{
    char path[LIBRARY_PATH_MAX], error[512] = "it is in no library folder";
    bool found;

    if (doctor_live(d)) {
        find_module(path);
        found = library_try(path, judge_module, error, sizeof(error)) == 0;
    } else {
        found = find_saved(d, MODULE, path);
        if (!found)
            strcpy(path, MODULE);
    }
    if (found) {
        doctor_say(d, DOCTOR_OK, "module", "%s", path);
        return;
    }
    doctor_say(d, DOCTOR_MISSING, "module",
               "%s cannot be loaded (%s): it belongs beside " LIBRARY_NAME
               ", where make install puts both",
               path, error);
    doctor_lacks(&d->verbs, MODULE " cannot be loaded");
}

/* ---- locked memory ---- */

/*
 * Both registrations of a link count: words and rx for the peer, all of it
 * for this end. A connection has its messages besides, and where the driver
 * keeps them in the program, the queues.
 */
enum {
    WORDS_BYTES = 4096,
    MESSAGES_BYTES = 208 * 256,
    QUEUES_BYTES = 256 * 1024 /* about */
};

uint64_t doctor_locked_next(uint64_t ring_size)
{
    return 3 * ring_size + 2 * WORDS_BYTES;
}

uint64_t doctor_locked_first(uint64_t ring_size)
{
    return doctor_locked_next(ring_size) + MESSAGES_BYTES;
}

/* The words of "Max locked memory  8388608  unlimited  bytes". */
static bool parse_limits(const char *text, rlim_t limit[2])
{
    static const char name[] = "Max locked memory";
    char word[2][32];
    const char *line = strstr(text, name);

    if (line == NULL ||
        sscanf(line + strlen(name), "%31s %31s", word[0], word[1]) != 2)
        return false;
    for (int i = 0; i < 2; i++) {
        char *end;

        limit[i] = strtoull(word[i], &end, 10);
        if (strcmp(word[i], "unlimited") == 0)
            limit[i] = RLIM_INFINITY;
        else if (*end != '\0' || word[i][0] < '0' || word[i][0] > '9')
            return false;
    }
    return true;
}

static bool read_limits(struct doctor *d, rlim_t limit[2])
{
    struct rlimit own;
    char text[4096];

    if (!doctor_live(d))
        return tree_text(d->root, "/proc/self/limits", text, sizeof(text)) >
                   0 &&
               parse_limits(text, limit);
    if (getrlimit(RLIMIT_MEMLOCK, &own) < 0)
        return false;
    limit[0] = own.rlim_cur;
    limit[1] = own.rlim_max;
    return true;
}

/* CAP_IPC_LOCK, which counts in the first user namespace only. */
static bool is_exempt(struct doctor *d)
{
    enum { CAPABILITY = 14 };
    unsigned long long effective;
    char text[4096], map[128];
    const char *line;

    if (tree_text(d->root, "/proc/self/status", text, sizeof(text)) <= 0 ||
        tree_line(d->root, "/proc/self/uid_map", map, sizeof(map)) <= 0)
        return false;
    line = strstr(text, "\nCapEff:");
    return line != NULL && strstr(map, "4294967295") != NULL &&
           sscanf(line + strlen("\nCapEff:"), "%16llx", &effective) == 1 &&
           (effective >> CAPABILITY & 1) != 0;
}

static const char *size_text(rlim_t bytes, char buf[32])
{
    if (bytes == RLIM_INFINITY)
        return "unlimited";
    snprintf(buf, 32, "%" PRIu64 " KiB", (uint64_t)bytes / 1024);
    return buf;
}

/* There is room for one stream at least. */
static void say_room(struct doctor *d, const rlim_t limit[2])
{
    uint64_t ring = d->settings->ring_size, first = doctor_locked_first(ring);
    bool tight = limit[0] - first < QUEUES_BYTES;
    char soft[32], hard[32];

    doctor_say(d, tight ? DOCTOR_HINT : DOCTOR_OK, "memlock",
               "%s, enough for about %" PRIu64 " streams to a peer with "
               "ring_size %" PRIu64 " KiB%s; for more, ulimit -l unlimited "
               "(now at most %s)",
               size_text(limit[0], soft),
               (limit[0] - first) / doctor_locked_next(ring) + 1, ring / 1024,
               tight ? ", if the driver locks no more for its queues" : "",
               size_text(limit[1], hard));
}

static void say_memlock(struct doctor *d)
{
    uint64_t ring = d->settings->ring_size, first = doctor_locked_first(ring);
    char soft[32];
    rlim_t limit[2];

    if (!read_limits(d, limit)) {
        doctor_say(d, DOCTOR_HINT, "memlock",
                   "RLIMIT_MEMLOCK is not known; %" PRIu64
                   " KiB are needed for the first stream to a peer",
                   first / 1024);
    } else if (is_exempt(d) || limit[0] == RLIM_INFINITY) {
        doctor_say(d, DOCTOR_OK, "memlock", "no limit here%s",
                   limit[0] == RLIM_INFINITY
                       ? ""
                       : " (CAP_IPC_LOCK); programs of other users have one");
    } else if (limit[0] >= first) {
        say_room(d, limit);
    } else {
        doctor_say(d, DOCTOR_MISSING, "memlock",
                   "%s may be locked, and the first stream to a peer needs "
                   "%" PRIu64 " KiB: %s",
                   size_text(limit[0], soft), first / 1024,
                   limit[1] >= first
                       ? "ulimit -l unlimited, or as much as ulimit -H -l says"
                       : "lower ring_size, or as root, 'memlock unlimited' "
                         "in /etc/security/limits.conf (then log in again), "
                         "LimitMEMLOCK=infinity in a service, --ulimit "
                         "memlock=-1 for a container");
        doctor_lacks(&d->verbs, "RLIMIT_MEMLOCK is too small");
    }
}

void doctor_examine_rdma(struct doctor *d)
{
    say_kernel_module(d, "ib_uverbs", "/sys/class/infiniband_verbs");
    say_kernel_module(d, "rdma_ucm", "/sys/class/misc/rdma_cm");
    say_connection(d);
    say_library(d, "libibverbs.so.1", "libibverbs1");
    say_library(d, "librdmacm.so.1", "librdmacm1");
    say_drivers(d);
    say_module(d);
    say_memlock(d);
}
