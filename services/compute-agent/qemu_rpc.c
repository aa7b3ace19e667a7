/* Methods of virtual machines: the table, what all share, and those that only start a task. */
#include <crypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/qemu/v1/qemu.atl.h"
#include "core/cloudinit.h"
#include "ha.h"
#include "io/log.h"
#include "pure/codec.h"
#include "qemu.h"

/* --- shared -----------------------------------------------------------------------------------------------
 */

enum atl_code qemu_work(const struct cmp_qemu *qemu, struct atl_request *request, uint32_t vmid,
                        struct atl_arena *arena, Atoll__Qemu__V1__Work **ret_work, struct atl_error *err)
{
    const struct cmp_options *options = &qemu->cmp->options;
    (void)err;
    Atoll__Qemu__V1__Work *work = atl_arena_new(arena, Atoll__Qemu__V1__Work);
    atoll__qemu__v1__work__init(work);
    work->node = atl_arena_strdup(arena, options->node);
    work->vmid = vmid;
    work->driver = atl_arena_strdup(arena, options->driver);
    work->libvirt_uri = atl_arena_strdup(arena, options->libvirt_uri);
    work->accel = atl_arena_strdup(arena, qemu->accel != NULL ? qemu->accel : "auto"); /* the worker waits */
    work->qemu_user = atl_arena_strdup(arena, options->qemu_user);
    if (request != NULL && atl_request_principal(request)->user != NULL)
        work->user = atl_arena_strdup(arena, atl_request_principal(request)->user);
    *ret_work = work;
    return ATL_OK;
}

/* The password for cloud-init never lies anywhere in clear: it is hashed before anything is written. */
enum atl_code qemu_hash_password(Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                                 struct atl_error *err)
{
    if (config == NULL || config->cipassword == NULL || config->cipassword[0] == '\0' ||
        cmp_is_password_hash(config->cipassword))
        return ATL_OK;
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];
    struct crypt_data *data = atl_arena_new(arena, struct crypt_data);
    if (crypt_gensalt_rn("$6$", 0, NULL, 0, salt, sizeof salt) == NULL)
        return atl_fail(err, ATL_E_INTERNAL, "cipassword", "no salt for the password");
    const char *hash = crypt_r(config->cipassword, salt, data);
    if (hash == NULL || hash[0] == '*')
        return atl_fail(err, ATL_E_INVALID, "cipassword", "this password cannot be used");
    explicit_bzero(config->cipassword, strlen(config->cipassword));
    config->cipassword = atl_arena_strdup(arena, hash);
    return ATL_OK;
}

/* --- waiting for a task -----------------------------------------------------------------------------------
 */

struct qemu_wait {
    struct qemu_wait *next;
    struct atl_request *request;
    char upid[ATL_UPID_MAX];
};

void qemu_task_wait(struct cmp_qemu *qemu, struct atl_request *request, const char *type, uint32_t vmid,
                    const Atoll__Qemu__V1__Work *work)
{
    char id[16];
    struct atl_error error = {0};
    struct qemu_wait *wait = atl_new0(struct qemu_wait);
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    if (cmp_task_begin(qemu->cmp, request, type, id, &work->base, wait->upid, &error) != ATL_OK) {
        free(wait);
        atl_request_fail(request, &error, NULL);
        return;
    }
    wait->request = request;
    wait->next = qemu->waits;
    qemu->waits = wait;
}

/* The end of the task as the answer of a method that has none: "net0: ..." names its parameter. */
static void answer_end(struct atl_request *request, const struct atl_task_info *info)
{
    struct atl_error error = {0};
    if (strcmp(info->exit, "OK") == 0 || strncmp(info->exit, "WARNINGS", 8) == 0) {
        Atoll__Task__V1__Nothing reply = ATOLL__TASK__V1__NOTHING__INIT;
        atl_request_reply(request, &reply.base);
        return;
    }
    bool changed = strncmp(info->exit, "detected modified", 17) == 0;
    (void)atl_fail(&error, changed ? ATL_E_CONFLICT : ATL_E_STATE, NULL, "%s", info->exit);
    atl_request_fail(request, &error, NULL);
}

void qemu_wait_ended(struct cmp_qemu *qemu, const struct atl_task_info *info)
{
    for (struct qemu_wait **at = &qemu->waits; *at != NULL; at = &(*at)->next) {
        struct qemu_wait *wait = *at;
        if (strcmp(wait->upid, info->upid) != 0)
            continue;
        *at = wait->next;
        answer_end(wait->request, info);
        free(wait);
        return;
    }
}

void qemu_waits_free(struct cmp_qemu *qemu)
{
    while (qemu->waits != NULL) {
        struct qemu_wait *wait = qemu->waits;
        qemu->waits = wait->next;
        free(wait); /* the bus frees the request */
    }
}

/* --- commands ---------------------------------------------------------------------------------------------
 */

struct command {
    const char *type; /* of the task */
    uint32_t vmid;
    bool skiplock;
    bool has_timeout;
    int64_t timeout_s;
    bool force_stop;
    const char *machine;
    const char *force_cpu;
};

static enum atl_code command_work(struct cmp_qemu *qemu, struct atl_request *request,
                                  const struct command *command, Atoll__Qemu__V1__Work **ret_work,
                                  struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct cmp_file file;
    enum atl_code code = qemu_need_root(request, command->skiplock, "skiplock", err);
    if (code == ATL_OK)
        code = qemu_config(qemu, command->vmid, arena, &file, NULL, err);
    if (code == ATL_OK && file.main->state->lock != NULL && !command->skiplock)
        code = atl_fail(err, ATL_E_STATE, NULL, "VM is locked (%s)", file.main->state->lock);
    if (code == ATL_OK)
        code = qemu_work(qemu, request, command->vmid, arena, ret_work, err);
    return code;
}

