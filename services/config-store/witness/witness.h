/*
 * atoll-witness: a third machine that votes for a cluster of two nodes, with an etcd and a corosync-qnetd,
 * and holds no secret of the nodes. `join` is admitted by a node and leaves what it got in DIR/next; `serve`
 * takes it from there, runs both programs, and asks the nodes every two seconds which certificates hold.
 */
#ifndef CFG_WITNESS_WITNESS_H
#define CFG_WITNESS_WITNESS_H

#include "cluster/place.h"
#include "core/witness_conf.h"

#define WITNESS_CONF "witness.conf" /* the last file that is written: with it all is there */

struct witness_options {
    const char *state_dir;
    const char *crash_file; /* for tests (cluster/crash.h); NULL: always */
    const char *launcher;   /* makes a database of certificates and becomes corosync-qnetd */
};

/* word: as AddWitness made it. Waits until the etcd that `serve` starts has a vote. The same word again goes
 * on with what an earlier try came to.
 * Errors: ATL_E_INVALID the word; ATL_E_UNAVAILABLE, ATL_E_STATE of the node that is asked; ATL_E_DEADLINE;
 * ATL_E_IO. */
ATL_MUST_CHECK enum atl_code witness_join(const struct witness_options *options, const char *word,
                                          struct atl_error *err);
/* Until a signal ends it. Errors: ATL_E_IO the folder. */
ATL_MUST_CHECK enum atl_code witness_serve(const struct witness_options *options, struct atl_error *err);

#endif
