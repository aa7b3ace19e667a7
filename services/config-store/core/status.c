/* Nodes, guests and storages as they are right now. Tasks stand in status_tasks.c. */
#include "core/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"
#include "core/status_internal.h"

struct cfg_status *cfg_status_new(void)
{
    return atl_new0(struct cfg_status);
}

static void free_row(Atoll__Cluster__V1__ResourcesRow *row)
{
    char *const texts[] = {row->id,   row->name,    row->node,       row->pool,    row->tags,   row->lock,
                           row->type, row->storage, row->plugintype, row->content, row->status, row->hastate};
    for (size_t i = 0; i < ATL_COUNT(texts); i++)
        free(texts[i]);
}

static void set_text(char **field, const char *text)
{
    if (*field != NULL && text != NULL && strcmp(*field, text) == 0)
        return;
    free(*field);
    *field = text != NULL && text[0] != '\0' ? atl_strdup(text) : NULL;
}

void cfg_status_free(struct cfg_status **pointer)
{
    struct cfg_status *status = *pointer;
    *pointer = NULL;
    if (status == NULL)
        return;
    for (size_t i = 0; i < status->guest_count; i++) {
        free_row(&status->guests[i]->row);
        free(status->guests[i]);
    }
    for (size_t i = 0; i < status->storage_count; i++) {
        free_row(&status->storages[i]->row);
        free(status->storages[i]);
    }
    for (size_t i = 0; i < status->node_count; i++) {
        free_row(&status->nodes[i]->row);
        free(status->nodes[i]);
    }
    cfg_status_drop_tasks(status);
    free(status->guests);
    free(status->storages);
    free(status);
}

/* --- guests
 * ------------------------------------------------------------------------------------------------- */

