/* This node's own etcd, asked directly. */
#include "cluster/ask.h"

#include <string.h>
#include <sys/random.h>

#include "drivers/etcd_keys.h"

#define CALL_TIMEOUT ATL_SECOND
#define PAUSE        (100 * ATL_MS)

static size_t split(const char *endpoints, struct atl_arena *arena, const char *list[ATL_GRPC_ENDPOINTS_MAX])
{
    size_t count = 0;
    char *rest = atl_arena_strdup(arena, endpoints);
    for (char *one = strsep(&rest, ","); one != NULL && count < ATL_GRPC_ENDPOINTS_MAX;
         one = strsep(&rest, ","))
        list[count++] = one;
    return count;
}

enum atl_code cfg_ask_set_members(struct atl_grpc *channel, const char *endpoints, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const char *list[ATL_GRPC_ENDPOINTS_MAX];
    size_t count = split(endpoints, &arena, list);
    return atl_grpc_set_endpoints(channel, list, count, err);
}

enum atl_code cfg_ask_channel(const struct cfg_place *place, const char *endpoints, struct atl_loop *loop,
                              struct atl_grpc **ret_channel, struct atl_error *err)
{
    struct atl_arena arena ATL_ARENA_AT_EXIT = {0};
    const char *list[ATL_GRPC_ENDPOINTS_MAX];
    size_t count = split(endpoints, &arena, list);
    const struct atl_grpc_tls tls = {.ca_file = cfg_place_path(place, "etcd/ca.pem", &arena),
                                     .cert_file = cfg_place_path(place, "etcd/node.pem", &arena),
                                     .key_file = cfg_place_path(place, "etcd/node.key", &arena)};
    struct atl_grpc_options options = {.loop = loop,
                                       .endpoints = list,
                                       .endpoint_count = count,
                                       .home = list[0],
                                       .tls = &tls,
                                       .connect_timeout = ATL_SECOND,
                                       .backoff_max = ATL_SECOND};
    if (getrandom(&options.seed, sizeof options.seed, 0) < 0)
        options.seed = (uint64_t)atl_clock_monotonic(); /* only spreads reconnects */
    return atl_grpc_new(&options, ret_channel, err);
}

static void on_answer(const struct atl_etcd_answer *answer, void *user)
{
    *(int *)user = answer->code == ATL_OK ? 1 : 0;
}

static bool answers(struct atl_grpc *channel, struct atl_loop *loop, enum atl_etcd_method method,
                    const ProtobufCMessage *request)
{
    int answered = -1;
    (void)atl_etcd_call(channel, method, request, CALL_TIMEOUT, on_answer, &answered);
    while (answered < 0)
        atl_loop_step(loop, PAUSE);
    return answered == 1;
}

enum cfg_etcd_state cfg_ask_state(struct atl_grpc *channel, struct atl_loop *loop)
{
    Etcd__RangeRequest range = ETCD__RANGE_REQUEST__INIT;
    range.key = cfg_etcd_text(CFG_ETCD_ROOT);
    if (answers(channel, loop, ATL_ETCD_RANGE, &range.base))
        return CFG_ETCD_SERVING;
    Etcd__StatusRequest status = ETCD__STATUS_REQUEST__INIT;
    return answers(channel, loop, ATL_ETCD_STATUS, &status.base) ? CFG_ETCD_WAITING : CFG_ETCD_SILENT;
}

enum cfg_etcd_state cfg_ask_wait(struct atl_grpc *channel, const struct cfg_ask_wait *wait)
{
    atl_ns deadline = atl_clock_monotonic() + wait->timeout;
    for (;;) {
        enum cfg_etcd_state state = cfg_ask_state(channel, wait->loop);
        if (state == CFG_ETCD_SERVING || atl_clock_monotonic() > deadline ||
            (wait->stopped != NULL && wait->stopped(wait->user)))
            return state;
        atl_ns until = atl_clock_monotonic() + PAUSE;
        while (atl_clock_monotonic() < until)
            atl_loop_step(wait->loop, PAUSE);
    }
}
