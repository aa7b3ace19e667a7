/*
 * Devices that switch nodes off: what an agent may be told, when it is asked, and what its answers prove.
 * Pure.
 *
 * An agent is asked to switch off, whatever comes of that, and then how the node is until it says off. Only
 * that word counts, and only for the lock and the beat that were there: a node that has renewed since was not
 * off.
 */
#ifndef CRM_CORE_FENCE_H
#define CRM_CORE_FENCE_H

#include "pure/arena.h"
#include "pure/base.h"
#include "pure/error.h"

/* --- what an agent is told --- */

/* KEY=VALUE,...: each key once, none that has another program run or is ours to say, and secrets as KEY=@
 * only, which stands for the password; what is wrong goes to `errors` as "options". */
void crm_fence_check(const char *options, struct atl_errors *errors);

/* The agent's standard input, a line each: action, options, and the password where an option says @, else as
 * `password`. options NULL or as checked, password
 * NULL or one line. In the arena. */
const char *crm_fence_input(const char *action, const char *options, const char *password,
                            struct atl_arena *arena);

/* What an agent wrote, for people: its last line, in the arena; never one that holds the password. */
const char *crm_fence_words(const char *output, const char *password, struct atl_arena *arena);

/* --- when it is asked --- */

/* The lock and the beat of a node, as revisions; 0.0: there is none. */
struct crm_fence_seen {
    uint64_t lock_epoch;
    uint64_t lock_number;
    uint64_t beat_epoch;
    uint64_t beat_number;
};

enum crm_fence_step { CRM_FENCE_REST, CRM_FENCE_OFF, CRM_FENCE_STATUS };

/* One node's device. {0} is the start. */
struct crm_fence {
    enum crm_fence_step step; /* what is to be asked next; REST: nothing before it is wanted */
    atl_ns due;               /* not before; CLOCK_BOOTTIME */
    uint32_t tries;           /* questions in this go that were not answered with "off" */
    uint32_t failures;        /* goes that proved nothing, one after the other */
    bool confirmed;           /* off, as long as lock and beat are as in `seen` */
    struct crm_fence_seen seen;
};

enum { CRM_FENCE_TRIES = 8, CRM_FENCE_PAUSE_MAX_S = 60 };

/* The core asks for the node to be switched off: begins, if nothing is under way and the pause after a
 * failure is over. */
void crm_fence_want(struct crm_fence *fence, const struct crm_fence_seen *seen, atl_ns now);

/* What is to be asked now; each question is followed by its answer before the next. */
enum crm_fence_step crm_fence_next(const struct crm_fence *fence, atl_ns now);

/* The agent has ended: off, says it did as it was told, or that the node is off. seen: as of now.
 * True: that was the proof. */
bool crm_fence_answer(struct crm_fence *fence, bool off, const struct crm_fence_seen *seen, atl_ns now);

/* Is the node off for sure? A node that is a member, has another lock or has renewed since is not. */
bool crm_fence_holds(struct crm_fence *fence, bool member, const struct crm_fence_seen *seen);

#endif
