/*
 * Any text as a settings file, any text as the environment.
 *
 * The first byte of an input chooses: 0x80 set, what follows is variables
 * separated by line ends; else it is a file. Values that were taken must be
 * within their ranges and must come back the same from their own text.
 */
#include "config/settings_table.h"

#include <dlfcn.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max);
const char *__lsan_default_suppressions(void);

enum { INPUT_MAX = 4096, VARIABLES_MAX = 64 };

/* A syntax error leaks the string libconfig was reading: not ours. */
__attribute__((visibility("default"))) const char *
__lsan_default_suppressions(void)
{
    return "leak:libconfig";
}

static const char *const seeds[] = {
    "fpoll_usec = 1; ring_size = \"64K\"; log_level = \"info\";\n"
    "users = ( \"root\", 5 ); transports = [ \"shm\" ];",
    "frules = ( { program = \"a*\"; port = 80; accelerate = false; },\n"
    "{ peer = \"10.0.0.0/8\"; poll_usec = 0; ring_size = 4096; } );",
    "f# x\nupgrade_bytes = 4294967296L; max_memory = 0x100000; /* y\n*/\n"
    "@include \"z\"",
    "frules = ( { role = \"client\"; peer = \"::ffff:0:0/96\"; "
    "port = \"1-9\"; upgrade_after = 3; upgrade_bytes = \"1M\"; } );",
    "\xe5"
    "FASTSOCK_POLL_USEC=1\nFASTSOCK_RING_SIZE=64K\nFASTSOCK_USERS=1,2",
    "\xe5"
    "FASTSOCK_RULES=program=redis*,port=6379,accelerate=false; "
    "peer=2001:db8::/32,poll_usec=0\nFASTSOCK_LOG_LEVEL=warn",
    "\xe5"
    "FASTSOCK_RULES=role=server,peer=::ffff:10.0.0.0/104,port=1-65535\n"
    "FASTSOCK_CONFIG=/dev/null\nFASTSOCK_TRANSPORTS=shm",
    "\xe5"
    "FASTSOCK_ACCELERATE=off\nFASTSOCK_REPORT=/x/%p\nFASTSOCK_X=1",
};

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max)
{
    const char *seed = seeds[n % (sizeof(seeds) / sizeof(seeds[0]))];
    size_t len = strlen(seed);

    if (len > max)
        len = max;
    memcpy(buf, seed, len);
    return len;
}

static void require(bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

static void look_at_line(void *arg, const char *line)
{
    ++*(unsigned *)arg;
    require(line[0] != '\0' && strpbrk(line, "\n\r\033") == NULL,
            "a complaint is one line");
    require(strchr(line, ':') != NULL, "a complaint says where");
}

static void look_at_value(void *arg, const struct setting *setting,
                          const char *value)
{
    static struct settings again;
    char error[SETTING_ERROR_MAX], text[SETTINGS_VALUE_MAX];

    (void)arg;
    require(setting_assign(setting, &again, value, error) == 0,
            "a value is within its range");
    setting_text(setting, &again, text);
    require(strcmp(text, value) == 0, "a value is its own text");
}

static void look_at_rules(const struct settings *settings)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = 80};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = 80};
    const struct sockaddr *a = (const struct sockaddr *)&v4;
    const struct sockaddr *b = (const struct sockaddr *)&v6;
    struct stream_settings out;

    rule_apply(rules_match(&settings->rules, "redis", true, a, b), settings,
               &out);
    rule_apply(rules_match(&settings->rules, "/a", false, a, NULL), settings,
               &out);
    require(out.ring_size >= 4096 && (out.ring_size & (out.ring_size - 1)) == 0,
            "a ring's size is a power of two");
    for (size_t i = 0; i < settings->rules.n; i++) {
        const struct rule *r = &settings->rules.rule[i];

        require(r->prefix <= (r->ipv6 ? 128 : 32), "a prefix fits");
        require(r->port_from <= r->port_to, "a range goes up");
        require(memchr(r->program, 0, sizeof(r->program)) != NULL,
                "a program ends");
    }
}

static void load(const struct settings_source *source)
{
    static struct settings settings;
    unsigned lines = 0;
    struct complaints complaints = {look_at_line, &lines, 0};
    int rc = settings_load_from(&settings, source, &complaints);

    require((rc == 0) == (lines == 0), "a failure is explained");
    settings_each(&settings, look_at_value, NULL);
    look_at_rules(&settings);
    settings_free(&settings);
}

static void load_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    char path[64];
    struct settings_source source = {.path = path};

    if (fd < 0)
        fd = memfd_create("settings", MFD_CLOEXEC);
    require(fd >= 0 && ftruncate(fd, 0) == 0, "a file in memory");
    require(pwrite(fd, data, size, 0) == (ssize_t)size, "it takes the input");
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    load(&source);
}

/* FASTSOCK_CONFIG of an input is never followed into the file system. */
static void load_environment(const uint8_t *data, size_t size)
{
    char text[INPUT_MAX + 1];
    char *env[VARIABLES_MAX + 1];
    struct settings_source source = {.path = "", .env = env};
    size_t n = 0;
    char *p = text;

    if (size > INPUT_MAX)
        size = INPUT_MAX;
    memcpy(text, data, size);
    text[size] = '\0';
    while (p != NULL && n < VARIABLES_MAX)
        env[n++] = strsep(&p, "\n");
    env[n] = NULL;
    load(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void *libconfig; /* kept open: opening it costs most */

    if (libconfig == NULL)
        libconfig = dlopen("libconfig.so.9", RTLD_NOW | RTLD_LOCAL);
    if (size == 0)
        return 0;
    if ((data[0] & 0x80) != 0)
        load_environment(data + 1, size - 1);
    else
        load_file(data + 1, size - 1);
    return 0;
}
