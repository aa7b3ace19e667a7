/* Methods that talk to the guest agent and to QEMU's monitor. */
#include <json-c/json.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "pure/buf.h"
#include "pure/codec.h"
#include "qemu.h"

enum { AGENT_TIMEOUT_S = 5, ANSWER_MAX = 8 << 20 };

typedef void answer_fn(struct atl_request *request, const char *answer);

struct question {
    struct cmp_job job; /* first: a job is cast back */
    struct atl_request *request;
    uint32_t vmid;
    bool monitor;
    int timeout_s;
    char *command;
    char *answer;
    answer_fn *reply;
};

static void question_free(struct question *question)
{
    free(question->command);
    free(question->answer);
    free(question);
}

static void question_run(struct cmp_job *job, const struct cmp_driver *driver, void *self)
{
    struct question *question = (struct question *)job;
    if (question->monitor)
        job->code = driver->monitor(self, question->vmid, question->command, &question->answer, &job->error);
    else
        job->code = driver->agent(self, question->vmid, question->command, question->timeout_s,
                                  &question->answer, &job->error);
}

static void question_done(struct cmp_job *job)
{
    struct question *question = (struct question *)job;
    struct atl_error error = job->error;
    if (job->code == ATL_OK && strlen(question->answer) > ANSWER_MAX)
        job->code = atl_fail(&error, ATL_E_LIMIT, NULL, "the guest's answer is larger than 8 MiB");
    if (job->code == ATL_E_ABSENT)
        (void)atl_fail(&error, ATL_E_STATE, NULL, "VM %" PRIu32 " is not running", question->vmid);
    else if (job->code != ATL_OK && !question->monitor &&
             (job->code == ATL_E_UNAVAILABLE || job->code == ATL_E_DEADLINE))
        (void)atl_fail(&error, ATL_E_UNAVAILABLE, NULL, "QEMU guest agent is not running");
    if (job->code != ATL_OK)
        atl_request_fail(question->request, &error, NULL);
    else
        question->reply(question->request, question->answer);
    question_free(question);
}

static void question_drop(struct cmp_job *job)
{
    question_free((struct question *)job); /* the bus frees the request */
}

