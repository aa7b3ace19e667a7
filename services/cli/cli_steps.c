/* Secrets, the node that is meant, and following a task. */
#include "cli.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/task/v1/task.atl.h"

/* Reads a line without showing it on a terminal. */
static bool read_line(FILE *file, char *line, size_t size)
{
    int fd = fileno(file);
    struct termios before;
    bool terminal = isatty(fd) && tcgetattr(fd, &before) == 0;
    if (terminal) {
        struct termios quiet = before;
        quiet.c_lflag &= (tcflag_t)~ECHO;
        (void)tcsetattr(fd, TCSAFLUSH, &quiet);
    }
    bool got = fgets(line, (int)size, file) != NULL;
    if (terminal) {
        (void)tcsetattr(fd, TCSAFLUSH, &before);
        (void)fputc('\n', stderr);
    }
    if (got)
        line[strcspn(line, "\r\n")] = '\0';
    return got;
}

static enum atl_code read_secret(struct atl_param *param, struct atl_arena *arena, struct atl_error *err)
{
    char line[4096];
    bool got = false;
    if (strcmp(param->value, "-") == 0) {
        if (isatty(STDIN_FILENO))
            (void)fprintf(stderr, "%s: ", param->name);
        got = read_line(stdin, line, sizeof line);
    } else {
        FILE *file = fopen(param->value + 1, "re");
        got = file != NULL && read_line(file, line, sizeof line);
        if (file != NULL)
            (void)fclose(file);
    }
    if (!got)
        return atl_fail(err, ATL_E_INVALID, param->name, "nothing could be read for --%s", param->name);
    param->value = atl_arena_strdup(arena, line);
    explicit_bzero(line, sizeof line);
    return ATL_OK;
}

