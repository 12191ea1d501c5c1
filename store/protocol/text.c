/*
 * The classic commands: a request line into a struct command.
 *
 * Words are parted by spaces only, a line ends at its first NUL, and numbers
 * are what strtoul() and strtol() make of them, because clients and tests have
 * come to rely on how memcached reads them.
 */
#include "store/protocol/parse.h"

#include <string.h>

#define WORDS_MAX 8 /* one more than any command but get may have */

struct word {
    const char *at;
    size_t len;
};

struct words {
    struct word word[WORDS_MAX];
    size_t n; /* counted up to WORDS_MAX */
};

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool word_is(const struct word *word, const char *text)
{
    size_t len = strlen(text);

    return word->len == len && memcmp(word->at, text, len) == 0;
}

static bool next_word(const char **at, const char *end, struct word *out)
{
    const char *p = *at;

    while (p < end && *p == ' ')
        p++;
    out->at = p;
    while (p < end && *p != ' ')
        p++;
    out->len = (size_t)(p - out->at);
    *at = p;
    return out->len > 0;
}

int command_next_word(struct command *command, const char **word, size_t *len)
{
    struct word next;

    if (!next_word(&command->keys, command->keys_end, &next))
        return 0;
    *word = next.at;
    *len = next.len;
    return 1;
}

/* The magnitude and the sign of a number as the strto family reads them;
 * false when it is none, or more than 64 bits. */
