/* A channel: which endpoint is used, when it is tried again, which calls wait. */
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grpc/internal.h"

enum { HOME_AGAIN_TIMES = 12 };

/* --- endpoints ---------------------------------------------------------------------------------------- */

static void endpoint_done(struct grpc_endpoint *endpoint)
{
    free(endpoint->text);
    free(endpoint->host);
    *endpoint = (struct grpc_endpoint){0};
}

static enum atl_code endpoint_parse(const char *text, struct grpc_endpoint *ret_endpoint,
                                    struct atl_error *err)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || colon[1] == '\0')
        return atl_fail(err, ATL_E_INVALID, "endpoint", "'%s' is not ADDRESS:PORT", text);
    bool bracket = text[0] == '[' && colon[-1] == ']';
    const char *first = bracket ? text + 1 : text;
    char *host ATL_FREE_AT_EXIT = atl_strndup(first, (size_t)((bracket ? colon - 1 : colon) - first));
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return atl_fail(err, ATL_E_INVALID, "endpoint", "'%s' is not ADDRESS:PORT", text);
    *ret_endpoint = (struct grpc_endpoint){
        .text = atl_strdup(text), .host = ATL_STEAL(host), .address_size = found->ai_addrlen};
    memcpy(&ret_endpoint->address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return ATL_OK;
}

static enum atl_code endpoints_parse(const char *const *texts, size_t count, struct grpc_endpoint *endpoints,
                                     struct atl_error *err)
{
    if (count == 0 || count > ATL_GRPC_ENDPOINTS_MAX)
        return atl_fail(err, ATL_E_INVALID, "endpoint", "1 to %d endpoints are needed",
                        ATL_GRPC_ENDPOINTS_MAX);
    for (size_t i = 0; i < count; i++) {
        enum atl_code code = endpoint_parse(texts[i], &endpoints[i], err);
        if (code == ATL_OK)
            continue;
        while (i > 0)
            endpoint_done(&endpoints[--i]);
        return code;
    }
    return ATL_OK;
}

/* --- connecting --------------------------------------------------------------------------------------- */

static void connect_now(struct atl_grpc *channel)
{
    atl_assert(channel->current == NULL);
    (void)grpc_conn_new(channel, &channel->endpoints[channel->endpoint]); /* it is in the channel's list */
}

static void on_retry(void *user)
{
    struct atl_grpc *channel = user;
    channel->retry = NULL;
    grpc_enter(channel);
    connect_now(channel);
    grpc_leave(channel);
}

static struct atl_grpc_call *find_faulty(struct atl_grpc *channel)
{
    struct atl_grpc_call *call = channel->waiting;
    while (call != NULL && call->fault == ATL_OK)
        call = call->next;
    return call;
}

/* Their callbacks may make new calls: those are not ended in the same breath. */
static void end_faulty(struct atl_grpc *channel)
{
    struct atl_grpc_call *call = NULL;
    while (!channel->dying && (call = find_faulty(channel)) != NULL) {
        if (call->fault == ATL_E_LIMIT)
            grpc_call_fail(call, ATL_E_LIMIT, "too many calls at a time");
        else
            grpc_call_fail(call, ATL_E_UNAVAILABLE, "no connection: %s", channel->why);
    }
}

/* --- home --------------------------------------------------------------------------------------------- */

static bool is_home(const struct atl_grpc *channel, const char *endpoint)
{
    return channel->home != NULL && strcmp(channel->home, endpoint) == 0;
}

/* endpoint_count: there is none. */
static size_t find_home(const struct atl_grpc *channel)
{
    size_t i = 0;
    while (i < channel->endpoint_count && !is_home(channel, channel->endpoints[i].text))
        i++;
    return i;
}

static void on_homing(void *user)
{
    struct atl_grpc *channel = user;
    channel->homing = NULL;
    if (find_home(channel) == channel->endpoint_count || is_home(channel, atl_grpc_endpoint(channel)))
        return;
    channel->to_home = true;
    atl_grpc_rotate(channel);
}

static void look_for_home(struct atl_grpc *channel)
{
    bool there = is_home(channel, atl_grpc_endpoint(channel));
    if (!there && channel->homing == NULL && find_home(channel) < channel->endpoint_count)
        channel->homing = atl_loop_timer(channel->loop, channel->home_wait, 0, on_homing, channel);
}

