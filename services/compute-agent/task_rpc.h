/* The methods of atoll.task.v1.Tasks: tasks of all agents of this node, from their spool folders. */
#ifndef CMP_TASK_RPC_H
#define CMP_TASK_RPC_H

#include "cmp.h"

void cmp_task_rpc_serve(struct cmp *cmp);

#endif
