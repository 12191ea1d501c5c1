/*
 * What the files of settings share: the table's rows, values as text, and
 * the list of mistakes. For config/ and its tests only.
 */
#ifndef CONFIG_SETTINGS_TABLE_H
#define CONFIG_SETTINGS_TABLE_H

#include "config/settings.h"

enum { SETTING_ERROR_MAX = RULE_ERROR_MAX, COMPLAINTS_MAX = 20 };

/* Where mistakes go: n counts all, only the first few become lines. */
struct complaints {
    void (*line)(void *arg, const char *line);
    void *arg;
    unsigned n;
};

void complain(struct complaints *complaints, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The row of that name, or NULL. */
const struct setting *setting_find(const char *name);

/*
 * A value from its text. Returns 0, or -EINVAL and then error holds what was
 * expected. setting_number: of a bool (0 or 1) or a number.
 */
int setting_number(const struct setting *setting, const char *text,
                   uint64_t *value, char error[SETTING_ERROR_MAX]);
/* A list of the setting's choices, written as "a,b" into out. */
int setting_names(const struct setting *setting, const char *text,
                  char out[SETTINGS_NAMES_MAX], char error[SETTING_ERROR_MAX]);
int setting_assign(const struct setting *setting, struct settings *settings,
                   const char *text, char error[SETTING_ERROR_MAX]);

/* The value as text that setting_assign() takes. */
void setting_text(const struct setting *setting,
                  const struct settings *settings,
                  char text[SETTINGS_VALUE_MAX]);

/*
 * Reads users ("alice, 1001") from text. Names are looked up in /etc/passwd
 * only: a name service may open sockets, and we are inside start-up.
 */
int users_parse(const char *text, struct settings_users *users,
                char error[SETTING_ERROR_MAX]);

/* byte holds an IPv6 address; an IPv4 address in disguise becomes one. */
bool address_unmap(uint8_t byte[16]);

/* May path be missing without complaint? */
enum settings_file_need { FILE_REQUIRED, FILE_OPTIONAL };

/*
 * The file as a string that libconfig may see, to be freed by the caller; or
 * NULL after a complaint, or because an optional file is missing.
 */
char *settings_read_text(const char *path, enum settings_file_need need,
                         struct complaints *complaints);

/* Every mistake in the file goes to complaints. */
void settings_read_file(struct settings *settings, const char *path,
                        enum settings_file_need need,
                        struct complaints *complaints);

/* What settings_load() learns from the process it runs in. */
struct settings_source {
    const char *path;     /* or NULL */
    const char *fallback; /* read if path and env name no file; may miss */
    char *const *env;     /* or NULL */
    bool secure;          /* env is somebody else's: ignore it */
};

int settings_load_from(struct settings *settings,
                       const struct settings_source *source,
                       struct complaints *complaints);

#endif
