/* What the parts of the manager's core share during one round. */
#ifndef CRM_CORE_CRM_PART_H
#define CRM_CORE_CRM_PART_H

#include "core/crm.h"
#include "ha/times.h"

enum { CRM_NOWHERE = -1 };

enum crm_state {
    CRM_REQUEST_START,
    CRM_REQUEST_START_BALANCE,
    CRM_STARTED,
    CRM_REQUEST_STOP,
    CRM_STOPPED,
    CRM_MIGRATE,
    CRM_RELOCATE,
    CRM_FREEZE,
    CRM_FENCE,
    CRM_RECOVERY,
    CRM_ERROR,
    CRM_IGNORED,
    CRM_STATES,
};

/* What the user wants of a resource. */
enum crm_want { CRM_WANT_STARTED, CRM_WANT_STOPPED, CRM_WANT_DISABLED, CRM_WANT_IGNORED };

/* Why the manager itself may take guests off a node, without the node's help. */
enum crm_ground {
    CRM_GROUND_NONE,
    CRM_GROUND_TAKE,   /* its lock is taken over in this round */
    CRM_GROUND_FENCED, /* a manager has taken it over */
    CRM_GROUND_FREE,   /* there is no lock: only what is not loose */
    CRM_GROUND_OFF,    /* there is no lock, and the node is surely off */
};

enum crm_outcome { CRM_NO_OUTCOME, CRM_DONE, CRM_FAILED, CRM_REFUSED };

struct crm_load {
    double cpus;        /* capacity, never 0 */
    double memory;      /* likewise */
    double cpu_used;    /* with what is planned */
    double memory_used; /* likewise */
    double pressure;    /* 0..1 */
    uint32_t guests;    /* that run or will */
};

struct crm_node {
    const Atoll__Ha__V1__NodeView *view;
    const char *name;
    const char *state;   /* as NodeRecord.state */
    const char *why_not; /* nothing can be put here, in words; NULL: it can */
    bool maintenance;    /* asked for by a user */
    bool leave;          /* what runs here is to move away */
    bool freezes;        /* what is here stays as it is until the node is back */
    bool deaf;           /* its ha-lrm says nothing */
    enum crm_ground ground;
    uint32_t taken;      /* guests of this round's take-over transaction */
    int first_recovered; /* list of guests through next_recovered */
    int last_recovered;
    bool needs_power_off; /* nothing else proves that its guests do not run */
    bool left_over;       /* a guest found no room in the take-over: the lock stays */
    struct crm_load load;
};

struct crm_demand {
    double cpus;
    double memory;
};

struct crm_guest {
    const Atoll__Ha__V1__GuestView *view;
    const char *sid;                 /* NULL: no resource, load only */
    Atoll__Ha__V1__Service *service; /* working copy; NULL: none yet */
    const char *error;               /* of the outcome, or NULL */
    enum crm_state state;
    enum crm_want want;
    enum crm_outcome outcome; /* of the order that stands */
    int at;                   /* node of its file */
    int aim;                  /* where it runs or is to run, for rules; CRM_NOWHERE: it does not */
    int leaving;              /* while it is on its way: the node that it may stay on after all */
    int move_to;              /* the manager renames its file to that node */
    int next_recovered;
    int request; /* index of the latest request about it, or CRM_NOWHERE */
    struct crm_demand demand;
    bool changed;   /* its record is to be written */
    bool recovered; /* together with its node's lock */
    bool failback;
    int node_rule;   /* index in rules.node_rule, or CRM_NOWHERE */
    int together;    /* set of guests that stay together, or CRM_NOWHERE */
    int first_apart; /* in rules.apart_of */
    int apart_count;
};

/* node-affinity: what each node is worth. */
struct crm_node_rule {
    const char *name;
    bool strict;
    int *priority; /* by node; negative: not in it */
};
/* resource-affinity */
struct crm_set {
    const char *name;
    int *member; /* guests */
    size_t count;
    int *on_node; /* how many of them aim at each node */
    int *leaving; /* how many are still there, and on their way to another */
};
struct crm_rule_part {
    struct crm_node_rule *node_rule;
    size_t node_rule_count;
    struct crm_set *together;
    size_t together_count;
    struct crm_set *apart;
    size_t apart_count;
    int *apart_of; /* per guest: its sets */
    bool any;
};

