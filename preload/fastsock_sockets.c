/*
 * See fastsock_sockets.h.
 *
 * /proc/PID/net/tcp writes an address as 32-bit words in the byte order of
 * the machine, each word being four bytes in network order.
 */
#include "preload/fastsock_sockets.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool parse_name(const char *hex, unsigned port, int *family,
                       struct segment_name *out)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    size_t len = strlen(hex);
    uint8_t byte[16] = {0};

    if (len != 8 && len != 32)
        return false;
    for (size_t i = 0; i < len / 8; i++) {
        uint32_t word;

        if (sscanf(hex + i * 8, "%8" SCNx32, &word) != 1)
            return false;
        memcpy(byte + i * 4, &word, 4);
    }
    memset(out, 0, sizeof(*out));
    *family = len == 8 || memcmp(byte, mapped, 12) == 0 ? 4 : 6;
    if (len == 8)
        memcpy(out->address, byte, 4);
    else if (*family == 4)
        memcpy(out->address, byte + 12, 4);
    else
        memcpy(out->address, byte, 16);
    out->port = (uint16_t)port;
    return true;
}

bool sockets_parse(const char *line, struct target_socket *out)
{
    char local[33], peer[33];
    unsigned local_port, peer_port;
    int family;
    uint64_t inode;

    if (sscanf(line,
               " %*u: %32[0-9A-Fa-f]:%4x %32[0-9A-Fa-f]:%4x %*x %*x:%*x "
               "%*x:%*x %*x %*u %*u %" SCNu64,
               local, &local_port, peer, &peer_port, &inode) != 5)
        return false;
    out->inode = inode;
    return parse_name(local, local_port, &out->family, &out->local) &&
           parse_name(peer, peer_port, &family, &out->peer);
}

static int by_inode(const void *a, const void *b)
{
    uint64_t x = ((const struct target_socket *)a)->inode;
    uint64_t y = ((const struct target_socket *)b)->inode;

    return (x > y) - (x < y);
}

static void read_list(pid_t pid, const char *name, struct target_socket **list,
                      size_t *n, size_t *room)
{
    char path[64], line[512];
    struct target_socket entry, *more;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)pid, name);
    file = fopen(path, "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (!sockets_parse(line, &entry))
            continue;
        if (*n == *room) {
            more = realloc(*list, (*room * 2 + 64) * sizeof(**list));
            if (more == NULL)
                break;
            *list = more;
            *room = *room * 2 + 64;
        }
        (*list)[(*n)++] = entry;
    }
    fclose(file);
}

struct target_socket *sockets_read(pid_t pid, size_t *n)
{
    struct target_socket *list = NULL;
    size_t room = 0;

    *n = 0;
    read_list(pid, "tcp", &list, n, &room);
    read_list(pid, "tcp6", &list, n, &room);
    if (*n > 0)
        qsort(list, *n, sizeof(*list), by_inode);
    return list;
}

const struct target_socket *sockets_find(const struct target_socket *sockets,
                                         size_t n, pid_t pid, unsigned fd)
{
    struct target_socket key;
    char path[64], link[64];
    ssize_t len;

    snprintf(path, sizeof(path), "/proc/%d/fd/%u", (int)pid, fd);
    len = readlink(path, link, sizeof(link) - 1);
    if (len < 0 || n == 0)
        return NULL;
    link[len] = '\0';
    if (sscanf(link, "socket:[%" SCNu64 "]", &key.inode) != 1)
        return NULL;
    return bsearch(&key, sockets, n, sizeof(*sockets), by_inode);
}
