/* Moving a virtual machine: what QEMU is told and asked, on either node. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "move.h"

static const atl_ns poll_period = 50 * ATL_MS;

static void json_free(struct json_object **json)
{
    json_object_put(*json);
}
#define JSON_FREE_AT_EXIT ATL_CLEANUP(json_free)

static const char *text_of(struct json_object *json, const char *name)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(json, name, &value) ? json_object_get_string(value) : "";
}

static uint64_t number_of(struct json_object *json, const char *name)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(json, name, &value) ? (uint64_t)json_object_get_int64(value) : 0;
}

static struct json_object *object_of(struct json_object *json, const char *name)
{
    struct json_object *value = NULL;
    return json != NULL && json_object_object_get_ex(json, name, &value) ? value : NULL;
}

/* Asks QEMU; *ret_json holds the whole answer, *ret_value of it what was asked for. */
static enum atl_code ask(struct work *work, const char *command, const char *arguments,
                         struct json_object **ret_json, struct json_object **ret_value, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *text =
        arguments != NULL ? atl_format("{\"execute\":\"%s\",\"arguments\":%s}", command, arguments)
                          : atl_format("{\"execute\":\"%s\"}", command);
    ATL_FREE_AT_EXIT char *answer = NULL;
    enum atl_code code = work->driver->qmp(work->engine, work->spec->vmid, text, &answer, err);
    if (code != ATL_OK)
        return code;
    *ret_json = json_tokener_parse(answer);
    *ret_value = object_of(*ret_json, "return");
    if (*ret_value != NULL)
        return ATL_OK;
    struct json_object *error = object_of(*ret_json, "error");
    return atl_fail(err, ATL_E_IO, NULL, "QEMU refuses %s: %s", command,
                    error != NULL ? text_of(error, "desc") : "it gives no reason");
}

enum atl_code move_command(struct work *work, const char *command, const char *arguments,
                           struct atl_error *err)
{
    JSON_FREE_AT_EXIT struct json_object *json = NULL;
    struct json_object *value = NULL;
    return ask(work, command, arguments, &json, &value, err);
}

enum atl_code move_capability(struct work *work, const char *name, bool on, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *arguments =
        atl_format("{\"capabilities\":[{\"capability\":\"%s\",\"state\":%s}]}", name, on ? "true" : "false");
    return move_command(work, "migrate-set-capabilities", arguments, err);
}

enum atl_code move_state(struct work *work, struct move_state *ret_state, struct atl_error *err)
{
    JSON_FREE_AT_EXIT struct json_object *json = NULL;
    struct json_object *value = NULL;
    enum atl_code code = ask(work, "query-migrate", NULL, &json, &value, err);
    if (code != ATL_OK)
        return code;
    const char *status = text_of(value, "status");
    *ret_state = (struct move_state){.downtime_ms = number_of(value, "downtime")};
    (void)atl_copy(ret_state->status, sizeof ret_state->status, status[0] != '\0' ? status : "none");
    (void)atl_copy(ret_state->error, sizeof ret_state->error, text_of(value, "error-desc"));
    struct json_object *ram = object_of(value, "ram");
    struct json_object *rate = object_of(ram, "mbps");
    if (ram == NULL)
        return ATL_OK;
    ret_state->total = number_of(ram, "total");
    ret_state->transferred = number_of(ram, "transferred");
    ret_state->remaining = number_of(ram, "remaining");
    ret_state->rounds = number_of(ram, "dirty-sync-count");
    ret_state->bytes_s = rate != NULL ? (uint64_t)(json_object_get_double(rate) * 125000.0) : 0;
    return ATL_OK;
}

enum atl_code move_status(struct work *work, char status[24], struct atl_error *err)
{
    JSON_FREE_AT_EXIT struct json_object *json = NULL;
    struct json_object *value = NULL;
    enum atl_code code = ask(work, "query-status", NULL, &json, &value, err);
    if (code == ATL_OK)
        (void)atl_copy(status, 24, text_of(value, "status"));
    return code;
}

/* --- disks ------------------------------------------------------------------------------------------------
 */

/* "/machine/peripheral/ua-virtio0/virtio-backend" is virtio0, not virtio01. */
static bool is_drive(const char *qdev, const char *drive)
{
    char alias[24];
    (void)snprintf(alias, sizeof alias, "ua-%.16s", drive);
    const char *at = strstr(qdev, alias);
    return at != NULL && strspn(at + strlen(alias), "0123456789") == 0;
}

enum atl_code move_block_name(struct work *work, const char *drive, const char **ret_name,
                              struct atl_error *err)
{
    JSON_FREE_AT_EXIT struct json_object *json = NULL;
    struct json_object *value = NULL;
    enum atl_code code = ask(work, "query-block", NULL, &json, &value, err);
    if (code != ATL_OK)
        return code;
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        struct json_object *block = json_object_array_get_idx(value, i);
        struct json_object *inserted = object_of(block, "inserted");
        if (inserted == NULL || !is_drive(text_of(block, "qdev"), drive))
            continue;
        *ret_name = atl_arena_strdup(&work->arena, text_of(inserted, "node-name"));
        return ATL_OK;
    }
    return atl_fail(err, ATL_E_ABSENT, drive, "QEMU has no disk %s", drive);
}

