/* What other services of the node tell: which guests run, and whether there is a quorum. */
#include <string.h>

#include "atoll/cluster/v1/cluster.atl.h"
#include "atoll/cluster/v1/cluster.pb-c.h"
#include "atoll/ha/v1/local.atl.h"
#include "pure/codec.h"
#include "shell.h"

#define DEADLINE (2 * ATL_SECOND)

static void guests_told(const struct atl_reply *reply, void *user)
{
    struct lrm *lrm = user;
    lrm->guests_call = NULL;
    if (reply->code == ATL_OK) {
        atl_arena_reset(&lrm->guests_arena);
        lrm->guests = (Atoll__Ha__V1__GuestsReply *)atl_unpack(&atl_msg_ha_v1_GuestsReply, reply->packed,
                                                               reply->packed_size, &lrm->guests_arena);
        lrm_wake(lrm);
    }
    if (lrm->guests_again) {
        lrm->guests_again = false;
        lrm_look_guests(lrm);
    }
}

void lrm_look_guests(struct lrm *lrm)
{
    Atoll__Ha__V1__GuestsRequest ask = ATOLL__HA__V1__GUESTS_REQUEST__INIT;
    const struct atl_call_options options = {.deadline = DEADLINE};
    if (lrm->guests_call != NULL) {
        lrm->guests_again = true;
        return;
    }
    lrm->guests_call = atl_bus_call(lrm->bus, atl_contract_rpc("atoll.ha.v1.Local.Guests"), &ask.base,
                                    &options, guests_told, lrm);
}

static void members_told(const struct atl_reply *reply, void *user)
{
    struct lrm *lrm = user;
    bool alone = true;
    lrm->members_call = NULL;
    if (reply->code != ATL_OK)
        return;
    const Atoll__Cluster__V1__GetStatusReply *status = (const void *)reply->output;
    lrm->quorate = false;
    lrm->quorate_ms = lrm_now_ms();
    for (size_t i = 0; i < status->n_entry; i++) {
        if (strcmp(status->entry[i]->type, "cluster") != 0)
            continue;
        alone = false;
        lrm->quorate = status->entry[i]->quorate;
    }
    lrm->quorate |= alone;
}

void lrm_look(struct lrm *lrm)
{
    Atoll__Cluster__V1__GetStatusRequest ask = ATOLL__CLUSTER__V1__GET_STATUS_REQUEST__INIT;
    const struct atl_call_options options = {.deadline = DEADLINE};
    lrm_look_guests(lrm);
    if (lrm->members_call == NULL)
        lrm->members_call = atl_bus_call(lrm->bus, atl_contract_rpc("atoll.cluster.v1.Cluster.GetStatus"),
                                         &ask.base, &options, members_told, lrm);
}

void lrm_look_done(struct lrm *lrm)
{
    if (lrm->guests_call != NULL)
        atl_call_cancel(lrm->guests_call);
    if (lrm->members_call != NULL)
        atl_call_cancel(lrm->members_call);
    atl_arena_done(&lrm->guests_arena);
}
