/*
 * Names and order are memcached 1.6.18's, so that what scrapes memcached
 * scrapes this. What has no meaning here is 0; what memcached has no word for
 * follows at the end. The pool is one slab class, number 1.
 */
#include "store/server/stats.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CHUNK_SIZE 64        /* bytes of a place in the table */
#define DUMP_MAX   (2 << 20) /* bytes of a cachedump */
#define SLAB_MAX   63        /* the highest class memcached knows */

static void stat_number(struct connection *c, const char *name, uint64_t value)
{
    connection_replyf(c, "STAT %s %" PRIu64 "\r\n", name, value);
}

static void stat_text(struct connection *c, const char *name, const char *value)
{
    connection_replyf(c, "STAT %s ", name);
    connection_reply(c, value, strlen(value)); /* a path is a long line */
    connection_reply(c, "\r\n", 2);
}

static void stat_zeros(struct connection *c, const char *const *names)
{
    for (; *names != NULL; names++)
        stat_number(c, *names, 0);
}

static void stat_process(struct connection *c)
{
    const struct shard *s = c->shard;
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    stat_number(c, "pid", (uint64_t)getpid());
    stat_number(c, "uptime", s->now - s->started);
    stat_number(c, "time", s->now);
    stat_text(c, "version", OPTIONS_PROTOCOL);
    stat_text(c, "libevent", "none");
    stat_number(c, "pointer_size", 8 * sizeof(void *));
    connection_replyf(c, "STAT rusage_user %ld.%06ld\r\n",
                      (long)usage.ru_utime.tv_sec,
                      (long)usage.ru_utime.tv_usec);
    connection_replyf(c, "STAT rusage_system %ld.%06ld\r\n",
                      (long)usage.ru_stime.tv_sec,
                      (long)usage.ru_stime.tv_usec);
}

static void stat_connections(struct connection *c)
{
    static const char *const zeros[] = {
        "response_obj_oom", "response_obj_count", "response_obj_bytes",
        "read_buf_count",   "read_buf_bytes",     "read_buf_bytes_free",
        "read_buf_oom",     "reserved_fds",       NULL};
    const struct shard *s = c->shard;

    stat_number(c, "max_connections", s->options->max_connections);
    stat_number(c, "curr_connections", s->n_connections);
    stat_number(c, "total_connections", s->counters.total_connections);
    stat_number(c, "rejected_connections", s->counters.rejected_connections);
    stat_number(c, "connection_structures", s->n_connections);
    stat_zeros(c, zeros);
}

static void stat_commands(struct connection *c, const struct kv_statistics *kv)
{
    const struct counters *n = &c->shard->counters;

    stat_number(c, "cmd_get", n->cmd_get);
    stat_number(c, "cmd_set", n->cmd_set);
    stat_number(c, "cmd_flush", n->cmd_flush);
    stat_number(c, "cmd_touch", n->cmd_touch);
    stat_number(c, "cmd_meta", 0);
    stat_number(c, "get_hits", n->get_hits);
    stat_number(c, "get_misses", n->get_misses);
    stat_number(c, "get_expired", kv->get_expired);
    stat_number(c, "get_flushed", kv->get_flushed);
    stat_number(c, "delete_misses", n->delete_misses);
    stat_number(c, "delete_hits", n->delete_hits);
    stat_number(c, "incr_misses", n->incr_misses);
    stat_number(c, "incr_hits", n->incr_hits);
    stat_number(c, "decr_misses", n->decr_misses);
    stat_number(c, "decr_hits", n->decr_hits);
    stat_number(c, "cas_misses", n->cas_misses);
    stat_number(c, "cas_hits", n->cas_hits);
    stat_number(c, "cas_badval", n->cas_badval);
    stat_number(c, "touch_hits", n->touch_hits);
    stat_number(c, "touch_misses", n->touch_misses);
    stat_number(c, "store_too_large", n->too_large);
    stat_number(c, "store_no_memory", n->no_memory);
    stat_number(c, "auth_cmds", 0);
    stat_number(c, "auth_errors", 0);
    stat_number(c, "bytes_read", n->bytes_read);
    stat_number(c, "bytes_written", n->bytes_written);
}

