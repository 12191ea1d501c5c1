/*
 * Opening a pool: lock the file, then judge it by a copy of its header, then
 * map it. Nothing is written before every check has passed.
 *
 * Creating one: the first bytes of the file say "unbuilt" from the start; the
 * rest is allocated and written, and the true magic is the last word, after a
 * fence. Whoever finds "unbuilt", or an empty file, may begin again.
 */
#include "store/pm/region.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* One open in progress. */
struct opening {
    const char *path;
    const struct region_options *options;
    struct region *region;
    uint64_t file_size;
    struct region_header header; /* a copy: nobody changes it under us */
    char *error;
    size_t error_size;
};

__attribute__((format(printf, 3, 4))) static int
refuse(struct opening *o, int rc, const char *format, ...)
{
    va_list args;
    int n = snprintf(o->error, o->error_size, "%s ", o->path);
    if (n < 0 || (size_t)n >= o->error_size)
        return rc;
    va_start(args, format);
    vsnprintf(o->error + n, o->error_size - (size_t)n, format, args);
    va_end(args);
    return rc;
}

/* Fletcher's sum over 32-bit words. */
uint64_t region_check(const struct region_header *header)
{
    const unsigned char *at = (const unsigned char *)header;
    uint64_t low = 1, high = 0;
    for (size_t off = 8; off < offsetof(struct region_header, check);
         off += 4) {
        uint32_t word;
        memcpy(&word, at + off, sizeof(word));
        low = (low + word) % UINT32_MAX;
        high = (high + low) % UINT32_MAX;
    }
    return high << 32 | low;
}

static bool part_fits(const struct region_part *part, uint64_t size)
{
    return part->offset % 64 == 0 && part->size % 64 == 0 &&
           part->offset >= REGION_HEADER_SIZE && part->offset <= size &&
           part->size <= size - part->offset;
}

/* A power of two of entries, as many as places can be numbered. */
static bool table_fits(const struct region_part *table)
{
    uint64_t n = table->size / REGION_ENTRY;
    return n >= REGION_PLACES_MIN && n <= REGION_PLACES_MAX &&
           (n & (n - 1)) == 0 && table->size % REGION_ENTRY == 0;
}

static int check_parts(struct opening *o)
{
    const struct region_header *h = &o->header;
    const struct region_state *s = &h->state;
    if (h->header_size != REGION_HEADER_SIZE || h->size % 4096 != 0 ||
        h->size < REGION_HEADER_SIZE || !part_fits(&h->table, h->size) ||
        !part_fits(&h->heap, h->size) || !table_fits(&h->table) ||
        h->heap.size == 0 || h->heap.offset < h->table.offset ||
        h->heap.offset - h->table.offset < h->table.size)
        return refuse(o, -EINVAL,
                      "is damaged: its header describes parts that do not "
                      "fit; restore it from a copy");
    if (s->clean > 1 || s->flush_live > 1 || s->cas_ceiling == 0 ||
        s->cas_ceiling > REGION_CEILING_MAX)
        return refuse(o, -EINVAL,
                      "is damaged: the changing part of its header holds "
                      "impossible values; restore it from a copy");
    return 0;
}

static int check_header(struct opening *o)
{
    struct region_header *h = &o->header;
    if (h->magic != REGION_MAGIC)
        return refuse(o, -EINVAL,
                      "is not a fastsock pool: its first bytes are others; "
                      "give the name of a pool, or of a file that does not "
                      "exist");
    h->layout[sizeof(h->layout) - 1] = '\0';
    if (strcmp(h->layout, REGION_LAYOUT) != 0)
        return refuse(o, -EINVAL,
                      "holds another layout than \"" REGION_LAYOUT
                      "\"; open it with the program that made it");
    if (h->version != REGION_VERSION)
        return refuse(o, -EINVAL,
                      "has format version %u, this program knows version %u; "
                      "use a program of its version",
                      h->version, REGION_VERSION);
    if (h->check != region_check(h))
        return refuse(o, -EINVAL,
                      "is damaged: the checksum of its header does not match; "
                      "restore it from a copy");
    if (h->incompat & ~REGION_KNOWN_INCOMPAT)
        return refuse(
            o, -EINVAL,
            "uses features that this program does not know (bits "
            "0x%llx); use a newer program",
            (unsigned long long)(h->incompat & ~REGION_KNOWN_INCOMPAT));
    if (h->size > o->file_size)
        return refuse(o, -EINVAL,
                      "is truncated: it has %llu of %llu bytes; restore it "
                      "from a copy",
                      (unsigned long long)o->file_size,
                      (unsigned long long)h->size);
    return check_parts(o);
}

