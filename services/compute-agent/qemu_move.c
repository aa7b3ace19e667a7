/* Methods that move virtual machines between nodes. */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/qemu/v1/migrate.atl.h"
#include "atoll/qemu/v1/qemu.atl.h"
#include "atoll/qemu/v1/work.atl.h"
#include "core/migrate.h"
#include "core/move_nodes.h"
#include "ha.h"
#include "io/log.h"
#include "pure/storage_map.h"
#include "qemu.h"

/* --- asked for --------------------------------------------------------------------------------------------
 */

static const struct atl_directory *directory(const struct cmp_qemu *qemu)
{
    return qemu->cmp->program->directory;
}

static enum atl_code check_target(const struct cmp_qemu *qemu, const char *target, struct atl_error *err)
{
    if (strcmp(target, qemu->cmp->options.node) == 0)
        return atl_fail(err, ATL_E_INVALID, "target", "target is local node.");
    if (atl_directory_node(directory(qemu), target) == NULL)
        return atl_fail(err, ATL_E_INVALID, "target", "no such cluster node '%s'", target);
    return ATL_OK;
}

/* `code: true`: whoever names storages of the target must be allowed to put disks there. */
static enum atl_code need_storages(struct cmp_qemu *qemu, struct atl_request *request, const char *map,
                                   struct atl_error *err)
{
    static const char *const allocate[] = {"Datastore.AllocateSpace", NULL};
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_errors errors = {0};
    const char **storages = atl_storage_map_targets(map, arena);
    enum atl_code code = ATL_OK;
    atl_storage_map_check(map, "targetstorage", &errors);
    if (errors.count > 0)
        return atl_fail(err, ATL_E_INVALID, "targetstorage", "%s", errors.items[0].text);
    for (size_t i = 0; code == ATL_OK && storages[i] != NULL; i++)
        code = atl_keeper_need(qemu->cmp->keeper, atl_request_principal(request),
                               atl_arena_format(arena, "/storage/%s", storages[i]), allocate, err);
    return code;
}

static Atoll__Qemu__V1__Move *move_of(const struct cmp_qemu *qemu, const Atoll__Qemu__V1__MigrateRequest *in,
                                      struct atl_arena *arena)
{
    const struct atl_file *datacenter = atl_mirror_get(qemu->cmp->mirror, "datacenter.cfg");
    Atoll__Qemu__V1__Move *move = atl_arena_new(arena, Atoll__Qemu__V1__Move);
    atoll__qemu__v1__move__init(move);
    move->peer = in->target;
    move->has_online = in->has_online;
    move->online = in->online;
    move->has_force = in->has_force;
    move->force = in->force;
    move->has_limit_kib_s = in->has_bwlimit;
    move->limit_kib_s = in->bwlimit;
    move->network = in->migration_network;
    move->storages = in->targetstorage;
    move->has_with_local_disks = in->has_with_local_disks;
    move->with_local_disks = in->with_local_disks;
    move->datacenter = datacenter != NULL ? atl_arena_strdup(arena, datacenter->bytes) : NULL;
    return move;
}

static enum atl_code check_migrate(struct cmp_qemu *qemu, struct atl_request *request,
                                   const Atoll__Qemu__V1__MigrateRequest *in,
                                   Atoll__Qemu__V1__Work **ret_work, struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct cmp_file file;
    bool running = qemu_state(qemu, in->vmid) != CMP_STOPPED;
    enum atl_code code = check_target(qemu, in->target, err);
    if (code == ATL_OK)
        code = qemu_need_root(request, in->has_force && in->force, "force", err);
    if (code == ATL_OK)
        code = need_storages(qemu, request, in->targetstorage, err);
    if (code == ATL_OK)
        code = qemu_config(qemu, in->vmid, arena, &file, NULL, err);
    if (code != ATL_OK)
        return code;
    if (file.main->state->lock != NULL)
        return atl_fail(err, ATL_E_STATE, NULL, "VM is locked (%s)", file.main->state->lock);
    if (running && !(in->has_online && in->online))
        return atl_fail(err, ATL_E_STATE, "online", "can't migrate running VM without --online");
    code = qemu_work(qemu, request, in->vmid, arena, ret_work, err);
    if (code == ATL_OK)
        (*ret_work)->move = move_of(qemu, in, arena);
    return code;
}