static void note_ready(struct atl_grpc *channel, const struct grpc_conn *conn)
{
    if (is_home(channel, conn->endpoint))
        channel->home_since = atl_loop_now(channel->loop);
    look_for_home(channel);
}

static void note_left(struct atl_grpc *channel, const struct grpc_conn *conn)
{
    atl_ns first = channel->options.home_again;
    atl_ns longest = HOME_AGAIN_TIMES * first;
    if (!is_home(channel, conn->endpoint))
        return;
    bool was_well = channel->home_since != 0 && atl_loop_now(channel->loop) - channel->home_since >= longest;
    channel->home_wait = channel->home_wait == 0 || was_well ? first : channel->home_wait * 2;
    if (channel->home_wait > longest)
        channel->home_wait = longest;
    channel->home_since = 0;
}

static size_t next_endpoint(struct atl_grpc *channel)
{
    size_t home = channel->to_home ? find_home(channel) : channel->endpoint_count;
    channel->to_home = false;
    return home < channel->endpoint_count ? home : (channel->endpoint + 1) % channel->endpoint_count;
}

/* --- losing a connection ------------------------------------------------------------------------------ */

static void fail_waiting(struct atl_grpc *channel)
{
    for (struct atl_grpc_call *call = channel->waiting; call != NULL; call = call->next)
        if (call->fault == ATL_OK)
            call->fault = ATL_E_UNAVAILABLE;
    end_faulty(channel);
}

static void go_on(struct atl_grpc *channel)
{
    if (channel->current != NULL || channel->retry != NULL || channel->dying)
        return;
    if (channel->failures == 0 || channel->failures % channel->endpoint_count != 0) {
        connect_now(channel);
        return;
    }
    channel->retry =
        atl_loop_timer(channel->loop, atl_grpc_backoff_next(&channel->backoff), 0, on_retry, channel);
    if (channel->down)
        fail_waiting(channel);
}

void grpc_channel_leave(struct atl_grpc *channel, struct grpc_conn *conn)
{
    if (channel->current != conn)
        return;
    channel->current = NULL;
    channel->endpoint = next_endpoint(channel);
    note_left(channel, conn);
    if (conn->proven) {
        channel->failures = 0;
        atl_grpc_backoff_reset(&channel->backoff);
    } else {
        channel->failures++;
    }
    /* One that was well and is lost is worth waiting for; only when all have refused, nobody waits. */
    if (conn->told)
        channel->down = false;
    else if (channel->failures >= channel->endpoint_count)
        channel->down = true;
    (void)snprintf(channel->why, sizeof channel->why, "%s: %.400s", conn->endpoint, conn->why);
    if (conn->told && channel->options.state != NULL && !channel->dying)
        channel->options.state(false, conn->endpoint, channel->options.user);
}

static void start_waiting(struct atl_grpc *channel)
{
    struct atl_grpc_call *next = NULL;
    /* In the order they came: the list has the newest in front. */
    struct atl_grpc_call *call = channel->waiting;
    while (call != NULL && call->next != NULL)
        call = call->next;
    for (; call != NULL; call = next) {
        next = call->previous;
        if (channel->current == NULL || channel->current->state != GRPC_READY)
            return;
        grpc_call_start(call, channel->current);
    }
}

void grpc_channel_ready(struct atl_grpc *channel, struct grpc_conn *conn)
{
    atl_assert(channel->current == conn);
    channel->down = false;
    note_ready(channel, conn);
    start_waiting(channel);
    conn->told = true;
    if (channel->options.state != NULL)
        channel->options.state(true, conn->endpoint, channel->options.user);
}

/* --- callbacks may free everything: done at the end --------------------------------------------------- */

void grpc_enter(struct atl_grpc *channel)
{
    channel->busy++;
}

