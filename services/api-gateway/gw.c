/* From a request to a call on the bus and back. */
#include "gw.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char json_type[] = "application/json;charset=UTF-8";

enum { OPENAPI_MAX = 16 << 20 };

/* --- answers --- */

/* Nobody waits for the call any more: a read is cancelled, a change goes on to its end. */
static void let_go(struct gw_work *work)
{
    struct gw_pending *pending = work->pending;
    work->pending = NULL;
    if (pending == NULL)
        return;
    pending->work = NULL;
    if (work->verb == ATL_GET) {
        atl_call_cancel(pending->call);
        free(pending);
    }
}

/* The work is over: its resources go, the request is the server's again. */
static void finish(struct gw_work *work, int status, const char *reason, struct atl_buf *body)
{
    struct gw *gw = work->gw;
    struct gw_request *request = work->request;
    gw_audit(work, status);
    bool is_upload = work->upload != NULL;
    let_go(work);
    gw_upload_free(work);
    gw->working--;
    request->user = NULL;
    gw_request_reply(request, &(struct gw_answer){.status = work->form == GW_FORM_EXTJS ? 200 : status,
                                                  .reason = work->form == GW_FORM_EXTJS ? NULL : reason,
                                                  .type = json_type,
                                                  .body = body,
                                                  .close = is_upload});
}

static void fail_now(struct gw_work *work, const struct gw_failure *failure)
{
    struct atl_buf body = {0};
    gw_answer_failure(work->form, failure, &body);
    finish(work, failure->status, failure->sentence, &body);
    atl_buf_done(&body);
}

static void on_delayed(void *user)
{
    struct gw_work *work = user;
    work->delay = NULL;
    work->gw->delayed--;
    fail_now(work, &work->failure);
}

/* A refusal waits, so that guessing is slow; nobody else waits with it. */
static void fail_later(struct gw_work *work, const struct gw_failure *failure)
{
    struct gw *gw = work->gw;
    if (gw->delayed >= GW_DELAYED_MAX) { /* somebody tries hard: no answer at all */
        struct gw_request *request = work->request;
        gw_audit(work, failure->status);
        gw_upload_free(work);
        gw->working--;
        gw_request_drop(request);
        return;
    }
    gw->delayed++;
    work->failure = *failure;
    work->failure.errors = NULL;
    work->failure.field = NULL;
    work->failure.sentence = atl_arena_strdup(&work->request->arena, failure->sentence);
    work->delay = atl_loop_timer(gw->options.loop, gw->options.refusal_delay, 0, on_delayed, work);
}

void gw_fail(struct gw_work *work, const struct gw_failure *failure)
{
    if (failure->status == 401 && work->gw->options.refusal_delay > 0)
        fail_later(work, failure);
    else
        fail_now(work, failure);
}

void gw_fail_text(struct gw_work *work, int status, const char *format, ...)
{
    char sentence[ATL_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args); /* cut when too long */
    va_end(args);
    gw_fail(work, &(struct gw_failure){.status = status, .sentence = sentence});
}

void gw_fail_reply(struct gw_work *work, const struct atl_reply *reply)
{
    enum gw_origin origin = GW_FROM_SERVICE;
    bool answered =
        reply->revision.epoch != 0 || reply->revision.number != 0; /* services say what they have seen */
    if (reply->code == ATL_E_UNAVAILABLE && !answered)
        origin = reply->sent ? GW_CONNECTION_BROKE : GW_NOT_REACHED;
    bool has_errors = reply->errors != NULL && reply->errors->count > 0;
    gw_fail(work, &(struct gw_failure){.status = gw_status_of(reply->code, origin),
                                       .sentence = gw_status_sentence(&reply->error, has_errors),
                                       .field = reply->error.field,
                                       .text = reply->error.text,
                                       .errors = reply->errors});
}

void gw_answer(struct gw_work *work, const struct atl_rpc *rpc, const struct atl_reply *reply)
{
    struct atl_buf body = {0};
    gw_answer_data(work->form, rpc->output, reply->output, &body);
    finish(work, 200, NULL, &body);
    atl_buf_done(&body);
}

/* --- calls --- */