static enum atl_code check_guest(const struct cmp_qemu *qemu, struct atl_request *request, uint32_t vmid,
                                 bool needs_agent, struct atl_error *err)
{
    struct cmp_file file;
    enum atl_code code = qemu_config(qemu, vmid, atl_request_arena(request), &file, NULL, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Qemu__V1__AgentOptions *agent = file.main->config->agent;
    if (needs_agent && (agent == NULL || !agent->has_enabled || !agent->enabled))
        return atl_fail(err, ATL_E_STATE, NULL, "No QEMU guest agent configured");
    return ATL_OK; /* whether it runs, the engine says */
}

struct ask {
    uint32_t vmid;
    bool monitor;
    const char *command;
    answer_fn *reply;
};

static void ask(struct cmp_qemu *qemu, struct atl_request *request, const struct ask *what)
{
    struct atl_error error = {0};
    if (check_guest(qemu, request, what->vmid, !what->monitor, &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    struct question *question = atl_new0(struct question);
    question->job.run = question_run;
    question->job.done = question_done;
    question->job.drop = question_drop;
    question->request = request;
    question->vmid = what->vmid;
    question->monitor = what->monitor;
    question->timeout_s = AGENT_TIMEOUT_S;
    question->command = atl_strdup(what->command);
    question->reply = what->reply;
    if (cmp_engine_ask(qemu->engine, &question->job, &error) != ATL_OK) {
        question_free(question);
        atl_request_fail(request, &error, NULL);
    }
}

/* --- plain commands ---------------------------------------------------------------------------------------
 */

/* {"return":X} -> X, as libvirt writes it. */
static char *return_value(struct atl_request *request, const char *answer)
{
    static const char head[] = "{\"return\":";
    size_t length = strlen(answer);
    if (length < sizeof head || strncmp(answer, head, sizeof head - 1) != 0 || answer[length - 1] != '}')
        return NULL;
    return atl_arena_strndup(atl_request_arena(request), answer + sizeof head - 1, length - sizeof head);
}

static void fail_answer(struct atl_request *request)
{
    struct atl_error error = {0};
    (void)atl_fail(&error, ATL_E_IO, NULL, "the guest agent's answer cannot be read");
    atl_request_fail(request, &error, NULL);
}

static void reply_result(struct atl_request *request, const char *answer)
{
    Atoll__Qemu__V1__AgentReply reply = ATOLL__QEMU__V1__AGENT_REPLY__INIT;
    reply.result = return_value(request, answer);
    struct json_object *json = reply.result != NULL ? json_tokener_parse(reply.result) : NULL;
    if (json == NULL && (reply.result == NULL || strcmp(reply.result, "null") != 0)) {
        fail_answer(request);
        return;
    }
    json_object_put(json);
    atl_request_reply(request, &reply.base);
}

static void ask_plain(struct cmp_qemu *qemu, struct atl_request *request, uint32_t vmid, const char *name)
{
    const char *command = atl_arena_format(atl_request_arena(request), "{\"execute\":\"guest-%s\"}", name);
    ask(qemu, request, &(const struct ask){.vmid = vmid, .command = command, .reply = reply_result});
}

void qemu_agent(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__AgentRequest *in = (const Atoll__Qemu__V1__AgentRequest *)input;
    ask_plain(user, request, in->vmid, in->command); /* one of a closed set, checked by the bus */
}

void qemu_agent_ping(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    ask_plain(user, request, ((const Atoll__Qemu__V1__AgentPingRequest *)input)->vmid, "ping");
}

void qemu_agent_interfaces(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    ask_plain(user, request, ((const Atoll__Qemu__V1__AgentNetworkGetInterfacesRequest *)input)->vmid,
              "network-get-interfaces");
}

void qemu_agent_osinfo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    ask_plain(user, request, ((const Atoll__Qemu__V1__AgentGetOsinfoRequest *)input)->vmid, "get-osinfo");
}

/* This command has no answer when it works. */
void qemu_agent_shutdown(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    ask_plain(user, request, ((const Atoll__Qemu__V1__AgentShutdownRequest *)input)->vmid, "shutdown");
}

/* --- exec -------------------------------------------------------------------------------------------------
 */

static char *base64(struct atl_arena *arena, const char *bytes, size_t size)
{
    unsigned char *text = atl_arena_alloc(arena, (size + 2) / 3 * 4 + 1);
    (void)EVP_EncodeBlock(text, (const unsigned char *)bytes, (int)size);
    return (char *)text;
}

static void reply_exec(struct atl_request *request, const char *answer)
{
    struct json_object *json = json_tokener_parse(answer);
    struct json_object *value = NULL;
    struct json_object *pid = NULL;
    if (json == NULL || !json_object_object_get_ex(json, "return", &value) ||
        !json_object_object_get_ex(value, "pid", &pid)) {
        json_object_put(json);
        fail_answer(request);
        return;
    }
    Atoll__Qemu__V1__AgentExecReply reply = ATOLL__QEMU__V1__AGENT_EXEC_REPLY__INIT;
    reply.has_pid = true;
    reply.pid = json_object_get_int64(pid);
    json_object_put(json);
    atl_request_reply(request, &reply.base);
}

void qemu_agent_exec(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__AgentExecRequest *in = (const Atoll__Qemu__V1__AgentExecRequest *)input;
    struct atl_arena *arena = atl_request_arena(request);
    if (in->n_command == 0) {
        struct atl_error error = {0};
        (void)atl_fail(&error, ATL_E_INVALID, "command", "no program given");
        atl_request_fail(request, &error, NULL);
        return;
    }
    ATL_BUF_AT_EXIT struct atl_buf command = {0};
    atl_buf_text(&command, "{\"execute\":\"guest-exec\",\"arguments\":{\"path\":");
    atl_json_string(&command, in->command[0], strlen(in->command[0]));
    atl_buf_text(&command, ",\"arg\":[");
    for (size_t i = 1; i < in->n_command; i++) {
        if (i > 1)
            atl_buf_char(&command, ',');
        atl_json_string(&command, in->command[i], strlen(in->command[i]));
    }
    atl_buf_text(&command, "],\"capture-output\":true");
    if (in->input_data != NULL)
        atl_buf_printf(&command, ",\"input-data\":\"%s\"",
                       base64(arena, in->input_data, strlen(in->input_data)));
    atl_buf_text(&command, "}}");
    ask(user, request, &(const struct ask){.vmid = in->vmid, .command = command.data, .reply = reply_exec});
}

static char *decoded(struct atl_arena *arena, struct json_object *from, const char *name)
{
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(from, name, &value))
        return NULL;
    const char *text = json_object_get_string(value);
    size_t length = strlen(text);
    if (length == 0 || length % 4 != 0)
        return NULL;
    unsigned char *bytes = atl_arena_alloc(arena, length + 1);
    int size = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)length);
    while (size > 0 && length > 0 && text[length - 1] == '=') {
        length--;
        size--;
    }
    bytes[size > 0 ? size : 0] = '\0';
    return (char *)bytes;
}

