/*
 * The shell of ha-crm: shows the tree to the core, sends what it plans, and answers requests.
 *
 * A round begins each tick, and as soon as something changed that matters; not while transactions of the last
 * one are on their way or our copy of the tree lacks what they wrote. Every ha-crm times all locks on its own
 * clock all the time, so whoever becomes the manager need not begin to wait.
 */
#ifndef CRM_SHELL_H
#define CRM_SHELL_H

#include "atoll/cluster/v1/cluster.pb-c.h"
#include "atoll/ha/v1/state.pb-c.h"
#include "core/config.h"
#include "ha/save.h"
#include "io/cluster.h"
#include "io/edit.h"
#include "io/guard.h"
#include "io/service.h"

enum { CRM_SEEN_MAX = 512, CRM_FENCERS_MAX = 128, CRM_TRIALS_MAX = 4 };

/* When a file was seen to change last. */
struct crm_seen {
    char *path;
    atl_ns at; /* CLOCK_BOOTTIME */
};

/* Figures of nodes and guests, as /cluster/resources has them. */
struct crm_load {
    struct atl_arena arena;
    Atoll__Cluster__V1__ListResourcesReply *rows; /* NULL: none yet */
    struct atl_call *call;
    atl_ns asked_at;
};

/* Members and quorum, as the node's config-store tells. */
struct crm_members {
    char nodes[128][64];
    bool online[128];
    size_t count;
    bool quorate;
    atl_ns told_at; /* 0: never */
    struct atl_call *call;
};

/* Transactions of the last plan that are still to be sent, one after the other. */
struct crm_sending {
    struct atl_arena arena;
    Atoll__Ha__V1__ManagerPlan *plan;
    size_t next;
    bool busy;
    struct atl_revision revision; /* our copy must have it before the next round */
};

struct crm {
    struct atl_program *program;
    const char *node;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_mirror *mirror; /* ha/, .state/ha/, nodes/, datacenter.cfg, keys */
    struct atl_keeper *keeper;
    struct atl_cluster *cluster;
    struct atl_edits *edits;
    char *folder; /* STATE/ha-crm */
    uint64_t incarnation;
    struct crm_seen seen[CRM_SEEN_MAX];
    size_t seen_count;
    struct crm_members members;
    struct crm_load load;
    struct atl_ha_saver saver;
    struct crm_sending sending;
    struct atl_timer *tick;
    struct atl_timer *soon;
    uint32_t tick_ms; /* the timer's */
    bool ending;
    char state[32];     /* of the last plan */
    atl_ns balanced_at; /* when moves for balance were advised last; the start */
    uint64_t said;      /* hash of the last round's decisions, so that none is logged twice */
    const char *agents; /* the folder of the fence agents */
    struct crm_fencer *fencers[CRM_FENCERS_MAX];
    size_t fencer_count;
    struct crm_asking *trials[CRM_TRIALS_MAX]; /* devices that a user has asked */
};

/* Another round, soon. */
void crm_wake(struct crm *crm);

/* --- seen.c: when files changed, on our own clock --- */
void crm_seen_note(struct crm *crm, const char *path, bool absent);
/* Milliseconds since then; 0: not seen yet. */
uint64_t crm_seen_age(const struct crm *crm, const char *path);

/* --- poll.c: what the node's config-store tells --- */
void crm_poll(struct crm *crm);
void crm_poll_done(struct crm *crm);
/* Answers a request once the figures of nodes and guests are there, which all but the manager ask for first.
 */
void crm_with_load(struct crm *crm, struct atl_request *request, const ProtobufCMessage *input,
                   atl_handler_fn *answer);

/* --- balance.c --- */
/* Asks the nodes of guests without high availability to move those that the plan wants to move. */
void crm_move_plain(struct crm *crm, const Atoll__Ha__V1__ManagerPlan *plan);

/* --- view.c --- */
/* All that the core is to see. Slaves see no guests: becoming the manager needs none. */
Atoll__Ha__V1__ManagerView *crm_view(struct crm *crm, struct atl_arena *arena);
/* The same as if this were the manager, whoever is: to tell what it would do. */
Atoll__Ha__V1__ManagerView *crm_view_as_manager(struct crm *crm, struct atl_arena *arena);
/* A file of high availability as it is in our copy. */
ATL_MUST_CHECK enum atl_code crm_read(const struct crm *crm, enum crm_file file, struct atl_arena *arena,
                                      struct crm_config *ret_config, struct atl_error *err);
