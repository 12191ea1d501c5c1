/*
 * Opening a region: lock it, then judge it by a copy of its header, then map
 * it and judge its directory. Nothing is written before every check has
 * passed.
 *
 * Creating one: the first bytes say "unbuilt" from the start; the rest is
 * allocated and written, and the true magic is the last word, after a fence.
 * Whoever finds "unbuilt", or nothing, may begin again.
 */
#include "store/pm/region.h"

#include "store/pm/large_pages.h"
#include "store/pm/pool.h"
#include "store/pm/region_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define GRAINS_WANTED 64u /* at least, unless grains get too small */
#define GROWTH        16u /* times as many grain words as grains */
#define WORDS_MAX     (1u << 24)
#define WORDS_MIN     512u
#define SLOTS         128u
#define SLOTS_SMALL   32u
#define LARGE_REGION  (64u << 20) /* from here on grains have large pages */

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

#define refuse(o, rc, ...)                                                     \
    region_refuse((o)->path, (o)->error, (o)->error_size, (rc), __VA_ARGS__)

int region_refuse(const char *path, char *error, size_t error_size, int rc,
                  const char *format, ...)
{
    va_list args;
    int n = snprintf(error, error_size, "%s ", path);
    if (n < 0 || (size_t)n >= error_size)
        return rc;
    va_start(args, format);
    vsnprintf(error + n, error_size - (size_t)n, format, args);
    va_end(args);
    return rc;
}

/* Fletcher's sum over 32-bit words. */
uint64_t region_sum(const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    uint64_t low = 1, high = 0;
    for (size_t off = 0; off < len; off += 4) {
        uint32_t word;
        memcpy(&word, at + off, sizeof(word));
        low = (low + word) % UINT32_MAX;
        high = (high + low) % UINT32_MAX;
    }
    return high << 32 | low;
}

uint64_t region_header_check(const struct region_header *header)
{
    return region_sum(header->layout,
                      offsetof(struct region_header, check) - 8);
}

static bool power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static bool parts_fit(const struct region_header *h)
{
    uint64_t slots = (uint64_t)h->slots * sizeof(struct region_slot);
    uint64_t words = (uint64_t)h->max_grains * sizeof(uint64_t);
    return h->header_size == REGION_HEADER_SIZE && h->size % 4096 == 0 &&
           h->size <= INT64_MAX && power_of_two(h->grain) &&
           h->grain >= REGION_GRAIN_MIN && h->grain <= REGION_GRAIN_MAX &&
           h->slots > 0 && h->max_grains > 0 && h->max_grains <= WORDS_MAX &&
           h->directory == REGION_HEADER_SIZE &&
           h->words >= h->directory + slots && h->words % 8 == 0 &&
           h->words <= h->first && h->first - h->words >= words &&
           h->first % 4096 == 0 && h->first <= h->size &&
           h->size - h->first >= h->grain &&
           (h->size - h->first) / h->grain <= h->max_grains;
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
    if (h->check != region_header_check(h))
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
    if (!parts_fit(h))
        return refuse(o, -EINVAL,
                      "is damaged: its header describes parts that do not "
                      "fit; restore it from a copy");
    return 0;
}

/* A file cannot be trusted to keep its holes: a full disk would be SIGBUS. */
static int allocate(const struct region *region, uint64_t size, char *error,
                    size_t error_size)
{
    struct stat st;
    if (region->device ||
        (fstat(region->fd, &st) == 0 && (uint64_t)st.st_size >= size &&
         (uint64_t)st.st_blocks * 512 >= size)) /* it has no holes */
        return 0;
    int rc = posix_fallocate(region->fd, 0, (off_t)size);
    if (rc == 0)
        return 0;
    return region_refuse(region->path, error, error_size, -rc,
                         "cannot have %llu bytes allocated: %s",
                         (unsigned long long)size, strerror(rc));
}

