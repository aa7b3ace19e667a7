/* What the parts of the local agent's core share; not for others. */
#ifndef LRM_LRM_PART_H
#define LRM_LRM_PART_H

#include "ha/times.h"
#include "lrm.h"

struct lrm_round {
    const Atoll__Ha__V1__LrmView *view; /* borrowed */
    struct atl_arena *arena;            /* borrowed */
    Atoll__Ha__V1__LrmPlan *plan;
    struct atl_ha_times times; /* of the settings; what the lock promises may differ */
    bool mine;                 /* the tree says that this run holds the lock */
    bool lost;                 /* this run held a lock, and somebody else has it now */
    bool fresh;                /* a renewal that began within the horizon is confirmed */
    bool leaving;              /* the service or the machine ends, or all is to be disarmed */
    bool needed;               /* some service needs the lock */
    bool quiet;                /* nothing here would miss the lock */
    bool busy;                 /* some job is under way */
    size_t jobs_max;
    size_t decisions_max;
};

bool lrm_text_is(const char *text, const char *word);

/* The words are copied; sid may be NULL. */
void lrm_decide(struct lrm_round *round, const char *sid, const char *what, const char *why);

/* jobs.c: who needs the lock, and whether it may go; what is to be done with each; what is reported. */
void lrm_jobs_look(struct lrm_round *round);
void lrm_jobs_plan(struct lrm_round *round);
void lrm_report_plan(struct lrm_round *round);

/* Does the report in the tree say all there is to say? */
bool lrm_report_stands(const struct lrm_round *round);

/* The guests are to be stopped, for the machine goes down and they are not moved away before. */
bool lrm_stops_guests(const struct lrm_round *round);

#endif
