#include "preload/fastsock_doctor.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "preload/fastsock_tree.h"
#include "tests/support/run_suite.h"

#define RXA  "/sys/class/infiniband/rxa"
#define PORT RXA "/ports/1"

static char tree[32];
static char *said;
static size_t said_len;
static struct settings settings;

/* ---- trees ---- */

static void make_folders(char *path)
{
    for (char *p = path + strlen(tree) + 1; *p != '\0'; p++)
        if (*p == '/') {
            *p = '\0';
            ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
            *p = '/';
        }
}

static void path_of(const char *name, char path[256])
{
    snprintf(path, 256, "%s%s", tree, name);
    make_folders(path);
}

static void put_bytes(const char *name, const char *bytes, size_t len)
{
    char path[256];
    FILE *file;

    path_of(name, path);
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
    ck_assert_int_eq(fclose(file), 0);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

static void take(const char *name)
{
    char path[256];

    path_of(name, path);
    ck_assert_int_eq(remove(path), 0);
}

/* A machine with one device of RoCE that lacks nothing. */
static void put_machine(void)
{
    put("/proc/sys/kernel/osrelease", "6.1.0-56-amd64\n");
    put("/proc/sys/kernel/overflowuid", "65534\n");
    put("/proc/self/uid_map", "         0          0 4294967295\n");
    put("/proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n");
    put("/proc/self/limits",
        "Limit                Soft Limit   Hard Limit   Units\n"
        "Max locked memory    8388608      unlimited    bytes\n");
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/devices/system/cpu/online", "0-3\n");
    put(RXA "/node_type", "1: CA\n");
    put(RXA "/parent", "va\n");
    put(PORT "/state", "4: ACTIVE\n");
    put(PORT "/link_layer", "Ethernet\n");
    put(PORT "/rate", "2.5 Gb/sec (1X SDR)\n");
    put(PORT "/gids/0", "fe80:0000:0000:0000:0000:00ff:fe00:0701\n");
    put(PORT "/gids/1", "0000:0000:0000:0000:0000:ffff:0a07:0001\n");
    put(PORT "/gids/2", "0000:0000:0000:0000:0000:0000:0000:0000\n");
    put(PORT "/gid_attrs/types/1", "RoCE v2\n");
    put(PORT "/gid_attrs/ndevs/1", "va\n");
    put("/sys/class/infiniband_verbs/abi_version", "6\n");
    put("/sys/class/infiniband_verbs/uverbs0/ibdev", "rxa\n");
    put("/sys/class/misc/rdma_cm/dev", "10:58\n");
    put("/dev/infiniband/uverbs0", "");
    put("/dev/infiniband/rdma_cm", "");
    put("/usr/lib/x86_64-linux-gnu/libibverbs.so.1", "");
    put("/usr/lib/x86_64-linux-gnu/librdmacm.so.1", "");
    put("/usr/local/lib/libfastsock-verbs.so", "");
    put("/etc/libibverbs.d/rxe.driver", "driver rxe\n");
}

static void setup(void)
{
    strcpy(tree, "/tmp/check_doctor.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tree));
    settings_defaults(&settings);
    strcpy(settings.transports, "shm,verbs");
    put_machine();
}

static int remove_one(const char *path, const struct stat *st, int flag,
                      struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static void teardown(void)
{
    nftw(tree, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(said);
    said = NULL;
}

/* ---- what it says ---- */

static bool examine_at(int root)
{
    struct doctor doctor = {.root = root, .settings = &settings};
    bool usable;

    free(said);
    doctor.out = open_memstream(&said, &said_len);
    usable = doctor_examine(&doctor);
    ck_assert_int_eq(fclose(doctor.out), 0);
    for (size_t i = 0; i < said_len; i++)
        ck_assert(said[i] == '\n' || (said[i] >= ' ' && said[i] <= '~'));
    return usable;
}

static bool examine(void)
{
    int root = tree_open(tree);
    bool usable;

    ck_assert_int_ge(root, 0);
    usable = examine_at(root);
    close(root);
    return usable;
}

/* A line that begins with mark and subject and has the words. */
static bool says(const char *mark, const char *subject, const char *words)
{
    char head[32];
    int len = snprintf(head, sizeof(head), "%-7s  %-9s  ", mark, subject);

    for (const char *line = said; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n'), *at = strstr(line, words);

        if (strncmp(line, head, (size_t)len) == 0 && at != NULL && at < end)
            return true;
        line = end + 1;
    }
    return false;
}

#define ck_assert_says(mark, subject, words)                                   \
    ck_assert_msg(says(mark, subject, words), "%s", said)

static bool ends_with(const char *line)
{
    size_t len = strlen(line);

    return said_len > len + 1 && said[said_len - len - 2] == '\n' &&
           strncmp(said + said_len - len - 1, line, len) == 0;
}

#define ck_assert_verdict(line) ck_assert_msg(ends_with(line), "%s", said)

/* ---- RDMA ---- */

START_TEST(a_machine_that_lacks_nothing_uses_its_device)
{
    ck_assert(examine());
    ck_assert_verdict("RDMA: would be used through rxa (10.7.0.1)");
    ck_assert_says("ok", "port", "rxa/1 is active, Ethernet");
    ck_assert_says("ok", "port", "net device va, reached by 10.7.0.1");
    ck_assert_says("ok", "gid", "ffff:0a07:0001, RoCE v2, of va");
    ck_assert_says("ok", "access", "/dev/infiniband/uverbs0 may be used");
    ck_assert_says("ok", "module", "/usr/local/lib/libfastsock-verbs.so");
    ck_assert_msg(strstr(said, "missing") == NULL, "%s", said);
}
END_TEST

START_TEST(an_empty_tree_has_no_device_and_shared_memory)
{
    teardown();
    strcpy(tree, "/tmp/check_doctor.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(tree));
    ck_assert(examine());
    ck_assert_says("missing", "device", "rdma link add");
    ck_assert_verdict("RDMA: not here: no device");
}
END_TEST

START_TEST(only_the_first_transport_decides)
{
    take(PORT "/state");
    ck_assert(examine());
    strcpy(settings.transports, "verbs,shm");
    ck_assert(!examine());
    put(PORT "/state", "4: ACTIVE\n");
    ck_assert(examine());
    settings.accelerate = false;
    ck_assert(!examine());
    ck_assert_says("hint", "settings", "accelerate is false");
}
END_TEST

START_TEST(a_transport_that_is_not_named_is_not_used)
{
    struct rule rule = {.set = 1u << RULE_TRANSPORTS, .transports = "verbs"};

    strcpy(settings.transports, "shm");
    ck_assert(examine());
    ck_assert_verdict(
        "RDMA: not used: the setting transports does not name verbs");
    settings.rules.rule = &rule;
    settings.rules.n = 1;
    ck_assert(examine());
    ck_assert_verdict("RDMA: would be used through rxa (10.7.0.1)");
}
END_TEST

START_TEST(a_port_that_is_down_says_what_to_do)
{
    put(PORT "/state", "1: DOWN\n");
    ck_assert(examine());
    ck_assert_says("missing", "port", "rxa/1 is DOWN");
    ck_assert_says("missing", "port", "ip link set va up");
    ck_assert_verdict("RDMA: not here: rxa: its port is not active");
    put(PORT "/state", "2: INIT\n");
    put(PORT "/link_layer", "InfiniBand\n");
    examine();
    ck_assert_says("missing", "port", "apt-get install opensm");
}
END_TEST

START_TEST(a_port_needs_an_address)
{
    take(PORT "/gids/1");
    ck_assert(examine());
    ck_assert_says("missing", "port", "ip address add ADDRESS dev va");
    ck_assert_verdict("RDMA: not here: rxa: its port has no address");
    put(PORT "/gids/1", "fd00:0000:0000:0000:0000:0000:0000:0007\n");
    examine();
    ck_assert_verdict("RDMA: would be used through rxa (fd00::7)");
}
END_TEST

START_TEST(an_address_far_down_a_long_table_is_found)
{
    char path[64];

    for (int i = 1; i < 1024; i++) {
        snprintf(path, sizeof(path), PORT "/gids/%d", i);
        put(path, "0000:0000:0000:0000:0000:0000:0000:0000\n");
    }
    put(path, "0000:0000:0000:0000:0000:ffff:0a07:0009\n");
    examine();
    ck_assert_verdict("RDMA: would be used through rxa (10.7.0.9)");
}
END_TEST

START_TEST(an_infiniband_gid_is_no_address)
{
    put(PORT "/link_layer", "InfiniBand\n");
    put(PORT "/gids/1", "fd00:0000:0000:0000:0000:0000:0000:0007\n");
    examine();
    ck_assert_verdict("RDMA: not here: rxa: its port has no address");
}
END_TEST

START_TEST(one_good_port_of_a_device_is_enough)
{
    put(RXA "/ports/2/state", "1: DOWN\n");
    put(RXA "/ports/2/link_layer", "Ethernet\n");
    examine();
    ck_assert_says("missing", "port", "rxa/2 is DOWN");
    ck_assert_verdict("RDMA: would be used through rxa (10.7.0.1)");
}
END_TEST

START_TEST(a_device_without_immediate_data_is_not_used)
{
    put(RXA "/node_type", "4: RNIC\n");
    examine();
    ck_assert_says("missing", "device", "use InfiniBand or RoCE");
    ck_assert_verdict("RDMA: not here: rxa: it is neither InfiniBand nor RoCE");
}
END_TEST

START_TEST(device_files_may_be_missing_or_forbidden)
{
    char path[256];

    take("/dev/infiniband/uverbs0");
    examine();
    ck_assert_says("missing", "access", "--device=/dev/infiniband/uverbs0");
    ck_assert_verdict("RDMA: not here: rxa: its device file is not there");
    put("/dev/infiniband/uverbs0", "");
    if (geteuid() != 0) { /* root may use anything */
        path_of("/dev/infiniband/uverbs0", path);
        chmod(path, 0);
        examine();
        ck_assert_says("missing", "access", "chmod 666");
    }
    take("/sys/class/infiniband_verbs/uverbs0/ibdev");
    examine();
    ck_assert_says("missing", "access", "modprobe ib_uverbs");
}
END_TEST

START_TEST(rdma_cm_and_its_kernel_module_are_needed)
{
    take("/dev/infiniband/rdma_cm");
    examine();
    ck_assert_says("missing", "access", "/dev/infiniband/rdma_cm is not there");
    ck_assert_verdict("RDMA: not here: /dev/infiniband/rdma_cm: No such file "
                      "or directory");
    put("/dev/infiniband/rdma_cm", "");
    take("/sys/class/misc/rdma_cm/dev");
    take("/sys/class/misc/rdma_cm");
    examine();
    ck_assert_says("missing", "kernel", "modprobe rdma_ucm");
    put("/sys/module/rdma_ucm/refcnt", "0\n");
    examine();
    ck_assert_says("ok", "kernel", "rdma_ucm");
}
END_TEST

START_TEST(libraries_name_their_packages)
{
    take("/usr/lib/x86_64-linux-gnu/librdmacm.so.1");
    examine();
    ck_assert_says("missing", "library", "apt-get install librdmacm1");
    ck_assert_verdict("RDMA: not here: librdmacm.so.1 cannot be loaded");
    put("/lib64/librdmacm.so.1", "");
    take("/usr/local/lib/libfastsock-verbs.so");
    take("/etc/libibverbs.d/rxe.driver");
    examine();
    ck_assert_says("missing", "module", "beside libfastsock.so");
    ck_assert_says("hint", "library", "apt-get install ibverbs-providers");
    ck_assert_verdict("RDMA: not here: libfastsock-verbs.so cannot be loaded");
}
END_TEST

START_TEST(locked_memory_is_counted_in_streams)
{
    examine();
    ck_assert_says("ok", "memlock", "8192 KiB, enough for about 10 streams");
    put("/proc/self/limits", "Max locked memory  65536  unlimited  bytes\n");
    examine();
    ck_assert_says("missing", "memlock", "needs 828 KiB: ulimit -l");
    ck_assert_verdict("RDMA: not here: RLIMIT_MEMLOCK is too small");
    put("/proc/self/limits", "Max locked memory  65536  65536  bytes\n");
    examine();
    ck_assert_says("missing", "memlock", "/etc/security/limits.conf");
    settings.ring_size = 4096;
    put("/proc/self/limits", "Max locked memory  350000  350000  bytes\n");
    examine();
    ck_assert_says("ok", "memlock", "about 14 streams");
    put("/proc/self/limits", "Max locked memory  73728  73728  bytes\n");
    examine();
    ck_assert_says("hint", "memlock", "about 1 streams");
    put("/proc/self/limits", "Max locked memory  73727  73727  bytes\n");
    examine();
    ck_assert_says("missing", "memlock", "needs 72 KiB");
}
END_TEST

START_TEST(a_capability_lifts_the_limit_outside_user_namespaces)
{
    put("/proc/self/limits", "Max locked memory  65536  65536  bytes\n");
    put("/proc/self/status", "Name:\tx\nCapEff:\t0000000000004000\n");
    examine();
    ck_assert_says("ok", "memlock", "CAP_IPC_LOCK");
    put("/proc/self/uid_map", "0 1000 1\n");
    examine();
    ck_assert_says("missing", "memlock", "limits.conf");
    ck_assert_says("hint", "user", "a user namespace of its own");
}
END_TEST

/* ---- the machine ---- */

START_TEST(lists_of_cpus_are_counted)
{
    static const char *const bad[] = {"",  ",",       "1,", "-1",   "3-1", "1-",
                                      "x", "0-65536", "1 ", "0--1", "1,,2"};

    ck_assert_uint_eq(doctor_count_list("0"), 1);
    ck_assert_uint_eq(doctor_count_list("0-3,8"), 5);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_uint_eq(doctor_count_list(bad[i]), 0);
}
END_TEST

START_TEST(the_narrowest_limit_above_counts)
{
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    examine();
    ck_assert_says("ok", "cpus", "4 may be used, no limit");
    put("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    examine();
    ck_assert_says("hint", "cpus", "cpu.max allows 1.50");
    put("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    examine();
    ck_assert_says("ok", "cpus", "cpu.max allows 3.00");
    put("/sys/devices/system/cpu/online", "0\n");
    examine();
    ck_assert_says("hint", "cpus", "1 CPU may be used");
}
END_TEST

START_TEST(an_old_kernel_has_no_shared_memory)
{
    put("/proc/sys/kernel/osrelease", "3.16.0\n");
    ck_assert(!examine());
    ck_assert_says("missing", "kernel", "3.17 or later is needed");
    ck_assert_ptr_nonnull(
        strstr(said, "shared memory: not here: Linux 3.16.0 is older"));
}
END_TEST

START_TEST(on_this_machine_things_are_tried)
{
    bool usable = examine_at(AT_FDCWD);

    ck_assert_says("ok", "memfd", "work");
    ck_assert_says("ok", "sockets", "work");
    ck_assert(usable == (geteuid() != 65534));
}
END_TEST

/* ---- hostile trees ---- */

START_TEST(names_and_contents_may_be_anything)
{
    static char noise[200000];
    unsigned state = 1;
    char path[64];

    for (size_t i = 0; i < sizeof(noise); i++) {
        state = state * 1103515245 + 12345;
        noise[i] = (char)(state >> 16);
    }
    put("/sys/class/infiniband/a\x1b[31m\n\xff/ports/\t/state", "4: \x1b[2J");
    put("/sys/class/infiniband/%s%n/ports/%n/gids/%s", "::1");
    for (int i = 0; i < 300; i++) {
        snprintf(path, sizeof(path), PORT "/gids/%d", i);
        put_bytes(path, noise + i * 64, 64);
        snprintf(path, sizeof(path), "/sys/class/infiniband_verbs/x%d", i);
        put_bytes(path, noise, 10);
    }
    put_bytes(PORT "/state", noise, sizeof(noise));
    put_bytes(PORT "/link_layer", noise + 1, sizeof(noise) - 1);
    put_bytes(PORT "/rate", noise + 7, 4096);
    put_bytes(PORT "/gid_attrs/types/1", noise + 2, 9000);
    put_bytes(RXA "/parent", noise + 3, 9000);
    put_bytes("/proc/self/limits", noise, sizeof(noise));
    put_bytes("/proc/self/cgroup", noise, sizeof(noise));
    put_bytes("/proc/self/status", noise, sizeof(noise));
    put_bytes("/proc/self/uid_map", noise, sizeof(noise));
    put_bytes("/proc/sys/kernel/osrelease", noise, sizeof(noise));
    put_bytes("/proc/sys/kernel/overflowuid", noise, sizeof(noise));
    put_bytes("/sys/devices/system/cpu/online", noise, sizeof(noise));
    examine();
    ck_assert_ptr_nonnull(strstr(said, "RDMA: not here: "));
}
END_TEST

START_TEST(numbers_beyond_all_bounds_do_no_harm)
{
    static char deep[8192] = "0::";

    memset(deep + 3, '/', sizeof(deep) - 4);
    put("/proc/self/cgroup", deep);
    put("/sys/fs/cgroup/cpu.max", "18446744073709551615 1\n");
    put("/proc/sys/kernel/osrelease", "99999999999999999999.9999999999\n");
    put("/proc/self/status", "\nCapEff:\tffffffffffffffffffffffffff\n");
    put("/proc/self/limits",
        "Max locked memory 99999999999999999999999 -1 bytes\n");
    put(PORT "/state", "99999999999999999999: ACTIVE\n");
    put("/sys/devices/system/cpu/online", "0-99999999999999999999\n");
    examine();
    ck_assert_says("missing", "port", "rxa/1 is ACTIVE");
}
END_TEST

START_TEST(what_is_no_file_is_not_waited_for)
{
    char path[256];

    take(PORT "/state");
    path_of(PORT "/state", path);
    ck_assert_int_eq(mkfifo(path, 0644), 0);
    take(PORT "/rate");
    path_of(PORT "/rate/x", path);
    examine();
    ck_assert_says("missing", "port", "rxa/1 is not readable");
}
END_TEST

static void add_rdma(TCase *t)
{
    tcase_add_test(t, a_machine_that_lacks_nothing_uses_its_device);
    tcase_add_test(t, an_empty_tree_has_no_device_and_shared_memory);
    tcase_add_test(t, only_the_first_transport_decides);
    tcase_add_test(t, a_transport_that_is_not_named_is_not_used);
    tcase_add_test(t, a_port_that_is_down_says_what_to_do);
    tcase_add_test(t, a_port_needs_an_address);
    tcase_add_test(t, an_address_far_down_a_long_table_is_found);
    tcase_add_test(t, an_infiniband_gid_is_no_address);
    tcase_add_test(t, one_good_port_of_a_device_is_enough);
    tcase_add_test(t, a_device_without_immediate_data_is_not_used);
    tcase_add_test(t, device_files_may_be_missing_or_forbidden);
    tcase_add_test(t, rdma_cm_and_its_kernel_module_are_needed);
    tcase_add_test(t, libraries_name_their_packages);
    tcase_add_test(t, locked_memory_is_counted_in_streams);
    tcase_add_test(t, a_capability_lifts_the_limit_outside_user_namespaces);
}

int main(void)
{
    Suite *s = suite_create("fastsock_doctor");
    TCase *t = tcase_create("fastsock_doctor");

    tcase_add_checked_fixture(t, setup, teardown);
    add_rdma(t);
    tcase_add_test(t, lists_of_cpus_are_counted);
    tcase_add_test(t, the_narrowest_limit_above_counts);
    tcase_add_test(t, an_old_kernel_has_no_shared_memory);
    tcase_add_test(t, on_this_machine_things_are_tried);
    tcase_add_test(t, names_and_contents_may_be_anything);
    tcase_add_test(t, numbers_beyond_all_bounds_do_no_harm);
    tcase_add_test(t, what_is_no_file_is_not_waited_for);
    suite_add_tcase(s, t);
    return run_suite(s);
}
