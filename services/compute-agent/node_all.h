/* Tasks that do something to many guests of the node (node_all.c begins them, node_all_work.c does the work).
 */
#ifndef CMP_NODE_ALL_H
#define CMP_NODE_ALL_H

#include "cmp.h"

/* Handlers of atoll.node.v1.NodeGuests; user: struct cmp. */
void node_start_all(struct atl_request *request, const ProtobufCMessage *input, void *user);
void node_stop_all(struct atl_request *request, const ProtobufCMessage *input, void *user);
void node_suspend_all(struct atl_request *request, const ProtobufCMessage *input, void *user);
void node_migrate_all(struct atl_request *request, const ProtobufCMessage *input, void *user);
void node_drain(struct atl_request *request, const ProtobufCMessage *input, void *user);

enum { CMP_NODE_TASKS = 5 };
extern const struct atl_task_type cmp_node_tasks[CMP_NODE_TASKS];

#endif
