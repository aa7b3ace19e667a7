/* Rules about where resources run: what they say, and whether they can be kept. */
#ifndef CRM_CORE_RULES_H
#define CRM_CORE_RULES_H

#include "atoll/ha/v1/ha.pb-c.h"
#include "pure/arena.h"

struct crm_rules_input {
    Atoll__Ha__V1__Rule *const *rule;
    size_t rule_count;
    const char *const *node; /* all of the cluster */
    size_t node_count;
    const char *const *sid; /* all resources */
    size_t sid_count;
};

/*
 * What is wrong with each rule: an array of rule_count sentences, NULL where nothing is. A rule with an error
 * is not regarded. Of two that do not go together one is wrong: a negative resource affinity rather than a
 * positive one, that rather than a node affinity, of equals the later. Disabled rules are looked at alone.
 * Resources and nodes that are not known are passed over as long as the rule says something without them.
 */
const char **crm_rules_check(const struct crm_rules_input *input, struct atl_arena *arena);

/* Calls back for each word of a list ("vm:100, ct:101"); the word is in the arena. */
void crm_each_word(const char *list, struct atl_arena *arena, void (*found)(const char *word, void *user),
                   void *user);

/* "pve1:5" -> "pve1" and 5; without a number 0. The name is in the arena. */
char *crm_node_word(const char *word, struct atl_arena *arena, int *ret_priority);

#endif