static int map(struct opening *o)
{
    const struct region_options *options = o->options;
    struct region *region = o->region;
    int rc = pm_map_room(&region->pm, region->fd, o->header.size, options->room,
                         options->policy, options->hook);
    if (rc == -ENOTSUP)
        return refuse(o, rc,
                      "is not on persistent memory, as durability \"pmem\" "
                      "wants; use \"sync\" or \"process\"");
    if (rc < 0)
        return refuse(o, rc, "cannot be mapped: %s", strerror(-rc));
    unsigned char *base = region->pm.base;
    region->header = (struct region_header *)base;
    region->slots = (struct region_slot *)(base + o->header.directory);
    region->words = (uint64_t *)(base + o->header.words);
    return 0;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint64_t grain_for(uint64_t size)
{
    uint64_t grain = REGION_GRAIN_MAX;
    while (grain > REGION_GRAIN_MIN && size / grain < GRAINS_WANTED)
        grain /= 2;
    return grain;
}

static void plan_parts(struct region_header *h, uint64_t grain)
{
    bool large = h->size >= LARGE_REGION;
    h->grain = grain != 0 ? grain : grain_for(h->size);
    uint64_t words = h->size / h->grain * GROWTH;
    words = words < WORDS_MIN ? WORDS_MIN : words;
    h->slots = large ? SLOTS : SLOTS_SMALL;
    h->max_grains = (uint32_t)(words > WORDS_MAX ? WORDS_MAX : words);
    h->directory = REGION_HEADER_SIZE;
    h->words = h->directory + h->slots * sizeof(struct region_slot);
    h->first = round_up(h->words + (uint64_t)h->max_grains * 8,
                        large ? LARGE_PAGE : 4096);
}

static int plan_header(struct opening *o)
{
    struct region_header *h = &o->header;
    uint64_t size = o->region->device ? o->file_size : o->options->size;
    *h = (struct region_header){.magic = REGION_MAGIC,
                                .layout = REGION_LAYOUT,
                                .version = REGION_VERSION,
                                .header_size = REGION_HEADER_SIZE,
                                .size = size / 4096 * 4096,
                                .created = (uint64_t)time(NULL)};
    plan_parts(h, o->options->grain);
    if (!parts_fit(h))
        return refuse(o, -EINVAL,
                      "cannot be made with %llu bytes: give a size that holds "
                      "a header, a table and values",
                      (unsigned long long)size);
    if (getrandom(h->uuid, sizeof(h->uuid), 0) != sizeof(h->uuid))
        return refuse(o, -EIO, "needs random bytes, and getrandom failed");
    h->uuid[6] = (uint8_t)((h->uuid[6] & 0x0f) | 0x40); /* version 4 */
    h->uuid[8] = (uint8_t)((h->uuid[8] & 0x3f) | 0x80); /* RFC 4122 */
    h->check = region_header_check(h);
    return 0;
}

/* The file's size and name are metadata: only fsync makes them durable. */
static int sync_names(struct opening *o)
{
    char copy[PATH_MAX];
    if (o->region->device)
        return 0;
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

/* What a device holds is overwritten where it counts. It says first that it is
 * not finished: without that, half a header is somebody else's. */
static int clear_device(struct region *region, uint64_t first)
{
    static const unsigned char zeroes[4096];
    struct pm *pm = &region->pm;
    region_set(region, &region->header->magic, REGION_MAGIC_UNBUILT);
    int rc = pm_fence(pm);
    for (uint64_t at = REGION_HEADER_SIZE; rc == 0 && at < first;
         at += sizeof(zeroes))
        pm_copy(pm, pm->base + at, zeroes, sizeof(zeroes));
    return rc;
}

static int write_header(struct region *region, const struct region_header *h)
{
    struct pm *pm = &region->pm;
    pm_copy(pm, region->header->layout, h->layout,
            sizeof(*h) - offsetof(struct region_header, layout));
    return pm_fence(pm);
}

static int build(struct opening *o)
{
    static const uint64_t unbuilt = REGION_MAGIC_UNBUILT;
    struct region *region = o->region;
    int rc = plan_header(o);
    if (rc < 0)
        return rc;
    if (!region->device &&
        (ftruncate(region->fd, 0) < 0 ||
         pwrite(region->fd, &unbuilt, sizeof(unbuilt), 0) < 0))
        return refuse(o, -errno, "cannot be written: %s", strerror(errno));
    if (!region->device && o->header.size >= LARGE_REGION)
        large_pages_take(region->fd, o->header.size);
    rc = allocate(region, o->header.size, o->error, o->error_size);
    if (rc < 0)
        return rc;
    rc = map(o);
    if (rc < 0)
        return rc;
    if (region->device)
        rc = clear_device(region, o->header.first);
    if (rc == 0)
        rc = write_header(region, &o->header);
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

/* Whether there is nothing, or what a crash left while building. */
static bool is_unbuilt(const struct opening *o)
{
    static const struct region_header nothing;
    return o->file_size == 0 || o->header.magic == REGION_MAGIC_UNBUILT ||
           (o->region->device &&
            memcmp(&o->header, &nothing, sizeof(nothing)) == 0);
}

/* The size of a DAX device, or 0. */
static uint64_t device_size(dev_t device)
{
    char path[80], kind[256];
    unsigned long long size = 0;
    snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/subsystem", major(device),
             minor(device));
    ssize_t n = readlink(path, kind, sizeof(kind) - 1);
    if (n < 4 || memcmp(kind + n - 4, "/dax", 4) != 0)
        return 0;
    snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/size", major(device),
             minor(device));
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu", &size) != 1)
        size = 0;
    fclose(file);
    return size;
}

/* A device can be mapped only, in large pages. */
static int read_device(struct opening *o)
{
    void *page =
        mmap(NULL, LARGE_PAGE, PROT_READ, MAP_SHARED, o->region->fd, 0);
    if (page == MAP_FAILED)
        return refuse(o, -errno, "cannot be mapped: %s", strerror(errno));
    memcpy(&o->header, page, sizeof(o->header));
    munmap(page, LARGE_PAGE);
    return 0;
}

static int read_header(struct opening *o)
{
    struct stat st;
    int fd = o->region->fd;
    if (fstat(fd, &st) < 0)
        return refuse(o, -errno, "cannot be examined: %s", strerror(errno));
    if (S_ISCHR(st.st_mode) && device_size(st.st_rdev) >= LARGE_PAGE) {
        o->region->device = true;
        o->file_size = device_size(st.st_rdev);
        return read_device(o);
    }
    if (!S_ISREG(st.st_mode))
        return refuse(o, -EINVAL,
                      "is neither a regular file nor a DAX device: give one");
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

static int prepare(struct opening *o)
{
    int rc = read_header(o);
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
    rc = allocate(o->region, o->header.size, o->error, o->error_size);
    if (rc < 0)
        return rc;
    rc = map(o);
    if (rc < 0)
        return rc;
    rc = pool_check_all(o->region, o->error, o->error_size);
    if (rc < 0)
        pm_unmap(&o->region->pm);
    return rc;
}

/* What an open writes. */
static int take_possession(struct opening *o)
{
    struct region *region = o->region;
    /* Not flushed: it is for those that find the file locked. */
    pm_store64(&region->pm, &region->header->opener, (uint64_t)getpid());
    int rc = pool_tidy_up(region);
    if (rc < 0)
        refuse(o, rc, "cannot be written: %s", strerror(-rc));
    return rc;
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
    region->path = strdup(path);
    if (!region->path)
        return refuse(&o, -ENOMEM, "cannot be opened: no memory");
    int rc =
        region_file_open(region, options->size > 0, &made, error, error_size);
    if (rc < 0)
        goto free_path;
    rc = prepare(&o);
    if (rc < 0)
        goto undo_open;
    region->busy = calloc((size_t)o.header.slots + 1, 1);
    rc = region->busy ? take_possession(&o)
                      : refuse(&o, -ENOMEM, "cannot be opened: no memory");
    if (rc < 0)
        goto undo_map;
    return 0;

undo_map:
    free(region->busy);
    pm_unmap(&region->pm);
undo_open:
    if (made && o.file_size == 0) /* and nobody built in it */
        unlink(path);
    close(region->fd);
free_path:
    free(region->path);
    region->fd = -1;
    return rc;
}

int region_close(struct region *region)
{
    int rc = region->pm.error;
    pm_unmap(&region->pm);
    close(region->fd);
    free(region->busy);
    free(region->path);
    region->fd = -1;
    return rc;
}

static int check_growth(const struct region *region, uint64_t size, char *error,
                        size_t error_size)
{
    const struct region_header *h = region->header;
    uint64_t max = h->first + h->grain * h->max_grains;
    if (size < h->size)
        return region_refuse(region->path, error, error_size, -EINVAL,
                             "has %llu bytes and cannot shrink to %llu",
                             (unsigned long long)h->size,
                             (unsigned long long)size);
    if (size > max)
        return region_refuse(region->path, error, error_size, -EINVAL,
                             "can grow to %llu bytes, not to %llu: it was made "
                             "for grains of %llu bytes; dump it and load it "
                             "into a larger one",
                             (unsigned long long)max, (unsigned long long)size,
                             (unsigned long long)h->grain);
    if (size > region->pm.room)
        return region_refuse(region->path, error, error_size, -ENOMEM,
                             "has addresses for %llu bytes only; close it and "
                             "open it with room for %llu",
                             (unsigned long long)region->pm.room,
                             (unsigned long long)size);
    return 0;
}

/* Those of grains to come say nothing. */
static int clear_words(struct region *region, uint64_t size)
{
    uint64_t end = (size - region->header->first) / region->header->grain;
    for (uint64_t g = region_grains(region); g < end; g++)
        if (region->words[g] != 0)
            region_set(region, &region->words[g], 0);
    return pm_fence(&region->pm);
}

int region_grow(struct region *region, uint64_t size, char *error,
                size_t error_size)
{
    size = size / 4096 * 4096;
    int rc = check_growth(region, size, error, error_size);
    if (rc < 0)
        return rc;
    rc = allocate(region, size, error, error_size);
    if (rc < 0)
        return rc;
    if (!region->device && fsync(region->fd) < 0)
        rc = -errno;
    if (rc == 0)
        rc = pm_extend(&region->pm, region->fd, size);
    if (rc == 0)
        rc = clear_words(region, size);
    if (rc == 0) {
        region_set(region, &region->header->size, size);
        rc = pm_fence(&region->pm);
    }
    if (rc < 0)
        return region_refuse(region->path, error, error_size, rc,
                             "cannot grow to %llu bytes: %s",
                             (unsigned long long)size, strerror(-rc));
    return 0;
}

bool region_is_whole(const struct region *region)
{
    struct stat st;
    return region->device ||
           (fstat(region->fd, &st) == 0 &&
            (uint64_t)st.st_size >= (uint64_t)region->pm.size);
}

void region_set(struct region *region, uint64_t *word, uint64_t value)
{
    pm_store64(&region->pm, word, value);
    pm_flush(&region->pm, word, sizeof(*word));
}
