/*
 * Hostile dumps: the reader must refuse them with a sentence that names a byte,
 * or read items that write the same dump again.
 */
#include "store/tool/dump_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "dump: %s\n", what);
    abort();
}

static void write_item(struct dump_writer *writer, struct dump_item *item,
                       const unsigned char *bytes)
{
    uint32_t sum = dump_item_sum(writer, item, bytes);
    sum = dump_crc_add(&writer->crc, sum, bytes + item->klen, item->vlen);
    dump_write_item(writer, item, bytes, sum);
    dump_write(writer, bytes + item->klen, item->vlen);
}

/* Read all of it, and write what was read. */
static int copy(FILE *in, FILE *out, char *error, size_t error_size)
{
    struct dump_reader reader;
    struct dump_writer writer;
    struct dump_head head;
    struct dump_item item;
    int rc = dump_read_head(&reader, in, &head, error, error_size);
    if (rc == 0) {
        dump_write_head(&writer, out, &head);
        while ((rc = dump_read_item(&reader, &item)) == 1) {
            must(item.klen > 0 && reader.room >= item.klen + item.vlen,
                 "an item without room");
            write_item(&writer, &item, reader.buf);
        }
        dump_write_end(&writer);
    }
    dump_reader_fini(&reader);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[300] = "", *bytes = NULL;
    size_t len = 0;
    FILE *in = size ? fmemopen((void *)(uintptr_t)data, size, "r")
                    : fopen("/dev/null", "re");
    FILE *out = open_memstream(&bytes, &len);
    must(in && out, "no memory");
    int rc = copy(in, out, error, sizeof(error));
    fclose(in);
    fclose(out);
    must(rc == 0 || strstr(error, "byte "), "refused without a place");
    must(rc < 0 || (len == size && memcmp(bytes, data, size) == 0),
         "what was read is not what was written");
    free(bytes);
    return 0;
}

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max)
{
    struct dump_head head = {.pool = "default", .size = n, .time = n >> 8};
    struct dump_writer writer;
    unsigned char bytes[512];
    FILE *out = fmemopen(buf, max, "w");
    must(out != NULL, "no memory");
    setvbuf(out, NULL, _IONBF, 0);
    dump_write_head(&writer, out, &head);
    for (unsigned i = 0; i < n % 5; i++) {
        struct dump_item item = {.klen = 1 + (uint32_t)(n >> i) % 40,
                                 .vlen = (uint32_t)(n >> (i + 5)) % 400,
                                 .flags = (uint32_t)n,
                                 .exptime = (uint32_t)(n >> 32),
                                 .cas = n >> i};
        for (unsigned k = 0; k < sizeof(bytes); k++)
            bytes[k] = (unsigned char)(n >> k % 56);
        write_item(&writer, &item, bytes);
    }
    dump_write_end(&writer);
    fclose(out);
    return writer.bytes < max ? writer.bytes : max;
}