static size_t guest_seek(const struct cfg_status *status, uint32_t vmid)
{
    size_t low = 0;
    size_t high = status->guest_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (status->guests[middle]->vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct cfg_guest_row *find_guest(const struct cfg_status *status, uint32_t vmid)
{
    size_t at = guest_seek(status, vmid);
    return at < status->guest_count && status->guests[at]->vmid == vmid ? status->guests[at] : NULL;
}

/* Nobody knows: no figures, or they would be taken for true. */
static void forget_state(Atoll__Cluster__V1__ResourcesRow *row)
{
    set_text(&row->status, "unknown");
    row->has_cpu = row->has_maxcpu = row->has_mem = row->has_maxmem = row->has_disk = row->has_maxdisk = 0;
    row->has_diskread = row->has_diskwrite = row->has_netin = row->has_netout = row->has_uptime = 0;
    row->has_memhost = row->has_pressure = 0;
}

static struct cfg_guest_row *insert_guest(struct cfg_status *status, uint32_t vmid)
{
    if (status->guest_count == status->guest_room) {
        status->guest_room = status->guest_room == 0 ? 64 : status->guest_room * 2;
        status->guests = atl_realloc(status->guests, status->guest_room * sizeof status->guests[0]);
    }
    size_t at = guest_seek(status, vmid);
    memmove(&status->guests[at + 1], &status->guests[at],
            (status->guest_count - at) * sizeof status->guests[0]);
    status->guest_count++;
    struct cfg_guest_row *guest = atl_new0(struct cfg_guest_row);
    atoll__cluster__v1__resources_row__init(&guest->row);
    guest->vmid = vmid;
    guest->row.has_vmid = 1;
    guest->row.vmid = vmid;
    (void)snprintf(guest->acl_path, sizeof guest->acl_path, "/vms/%u", vmid);
    forget_state(&guest->row);
    status->guests[at] = guest;
    return guest;
}

static void remove_guest(struct cfg_status *status, uint32_t vmid)
{
    size_t at = guest_seek(status, vmid);
    if (at == status->guest_count || status->guests[at]->vmid != vmid)
        return;
    free_row(&status->guests[at]->row);
    free(status->guests[at]);
    memmove(&status->guests[at], &status->guests[at + 1],
            (status->guest_count - at - 1) * sizeof status->guests[0]);
    status->guest_count--;
}

static void read_config(Atoll__Cluster__V1__ResourcesRow *row, const char *text, bool qemu)
{
    char value[512] = "";
    set_text(&row->name,
             cfg_line_value(text, qemu ? "name" : "hostname", value, sizeof value) ? value : NULL);
    set_text(&row->tags, cfg_line_value(text, "tags", value, sizeof value) ? value : NULL);
    set_text(&row->lock, cfg_line_value(text, "lock", value, sizeof value) ? value : NULL);
    row->has_template_ = 1;
    row->template_ = cfg_line_value(text, "template", value, sizeof value) && strcmp(value, "1") == 0;
}

void cfg_status_guest(struct cfg_status *status, const struct cfg_guest_path *guest, const char *text)
{
    struct cfg_guest_row *found = find_guest(status, guest->vmid);
    if (text == NULL) {
        /* The file may have moved to another node in the same transaction: then the row is that node's by
         * now. */
        if (found != NULL && strcmp(found->row.node, guest->node) == 0)
            remove_guest(status, guest->vmid);
        return;
    }
    if (found == NULL)
        found = insert_guest(status, guest->vmid);
    Atoll__Cluster__V1__ResourcesRow *row = &found->row;
    const char *type = guest->type == CFG_QEMU ? "qemu" : "lxc";
    char id[32];
    (void)snprintf(id, sizeof id, "%s/%u", type, guest->vmid);
    set_text(&row->id, id);
    set_text(&row->type, type);
    if (row->node != NULL && strcmp(row->node, guest->node) != 0)
        forget_state(row); /* it moved: the other node will tell */
    set_text(&row->node, guest->node);
    read_config(row, text, guest->type == CFG_QEMU);
    cfg_status_node(status, guest->node);
}

void cfg_status_hastate(struct cfg_status *status, uint32_t vmid, const char *type, const char *state)
{
    struct cfg_guest_row *found = find_guest(status, vmid);
    if (found != NULL && strcmp(found->row.type, strcmp(type, "vm") == 0 ? "qemu" : "lxc") == 0)
        set_text(&found->row.hastate, state);
}

void cfg_status_pools(struct cfg_status *status, const struct atl_acl *acl)
{
    char id[16];
    for (size_t i = 0; i < status->guest_count; i++) {
        (void)snprintf(id, sizeof id, "%u", status->guests[i]->vmid);
        const struct atl_pool *pool = atl_acl_pool_of(acl, false, id);
        set_text(&status->guests[i]->row.pool, pool != NULL ? pool->id : NULL);
    }
    for (size_t i = 0; i < status->storage_count; i++) {
        const struct atl_pool *pool = atl_acl_pool_of(acl, true, status->storages[i]->row.storage);
        set_text(&status->storages[i]->row.pool, pool != NULL ? pool->id : NULL);
    }
}

#define COPY(to, from, field, as)                                                                            \
    do {                                                                                                     \
        (to)->has_##field = (from)->has_##field;                                                             \
        (to)->field = (as)(from)->field;                                                                     \
    } while (0)

static void take_guest(struct cfg_status *status, const char *node, const Atoll__Store__V1__GuestStatus *from)
{
    struct cfg_guest_row *found = find_guest(status, from->vmid);
    if (found == NULL || strcmp(found->row.node, node) != 0 || strcmp(found->row.type, from->type) != 0)
        return; /* the tree says where a guest is */
    Atoll__Cluster__V1__ResourcesRow *row = &found->row;
    set_text(&row->status, from->status != NULL ? from->status : "unknown");
    COPY(row, from, cpu, double);
    COPY(row, from, maxcpu, double);
    COPY(row, from, mem, int64_t);
    COPY(row, from, maxmem, int64_t);
    COPY(row, from, disk, int64_t);
    COPY(row, from, maxdisk, int64_t);
    COPY(row, from, diskread, int64_t);
    COPY(row, from, diskwrite, int64_t);
    COPY(row, from, netin, int64_t);
    COPY(row, from, netout, int64_t);
    COPY(row, from, uptime, int64_t);
    COPY(row, from, memhost, int64_t);
    if (row->name == NULL && from->name != NULL)
        set_text(&row->name, from->name);
}

/* --- nodes
 * -------------------------------------------------------------------------------------------------- */

static struct cfg_node_row *find_node(const struct cfg_status *status, const char *name)
{
    for (size_t i = 0; i < status->node_count; i++)
        if (strcmp(status->nodes[i]->name, name) == 0)
            return status->nodes[i];
    return NULL;
}

void cfg_status_node(struct cfg_status *status, const char *name)
{
    if (find_node(status, name) != NULL || status->node_count == CFG_STATUS_NODES_MAX ||
        strlen(name) >= CFG_NAME_SIZE)
        return;
    struct cfg_node_row *node = atl_new0(struct cfg_node_row);
    atoll__cluster__v1__resources_row__init(&node->row);
    (void)atl_copy(node->name, sizeof node->name, name);
    (void)snprintf(node->acl_path, sizeof node->acl_path, "/nodes/%s", name);
    char id[96];
    (void)snprintf(id, sizeof id, "node/%s", name);
    set_text(&node->row.id, id);
    set_text(&node->row.type, "node");
    set_text(&node->row.node, name);
    forget_state(&node->row);
    node->row.level = (char *)(uintptr_t)protobuf_c_empty_string;
    size_t at = status->node_count++;
    for (; at > 0 && strcmp(status->nodes[at - 1]->name, name) > 0; at--)
        status->nodes[at] = status->nodes[at - 1];
    status->nodes[at] = node;
}

void cfg_status_forget_node(struct cfg_status *status, const char *name)
{
    for (size_t i = 0; i < status->node_count; i++) {
        if (strcmp(status->nodes[i]->name, name) != 0)
            continue;
        free_row(&status->nodes[i]->row);
        free(status->nodes[i]);
        status->node_count--;
        memmove(&status->nodes[i], &status->nodes[i + 1], (status->node_count - i) * sizeof status->nodes[0]);
        return;
    }
}

void cfg_status_member(struct cfg_status *status, const char *name, bool online)
{
    struct cfg_node_row *node = find_node(status, name);
    enum cfg_presence presence = online ? CFG_PRESENT : CFG_LOST;
    if (node == NULL || node->presence == presence)
        return;
    if (!online)
        forget_state(&node->row);
    node->online = online;
    node->presence = presence;
    set_text(&node->row.status, online ? "online" : "offline");
}

static void take_node(struct cfg_node_row *node, const Atoll__Store__V1__NodeStatus *from)
{
    Atoll__Cluster__V1__ResourcesRow *row = &node->row;
    set_text(&row->status, "online");
    node->online = true;
    COPY(row, from, cpu, double);
    COPY(row, from, maxcpu, double);
    COPY(row, from, mem, int64_t);
    COPY(row, from, maxmem, int64_t);
    COPY(row, from, disk, int64_t);
    COPY(row, from, maxdisk, int64_t);
    COPY(row, from, uptime, int64_t);
    COPY(row, from, cgroup_mode, int64_t);
    COPY(row, from, pressure, double);
    (void)atl_copy(node->ip, sizeof node->ip, from->ip != NULL ? from->ip : "");
    (void)atl_copy(node->fingerprint, sizeof node->fingerprint,
                   from->ssl_fingerprint != NULL ? from->ssl_fingerprint : "");
}

/* --- storages
 * ----------------------------------------------------------------------------------------------- */

static struct cfg_storage_row *find_storage(const struct cfg_status *status, const char *node,
                                            const char *storage)
{
    for (size_t i = 0; i < status->storage_count; i++)
        if (strcmp(status->storages[i]->row.node, node) == 0 &&
            strcmp(status->storages[i]->row.storage, storage) == 0)
            return status->storages[i];
    return NULL;
}

static int compare_storages(const struct cfg_storage_row *a, const struct cfg_storage_row *b)
{
    int order = strcmp(a->row.node, b->row.node);
    return order != 0 ? order : strcmp(a->row.storage, b->row.storage);
}

static struct cfg_storage_row *insert_storage(struct cfg_status *status, const char *node,
                                              const char *storage)
{
    if (status->storage_count == status->storage_room) {
        status->storage_room = status->storage_room == 0 ? 16 : status->storage_room * 2;
        status->storages = atl_realloc(status->storages, status->storage_room * sizeof status->storages[0]);
    }
    struct cfg_storage_row *made = atl_new0(struct cfg_storage_row);
    atoll__cluster__v1__resources_row__init(&made->row);
    char id[160];
    (void)snprintf(id, sizeof id, "storage/%s/%s", node, storage);
    set_text(&made->row.id, id);
    set_text(&made->row.type, "storage");
    set_text(&made->row.node, node);
    set_text(&made->row.storage, storage);
    (void)snprintf(made->acl_path, sizeof made->acl_path, "/storage/%.80s", storage);
    size_t at = status->storage_count++;
    for (; at > 0 && compare_storages(status->storages[at - 1], made) > 0; at--)
        status->storages[at] = status->storages[at - 1];
    status->storages[at] = made;
    return made;
}

static void remove_storage_at(struct cfg_status *status, size_t at)
{
    free_row(&status->storages[at]->row);
    free(status->storages[at]);
    memmove(&status->storages[at], &status->storages[at + 1],
            (status->storage_count - at - 1) * sizeof status->storages[0]);
    status->storage_count--;
}

static void take_storage(struct cfg_status *status, const char *service, const char *node,
                         const Atoll__Store__V1__StorageStatus *from)
{
    enum { STORAGES_MAX = 4096 };
    if (from->storage[0] == '\0')
        return;
    struct cfg_storage_row *found = find_storage(status, node, from->storage);
    if (found == NULL && status->storage_count < STORAGES_MAX)
        found = insert_storage(status, node, from->storage);
    if (found == NULL)
        return;
    (void)atl_copy(found->source, sizeof found->source, service);
    found->seen = true;
    Atoll__Cluster__V1__ResourcesRow *row = &found->row;
    set_text(&row->status, from->status != NULL ? from->status : "unknown");
    set_text(&row->plugintype, from->plugintype);
    set_text(&row->content, from->content);
    row->has_shared = 1;
    row->shared = from->has_shared && from->shared;
    COPY(row, from, disk, int64_t);
    COPY(row, from, maxdisk, int64_t);
}

static void drop_storage(struct cfg_status *status, const char *node, const char *storage)
{
    for (size_t i = status->storage_count; i > 0; i--)
        if (strcmp(status->storages[i - 1]->row.node, node) == 0 &&
            strcmp(status->storages[i - 1]->row.storage, storage) == 0)
            remove_storage_at(status, i - 1);
}

/* --- pushes
 * ------------------------------------------------------------------------------------------------- */

static struct cfg_sender *find_sender(struct cfg_status *status, const char *service, const char *node)
{
    for (size_t i = 0; i < status->sender_count; i++)
        if (strcmp(status->senders[i].service, service) == 0 && strcmp(status->senders[i].node, node) == 0)
            return &status->senders[i];
    if (status->sender_count == CFG_SENDERS_MAX)
        return NULL;
    struct cfg_sender *sender = &status->senders[status->sender_count++];
    (void)atl_copy(sender->service, sizeof sender->service, service);
    (void)atl_copy(sender->node, sizeof sender->node, node);
    return sender;
}

/* A full push replaces what this sender said before. */
static void forget_sender(struct cfg_status *status, const struct cfg_sender *sender)
{
    if (strcmp(sender->service, "compute-agent") == 0) {
        for (size_t i = 0; i < status->guest_count; i++)
            if (strcmp(status->guests[i]->row.node, sender->node) == 0)
                forget_state(&status->guests[i]->row);
    }
    for (size_t i = status->storage_count; i > 0; i--) {
        const struct cfg_storage_row *row = status->storages[i - 1];
        if (strcmp(row->row.node, sender->node) == 0 && strcmp(row->source, sender->service) == 0)
            remove_storage_at(status, i - 1);
    }
}

/* True: it fits behind what was heard; false: something is missing. `repeat` is set when it was taken before.
 */
static bool in_sequence(const struct cfg_sender *sender, const Atoll__Store__V1__PushRequest *push,
                        bool *ret_repeat)
{
    *ret_repeat = push->epoch < sender->epoch || (push->epoch == sender->epoch && sender->sequence != 0 &&
                                                  push->sequence <= sender->sequence);
    if (*ret_repeat || (push->has_full && push->full))
        return true;
    return push->epoch == sender->epoch && sender->sequence != 0 && push->sequence == sender->sequence + 1;
}

bool cfg_status_push(struct cfg_status *status, const char *service,
                     const Atoll__Store__V1__PushRequest *push, atl_ns now)
{
    cfg_status_node(status, push->node);
    struct cfg_node_row *node = find_node(status, push->node);
    struct cfg_sender *sender = find_sender(status, service, push->node);
    if (node == NULL || sender == NULL)
        return true; /* no room: asking for all would not help */
    bool repeat = false;
    if (!in_sequence(sender, push, &repeat))
        return false;
    if (repeat)
        return true;
    if (sender->stale && !(push->has_full && push->full))
        return false;
    if (push->has_full && push->full)
        forget_sender(status, sender);
    sender->epoch = push->epoch;
    sender->sequence = push->sequence;
    sender->heard = now;
    sender->stale = false;
    if (push->node_status != NULL && node->presence != CFG_LOST)
        take_node(node, push->node_status);
    for (size_t i = 0; i < push->n_guest; i++)
        take_guest(status, push->node, push->guest[i]);
    for (size_t i = 0; i < push->n_gone_guest; i++) {
        struct cfg_guest_row *gone = find_guest(status, push->gone_guest[i]);
        if (gone != NULL && strcmp(gone->row.node, push->node) == 0)
            forget_state(&gone->row);
    }
    for (size_t i = 0; i < push->n_storage; i++)
        take_storage(status, service, push->node, push->storage[i]);
    for (size_t i = 0; i < push->n_gone_storage; i++)
        drop_storage(status, push->node, push->gone_storage[i]);
    for (size_t i = 0; i < push->n_task; i++)
        cfg_status_take_task(status, push->task[i]);
    return true;
}

void cfg_status_tick(struct cfg_status *status, atl_ns now)
{
    for (size_t i = 0; i < status->sender_count; i++) {
        struct cfg_sender *sender = &status->senders[i];
        if (sender->stale || now - sender->heard < CFG_STATUS_STALE)
            continue;
        sender->stale = true;
        struct cfg_node_row *node = find_node(status, sender->node);
        if (strcmp(sender->service, "compute-agent") == 0 && node != NULL) {
            if (node->presence != CFG_LOST)
                forget_state(&node->row);
            node->online = false;
            forget_sender(status, sender);
        }
        for (size_t k = 0; k < status->storage_count; k++)
            if (strcmp(status->storages[k]->row.node, sender->node) == 0 &&
                strcmp(status->storages[k]->source, sender->service) == 0)
                forget_state(&status->storages[k]->row);
    }
}

/* --- reading
 * ------------------------------------------------------------------------------------------------ */

struct cfg_guest_row *const *cfg_status_guests(const struct cfg_status *status, size_t *ret_count)
{
    *ret_count = status->guest_count;
    return status->guests;
}

struct cfg_storage_row *const *cfg_status_storages(const struct cfg_status *status, size_t *ret_count)
{
    *ret_count = status->storage_count;
    return status->storages;
}

struct cfg_node_row *const *cfg_status_nodes(const struct cfg_status *status, size_t *ret_count)
{
    *ret_count = status->node_count;
    return status->nodes;
}

struct cfg_task_row *const *cfg_status_tasks(const struct cfg_status *status, size_t *ret_count)
{
    *ret_count = status->task_count;
    return status->tasks;
}
