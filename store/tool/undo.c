/* See undo.h. One line each: a title, the sizes, a word, the end. */
#include "store/tool/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char title[] = "kvpool undo 1\n";

int undo_write(const char *path, const struct fixes *fixes, uint64_t file_size,
               uint64_t grow_to, char *error, size_t error_size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), rc = 0;
    FILE *out = fd < 0 ? NULL : fdopen(fd, "w");
    if (!out) {
        rc = -errno;
        if (fd >= 0)
            close(fd);
        snprintf(error, error_size,
                 "%.200s cannot be written: %s; name another file with "
                 "--backup",
                 path, strerror(-rc));
        return rc;
    }
    fputs(title, out);
    fprintf(out, "size %" PRIu64 " %" PRIu64 "\n", file_size, grow_to);
    for (size_t i = 0; i < fixes->n; i++)
        fprintf(out, "word %" PRIx64 " %" PRIx64 " %" PRIx64 "\n",
                fixes->list[i].at, fixes->list[i].old, fixes->list[i].new);
    fprintf(out, "end %zu\n", fixes->n);
    if (fflush(out) != 0 || ferror(out) || fsync(fd) < 0)
        rc = -EIO;
    if (fclose(out) != 0)
        rc = -EIO;
    if (rc < 0) {
        snprintf(error, error_size, "%.200s cannot be written: %s", path,
                 strerror(-rc));
        unlink(path);
    }
    return rc;
}

static bool add(struct fixes *fixes, const struct fix *fix)
{
    if (fixes->n == fixes->max) {
        size_t max = fixes->max ? 2 * fixes->max : 64;
        struct fix *list = realloc(fixes->list, max * sizeof(*list));
        if (!list)
            return false;
        fixes->list = list;
        fixes->max = max;
    }
    fixes->list[fixes->n++] = *fix;
    return true;
}

int undo_read(const char *path, struct fixes *fixes, uint64_t *file_size,
              uint64_t *grow_to, char *error, size_t error_size)
{
    char line[128];
    size_t n = 0, number = 1;
    bool ended = false;
    int rc = -EINVAL;
    FILE *in = fopen(path, "re");
    if (!in) {
        snprintf(error, error_size, "%.200s cannot be opened: %s", path,
                 strerror(errno));
        return -errno;
    }
    if (!fgets(line, sizeof(line), in) || strcmp(line, title) != 0)
        goto bad;
    number++;
    if (!fgets(line, sizeof(line), in) ||
        sscanf(line, "size %" SCNu64 " %" SCNu64, file_size, grow_to) != 2)
        goto bad;
    for (number++; !ended && fgets(line, sizeof(line), in); number++) {
        struct fix fix = {.at = 0};
        ended = sscanf(line, "end %zu", &n) == 1;
        if (ended)
            continue;
        if (sscanf(line, "word %" SCNx64 " %" SCNx64 " %" SCNx64, &fix.at,
                   &fix.new, &fix.old) != 3 ||
            fix.at % 8 != 0)
            goto bad;
        if (!add(fixes, &fix)) {
            rc = -ENOMEM;
            goto bad;
        }
    }
    if (!ended || n != fixes->n)
        goto bad;
    fclose(in);
    return 0;

bad:
    snprintf(error, error_size,
             "%.200s, line %zu: this is not what 'kvpool repair' has written, "
             "or not all of it",
             path, number);
    fclose(in);
    return rc;
}
