/* Taking guests off nodes that are gone. Which ground there is for it, node.c says. */
#include "core/crm_part.h"
#include "core/place.h"

/* What fits in the transaction of a take-over beside manager, lock, beat and the node's record: each guest
 * compares two files and changes two. */
enum { TAKE_MAX = 47 };

static void note_recovered(struct crm_round *round, struct crm_guest *guest)
{
    struct crm_node *node = &round->node[guest->at];
    int index = (int)(guest - round->guest);
    guest->recovered = true;
    guest->changed = true;
    node->taken++;
    if (node->first_recovered == CRM_NOWHERE)
        node->first_recovered = index;
    else
        round->guest[node->last_recovered].next_recovered = index;
    node->last_recovered = index;
}

static void forget_failures(struct crm_guest *guest)
{
    Atoll__Ha__V1__Service *service = guest->service;
    service->has_failed_starts = service->has_relocations = 0;
    service->failed_starts = service->relocations = 0;
    service->n_tried = 0;
    service->home = NULL;
}

/* It can not have run on. */
static void free_of_node(struct crm_guest *guest)
{
    guest->service->has_loose = guest->service->loose = 0;
    guest->service->target = NULL;
}

static void recover_guest(struct crm_round *round, struct crm_guest *guest)
{
    const struct crm_node *from = &round->node[guest->at];
    struct crm_place_wish wish = {.avoid = guest->at, .tried = from->deaf, .only = CRM_NOWHERE};
    struct crm_choice choice = crm_place(round, guest, &wish);
    if (choice.node == CRM_NOWHERE && guest->state == CRM_RECOVERY)
        return;
    note_recovered(round, guest);
    free_of_node(guest);
    crm_keep_choice(guest, &choice);
    if (choice.node == CRM_NOWHERE) {
        crm_aim(round, guest, CRM_NOWHERE);
        crm_become(round, guest, CRM_RECOVERY, "%s is lost, and there is nowhere to go: %s", from->name,
                   choice.why);
        return;
    }
    const struct crm_node *to = &round->node[choice.node];
    if (!from->deaf)
        forget_failures(guest);
    guest->move_to = choice.node;
    guest->service->node = atl_arena_strdup(round->arena, to->name);
    crm_load_add(&round->node[choice.node], &guest->demand);
    crm_aim(round, guest, choice.node);
    crm_order(round, guest, crm_wanted_state(guest), "recovered from %s (%s): %s", from->name,
              from->why_not != NULL ? from->why_not : "it has let its lock go", choice.why);
}

/* It stays where it is, and does not run there any more. */
static void rest_guest(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->state == CRM_STOPPED)
        return;
    note_recovered(round, guest);
    free_of_node(guest);
    crm_aim(round, guest, CRM_NOWHERE);
    crm_become(round, guest, CRM_STOPPED, "%s is lost, and it is disabled", round->node[guest->at].name);
}

/* May run there: nothing can be done before the node is back, or surely off. */
static void wait_for_proof(struct crm_round *round, struct crm_guest *guest)
{
    struct crm_node *node = &round->node[guest->at];
    bool runs = guest->state != CRM_FREEZE && guest->state != CRM_STOPPED && guest->want == CRM_WANT_STARTED;
    if (!runs || node->view->member)
        return;
    if (guest->state != CRM_FENCE)
        crm_become(round, guest, CRM_FENCE, "%s is not reached, and this may run there without its lock",
                   node->name);
    node->needs_power_off = true;
}

static void look_at_guest(struct crm_round *round, struct crm_guest *guest)
{
    if (guest->service == NULL || guest->view->resource == NULL || guest->at == CRM_NOWHERE)
        return;
    struct crm_node *node = &round->node[guest->at];
    if (node->ground == CRM_GROUND_NONE || guest->recovered)
        return;
    bool sure = node->ground != CRM_GROUND_FREE;
    bool untouched = guest->state == CRM_ERROR || guest->state == CRM_IGNORED ||
                     guest->want == CRM_WANT_IGNORED || (guest->state == CRM_FREEZE && !sure);
    if (untouched)
        return;
    if (node->ground == CRM_GROUND_TAKE && node->taken >= TAKE_MAX) {
        node->left_over = true;
        return;
    }
    crm_adopt(round, guest);
    if (guest->service->loose && !sure)
        wait_for_proof(round, guest);
    else if (guest->want == CRM_WANT_DISABLED)
        rest_guest(round, guest);
    else
        recover_guest(round, guest);
}

void crm_recover(struct crm_round *round)
{
    for (size_t i = 0; i < round->guest_count; i++)
        if (round->guest[i].want == CRM_WANT_STARTED)
            look_at_guest(round, &round->guest[i]);
    for (size_t i = 0; i < round->guest_count; i++)
        if (round->guest[i].want != CRM_WANT_STARTED)
            look_at_guest(round, &round->guest[i]);
}
