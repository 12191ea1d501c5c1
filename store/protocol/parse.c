/*
 * Frames requests: a line, and behind a storage command's line its value and
 * a line end. What a line says is text.c's to find out.
 *
 * Nothing is kept between calls but counters that save work: `scanned` so that
 * a line that comes byte by byte is searched once, `need` so that a value that
 * comes in pieces costs one parse of its line at its beginning and one at its
 * end.
 */
#include "store/protocol/parse.h"

#include <string.h>

#define LEADING_MAX 100 /* spaces before the get of a long line */

enum { BINARY_REQUEST = 0x80 };

void parser_init(struct parser *parser, size_t inline_max)
{
    *parser = (struct parser){.inline_max = inline_max};
}

void parser_skip(struct parser *parser, uint64_t len)
{
    parser->skip += len;
}

/* Whether a line that is too long so far may still be a big multiget. */
static bool may_be_long(const char *in, size_t len)
{
    size_t i = 0;

    if (len > PARSE_GET_MAX)
        return false;
    while (i <= LEADING_MAX && in[i] == ' ')
        i++;
    return i <= LEADING_MAX &&
           (memcmp(in + i, "get ", 4) == 0 || memcmp(in + i, "gets ", 5) == 0);
}

/* The line is whole and asks for a value; body is where the value begins. */
static enum parse_result take_value(struct parser *parser, const char *in,
                                    size_t len, size_t body, size_t *used,
                                    struct command *command)
{
    size_t end = body + command->value_len;

    if (command->value_len > parser->inline_max) {
        *used = body;
        return PARSE_BODY;
    }
    if (len < end + 2) {
        parser->need = end + 2;
        return PARSE_MORE;
    }
    *used = end + 2;
    if (in[end] == '\r' && in[end + 1] == '\n') {
        command->value = in + body;
    } else {
        command->kind = COMMAND_REFUSED;
        command->refusal = REPLY_BAD_CHUNK;
    }
    return PARSE_COMMAND;
}

static enum parse_result next_request(struct parser *parser, const char *in,
                                      size_t len, size_t *used,
                                      struct command *command)
{
    const char *end;
    size_t line_len;

    if (!parser->begun && (unsigned char)in[0] == BINARY_REQUEST)
        return PARSE_CLOSE;
    parser->begun = true;
    end = memchr(in + parser->scanned, '\n', len - parser->scanned);
    if (end == NULL) {
        parser->scanned = len;
        return len > PARSE_LINE_MAX && !may_be_long(in, len) ? PARSE_CLOSE
                                                             : PARSE_MORE;
    }
    line_len = (size_t)(end - in);
    if (line_len > 1 && end[-1] == '\r')
        line_len--;
    if (!text_parse(in, line_len, command))
        return PARSE_CLOSE;
    *used = (size_t)(end - in) + 1;
    if (command->kind >= COMMAND_SET && command->kind <= COMMAND_CAS) {
        size_t body = *used;

        *used = 0;
        parser->scanned = body - 1;
        return take_value(parser, in, len, body, used, command);
    }
    return PARSE_COMMAND;
}

enum parse_result parser_next(struct parser *parser, const char *in, size_t len,
                              size_t *used, struct command *command)
{
    enum parse_result result;

    *used = 0;
    if (len == 0)
        return PARSE_MORE;
    if (parser->skip > 0) {
        *used = parser->skip < len ? (size_t)parser->skip : len;
        parser->skip -= *used;
        return PARSE_SKIPPED;
    }
    if (len < parser->need)
        return PARSE_MORE;
    parser->need = 0;
    result = next_request(parser, in, len, used, command);
    if (result != PARSE_MORE)
        parser->scanned = 0;
    return result;
}
