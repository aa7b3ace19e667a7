/* The methods of containers that start a task on one that is there. */
#include <stdio.h>
#include <string.h>

#include "atoll/lxc/v1/lxc.atl.h"
#include "ha.h"
#include "lxc_part.h"

void lxc_task(struct lxc_part *part, struct atl_request *request, const char *type,
              const Atoll__Lxc__V1__TaskSpec *spec)
{
    char id[16];
    (void)snprintf(id, sizeof id, "%" PRIu32, spec->vmid);
    cmp_task_reply(part->cmp, request, type, id, &spec->base);
}

/* The container must be there, and not held by other work; skiplock is root's. */
static bool ready(struct lxc_part *part, struct atl_request *request, uint32_t vmid, bool skiplock,
                  struct cmp_lxc_doc *ret_doc)
{
    struct atl_error error = {0};
    enum atl_code code = lxc_part_doc(part, vmid, atl_request_arena(request), ret_doc, &error);
    if (code == ATL_OK && skiplock && !cmp_is_root(request))
        code = atl_fail(&error, ATL_E_DENIED, "skiplock", "Only root may use this option.");
    const char *lock = code == ATL_OK && !skiplock ? cmp_lxc_doc_lock(ret_doc) : NULL;
    if (lock != NULL)
        code = atl_fail(&error, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    if (code == ATL_OK)
        return true;
    atl_request_fail(request, &error, NULL);
    return false;
}

static Atoll__Lxc__V1__TaskSpec order(const struct lxc_part *part, struct atl_request *request, uint32_t vmid)
{
    Atoll__Lxc__V1__TaskSpec spec = ATOLL__LXC__V1__TASK_SPEC__INIT;
    spec.vmid = vmid;
    spec.node = atl_arena_strdup(atl_request_arena(request), part->cmp->options.node);
    spec.driver = atl_arena_strdup(atl_request_arena(request), part->driver->name);
    return spec;
}

/* For what needs a running container: it is there, free and runs. */
static bool running(struct lxc_part *part, struct atl_request *request, uint32_t vmid)
{
    struct atl_error error = {0};
    struct cmp_lxc_doc doc;
    if (!ready(part, request, vmid, false, &doc))
        return false;
    if (lxc_part_look(part, vmid) != NULL)
        return true;
    (void)atl_fail(&error, ATL_E_STATE, NULL, "CT %" PRIu32 " not running", vmid);
    atl_request_fail(request, &error, NULL);
    return false;
}

/* Asked of the manager instead? */
static bool manager_takes(const struct lxc_part *part, struct atl_request *request, uint32_t vmid,
                          const char *verb)
{
    return cmp_ha_takes(part->cmp, request,
                        &(const struct cmp_ha_wish){.kind = "lxc", .vmid = vmid, .verb = verb});
}

void lxc_start(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__StartRequest *in = (const Atoll__Lxc__V1__StartRequest *)input;
    struct cmp_lxc_doc doc;
    bool skiplock = in->has_skiplock && in->skiplock;
    if (manager_takes(part, request, in->vmid, "start") || !ready(part, request, in->vmid, skiplock, &doc))
        return;
    lxc_begin(part, request, &doc, in->vmid);
}

void lxc_stop(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__StopRequest *in = (const Atoll__Lxc__V1__StopRequest *)input;
    struct cmp_lxc_doc doc;
    if (manager_takes(part, request, in->vmid, "stop") ||
        !ready(part, request, in->vmid, in->has_skiplock && in->skiplock, &doc))
        return;
    if (in->has_overrule_shutdown && in->overrule_shutdown) { /* a shutdown that waits holds the container */
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        char id[16];
        struct atl_task_info *infos = NULL;
        size_t count = 0;
        size_t total = 0;
        struct atl_error error = {0};
        (void)snprintf(id, sizeof id, "%" PRIu32, in->vmid);
        const struct atl_upid_filter filter = {.type = "vzshutdown", .id = id, .active = true};
        atl_task_list(part->cmp->reader, &filter, &arena, &infos, &count, &total);
        for (size_t i = 0; i < count; i++)
            if (atl_task_stop(part->cmp->reader, infos[i].upid, &error) != ATL_OK)
                break; /* the stop waits for it, then */
    }
    Atoll__Lxc__V1__TaskSpec spec = order(part, request, in->vmid);
    lxc_task(part, request, "vzstop", &spec);
}

void lxc_shutdown(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__ShutdownRequest *in = (const Atoll__Lxc__V1__ShutdownRequest *)input;
    if (manager_takes(part, request, in->vmid, "shutdown") || !running(part, request, in->vmid))
        return;
    Atoll__Lxc__V1__TaskSpec spec = order(part, request, in->vmid);
    spec.has_timeout_s = in->has_timeout;
    spec.timeout_s = in->timeout;
    spec.has_force = true;
    spec.force = in->has_forcestop && in->forcestop;
    lxc_task(part, request, "vzshutdown", &spec);
}

void lxc_reboot(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__RebootRequest *in = (const Atoll__Lxc__V1__RebootRequest *)input;
    if (!running(part, request, in->vmid))
        return;
    Atoll__Lxc__V1__TaskSpec spec = order(part, request, in->vmid);
    spec.has_timeout_s = in->has_timeout;
    spec.timeout_s = in->timeout;
    lxc_task(part, request, "vzreboot", &spec);
}

void lxc_suspend(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__SuspendRequest *in = (const Atoll__Lxc__V1__SuspendRequest *)input;
    if (!running(part, request, in->vmid))
        return;
    Atoll__Lxc__V1__TaskSpec spec = order(part, request, in->vmid);
    lxc_task(part, request, "vzsuspend", &spec);
}

void lxc_resume(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__ResumeRequest *in = (const Atoll__Lxc__V1__ResumeRequest *)input;
    if (!running(part, request, in->vmid))
        return;
    Atoll__Lxc__V1__TaskSpec spec = order(part, request, in->vmid);
    lxc_task(part, request, "vzresume", &spec);
}

void lxc_delete(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__DeleteRequest *in = (const Atoll__Lxc__V1__DeleteRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    struct atl_error error = {0};
    struct cmp_lxc_doc doc;
    enum atl_code code = lxc_part_doc(part, in->vmid, arena, &doc, &error);
    const char *lock = code == ATL_OK ? cmp_lxc_doc_lock(&doc) : NULL;
    bool force = in->has_force && in->force;
    bool forget = false;
    if (code == ATL_OK)
        code = cmp_ha_unused(part->cmp, "lxc", in->vmid, in->has_purge && in->purge, &forget, &error);
    if (code == ATL_OK && doc.now->config->has_protection && doc.now->config->protection)
        code = atl_fail(&error, ATL_E_STATE, NULL, "can't remove CT %" PRIu32 " - protection mode enabled",
                        in->vmid);
    if (code == ATL_OK && lock != NULL && strcmp(lock, "destroyed") != 0)
        code = atl_fail(&error, ATL_E_CONFLICT, NULL, "CT is locked (%s)", lock);
    if (code == ATL_OK && !force && lxc_part_look(part, in->vmid) != NULL)
        code = atl_fail(&error, ATL_E_STATE, NULL, "unable to destroy CT %" PRIu32 " - container is running",
                        in->vmid);
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Lxc__V1__TaskSpec spec = order(part, request, in->vmid);
    Atoll__Lxc__V1__DeleteRequest copy = *in;
    copy.has_purge = copy.purge = forget;
    spec.remove = &copy;
    spec.has_force = true;
    spec.force = force;
    lxc_task(part, request, "vzdestroy", &spec);
}

void lxc_resize(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    struct lxc_part *part = user;
    const Atoll__Lxc__V1__ResizeRequest *in = (const Atoll__Lxc__V1__ResizeRequest *)input;
    struct atl_error error = {0};
    struct cmp_lxc_doc doc;
    if (!ready(part, request, in->vmid, false, &doc))
        return;
    enum atl_code code = atl_digest_check(doc.digest, in->digest, &error);
    const char *disk = atl_message_text(&atl_msg_lxc_v1_Config, &doc.now->config->base, in->disk,
                                        atl_request_arena(request));
    if (disk == NULL && code == ATL_OK)
        code = atl_fail(&error, ATL_E_INVALID, "disk", "the container has no %s", in->disk);
    if (code == ATL_OK && disk != NULL) {
        const char *volume = atl_arena_strndup(atl_request_arena(request), disk, strcspn(disk, ","));
        code = lxc_may_volume(part, request, in->vmid, "disk", volume, &error);
    }
    if (code != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    Atoll__Lxc__V1__TaskSpec spec = order(part, request, in->vmid);
    Atoll__Lxc__V1__ResizeRequest copy = *in;
    spec.resize = &copy;
    lxc_task(part, request, "vzresize", &spec);
}
