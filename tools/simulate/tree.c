/* The tree: one for the cluster, as etcd has it, and a copy on each node. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#include "ha/place.h"

static void value_drop(struct sim_value *value)
{
    if (value == NULL || --value->references > 0)
        return;
    if (value->message != NULL)
        protobuf_c_message_free_unpacked(value->message, NULL);
    free(value);
}

static uint32_t hash_of(const char *path)
{
    uint32_t hash = 2166136261U;
    for (; *path != '\0'; path++)
        hash = (hash ^ (unsigned char)*path) * 16777619U;
    return (hash ^ (hash >> 15)) % 1024;
}

static int node_by_name(const struct sim *sim, const char *name, size_t length)
{
    for (int i = 0; i < sim->node_count; i++)
        if (strlen(sim->nodes[i].name) == length && memcmp(sim->nodes[i].name, name, length) == 0)
            return i;
    return -1;
}

static int guest_by_sid(const struct sim *sim, const char *sid)
{
    for (int i = 0; i < sim->guest_count; i++)
        if (strcmp(sim->guests[i].sid, sid) == 0)
            return i;
    return -1;
}

/* "nodes/pve1/qemu-server/100.conf" */
static void classify_guest(const struct sim *sim, struct sim_key *key)
{
    const char *name = key->path + strlen("nodes/");
    const char *folder = strchr(name, '/');
    const char *file = strrchr(key->path, '/') + 1;
    if (folder == NULL)
        return;
    uint32_t vmid = (uint32_t)strtoul(file, NULL, 10);
    key->node = node_by_name(sim, name, (size_t)(folder - name));
    for (int i = 0; i < sim->guest_count; i++)
        if (sim->guests[i].vmid == vmid)
            key->guest = i;
    if (key->node >= 0 && key->guest >= 0)
        key->kind = SIM_FILE_GUEST;
}

static void classify(const struct sim *sim, struct sim_key *key)
{
    static const struct {
        const char *start;
        enum sim_kind kind;
    } starts[] = {
        {ATL_HA_MANAGER_BEAT, SIM_FILE_MANAGER_BEAT},
        {ATL_HA_MANAGER, SIM_FILE_MANAGER},
        {ATL_HA_ARM, SIM_FILE_ARM},
        {ATL_HA_MOVES, SIM_FILE_MOVES},
        {ATL_HA_LOCK, SIM_FILE_LOCK},
        {ATL_HA_BEAT, SIM_FILE_BEAT},
        {ATL_HA_LRM, SIM_FILE_LRM},
        {ATL_HA_NODE, SIM_FILE_NODE},
        {ATL_HA_SERVICE, SIM_FILE_SERVICE},
        {ATL_HA_REQUEST, SIM_FILE_REQUEST},
    };
    key->kind = SIM_FILE_OTHER;
    key->node = key->guest = -1;
    for (size_t i = 0; i < ATL_COUNT(starts); i++) {
        size_t length = strlen(starts[i].start);
        if (strncmp(key->path, starts[i].start, length) != 0)
            continue;
        const char *rest = key->path + length;
        key->kind = starts[i].kind;
        if (key->kind >= SIM_FILE_LOCK && key->kind <= SIM_FILE_NODE)
            key->node = node_by_name(sim, rest, strlen(rest));
        if (key->kind == SIM_FILE_SERVICE)
            key->guest = guest_by_sid(sim, rest);
        return;
    }
    if (strncmp(key->path, "nodes/", strlen("nodes/")) == 0)
        classify_guest(sim, key);
}

uint32_t sim_key(struct sim *sim, const char *path)
{
    struct sim_tree *tree = &sim->tree;
    uint32_t hash = hash_of(path);
    for (uint32_t i = tree->hash[hash]; i != 0; i = tree->keys[i].next)
        if (strcmp(tree->keys[i].path, path) == 0)
            return i;
    if (tree->key_count == tree->key_room) {
        tree->key_room = tree->key_room == 0 ? 256 : tree->key_room * 2;
        tree->keys = atl_realloc(tree->keys, tree->key_room * sizeof *tree->keys);
    }
    if (tree->key_count == 0)
        tree->key_count = 1; /* 0 stands for none */
    uint32_t made = tree->key_count++;
    struct sim_key *key = &tree->keys[made];
    *key = (struct sim_key){.next = tree->hash[hash]};
    (void)snprintf(key->path, sizeof key->path, "%s", path);
    tree->hash[hash] = made;
    classify(sim, key);
    if (key->kind == SIM_FILE_REQUEST && tree->request_count < ATL_COUNT(tree->requests))
        tree->requests[tree->request_count++] = made;
    return made;
}

