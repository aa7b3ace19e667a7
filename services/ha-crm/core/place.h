/* Where a resource goes: every node with its score or with what speaks against it, in words. */
#ifndef CRM_CORE_PLACE_H
#define CRM_CORE_PLACE_H

#include "core/crm_part.h"

struct crm_place_wish {
    int avoid;  /* never this node, or CRM_NOWHERE */
    bool whole; /* all that must stay together with it goes along */
    bool tried; /* not where it did not start */
    int only;   /* is this node possible? CRM_NOWHERE: any */
};

struct crm_choice {
    int node;           /* CRM_NOWHERE: none is possible */
    const char *why;    /* in words */
    char **alternative; /* the others, best first, then those that are not possible */
    size_t alternatives;
};

/*
 * The best node for a guest. What speaks against a node: it takes nobody, the guest is bound to another, a
 * strict rule, a resource that it must be apart from, those that it must be together with. Of the others the
 * greatest priority of its rule counts first, then the score (the less, the better), then the name.
 */
struct crm_choice crm_place(struct crm_round *round, const struct crm_guest *guest,
                            const struct crm_place_wish *wish);

/* What speaks against that node for that guest, in words; NULL: nothing. */
const char *crm_place_against(struct crm_round *round, const struct crm_guest *guest, int node,
                              const struct crm_place_wish *wish);
/* The value of a node to the guest's rules; without a rule that is 0 for all. */
int crm_place_class(const struct crm_round *round, const struct crm_guest *guest, int node);

/* What nodes have to carry, out of the view and of what is already under way. Needs the nodes' states. */
void crm_load_look(struct crm_round *round);
/* The guest's load is planned for the node, or no longer. */
void crm_load_add(struct crm_node *node, const struct crm_demand *demand);
void crm_load_drop(struct crm_node *node, const struct crm_demand *demand);
/* 0: idle, 1000: full. */
int crm_load_score(const struct crm_load *load);
/* Keeps the alternatives of a choice in the guest's record. */
void crm_keep_choice(struct crm_guest *guest, const struct crm_choice *choice);

#endif