static void stat_server(struct connection *c, const struct kv_statistics *kv)
{
    static const char *const zeros[] = {"hash_is_expanding",
                                        "slab_reassign_rescues",
                                        "slab_reassign_chunk_rescues",
                                        "slab_reassign_evictions_nomem",
                                        "slab_reassign_inline_reclaim",
                                        "slab_reassign_busy_items",
                                        "slab_reassign_busy_deletes",
                                        "slab_reassign_running",
                                        "slabs_moved",
                                        "lru_crawler_running",
                                        "lru_crawler_starts",
                                        "lru_maintainer_juggles",
                                        "malloc_fails",
                                        "log_worker_dropped",
                                        "log_worker_written",
                                        "log_watcher_skipped",
                                        "log_watcher_sent",
                                        "log_watchers",
                                        "unexpected_napi_ids",
                                        "round_robin_fallback",
                                        NULL};
    const struct shard *s = c->shard;
    unsigned power = 0;

    while (((uint64_t)2 << power) <= kv->table_entries)
        power++;
    stat_number(c, "limit_maxbytes", kv->pool_size);
    stat_number(c, "accepting_conns", !s->acceptor->paused);
    stat_number(c, "listen_disabled_num", s->counters.listen_disabled);
    stat_number(c, "time_in_listen_disabled_us", s->acceptor->paused_usec);
    stat_number(c, "threads", 1);
    stat_number(c, "conn_yields", s->counters.yields);
    stat_number(c, "hash_power_level", power);
    stat_number(c, "hash_bytes", kv->table_entries * CHUNK_SIZE);
    stat_zeros(c, zeros);
}

static void stat_items(struct connection *c, const struct kv_statistics *kv)
{
    static const char *const before[] = {
        "slab_global_page_pool", "expired_unfetched", "evicted_unfetched",
        "evicted_active", NULL};
    static const char *const after[] = {
        "crawler_reclaimed", "crawler_items_checked", "lrutail_reflocked",
        "moves_to_cold",     "moves_to_warm",         "moves_within_lru",
        "direct_reclaims",   "lru_bumps_dropped",     NULL};

    stat_number(c, "bytes", kv->bytes);
    stat_number(c, "curr_items", kv->items);
    stat_number(c, "total_items", kv->total_items);
    stat_zeros(c, before);
    stat_number(c, "evictions", kv->evictions);
    stat_number(c, "reclaimed", kv->reclaimed);
    stat_zeros(c, after);
}

static void stat_pool(struct connection *c, const struct kv_statistics *kv)
{
    stat_text(c, "kvserver_version", OPTIONS_VERSION);
    stat_text(c, "pool_durability", kv->durability);
    stat_number(c, "pool_bytes", kv->pool_size);
    stat_number(c, "pool_heap_bytes", kv->heap_size);
    stat_number(c, "pool_heap_free", kv->heap_free);
    stat_number(c, "pool_commits", kv->commits);
    stat_number(c, "pool_displacements", kv->displacements);
    stat_number(c, "pool_repaired", kv->repaired);
    stat_number(c, "pool_scan_left", kv->scan_left);
    stat_text(c, "pool_was_clean", kv->was_clean ? "yes" : "no");
}

static void stats_general(struct connection *c)
{
    struct kv_statistics kv;

    kv_stats(c->shard->kv, &kv);
    stat_process(c);
    stat_connections(c);
    stat_commands(c, &kv);
    stat_server(c, &kv);
    stat_items(c, &kv);
    stat_pool(c, &kv);
}

static const char *yes_no(bool yes)
{
    return yes ? "yes" : "no";
}

static void settings_limits(struct connection *c)
{
    const struct options *o = c->shard->options;

    stat_number(c, "maxbytes", o->memory);
    stat_number(c, "maxconns", o->max_connections);
    connection_replyf(c, "STAT tcpport %d\r\n", o->port);
    stat_number(c, "udpport", 0);
    stat_text(c, "inter", o->n_listen > 0 ? o->listen[0] : "NULL");
    stat_number(c, "verbosity", (uint64_t)c->shard->verbosity);
    stat_number(c, "oldest", 0);
    stat_text(c, "evictions", o->evict ? "on" : "off");
    stat_text(c, "domain_socket", o->unix_path != NULL ? o->unix_path : "NULL");
    connection_replyf(c, "STAT umask %o\r\n", o->unix_mask);
    stat_text(c, "shutdown_command", yes_no(o->shutdown_allowed));
    stat_text(c, "growth_factor", "1.25");
    stat_number(c, "chunk_size", CHUNK_SIZE);
    stat_number(c, "num_threads", 1);
    stat_number(c, "num_threads_per_udp", 0);
    stat_text(c, "stat_key_prefix", ":");
    stat_text(c, "detail_enabled", "no");
    stat_number(c, "reqs_per_event", o->requests_per_event);
    stat_text(c, "cas_enabled", "yes");
    stat_number(c, "tcp_backlog", o->backlog);
    stat_text(c, "binding_protocol", "ascii");
    stat_text(c, "auth_enabled_sasl", "no");
    stat_text(c, "auth_enabled_ascii", "no");
    stat_number(c, "item_size_max", o->item_max);
    stat_text(c, "maxconns_fast", yes_no(o->refuse_fast));
}