static const ProtobufCMessageDescriptor *type_of(enum sim_kind kind)
{
    switch (kind) {
    case SIM_FILE_MANAGER:
        return &atoll__ha__v1__manager__descriptor;
    case SIM_FILE_MANAGER_BEAT:
    case SIM_FILE_BEAT:
        return &atoll__ha__v1__beat__descriptor;
    case SIM_FILE_ARM:
        return &atoll__ha__v1__arm__descriptor;
    case SIM_FILE_MOVES:
        return &atoll__ha__v1__moves__descriptor;
    case SIM_FILE_LOCK:
        return &atoll__ha__v1__node_lock__descriptor;
    case SIM_FILE_LRM:
        return &atoll__ha__v1__lrm_report__descriptor;
    case SIM_FILE_NODE:
        return &atoll__ha__v1__node_record__descriptor;
    case SIM_FILE_SERVICE:
        return &atoll__ha__v1__service__descriptor;
    case SIM_FILE_REQUEST:
        return &atoll__ha__v1__request__descriptor;
    default:
        return NULL;
    }
}

/* The value is taken; NULL: the file goes. */
static void change(struct sim *sim, uint32_t key, struct sim_value *value)
{
    struct sim_tree *tree = &sim->tree;
    if (tree->log_count == tree->log_room) {
        tree->log_room = tree->log_room == 0 ? 1024 : tree->log_room * 2;
        tree->log = atl_realloc(tree->log, tree->log_room * sizeof *tree->log);
    }
    if (value != NULL)
        value->references++;
    value_drop(tree->keys[key].value);
    tree->keys[key].value = value;
    tree->log[tree->log_count++] = (struct sim_change){.key = key, .value = value};
}

static struct sim_value *value_new(struct sim *sim, ProtobufCMessage *message)
{
    struct sim_value *value = atl_new0(struct sim_value);
    value->references = 1; /* the log's */
    atoll__bus__v1__revision__init(&value->revision);
    value->revision.has_epoch = value->revision.has_number = 1;
    value->revision.epoch = 1;
    value->revision.number = sim->tree.number;
    value->message = message;
    return value;
}

static bool holds(struct sim *sim, const Atoll__Store__V1__Compare *compare)
{
    const struct sim_value *value = sim->tree.keys[sim_key(sim, compare->path)].value;
    if (compare->revision != NULL)
        return value != NULL && value->revision.number == compare->revision->number &&
               value->revision.epoch == compare->revision->epoch;
    return compare->absent ? value == NULL : value != NULL;
}

static void operate(struct sim *sim, const Atoll__Store__V1__Operation *operation)
{
    uint32_t key = sim_key(sim, operation->path);
    if (strcmp(operation->kind, "put") == 0) {
        const ProtobufCMessageDescriptor *type = type_of(sim->tree.keys[key].kind);
        ProtobufCMessage *message = NULL;
        if (type != NULL)
            message = protobuf_c_message_unpack(type, NULL, operation->content.len, operation->content.data);
        if (type != NULL && message == NULL)
            sim_fail(sim, "what was written to %s can not be read", operation->path);
        change(sim, key, value_new(sim, message));
        return;
    }
    if (strcmp(operation->kind, "rename") == 0)
        change(sim, sim_key(sim, operation->to), value_new(sim, NULL));
    change(sim, key, NULL);
}

/* A file must be there to be renamed, and none where it goes. */
static bool possible(struct sim *sim, const Atoll__Store__V1__Operation *operation)
{
    if (strcmp(operation->kind, "rename") != 0)
        return true;
    return sim->tree.keys[sim_key(sim, operation->path)].value != NULL &&
           sim->tree.keys[sim_key(sim, operation->to)].value == NULL;
}

enum sim_outcome sim_txn(struct sim *sim, const Atoll__Store__V1__TxnRequest *txn)
{
    for (size_t i = 0; i < txn->n_compare; i++)
        if (!holds(sim, txn->compare[i]))
            return SIM_REFUSED;
    for (size_t i = 0; i < txn->n_operation; i++)
        if (!possible(sim, txn->operation[i]))
            return SIM_REFUSED;
    if (txn->n_operation > 100 || txn->n_compare > 100)
        sim_fail(sim, "a transaction has %zu operations and %zu compares", txn->n_operation, txn->n_compare);
    sim->tree.number++;
    for (size_t i = 0; i < txn->n_operation; i++)
        operate(sim, txn->operation[i]);
    return SIM_DONE;
}

