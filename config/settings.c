/*
 * The table of settings, and their values as text.
 *
 * Whatever has to know a name, a range or a default asks this table: the
 * file reader, the environment, the rules, the listing and, by a test, the
 * documentation. A value has one text form, and every source of values ends
 * in setting_assign().
 */
#include "config/settings.h"

#include "config/settings_table.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LOG_LEVELS       "none|error|warn|info|debug"
#define TRANSPORTS       "shm|verbs"
#define RANGE(low, high) .min = (low), .max = (high)

#define FIELD(field) .name = #field, .offset = offsetof(struct settings, field)

static const struct setting table[] = {
    {FIELD(accelerate), .type = SETTING_BOOL, .initial = "true",
     .help = "Whether connections may leave TCP at all."},
    {FIELD(transports), .type = SETTING_NAMES, .choices = TRANSPORTS,
     .initial = "shm,verbs",
     .help = "What may carry them, in order of choice."},
    {FIELD(upgrade_after), .type = SETTING_NUMBER, .unit = "calls",
     RANGE(0, 1000000000), .initial = "16",
     .help = "Socket calls of either direction before a stream may leave "
             "TCP."},
    {FIELD(upgrade_bytes), .type = SETTING_NUMBER, .unit = "bytes",
     RANGE(0, UINT64_C(1) << 40), .initial = "65536",
     .help = "Or that many bytes, if they come first."},
    {FIELD(poll_usec), .type = SETTING_NUMBER, .unit = "usec",
     RANGE(0, 1000000), .initial = "50",
     .help = "Longest spin before a thread that waits for accelerated "
             "streams sleeps; with 0 it looks for 3 to 12 us."},
    {FIELD(poll_kernel_usec), .type = SETTING_NUMBER, .unit = "usec",
     RANGE(0, 1000000), .initial = "0",
     .help = "The same for streams that stay on TCP."},
    {FIELD(spread), .type = SETTING_BOOL, .initial = "false",
     .help = "Whether a client's thread that waits on the CPU that its server "
             "runs on moves to another one that it may use."},
    {FIELD(ring_size), .type = SETTING_POWER_OF_TWO, .unit = "bytes",
     RANGE(4096, UINT64_C(1) << 30), .initial = "262144",
     .help = "Room for bytes under way, each direction of each accelerated "
             "stream."},
    {FIELD(handover_hold_usec), .type = SETTING_NUMBER, .unit = "usec",
     RANGE(0, 10000000), .initial = "1000",
     .help = "Longest time a sender is held back while a stream leaves TCP."},
    {FIELD(return_timeout_ms), .type = SETTING_NUMBER, .unit = "ms",
     RANGE(1, 600000), .initial = "1000",
     .help = "Longest time a return to TCP may take before the connection is "
             "reset."},
    {FIELD(settle_ms), .type = SETTING_NUMBER, .unit = "ms", RANGE(0, 600000),
     .initial = "1000",
     .help = "How long a stream that returned stays on TCP before it may "
             "leave again."},
    {FIELD(up_after_fork), .type = SETTING_BOOL, .initial = "true",
     .help = "Whether a connection that a fork has shared may leave TCP again "
             "once one process holds it alone."},
    {FIELD(max_links), .type = SETTING_NUMBER, .unit = "links",
     RANGE(1, 1048576), .initial = "16384",
     .help = "Accelerated streams of one process; more stay on TCP."},
    {FIELD(max_memory), .type = SETTING_NUMBER, .unit = "bytes",
     RANGE(1 << 20, UINT64_C(1) << 40), .initial = "1073741824",
     .help = "Memory for the rings in use of one process; streams beyond it "
             "stay on TCP."},
    {FIELD(users), .type = SETTING_USERS, .initial = "",
     .help = "Users whose processes may share memory with ours, besides our "
             "own user."},
    {FIELD(log_level), .type = SETTING_CHOICE, .choices = LOG_LEVELS,
     .initial = "error", .help = "What is written to standard error."},
    {FIELD(report), .type = SETTING_PATH, .initial = "",
     .help = "File for a summary at exit, none if empty; %p is the process "
             "id."},
};

enum { TABLE_ROWS = sizeof(table) / sizeof(table[0]) };

static_assert(sizeof(enum log_level) == sizeof(unsigned),
              "setting_assign() writes it as unsigned");