static void stats_settings(struct connection *c)
{
    const struct options *o = c->shard->options;

    settings_limits(c);
    stat_number(c, "hashpower_init", 0);
    stat_text(c, "slab_reassign", "no");
    stat_number(c, "slab_automove", 0);
    stat_text(c, "slab_automove_ratio", "0.80");
    stat_number(c, "slab_automove_window", 30);
    stat_number(c, "slab_chunk_max", o->item_max);
    stat_text(c, "lru_crawler", "no");
    stat_number(c, "lru_crawler_sleep", 100);
    stat_number(c, "lru_crawler_tocrawl", 0);
    stat_number(c, "tail_repair_time", 0);
    stat_text(c, "flush_enabled", yes_no(o->flush_allowed));
    stat_text(c, "dump_enabled", yes_no(o->dump_allowed));
    stat_text(c, "hash_algorithm", "siphash");
    stat_text(c, "lru_maintainer_thread", "no");
    stat_text(c, "lru_segmented", "no");
    stat_number(c, "hot_lru_pct", 20);
    stat_number(c, "warm_lru_pct", 40);
    stat_text(c, "hot_max_factor", "0.20");
    stat_text(c, "warm_max_factor", "2.00");
    stat_text(c, "temp_lru", "no");
    stat_number(c, "temporary_ttl", 61);
    stat_number(c, "idle_timeout", 0);
    stat_number(c, "watcher_logbuf_size", 0);
    stat_number(c, "worker_logbuf_size", 0);
    stat_number(c, "read_buf_mem_limit", 0);
    stat_text(c, "track_sizes", "no");
    stat_text(c, "inline_ascii_response", "no");
    stat_text(c, "slab_automove_freeratio", "0.010");
    stat_text(c, "memory_file", o->pool);
    stat_number(c, "pool_size", o->pool_size);
}

static void stats_items(struct connection *c)
{
    static const char *const before[] = {"items:1:evicted_time",
                                         "items:1:outofmemory",
                                         "items:1:tailrepairs", NULL};
    static const char *const after[] = {"items:1:expired_unfetched",
                                        "items:1:evicted_unfetched",
                                        "items:1:evicted_active",
                                        "items:1:crawler_reclaimed",
                                        "items:1:crawler_items_checked",
                                        "items:1:lrutail_reflocked",
                                        "items:1:moves_to_cold",
                                        "items:1:moves_to_warm",
                                        "items:1:moves_within_lru",
                                        "items:1:direct_reclaims",
                                        "items:1:hits_to_hot",
                                        "items:1:hits_to_warm",
                                        NULL};
    struct kv_statistics kv;

    kv_stats(c->shard->kv, &kv);
    if (kv.items == 0)
        return;
    stat_number(c, "items:1:number", kv.items);
    stat_number(c, "items:1:number_hot", 0);
    stat_number(c, "items:1:number_warm", 0);
    stat_number(c, "items:1:number_cold", kv.items);
    stat_number(c, "items:1:age_hot", 0);
    stat_number(c, "items:1:age_warm", 0);
    stat_number(c, "items:1:age", 0);
    stat_number(c, "items:1:mem_requested", kv.bytes);
    stat_number(c, "items:1:evicted", kv.evictions);
    stat_number(c, "items:1:evicted_nonzero", 0);
    stat_zeros(c, before);
    stat_number(c, "items:1:reclaimed", kv.reclaimed);
    stat_zeros(c, after);
    stat_number(c, "items:1:hits_to_cold", c->shard->counters.get_hits);
    stat_number(c, "items:1:hits_to_temp", 0);
}