static void answer_migrate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__MigrateRequest *in = (const Atoll__Qemu__V1__MigrateRequest *)input;
    Atoll__Qemu__V1__Work *work = NULL;
    struct atl_error error = {0};
    if (check_migrate(qemu, request, in, &work, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    cmp_task_reply(qemu->cmp, request, "qmigrate",
                   atl_arena_format(atl_request_arena(request), "%" PRIu32, in->vmid), &work->base);
}

void qemu_migrate(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__MigrateRequest *in = (const Atoll__Qemu__V1__MigrateRequest *)input;
    const struct cmp_ha_wish wish = {
        .kind = "qemu-server", .vmid = in->vmid, .verb = "migrate", .target = in->target};
    if (!cmp_ha_takes(qemu->cmp, request, &wish))
        qemu_fresh(user, request, input, in->vmid, answer_migrate);
}

/* --- what it would meet -----------------------------------------------------------------------------------
 */

static char **to_strings(const char **items, struct atl_arena *arena, size_t *ret_count)
{
    size_t count = 0;
    while (items[count] != NULL)
        count++;
    char **texts = atl_arena_array(arena, char *, count + 1);
    for (size_t i = 0; i < count; i++)
        texts[i] = atl_arena_strdup(arena, items[i]);
    *ret_count = count;
    return texts;
}

static void add_disk(Atoll__Qemu__V1__MigratePreconditionReply *reply, const struct cmp_move_volume *volume,
                     struct atl_arena *arena)
{
    Atoll__Qemu__V1__LocalDisk *disk = atl_arena_new(arena, Atoll__Qemu__V1__LocalDisk);
    atoll__qemu__v1__local_disk__init(disk);
    disk->volid = atl_arena_strdup(arena, volume->volid);
    disk->has_size = volume->said_size > 0;
    disk->size = volume->said_size;
    disk->cdrom = volume->cdrom;
    disk->is_unused = volume->unused;
    reply->local_disks[reply->n_local_disks++] = disk;
}

struct look {
    Atoll__Qemu__V1__MigratePreconditionReply *reply;
    struct atl_arena *arena;
    const struct cmp_move_volume *volumes;
    size_t volume_count;
    const struct cmp_move_place *places;
    size_t place_count;
};

static void add_node(struct look *look, const char *node)
{
    Atoll__Qemu__V1__MigratePreconditionReply *reply = look->reply;
    const char **missing = cmp_move_unavailable(look->volumes, look->volume_count, look->places,
                                                look->place_count, node, look->arena);
    if (missing[0] == NULL) {
        reply->allowed_nodes[reply->n_allowed_nodes++] = atl_arena_strdup(look->arena, node);
        return;
    }
    Atoll__Qemu__V1__UnfitNodeEntry *entry = atl_arena_new(look->arena, Atoll__Qemu__V1__UnfitNodeEntry);
    atoll__qemu__v1__unfit_node_entry__init(entry);
    entry->key = atl_arena_strdup(look->arena, node);
    entry->value = atl_arena_new(look->arena, Atoll__Qemu__V1__UnfitNode);
    atoll__qemu__v1__unfit_node__init(entry->value);
    entry->value->unavailable_storages =
        to_strings(missing, look->arena, &entry->value->n_unavailable_storages);
    reply->not_allowed_nodes->entry[reply->not_allowed_nodes->n_entry++] = entry;
}

static void add_nodes(const struct cmp_qemu *qemu, struct look *look, const char *target)
{
    size_t count = atl_directory_count(directory(qemu));
    look->reply->allowed_nodes = atl_arena_array(look->arena, char *, count + 1);
    look->reply->not_allowed_nodes = atl_arena_new(look->arena, Atoll__Qemu__V1__UnfitNodeMap);
    atoll__qemu__v1__unfit_node_map__init(look->reply->not_allowed_nodes);
    look->reply->not_allowed_nodes->entry =
        atl_arena_array(look->arena, Atoll__Qemu__V1__UnfitNodeEntry *, count + 1);
    for (size_t i = 0; i < count; i++) {
        const char *node = atl_directory_at(directory(qemu), i)->node;
        if (!atl_directory_at(directory(qemu), i)->associate && strcmp(node, qemu->cmp->options.node) != 0 &&
            (target == NULL || strcmp(node, target) == 0))
            add_node(look, node);
    }
}

static enum atl_code fill_precondition(struct cmp_qemu *qemu,
                                       const Atoll__Qemu__V1__MigratePreconditionRequest *in,
                                       Atoll__Qemu__V1__MigratePreconditionReply *reply,
                                       struct atl_arena *arena, struct atl_error *err)
{
    const struct atl_file *storages = atl_mirror_get(qemu->cmp->mirror, "storage.cfg");
    struct cmp_file file;
    enum atl_code code = in->target != NULL ? check_target(qemu, in->target, err) : ATL_OK;
    if (code == ATL_OK)
        code = qemu_config(qemu, in->vmid, arena, &file, NULL, err);
    if (code != ATL_OK)
        return code;
    struct look look = {.reply = reply, .arena = arena};
    const struct cmp_move_volume *volumes = cmp_move_volumes(&file, arena, &look.volume_count);
    look.volumes = volumes;
    look.places = cmp_move_places(storages != NULL ? storages->bytes : "", arena, &look.place_count);
    reply->running = qemu_state(qemu, in->vmid) != CMP_STOPPED;
    reply->local_disks = atl_arena_array(arena, Atoll__Qemu__V1__LocalDisk *, look.volume_count + 1);
    for (size_t i = 0; i < look.volume_count; i++)
        if (!volumes[i].said_shared && !cmp_move_shared(look.places, look.place_count, volumes[i].storage))
            add_disk(reply, &volumes[i], arena);
    reply->local_resources =
        to_strings(cmp_move_devices(file.main->config, arena), arena, &reply->n_local_resources);
    reply->mapped_resources =
        to_strings(cmp_move_mapped(file.main->config, arena), arena, &reply->n_mapped_resources);
    add_nodes(qemu, &look, in->target);
    return ATL_OK;
}

static void answer_precondition(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    Atoll__Qemu__V1__MigratePreconditionReply reply = ATOLL__QEMU__V1__MIGRATE_PRECONDITION_REPLY__INIT;
    struct atl_error error = {0};
    if (fill_precondition(user, (const Atoll__Qemu__V1__MigratePreconditionRequest *)input, &reply,
                          atl_request_arena(request), &error) != ATL_OK)
        atl_request_fail(request, &error, NULL);
    else
        atl_request_reply(request, &reply.base);
}

void qemu_migrate_precondition(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    qemu_fresh(user, request, input, ((const Atoll__Qemu__V1__MigratePreconditionRequest *)input)->vmid,
               answer_precondition);
}

/* --- receiving --------------------------------------------------------------------------------------------
 */

struct qemu_receive {
    struct qemu_receive *next;
    struct atl_request *request;
    char upid[ATL_UPID_MAX];
};

static struct atl_request *receive_take(struct cmp_qemu *qemu, const char *upid)
{
    for (struct qemu_receive **at = &qemu->receives; *at != NULL; at = &(*at)->next) {
        struct qemu_receive *receive = *at;
        struct atl_request *request = receive->request;
        if (strcmp(receive->upid, upid) != 0)
            continue;
        *at = receive->next;
        free(receive);
        return request;
    }
    return NULL;
}

void qemu_receives_free(struct cmp_qemu *qemu)
{
    while (qemu->receives != NULL) {
        struct qemu_receive *receive = qemu->receives;
        qemu->receives = receive->next;
        free(receive); /* the bus frees the request */
    }
}

/* Our address in that network. */
static bool address_in(const char *network, char address[64])
{
    struct ifaddrs *list = NULL;
    bool found = false;
    if (getifaddrs(&list) != 0)
        return false;
    for (const struct ifaddrs *at = list; at != NULL && !found; at = at->ifa_next) {
        const void *bytes = NULL;
        if (at->ifa_addr != NULL && at->ifa_addr->sa_family == AF_INET)
            bytes = &((const struct sockaddr_in *)(const void *)at->ifa_addr)->sin_addr;
        else if (at->ifa_addr != NULL && at->ifa_addr->sa_family == AF_INET6)
            bytes = &((const struct sockaddr_in6 *)(const void *)at->ifa_addr)->sin6_addr;
        found = bytes != NULL && inet_ntop(at->ifa_addr->sa_family, bytes, address, 64) != NULL &&
                cmp_move_in_network(address, network);
    }
    freeifaddrs(list);
    return found;
}

static enum atl_code own_address(const struct cmp_qemu *qemu, const char *network, char address[64],
                                 struct atl_error *err)
{
    const struct atl_directory_node *own = atl_directory_node(directory(qemu), qemu->cmp->options.node);
    if (own == NULL)
        return atl_fail(err, ATL_E_STATE, "target", "the node is in no cluster");
    (void)atl_copy(address, 64, own->address);
    if (network == NULL || address_in(network, address))
        return ATL_OK;
    return atl_fail(err, ATL_E_INVALID, "migration_network", "the target has no address in '%s'", network);
}

static void handle_receive(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct cmp_qemu *qemu = user;
    const Atoll__Qemu__V1__ReceiveRequest *in = (const Atoll__Qemu__V1__ReceiveRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct qemu_receive *receive = atl_new0(struct qemu_receive);
    Atoll__Qemu__V1__Work *work = NULL;
    Atoll__Qemu__V1__Move move = ATOLL__QEMU__V1__MOVE__INIT;
    struct atl_error error = {0};
    char address[64];
    enum atl_code code = own_address(qemu, in->network, address, &error);
    if (code == ATL_OK)
        code = qemu_work(qemu, NULL, in->vmid, arena, &work, &error);
    if (code == ATL_OK) {
        move.peer = in->source;
        move.address = address;
        work->move = &move;
        const struct atl_task_start start = {.type = "qmreceive",
                                             .id = atl_arena_format(arena, "%" PRIu32, in->vmid),
                                             .user = in->user != NULL ? in->user : "root@pam",
                                             .spec = &work->base,
                                             .request_id = atl_request_id(request)};
        code = atl_task_start(qemu->cmp->tasks, &start, receive->upid, &error);
    }
    if (code != ATL_OK) {
        free(receive);
        atl_request_fail(request, &error, NULL);
        return;
    }
    receive->request = request;
    receive->next = qemu->receives;
    qemu->receives = receive;
}

static void handle_listening(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__ListeningRequest *in = (const Atoll__Qemu__V1__ListeningRequest *)input;
    Atoll__Qemu__V1__ListeningReply done = ATOLL__QEMU__V1__LISTENING_REPLY__INIT;
    Atoll__Qemu__V1__ReceiveReply reply = ATOLL__QEMU__V1__RECEIVE_REPLY__INIT;
    struct atl_request *waiting = in->offer != NULL ? receive_take(user, in->upid) : NULL;
    reply.upid = in->upid;
    reply.offer = in->offer;
    if (waiting != NULL)
        atl_request_reply(waiting, &reply.base);
    atl_request_reply(request, &done.base);
}

void qemu_migration_serve(struct cmp_qemu *qemu)
{
    static const struct atl_handler handlers[] = {{"Receive", handle_receive},
                                                  {"Listening", handle_listening}};
    atl_bus_serve(qemu->cmp->bus, &atl_svc_qemu_v1_Migration, handlers, ATL_COUNT(handlers), qemu);
}

/* --- cut-off migrations -----------------------------------------------------------------------------------
 */

static bool is_move(const char *type)
{
    return strcmp(type, "qmigrate") == 0 || strcmp(type, "qmreceive") == 0;
}

static bool cut_off(const struct atl_task_info *info)
{
    return is_move(info->parts.type) && info->state == ATL_TASK_STOPPED &&
           strncmp(info->exit, "interrupted", 11) == 0;
}

static void start_recovery(struct cmp_qemu *qemu, const struct atl_task_info *info)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const Atoll__Qemu__V1__Work *old =
        (const Atoll__Qemu__V1__Work *)cmp_task_spec(qemu->cmp, info->upid, &atl_msg_qemu_v1_Work, &arena);
    struct atl_error error = {0};
    if (old == NULL) {
        atl_log(ATL_ERROR, "clean-up-failed", "the task %s left no specification", info->upid);
        return;
    }
    Atoll__Qemu__V1__Work *work = atl_arena_new(&arena, Atoll__Qemu__V1__Work);
    *work = *old;
    if (old->upid == NULL) /* else it was such a task itself: the notes are the first one's */
        work->upid = atl_arena_strdup(&arena, info->upid);
    if (cmp_task_own(qemu->cmp, info->parts.type, info->parts.id, &work->base, NULL, &error) != ATL_OK)
        atl_log(ATL_ERROR, "clean-up-failed", "the migration of VM %s is not put in order: %s",
                info->parts.id, error.text);
    else
        atl_log(ATL_NOTICE, "clean-up", "the task %s was cut off, putting the guest in order", info->upid);
}

void qemu_move_ended(struct cmp_qemu *qemu, const struct atl_task_info *info)
{
    struct atl_request *waiting = is_move(info->parts.type) ? receive_take(qemu, info->upid) : NULL;
    if (waiting != NULL) {
        struct atl_error error = {0};
        (void)atl_fail(&error, ATL_E_STATE, NULL, "%s", info->exit);
        atl_request_fail(waiting, &error, NULL);
    }
    if (qemu->moves_swept && cut_off(info))
        start_recovery(qemu, info);
}

static void sweep_type(struct cmp_qemu *qemu, const char *type)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const struct atl_upid_filter filter = {.type = type};
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    atl_task_list(qemu->cmp->reader, &filter, &arena, &infos, &count, &total);
    for (size_t i = 0; i < count; i++) {
        bool newest = true; /* of its guest */
        for (size_t k = 0; k < i && newest; k++)
            newest = strcmp(infos[k].parts.id, infos[i].parts.id) != 0;
        if (newest && cut_off(&infos[i]) && strcmp(infos[i].parts.node, qemu->cmp->options.node) == 0)
            start_recovery(qemu, &infos[i]);
    }
}

bool qemu_move_in_order(const struct cmp_qemu *qemu)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const struct atl_upid_filter filter = {.type = "qmigrate", .active = true};
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    if (!qemu->moves_swept)
        return false;
    atl_task_list(qemu->cmp->reader, &filter, &arena, &infos, &count, &total);
    return total == 0;
}

void qemu_move_sweep(struct cmp_qemu *qemu)
{
    if (qemu->moves_swept || qemu->cmp->tasks == NULL || !atl_mirror_ready(qemu->cmp->mirror))
        return;
    qemu->moves_swept = true;
    sweep_type(qemu, "qmigrate");
    sweep_type(qemu, "qmreceive");
}