static void on_reply(const struct atl_reply *reply, void *user)
{
    struct gw_pending *pending = user;
    struct gw_work *work = pending->work;
    void (*done)(struct gw_work *, const struct atl_reply *) = pending->done;
    free(pending);
    if (work == NULL)
        return;
    work->pending = NULL;
    struct gw_session *session = NULL;
    if (work->assertion_size > 0 && reply->revision.number > 0)
        session = gw_sessions_find(work->gw->sessions, work->key);
    if (session != NULL)
        gw_session_saw(session, reply->revision.epoch, reply->revision.number);
    done(work, reply);
}

static void call(struct gw_work *work, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                 const struct atl_call_options *options,
                 void (*done)(struct gw_work *work, const struct atl_reply *reply))
{
    atl_assert(work->pending == NULL);
    struct gw_pending *pending = atl_new0(struct gw_pending);
    *pending = (struct gw_pending){.gw = work->gw, .work = work, .done = done};
    work->pending = pending;
    pending->call = atl_bus_call(work->gw->options.bus, rpc, input, options, on_reply, pending);
}

/* config-store answers alike on every node: ours while it is well. An agent is that of the node that is
 * meant; on an associate, where there is none, any when no node is meant. */
static const char *node_of(const struct gw_work *work, const struct atl_rpc *rpc)
{
    bool any = strcmp(rpc->service->server, "config-store") == 0 ||
               (work->gw->options.associate && work->node == NULL);
    return any ? ATL_ANY_NODE : work->node;
}

void gw_call_own(struct gw_work *work, const struct atl_rpc *rpc, const ProtobufCMessage *input,
                 void (*done)(struct gw_work *work, const struct atl_reply *reply))
{
    call(work, rpc, input, &(struct atl_call_options){.node = node_of(work, rpc)}, done);
}

void gw_call(struct gw_work *work, const struct atl_rpc *rpc, const ProtobufCMessage *input,
             void (*done)(struct gw_work *work, const struct atl_reply *reply))
{
    struct atl_call_options options = {
        .assertion = work->assertion, .assertion_size = work->assertion_size, .node = node_of(work, rpc)};
    const struct gw_session *session = NULL;
    if (work->assertion_size > 0)
        session = gw_sessions_find(work->gw->sessions, work->key);
    if (session != NULL)
        options.min_revision = (struct atl_revision){.epoch = session->epoch, .number = session->number};
    call(work, rpc, input, &options, done);
}

/* The client left. What only reads is cancelled; what changes something goes on to its end. */
static void on_gone(struct gw_request *request)
{
    struct gw_work *work = request->user;
    if (work->pending != NULL)
        gw_audit(work, 499);
    let_go(work);
    if (work->delay != NULL) {
        atl_timer_free(work->delay);
        work->gw->delayed--;
    }
    gw_upload_free(work);
    work->gw->working--;
}

/* --- dispatch --- */

static void fail_params(struct gw_work *work, int status, const struct atl_errors *errors)
{
    gw_fail(work, &(struct gw_failure){
                      .status = status, .sentence = "Parameter verification failed.", .errors = errors});
}

static void on_done(struct gw_work *work, const struct atl_reply *reply)
{
    const struct atl_rpc *rpc = work->match.rpc;
    if (reply->code == ATL_OK) {
        gw_answer(work, rpc, reply);
        return;
    }
    if (reply->code == ATL_E_UNAUTHENTICATED && work->was_cached && !work->retried) {
        work->retried = true; /* keys may have changed since: once more with a fresh assertion */
        struct gw_session *session = gw_sessions_find(work->gw->sessions, work->key);
        if (session != NULL)
            session->expires = 0;
        gw_authenticate(work, gw_dispatch);
        return;
    }
    if (reply->code == ATL_E_UNAUTHENTICATED && rpc->perm->world)
        gw_throttle_failed(&work->gw->throttle, work->request->peer, atl_loop_now(work->gw->options.loop));
    gw_fail_reply(work, reply);
}