static void stats_slabs(struct connection *c)
{
    const struct counters *n = &c->shard->counters;
    struct kv_statistics kv;

    kv_stats(c->shard->kv, &kv);
    stat_number(c, "1:chunk_size", CHUNK_SIZE);
    stat_number(c, "1:chunks_per_page", kv.table_entries);
    stat_number(c, "1:total_pages", 1);
    stat_number(c, "1:total_chunks", kv.table_entries);
    stat_number(c, "1:used_chunks", kv.items);
    stat_number(c, "1:free_chunks", kv.table_entries - kv.items);
    stat_number(c, "1:free_chunks_end", 0);
    stat_number(c, "1:get_hits", n->get_hits);
    stat_number(c, "1:cmd_set", n->cmd_set);
    stat_number(c, "1:delete_hits", n->delete_hits);
    stat_number(c, "1:incr_hits", n->incr_hits);
    stat_number(c, "1:decr_hits", n->decr_hits);
    stat_number(c, "1:cas_hits", n->cas_hits);
    stat_number(c, "1:cas_badval", n->cas_badval);
    stat_number(c, "1:touch_hits", n->touch_hits);
    stat_number(c, "active_slabs", 1);
    stat_number(c, "total_malloced", kv.pool_size);
}

/* One kind of operation, each by itself; a quotient by nothing is 0. */
static void stat_kind(struct connection *c, const char *name,
                      const struct kv_cost *cost)
{
    double n = cost->n ? (double)cost->n : 1;
    double stored = cost->stored ? (double)cost->stored : 1;
    double amplification = cost->stored ? cost->flushed / stored : 0;

    connection_replyf(c, "STAT pm_%s_count %llu\r\n", name,
                      (unsigned long long)cost->n);
    connection_replyf(c, "STAT pm_%s_stored_bytes %llu\r\n", name,
                      (unsigned long long)cost->stored);
    connection_replyf(c, "STAT pm_%s_fences_per_op %.3f\r\n", name,
                      cost->fences / n);
    connection_replyf(c, "STAT pm_%s_flushed_bytes_per_op %.1f\r\n", name,
                      cost->flushed / n);
    connection_replyf(c, "STAT pm_%s_write_amplification %.2f\r\n", name,
                      amplification);
}

/* What stores cost the medium, deletes and touches with them; then each kind
 * of operation by itself. */
static void stats_pm(struct connection *c)
{
    struct kv_cost costs[KV_KINDS];
    struct kv_statistics kv;

    kv_stats(c->shard->kv, &kv);
    kv_costs(c->shard->kv, costs);
    double items = kv.total_items ? (double)kv.total_items : 1;
    double bytes = kv.total_bytes ? (double)kv.total_bytes : 1;

    stat_text(c, "pm_durability", kv.durability);
    stat_number(c, "pm_fences", kv.fences);
    stat_number(c, "pm_flushed_bytes", kv.flushed);
    stat_number(c, "pm_stores", kv.total_items);
    stat_number(c, "pm_stored_bytes", kv.total_bytes);
    connection_replyf(c, "STAT pm_fences_per_store %.3f\r\n",
                      (double)kv.fences / items);
    connection_replyf(c, "STAT pm_flushed_bytes_per_store %.1f\r\n",
                      (double)kv.flushed / items);
    connection_replyf(c, "STAT pm_write_amplification %.2f\r\n",
                      (double)kv.flushed / bytes);
    for (int kind = 0; kind < KV_KINDS; kind++)
        stat_kind(c, kv_kind_name((enum kv_kind)kind), &costs[kind]);
}

static void stats_conns(struct connection *c)
{
    const struct acceptor *acceptor = c->shard->acceptor;
    const struct connection *other;

    for (unsigned i = 0; i < acceptor->n; i++) {
        const struct listener *l = &acceptor->listener[i];

        connection_replyf(c, "STAT %d:addr %s\r\n", l->fd, l->address);
        connection_replyf(c, "STAT %d:state conn_listening\r\n", l->fd);
        connection_replyf(c, "STAT %d:secs_since_last_cmd %u\r\n", l->fd,
                          c->shard->now - c->shard->started);
    }
    TAILQ_FOREACH(other, &c->shard->all, all) {
        struct sockaddr_storage address = {0};
        socklen_t len = sizeof(address);
        char text[ADDRESS_TEXT] = "unknown";

        if (getpeername(other->fd, (struct sockaddr *)&address, &len) == 0)
            address_text((struct sockaddr *)&address, text);
        connection_replyf(c, "STAT %d:addr %s\r\n", other->fd, text);
        connection_replyf(c, "STAT %d:listen_addr %s\r\n", other->fd,
                          acceptor->listener[other->listener].address);
        connection_replyf(c, "STAT %d:state %s\r\n", other->fd,
                          other == c                        ? "conn_parse_cmd"
                          : output_pending(&other->out) > 0 ? "conn_mwrite"
                          : other->large != NULL            ? "conn_nread"
                                                            : "conn_read");
        connection_replyf(c, "STAT %d:secs_since_last_cmd %u\r\n", other->fd,
                          c->shard->now - other->last_command);
    }
}