struct crm_round {
    const Atoll__Ha__V1__ManagerView *view;
    struct atl_arena *arena;
    Atoll__Ha__V1__ManagerPlan *plan;
    struct atl_ha_times times;
    struct crm_node *node; /* by name */
    size_t node_count;
    struct crm_guest *guest; /* by id */
    size_t guest_count;
    struct crm_rule_part rules;
    const char *arm;  /* "armed", "disarming", "disarmed" */
    const char *mode; /* what resources do while it is not armed: "freeze", "ignore" */
    bool arm_changed;
    Atoll__Ha__V1__Move *new_move;              /* for balance, in this round */
    const Atoll__Ha__V1__RequestView **request; /* in the order they were made */
    bool *request_done;                         /* by request: its file goes */
    size_t decision_room;
    size_t txn_room;
    size_t power_room;
    size_t advice_room;
};

/* --- crm.c --- */
/* They are equal; false when there is no text. */
bool crm_is(const char *text, const char *word);
int64_t crm_wall(const struct crm_round *round);
ATL_PRINTF(5, 6)
Atoll__Ha__V1__Decision *crm_decide(struct crm_round *round, const char *sid, const char *node,
                                    const char *what, const char *format, ...);

/* --- look.c: the view with indexes, sorted --- */
void crm_look(struct crm_round *round);
int crm_find_node(const struct crm_round *round, const char *name);
/* By id; CRM_NOWHERE: none. */
int crm_find_vmid(const struct crm_round *round, uint32_t vmid);
/* A resource "vm:100" that has a guest. */
int crm_find_sid(const struct crm_round *round, const char *sid);
const char *crm_state_text(enum crm_state state);
/* It is on its way to another node. */
bool crm_is_move(enum crm_state state);
/* Where to; CRM_NOWHERE: it is not. */
int crm_target(const struct crm_round *round, const struct crm_guest *guest);

/* --- node.c --- */
/* What users ask of nodes and of the whole; before crm_nodes_look(). Sorts the requests. */
void crm_node_requests(struct crm_round *round);
/* States, grounds, who may be given guests. */
void crm_nodes_look(struct crm_round *round);
/* Whose fence agent is to be asked; after crm_recover(). */
void crm_power_look(struct crm_round *round);
/* It is reached, and holds its lock or needs none. */
bool crm_node_is_back(const struct crm_node *node);
/* And its ha-lrm does not end, nor its machine: what is ordered is done. */
bool crm_node_takes_orders(const struct crm_node *node);

/* --- recover.c: takes guests off nodes that are gone; only where there is ground --- */
void crm_recover(struct crm_round *round);

/* --- service.c --- */
void crm_services_step(struct crm_round *round);
/* The record gets a new state and the reason for it; nothing is ordered. */
ATL_PRINTF(4, 5)
void crm_become(struct crm_round *round, struct crm_guest *guest, enum crm_state state, const char *format,
                ...);
/* Likewise, with a new order for ha-lrm. */
ATL_PRINTF(4, 5)
void crm_order(struct crm_round *round, struct crm_guest *guest, enum crm_state state, const char *format,
               ...);
/* The guest's file is elsewhere than its record says: the record follows. */
void crm_adopt(struct crm_round *round, struct crm_guest *guest);
/* The state that makes it as the user wants it. */
enum crm_state crm_wanted_state(const struct crm_guest *guest);
/* Where it runs or will, for the rules. */
void crm_aim(struct crm_round *round, struct crm_guest *guest, int node);

/* --- move.c --- */
void crm_moves(struct crm_round *round);
void crm_service_requests(struct crm_round *round);
/* Orders the move of a resource that runs (or starts, or is stopped) through its node's ha-lrm. */
void crm_send(struct crm_round *round, struct crm_guest *guest, enum crm_state state, int target,
              const char *why);
/* May it be moved now? NULL: yes; else why not, in words. */
const char *crm_why_stays(const struct crm_round *round, const struct crm_guest *guest);

/* --- write.c: what has changed, as transactions --- */
void crm_write(struct crm_round *round);

#endif