enum atl_code move_job(struct work *work, const char *name, struct move_job *ret_job, struct atl_error *err)
{
    JSON_FREE_AT_EXIT struct json_object *json = NULL;
    struct json_object *value = NULL;
    enum atl_code code = ask(work, "query-block-jobs", NULL, &json, &value, err);
    if (code != ATL_OK)
        return code;
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        struct json_object *job = json_object_array_get_idx(value, i);
        if (strcmp(text_of(job, "device"), name) != 0)
            continue;
        *ret_job = (struct move_job){.ready = strcmp(text_of(job, "ready"), "true") == 0,
                                     .done = number_of(job, "offset"),
                                     .total = number_of(job, "len")};
        (void)atl_copy(ret_job->error, sizeof ret_job->error, text_of(job, "error"));
        return ATL_OK;
    }
    return atl_fail(err, ATL_E_ABSENT, NULL, "the mirror '%s' has ended", name);
}

/* Mirrors of ours that are under way. */
static void cancel_mirrors(struct work *work)
{
    JSON_FREE_AT_EXIT struct json_object *json = NULL;
    struct json_object *value = NULL;
    if (ask(work, "query-block-jobs", NULL, &json, &value, NULL) != ATL_OK)
        return; /* no guest, no mirrors */
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        const char *name = text_of(json_object_array_get_idx(value, i), "device");
        if (strncmp(name, "move-", 5) != 0)
            continue;
        ATL_FREE_AT_EXIT char *arguments = atl_format("{\"device\":\"%s\",\"force\":true}", name);
        struct atl_error error = {0};
        if (move_command(work, "block-job-cancel", arguments, &error) != ATL_OK)
            atl_task_warn(work->task, "the mirror '%s' could not be called off: %s", name, error.text);
    }
}

/* --- the guest --------------------------------------------------------------------------------------------
 */

static void pause_a_moment(void)
{
    const struct timespec step = {.tv_nsec = poll_period};
    (void)nanosleep(&step, NULL); /* cut short by a signal: it looks a little sooner */
}

static bool under_way(const char *status)
{
    static const char *const over[] = {"none", "completed", "failed", "cancelled"};
    for (size_t i = 0; i < ATL_COUNT(over); i++)
        if (strcmp(status, over[i]) == 0)
            return false;
    return true;
}

/* The target's copy may hold the images until it is gone: the guest is told to run until it does. */
static enum atl_code run_again(struct work *work, struct atl_error *err)
{
    atl_ns end = atl_clock_monotonic() + 30 * ATL_SECOND;
    for (;;) {
        enum cmp_state state = CMP_STOPPED;
        enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
        if (code != ATL_OK || state == CMP_RUNNING)
            return code;
        if (state == CMP_STOPPED) {
            atl_task_warn(work->task, "the guest has stopped meanwhile");
            return ATL_OK;
        }
        code = work->driver->resume(work->engine, work->spec->vmid, err);
        if (code != ATL_OK && atl_clock_monotonic() > end)
            return code;
        pause_a_moment();
    }
}

enum atl_code move_call_off(struct work *work, struct atl_error *err)
{
    atl_ns end = atl_clock_monotonic() + 10 * ATL_SECOND;
    struct move_state state = {.status = "active"};
    enum cmp_state guest = CMP_STOPPED;
    enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &guest, err);
    if (code != ATL_OK || guest == CMP_STOPPED || work->driver->qmp == NULL)
        return code;
    code = move_state(work, &state, err);
    if (code == ATL_OK && under_way(state.status))
        code = move_command(work, "migrate_cancel", NULL, err);
    cancel_mirrors(work);
    while (code == ATL_OK && under_way(state.status) && atl_clock_monotonic() < end) {
        pause_a_moment();
        code = move_state(work, &state, err);
    }
    return code;
}

enum atl_code move_go_on(struct work *work, struct atl_error *err)
{
    enum atl_code code = move_call_off(work, err);
    return code == ATL_OK && work->driver->qmp != NULL ? run_again(work, err) : code;
}

enum atl_code move_end_copy(struct work *work, struct atl_error *err)
{
    enum cmp_state state = CMP_STOPPED;
    enum atl_code code = work->driver->state(work->engine, work->spec->vmid, &state, err);
    if (code != ATL_OK || state == CMP_STOPPED)
        return code;
    code = work->driver->abandon(work->engine, work->spec->vmid, err);
    return code == ATL_E_ABSENT ? ATL_OK : code; /* it has ended by itself */
}

enum atl_code move_wake(struct work *work, struct atl_error *err)
{
    enum atl_code code = work->driver->resume(work->engine, work->spec->vmid, err);
    if (code == ATL_OK && /* switches learn sooner where the guest is now; without, a little later */
        move_command(work, "announce-self", "{\"initial\":50,\"max\":550,\"rounds\":5,\"step\":100}", NULL) !=
            ATL_OK)
        atl_task_log(work->task, "the guest's addresses were not announced again");
    return code;
}
