/* A small cluster for the tests of the manager's core: what it plans is done, nodes do what the test says. */
#ifndef CRM_TESTS_WORLD_H
#define CRM_TESTS_WORLD_H

#include "atl_test.h"
#include "core/crm.h"

struct world {
    struct atl_arena arena;
    Atoll__Ha__V1__ManagerView view;  /* what the next round sees */
    Atoll__Ha__V1__ManagerPlan *plan; /* of the last round */
    uint64_t number;                  /* last revision */
    uint64_t spare_ms;                /* of the wall clock's second */
    ProtobufCMessage **kept;          /* what was unpacked */
    size_t kept_count;
    size_t node_room, guest_room, rule_room, group_room, request_room, orphan_room, sid_room, revision_room;
};

void world_free(struct world *world);

/* --- given --- */

/* Nodes pve1 .. pveN, members, each with 16 CPUs and 64 GiB, its ha-lrm active, without a lock. pve1 is the
 * manager. */
struct world given_cluster(int nodes);
Atoll__Ha__V1__NodeView *node(struct world *world, const char *name);
/* A guest of 1 CPU and 2 GiB that does not run: "vm:100" on that node; a resource, state as users write it.
 */
Atoll__Ha__V1__GuestView *given(struct world *world, const char *sid, const char *node, const char *state);
Atoll__Ha__V1__GuestView *given_plain_guest(struct world *world, const char *sid, const char *node);
Atoll__Ha__V1__GuestView *guest(struct world *world, const char *sid);
/* nodes or affinity, whichever the rule is about. */
Atoll__Ha__V1__Rule *given_rule(struct world *world, const char *name, const char *resources,
                                const char *nodes, const char *affinity, bool strict);
Atoll__Ha__V1__Settings *settings(struct world *world);

/* --- when --- */

/* A round, and its transactions are done: a compare that does not hold fails the test. */
void when_round(struct world *world);
/* A round whose plan is lost. */
void when_round_is_lost(struct world *world);
/* ha-lrm of each node that is a member takes its lock if it has resources, and does what it is told; then
 * rounds, until nothing changes. */
void when_settled(struct world *world);
/* Everything that a member's ha-lrm has to do for that resource is answered: "done", "failed", "refused". */
void when_answered(struct world *world, const char *sid, const char *outcome);
void when_time_passes(struct world *world, uint64_t ms);
/* It is lost from one moment to the next: no member, renews nothing. */
void when_dies(struct world *world, const char *name);
/* It boots again: a member, its ha-lrm is active. */
void when_boots(struct world *world, const char *name);
void when_asked(struct world *world, const char *kind, const char *sid, const char *node);
void when_mode(struct world *world, const char *name, const char *mode);

/* --- then --- */

void then_state(struct world *world, const char *sid, const char *state);
void then_on(struct world *world, const char *sid, const char *node);
void then_target(struct world *world, const char *sid, const char *node);
void then_node_is(struct world *world, const char *name, const char *state);
/* Some decision of the last plan has that part in what it says. */
void then_said(struct world *world, const char *part);
bool was_said(const struct world *world, const char *part);

/* world.c's text field of a message. */
char *text(struct world *world, const char *value);

#endif
