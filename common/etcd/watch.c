/* A watch that survives its stream: it goes on behind the last revision that was told. */
#include <stdlib.h>
#include <string.h>

#include "etcd/internal.h"

#define PAUSE (50 * ATL_MS) /* after a stream that ended; the channel has its own, longer ones */

struct atl_etcd_watch {
    struct atl_grpc *channel;
    struct atl_loop *loop;
    struct atl_etcd_watch_options options;
    char *prefix;
    struct atl_grpc_call *call;
    struct atl_timer *again;
    struct atl_etcd_events events;
    bool following;
    bool busy; /* a callback runs */
    bool dying;
};

static void start(struct atl_etcd_watch *watch);

static void release(struct atl_etcd_watch *watch)
{
    if (watch->call != NULL)
        atl_grpc_cancel(watch->call);
    atl_timer_free(watch->again);
    atl_etcd_events_done(&watch->events);
    free(watch->prefix);
    free(watch);
}

void atl_etcd_watch_free(struct atl_etcd_watch **pointer)
{
    struct atl_etcd_watch *watch = *pointer;
    *pointer = NULL;
    if (watch == NULL)
        return;
    watch->dying = true;
    if (!watch->busy)
        release(watch);
}

static void tell_state(struct atl_etcd_watch *watch, bool following)
{
    if (watch->following == following)
        return;
    watch->following = following;
    if (watch->options.state != NULL)
        watch->options.state(following, watch->options.user);
}

static void on_again(void *user)
{
    struct atl_etcd_watch *watch = user;
    watch->again = NULL;
    start(watch);
}

/* The stream is of no use any more: another one, behind what was told. */
static void restart(struct atl_etcd_watch *watch)
{
    if (watch->call != NULL)
        atl_grpc_cancel(watch->call);
    watch->call = NULL;
    int64_t seen = watch->events.seen;
    atl_etcd_events_done(&watch->events);
    atl_etcd_events_init(&watch->events, seen);
    if (watch->again == NULL)
        watch->again = atl_loop_timer(watch->loop, PAUSE, 0, on_again, watch);
    tell_state(watch, false);
}

static void take(struct atl_etcd_watch *watch, Etcd__WatchResponse *answer)
{
    if (answer->canceled) {
        if (answer->compact_revision == 0) {
            restart(watch);
            return;
        }
        atl_grpc_cancel(watch->call);
        watch->call = NULL;
        watch->options.compacted(answer->compact_revision, watch->options.user);
        return;
    }
    if (answer->created)
        tell_state(watch, true);
    if (watch->dying || atl_etcd_events_add(&watch->events, answer, NULL) != ATL_OK) {
        if (!watch->dying)
            restart(watch);
        return;
    }
    Etcd__Event *const *events = NULL;
    size_t count = 0;
    while (!watch->dying && (count = atl_etcd_events_next(&watch->events, &events)) > 0)
        watch->options.events(watch->events.seen, events, count, watch->options.user);
}

static void on_message(const uint8_t *bytes, size_t size, void *user)
{
    struct atl_etcd_watch *watch = user;
    Etcd__WatchResponse *answer = etcd__watch_response__unpack(NULL, size, bytes);
    watch->busy = true;
    if (answer == NULL)
        restart(watch);
    else
        take(watch, answer);
    watch->busy = false;
    if (answer != NULL)
        etcd__watch_response__free_unpacked(answer, NULL);
    if (watch->dying)
        release(watch);
}

static void on_end(const struct atl_grpc_end *end, void *user)
{
    (void)end; /* whatever it was: without a leader, too, another member may have one */
    struct atl_etcd_watch *watch = user;
    watch->call = NULL;
    watch->busy = true;
    restart(watch);
    watch->busy = false;
    if (watch->dying)
        release(watch);
}

static void start(struct atl_etcd_watch *watch)
{
    uint8_t end[1] = {0};
    size_t prefix = strlen(watch->prefix);
    uint8_t *range_end ATL_FREE_AT_EXIT = atl_alloc0(prefix + 1);
    Etcd__WatchCreateRequest create = ETCD__WATCH_CREATE_REQUEST__INIT;
    create.key = (ProtobufCBinaryData){.len = prefix, .data = (uint8_t *)watch->prefix};
    create.range_end = (ProtobufCBinaryData){.len = 1, .data = end};
    if (prefix == 0)
        create.key = create.range_end; /* one zero byte is the first key there can be */
    else
        create.range_end = (ProtobufCBinaryData){
            .len = atl_etcd_prefix_end((const uint8_t *)watch->prefix, prefix, range_end), .data = range_end};
    /* From the last revision we know, not from behind it: a compaction of exactly the first one that is asked
     * for may have dropped its deletions, and etcd does not say so. What is known is not told again. */
    create.start_revision = watch->events.seen > 0 ? watch->events.seen : 1;
    create.progress_notify = true;
    create.fragment = true;
    Etcd__WatchRequest request = ETCD__WATCH_REQUEST__INIT;
    request.request_union_case = ETCD__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    size_t size = 0;
    uint8_t *bytes ATL_FREE_AT_EXIT = etcd_pack(&request.base, &size);
    watch->call = atl_grpc_call_new(
        watch->channel, &(const struct atl_grpc_call_options){.method = "/etcdserverpb.Watch/Watch",
                                                              .metadata = etcd_needs_leader,
                                                              .metadata_count = 1,
                                                              .request = bytes,
                                                              .request_size = size,
                                                              .stream = true,
                                                              .message = on_message,
                                                              .end = on_end,
                                                              .user = watch});
}

struct atl_etcd_watch *atl_etcd_watch_new(struct atl_grpc *channel, struct atl_loop *loop,
                                          const struct atl_etcd_watch_options *options)
{
    struct atl_etcd_watch *watch = atl_new0(struct atl_etcd_watch);
    watch->channel = channel;
    watch->loop = loop;
    watch->options = *options;
    watch->prefix = atl_strdup(options->prefix);
    watch->options.prefix = NULL;
    atl_etcd_events_init(&watch->events, options->after);
    start(watch);
    return watch;
}
