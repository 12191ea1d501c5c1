/*
 * Users by name or number, without a name service.
 */
#include "config/settings_table.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX_BYTES = 64, UID_NOBODY = 65534 };

static bool uid_parse(const char *text, uint32_t *uid)
{
    uint64_t n = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9' && n <= UINT32_MAX; p++)
        n = n * 10 + (uint64_t)(*p - '0');
    if (p == text || *p != '\0' || n >= UINT32_MAX)
        return false;
    *uid = (uint32_t)n;
    return true;
}

/* One line of the form name:password:uid:... */
static bool line_names(char *line, const char *name, uint32_t *uid)
{
    size_t len = strlen(name);
    char *number;

    if (strncmp(line, name, len) != 0 || line[len] != ':')
        return false;
    number = strchr(line + len + 1, ':');
    if (number == NULL)
        return false;
    number++;
    number[strcspn(number, ":\n")] = '\0';
    return uid_parse(number, uid);
}

static bool passwd_find(const char *name, uint32_t *uid)
{
    FILE *file = fopen("/etc/passwd", "re");
    char *line = NULL;
    size_t size = 0;
    bool found = false;

    if (file == NULL)
        return false;
    while (!found && getline(&line, &size, file) >= 0)
        found = line_names(line, name, uid);
    free(line);
    fclose(file);
    return found;
}

static int user_add(struct settings_users *users, const char *name,
                    char error[SETTING_ERROR_MAX])
{
    uint32_t uid;

    if (!uid_parse(name, &uid) && !passwd_find(name, &uid)) {
        snprintf(error, SETTING_ERROR_MAX,
                 "expected a user of /etc/passwd or a uid, got '%.40s'", name);
        return -EINVAL;
    }
    if (uid == UID_NOBODY) {
        snprintf(error, SETTING_ERROR_MAX,
                 "expected users of their own, got '%.40s': uid %d stands for "
                 "users that have no number here",
                 name, UID_NOBODY);
        return -EINVAL;
    }
    if (users->n == SETTINGS_USERS_MAX) {
        snprintf(error, SETTING_ERROR_MAX, "expected at most %d users",
                 SETTINGS_USERS_MAX);
        return -EINVAL;
    }
    users->uid[users->n++] = uid;
    return 0;
}

int users_parse(const char *text, struct settings_users *users,
                char error[SETTING_ERROR_MAX])
{
    struct settings_users found = {.n = 0};
    const char *p = text + strspn(text, " ");

    while (*p != '\0') {
        char name[NAME_MAX_BYTES];
        size_t len = strcspn(p, " ,");
        int rc;

        if (len == 0 || len >= sizeof(name)) {
            snprintf(error, SETTING_ERROR_MAX,
                     "expected user names or uids, separated by commas, "
                     "got '%.40s'",
                     text);
            return -EINVAL;
        }
        memcpy(name, p, len);
        name[len] = '\0';
        rc = user_add(&found, name, error);
        if (rc < 0)
            return rc;
        p += len;
        p += strspn(p, " ");
        if (*p == ',') {
            p++;
            p += strspn(p, " ");
        }
    }
    *users = found;
    return 0;
}
