/* What status.c and status_tasks.c share. */
#ifndef CFG_STATUS_INTERNAL_H
#define CFG_STATUS_INTERNAL_H

#include "core/status.h"

enum { CFG_SENDERS_MAX = CFG_STATUS_NODES_MAX * 4 };

struct cfg_sender {
    char service[32];
    char node[CFG_NAME_SIZE];
    uint64_t epoch;
    uint64_t sequence; /* 0: nothing was heard yet */
    atl_ns heard;
    bool stale;
};

struct cfg_status {
    struct cfg_guest_row **guests;
    size_t guest_count;
    size_t guest_room;
    struct cfg_storage_row **storages;
    size_t storage_count;
    size_t storage_room;
    struct cfg_node_row *nodes[CFG_STATUS_NODES_MAX];
    size_t node_count;
    struct cfg_task_row *tasks[CFG_TASKS_MAX];
    size_t task_count;
    struct cfg_sender senders[CFG_SENDERS_MAX];
    size_t sender_count;
};

void cfg_status_take_task(struct cfg_status *status, const Atoll__Store__V1__TaskStatus *task);
void cfg_status_drop_tasks(struct cfg_status *status);

#endif
