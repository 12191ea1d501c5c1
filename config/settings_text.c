/*
 * The text of a settings file, fit for libconfig.
 *
 * libconfig 1.5 does things to a program that it must not do: it calls
 * exit() when an @include names a directory, it waits for ever in one that
 * names a FIFO, and it cuts numbers beyond 31 bits without a word. It also
 * compares each name with all names before, minutes for a mebibyte of them.
 * So files are read here, with limits, and these things are refused with
 * their line before libconfig sees them.
 */
#include "config/settings_table.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* More values than RULES_MAX full rules and all settings can have. */
enum { FILE_MAX_BYTES = 1 << 20, FILE_MAX_VALUES = 10000 };

/* The file's bytes and a NUL, or NULL after a complaint (or by need). */
static char *read_text(const char *path, enum settings_file_need need,
                       struct complaints *complaints, size_t *len)
{
    char *text = NULL;
    struct stat st;
    ssize_t rc;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        if (errno != ENOENT || need == FILE_REQUIRED)
            complain(complaints,
                     "%s: expected a file that can be read: %s; create it or "
                     "unset FASTSOCK_CONFIG",
                     path, strerror(errno));
        return NULL;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
        st.st_size > FILE_MAX_BYTES) {
        complain(complaints, "%s: expected a regular file of at most 1 MiB",
                 path);
        goto close_file;
    }
    text = malloc((size_t)st.st_size + 1);
    if (text == NULL) {
        complain(complaints, "%s: expected memory for it, got none", path);
        goto close_file;
    }
    for (*len = 0; *len < (size_t)st.st_size; *len += (size_t)rc) {
        rc = read(fd, text + *len, (size_t)st.st_size - *len);
        if (rc < 0 && errno == EINTR)
            rc = 0;
        else if (rc <= 0)
            break;
    }
    text[*len] = '\0';
close_file:
    close(fd);
    return text;
}

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-' ||
           c == '+' || c == '*';
}

/* Would libconfig take this word for a number and cut it to 31 bits? */
static bool number_is_cut(const char *word, size_t len)
{
    bool hex = false;
    uint64_t n = 0;
    size_t i = 0;

    if (len > 0 && (word[0] == '-' || word[0] == '+'))
        i = 1;
    if (i + 2 < len && word[i] == '0' && (word[i + 1] | 0x20) == 'x') {
        hex = true;
        i += 2;
    }
    if (i == len)
        return false;
    for (; i < len; i++) {
        int digit = hex ? isxdigit((unsigned char)word[i])
                        : isdigit((unsigned char)word[i]);

        if (!digit)
            return false;
        if (n <= INT32_MAX)
            n = n * (hex ? 16 : 10) +
                (isdigit((unsigned char)word[i])
                     ? (uint64_t)(word[i] - '0')
                     : (uint64_t)((word[i] | 0x20) - 'a' + 10));
    }
    return n > INT32_MAX;
}

/* The end of the comment or string that starts at p, or p if none does. */
static const char *skip_opaque(const char *p)
{
    if (p[0] == '#' || (p[0] == '/' && p[1] == '/'))
        return p + strcspn(p, "\n");
    if (p[0] == '/' && p[1] == '*') {
        const char *end = strstr(p + 2, "*/");

        return end != NULL ? end + 2 : strchr(p, '\0');
    }
    if (p[0] != '"')
        return p;
    for (p++; *p != '\0' && *p != '"'; p++)
        if (p[0] == '\\' && p[1] != '\0')
            p++;
    return *p == '"' ? p + 1 : p;
}

static void check_number(const char *path, unsigned line, const char *word,
                         size_t len, struct complaints *complaints)
{
    if (number_is_cut(word, len))
        complain(complaints,
                 "%s:%u: expected an L after a number of more than 31 bits: "
                 "write %.*sL",
                 path, line, len < 40 ? (int)len : 40, word);
}

/* Looks at what is neither comment nor string. */
static void check_words(const char *path, const char *text,
                        struct complaints *complaints)
{
    unsigned line = 1, values = 0;

    for (const char *p = text; *p != '\0';) {
        const char *next = skip_opaque(p);
        size_t len = 0;

        if (next == p) {
            while (is_word_byte(p[len]))
                len++;
            check_number(path, line, p, len, complaints);
            if ((*p == '=' || *p == ':') && ++values == FILE_MAX_VALUES + 1)
                complain(complaints, "%s:%u: expected at most %d values", path,
                         line, FILE_MAX_VALUES);
            next = p + (len > 0 ? len : 1);
        }
        for (; p < next; p++)
            line += *p == '\n';
    }
}

/* Lines that libconfig would take for an @include, wherever they stand. */
static void check_includes(const char *path, const char *text,
                           struct complaints *complaints)
{
    static const char include[] = "@include";

    for (unsigned line = 1;; line++) {
        const char *word = text + strspn(text, " \t\r\v\f");

        if (strncmp(word, include, sizeof(include) - 1) == 0)
            complain(complaints,
                     "%s:%u: expected all settings in one file: put the "
                     "included lines here instead of @include",
                     path, line);
        text = strchr(word, '\n');
        if (text == NULL)
            return;
        text++;
    }
}

static bool text_is_fit(const char *path, const char *text, size_t len,
                        struct complaints *complaints)
{
    unsigned before = complaints->n;
    unsigned line = 1;

    for (const char *p = text; *p != '\0'; p++)
        line += *p == '\n';
    if (strlen(text) < len) {
        complain(complaints, "%s:%u: expected text, got a NUL byte", path,
                 line);
        return false;
    }
    check_includes(path, text, complaints);
    check_words(path, text, complaints);
    return complaints->n == before;
}

char *settings_read_text(const char *path, enum settings_file_need need,
                         struct complaints *complaints)
{
    size_t len;
    char *text = read_text(path, need, complaints, &len);

    if (text != NULL && !text_is_fit(path, text, len, complaints)) {
        free(text);
        return NULL;
    }
    return text;
}
