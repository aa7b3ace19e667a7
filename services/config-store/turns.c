/* Changes of a file that many change, in turns. */
#include "turns.h"

#include <stdlib.h>

#define YIELD     (4 * ATL_MS) /* so long the others go first: a commit and the way of its news */
#define CONTENDED ATL_SECOND   /* so long other nodes count as busy after we met one */

struct turn {
    struct turn *next;
    cfg_turn_fn *fn;
    void *user;
};

struct cfg_turns {
    struct atl_loop *loop;
    struct turn *first; /* in the order of coming */
    struct turn *last;
    struct atl_timer *timer; /* until the next one may begin */
    atl_ns met;              /* when another node was faster; 0: never */
    bool taken;
};

struct cfg_turns *cfg_turns_new(struct atl_loop *loop)
{
    struct cfg_turns *turns = atl_new0(struct cfg_turns);
    turns->loop = loop;
    return turns;
}

static struct turn take_first(struct cfg_turns *turns)
{
    struct turn *first = turns->first;
    struct turn copy = *first;
    turns->first = first->next;
    if (turns->first == NULL)
        turns->last = NULL;
    free(first);
    return copy;
}

void cfg_turns_free(struct cfg_turns **pointer)
{
    struct cfg_turns *turns = *pointer;
    *pointer = NULL;
    if (turns == NULL)
        return;
    while (turns->first != NULL)
        (void)take_first(turns);
    atl_timer_free(turns->timer);
    free(turns);
}

void cfg_turns_wait(struct cfg_turns *turns, cfg_turn_fn *fn, void *user)
{
    if (!turns->taken && turns->timer == NULL) {
        turns->taken = true;
        fn(true, user);
        return;
    }
    struct turn *turn = atl_new0(struct turn);
    *turn = (struct turn){.fn = fn, .user = user};
    if (turns->last != NULL)
        turns->last->next = turn;
    else
        turns->first = turn;
    turns->last = turn;
}

static void on_timer(void *user)
{
    struct cfg_turns *turns = user;
    turns->timer = NULL;
    if (turns->first == NULL)
        return;
    struct turn turn = take_first(turns);
    turns->taken = true;
    turn.fn(true, turn.user);
}

void cfg_turns_skip(struct cfg_turns *turns)
{
    while (turns->first != NULL) {
        struct turn turn = take_first(turns);
        turn.fn(false, turn.user);
    }
}

void cfg_turns_end(struct cfg_turns *turns, bool contended)
{
    atl_assert(turns->taken);
    atl_assert(turns->timer == NULL);
    atl_ns now = atl_loop_now(turns->loop);
    turns->taken = false;
    if (contended)
        turns->met = now;
    bool busy = turns->met != 0 && now - turns->met < CONTENDED;
    turns->timer = atl_loop_timer(turns->loop, busy ? YIELD : 0, 0, on_timer, turns);
}
