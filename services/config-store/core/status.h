/*
 * What is known of nodes, guests, storages and tasks right now: rows that are kept ready, so that a list of
 * ten thousand guests is an array of pointers. Guests come from the tree (name, tags, template, lock), their
 * state from the agents' pushes. Time comes in; nothing here is ever written to disk.
 */
#ifndef CFG_STATUS_H
#define CFG_STATUS_H

#include "atoll/cluster/v1/cluster.pb-c.h"
#include "atoll/store/v1/status.pb-c.h"
#include "core/path.h"
#include "pure/acl.h"

enum { CFG_STATUS_NODES_MAX = 64, CFG_TASKS_MAX = 1000, CFG_NAME_SIZE = 64 };
#define CFG_STATUS_STALE (30 * ATL_SECOND)

struct cfg_guest_row {
    Atoll__Cluster__V1__ResourcesRow row; /* what goes out; its texts are owned by the row */
    uint32_t vmid;
    char acl_path[24]; /* "/vms/100" */
};

struct cfg_storage_row {
    Atoll__Cluster__V1__ResourcesRow row;
    char acl_path[96]; /* "/storage/local" */
    char source[CFG_NAME_SIZE];
    bool seen; /* in the full push that is being read */
};

/* What membership said last of a node; of a lost one, whatever is still heard of it, it is offline. */
enum cfg_presence {
    CFG_UNTOLD,
    CFG_PRESENT,
    CFG_LOST,
};
struct cfg_node_row {
    Atoll__Cluster__V1__ResourcesRow row;
    char name[CFG_NAME_SIZE];
    char acl_path[96]; /* "/nodes/pve" */
    char ip[48];
    char fingerprint[100];
    bool online;
    enum cfg_presence presence;
};

struct cfg_task_row {
    Atoll__Cluster__V1__TasksRow row;
};

struct cfg_status;

struct cfg_status *cfg_status_new(void);
void cfg_status_free(struct cfg_status **status);

/* A guest's file appeared or changed (text, terminated) or is gone (NULL). */
void cfg_status_guest(struct cfg_status *status, const struct cfg_guest_path *guest, const char *text);
/* What the manager of high availability is at with a guest; type "vm" or "ct", state NULL: it is no resource.
 */
void cfg_status_hastate(struct cfg_status *status, uint32_t vmid, const char *type, const char *state);
/* user.cfg changed: which guest and storage is in which pool. The acl is borrowed for the call. */
void cfg_status_pools(struct cfg_status *status, const struct atl_acl *acl);
/* A node that is known, whether its agents have spoken or not. */
void cfg_status_node(struct cfg_status *status, const char *node);
/* The node was removed. */
void cfg_status_forget_node(struct cfg_status *status, const char *node);
/* Another node is there, or gone, before its agents say anything; a gone one is "offline" until it is there
 * again. One that is there and silent is "unknown". */
void cfg_status_member(struct cfg_status *status, const char *node, bool online);

/*
 * Takes what an agent says about its node. service: the sender's name on the bus.
 * Returns false when something in between was missed: the sender must send all.
 */
bool cfg_status_push(struct cfg_status *status, const char *service,
                     const Atoll__Store__V1__PushRequest *push, atl_ns now);
/* Nodes and guests whose agent has been silent for too long become "unknown"; call it every few seconds. */
void cfg_status_tick(struct cfg_status *status, atl_ns now);

/* Sorted by id; borrowed until the next change. */
struct cfg_guest_row *const *cfg_status_guests(const struct cfg_status *status, size_t *ret_count);
/* Sorted by node and storage. */
struct cfg_storage_row *const *cfg_status_storages(const struct cfg_status *status, size_t *ret_count);
/* Sorted by name. */
struct cfg_node_row *const *cfg_status_nodes(const struct cfg_status *status, size_t *ret_count);
/* Newest start first. */
struct cfg_task_row *const *cfg_status_tasks(const struct cfg_status *status, size_t *ret_count);

#endif
