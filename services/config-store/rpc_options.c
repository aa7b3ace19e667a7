/* /cluster/options: datacenter.cfg. */
#include <stdlib.h>
#include <string.h>

#include "atoll/cluster/v1/options.atl.h"
#include "cfg.h"
#include "core/datacenter.h"
#include "edit.h"
#include "pure/digest.h"
#include "view.h"

enum { TAGS_MAX = 4096 };

#define DATACENTER "datacenter.cfg"

/* --- showing --- */

struct tags {
    char **items;
    size_t count;
    size_t room;
};

static void add_tags(struct tags *tags, const char *text, struct atl_arena *arena)
{
    for (const char *at = text; *at != '\0' && tags->count < TAGS_MAX;) {
        at += strspn(at, ";, ");
        size_t length = strcspn(at, ";, ");
        if (length > 0) {
            tags->items = atl_arena_grow(arena, tags->items, tags->count, &tags->room, sizeof tags->items[0]);
            tags->items[tags->count++] = atl_arena_strndup(arena, at, length);
        }
        at += length;
    }
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The tags of guests that the caller may see, each once. */
static struct tags tags_of(struct cfg *cfg, struct atl_subject *subject, struct atl_arena *arena)
{
    struct tags tags = {0};
    size_t count = 0;
    size_t kept = 0;
    struct cfg_guest_row *const *guests = cfg_status_guests(cfg_view_status(cfg->view), &count);
    atl_privs audit = atl_priv_from_text("VM.Audit");
    for (size_t i = 0; i < count; i++)
        if (guests[i]->row.tags != NULL && atl_subject_may(subject, guests[i]->acl_path, audit, 0))
            add_tags(&tags, guests[i]->row.tags, arena);
    if (tags.count > 0)
        qsort(tags.items, tags.count, sizeof tags.items[0], by_text);
    for (size_t i = 0; i < tags.count; i++)
        if (kept == 0 || strcmp(tags.items[kept - 1], tags.items[i]) != 0)
            tags.items[kept++] = tags.items[i];
    tags.count = kept;
    return tags;
}

static void handle_get(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_subject subject;
    char digest[ATL_DIGEST_SIZE];
    size_t size = 0;
    (void)input;
    if (!cfg_get_subject(cfg, request, &subject))
        return;
    const char *text = cfg_text_ahead(cfg, DATACENTER, &size);
    Atoll__Cluster__V1__GetOptionsReply reply = ATOLL__CLUSTER__V1__GET_OPTIONS_REPLY__INIT;
    reply.options = cfg_datacenter_read(text, size, arena);
    if (atl_subject_may(&subject, "/", atl_priv_from_text("Sys.Audit"), 0)) {
        atl_digest(text, size, digest);
        reply.digest = atl_arena_strdup(arena, digest);
    } else {
        cfg_datacenter_reduce(reply.options);
    }
    struct tags tags = tags_of(cfg, &subject, arena);
    reply.allowed_tags = tags.items;
    reply.n_allowed_tags = tags.count;
    atl_request_reply(request, &reply.base);
}

/* --- changing --- */

static bool change(struct cfg_edit *edit, const void *wish)
{
    struct atl_arena *arena = atl_request_arena(edit->request);
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    struct atl_error err = {0};
    struct atl_buf out = {0};
    size_t size = 0;
    const char *text = cfg_text_ahead(edit->cfg, DATACENTER, &size);
    errors->count = 0;
    enum atl_code code = cfg_datacenter_change(text, size, wish, arena, &out, errors, &err);
    if (code != ATL_OK) {
        atl_buf_done(&out);
        atl_request_fail(edit->request, &err, errors->count > 0 ? errors : NULL);
        return false;
    }
    cfg_edit_file(edit, DATACENTER, &out);
    cfg_edit_finish(edit);
    return true;
}

static void handle_set(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    cfg_edit_run(user, request, change, input);
}

void cfg_serve_options(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {{"GetOptions", handle_get}, {"SetOptions", handle_set}};
    atl_bus_serve(cfg->bus, &atl_svc_cluster_v1_DatacenterOptions, handlers, ATL_COUNT(handlers), cfg);
}