/* A file cannot be trusted to keep its holes: a full disk would be SIGBUS. */
static int allocate(struct opening *o, uint64_t size)
{
    int rc = posix_fallocate(o->region->fd, 0, (off_t)size);
    if (rc == 0)
        return 0;
    return refuse(o, -rc, "cannot have %llu bytes allocated: %s",
                  (unsigned long long)size, strerror(rc));
}

static int map(struct opening *o)
{
    const struct region_options *options = o->options;
    struct region *region = o->region;
    int rc = pm_map(&region->pm, region->fd, o->header.size, options->policy,
                    options->hook);
    if (rc == -ENOTSUP)
        return refuse(o, rc,
                      "is not on persistent memory, as durability \"pmem\" "
                      "wants; use \"sync\" or \"process\"");
    if (rc < 0)
        return refuse(o, rc, "cannot be mapped: %s", strerror(-rc));
    region->header = (struct region_header *)region->pm.base;
    return 0;
}

static int plan_header(struct opening *o)
{
    struct region_header *h = &o->header;
    uint64_t size = o->options->size / 4096 * 4096;
    uint64_t table = o->options->table_size;
    struct region_part planned = {REGION_HEADER_SIZE, table};
    if (size > INT64_MAX || !table_fits(&planned) ||
        size < REGION_HEADER_SIZE + 4096 ||
        table > size - REGION_HEADER_SIZE - 4096)
        return refuse(o, -EINVAL,
                      "cannot be made with %llu bytes: give a size that holds "
                      "a header, a table and values",
                      (unsigned long long)o->options->size);
    *h = (struct region_header){.magic = REGION_MAGIC,
                                .layout = REGION_LAYOUT,
                                .version = REGION_VERSION,
                                .header_size = REGION_HEADER_SIZE,
                                .size = size,
                                .created = (uint64_t)time(NULL)};
    h->table = planned;
    h->heap.offset = REGION_HEADER_SIZE + table;
    h->heap.size = size - h->heap.offset;
    if (getrandom(h->uuid, sizeof(h->uuid), 0) != sizeof(h->uuid) ||
        getrandom(h->seed, sizeof(h->seed), 0) != sizeof(h->seed))
        return refuse(o, -EIO, "needs random bytes, and getrandom failed");
    h->uuid[6] = (uint8_t)((h->uuid[6] & 0x0f) | 0x40); /* version 4 */
    h->uuid[8] = (uint8_t)((h->uuid[8] & 0x3f) | 0x80); /* RFC 4122 */
    h->check = region_check(h);
    h->state = (struct region_state){
        .clean = 1, .cas_ceiling = 1, .flush = {{0, 0}, {0, 0}}};
    return 0;
}

/* The file's size and name are metadata: only fsync makes them durable. */
static int sync_names(struct opening *o)
{
    char copy[PATH_MAX];
    if (fsync(o->region->fd) < 0)
        return refuse(o, -errno, "cannot be synced: %s", strerror(errno));
    if (snprintf(copy, sizeof(copy), "%s", o->path) >= (int)sizeof(copy))
        return refuse(o, -ENAMETOOLONG, "is too long a name");
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0; /* a folder we may not read: its owner's business */
    fsync(fd);
    close(fd);
    return 0;
}

static int build(struct opening *o)
{
    static const uint64_t unbuilt = REGION_MAGIC_UNBUILT;
    struct region *region = o->region;
    struct region_header *h = &o->header;
    int rc = plan_header(o);
    if (rc < 0)
        return rc;
    if (ftruncate(region->fd, 0) < 0 ||
        pwrite(region->fd, &unbuilt, sizeof(unbuilt), 0) < 0)
        return refuse(o, -errno, "cannot be written: %s", strerror(errno));
    rc = allocate(o, h->size);
    if (rc < 0)
        return rc;
    rc = map(o);
    if (rc < 0)
        return rc;
    pm_copy(&region->pm, &region->header->layout, &h->layout,
            sizeof(*h) - offsetof(struct region_header, layout));
    rc = pm_fence(&region->pm);
    if (rc < 0)
        goto undo_map;
    rc = sync_names(o);
    if (rc < 0)
        goto undo_sync;
    region_set(region, &region->header->magic, REGION_MAGIC);
    rc = pm_fence(&region->pm);
    if (rc < 0)
        goto undo_map;
    region->created = true;
    return 0;

undo_map:
    refuse(o, rc, "cannot be written: %s", strerror(-rc));
undo_sync:
    pm_unmap(&region->pm);
    return rc;
}

