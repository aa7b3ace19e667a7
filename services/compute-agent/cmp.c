/* The shell of compute-agent: opens what its parts share, then the parts. */
#include "cmp.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"
#include "core/lxc_make.h"
#include "io/log.h"
#include "pure/codec.h"
#include "push.h"
#include "task_rpc.h"

static const struct cmp_part *const all_parts[] = {
    &cmp_qemu_part,
    &cmp_ha_part,
#ifdef CMP_HAVE_LXC
    &cmp_lxc_part,
#endif
#ifdef CMP_HAVE_NODE
    &cmp_node_part,
#endif
};
static_assert(ATL_COUNT(all_parts) <= CMP_PARTS_MAX, "room for all parts");

enum { TASK_TYPES_MAX = 64 };

const struct atl_task_type *cmp_task_types(size_t *ret_count)
{
    static struct atl_task_type types[TASK_TYPES_MAX];
    size_t count = 0;
    for (size_t i = 0; i < ATL_COUNT(all_parts); i++) {
        for (size_t k = 0; k < all_parts[i]->task_count; k++) {
            atl_assert(count < TASK_TYPES_MAX);
            types[count++] = all_parts[i]->tasks[k];
        }
    }
    *ret_count = count;
    return types;
}

static void task_changed(const struct atl_task_info *info, void *user)
{
    struct cmp *cmp = user;
    cmp_push_soon(cmp->push);
    for (size_t i = 0; i < cmp->part_count; i++)
        if (cmp->parts[i]->task_changed != NULL)
            cmp->parts[i]->task_changed(cmp->selves[i], info);
}

static const char *task_program(const char *type, void *user)
{
    struct cmp *cmp = user;
    const char *program = NULL;
    for (size_t i = 0; i < cmp->part_count && program == NULL; i++)
        if (cmp->parts[i]->program != NULL)
            program = cmp->parts[i]->program(type, cmp->selves[i]);
    return program;
}

static enum atl_code open_tree(struct cmp *cmp, struct atl_error *err)
{
    char own[160];
    if ((size_t)snprintf(own, sizeof own, "nodes/%s/", cmp->options.node) >= sizeof own)
        return atl_fail(err, ATL_E_INVALID, "node", "the name of the node is too long");
    const char *const prefixes[] = {ATL_KEEPER_PREFIXES, "storage.cfg", "datacenter.cfg",
                                    "ha/resources.cfg",  own,           NULL};
    cmp->mirror = atl_mirror_open(cmp->bus, prefixes);
    cmp->keeper = atl_keeper_new(cmp->bus, cmp->mirror);
    ATL_FREE_AT_EXIT char *dir = atl_format("%s/compute-agent", cmp->options.state_dir);
    cmp->cluster = atl_cluster_open(&(const struct atl_cluster_options){
        .bus = cmp->bus, .mirror = cmp->mirror, .directory = cmp->program->directory, .dir = dir});
    return ATL_OK;
}

static enum atl_code open_parts(struct cmp *cmp, struct atl_error *err)
{
    for (size_t i = 0; i < ATL_COUNT(all_parts); i++) {
        void *self = NULL;
        enum atl_code code = all_parts[i]->open(cmp, &self, err);
        if (code != ATL_OK)
            return code;
        cmp->parts[cmp->part_count] = all_parts[i];
        cmp->selves[cmp->part_count] = self;
        cmp->part_count++;
    }
    return ATL_OK;
}

enum atl_code cmp_open(struct atl_program *program, const struct cmp_options *options, struct cmp **ret_cmp,
                       struct atl_error *err)
{
    struct cmp *cmp = atl_new0(struct cmp);
    *ret_cmp = cmp;
    cmp->options = *options;
    cmp->options.node = program->node;
    cmp->options.run_dir = program->run_dir;
    cmp->options.state_dir = program->state_dir;
    cmp->program = program;
    cmp->loop = program->loop;
    cmp->bus = program->bus;
    enum atl_code code = open_tree(cmp, err);
    if (code != ATL_OK)
        return code;
    cmp->reader = atl_task_reader_new(program->state_dir);
    cmp->push = cmp_push_open(cmp);
    code = open_parts(cmp, err);
    if (code != ATL_OK)
        return code;
    /* Last, because it tells the parts of tasks that ended while the agent was away. */
    const struct atl_tasks_options tasks = {.loop = cmp->loop,
                                            .service = "compute-agent",
                                            .node = cmp->options.node,
                                            .run_dir = cmp->options.run_dir,
                                            .state_dir = cmp->options.state_dir,
                                            .on_change = task_changed,
                                            .program = task_program,
                                            .user = cmp};
    code = atl_tasks_open(&tasks, &cmp->tasks, err);
    if (code != ATL_OK)
        return code;
    cmp_task_rpc_serve(cmp);
    cmp->boot = cmp_boot_open(cmp);
    return ATL_OK;
}