bool sim_tree_put(struct sim *sim, const char *path, const ProtobufCMessage *message)
{
    if (sim->leader < 0)
        return false;
    ProtobufCMessage *copy = NULL;
    uint32_t key = sim_key(sim, path);
    if (message != NULL) {
        uint8_t bytes[2048];
        atl_assert(protobuf_c_message_get_packed_size(message) <= sizeof bytes);
        size_t length = protobuf_c_message_pack(message, bytes);
        copy = protobuf_c_message_unpack(message->descriptor, NULL, length, bytes);
    }
    sim->tree.number++;
    change(sim, key, value_new(sim, copy));
    return true;
}

void sim_tree_delete(struct sim *sim, const char *path)
{
    sim->tree.number++;
    change(sim, sim_key(sim, path), NULL);
}

void sim_copy_clear(struct sim_copy *copy)
{
    for (uint32_t i = 0; i < copy->room; i++)
        value_drop(copy->files[i]);
    free(copy->files);
    *copy = (struct sim_copy){0};
    memset(copy->place, -1, sizeof copy->place);
}

static void copy_take(struct sim *sim, struct sim_copy *copy, const struct sim_change *change_)
{
    const struct sim_key *key = &sim->tree.keys[change_->key];
    if (change_->value != NULL)
        change_->value->references++;
    value_drop(copy->files[change_->key]);
    copy->files[change_->key] = change_->value;
    if (key->kind != SIM_FILE_GUEST)
        return;
    if (change_->value != NULL)
        copy->place[key->guest] = key->node;
    else if (copy->place[key->guest] == key->node)
        copy->place[key->guest] = -1;
}

/* Beats come all the time and ask for nothing; what is about another node is not for the agent here. */
static void note(const struct sim *sim, struct sim_node *node, uint32_t index)
{
    const struct sim_key *key = &sim->tree.keys[index];
    if (key->kind == SIM_FILE_BEAT || key->kind == SIM_FILE_MANAGER_BEAT)
        return;
    node->copy.news_crm = true;
    bool others = key->node >= 0 && key->node != node->index && key->kind != SIM_FILE_GUEST;
    node->copy.news_lrm |= !others && key->kind != SIM_FILE_LRM && key->kind != SIM_FILE_REQUEST;
}

void sim_copy_apply(struct sim *sim, struct sim_node *node)
{
    struct sim_copy *copy = &node->copy;
    if (copy->room < sim->tree.key_count) {
        uint32_t room = sim->tree.key_room;
        copy->files = atl_realloc(copy->files, room * sizeof *copy->files);
        memset(copy->files + copy->room, 0, (room - copy->room) * sizeof *copy->files);
        copy->room = room;
    }
    for (; copy->applied < sim->tree.log_count; copy->applied++) {
        note(sim, node, sim->tree.log[copy->applied].key);
        copy_take(sim, copy, &sim->tree.log[copy->applied]);
    }
    copy->number = sim->tree.number;
}

const struct sim_value *sim_file(const struct sim_node *node, uint32_t key)
{
    return key < node->copy.room ? node->copy.files[key] : NULL;
}

void sim_tree_init(struct sim *sim)
{
    char path[SIM_NAME * 2];
    sim->key_manager = sim_key(sim, ATL_HA_MANAGER);
    sim->key_manager_beat = sim_key(sim, ATL_HA_MANAGER_BEAT);
    sim->key_arm = sim_key(sim, ATL_HA_ARM);
    sim->key_moves = sim_key(sim, ATL_HA_MOVES);
    for (int i = 0; i < sim->node_count; i++) {
        const char *const folders[] = {ATL_HA_LOCK, ATL_HA_BEAT, ATL_HA_LRM, ATL_HA_NODE};
        uint32_t *const keys[] = {sim->key_lock, sim->key_beat, sim->key_lrm, sim->key_node};
        for (size_t k = 0; k < ATL_COUNT(folders); k++) {
            (void)snprintf(path, sizeof path, "%s%s", folders[k], sim->nodes[i].name);
            keys[k][i] = sim_key(sim, path);
        }
    }
}

void sim_tree_done(struct sim *sim)
{
    struct sim_tree *tree = &sim->tree;
    for (size_t i = 0; i < tree->log_count; i++)
        value_drop(tree->log[i].value);
    for (uint32_t i = 1; i < tree->key_count; i++)
        value_drop(tree->keys[i].value);
    free(tree->log);
    free(tree->keys);
}
