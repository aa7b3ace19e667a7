/* This node's own etcd, asked directly: by task workers and at the start. */
#ifndef CFG_CLUSTER_ASK_H
#define CFG_CLUSTER_ASK_H

#include "cluster/place.h"
#include "etcd/etcd.h"
#include "io/loop.h"

/* A channel to etcd with the certificates of DIR/etcd; endpoints with commas between, the
 * first of which is used while it answers. Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_ask_channel(const struct cfg_place *place, const char *endpoints,
                                             struct atl_loop *loop, struct atl_grpc **ret_channel,
                                             struct atl_error *err);

/* Another list of the same kind, for a channel that is there. Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_ask_set_members(struct atl_grpc *channel, const char *endpoints,
                                                 struct atl_error *err);

enum cfg_etcd_state {
    CFG_ETCD_SILENT,  /* it does not run */
    CFG_ETCD_WAITING, /* it runs and may not vote yet, or finds no majority */
    CFG_ETCD_SERVING,
};
/* Blocks, up to two seconds. */
enum cfg_etcd_state cfg_ask_state(struct atl_grpc *channel, struct atl_loop *loop);

struct cfg_ask_wait {
    struct atl_loop *loop;
    atl_ns timeout;
    bool (*stopped)(void *user); /* NULL: nothing ends it sooner */
    void *user;
};
/* Until it serves, or the time is over: as it was last. */
enum cfg_etcd_state cfg_ask_wait(struct atl_grpc *channel, const struct cfg_ask_wait *wait);

#endif