static bool read_digits(const struct word *word, uint64_t *magnitude,
                        bool *negative)
{
    const char *p = word->at, *end = word->at + word->len, *digits;
    uint64_t value = 0;

    while (p < end && is_space(*p))
        p++;
    *negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (digits = p; p < end && *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');

        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *magnitude = value;
    return p > digits && (p == end || is_space(*p));
}

static bool read_unsigned(const struct word *word, uint64_t *out)
{
    uint64_t value;
    bool negative;

    if (!read_digits(word, &value, &negative))
        return false;
    if (negative)
        value = -value;
    if (value > INT64_MAX && memchr(word->at, '-', word->len) != NULL)
        return false;
    *out = value;
    return true;
}

/* A signed number, of which the low 32 bits are taken. */
static bool read_signed(const struct word *word, int32_t *out)
{
    uint64_t value;
    bool negative;

    if (!read_digits(word, &value, &negative) ||
        value > (uint64_t)INT64_MAX + negative)
        return false;
    *out = (int32_t)(uint32_t)(negative ? -value : value);
    return true;
}

static bool refuse(struct command *command, enum reply_text text)
{
    command->kind = COMMAND_REFUSED;
    command->refusal = text;
    return true;
}

/* Puts the second word into command as its key. */
static bool take_key(struct command *command, const struct words *w)
{
    command->key = w->word[1].at;
    command->key_len = (uint32_t)w->word[1].len;
    return w->word[1].len <= COMMAND_KEY_MAX;
}

static void take_noreply(struct command *command, const struct words *w)
{
    command->noreply = word_is(&w->word[w->n - 1], "noreply");
}

/* get and its kin: first is what is in front of the keys. */
static bool parse_get(struct command *command, enum command_kind kind,
                      const char *keys, const char *end)
{
    struct word key;

    command->kind = kind;
    command->keys = keys;
    command->keys_end = end;
    if (kind == COMMAND_GAT || kind == COMMAND_GATS) {
        next_word(&command->keys, end, &key);
        if (!read_signed(&key, &command->exptime))
            return refuse(command, REPLY_BAD_EXPTIME);
    }
    if (end - keys <= COMMAND_KEY_MAX)
        return true;
    while (next_word(&keys, end, &key))
        if (key.len > COMMAND_KEY_MAX)
            return refuse(command, REPLY_BAD_FORMAT);
    return true;
}

static bool parse_storage(struct command *command, enum command_kind kind,
                          const struct words *w)
{
    size_t least = kind == COMMAND_CAS ? 6 : 5;
    int32_t len;
    uint64_t flags;

    if (w->n != least && w->n != least + 1)
        return refuse(command, REPLY_ERROR);
    take_noreply(command, w);
    if (!take_key(command, w) || !read_unsigned(&w->word[2], &flags) ||
        !read_signed(&w->word[3], &command->exptime) ||
        !read_signed(&w->word[4], &len) ||
        (kind == COMMAND_CAS && !read_unsigned(&w->word[5], &command->number)))
        return refuse(command, REPLY_BAD_FORMAT);
    if (len < 0 || len > INT32_MAX - 2)
        return refuse(command, REPLY_BAD_FORMAT);
    command->kind = kind;
    command->flags = (uint32_t)flags;
    command->value_len = (uint32_t)len;
    return true;
}

static bool parse_arithmetic(struct command *command, enum command_kind kind,
                             const struct words *w)
{
    if (w->n != 3 && w->n != 4)
        return refuse(command, REPLY_ERROR);
    take_noreply(command, w);
    if (!take_key(command, w))
        return refuse(command, REPLY_BAD_FORMAT);
    if (!read_unsigned(&w->word[2], &command->number))
        return refuse(command, REPLY_BAD_DELTA);
    command->kind = kind;
    return true;
}

static bool parse_touch(struct command *command, const struct words *w)
{
    if (w->n != 3 && w->n != 4)
        return refuse(command, REPLY_ERROR);
    take_noreply(command, w);
    if (!take_key(command, w))
        return refuse(command, REPLY_BAD_FORMAT);
    if (!read_signed(&w->word[2], &command->exptime))
        return refuse(command, REPLY_BAD_EXPTIME);
    command->kind = COMMAND_TOUCH;
    return true;
}

static bool parse_delete(struct command *command, const struct words *w)
{
    if (w->n < 2 || w->n > 4)
        return refuse(command, REPLY_ERROR);
    if (w->n > 2) {
        bool zero = word_is(&w->word[2], "0");

        take_noreply(command, w);
        if (!(w->n == 3 && (zero || command->noreply)) &&
            !(w->n == 4 && zero && command->noreply))
            return refuse(command, REPLY_BAD_DELETE);
    }
    if (!take_key(command, w))
        return refuse(command, REPLY_BAD_FORMAT);
    command->kind = COMMAND_DELETE;
    return true;
}

static bool parse_flush_all(struct command *command, const struct words *w)
{
    if (w->n > 3)
        return refuse(command, REPLY_ERROR);
    take_noreply(command, w);
    command->has_exptime = w->n != (command->noreply ? 2 : 1);
    if (command->has_exptime && !read_signed(&w->word[1], &command->exptime))
        return refuse(command, REPLY_BAD_EXPTIME);
    command->kind = COMMAND_FLUSH_ALL;
    return true;
}

static bool parse_verbosity(struct command *command, const struct words *w)
{
    if (w->n != 2 && w->n != 3)
        return refuse(command, REPLY_ERROR);
    take_noreply(command, w);
    if (!read_unsigned(&w->word[1], &command->number))
        return refuse(command, REPLY_BAD_FORMAT);
    command->kind = COMMAND_VERBOSITY;
    return true;
}

/* A word that is no command: web browsers are sent away. */
static bool parse_unknown(struct command *command, const char *line,
                          const char *end)
{
    const char *last;

    while (end > line && end[-1] == ' ')
        end--;
    for (last = end; last > line && last[-1] != ' ';)
        last--;
    if (end - last >= 5 && memcmp(last, "HTTP/", 5) == 0)
        return false;
    return refuse(command, REPLY_ERROR);
}

/* Commands that may not be mistaken for web requests by their first letter. */
static bool is_claimed(const struct word *name)
{
    return memchr("gsacidt", name->at[0], 7) != NULL ||
           (name->at[0] == 'm' && name->len == 2);
}

static bool parse_rest(struct command *command, const char *rest,
                       const char *end, const struct words *w)
{
    static const struct {
        const char *name;
        enum command_kind kind;
    } storage[] = {
        {"set", COMMAND_SET},       {"add", COMMAND_ADD},
        {"cas", COMMAND_CAS},       {"replace", COMMAND_REPLACE},
        {"append", COMMAND_APPEND}, {"prepend", COMMAND_PREPEND},
    };
    const struct word *name = &w->word[0];

    for (size_t i = 0; i < sizeof(storage) / sizeof(storage[0]); i++)
        if (word_is(name, storage[i].name))
            return parse_storage(command, storage[i].kind, w);
    if (word_is(name, "incr"))
        return parse_arithmetic(command, COMMAND_INCR, w);
    if (word_is(name, "decr"))
        return parse_arithmetic(command, COMMAND_DECR, w);
    if (word_is(name, "delete"))
        return parse_delete(command, w);
    if (word_is(name, "touch"))
        return parse_touch(command, w);
    if (word_is(name, "flush_all"))
        return parse_flush_all(command, w);
    if (word_is(name, "verbosity"))
        return parse_verbosity(command, w);
    command->keys = rest;
    command->keys_end = end;
    command->kind = word_is(name, "version")    ? COMMAND_VERSION
                    : word_is(name, "quit")     ? COMMAND_QUIT
                    : word_is(name, "stats")    ? COMMAND_STATS
                    : word_is(name, "shutdown") ? COMMAND_SHUTDOWN
                                                : COMMAND_REFUSED;
    if (command->kind != COMMAND_REFUSED)
        return true;
    return is_claimed(name) ? refuse(command, REPLY_ERROR)
                            : parse_unknown(command, name->at, end);
}

/* The retrieval command that name is, or COMMAND_REFUSED. */
static enum command_kind retrieval(const struct word *name)
{
    return word_is(name, "get")    ? COMMAND_GET
           : word_is(name, "gets") ? COMMAND_GETS
           : word_is(name, "gat")  ? COMMAND_GAT
           : word_is(name, "gats") ? COMMAND_GATS
           : word_is(name, "bget") ? COMMAND_GET
                                   : COMMAND_REFUSED;
}

bool text_parse(const char *line, size_t len, struct command *command)
{
    const char *nul = memchr(line, '\0', len);
    const char *end = nul != NULL ? nul : line + len;
    const char *at = line, *rest;
    enum command_kind kind;
    struct words w;

    *command = (struct command){.line = line, .line_len = (uint32_t)len};
    if (!next_word(&at, end, &w.word[0]) || w.word[0].len < 2)
        return refuse(command, REPLY_ERROR);
    rest = at;
    kind = retrieval(&w.word[0]);
    w.n = 1;
    while (w.n < WORDS_MAX && next_word(&at, end, &w.word[w.n])) {
        w.n++;
        if (kind != COMMAND_REFUSED)
            return parse_get(command, kind, rest, end);
    }
    if (kind != COMMAND_REFUSED)
        return refuse(command, REPLY_ERROR);
    return parse_rest(command, rest, end, &w);
}
