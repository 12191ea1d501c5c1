/*
 * Any bytes as a client's: to the parser, cut anywhere, the commands stay the
 * same; to a connection with a real engine behind it, replies are whole lines
 * and nothing is left behind when the client goes.
 *
 * The connection is one end of a socket pair, the pool a nameless file that
 * is made once, so later inputs meet what earlier ones have stored.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/log.h"
#include "store/protocol/parse.h"
#include "store/server/connection.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max);

enum {
    INLINE_MOST = 64,
    TURNS_MOST = 1000,
    QUIET_TURNS = 3, /* without a reply: there is none */
    WAIT_MS = 10     /* of a turn that waits for a late end */
};

static struct shard *shard;
static struct options options;
static struct acceptor acceptor;

/* The check that does not hold, by its line and its text, then abort(). */
static void fail(int line, const char *text)
{
    fprintf(stderr, "protocol: line %d: expected %s\n", line, text);
    abort();
}

#define must(holds) ((holds) ? (void)0 : fail(__LINE__, #holds))

size_t fuzz_seed_input(uint64_t n, uint8_t *buf, size_t max)
{
    static const char *const requests[] = {
        "get a b c\r\n",
        "gets a\r\ngat 10 a b\r\n",
        "set a 1 0 5\r\nhello\r\nget a\r\n",
        "set a 1 0 70 noreply\r\n"
        "0123456789012345678901234567890123456789012345678901234567890123456789"
        "\r\nget a\r\n",
        "add b 0 10 1\r\n1\r\nincr b 5\r\ndecr b 9\r\n",
        "append a 0 0 3\r\nxyz\r\nprepend a 0 0 1\r\n.\r\n",
        "replace a 0 0 0\r\n\r\n",
        "cas a 0 0 2 7\r\nab\r\ncas b 0 -1 1 18446744073709551615\r\nx\r\n",
        "delete a\r\ndelete b 0 noreply\r\ntouch c 100\r\n",
        "flush_all 0 noreply\r\nverbosity 0\r\nversion\r\n",
        "stats\r\nstats items\r\nstats settings\r\nstats conns\r\n",
        "stats cachedump 1 10\r\nstats reset\r\nstats detail dump\r\n",
        "set big 0 0 20000\r\n",
        "set huge 0 0 2000000\r\n",
        "shutdown\r\nbogus\r\nmg a v\r\nquit\r\n",
    };
    const char *text = requests[n % (sizeof(requests) / sizeof(requests[0]))];
    size_t len = strlen(text);

    if (len > max)
        len = max;
    memcpy(buf, text, len);
    return len;
}

static uint64_t mix(uint64_t hash, const void *data, size_t len)
{
    const uint8_t *p = data;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * 0x100000001b3;
    return hash;
}

static uint64_t mix_command(uint64_t hash, struct command *c)
{
    const char *word;
    size_t len;

    hash = mix(hash, &c->kind, sizeof(c->kind));
    hash = mix(hash, &c->number, sizeof(c->number));
    hash = mix(hash, &c->exptime, sizeof(c->exptime));
    hash = mix(hash, c->line, c->line_len);
    must(c->key_len <= COMMAND_KEY_MAX || c->kind == COMMAND_REFUSED);
    if (c->kind == COMMAND_REFUSED)
        return mix(hash, &c->refusal, sizeof(c->refusal));
    hash = mix(hash, c->key, c->key_len);
    if (c->value != NULL)
        hash = mix(hash, c->value, c->value_len);
    while (c->keys != NULL && command_next_word(c, &word, &len)) {
        must(len > 0);
        must(c->kind > COMMAND_GATS || len <= COMMAND_KEY_MAX);
        hash = mix(hash, word, len);
    }
    return hash;
}

/* All commands of the bytes when they come in pieces of `piece` bytes. */
static uint64_t parse_in_pieces(const uint8_t *bytes, size_t len, size_t piece)
{
    struct parser parser;
    uint64_t hash = 1;
    size_t done = 0;

    parser_init(&parser, INLINE_MOST);
    for (size_t shown = piece < len ? piece : len; shown <= len;
         shown = shown == len          ? len + 1
                 : shown + piece < len ? shown + piece
                                       : len) {
        enum parse_result result;

        do {
            struct command c;
            size_t used;

            result = parser_next(&parser, (const char *)bytes + done,
                                 shown - done, &used, &c);
            must(used <= shown - done);
            done += used;
            if (result == PARSE_CLOSE)
                return hash ^ 1;
            if (result == PARSE_COMMAND || result == PARSE_BODY)
                hash = mix_command(hash, &c);
            if (result == PARSE_BODY)
                parser_skip(&parser, (uint64_t)c.value_len + 2);
        } while (result != PARSE_MORE);
    }
    return mix(hash, &done, sizeof(done));
}

