/* When the members of etcd give back the space they do not use any more: decides, the engine acts. */
#ifndef CFG_SPACE_H
#define CFG_SPACE_H

#include "pure/base.h"

struct cfg_space_member {
    bool answered;
    bool leads;
    uint64_t bytes; /* of its database */
    uint64_t used;  /* of these: a defragmentation would leave so many */
    bool compacted; /* since it was defragmented; etcd counts what became free only at its next change */
};

/*
 * Which member is to be defragmented now; it does not answer while it does that, so there is one at a time,
 * only while all are well, and the leader is the last.
 *
 * scarce  the database may not grow any more: a tenth that is free is worth it, or what was just compacted
 * Returns its index, or -1: none.
 */
int cfg_space_choose(const struct cfg_space_member *members, size_t count, bool scarce);

/* Is there room again, so that the alarm about space may be ended? */
bool cfg_space_is_ample(const struct cfg_space_member *members, size_t count, uint64_t quota);

#endif
