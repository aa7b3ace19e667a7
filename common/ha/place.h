/* Where high availability keeps its files in the tree. Pure. */
#ifndef ATL_HA_PLACE_H
#define ATL_HA_PLACE_H

#define ATL_HA_STATE         ".state/ha/"
#define ATL_HA_MANAGER       ".state/ha/manager"
#define ATL_HA_MANAGER_BEAT  ".state/ha/beat/manager"
#define ATL_HA_LOCK          ".state/ha/lock/"      /* + node */
#define ATL_HA_BEAT          ".state/ha/beat/node/" /* + node */
#define ATL_HA_LRM           ".state/ha/lrm/"       /* + node */
#define ATL_HA_NODE          ".state/ha/node/"      /* + node */
#define ATL_HA_SERVICE       ".state/ha/service/"   /* + sid, "vm:100" */
#define ATL_HA_REQUEST       ".state/ha/request/"   /* + id */
#define ATL_HA_ARM           ".state/ha/arm"
#define ATL_HA_MOVES         ".state/ha/moves"

#define ATL_HA_RESOURCES_CFG "ha/resources.cfg"
#define ATL_HA_RULES_CFG     "ha/rules.cfg"
#define ATL_HA_GROUPS_CFG    "ha/groups.cfg"
#define ATL_HA_FENCE_CFG     "ha/fence.cfg"
#define ATL_HA_PRIVATE       "priv/ha/" /* + node + ".pw": the password for its fence device */

#endif
