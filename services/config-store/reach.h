/*
 * The other config-stores of the cluster: each tells all others what its own node's agents said, so that
 * every node shows the same. What is told is state, not truth: a push that gets lost is noticed by the next
 * one's number, and the agent is asked for all it knows.
 */
#ifndef CFG_REACH_H
#define CFG_REACH_H

#include "atoll/store/v1/status.pb-c.h"
#include "cfg.h"

struct cfg_reach;

/* Never NULL; does nothing while the tree has no record of this node. */
struct cfg_reach *cfg_reach_open(struct cfg *cfg);
void cfg_reach_close(struct cfg_reach **reach);

/* Passes on what an agent of this node pushed; true when somebody missed something: the agent is to send all.
 */
bool cfg_reach_relay(struct cfg_reach *reach, const char *source, const Atoll__Store__V1__PushRequest *push);

#endif
