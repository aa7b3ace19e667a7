/* The file of a container as a whole: reading, writing, sections, waiting changes. */
#include "core/lxc_doc.h"

#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "core/lxc_update.h"

static const struct atl_message *const file_table = &atl_msg_lxc_v1_File;
static const struct atl_message *const config_table = &atl_msg_lxc_v1_Config;

bool cmp_lxc_pending_name(const char *name)
{
    return strcmp(name, "pve:pending") == 0 || strcmp(name, "PENDING") == 0;
}

/* Every section has both its parts, so that nobody needs to look. */
static void complete(Atoll__Lxc__V1__File *file, struct atl_arena *arena)
{
    if (file->config == NULL) {
        file->config = atl_arena_new(arena, Atoll__Lxc__V1__Config);
        atoll__lxc__v1__config__init(file->config);
    }
    if (file->state == NULL) {
        file->state = atl_arena_new(arena, Atoll__Lxc__V1__State);
        atoll__lxc__v1__state__init(file->state);
    }
}

Atoll__Lxc__V1__File *cmp_lxc_file_new(struct atl_arena *arena)
{
    Atoll__Lxc__V1__File *file = atl_arena_new(arena, Atoll__Lxc__V1__File);
    atoll__lxc__v1__file__init(file);
    complete(file, arena);
    return file;
}

enum atl_code cmp_lxc_doc_read(const char *text, size_t length, struct atl_arena *arena,
                               struct cmp_lxc_doc *ret_doc, struct atl_error *err)
{
    struct cmp_lxc_doc doc = {.arena = arena};
    struct atl_errors errors = {0};
    enum atl_code code =
        atl_guest_decode(file_table, text, length, arena, &doc.sections, &doc.count, &errors);
    if (code != ATL_OK)
        return atl_fail(err, code, NULL, "the container's file cannot be read: %s",
                        errors.count > 0 ? errors.items[0].text : "it is damaged");
    if (doc.count == 0) {
        cmp_lxc_doc_new(NULL, arena, &doc);
    }
    for (size_t i = 0; i < doc.count; i++)
        complete((Atoll__Lxc__V1__File *)doc.sections[i].message, arena);
    doc.now = (Atoll__Lxc__V1__File *)doc.sections[0].message;
    for (size_t i = 1; i < doc.count; i++) {
        if (!cmp_lxc_pending_name(doc.sections[i].name))
            continue;
        doc.pending = (Atoll__Lxc__V1__File *)doc.sections[i].message;
        doc.pending_delete = atl_section_take(&doc.sections[i], "delete");
    }
    atl_digest(text, length, doc.digest);
    *ret_doc = doc;
    return ATL_OK;
}

void cmp_lxc_doc_new(Atoll__Lxc__V1__Config *config, struct atl_arena *arena, struct cmp_lxc_doc *ret_doc)
{
    struct cmp_lxc_doc doc = {.arena = arena};
    doc.sections = atl_arena_new(arena, struct atl_section);
    doc.count = 1;
    doc.now = cmp_lxc_file_new(arena);
    if (config != NULL)
        doc.now->config = config;
    doc.sections[0] = (struct atl_section){.name = "", .message = &doc.now->base};
    *ret_doc = doc;
}

/* What waits, with lines of newer versions; no message: nothing does. */
static struct atl_section waiting(const struct cmp_lxc_doc *doc)
{
    struct atl_section section = {.name = NULL};
    struct atl_param *params = NULL;
    size_t count = 0;
    for (size_t i = 1; i < doc->count; i++)
        if (cmp_lxc_pending_name(doc->sections[i].name))
            section = doc->sections[i];
    if (doc->pending != NULL)
        atl_params_encode(config_table, &doc->pending->config->base, doc->arena, &params, &count);
    if (doc->pending_delete != NULL && doc->pending_delete[0] != '\0')
        atl_section_add(&section, "delete", doc->pending_delete, doc->arena);
    section.name = "pve:pending";
    section.message = doc->pending != NULL ? &doc->pending->base : &cmp_lxc_file_new(doc->arena)->base;
    if (count == 0 && section.unknown_count == 0)
        section.message = NULL;
    return section;
}

void cmp_lxc_doc_write(struct cmp_lxc_doc *doc, struct atl_buf *out)
{
    struct atl_section *sections = atl_arena_array(doc->arena, struct atl_section, doc->count + 1);
    const struct atl_section waits = waiting(doc);
    size_t count = 0;
    sections[count++] = doc->sections[0];
    sections[0].message = &doc->now->base;
    if (waits.message != NULL)
        sections[count++] = waits; /* right behind what holds now */
    for (size_t i = 1; i < doc->count; i++)
        if (!cmp_lxc_pending_name(doc->sections[i].name))
            sections[count++] = doc->sections[i];
    size_t before = out->length;
    atl_guest_encode(file_table, sections, count, out);
    atl_digest(out->data + before, out->length - before, doc->digest);
}