static void run_command(struct cmp_qemu *qemu, struct atl_request *request, const struct command *command)
{
    struct atl_arena *arena = atl_request_arena(request);
    Atoll__Qemu__V1__Work *work = NULL;
    struct atl_error error = {0};
    if (command_work(qemu, request, command, &work, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    work->has_skiplock = command->skiplock;
    work->skiplock = command->skiplock;
    work->has_timeout_s = command->has_timeout;
    work->timeout_s = command->timeout_s;
    work->has_force_stop = command->force_stop;
    work->force_stop = command->force_stop;
    if (command->machine != NULL)
        work->machine = atl_arena_strdup(arena, command->machine);
    if (command->force_cpu != NULL)
        work->force_cpu = atl_arena_strdup(arena, command->force_cpu);
    cmp_task_reply(qemu->cmp, request, command->type, atl_arena_format(arena, "%" PRIu32, command->vmid),
                   &work->base);
}

/* Asked of the manager instead? */
static bool manager_takes(const struct cmp_qemu *qemu, struct atl_request *request, uint32_t vmid,
                          const char *verb)
{
    return cmp_ha_takes(qemu->cmp, request,
                        &(const struct cmp_ha_wish){.kind = "qemu-server", .vmid = vmid, .verb = verb});
}

static void handle_start(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__StartRequest *in = (const Atoll__Qemu__V1__StartRequest *)input;
    struct atl_error error = {0};
    if (manager_takes(user, request, in->vmid, "start"))
        return;
    if (qemu_need_root(request, in->force_cpu != NULL, "force-cpu", &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    run_command(user, request,
                &(const struct command){.type = "qmstart",
                                        .vmid = in->vmid,
                                        .skiplock = in->has_skiplock && in->skiplock,
                                        .has_timeout = in->has_timeout,
                                        .timeout_s = in->timeout,
                                        .machine = in->machine != NULL ? in->machine->type : NULL,
                                        .force_cpu = in->force_cpu});
}

static void handle_stop(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__StopRequest *in = (const Atoll__Qemu__V1__StopRequest *)input;
    if (manager_takes(user, request, in->vmid, "stop"))
        return;
    run_command(user, request,
                &(const struct command){.type = "qmstop",
                                        .vmid = in->vmid,
                                        .skiplock = in->has_skiplock && in->skiplock,
                                        .has_timeout = in->has_timeout,
                                        .timeout_s = in->timeout});
}

static void handle_shutdown(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__ShutdownRequest *in = (const Atoll__Qemu__V1__ShutdownRequest *)input;
    if (manager_takes(user, request, in->vmid, "shutdown"))
        return;
    run_command(user, request,
                &(const struct command){.type = "qmshutdown",
                                        .vmid = in->vmid,
                                        .skiplock = in->has_skiplock && in->skiplock,
                                        .has_timeout = in->has_timeout,
                                        .timeout_s = in->timeout,
                                        .force_stop = in->has_forcestop && in->forcestop});
}

static void handle_reboot(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__RebootRequest *in = (const Atoll__Qemu__V1__RebootRequest *)input;
    run_command(
        user, request,
        &(const struct command){
            .type = "qmreboot", .vmid = in->vmid, .has_timeout = in->has_timeout, .timeout_s = in->timeout});
}

static void handle_reset(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__ResetRequest *in = (const Atoll__Qemu__V1__ResetRequest *)input;
    run_command(user, request,
                &(const struct command){
                    .type = "qmreset", .vmid = in->vmid, .skiplock = in->has_skiplock && in->skiplock});
}

/* `code: true`: writing the memory to a storage needs more, which is not built. */
static void handle_suspend(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__SuspendRequest *in = (const Atoll__Qemu__V1__SuspendRequest *)input;
    run_command(user, request,
                &(const struct command){
                    .type = "qmpause", .vmid = in->vmid, .skiplock = in->has_skiplock && in->skiplock});
}

static void handle_resume(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__ResumeRequest *in = (const Atoll__Qemu__V1__ResumeRequest *)input;
    run_command(user, request,
                &(const struct command){
                    .type = "qmresume", .vmid = in->vmid, .skiplock = in->has_skiplock && in->skiplock});
}

static const struct atl_handler handlers[] = {
    {"List", qemu_list},
    {"Create", qemu_create},
    {"Delete", qemu_delete},
    {"GetConfig", qemu_get_config},
    {"UpdateConfig", qemu_update},
    {"UpdateConfigTask", qemu_update_task},
    {"GetPending", qemu_get_pending},
    {"GetStatus", qemu_get_status},
    {"Start", handle_start},
    {"Stop", handle_stop},
    {"Shutdown", handle_shutdown},
    {"Reboot", handle_reboot},
    {"Reset", handle_reset},
    {"Suspend", handle_suspend},
    {"Resume", handle_resume},
    {"Resize", qemu_resize},
    {"Migrate", qemu_migrate},
    {"MigratePrecondition", qemu_migrate_precondition},
    {"Agent", qemu_agent},
    {"AgentPing", qemu_agent_ping},
    {"AgentNetworkGetInterfaces", qemu_agent_interfaces},
    {"AgentExec", qemu_agent_exec},
    {"AgentExecStatus", qemu_agent_exec_status},
    {"AgentGetOsinfo", qemu_agent_osinfo},
    {"AgentShutdown", qemu_agent_shutdown},
    {"Monitor", qemu_monitor},
};

void qemu_rpc_serve(struct cmp_qemu *qemu)
{
    atl_bus_serve(qemu->cmp->bus, &atl_svc_qemu_v1_Qemu, handlers, ATL_COUNT(handlers), qemu);
}