bool gw_settle_node(struct gw_work *work)
{
    for (size_t i = 0; i < work->match.param_count; i++) {
        struct gw_path_param *param = &work->match.params[i];
        if (strcmp(param->name, "node") != 0)
            continue;
        if (strcmp(param->value, "localhost") == 0) {
            param->value = work->gw->options.node;
            if (work->params.count > i) /* path parameters stand first, in order */
                work->params.items[i].value = param->value;
        }
        /* Who is to answer stands in /nodes/{node}; elsewhere, and with config-store, which answers alike on
         * every node, it is whom it is about, and he may be lost. */
        bool about = strncmp(work->match.rpc->path, "/nodes/", 7) != 0 ||
                     strcmp(work->match.rpc->service->server, "config-store") == 0;
        if (about || (strcmp(param->value, work->gw->options.node) == 0 && !work->gw->options.associate))
            continue;
        const struct atl_directory_node *known =
            work->gw->options.directory != NULL
                ? atl_directory_node(work->gw->options.directory, param->value)
                : NULL;
        if (known != NULL && !known->associate) {
            work->node = param->value;
            continue;
        }
        gw_fail_text(work, 595, "no such cluster node '%s'", param->value);
        return false;
    }
    return true;
}

void gw_dispatch(struct gw_work *work)
{
    const struct atl_rpc *rpc = work->match.rpc;
    struct atl_errors errors; /* 16 KiB, of which only the counts need to be cleared */
    ProtobufCMessage *input = NULL;
    errors.count = 0;
    errors.dropped = 0;
    if (!gw_settle_node(work))
        return;
    enum atl_code code = atl_params_decode(rpc->input, work->params.items, work->params.count,
                                           &work->request->arena, &input, &errors);
    if (code == ATL_OK)
        code = atl_validate(rpc->input, input, &errors);
    if (code == ATL_E_UNIMPLEMENTED) {
        gw_fail(work, &(struct gw_failure){.status = 501,
                                           .sentence = "Parameters that are not built yet.",
                                           .errors = &errors});
        return;
    }
    if (code != ATL_OK) {
        fail_params(work, 400, &errors);
        return;
    }
    gw_call(work, rpc, input, on_done);
}

/* --- parameters --- */

static enum atl_code body_params(const struct gw_work *work, struct gw_params *ret, struct atl_error *err)
{
    struct gw_request *request = work->request;
    const char *type = gw_head_find(&request->head, "content-type");
    *ret = (struct gw_params){0};
    if (request->body.length == 0)
        return ATL_OK;
    if (gw_media_is(type, "application/json"))
        return atl_json_params(request->body.data, request->body.length, &request->arena, &ret->items,
                               &ret->count, err);
    return atl_form_params(request->body.data, request->body.length, &request->arena, &ret->items,
                           &ret->count, err);
}

bool gw_collect_params(struct gw_work *work, const struct gw_params *body)
{
    struct gw_request *request = work->request;
    struct gw_params query = {0};
    struct gw_params own = {0};
    struct atl_error err = {0};
    struct atl_errors errors; /* as in gw_dispatch */
    const char *text = request->head.query;
    enum atl_code code = ATL_OK;
    errors.count = 0;
    errors.dropped = 0;
    if (text[0] != '\0')
        code = atl_form_params(text, strlen(text), &request->arena, &query.items, &query.count, &err);
    if (code == ATL_OK && body == NULL)
        code = body_params(work, &own, &err);
    if (code != ATL_OK) {
        gw_fail_text(work, 400, "%s", err.text);
        return false;
    }
    code = gw_params_merge(&work->match, &query, body != NULL ? body : &own, &request->arena, &work->params,
                           &errors);
    if (code != ATL_OK) {
        fail_params(work, 400, &errors);
        return false;
    }
    return true;
}

/* --- requests --- */

/* Pages that are not the API: so few that a table of files would be more. */
static void reply_text(struct gw_request *request, int status, const char *type, struct atl_buf *body)
{
    gw_request_reply(request, &(struct gw_answer){.status = status, .type = type, .body = body});
    atl_buf_done(body);
}

static bool read_file(const char *path, struct atl_buf *body)
{
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    struct stat status;
    if (fd < 0)
        return false;
    bool ok = fstat(fd, &status) == 0 && status.st_size < OPENAPI_MAX;
    while (ok) {
        ssize_t got = read(fd, atl_buf_reserve(body, 65536), 65536);
        ok = got >= 0;
        if (got <= 0)
            break;
        body->length += (size_t)got;
        body->data[body->length] = '\0';
    }
    (void)close(fd); /* it was read only */
    return ok;
}

