/*
 * The shell of ha-lrm: shows the core what it must know, and does what it says.
 *
 * Renewals do not wait for the copy of the tree: what this run has written itself is known from the answer.
 * When the node's config-store does not answer, another node's is asked. Feeds go to the multiplexer with the
 * moment up to which they are good. Jobs are tasks of compute-agent; a restart asks for them again, which is
 * answered with what is already done.
 */
#ifndef LRM_SHELL_H
#define LRM_SHELL_H

#include "atoll/ha/v1/local.pb-c.h"
#include "atoll/ha/v1/state.pb-c.h"
#include "core/lrm.h"
#include "ha/save.h"
#include "ha/watchdog.h"
#include "io/cluster.h"
#include "io/guard.h"
#include "io/mirror.h"
#include "io/service.h"

/* One order of the manager that compute-agent carries out. */
struct lrm_job {
    struct lrm_job *next;
    struct lrm *lrm;
    char sid[32];
    uint64_t command;
    char action[16];
    char target[64];
    bool has_timeout;
    uint32_t timeout_s;
    bool stopped_first; /* relocate: the guest has been stopped, now it moves */
    char upid[256];
    struct atl_call *call;
    struct atl_timer *timer;
    bool ended;
    char outcome[16]; /* "done", "failed", "refused" */
    char error[256];
};

/* What this run knows of its lock beyond the copy of the tree: from the answers to its own transactions. */
struct lrm_lock {
    bool known; /* the fields below are newer than the copy until that reaches `revision` */
    bool absent;
    struct atl_revision revision;
    Atoll__Ha__V1__NodeLock lock; /* texts borrowed from struct lrm */
    struct atl_revision lock_revision;
    uint64_t sequence;
    bool armed; /* likewise: Beat.armed */
    bool in_flight;
    bool releasing; /* a release was sent that may be done yet */
    char action[16];
    uint64_t began_ms;
    Atoll__Store__V1__TxnRequest *sent; /* in `arena` */
    struct atl_arena arena;
    uint64_t attempted_ms;
    bool has_renewed;
    uint64_t renewed_ms;
    bool lost;
    bool waits;
};

struct lrm {
    struct atl_program *program;
    const char *node;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_mirror *mirror; /* .state/ha/, nodes/NODE/, datacenter.cfg, keys */
    struct atl_keeper *keeper;
    struct atl_cluster *cluster;
    struct atl_watchdog *watchdog;
    struct atl_ha_saver saver;
    char *folder; /* STATE/ha-lrm */
    uint64_t incarnation;
    char boot[64];
    struct lrm_lock lock;
    struct lrm_job *jobs; /* running, and the last that ended of each service */
    struct atl_arena guests_arena;
    Atoll__Ha__V1__GuestsReply *guests; /* NULL: not told yet */
    struct atl_call *guests_call;
    bool guests_again;
    bool quorate;
    uint64_t quorate_ms; /* told then */
    struct atl_call *members_call;
    uint64_t arm_asked_ms;
    bool report_busy;
    bool report_failing; /* and that was said */
    uint64_t report_changed_ms;
    struct atl_timer *tick;
    struct atl_timer *soon;
    uint32_t wake_ms; /* the tick timer's */
    char order[16];   /* "run", "stop", "shutdown", "reboot" */
    uint64_t ordered_ms;
    bool finished;
    uint64_t said;
    struct atl_arena arena; /* of one round */
};

uint64_t lrm_now_ms(void);
/* A round begins within milliseconds. */
void lrm_wake(struct lrm *lrm);

/* --- look.c: compute-agent's guests, config-store's quorum --- */
void lrm_look(struct lrm *lrm);
void lrm_look_guests(struct lrm *lrm);
void lrm_look_done(struct lrm *lrm);

/* --- lock.c --- */
/* Sends what is to be done with the lock. */
void lrm_lock_send(struct lrm *lrm, const char *action, const Atoll__Store__V1__TxnRequest *txn);
/* What is known of lock and beat now goes into the view. */
void lrm_lock_view(struct lrm *lrm, Atoll__Ha__V1__LrmView *view, struct atl_arena *arena);
/* A lock was acquired, and our copy of the tree is older: what was decided before is not seen yet. */
bool lrm_lock_waits(struct lrm *lrm);
void lrm_lock_done(struct lrm *lrm);

/* --- jobs.c --- */
void lrm_job_begin(struct lrm *lrm, const Atoll__Ha__V1__Job *job);
/* The newest job of a service, or NULL. */
const struct lrm_job *lrm_job_of(const struct lrm *lrm, const char *sid);
/* Is any of them under way? */
bool lrm_jobs_run(const struct lrm *lrm);
void lrm_jobs_free(struct lrm *lrm);

/* --- view.c --- */
Atoll__Ha__V1__LrmView *lrm_view(struct lrm *lrm, struct atl_arena *arena);

#endif
