/* Announce: the keys of this node's services into its record of the directory. */
#include <string.h>

#include "atoll/store/v1/directory.atl.h"
#include "cfg.h"
#include "io/directory.h"
#include "pure/codec.h"

enum { TRIES_MAX = 5 };

struct announcing { /* lives with the request */
    struct cfg *cfg;
    struct atl_request *request;
    const Atoll__Store__V1__AnnounceRequest *input;
    unsigned int tries; /* two services may announce at the same time */
};

static void try_announce(struct announcing *announcing);

static void answer(struct atl_request *request, bool unchanged)
{
    Atoll__Store__V1__AnnounceReply reply = ATOLL__STORE__V1__ANNOUNCE_REPLY__INIT;
    reply.has_unchanged = 1;
    reply.unchanged = unchanged;
    atl_request_reply(request, &reply.base);
}

static void on_written(const struct cfg_store_result *result, void *user)
{
    struct announcing *announcing = user;
    if (result->code == ATL_OK)
        answer(announcing->request, false);
    else if (result->code == ATL_E_CONFLICT && ++announcing->tries < TRIES_MAX)
        try_announce(announcing);
    else
        atl_request_fail(announcing->request, &result->error, NULL);
}

/* The service's line in the record, made if need be; NULL: the record is full. */
static Atoll__Store__V1__ServiceKey *line_of(Atoll__Store__V1__DirectoryNode *record, const char *service,
                                             struct atl_arena *arena)
{
    for (size_t i = 0; i < record->n_key; i++)
        if (strcmp(record->key[i]->service, service) == 0)
            return record->key[i];
    if (record->n_key >= ATL_DIRECTORY_KEYS)
        return NULL;
    Atoll__Store__V1__ServiceKey **lines =
        atl_arena_array(arena, Atoll__Store__V1__ServiceKey *, record->n_key + 1);
    for (size_t i = 0; i < record->n_key; i++)
        lines[i] = record->key[i];
    Atoll__Store__V1__ServiceKey *line = atl_arena_new(arena, Atoll__Store__V1__ServiceKey);
    atoll__store__v1__service_key__init(line);
    line->service = atl_arena_strdup(arena, service);
    lines[record->n_key++] = line;
    record->key = lines;
    return line;
}

static Atoll__Store__V1__DirectoryNode *read_record(const struct cfg_file *file, struct atl_arena *arena)
{
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    return file != NULL ? atoll__store__v1__directory_node__unpack(&allocator, file->size, file->bytes)
                        : NULL;
}

static bool says_so(const Atoll__Store__V1__DirectoryNode *record, const Atoll__Store__V1__ServiceKey *line,
                    const Atoll__Store__V1__AnnounceRequest *input)
{
    return line->public_key.len == input->public_key.len &&
           memcmp(line->public_key.data, input->public_key.data, input->public_key.len) == 0 &&
           (!input->has_protocol_minor ||
            (record->has_protocol_minor && record->protocol_minor == input->protocol_minor));
}

static void write_record(struct announcing *announcing, const char *path,
                         const Atoll__Store__V1__DirectoryNode *record, uint64_t number)
{
    struct atl_arena *arena = atl_request_arena(announcing->request);
    size_t size = atoll__store__v1__directory_node__get_packed_size(record);
    uint8_t *bytes = atl_arena_alloc(arena, size);
    (void)atoll__store__v1__directory_node__pack(record, bytes); /* returns the size */
    const struct cfg_compare compare = {.kind = CFG_AT_REVISION,
                                        .path = path,
                                        .epoch = cfg_store_revision(announcing->cfg->store).epoch,
                                        .number = number};
    const struct cfg_op op = {.kind = CFG_PUT, .path = path, .bytes = bytes, .size = size};
    const struct cfg_txn txn = {.compares = &compare, .compare_count = 1, .ops = &op, .op_count = 1};
    /* No request id: announcing a key twice is the same as once. */
    cfg_store_txn(announcing->cfg->store, &txn, NULL, on_written, announcing);
}