size_t cmp_lxc_doc_raw(const struct cmp_lxc_doc *doc, const struct atl_line **ret_lines)
{
    struct atl_line *lines = atl_arena_array(doc->arena, struct atl_line, doc->sections[0].unknown_count + 1);
    size_t count = 0;
    for (size_t i = 0; i < doc->sections[0].unknown_count; i++)
        if (strncmp(doc->sections[0].unknown[i].key, "lxc.", 4) == 0)
            lines[count++] = doc->sections[0].unknown[i];
    *ret_lines = lines;
    return count;
}

Atoll__Lxc__V1__File *cmp_lxc_doc_section(const struct cmp_lxc_doc *doc, const char *name)
{
    for (size_t i = 1; i < doc->count; i++)
        if (strcmp(doc->sections[i].name, name) == 0 && !cmp_lxc_pending_name(name))
            return (Atoll__Lxc__V1__File *)doc->sections[i].message;
    return NULL;
}

const char *cmp_lxc_doc_lock(const struct cmp_lxc_doc *doc)
{
    const char *lock = doc->now->state->lock;
    return lock != NULL && lock[0] != '\0' ? lock : NULL;
}

void cmp_lxc_doc_set_lock(struct cmp_lxc_doc *doc, const char *lock)
{
    doc->now->state->lock = lock != NULL ? atl_arena_strdup(doc->arena, lock) : NULL;
}

Atoll__Lxc__V1__Config *cmp_lxc_doc_wanted(const struct cmp_lxc_doc *doc)
{
    Atoll__Lxc__V1__Config *config = atl_arena_new(doc->arena, Atoll__Lxc__V1__Config);
    atoll__lxc__v1__config__init(config);
    atl_message_merge(config_table, &config->base, &doc->now->config->base, doc->arena);
    char name[CMP_LXC_NAME];
    for (const char *at = doc->pending_delete; cmp_lxc_next_name(&at, name);)
        (void)atl_message_clear(config_table, &config->base, name); /* may be gone already */
    if (doc->pending != NULL)
        atl_message_merge(config_table, &config->base, &doc->pending->config->base, doc->arena);
    return config;
}

static Atoll__Lxc__V1__PendingEntry *row(struct atl_arena *arena, const char *key)
{
    Atoll__Lxc__V1__PendingEntry *entry = atl_arena_new(arena, Atoll__Lxc__V1__PendingEntry);
    atoll__lxc__v1__pending_entry__init(entry);
    entry->key = atl_arena_strdup(arena, key);
    return entry;
}

static bool goes(const struct cmp_lxc_doc *doc, const char *key)
{
    char name[CMP_LXC_NAME];
    for (const char *at = doc->pending_delete; cmp_lxc_next_name(&at, name);)
        if (strcmp(name, key) == 0)
            return true;
    return false;
}

void cmp_lxc_doc_rows(const struct cmp_lxc_doc *doc, Atoll__Lxc__V1__GetPendingReply *reply)
{
    struct atl_arena *arena = doc->arena;
    struct atl_param *now = NULL;
    struct atl_param *waiting = NULL;
    size_t now_count = 0;
    size_t waiting_count = 0;
    atl_params_encode(config_table, &doc->now->config->base, arena, &now, &now_count);
    if (doc->pending != NULL)
        atl_params_encode(config_table, &doc->pending->config->base, arena, &waiting, &waiting_count);
    reply->entry = atl_arena_array(arena, Atoll__Lxc__V1__PendingEntry *, now_count + waiting_count + 1);
    for (size_t i = 0; i < now_count; i++) {
        Atoll__Lxc__V1__PendingEntry *entry = row(arena, now[i].name);
        entry->value = atl_arena_strdup(arena, now[i].value);
        if (goes(doc, now[i].name)) {
            entry->has_delete_ = true;
            entry->delete_ = 1;
        }
        for (size_t j = 0; j < waiting_count; j++)
            if (strcmp(waiting[j].name, now[i].name) == 0)
                entry->pending = atl_arena_strdup(arena, waiting[j].value);
        reply->entry[reply->n_entry++] = entry;
    }
    for (size_t j = 0; j < waiting_count; j++) {
        bool known = false;
        for (size_t i = 0; i < now_count; i++)
            known = known || strcmp(waiting[j].name, now[i].name) == 0;
        if (known)
            continue;
        Atoll__Lxc__V1__PendingEntry *entry = row(arena, waiting[j].name);
        entry->pending = atl_arena_strdup(arena, waiting[j].value);
        reply->entry[reply->n_entry++] = entry;
    }
}