static bool number(struct json_object *from, const char *name, int64_t *ret_value)
{
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(from, name, &value))
        return false;
    *ret_value = json_object_get_int64(value);
    return true;
}

static bool truth(struct json_object *from, const char *name)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(from, name, &value) && json_object_get_boolean(value);
}

static void reply_exec_status(struct atl_request *request, const char *answer)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct json_object *json = json_tokener_parse(answer);
    struct json_object *value = NULL;
    if (json == NULL || !json_object_object_get_ex(json, "return", &value)) {
        json_object_put(json);
        fail_answer(request);
        return;
    }
    Atoll__Qemu__V1__AgentExecStatusReply reply = ATOLL__QEMU__V1__AGENT_EXEC_STATUS_REPLY__INIT;
    reply.has_exited = true;
    reply.exited = truth(value, "exited");
    reply.has_exitcode = number(value, "exitcode", &reply.exitcode);
    reply.has_signal = number(value, "signal", &reply.signal);
    reply.out_data = decoded(arena, value, "out-data");
    reply.err_data = decoded(arena, value, "err-data");
    reply.has_out_truncated = truth(value, "out-truncated");
    reply.out_truncated = reply.has_out_truncated;
    reply.has_err_truncated = truth(value, "err-truncated");
    reply.err_truncated = reply.has_err_truncated;
    json_object_put(json);
    atl_request_reply(request, &reply.base);
}

void qemu_agent_exec_status(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__AgentExecStatusRequest *in =
        (const Atoll__Qemu__V1__AgentExecStatusRequest *)input;
    const char *command =
        atl_arena_format(atl_request_arena(request),
                         "{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":%" PRId64 "}}", in->pid);
    ask(user, request, &(const struct ask){.vmid = in->vmid, .command = command, .reply = reply_exec_status});
}

/* --- monitor ----------------------------------------------------------------------------------------------
 */

static void reply_monitor(struct atl_request *request, const char *answer)
{
    Atoll__Qemu__V1__MonitorReply reply = ATOLL__QEMU__V1__MONITOR_REPLY__INIT;
    reply.value = atl_arena_strdup(atl_request_arena(request), answer);
    atl_request_reply(request, &reply.base);
}

/* `code: true`: "info ..." only looks; help too. All else can read and write the host's files through QEMU,
 * so it is for root. */
void qemu_monitor(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Qemu__V1__MonitorRequest *in = (const Atoll__Qemu__V1__MonitorRequest *)input;
    struct atl_error error = {0};
    bool looks = strncmp(in->command, "info ", 5) == 0 || strcmp(in->command, "help") == 0 ||
                 strcmp(in->command, "info") == 0;
    if (strpbrk(in->command, "\r\n") != NULL) {
        (void)atl_fail(&error, ATL_E_INVALID, "command", "a command is one line");
        atl_request_fail(request, &error, NULL);
        return;
    }
    if (qemu_need_root(request, !looks, "command", &error) != ATL_OK) {
        atl_request_fail(request, &error, NULL);
        return;
    }
    ask(user, request,
        &(const struct ask){
            .vmid = in->vmid, .monitor = true, .command = in->command, .reply = reply_monitor});
}