static void serve_page(struct gw *gw, struct gw_request *request)
{
    struct atl_buf body = {0};
    bool get = strcmp(request->head.method, "GET") == 0 || strcmp(request->head.method, "HEAD") == 0;
    if (get && strcmp(request->head.path, "/openapi.json") == 0 &&
        read_file(gw->options.openapi_file, &body)) {
        reply_text(request, 200, json_type, &body);
    } else if (get && strcmp(request->head.path, "/") == 0) {
        atl_buf_printf(&body,
                       "Atoll on node %s.\n\nThe API is at /api2/json, its description at /openapi.json.\n",
                       gw->options.node);
        reply_text(request, 200, "text/plain;charset=UTF-8", &body);
    } else {
        atl_buf_reset(&body);
        atl_buf_text(&body, get ? "no such file\n" : "method not implemented\n");
        reply_text(request, get ? 404 : 501, "text/plain;charset=UTF-8", &body);
    }
}

static struct gw_work *work_new(struct gw *gw, struct gw_request *request)
{
    struct gw_work *work = atl_arena_new(&request->arena, struct gw_work);
    work->gw = gw;
    work->request = request;
    work->verb = gw_verb_from_text(request->head.method);
    request->user = work;
    request->on_gone = on_gone;
    gw->working++;
    return work;
}

/* What can be said against the request before its body is read; true when something was. */
static bool refuse_early(struct gw_work *work)
{
    struct gw_request *request = work->request;
    const char *type = gw_head_find(&request->head, "content-type");
    bool has_body = request->head.content_length > 0;
    bool upload = work->match.rpc != NULL && (work->match.rpc->flags & ATL_R_UPLOAD) != 0;
    if (work->form == GW_FORM_UNKNOWN)
        gw_fail_text(work, 501, "no formatter for '%s'", request->head.path);
    else if (work->match.rpc == NULL)
        gw_fail_text(work, 501, "Method '%s %s' not implemented", request->head.method, work->api_path);
    else if (has_body && work->verb != ATL_POST && work->verb != ATL_PUT)
        gw_fail_text(work, 501, "Unexpected content for method '%s'", request->head.method);
    else if (upload != gw_media_is(type, "multipart/form-data") && (has_body || type != NULL))
        gw_fail_text(work, 506,
                     upload ? "an upload is sent as multipart/form-data" : "unexpected multipart content");
    else if (!upload && has_body && type != NULL && !gw_media_is(type, "application/x-www-form-urlencoded") &&
             !gw_media_is(type, "application/json"))
        gw_fail_text(work, 506, "unsupported content type '%s'", type);
    else if (work->gw->working > GW_WORKING_MAX)
        gw_fail_text(work, 500, "too many requests are being worked on, try again later");
    else
        return false;
    return true;
}

static void on_head(void *self, struct gw_request *request)
{
    struct gw *gw = self;
    const char *rest = NULL;
    enum gw_form form = gw_form_cut(request->head.path, &rest);
    if (form == GW_FORM_NONE)
        return; /* answered when its body, if it sends one, was read */
    struct gw_work *work = work_new(gw, request);
    work->form = form;
    work->api_path = rest;
    if (form != GW_FORM_UNKNOWN)
        gw_router_find(gw->router, work->verb, rest, &request->arena, &work->match);
    if (refuse_early(work))
        return;
    if (work->match.rpc->flags & ATL_R_UPLOAD)
        gw_upload_begin(work);
}

static void on_ready(void *self, struct gw_request *request)
{
    struct gw *gw = self;
    struct gw_work *work = request->user;
    if (work == NULL) {
        serve_page(gw, request);
        return;
    }
    if (request->body.length > 0 && work->verb != ATL_POST && work->verb != ATL_PUT)
        gw_fail_text(work, 501, "Unexpected content for method '%s'", request->head.method);
    else if (gw_collect_params(work, NULL))
        gw_authenticate(work, gw_dispatch);
}

struct gw_http_handler gw_handler(struct gw *gw)
{
    return (struct gw_http_handler){.self = gw, .on_head = on_head, .on_ready = on_ready};
}

struct gw *gw_new(const struct gw_options *options, const struct atl_service *const *contract)
{
    struct gw *gw = atl_new0(struct gw);
    gw->options = *options;
    gw->router = gw_router_new(contract, &gw->arena);
    gw->sessions = gw_sessions_new();
    return gw;
}

void gw_free(struct gw *gw)
{
    if (gw == NULL)
        return;
    gw_sessions_free(gw->sessions);
    atl_arena_done(&gw->arena);
    free(gw);
}