static void try_announce(struct announcing *announcing)
{
    struct atl_request *request = announcing->request;
    struct cfg *cfg = announcing->cfg;
    struct atl_arena *arena = atl_request_arena(request);
    const char *path = atl_arena_format(arena, ATL_DIRECTORY_PREFIX "%s", cfg->program->node);
    const struct cfg_file *file = cfg_tree_get(cfg_store_ahead(cfg->store), path);
    Atoll__Store__V1__DirectoryNode *record = read_record(file, arena);
    if (record == NULL) {
        cfg_refuse(request, ATL_E_STATE, NULL, "node '%s' is in no cluster", cfg->program->node);
        return;
    }
    const Atoll__Store__V1__AnnounceRequest *input = announcing->input;
    Atoll__Store__V1__ServiceKey *line = line_of(record, atl_request_principal(request)->service, arena);
    if (line == NULL) {
        cfg_refuse(request, ATL_E_LIMIT, NULL, "the record of node '%s' is full", cfg->program->node);
        return;
    }
    if (says_so(record, line, input)) {
        answer(request, true);
        return;
    }
    line->public_key = input->public_key;
    if (input->has_protocol_minor) {
        record->has_protocol_minor = 1;
        record->protocol_minor = input->protocol_minor;
    }
    write_record(announcing, path, record, file->number);
}

static void handle_announce(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    struct cfg *cfg = user;
    const Atoll__Store__V1__AnnounceRequest *input = (const void *)message;
    if (atl_request_principal(request)->node != NULL) {
        cfg_refuse(request, ATL_E_DENIED, NULL, "a service announces its key on its own node");
        return;
    }
    if (input->public_key.len != ATL_BUS_KEY_SIZE) {
        cfg_refuse(request, ATL_E_INVALID, "public_key", "a key has %d bytes", ATL_BUS_KEY_SIZE);
        return;
    }
    struct announcing *announcing = atl_arena_new(atl_request_arena(request), struct announcing);
    *announcing = (struct announcing){.cfg = cfg, .request = request, .input = input};
    try_announce(announcing);
}

static void add_record(Atoll__Store__V1__LookReply *reply, const struct cfg_file *file,
                       struct atl_arena *arena)
{
    Atoll__Store__V1__LookReply__Record *record = atl_arena_new(arena, Atoll__Store__V1__LookReply__Record);
    atoll__store__v1__look_reply__record__init(record);
    record->node = atl_arena_strdup(arena, file->path + strlen(ATL_DIRECTORY_PREFIX));
    record->content.data = atl_arena_copy(arena, file->bytes, file->size);
    record->content.len = file->size;
    reply->record[reply->n_record++] = record;
}

/* A gateway on a host that is no node may ask any. */
static bool is_associate(const struct cfg *cfg, const char *node)
{
    const struct atl_directory_node *record =
        node != NULL ? atl_directory_node(cfg->program->directory, node) : NULL;
    return record != NULL && record->associate;
}

static void handle_look(struct atl_request *request, const ProtobufCMessage *message, void *user)
{
    struct cfg *cfg = user;
    struct atl_arena *arena = atl_request_arena(request);
    const struct cfg_tree *tree = cfg_store_tree(cfg->store);
    const char *own = atl_arena_format(arena, ATL_DIRECTORY_PREFIX "%s", cfg->program->node);
    (void)message;
    const char *from = atl_request_principal(request)->node;
    if ((from != NULL && !is_associate(cfg, from)) || cfg_tree_get(tree, own) == NULL) {
        cfg_refuse(request, ATL_E_DENIED, NULL, "node '%s' is in no cluster", cfg->program->node);
        return;
    }
    Atoll__Store__V1__LookReply reply = ATOLL__STORE__V1__LOOK_REPLY__INIT;
    reply.record = atl_arena_array(arena, Atoll__Store__V1__LookReply__Record *, ATL_DIRECTORY_NODES);
    for (size_t at = cfg_tree_seek(tree, ATL_DIRECTORY_PREFIX);
         at < tree->count && reply.n_record < ATL_DIRECTORY_NODES &&
         strncmp(tree->files[at]->path, ATL_DIRECTORY_PREFIX, strlen(ATL_DIRECTORY_PREFIX)) == 0;
         at++)
        add_record(&reply, tree->files[at], arena);
    atl_request_reply(request, &reply.base);
}

void cfg_serve_directory(struct cfg *cfg)
{
    static const struct atl_handler handlers[] = {{"Announce", handle_announce}, {"Look", handle_look}};
    atl_bus_serve(cfg->bus, &atl_svc_store_v1_Directory, handlers, ATL_COUNT(handlers), cfg);
}
