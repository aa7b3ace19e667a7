/*
 * The last inputs of a core, kept on disk for atoll-simulate --replay: FOLDER/view-NN.pb, each a packed
 * atoll.ha.v1.Saved. Those from which something was decided are kept in turns, the newest of all the others
 * in view-last.pb, at most every ten seconds. Losing one harms nobody: nothing is synced, errors are logged
 * once.
 */
#ifndef ATL_HA_SAVE_H
#define ATL_HA_SAVE_H

#include "atoll/ha/v1/state.pb-c.h"
#include "pure/base.h"

enum { ATL_HA_SAVED = 32 };

/* Embedded; zero it and set `folder`. */
struct atl_ha_saver {
    const char *folder; /* must exist; borrowed */
    unsigned int next;
    bool known; /* `next` was found on disk */
    bool failed;
    atl_ns last;
};

/* One of the views; the other is NULL. */
void atl_ha_save(struct atl_ha_saver *saver, const Atoll__Ha__V1__ManagerView *manager,
                 const Atoll__Ha__V1__LrmView *lrm, bool decided);

#endif
