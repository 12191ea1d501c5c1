#include "store/protocol/reply.h"

#include <string.h>

struct text {
    const char *line;
    size_t len;
};

/* clang-format off */
#define TEXT(s) { s "\r\n", sizeof(s "\r\n") - 1 }
static const struct text texts[REPLY_N_TEXTS] = {
    [REPLY_STORED] = TEXT("STORED"),
    [REPLY_NOT_STORED] = TEXT("NOT_STORED"),
    [REPLY_EXISTS] = TEXT("EXISTS"),
    [REPLY_NOT_FOUND] = TEXT("NOT_FOUND"),
    [REPLY_DELETED] = TEXT("DELETED"),
    [REPLY_TOUCHED] = TEXT("TOUCHED"),
    [REPLY_OK] = TEXT("OK"),
    [REPLY_END] = TEXT("END"),
    [REPLY_RESET] = TEXT("RESET"),
    [REPLY_ERROR] = TEXT("ERROR"),
    [REPLY_BAD_FORMAT] = TEXT("CLIENT_ERROR bad command line format"),
    [REPLY_BAD_CHUNK] = TEXT("CLIENT_ERROR bad data chunk"),
    [REPLY_BAD_DELTA] = TEXT("CLIENT_ERROR invalid numeric delta argument"),
    [REPLY_BAD_EXPTIME] = TEXT("CLIENT_ERROR invalid exptime argument"),
    [REPLY_BAD_DELETE] = TEXT("CLIENT_ERROR bad command line format.  "
                              "Usage: delete <key> [noreply]"),
    [REPLY_NOT_NUMBER] = TEXT("CLIENT_ERROR cannot increment or decrement "
                              "non-numeric value"),
    [REPLY_TOO_LARGE] = TEXT("SERVER_ERROR object too large for cache"),
    [REPLY_NO_MEMORY_STORING] = TEXT("SERVER_ERROR out of memory "
                                     "storing object"),
    [REPLY_NO_MEMORY] = TEXT("SERVER_ERROR out of memory"),
    [REPLY_NO_SHUTDOWN] = TEXT("ERROR: shutdown not enabled"),
    [REPLY_BAD_SHUTDOWN] = TEXT("CLIENT_ERROR invalid shutdown mode"),
    [REPLY_NO_FLUSH] = TEXT("CLIENT_ERROR flush_all not allowed"),
    [REPLY_BAD_DETAIL] = TEXT("CLIENT_ERROR usage: stats detail on|off|dump"),
    [REPLY_BAD_LINE] = TEXT("CLIENT_ERROR bad command line"),
    [REPLY_BAD_SLAB] = TEXT("CLIENT_ERROR Illegal slab id"),
    [REPLY_TOO_MANY] = TEXT("ERROR Too many open connections"),
};
/* clang-format on */

const char *reply_text(enum reply_text text, size_t *len)
{
    *len = texts[text].len;
    return texts[text].line;
}

/* Decimal digits of number; returns where they end. */
static char *put_number(char *out, uint64_t number)
{
    char digits[20];
    size_t n = 0;

    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    while (n > 0)
        *out++ = digits[--n];
    return out;
}

size_t reply_number(char *out, uint64_t number)
{
    char *end = put_number(out, number);

    *end++ = '\r';
    *end++ = '\n';
    return (size_t)(end - out);
}

size_t reply_value(char *out, const char *key, size_t key_len, uint32_t flags,
                   uint32_t len, bool with_cas, uint64_t cas)
{
    char *end = out;

    memcpy(end, "VALUE ", 6);
    end += 6;
    memcpy(end, key, key_len);
    end += key_len;
    *end++ = ' ';
    end = put_number(end, flags);
    *end++ = ' ';
    end = put_number(end, len);
    if (with_cas) {
        *end++ = ' ';
        end = put_number(end, cas);
    }
    *end++ = '\r';
    *end++ = '\n';
    return (size_t)(end - out);
}
