/*
 * Changes of a file that many change, in turns: with an engine that other nodes write too, two changes of
 * user.cfg that were prepared on the same tree cannot both be done, so those of this node wait for each
 * other. Between nodes the faster one wins; who has won lets the others go first for a moment.
 */
#ifndef CFG_TURNS_H
#define CFG_TURNS_H

#include "io/loop.h"

struct cfg_turns;
/* taken: it is its turn; else there are none now, and it goes on without. */
typedef void cfg_turn_fn(bool taken, void *user);

struct cfg_turns *cfg_turns_new(struct atl_loop *loop);
/* Those who wait are not called any more. */
void cfg_turns_free(struct cfg_turns **turns);
/* Calls fn when it is its turn: at once if nobody is ahead. It lasts until cfg_turns_end(). */
void cfg_turns_wait(struct cfg_turns *turns, cfg_turn_fn *fn, void *user);
/* Those who wait go on at once, without a turn: nothing can be changed now, they are to hear it. */
void cfg_turns_skip(struct cfg_turns *turns);
/* The next one begins, from the loop. contended: another node was faster at least once in this turn. */
void cfg_turns_end(struct cfg_turns *turns, bool contended);

#endif
