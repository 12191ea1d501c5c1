/* kvpool info: what a file says about itself, also while it is in use. */
#include "store/tool/holder.h"
#include "store/tool/report.h"

#include <errno.h>
#include <string.h>

struct info {
    struct survey survey;
    const char *file;
    bool in_use;
    char holder[HOLDER_MAX];
    uint64_t free_grains;
};

static void uuid_text(const uint8_t uuid[16], char text[40])
{
    char *at = text;
    for (int i = 0; i < 16; i++)
        at +=
            snprintf(at, 4, "%s%02x",
                     i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}

static const char *state_name(const struct survey_pool *pool, bool in_use)
{
    return in_use                                 ? "in use"
           : pool->header->state.clean == 1       ? "closed in order"
           : pool->header->state.cas_ceiling <= 1 ? "in use when its program "
                                                    "ended, empty"
                                                  : "in use when its program "
                                                    "ended";
}

static void print_pool(const struct survey_pool *pool, const struct info *info,
                       struct json *json)
{
    const struct region_slot *slot = survey_slot(pool->survey, pool->slot);
    uint64_t grain = view_header(pool->survey->view)->grain;
    char size[TOOL_SIZE_MAX], when[TOOL_TIME_MAX];
    if (!json) {
        printf("pool %s: %s in %llu grains and %zu runs, made %s, %s\n",
               slot->name, tool_bytes(pool->grains * grain, size),
               (unsigned long long)pool->grains, pool->n_parts,
               tool_time(slot->created, when), state_name(pool, info->in_use));
        return;
    }
    json_begin(json, NULL, '{');
    json_text(json, "name", slot->name);
    json_number(json, "id", slot->id);
    json_number(json, "size", pool->grains * grain);
    json_number(json, "grains", pool->grains);
    json_number(json, "runs", pool->n_parts);
    json_number(json, "created", slot->created);
    json_number(json, "version", pool->header->version);
    json_number(json, "incompat", pool->header->incompat);
    json_number(json, "compat", pool->header->compat);
    json_bool(json, "closed_in_order",
              !info->in_use && pool->header->state.clean == 1);
    json_end(json, '}');
}

static int print_pools(struct info *info, struct json *json)
{
    struct survey *s = &info->survey;
    uint32_t slots = view_header(s->view)->slots;
    int rc = 0;
    for (uint32_t i = 0; i < slots && rc == 0; i++) {
        struct survey_pool pool;
        if (survey_slot(s, i)->state != REGION_SLOT_POOL)
            continue;
        rc = survey_pool_open(s, i, &pool);
        if (rc == 0) {
            print_pool(&pool, info, json);
            survey_pool_close(&pool);
        } else if (rc == -EUCLEAN) {
            if (!json)
                printf("pool %s: cannot be looked into\n",
                       survey_slot(s, i)->name);
            rc = 0;
        }
    }
    return rc;
}

static void print_words(const struct info *info)
{
    const struct survey *s = &info->survey;
    const struct region_header *h = view_header(s->view);
    char uuid[40], a[TOOL_SIZE_MAX], b[TOOL_SIZE_MAX], when[TOOL_TIME_MAX];
    uuid_text(h->uuid, uuid);
    printf("file: %s, %s\n", info->file, tool_bytes(s->view->file_size, a));
    printf("format: %s, version %u, features 0x%llx, optional 0x%llx\n",
           h->layout, h->version, (unsigned long long)h->incompat,
           (unsigned long long)h->compat);
    printf("uuid: %s\n", uuid);
    printf("made: %s\n", tool_time(h->created, when));
    printf("size: %s, can grow to %s\n", tool_bytes(h->size, a),
           tool_bytes(h->first + h->grain * h->max_grains, b));
    printf("grains: %llu of %s, %llu free (%s)\n",
           (unsigned long long)s->n_grains, tool_bytes(h->grain, a),
           (unsigned long long)info->free_grains,
           tool_bytes(info->free_grains * h->grain, b));
    printf("open: %s\n", info->in_use ? info->holder : "no");
}

static void print_json(const struct info *info, struct json *json)
{
    const struct survey *s = &info->survey;
    const struct region_header *h = view_header(s->view);
    char uuid[40];
    uuid_text(h->uuid, uuid);
    json_begin(json, NULL, '{');
    json_text(json, "file", info->file);
    json_number(json, "file_size", s->view->file_size);
    json_text(json, "layout", REGION_LAYOUT);
    json_number(json, "version", h->version);
    json_number(json, "incompat", h->incompat);
    json_number(json, "compat", h->compat);
    json_text(json, "uuid", uuid);
    json_number(json, "created", h->created);
    json_number(json, "size", h->size);
    json_number(json, "largest_size", h->first + h->grain * h->max_grains);
    json_number(json, "grain", h->grain);
    json_number(json, "grains", s->n_grains);
    json_number(json, "free_grains", info->free_grains);
    json_number(json, "slots", h->slots);
    json_bool(json, "open", info->in_use);
    if (info->in_use)
        json_text(json, "holder", info->holder);
}

static int print(struct info *info, bool as_json)
{
    struct json json = {.out = stdout};
    if (as_json) {
        print_json(info, &json);
        json_begin(&json, "pools", '[');
    } else {
        print_words(info);
    }
    int rc = print_pools(info, as_json ? &json : NULL);
    bool damaged = info->survey.damages > 0 && !info->in_use;
    if (as_json) {
        json_end(&json, ']');
        json_bool(&json, "damaged", damaged);
        json_end(&json, '}');
    } else if (damaged) {
        printf("damaged: 'kvpool check %s' says where\n", info->file);
    }
    return rc < 0 ? TOOL_FAILED : damaged ? TOOL_DAMAGED : TOOL_DONE;
}

static int look(struct view *view, const struct tool_options *options)
{
    struct info info = {.file = view->path, .in_use = view_in_use(view)};
    struct survey *s = &info.survey;
    struct fixes fixes;
    int status;
    fixes_init(&fixes);
    if (info.in_use)
        holder_of(view->fd, view_header(view)->opener, info.holder);
    int rc = survey_init(s, view, &fixes);
    if (rc == 0)
        rc = survey_region(s);
    if (rc < 0) {
        char error[256];
        snprintf(error, sizeof(error),
                 "%s is damaged: 'kvpool check' says "
                 "where",
                 view->path);
        status = report_refusal("info", options, view->path, rc,
                                rc == -EUCLEAN ? error : "");
    } else {
        for (uint64_t g = 0; g < s->n_grains; g++)
            info.free_grains += s->owner[g] == 0;
        status = print(&info, options->json);
    }
    survey_fini(s);
    fixes_fini(&fixes);
    return status;
}

int kvpool_info(int argc, char **argv)
{
    static const struct option table[] = {TOOL_OPTION_JSON, {NULL, 0, NULL, 0}};
    struct tool_options options = {0};
    char error[512] = "";
    struct view view;
    int option;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1)
        if (!tool_option(&options, option))
            return tool_bad_option(argv, "--json");
    const char *file = tool_file(argc, argv);
    if (!file)
        return TOOL_USAGE;
    int rc = view_open(&view, file, VIEW_GLANCE, error, sizeof(error));
    if (rc < 0)
        return report_refusal("info", &options, file, rc, error);
    int status = look(&view, &options);
    view_close(&view);
    return status;
}
