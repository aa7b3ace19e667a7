/* Whether this node's etcd is to be a member of the cluster's. */
#include "core/voter.h"

enum cfg_voter_act cfg_voter_next(const struct cfg_voter_view *view)
{
    if (!view->votes)
        return CFG_VOTER_NOTHING;
    if (!view->asked)
        return CFG_VOTER_ASK;
    if (view->has_files)
        return !view->listed && view->unlisted >= CFG_VOTER_SURE ? CFG_VOTER_WIPE : CFG_VOTER_NOTHING;
    return view->listed ? CFG_VOTER_REMOVE : CFG_VOTER_ADD;
}