struct dump {
    struct connection *c;
    uint64_t left; /* items */
    size_t limit;  /* bytes of output */
};

static bool dump_item(void *context, const void *key, size_t klen,
                      const struct kv_item *item)
{
    struct dump *dump = context;

    connection_replyf(dump->c, "ITEM %.*s [%u b; %u s]\r\n", (int)klen,
                      (const char *)key, item->len, item->exptime);
    return --dump->left > 0 && !dump->c->dead &&
           output_pending(&dump->c->out) < dump->limit;
}

static bool read_number(const char *word, size_t len, uint64_t *out)
{
    uint64_t value = 0;

    for (size_t i = 0; i < len; i++) {
        if (word[i] < '0' || word[i] > '9' || i == 10)
            return false;
        value = value * 10 + (uint64_t)(word[i] - '0');
    }
    *out = value;
    return len > 0;
}

/* stats cachedump CLASS LIMIT: keys of the store, 0: as many as fit. */
static bool stats_cachedump(struct connection *c, struct command *command)
{
    struct dump dump = {.c = c, .limit = output_pending(&c->out) + DUMP_MAX};
    const char *word[2];
    size_t len[2];
    uint64_t slab;

    if (!c->shard->options->dump_allowed) {
        connection_replyf(c, "CLIENT_ERROR stats cachedump not allowed\r\n");
        return false;
    }
    if (!command_next_word(command, &word[0], &len[0]) ||
        !command_next_word(command, &word[1], &len[1])) {
        connection_reply_text(c, REPLY_BAD_LINE);
        return false;
    }
    if (!read_number(word[0], len[0], &slab) ||
        !read_number(word[1], len[1], &dump.left)) {
        connection_reply_text(c, REPLY_BAD_FORMAT);
        return false;
    }
    if (slab > SLAB_MAX) {
        connection_reply_text(c, REPLY_BAD_SLAB);
        return false;
    }
    if (dump.left == 0)
        dump.left = UINT64_MAX;
    if (slab == 1)
        kv_each(c->shard->kv, dump_item, &dump);
    return true;
}

/* stats detail on|off|dump: nothing is counted by prefix. */
static bool stats_detail(struct connection *c, struct command *command)
{
    const char *word = "";
    size_t len = 0;

    (void)command_next_word(command, &word, &len);
    if (len == 4 && memcmp(word, "dump", 4) == 0)
        return true;
    connection_reply_text(c, (len == 2 && memcmp(word, "on", 2) == 0) ||
                                     (len == 3 && memcmp(word, "off", 3) == 0)
                                 ? REPLY_OK
                                 : REPLY_BAD_DETAIL);
    return false;
}

static void stats_reset(struct connection *c)
{
    uint64_t total = c->shard->counters.total_connections;

    c->shard->counters = (struct counters){.total_connections = total};
    connection_reply_text(c, REPLY_RESET);
}

void stats_execute(struct connection *c, struct command *command)
{
    static const struct {
        const char *name;
        void (*report)(struct connection *);
    } reports[] = {
        {"settings", stats_settings},
        {"items", stats_items},
        {"slabs", stats_slabs},
        {"conns", stats_conns},
        {"pm", stats_pm},
    };
    const char *word;
    size_t len;

    if (!command_next_word(command, &word, &len)) {
        stats_general(c);
        connection_reply_text(c, REPLY_END);
        return;
    }
    for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++)
        if (strlen(reports[i].name) == len &&
            memcmp(reports[i].name, word, len) == 0) {
            reports[i].report(c);
            connection_reply_text(c, REPLY_END);
            return;
        }
    if (len == 5 && memcmp(word, "sizes", 5) == 0) {
        stat_text(c, "sizes_status", "disabled");
        connection_reply_text(c, REPLY_END);
    } else if (len == 5 && memcmp(word, "reset", 5) == 0) {
        stats_reset(c);
    } else if (len == 6 && memcmp(word, "detail", 6) == 0) {
        if (stats_detail(c, command))
            connection_reply_text(c, REPLY_END);
    } else if (len == 9 && memcmp(word, "cachedump", 9) == 0) {
        if (stats_cachedump(c, command))
            connection_reply_text(c, REPLY_END);
    } else if (len == 8 && memcmp(word, "extstore", 8) == 0) {
        connection_reply_text(c, REPLY_END);
    } else {
        connection_reply_text(c, REPLY_ERROR);
    }
}
