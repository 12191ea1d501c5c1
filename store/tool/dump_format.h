/*
 * A dump: the items of one pool as lines of text and counted bytes, written and
 * read from front to back. docs/dump.md says it in words.
 */
#ifndef STORE_TOOL_DUMP_FORMAT_H
#define STORE_TOOL_DUMP_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define DUMP_VERSION  1
#define DUMP_NAME_MAX 87

/* CRC-32 as zip and PNG have it. */
struct dump_crc {
    uint32_t table[256];
};

void dump_crc_init(struct dump_crc *crc);
uint32_t dump_crc_add(const struct dump_crc *crc, uint32_t sum,
                      const void *bytes, size_t len);

struct dump_head {
    char pool[DUMP_NAME_MAX + 1]; /* its name */
    uint64_t size;                /* bytes of the pool */
    uint64_t time;                /* unix seconds of the dump */
};

struct dump_item {
    uint32_t klen; /* bytes */
    uint32_t vlen;
    uint32_t flags;
    uint32_t exptime; /* unix seconds, 0 = never */
    uint64_t cas;
};

struct dump_writer {
    FILE *out;
    struct dump_crc crc;
    uint64_t bytes; /* written so far */
    uint64_t items;
};

/* Errors of the stream are the caller's to ask for, once, at the end. */
void dump_write_head(struct dump_writer *writer, FILE *out,
                     const struct dump_head *head);

/* The bytes of the value come as the caller has them: first the sum over all,
 * begun by dump_item_sum() and continued by dump_crc_add(), then the item's
 * line and key, then dump_write() for each part of the value. */
uint32_t dump_item_sum(const struct dump_writer *writer,
                       const struct dump_item *item, const void *key);
void dump_write_item(struct dump_writer *writer, const struct dump_item *item,
                     const void *key, uint32_t sum);
void dump_write(struct dump_writer *writer, const void *bytes, size_t len);
void dump_write_end(struct dump_writer *writer);

struct dump_reader {
    FILE *in;
    struct dump_crc crc;
    uint64_t at;        /* bytes read so far */
    uint64_t items;     /* read so far */
    unsigned char *buf; /* key and value of the last item */
    size_t room;
    char *error; /* the caller's: a sentence with the place */
    size_t error_size;
};

/* error stays with the reader. 0, or -EINVAL with a sentence. */
int dump_read_head(struct dump_reader *reader, FILE *in, struct dump_head *head,
                   char *error, size_t error_size);

/* 1: an item, its key in buf and its value behind it, until the next call. 0:
 * the end. -EINVAL, -EIO, -ENOMEM with a sentence. */
int dump_read_item(struct dump_reader *reader, struct dump_item *item);

void dump_reader_fini(struct dump_reader *reader);

#endif
