/* Moving a container: what the worker at the source (lxc_move.c, lxc_move_send.c) is made of. */
#ifndef CMP_LXC_MOVE_H
#define CMP_LXC_MOVE_H

#include "core/lxc_migrate.h"
#include "handover.h"
#include "lxc_work.h"

struct lxc_moving {
    struct lxc_work *work;
    const Atoll__Lxc__V1__MoveSpec *spec;
    const char *target;
    struct cmp_handover handover;
    struct cmp_lxc_move *moves;
    size_t count;
    uint64_t total_bytes; /* of what is sent */
    uint64_t done_bytes;
    bool was_running;
    /* What a later task has to know when this one is killed; noted in the task's folder. */
    const char **keep; /* volumes that carry the guest's id at the target already; NULL-terminated */
    const char *job;   /* of what the target receives now; NULL: nothing */
};

/* A call to the target; not ended by a stop when to_the_end. */
ATL_MUST_CHECK enum atl_code lxc_move_ask(struct lxc_moving *moving, const struct atl_rpc *rpc,
                                          const ProtobufCMessage *input, bool to_the_end,
                                          const ProtobufCMessage **ret_output, struct atl_error *err);

/* Writes down what a later task has to know. */
ATL_MUST_CHECK enum atl_code lxc_move_note(struct lxc_moving *moving, struct atl_error *err);
/* Reads what the task that was cut off has noted; false: it had not begun. */
bool lxc_move_noted(struct lxc_moving *moving, const char *upid);

/* Volumes with the guest's id on storages that the target alone sees. */
ATL_MUST_CHECK enum atl_code lxc_move_there(struct lxc_moving *moving, const char ***ret_volumes,
                                            struct atl_error *err);

/* Sends all that the plan wants copied; each knows its new id then. */
ATL_MUST_CHECK enum atl_code lxc_move_send(struct lxc_moving *moving, struct atl_error *err);
/* Takes away what has come to the target so far; warns of what it cannot. */
void lxc_move_take_back(struct lxc_moving *moving);

#endif