void complain(struct complaints *complaints, const char *format, ...)
{
    char line[SETTINGS_PATH_MAX + 512];
    va_list ap;

    complaints->n++;
    if (complaints->line == NULL || complaints->n > COMPLAINTS_MAX + 1)
        return;
    if (complaints->n == COMPLAINTS_MAX + 1) {
        complaints->line(complaints->arg, "more mistakes follow: correct "
                                          "these first and try again");
        return;
    }
    va_start(ap, format);
    vsnprintf(line, sizeof(line), format, ap);
    va_end(ap);
    for (char *p = line; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    complaints->line(complaints->arg, line);
}

const struct setting *setting_find(const char *name)
{
    for (size_t i = 0; i < TABLE_ROWS; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

static bool in_bytes(const struct setting *setting)
{
    return setting->unit != NULL && strcmp(setting->unit, "bytes") == 0;
}

const char *setting_range(const struct setting *setting, char *buf, size_t size)
{
    const char *suffix = in_bytes(setting) ? " (K, M or G may follow)" : "";

    switch (setting->type) {
    case SETTING_BOOL:
        snprintf(buf, size, "true or false");
        break;
    case SETTING_NUMBER:
        snprintf(buf, size, "a number %" PRIu64 " to %" PRIu64 "%s",
                 setting->min, setting->max, suffix);
        break;
    case SETTING_POWER_OF_TWO:
        snprintf(buf, size, "a power of two %" PRIu64 " to %" PRIu64 "%s",
                 setting->min, setting->max, suffix);
        break;
    case SETTING_CHOICE:
        snprintf(buf, size, "one of %s", setting->choices);
        break;
    case SETTING_NAMES:
        snprintf(buf, size, "some of %s, each once, separated by commas",
                 setting->choices);
        break;
    case SETTING_USERS:
        snprintf(buf, size, "up to %d user names or uids, separated by commas",
                 SETTINGS_USERS_MAX);
        break;
    case SETTING_PATH:
        snprintf(buf, size, "a path shorter than %d bytes", SETTINGS_PATH_MAX);
        break;
    }
    return buf;
}

static int refuse(const struct setting *setting, const char *text,
                  char error[SETTING_ERROR_MAX])
{
    char range[SETTING_ERROR_MAX / 2];

    snprintf(error, SETTING_ERROR_MAX, "expected %s, got '%.40s'",
             setting_range(setting, range, sizeof(range)), text);
    return -EINVAL;
}

/* Decimal digits, then for bytes K, M or G. False when it is not that. */
static bool number_parse(const char *text, bool bytes, uint64_t *value)
{
    static const char suffix[] = "KMG";
    uint64_t n = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, (uint64_t)10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
    if (p == text)
        return false;
    if (bytes && *p != '\0') {
        char letter = *p++;
        const char *at;

        if (letter >= 'a' && letter <= 'z')
            letter = (char)(letter - 'a' + 'A');
        at = strchr(suffix, letter);
        if (at == NULL || __builtin_mul_overflow(
                              n, UINT64_C(1) << (10 * (at - suffix + 1)), &n))
            return false;
    }
    *value = n;
    return *p == '\0';
}

static bool bool_parse(const char *text, uint64_t *value)
{
    static const char *const words[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};

    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < 4; i++)
            if (strcasecmp(text, words[v][i]) == 0) {
                *value = v;
                return true;
            }
    return false;
}

int setting_number(const struct setting *setting, const char *text,
                   uint64_t *value, char error[SETTING_ERROR_MAX])
{
    uint64_t n;

    if (setting->type == SETTING_BOOL) {
        if (!bool_parse(text, value))
            return refuse(setting, text, error);
        return 0;
    }
    if (!number_parse(text, in_bytes(setting), &n) || n < setting->min ||
        n > setting->max)
        return refuse(setting, text, error);
    if (setting->type == SETTING_POWER_OF_TWO && (n & (n - 1)) != 0)
        return refuse(setting, text, error);
    *value = n;
    return 0;
}

/* Which of "a|b|c" the len bytes at text are, or -1. */
static int choice_find(const char *choices, const char *text, size_t len)
{
    const char *p = choices;

    for (int i = 0;; i++) {
        size_t n = strcspn(p, "|");

        if (n == len && memcmp(p, text, n) == 0)
            return i;
        if (p[n] == '\0')
            return -1;
        p += n + 1;
    }
}

int setting_names(const struct setting *setting, const char *text,
                  char out[SETTINGS_NAMES_MAX], char error[SETTING_ERROR_MAX])
{
    char names[SETTINGS_NAMES_MAX];
    size_t used = 0;
    unsigned seen = 0;

    for (const char *p = text;; p++) {
        size_t n;
        int which;

        p += strspn(p, " ");
        n = strcspn(p, " ,");
        which = choice_find(setting->choices, p, n);
        if (which < 0 || (seen & 1u << which) != 0 ||
            used + n + 2 > sizeof(names))
            return refuse(setting, text, error);
        seen |= 1u << which;
        if (used > 0)
            names[used++] = ',';
        memcpy(names + used, p, n);
        used += n;
        p += n;
        p += strspn(p, " ");
        if (*p == '\0')
            break;
        if (*p != ',')
            return refuse(setting, text, error);
    }
    names[used] = '\0';
    memcpy(out, names, used + 1);
    return 0;
}

int setting_assign(const struct setting *setting, struct settings *settings,
                   const char *text, char error[SETTING_ERROR_MAX])
{
    char *field = (char *)settings + setting->offset;
    uint64_t n;
    int rc;

    switch (setting->type) {
    case SETTING_BOOL:
    case SETTING_NUMBER:
    case SETTING_POWER_OF_TWO:
        rc = setting_number(setting, text, &n, error);
        if (rc < 0)
            return rc;
        if (setting->type == SETTING_BOOL)
            *(bool *)field = n != 0;
        else
            *(uint64_t *)field = n;
        return 0;
    case SETTING_CHOICE:
        rc = choice_find(setting->choices, text, strlen(text));
        if (rc < 0)
            return refuse(setting, text, error);
        *(unsigned *)field = (unsigned)rc;
        return 0;
    case SETTING_NAMES:
        return setting_names(setting, text, field, error);
    case SETTING_USERS:
        return users_parse(text, (struct settings_users *)field, error);
    case SETTING_PATH:
        if (strlen(text) >= SETTINGS_PATH_MAX)
            return refuse(setting, text, error);
        memcpy(field, text, strlen(text) + 1);
        return 0;
    }
    return -EINVAL;
}

static void choice_text(const char *choices, unsigned which,
                        char text[SETTINGS_VALUE_MAX])
{
    for (; which > 0 && strchr(choices, '|') != NULL; which--)
        choices = strchr(choices, '|') + 1;
    snprintf(text, SETTINGS_VALUE_MAX, "%.*s", (int)strcspn(choices, "|"),
             choices);
}

static void users_text(const struct settings_users *users,
                       char text[SETTINGS_VALUE_MAX])
{
    size_t used = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < users->n; i++)
        used += (size_t)snprintf(text + used, SETTINGS_VALUE_MAX - used,
                                 "%s%" PRIu32, i > 0 ? "," : "", users->uid[i]);
}

void setting_text(const struct setting *setting,
                  const struct settings *settings,
                  char text[SETTINGS_VALUE_MAX])
{
    const char *field = (const char *)settings + setting->offset;

    switch (setting->type) {
    case SETTING_BOOL:
        snprintf(text, SETTINGS_VALUE_MAX, "%s",
                 *(const bool *)field ? "true" : "false");
        break;
    case SETTING_NUMBER:
    case SETTING_POWER_OF_TWO:
        snprintf(text, SETTINGS_VALUE_MAX, "%" PRIu64,
                 *(const uint64_t *)field);
        break;
    case SETTING_CHOICE:
        choice_text(setting->choices, *(const unsigned *)field, text);
        break;
    case SETTING_NAMES:
    case SETTING_PATH:
        snprintf(text, SETTINGS_VALUE_MAX, "%s", field);
        break;
    case SETTING_USERS:
        users_text((const struct settings_users *)field, text);
        break;
    }
}

void settings_defaults(struct settings *settings)
{
    char error[SETTING_ERROR_MAX];

    memset(settings, 0, sizeof(*settings));
    rules_init(&settings->rules);
    for (size_t i = 0; i < TABLE_ROWS; i++) {
        int rc = setting_assign(&table[i], settings, table[i].initial, error);

        assert(rc == 0);
        (void)rc;
    }
}

void settings_each(const struct settings *settings,
                   void (*each)(void *arg, const struct setting *setting,
                                const char *value),
                   void *arg)
{
    char text[SETTINGS_VALUE_MAX];

    for (size_t i = 0; i < TABLE_ROWS; i++) {
        if (settings == NULL) {
            each(arg, &table[i], table[i].initial);
            continue;
        }
        setting_text(&table[i], settings, text);
        each(arg, &table[i], text);
    }
}

void settings_free(struct settings *settings)
{
    rules_fini(&settings->rules);
}