/* A line may be cut off for its length only where it is longer than that. */
static int has_long_line(const uint8_t *bytes, size_t len)
{
    size_t run = 0;

    for (size_t i = 0; i < len; i++) {
        run = bytes[i] == '\n' ? 0 : run + 1;
        if (run > PARSE_LINE_MAX)
            return 1;
    }
    return 0;
}

/* No line of the server's is shown, whatever `verbosity` it is told: it logs
 * only to what was descriptor 2 now, and there is nothing. */
static void silence_log(void)
{
    int saved = dup(STDERR_FILENO);

    close(STDERR_FILENO);
    log_init("fuzz", LOG_NONE);
    if (saved >= 0) {
        dup2(saved, STDERR_FILENO);
        close(saved);
    }
}

static void make_shard(void)
{
    struct kv_options kv_options = {
        .size = 4 << 20, .durability = KV_DURABILITY_PROCESS, .evict = true};
    char path[64] = "/tmp/fuzz-protocol-XXXXXX", error[256];
    char *argv[] = {(char *)"kvserver", NULL};
    struct kv *kv;
    int fd = mkstemp(path);

    must(fd >= 0 && close(fd) == 0 && unlink(path) == 0);
    must(options_parse(&options, 1, argv, stdout, stderr) == -1);
    silence_log();
    must(kv_open(path, &kv_options, &kv, error, sizeof(error)) == 0);
    unlink(path);
    shard = malloc(sizeof(*shard));
    must(shard != NULL);
    must(shard_init(shard, kv, &acceptor, &options, -1) == 0);
}

/* Reads what has come; the last bytes stay in tail. */
static void drain(int fd, char tail[2], size_t *got)
{
    static char buf[65536];
    ssize_t n;

    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        *got += (size_t)n;
        if (n == 1)
            tail[0] = tail[1];
        else
            tail[0] = buf[n - 2];
        tail[1] = buf[n - 1];
    }
}

/* Replies may take more than one turn: until some turns bring nothing. */
static void read_replies(int fd, char tail[2], size_t *got)
{
    for (int quiet = 0; quiet < QUIET_TURNS;) {
        size_t before = *got;

        must(shard_turn(shard, 0) == 0);
        drain(fd, tail, got);
        quiet = *got > before ? 0 : quiet + 1;
    }
}

/*
 * The server hears of a close when the last reference to the socket is gone.
 * Anyone who reads /proc/PID/fd at that moment holds one for a while, so the
 * end may be late: it has to come, not to come at once.
 */
static void leave(int fd)
{
    int turns = 0;

    close(fd);
    do
        must(shard_turn(shard, turns < QUIET_TURNS ? 0 : WAIT_MS) == 0);
    while (shard->n_connections > 0 && ++turns < TURNS_MOST);
    must(shard->n_connections == 0);
    must(shard->reserved == 0);
}

static void converse(const uint8_t *bytes, size_t len)
{
    size_t sent = 0, got = 0, piece = len > 0 ? bytes[0] % 64 + 1 : 1;
    char tail[2] = {0};
    int ends[2];

    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    must(connection_open(shard, ends[1], 0) == 0);
    for (int turns = 0; sent < len && turns < TURNS_MOST; turns++) {
        size_t part = len - sent < piece ? len - sent : piece;
        ssize_t n = send(ends[0], bytes + sent, part, MSG_NOSIGNAL);

        if (n <= 0)
            break;
        sent += (size_t)n;
        piece *= 2;
        must(shard_turn(shard, 0) == 0);
        drain(ends[0], tail, &got);
    }
    read_replies(ends[0], tail, &got);
    must(got == 0 || (tail[0] == '\r' && tail[1] == '\n'));
    leave(ends[0]);
    log_threshold = LOG_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    uint64_t whole;

    if (shard == NULL)
        make_shard();
    if (!has_long_line(bytes, len)) {
        whole = parse_in_pieces(bytes, len, len + 1);
        must(parse_in_pieces(bytes, len, 1) == whole);
        must(parse_in_pieces(bytes, len, 13) == whole);
    }
    converse(bytes, len);
    return 0;
}
