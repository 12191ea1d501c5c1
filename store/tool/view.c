/*
 * See view.h. The mapping begins as private zeroes of the size that the file
 * has or claims to have; the file is mapped over them, so that its lack of
 * bytes is no fault. A device can be mapped shared only: there a large page is
 * copied before it is changed.
 */
#include "store/tool/view.h"

#include "store/pm/region.h"
#include "store/tool/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define PAGE       4096u
#define LARGE_PAGE (2u << 20)
#define CLAIM_MAX  ((uint64_t)1 << 44) /* more than this is no claim */

static uint64_t pages(uint64_t size)
{
    return size / PAGE * PAGE + (size % PAGE ? PAGE : 0);
}

/* The size of a DAX device, or 0. */
static uint64_t device_size(const struct stat *st)
{
    char path[80];
    unsigned long long size = 0;
    snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/size", major(st->st_rdev),
             minor(st->st_rdev));
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    if (fscanf(file, "%llu", &size) != 1)
        size = 0;
    fclose(file);
    return size;
}

static int measure(struct view *view, char *error, size_t error_size)
{
    struct stat st;
    if (fstat(view->fd, &st) < 0)
        return region_refuse(view->path, error, error_size, -errno,
                             "cannot be examined: %s", strerror(errno));
    view->file_size = (uint64_t)st.st_size;
    if (S_ISREG(st.st_mode))
        return 0;
    view->device = S_ISCHR(st.st_mode);
    view->file_size = view->device ? device_size(&st) : 0;
    if (view->file_size >= LARGE_PAGE)
        return 0;
    return region_refuse(view->path, error, error_size, -EINVAL,
                         "is neither a regular file nor a DAX device: give "
                         "one");
}