/* A lost connection's calls: what surely was not sent waits for the next one. */
static void bury_conn(struct grpc_conn *conn)
{
    struct atl_grpc *channel = conn->channel;
    while (conn->calls != NULL) {
        struct atl_grpc_call *call = conn->calls;
        if (channel->dying)
            grpc_call_free(call);
        else if (!call->sent)
            grpc_call_closed(call, NGHTTP2_REFUSED_STREAM);
        else if (call->has_status)
            grpc_call_closed(call, NGHTTP2_NO_ERROR);
        else
            grpc_call_fail(call, ATL_E_UNAVAILABLE, "the connection was lost: %s", conn->why);
    }
    struct grpc_conn **link = &channel->conns;
    while (*link != conn)
        link = &(*link)->next;
    *link = conn->next;
    grpc_conn_free(conn);
}

static struct grpc_conn *find_lost(struct atl_grpc *channel)
{
    struct grpc_conn *conn = channel->conns;
    while (conn != NULL && !conn->lost)
        conn = conn->next;
    return conn;
}

static void destroy(struct atl_grpc *channel)
{
    while (channel->conns != NULL) {
        grpc_conn_lose(channel->conns, "closed");
        bury_conn(channel->conns);
    }
    while (channel->waiting != NULL)
        grpc_call_free(channel->waiting);
    atl_timer_free(channel->retry);
    atl_timer_free(channel->soon);
    atl_timer_free(channel->homing);
    free(channel->home);
    for (size_t i = 0; i < channel->endpoint_count; i++)
        endpoint_done(&channel->endpoints[i]);
    char *const texts[] = {(char *)(uintptr_t)channel->tls.ca_file, (char *)(uintptr_t)channel->tls.cert_file,
                           (char *)(uintptr_t)channel->tls.key_file, (char *)(uintptr_t)channel->tls.name};
    for (size_t i = 0; i < ATL_COUNT(texts); i++)
        free(texts[i]);
    free(channel);
}

void grpc_leave(struct atl_grpc *channel)
{
    atl_assert(channel->busy > 0);
    if (channel->busy == 1) {
        struct grpc_conn *lost = NULL;
        while ((lost = find_lost(channel)) != NULL ||
               (channel->current == NULL && channel->retry == NULL && !channel->dying)) {
            if (lost != NULL)
                bury_conn(lost);
            else
                go_on(channel);
        }
        struct atl_grpc_call *dead = NULL;
        while ((dead = channel->dead) != NULL)
            grpc_call_free(dead);
    }
    channel->busy--;
    if (channel->busy == 0 && channel->dying)
        destroy(channel);
}

/* Calls that have no hope end here, not where they were made: callbacks come from the loop alone. */
static void on_soon(void *user)
{
    struct atl_grpc *channel = user;
    channel->soon = NULL;
    grpc_enter(channel);
    if (channel->rotate && channel->current != NULL) {
        channel->current->proven = true; /* it is left on purpose: no failure of its own */
        grpc_conn_drain(channel->current);
    }
    channel->rotate = false;
    end_faulty(channel);
    if (channel->down)
        fail_waiting(channel);
    grpc_leave(channel);
}

void grpc_channel_admit(struct atl_grpc *channel, struct atl_grpc_call *call)
{
    if (channel->call_count > channel->options.calls_max)
        call->fault = ATL_E_LIMIT;
    else if (atl_grpc_connected(channel) && !channel->rotate)
        grpc_call_start(call, channel->current);
    if (channel->soon == NULL && (call->fault != ATL_OK || channel->down))
        channel->soon = atl_loop_timer(channel->loop, 0, 0, on_soon, channel);
}

/* --- the surface -------------------------------------------------------------------------------------- */

static void set_default(atl_ns *value, atl_ns standard)
{
    if (*value == 0)
        *value = standard;
}

