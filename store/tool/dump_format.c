/* See dump_format.h. */
#include "store/tool/dump_format.h"

#include "store/engine/engine.h"
#include "store/pm/region_layout.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 256
#define POLYNOMIAL     0xedb88320u
#define ROOM_STEP      ((size_t)1 << 20)

void dump_crc_init(struct dump_crc *crc)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t sum = i;
        for (int bit = 0; bit < 8; bit++)
            sum = sum >> 1 ^ (sum & 1 ? POLYNOMIAL : 0);
        crc->table[i] = sum;
    }
}

uint32_t dump_crc_add(const struct dump_crc *crc, uint32_t sum,
                      const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    sum = ~sum;
    for (size_t i = 0; i < len; i++)
        sum = sum >> 8 ^ crc->table[(sum ^ at[i]) & 0xff];
    return ~sum;
}

static void put(struct dump_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put(struct dump_writer *writer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vfprintf(writer->out, format, args);
    va_end(args);
    if (n > 0)
        writer->bytes += (uint64_t)n;
}

void dump_write_head(struct dump_writer *writer, FILE *out,
                     const struct dump_head *head)
{
    *writer = (struct dump_writer){.out = out};
    dump_crc_init(&writer->crc);
    put(writer, "kvpool dump %d\n", DUMP_VERSION);
    put(writer, "pool %s\nsize %llu\ntime %llu\n\n", head->pool,
        (unsigned long long)head->size, (unsigned long long)head->time);
}

static int numbers_of(const struct dump_item *item, char text[LINE_MAX_BYTES])
{
    return snprintf(text, LINE_MAX_BYTES, "%u %u %u %u %llu", item->klen,
                    item->vlen, item->flags, item->exptime,
                    (unsigned long long)item->cas);
}

static uint32_t sum_begin(const struct dump_crc *crc,
                          const struct dump_item *item, const void *key)
{
    char text[LINE_MAX_BYTES];
    int n = numbers_of(item, text);
    uint32_t sum = dump_crc_add(crc, 0, text, (size_t)n);
    return dump_crc_add(crc, sum, key, item->klen);
}

uint32_t dump_item_sum(const struct dump_writer *writer,
                       const struct dump_item *item, const void *key)
{
    return sum_begin(&writer->crc, item, key);
}

void dump_write_item(struct dump_writer *writer, const struct dump_item *item,
                     const void *key, uint32_t sum)
{
    char text[LINE_MAX_BYTES];
    numbers_of(item, text);
    put(writer, "\nitem %s %08x\n", text, sum);
    dump_write(writer, key, item->klen);
    writer->items++;
}

void dump_write(struct dump_writer *writer, const void *bytes, size_t len)
{
    fwrite(bytes, 1, len, writer->out);
    writer->bytes += len;
}

void dump_write_end(struct dump_writer *writer)
{
    uint64_t bytes = writer->bytes;
    put(writer, "\nend %llu %llu\n", (unsigned long long)writer->items,
        (unsigned long long)bytes);
}

static int refuse(struct dump_reader *r, uint64_t at, int rc,
                  const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(struct dump_reader *r, uint64_t at, int rc,
                  const char *format, ...)
{
    va_list args;
    int n = snprintf(r->error, r->error_size,
                     "byte %llu, after %llu items: ", (unsigned long long)at,
                     (unsigned long long)r->items);
    if (n < 0 || (size_t)n >= r->error_size)
        return rc;
    va_start(args, format);
    vsnprintf(r->error + n, r->error_size - (size_t)n, format, args);
    va_end(args);
    return rc;
}

/* A line without its end. */
static int read_line(struct dump_reader *r, char line[LINE_MAX_BYTES])
{
    uint64_t at = r->at;
    for (size_t n = 0; n < LINE_MAX_BYTES; n++) {
        int c = getc(r->in);
        if (c == EOF)
            return refuse(r, r->at, ferror(r->in) ? -EIO : -EINVAL, "%s",
                          ferror(r->in) ? "it cannot be read"
                                        : "the dump ends too early");
        r->at++;
        line[n] = (char)c;
        if (c == '\n') {
            line[n] = '\0';
            return strlen(line) == n
                       ? 0
                       : refuse(r, at, -EINVAL, "expected a line of text");
        }
    }
    return refuse(r, at, -EINVAL, "expected a line of less than %d bytes",
                  LINE_MAX_BYTES);
}

/* A decimal number as dump_write_item() writes it, then `end`. */
static bool take_number(const char **at, char end, uint64_t max, uint64_t *out)
{
    char *stop;
    if (**at < '0' || **at > '9' || (**at == '0' && (*at)[1] != end))
        return false;
    errno = 0;
    unsigned long long n = strtoull(*at, &stop, 10);
    if (errno != 0 || *stop != end || n > max)
        return false;
    *at = stop + (end != '\0');
    *out = n;
    return true;
}

static int read_head_line(struct dump_reader *r, const char *word,
                          uint64_t *number)
{
    char line[LINE_MAX_BYTES];
    const char *at = line;
    uint64_t begin = r->at;
    int rc = read_line(r, line);
    if (rc < 0)
        return rc;
    size_t len = strlen(word);
    if (strncmp(line, word, len) != 0 || line[len] != ' ')
        return refuse(r, begin, -EINVAL, "expected the line '%s NUMBER'", word);
    at += len + 1;
    if (!take_number(&at, '\0', UINT64_MAX, number))
        return refuse(r, begin, -EINVAL, "expected the line '%s NUMBER'", word);
    return 0;
}

static int read_name(struct dump_reader *r, struct dump_head *head)
{
    char line[LINE_MAX_BYTES];
    uint64_t begin = r->at;
    int rc = read_line(r, line);
    if (rc < 0)
        return rc;
    if (strncmp(line, "pool ", 5) != 0 || strlen(line + 5) > DUMP_NAME_MAX ||
        line[5] == '\0')
        return refuse(r, begin, -EINVAL, "expected the line 'pool NAME'");
    memcpy(head->pool, line + 5, strlen(line + 5) + 1);
    return 0;
}

int dump_read_head(struct dump_reader *r, FILE *in, struct dump_head *head,
                   char *error, size_t error_size)
{
    char line[LINE_MAX_BYTES];
    *r = (struct dump_reader){
        .in = in, .error = error, .error_size = error_size};
    dump_crc_init(&r->crc);
    int rc = read_line(r, line);
    if (rc == -EIO)
        return rc;
    if (rc < 0 || strncmp(line, "kvpool dump ", 12) != 0)
        return refuse(r, 0, -EINVAL,
                      "this is no dump: it does not begin with 'kvpool dump'");
    if (strcmp(line + 12, "1") != 0)
        return refuse(r, 0, -EINVAL,
                      "this dump has version %s, this program knows version 1; "
                      "use a newer program",
                      line + 12);
    rc = read_name(r, head);
    if (rc == 0)
        rc = read_head_line(r, "size", &head->size);
    if (rc == 0)
        rc = read_head_line(r, "time", &head->time);
    if (rc == 0)
        rc = read_line(r, line);
    if (rc == 0 && line[0] != '\0')
        rc = refuse(r, r->at, -EINVAL, "expected an empty line");
    return rc;
}

/* The bytes come bit by bit, so that a length that is a lie costs little. */
static int read_bytes(struct dump_reader *r, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t step = len - done < ROOM_STEP ? len - done : ROOM_STEP;
        if (r->room < done + step) {
            size_t room = 2 * r->room > done + step ? 2 * r->room : done + step;
            unsigned char *more = realloc(r->buf, room);
            if (!more)
                return refuse(r, r->at, -ENOMEM,
                              "no memory for an item of %zu bytes", len);
            r->buf = more;
            r->room = room;
        }
        size_t n = fread(r->buf + done, 1, step, r->in);
        r->at += n;
        done += n;
        if (n < step)
            return refuse(r, r->at, ferror(r->in) ? -EIO : -EINVAL, "%s",
                          ferror(r->in) ? "it cannot be read"
                                        : "the dump ends within an item");
    }
    return 0;
}

static bool parse_item(const char *at, struct dump_item *item, uint32_t *sum)
{
    uint64_t klen, vlen, flags, exptime;
    char *stop;
    if (!take_number(&at, ' ', KV_MAX_KEY, &klen) || klen == 0 ||
        !take_number(&at, ' ', KV_MAX_VALUE, &vlen) ||
        !take_number(&at, ' ', UINT32_MAX, &flags) ||
        !take_number(&at, ' ', UINT32_MAX, &exptime) ||
        !take_number(&at, ' ', UINT64_MAX, &item->cas) ||
        strspn(at, "0123456789abcdef") != 8 || at[8] != '\0')
        return false;
    *sum = (uint32_t)strtoul(at, &stop, 16);
    item->klen = (uint32_t)klen;
    item->vlen = (uint32_t)vlen;
    item->flags = (uint32_t)flags;
    item->exptime = (uint32_t)exptime;
    return true;
}

static int read_end(struct dump_reader *r, const char *at, uint64_t begin)
{
    uint64_t items, bytes;
    if (!take_number(&at, ' ', UINT64_MAX, &items) ||
        !take_number(&at, '\0', UINT64_MAX, &bytes))
        return refuse(r, begin, -EINVAL, "expected 'end ITEMS BYTES'");
    if (items != r->items || bytes != begin - 1)
        return refuse(r, begin, -EINVAL,
                      "the end speaks of %llu items in %llu bytes: a part of "
                      "the dump is missing",
                      (unsigned long long)items, (unsigned long long)bytes);
    if (getc(r->in) != EOF)
        return refuse(r, r->at, -EINVAL, "something follows the end");
    return 0;
}

int dump_read_item(struct dump_reader *r, struct dump_item *item)
{
    char line[LINE_MAX_BYTES];
    uint32_t sum;
    int rc = read_line(r, line);
    if (rc < 0)
        return rc;
    if (line[0] != '\0')
        return refuse(r, r->at - strlen(line) - 1, -EINVAL,
                      "expected the end of a line after an item's bytes");
    uint64_t begin = r->at;
    rc = read_line(r, line);
    if (rc < 0)
        return rc;
    if (strncmp(line, "end ", 4) == 0)
        return read_end(r, line + 4, begin);
    if (strncmp(line, "item ", 5) != 0 || !parse_item(line + 5, item, &sum))
        return refuse(r, begin, -EINVAL,
                      "expected 'item KLEN VLEN FLAGS EXPTIME CAS SUM' or 'end "
                      "ITEMS BYTES'");
    if (item->cas == 0 || item->cas >= POOL_CAS_GIVEN)
        return refuse(r, begin, -EINVAL,
                      "the cas id %llu is not from 1 to 2^61 - 1",
                      (unsigned long long)item->cas);
    rc = read_bytes(r, (size_t)item->klen + item->vlen);
    if (rc < 0)
        return rc;
    uint32_t now = sum_begin(&r->crc, item, r->buf);
    now = dump_crc_add(&r->crc, now, r->buf + item->klen, item->vlen);
    if (now != sum)
        return refuse(r, begin, -EINVAL,
                      "the bytes of this item do not match its sum");
    r->items++;
    return 1;
}

void dump_reader_fini(struct dump_reader *r)
{
    free(r->buf);
    r->buf = NULL;
}