/* The packed message of a file of .state/ha/, or NULL. */
ProtobufCMessage *crm_state(const struct crm *crm, const struct atl_message *table, const char *path,
                            struct atl_arena *arena);
/* Is there such a guest? "vm" or "ct", and its node; NULL: none. */
const char *crm_guest(const struct crm *crm, uint32_t vmid, struct atl_arena *arena, const char **ret_node);
Atoll__Ha__V1__Settings *crm_settings(const struct crm *crm, struct atl_arena *arena);
/* Does the node's config-store tell that there is a quorum, and not long ago? */
bool crm_quorate(const struct crm *crm);

/* --- fence.c: devices that switch nodes off --- */
struct crm_asked {
    int status;        /* of the agent's end, or -1 */
    const char *words; /* what it said, without secrets; for the callback only */
};
typedef void crm_asked_fn(const struct crm_asked *asked, void *user);
/* The device of a node that may be asked, or NULL. */
Atoll__Ha__V1__Fencing *crm_fence_usable(const struct crm_config *config, const char *node);
/* The same, by ha/fence.cfg as it is in our copy. */
Atoll__Ha__V1__Fencing *crm_fence_device(const struct crm *crm, const char *node, struct atl_arena *arena);
/* Its password, or NULL. */
const char *crm_fence_password(const struct crm *crm, const char *node, struct atl_arena *arena);
/* Runs the agent: "off", "status". fn is called once, from the loop; *ret_asking is gone then. Errors:
 * ATL_E_ABSENT there is no such agent; ATL_E_IO. */
ATL_MUST_CHECK enum atl_code crm_fence_run(struct crm *crm, const Atoll__Ha__V1__Fencing *device,
                                           const char *action, crm_asked_fn *fn, void *user,
                                           struct crm_asking **ret_asking, struct atl_error *err);
/* "on", "off", "unknown": what an agent that was asked for the status has said. */
const char *crm_fence_power(const struct crm_asked *asked);
/* Begins what the plan wants, and goes on with what is under way. */
void crm_fence_ask(struct crm *crm, const Atoll__Ha__V1__ManagerPlan *plan);
/* Has its agent confirmed that it is off, and nothing been heard of it since? */
bool crm_fence_is_off(const struct crm *crm, const char *node, bool member);
void crm_fence_done(struct crm *crm);

/* --- rpc_*.c --- */
void crm_serve(struct crm *crm);
/* "100" or "vm:100" as "vm:100", in the arena. Errors: ATL_E_INVALID, ATL_E_ABSENT no such guest. */
ATL_MUST_CHECK enum atl_code crm_sid(const struct crm *crm, const char *given, struct atl_arena *arena,
                                     const char **ret_sid, struct atl_error *err);
/* Errors: ATL_E_INVALID no member is called so. */
ATL_MUST_CHECK enum atl_code crm_need_node(const struct crm *crm, const char *node, struct atl_error *err);
/* Begins an edit whose answer is nothing. */
void crm_edit(struct crm *crm, struct atl_request *request, const ProtobufCMessage *input, atl_edit_fn *make);
/* Compares and puts one of our files. */
void crm_put(const struct crm *crm, struct atl_txn *txn, const struct crm_config *config);
/* Leaves a request for the manager. */
ATL_MUST_CHECK enum atl_code crm_ask(struct atl_request *request, struct atl_txn *txn,
                                     Atoll__Ha__V1__Request *wish, struct atl_error *err);

/* Handlers of atoll.ha.v1.Ha; user: struct crm. */
atl_handler_fn crm_rpc_resources, crm_rpc_resource, crm_rpc_resource_add, crm_rpc_resource_set,
    crm_rpc_resource_remove, crm_rpc_migrate, crm_rpc_relocate, crm_rpc_stop, crm_rpc_why;
atl_handler_fn crm_rpc_rules, crm_rpc_rule, crm_rpc_rule_add, crm_rpc_rule_set, crm_rpc_rule_remove;
atl_handler_fn crm_rpc_groups, crm_rpc_group, crm_rpc_group_add, crm_rpc_group_set, crm_rpc_group_remove;
atl_handler_fn crm_rpc_fencings, crm_rpc_fencing, crm_rpc_fencing_set, crm_rpc_fencing_remove,
    crm_rpc_fencing_test;
atl_handler_fn crm_rpc_current, crm_rpc_manager_status, crm_rpc_arm, crm_rpc_disarm, crm_rpc_maintenance,
    crm_rpc_simulate, crm_rpc_balance;

#endif