static int lock(const struct view *view, enum view_mode mode, char *error,
                size_t error_size)
{
    uint64_t opener = 0;
    char who[HOLDER_MAX];
    if (mode == VIEW_GLANCE ||
        flock(view->fd, LOCK_NB | (mode == VIEW_READ ? LOCK_SH : LOCK_EX)) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return region_refuse(view->path, error, error_size, -errno,
                             "cannot be locked: %s", strerror(errno));
    if (pread(view->fd, &opener, sizeof(opener),
              offsetof(struct region_header, opener)) != sizeof(opener))
        opener = 0;
    return region_refuse(view->path, error, error_size, -EBUSY,
                         "is open in %s; stop that program first, or look at a "
                         "copy",
                         holder_of(view->fd, opener, who));
}

bool view_in_use(const struct view *view)
{
    if (flock(view->fd, LOCK_SH | LOCK_NB) < 0)
        return errno == EWOULDBLOCK;
    flock(view->fd, LOCK_UN);
    return false;
}

/* How long the file should be, if the header can be asked. */
static uint64_t claimed_size(const struct view *view)
{
    struct region_header h;
    if (view->device ||
        pread(view->fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
        h.max_grains > 1u << 24 || h.grain > REGION_GRAIN_MAX ||
        h.size > CLAIM_MAX || h.first > h.size ||
        h.size - h.first >= h.grain * ((uint64_t)h.max_grains + 1))
        return 0;
    return h.size;
}

static int map(struct view *view, char *error, size_t error_size)
{
    uint64_t whole = pages(view->file_size), claimed = claimed_size(view);
    int flags = view->device ? MAP_SHARED : MAP_PRIVATE | MAP_NORESERVE;
    int access = view->device ? PROT_READ : PROT_READ | PROT_WRITE;
    void *base = MAP_FAILED;
    view->size = claimed > whole ? pages(claimed) : whole;
    if (!view->device) {
        base = mmap(NULL, view->size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED && view->size > whole) {
            view->size = whole;
            base = mmap(NULL, view->size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        }
        if (base != MAP_FAILED)
            view->base = base;
    }
    if (base != MAP_FAILED || view->device)
        base = mmap(view->base, whole, access,
                    flags | (view->device ? 0 : MAP_FIXED), view->fd, 0);
    if (base == MAP_FAILED)
        return region_refuse(view->path, error, error_size, -errno,
                             "cannot be mapped: %s", strerror(errno));
    view->base = base;
    if (!view->device)
        return 0;
    view->owned = calloc(view->size / LARGE_PAGE + 1, 1);
    return view->owned ? 0 : -ENOMEM;
}

/* No pool, or one that another program made: damage looks different. */
static int judge(const struct view *view, char *error, size_t error_size)
{
    const struct region_header *h = view_header(view);
    bool whole = h->check == region_header_check(h);
    static const char layout[sizeof(h->layout)] = REGION_LAYOUT;
    bool named = memcmp(h->layout, layout, sizeof(layout)) == 0;
    if (h->magic == REGION_MAGIC_UNBUILT)
        return region_refuse(view->path, error, error_size, -EINVAL,
                             "was never finished; make it again with 'kvpool "
                             "create'");
    if (h->magic != REGION_MAGIC && !named)
        return region_refuse(view->path, error, error_size, -EINVAL,
                             "is not a fastsock pool: its first bytes are "
                             "others; give the name of a pool");
    if (whole && !named)
        return region_refuse(view->path, error, error_size, -EINVAL,
                             "holds another layout than \"" REGION_LAYOUT
                             "\"; use the program that made it");
    if (h->version != REGION_VERSION && (whole || h->version == 1))
        return region_refuse(view->path, error, error_size, -EINVAL,
                             "has format version %u, this program knows "
                             "version %u; use a program of its version",
                             h->version, REGION_VERSION);
    if (whole && (h->incompat & ~REGION_KNOWN_INCOMPAT))
        return region_refuse(
            view->path, error, error_size, -EINVAL,
            "uses features that this program does not know (bits 0x%llx); use "
            "a newer program",
            (unsigned long long)(h->incompat & ~REGION_KNOWN_INCOMPAT));
    return 0;
}

static int check_length(const struct view *view, char *error, size_t error_size)
{
    uint64_t magic = 0;
    if (view->file_size == 0)
        return region_refuse(view->path, error, error_size, -EINVAL,
                             "is empty; make a pool with 'kvpool create'");
    if (view->file_size >= REGION_HEADER_SIZE)
        return 0;
    if (pread(view->fd, &magic, sizeof(magic), 0) == sizeof(magic) &&
        magic == REGION_MAGIC)
        return region_refuse(view->path, error, error_size, -EUCLEAN,
                             "is damaged: of a pool only the first %llu bytes "
                             "are left; restore it from a copy",
                             (unsigned long long)view->file_size);
    if (magic == REGION_MAGIC_UNBUILT)
        return region_refuse(view->path, error, error_size, -EINVAL,
                             "was never finished; make it again with 'kvpool "
                             "create'");
    return region_refuse(view->path, error, error_size, -EINVAL,
                         "is too short for a pool (%llu bytes): it is another "
                         "file",
                         (unsigned long long)view->file_size);
}

int view_open(struct view *view, const char *path, enum view_mode mode,
              char *error, size_t error_size)
{
    int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    *view = (struct view){.path = path};
    view->fd = open(path, flags | (mode == VIEW_WRITE ? O_RDWR : O_RDONLY));
    if (view->fd < 0)
        return region_refuse(path, error, error_size, -errno,
                             "cannot be opened: %s", strerror(errno));
    int rc = measure(view, error, error_size);
    if (rc == 0)
        rc = lock(view, mode, error, error_size);
    if (rc == 0)
        rc = check_length(view, error, error_size);
    if (rc == 0)
        rc = map(view, error, error_size);
    if (rc < 0)
        goto undo_open;
    rc = judge(view, error, error_size);
    if (rc == 0)
        return 0;

undo_open:
    view_close(view);
    return rc;
}

void view_close(struct view *view)
{
    if (view->base)
        munmap(view->base, view->size);
    free(view->owned);
    close(view->fd);
    *view = (struct view){.fd = -1};
}

/* A private copy of the large page, in the place of the device's. */
static int own_page(struct view *view, uint64_t at)
{
    uint64_t page = at / LARGE_PAGE;
    unsigned char *to = view->base + page * LARGE_PAGE;
    if (!view->device || view->owned[page])
        return 0;
    void *copy = mmap(NULL, LARGE_PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return -errno;
    memcpy(copy, to, LARGE_PAGE);
    if (mremap(copy, LARGE_PAGE, LARGE_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
               to) == MAP_FAILED) {
        munmap(copy, LARGE_PAGE);
        return -errno;
    }
    view->owned[page] = 1;
    return 0;
}

int view_patch(struct view *view, uint64_t at, uint64_t value)
{
    int rc = own_page(view, at);
    if (rc == 0)
        memcpy(view->base + at, &value, sizeof(value));
    return rc;
}