enum atl_code cli_secrets_read(struct cli_args *args, struct atl_arena *arena, struct atl_error *err)
{
    for (size_t i = 0; i < args->count; i++) {
        const struct atl_field *field = cli_command_field(args->command, args->params[i].name);
        if (field == NULL || !(field->flags & ATL_F_SECRET))
            continue;
        enum atl_code code = read_secret(&args->params[i], arena, err);
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}

const char *cli_json_text(const char *json, const char *key, struct atl_arena *arena)
{
    json_object *object = json_tokener_parse(json);
    json_object *value = NULL;
    const char *text = NULL;
    if (json_object_is_type(object, json_type_object) && json_object_object_get_ex(object, key, &value) &&
        value != NULL)
        text = atl_arena_strdup(arena, json_object_get_string(value));
    (void)json_object_put(object);
    return text;
}

/* The only node there is. */
static enum atl_code only_node(const struct cli_transport *transport, struct atl_arena *arena,
                               const char **ret_node, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf json = {0};
    struct atl_errors errors = {0};
    enum atl_code code =
        transport->call(transport->self, &atl_rpc_cluster_v1_Cluster_ListNodes, NULL, 0, &json, &errors, err);
    if (code != ATL_OK)
        return code;
    json_object *list = json_tokener_parse(json.data);
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    json_object *name =
        count == 1 ? json_object_object_get(json_object_array_get_idx(list, 0), "node") : NULL;
    if (name != NULL)
        *ret_node = atl_arena_strdup(arena, json_object_get_string(name));
    (void)json_object_put(list);
    if (name == NULL)
        return atl_fail(err, ATL_E_INVALID, "node", "say which node is meant with --node; there are %zu",
                        count);
    return ATL_OK;
}

/* The value of a parameter that was given, or NULL. */
static const char *given(const struct cli_args *args, const char *name)
{
    for (size_t i = 0; i < args->count; i++)
        if (strcmp(args->params[i].name, name) == 0)
            return args->params[i].value;
    return NULL;
}

/* Where the guest is whose id was given; NULL: none was, or nobody knows it. */
static const char *node_of_guest(const struct cli_args *args, const struct cli_transport *transport,
                                 struct atl_arena *arena)
{
    ATL_BUF_AT_EXIT struct atl_buf json = {0};
    const struct atl_field *field = atl_message_field(args->command->rpc->input, "vmid");
    const char *vmid = given(args, "vmid");
    const struct atl_param params[] = {{"type", "vm"}};
    struct atl_errors errors = {0};
    struct atl_error error = {0};
    const char *node = NULL;
    if (field == NULL || (field->flags & ATL_F_PATH) == 0 || vmid == NULL ||
        transport->call(transport->self, &atl_rpc_cluster_v1_Cluster_ListResources, params, ATL_COUNT(params),
                        &json, &errors, &error) != ATL_OK)
        return NULL;
    json_object *list = json_tokener_parse(json.data);
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    for (size_t i = 0; i < count && node == NULL; i++) {
        json_object *row = json_object_array_get_idx(list, i);
        const char *id = json_object_get_string(json_object_object_get(row, "vmid"));
        const char *name = json_object_get_string(json_object_object_get(row, "node"));
        if (id != NULL && name != NULL && strcmp(id, vmid) == 0)
            node = atl_arena_strdup(arena, name);
    }
    (void)json_object_put(list);
    return node;
}

enum atl_code cli_node_add(struct cli_args *args, const struct cli_transport *transport,
                           struct atl_arena *arena, struct atl_error *err)
{
    const struct atl_field *field = atl_message_field(args->command->rpc->input, "node");
    if (field == NULL)
        return ATL_OK;
    if (given(args, "node") != NULL)
        return ATL_OK;
    const char *node = args->node != NULL ? args->node : getenv("ATOLL_NODE");
    if (node == NULL && (field->flags & ATL_F_PATH))
        node = node_of_guest(args, transport, arena);
    if (node == NULL && (field->flags & ATL_F_PATH) && transport->own_node != NULL)
        node = transport->own_node(transport->self);
    if (node == NULL && (field->flags & ATL_F_PATH)) {
        enum atl_code code = only_node(transport, arena, &node, err);
        if (code != ATL_OK)
            return code;
    }
    if (node != NULL && args->count < CLI_PARAMS_MAX)
        args->params[args->count++] = (struct atl_param){.name = "node", .value = node};
    return ATL_OK;
}

/* --- tasks --- */

static void print_log(json_object *lines, uint64_t *next)
{
    size_t count = json_object_is_type(lines, json_type_array) ? json_object_array_length(lines) : 0;
    for (size_t i = 0; i < count; i++) {
        json_object *line = json_object_array_get_idx(lines, i);
        uint64_t number = (uint64_t)json_object_get_int64(json_object_object_get(line, "n"));
        const char *text = json_object_get_string(json_object_object_get(line, "t"));
        if (number <= *next || text == NULL)
            continue;
        (void)printf("%s\n", text);
        *next = number;
    }
    (void)fflush(stdout);
}

static enum atl_code read_log(const struct cli_transport *transport, const char *node, const char *upid,
                              uint64_t *next, struct atl_error *err)
{
    char start[24];
    (void)snprintf(start, sizeof start, "%" PRIu64, *next);
    const struct atl_param params[] = {{"node", node}, {"upid", upid}, {"start", start}, {"limit", "1000"}};
    ATL_BUF_AT_EXIT struct atl_buf json = {0};
    struct atl_errors errors = {0};
    enum atl_code code = transport->call(transport->self, &atl_rpc_task_v1_Tasks_GetLog, params,
                                         ATL_COUNT(params), &json, &errors, err);
    if (code != ATL_OK)
        return code;
    json_object *lines = json_tokener_parse(json.data);
    print_log(lines, next);
    (void)json_object_put(lines);
    return ATL_OK;
}

enum atl_code cli_task_follow(const struct cli_transport *transport, const char *upid, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    const char *node = strncmp(upid, "UPID:", 5) == 0 ? upid + 5 : upid;
    node = atl_arena_strndup(&arena, node, strcspn(node, ":"));
    const struct atl_param params[] = {{"node", node}, {"upid", upid}};
    uint64_t next = 0;
    atl_ns pause = 50 * ATL_MS;
    for (;;) {
        ATL_BUF_AT_EXIT struct atl_buf json = {0};
        struct atl_errors errors = {0};
        enum atl_code code = transport->call(transport->self, &atl_rpc_task_v1_Tasks_GetStatus, params,
                                             ATL_COUNT(params), &json, &errors, err);
        if (code == ATL_OK)
            code =
                read_log(transport, node, upid, &next, err); /* after the status: the log is complete then */
        if (code != ATL_OK)
            return code;
        const char *status = cli_json_text(json.data, "status", &arena);
        const char *how = cli_json_text(json.data, "exitstatus", &arena);
        if (status != NULL && strcmp(status, "stopped") == 0) {
            if (how != NULL && (strcmp(how, "OK") == 0 || strncmp(how, "WARNINGS", 8) == 0))
                return ATL_OK;
            return atl_fail(err, ATL_E_UNKNOWN, NULL, "%s",
                            how != NULL ? how : "the task ended without a result");
        }
        struct timespec wait = {.tv_nsec = pause};
        (void)nanosleep(&wait, NULL);
        if (pause < 500 * ATL_MS)
            pause += pause / 4;
    }
}
