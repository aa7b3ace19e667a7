/* Tasks: "clustercreate" and "clusterjoin", everything up to the restart that changes the engine;
 * "clusterbackup", "clusterrestore". */
#ifndef CFG_CLUSTER_WORK_H
#define CFG_CLUSTER_WORK_H

#include "io/task.h"

extern const struct atl_task_type cfg_cluster_tasks[];
extern const size_t cfg_cluster_task_count;

#endif