static void set_options(struct atl_grpc *channel, const struct atl_grpc_options *given)
{
    struct atl_grpc_options *options = &channel->options;
    *options = *given;
    options->endpoints = NULL;
    options->tls = NULL;
    options->home = NULL;
    if (options->message_max == 0)
        options->message_max = 32 << 20;
    if (options->send_max == 0)
        options->send_max = 32 << 20;
    if (options->calls_max == 0)
        options->calls_max = 1024;
    set_default(&options->connect_timeout, 3 * ATL_SECOND);
    set_default(&options->keepalive, 10 * ATL_SECOND);
    set_default(&options->keepalive_timeout, 3 * ATL_SECOND);
    set_default(&options->home_again, 5 * ATL_SECOND);
    set_default(&options->backoff_first, 100 * ATL_MS);
    set_default(&options->backoff_max, 5 * ATL_SECOND);
    channel->backoff = (struct atl_grpc_backoff){
        .first = options->backoff_first, .max = options->backoff_max, .seed = options->seed};
    if (given->tls == NULL)
        return;
    atl_assert(given->tls->ca_file != NULL);
    channel->use_tls = true;
    channel->tls.ca_file = atl_strdup(given->tls->ca_file);
    if (given->tls->cert_file != NULL) {
        channel->tls.cert_file = atl_strdup(given->tls->cert_file);
        channel->tls.key_file = atl_strdup(given->tls->key_file);
    }
    if (given->tls->name != NULL)
        channel->tls.name = atl_strdup(given->tls->name);
}

/* Chance too: not all clients sit on the same member. */
static size_t any_endpoint(struct atl_grpc *channel)
{
    (void)atl_grpc_backoff_next(&channel->backoff);
    atl_grpc_backoff_reset(&channel->backoff);
    return (size_t)((channel->backoff.seed >> 33) % channel->endpoint_count);
}

enum atl_code atl_grpc_new(const struct atl_grpc_options *options, struct atl_grpc **ret_channel,
                           struct atl_error *err)
{
    struct atl_grpc *channel = atl_new0(struct atl_grpc);
    enum atl_code code =
        endpoints_parse(options->endpoints, options->endpoint_count, channel->endpoints, err);
    if (code != ATL_OK) {
        free(channel);
        return code;
    }
    channel->loop = options->loop;
    channel->endpoint_count = options->endpoint_count;
    set_options(channel, options);
    if (options->home != NULL)
        channel->home = atl_strdup(options->home);
    channel->endpoint = find_home(channel);
    if (channel->endpoint == channel->endpoint_count)
        channel->endpoint = any_endpoint(channel);
    channel->retry = atl_loop_timer(channel->loop, 0, 0, on_retry, channel);
    *ret_channel = channel;
    return ATL_OK;
}

void atl_grpc_free(struct atl_grpc **pointer)
{
    struct atl_grpc *channel = *pointer;
    *pointer = NULL;
    if (channel == NULL)
        return;
    channel->dying = true;
    channel->busy++;
    while (channel->waiting != NULL)
        grpc_call_free(channel->waiting);
    for (struct grpc_conn *conn = channel->conns; conn != NULL; conn = conn->next) {
        while (conn->calls != NULL)
            grpc_call_free(conn->calls);
        grpc_conn_lose(conn, "closed");
    }
    grpc_leave(channel);
}

bool atl_grpc_connected(const struct atl_grpc *channel)
{
    return channel->current != NULL && channel->current->state == GRPC_READY;
}

const char *atl_grpc_endpoint(const struct atl_grpc *channel)
{
    return channel->endpoints[channel->endpoint].text;
}

void atl_grpc_rotate(struct atl_grpc *channel)
{
    channel->rotate = true;
    if (channel->soon == NULL)
        channel->soon = atl_loop_timer(channel->loop, 0, 0, on_soon, channel);
}

enum atl_code atl_grpc_set_endpoints(struct atl_grpc *channel, const char *const *endpoints, size_t count,
                                     struct atl_error *err)
{
    struct grpc_endpoint parsed[ATL_GRPC_ENDPOINTS_MAX] = {{0}};
    enum atl_code code = endpoints_parse(endpoints, count, parsed, err);
    if (code != ATL_OK)
        return code;
    size_t kept = count;
    for (size_t i = 0; i < count && kept == count; i++) {
        atl_assert(parsed[i].text != NULL);
        if (strcmp(parsed[i].text, atl_grpc_endpoint(channel)) == 0)
            kept = i;
    }
    for (size_t i = 0; i < channel->endpoint_count; i++)
        endpoint_done(&channel->endpoints[i]);
    memcpy(channel->endpoints, parsed, sizeof parsed);
    channel->endpoint_count = count;
    channel->endpoint = kept < count ? kept : 0;
    if (kept == count)
        atl_grpc_rotate(channel);
    look_for_home(channel);
    return ATL_OK;
}