void cmp_close(struct cmp **cmp_pointer)
{
    struct cmp *cmp = *cmp_pointer;
    if (cmp == NULL)
        return;
    cmp_boot_close(&cmp->boot);
    atl_tasks_close(&cmp->tasks);
    while (cmp->part_count > 0) {
        cmp->part_count--;
        if (cmp->parts[cmp->part_count]->close != NULL)
            cmp->parts[cmp->part_count]->close(cmp->selves[cmp->part_count]);
    }
    cmp_push_close(&cmp->push);
    atl_task_reader_free(cmp->reader);
    atl_keeper_free(&cmp->keeper);
    atl_cluster_close(&cmp->cluster);
    atl_mirror_close(&cmp->mirror);
    free(cmp);
    *cmp_pointer = NULL;
}

const struct atl_file *cmp_config_file(const struct cmp *cmp, const char *type, uint32_t vmid)
{
    char path[200];
    (void)snprintf(path, sizeof path, "nodes/%s/%s/%" PRIu32 ".conf", cmp->options.node, type, vmid);
    return atl_mirror_get(cmp->mirror, path);
}

/* --- tasks ------------------------------------------------------------------------------------------------
 */

static const char *principal_name(const struct atl_principal *principal, struct atl_arena *arena)
{
    if (principal->user == NULL)
        return "root@pam";
    if (principal->token == NULL || strchr(principal->token, '!') != NULL)
        return principal->token != NULL ? principal->token : principal->user;
    return atl_arena_format(arena, "%s!%s", principal->user, principal->token);
}

enum atl_code cmp_task_begin(struct cmp *cmp, struct atl_request *request, const char *type, const char *id,
                             const ProtobufCMessage *spec, char ret_upid[ATL_UPID_MAX], struct atl_error *err)
{
    const struct atl_task_start start = {
        .type = type,
        .id = id,
        .user = principal_name(atl_request_principal(request), atl_request_arena(request)),
        .spec = spec,
        .request_id = atl_request_id(request),
    };
    return atl_task_start(cmp->tasks, &start, ret_upid, err);
}

void cmp_task_reply(struct cmp *cmp, struct atl_request *request, const char *type, const char *id,
                    const ProtobufCMessage *spec)
{
    char upid[ATL_UPID_MAX];
    struct atl_error error = {0};
    if (cmp_task_begin(cmp, request, type, id, spec, upid, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Task__V1__TaskRef reply = ATOLL__TASK__V1__TASK_REF__INIT;
    reply.upid = upid;
    atl_request_reply(request, &reply.base);
}

enum atl_code cmp_task_own(struct cmp *cmp, const char *type, const char *id, const ProtobufCMessage *spec,
                           char ret_upid[ATL_UPID_MAX], struct atl_error *err)
{
    uint8_t request_id[ATL_REQUEST_ID_SIZE];
    char upid[ATL_UPID_MAX];
    if (getrandom(request_id, sizeof request_id, 0) != (ssize_t)sizeof request_id)
        return atl_fail(err, ATL_E_IO, NULL, "the kernel gave no random bytes");
    const struct atl_task_start start = {
        .type = type, .id = id, .user = "root@pam", .spec = spec, .request_id = request_id};
    return atl_task_start(cmp->tasks, &start, ret_upid != NULL ? ret_upid : upid, err);
}

const char *cmp_datacenter_text(const struct cmp *cmp)
{
    const struct atl_file *file = atl_mirror_get(cmp->mirror, "datacenter.cfg");
    return file != NULL ? file->bytes : NULL;
}

const char *cmp_datacenter(const struct cmp *cmp, const char *name, struct atl_arena *arena)
{
    const char *text = cmp_datacenter_text(cmp);
    return text != NULL ? cmp_lxc_option(text, name, arena) : NULL;
}

bool cmp_task_newest(const struct cmp *cmp, const char *type, uint32_t vmid, struct atl_task_info *ret_info)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    char id[16];
    struct atl_task_info *infos = NULL;
    size_t count = 0;
    size_t total = 0;
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    const struct atl_upid_filter filter = {.type = type, .id = id, .limit = 1};
    atl_task_list(cmp->reader, &filter, &arena, &infos, &count, &total);
    if (count > 0)
        *ret_info = infos[0];
    return count > 0;
}

const ProtobufCMessage *cmp_task_spec(const struct cmp *cmp, const char *upid, const struct atl_message *type,
                                      struct atl_arena *arena)
{
    enum { SPEC_MAX = 1 << 20 };
    ATL_FREE_AT_EXIT char *path = atl_format("%s/tasks/compute-agent/%s/spec", cmp->options.state_dir, upid);
    uint8_t *bytes = atl_arena_alloc(arena, SPEC_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, bytes, SPEC_MAX) : -1;
    if (fd >= 0)
        (void)close(fd);
    return got > 0 ? atl_unpack(type, bytes, (size_t)got, arena) : NULL;
}
