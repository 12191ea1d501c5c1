/*
 * A shard with a pool in a temporary file; its clients are socket pairs. To be
 * included by one program's tests.
 */
#ifndef TESTS_UNIT_STORE_SERVER_ONE_SHARD_H
#define TESTS_UNIT_STORE_SERVER_ONE_SHARD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/log.h"
#include "store/server/connection.h"

static struct options options;
static struct acceptor acceptor;
static struct shard *shard;
static char path[] = "/tmp/check-shard-XXXXXX";

static void shard_start(void)
{
    struct kv_options kv_options = {
        .size = 8 << 20, .durability = KV_DURABILITY_PROCESS, .evict = true};
    char error[512] = "";
    char *argv[] = {"kvserver", "--pool", path, NULL};
    struct kv *kv;
    int fd;

    log_init("check", LOG_NONE);
    strcpy(path + strlen(path) - 6, "XXXXXX");
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    close(fd);
    unlink(path);
    ck_assert_int_eq(options_parse(&options, 3, argv, stdout, stderr), -1);
    ck_assert_msg(kv_open(path, &kv_options, &kv, error, sizeof(error)) == 0,
                  "%s", error);
    shard = malloc(sizeof(*shard));
    memset(&acceptor, 0, sizeof(acceptor));
    ck_assert_int_eq(shard_init(shard, kv, &acceptor, &options, -1), 0);
}

static void shard_end(void)
{
    struct kv *kv = shard->kv;

    shard_fini(shard);
    ck_assert_int_eq(kv_close(kv), 0);
    free(shard);
    unlink(path);
}

/* The client's end. */
static int client(void)
{
    int ends[2];

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends),
                     0);
    ck_assert_int_eq(connection_open(shard, ends[1], 0), 0);
    return ends[0];
}

#endif