/* Whether the file is empty, or was left by a crash while being built. */
static bool is_unbuilt(const struct opening *o)
{
    return o->file_size == 0 || o->header.magic == REGION_MAGIC_UNBUILT;
}

static int read_header(struct opening *o)
{
    struct stat st;
    int fd = o->region->fd;
    if (fstat(fd, &st) < 0)
        return refuse(o, -errno, "cannot be examined: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return refuse(o, -EINVAL, "is not a regular file: give one");
    o->file_size = (uint64_t)st.st_size;
    ssize_t n = pread(fd, &o->header, sizeof(o->header), 0);
    if (n < 0)
        return refuse(o, -errno, "cannot be read: %s", strerror(errno));
    if (n >= 8 && o->header.magic == REGION_MAGIC_UNBUILT)
        return 0;
    if (n > 0 && (size_t)n < sizeof(o->header))
        return refuse(o, -EINVAL,
                      "is too short for a pool (%lld bytes): it is another "
                      "file, or truncated",
                      (long long)st.st_size);
    return 0;
}

static int lock(struct opening *o)
{
    uint64_t opener = 0;
    if (flock(o->region->fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return refuse(o, -errno, "cannot be locked: %s", strerror(errno));
    off_t at = offsetof(struct region_header, state.opener);
    if (pread(o->region->fd, &opener, sizeof(opener), at) != sizeof(opener))
        opener = 0;
    return refuse(o, -EBUSY,
                  "is already open by pid %llu; stop that program first or "
                  "use another pool",
                  (unsigned long long)opener);
}

static int open_file(struct opening *o, bool *made)
{
    int flags = O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int fd = open(o->path, flags);
    *made = false;
    if (fd < 0 && errno == ENOENT && o->options->size > 0) {
        fd = open(o->path, flags | O_CREAT | O_EXCL, 0600);
        *made = fd >= 0;
    }
    if (fd < 0 && errno == ENOENT && o->options->size == 0)
        return refuse(o, -ENOENT, "does not exist; give a size to create it");
    if (fd < 0)
        return refuse(o, -errno, "cannot be opened: %s", strerror(errno));
    o->region->fd = fd;
    return 0;
}

static int prepare(struct opening *o)
{
    int rc = lock(o);
    if (rc < 0)
        return rc;
    rc = read_header(o);
    if (rc < 0)
        return rc;
    if (is_unbuilt(o)) {
        if (o->options->size == 0)
            return refuse(o, -EINVAL,
                          "is empty or was never finished; give a size to "
                          "create it");
        return build(o);
    }
    rc = check_header(o);
    if (rc < 0)
        return rc;
    rc = allocate(o, o->header.size);
    if (rc < 0)
        return rc;
    return map(o);
}

int region_open(struct region *region, const char *path,
                const struct region_options *options, char *error,
                size_t error_size)
{
    struct opening o = {.path = path,
                        .options = options,
                        .region = region,
                        .error = error,
                        .error_size = error_size};
    bool made;
    *region = (struct region){.fd = -1};
    int rc = open_file(&o, &made);
    if (rc < 0)
        return rc;
    rc = prepare(&o);
    if (rc < 0)
        goto undo_open;
    region->was_clean = region->header->state.clean != 0;
    region_set(region, &region->header->state.opener, (uint64_t)getpid());
    region_set(region, &region->header->state.clean, 0);
    rc = pm_fence(&region->pm);
    if (rc < 0) {
        refuse(&o, rc, "cannot be written: %s", strerror(-rc));
        goto undo_map;
    }
    return 0;

undo_map:
    pm_unmap(&region->pm);
undo_open:
    if (made)
        unlink(path);
    close(region->fd);
    region->fd = -1;
    return rc;
}

int region_close(struct region *region, bool clean)
{
    int rc = region->pm.error;
    if (clean && rc == 0) {
        region_set(region, &region->header->state.clean, 1);
        rc = pm_fence(&region->pm);
    }
    pm_unmap(&region->pm);
    close(region->fd);
    region->fd = -1;
    return rc;
}

void region_set(struct region *region, uint64_t *word, uint64_t value)
{
    pm_store64(&region->pm, word, value);
    pm_flush(&region->pm, word, sizeof(*word));
}
