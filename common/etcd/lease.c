/* A lease that is kept alive, and replaced when it is lost. */
#include <stdlib.h>

#include "etcd/internal.h"

#define GRANT_TIMEOUT (5 * ATL_SECOND)
#define PAUSE         (200 * ATL_MS)

struct atl_etcd_lease {
    struct atl_grpc *channel;
    struct atl_loop *loop;
    struct atl_etcd_lease_options options;
    struct atl_etcd_call *grant;
    struct atl_grpc_call *stream;
    struct atl_timer *timer; /* the next keepalive, or the next attempt */
    int64_t id;              /* 0: none */
    atl_ns good_until;       /* by our clock, from when the last answer was asked for */
    atl_ns asked_at;
};

static void on_timer(void *user);

static void plan(struct atl_etcd_lease *lease, atl_ns delay)
{
    if (lease->timer == NULL)
        lease->timer = atl_loop_timer(lease->loop, delay, 0, on_timer, lease);
}

static void drop_stream(struct atl_etcd_lease *lease)
{
    if (lease->stream != NULL)
        atl_grpc_cancel(lease->stream);
    lease->stream = NULL;
}

static void lose(struct atl_etcd_lease *lease)
{
    drop_stream(lease);
    lease->id = 0;
    plan(lease, PAUSE);
    lease->options.lost(lease->options.user);
}

static void on_message(const uint8_t *bytes, size_t size, void *user)
{
    struct atl_etcd_lease *lease = user;
    Etcd__LeaseKeepAliveResponse *answer = etcd__lease_keep_alive_response__unpack(NULL, size, bytes);
    bool gone = answer != NULL && answer->ttl <= 0;
    if (answer != NULL && answer->ttl > 0)
        lease->good_until = lease->asked_at + answer->ttl * ATL_SECOND;
    if (answer != NULL)
        etcd__lease_keep_alive_response__free_unpacked(answer, NULL);
    if (gone)
        lose(lease);
}

static void on_end(const struct atl_grpc_end *end, void *user)
{
    (void)end; /* the next keepalive opens another stream */
    ((struct atl_etcd_lease *)user)->stream = NULL;
}

static void keep_alive(struct atl_etcd_lease *lease)
{
    Etcd__LeaseKeepAliveRequest request = ETCD__LEASE_KEEP_ALIVE_REQUEST__INIT;
    request.id = lease->id;
    size_t size = 0;
    uint8_t *bytes ATL_FREE_AT_EXIT = etcd_pack(&request.base, &size);
    lease->asked_at = atl_loop_now(lease->loop);
    if (lease->stream == NULL)
        lease->stream = atl_grpc_call_new(lease->channel, &(const struct atl_grpc_call_options){
                                                              .method = "/etcdserverpb.Lease/LeaseKeepAlive",
                                                              .metadata = etcd_needs_leader,
                                                              .metadata_count = 1,
                                                              .stream = true,
                                                              .message = on_message,
                                                              .end = on_end,
                                                              .user = lease});
    if (atl_grpc_send(lease->stream, bytes, size, NULL) != ATL_OK)
        drop_stream(lease); /* nothing has gone out for long: another stream */
    plan(lease, lease->options.ttl_s * ATL_SECOND / 3);
}

static void on_granted(const struct atl_etcd_answer *answer, void *user)
{
    struct atl_etcd_lease *lease = user;
    lease->grant = NULL;
    const Etcd__LeaseGrantResponse *granted = (const void *)answer->message;
    if (granted == NULL || granted->id == 0) {
        plan(lease, PAUSE);
        return;
    }
    lease->id = granted->id;
    lease->good_until = lease->asked_at + granted->ttl * ATL_SECOND;
    plan(lease, lease->options.ttl_s * ATL_SECOND / 3);
    lease->options.granted(lease->id, lease->options.user);
}

static void ask(struct atl_etcd_lease *lease)
{
    Etcd__LeaseGrantRequest request = ETCD__LEASE_GRANT_REQUEST__INIT;
    request.ttl = lease->options.ttl_s;
    lease->asked_at = atl_loop_now(lease->loop);
    lease->grant =
        atl_etcd_call(lease->channel, ATL_ETCD_LEASE_GRANT, &request.base, GRANT_TIMEOUT, on_granted, lease);
}

static void on_timer(void *user)
{
    struct atl_etcd_lease *lease = user;
    lease->timer = NULL;
    if (lease->id == 0)
        ask(lease);
    else if (atl_loop_now(lease->loop) >= lease->good_until)
        lose(lease);
    else
        keep_alive(lease);
}

struct atl_etcd_lease *atl_etcd_lease_new(struct atl_grpc *channel, struct atl_loop *loop,
                                          const struct atl_etcd_lease_options *options)
{
    atl_assert(options->ttl_s > 0);
    struct atl_etcd_lease *lease = atl_new0(struct atl_etcd_lease);
    lease->channel = channel;
    lease->loop = loop;
    lease->options = *options;
    ask(lease);
    return lease;
}

void atl_etcd_lease_free(struct atl_etcd_lease **pointer)
{
    struct atl_etcd_lease *lease = *pointer;
    *pointer = NULL;
    if (lease == NULL)
        return;
    if (lease->grant != NULL)
        atl_etcd_cancel(lease->grant);
    drop_stream(lease);
    atl_timer_free(lease->timer);
    free(lease);
}
