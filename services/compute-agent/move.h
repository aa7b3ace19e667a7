/*
 * Moving a virtual machine: what the worker at the source (move_source.c), the worker at the target
 * (move_target.c) and the task that puts things in order after one that was killed (move_recover.c) share.
 * How it goes, and why nothing is lost or doubled wherever it breaks: docs/decisions/0011.
 */
#ifndef CMP_MOVE_H
#define CMP_MOVE_H

#include "atoll/qemu/v1/migrate.pb-c.h"
#include "core/migrate.h"
#include "handover.h"
#include "io/stream.h"
#include "work.h"

/* --- words: both workers talk on the channel "control" ----------------------------------------------------
 */

struct move_link {
    struct atl_stream *stream; /* NULL: there is none (any more) */
    uint8_t *bytes;            /* of a word that has come in part */
    size_t size;
    size_t got;
};
void move_link_done(struct move_link *link);

/* kind: "ask" and so on (migrate.proto); word: all the rest of it. */
ATL_MUST_CHECK enum atl_code move_say(struct move_link *link, const char *kind, Atoll__Qemu__V1__Word *word,
                                      struct atl_error *err);
/* The next word, in the arena. Errors: ATL_E_DEADLINE nothing whole has come yet, ask again;
 * ATL_E_UNAVAILABLE the other side is gone. */
ATL_MUST_CHECK enum atl_code move_hear(struct move_link *link, atl_ns deadline, struct atl_arena *arena,
                                       const Atoll__Qemu__V1__Word **ret_word, struct atl_error *err);

/* --- the tree decides -------------------------------------------------------------------------------------
 */

/* From that node to the other one. */
void move_handover_init(struct work *work, const char *source, const char *target,
                        struct cmp_handover *handover);
/* Does the file hold `lock: migrate`? */
bool move_locked(const struct atl_file *file, struct atl_arena *arena);

/* --- engine -----------------------------------------------------------------------------------------------
 */

/* What QEMU says of the migration under way. */
struct move_state {
    char status[24]; /* "active", "pre-switchover", "completed", "failed", "cancelled", "none" ... */
    uint64_t total, transferred, remaining;
    uint64_t bytes_s;
    uint64_t rounds;
    uint64_t downtime_ms; /* as far as QEMU knows */
    char error[192];
};

/* A command without an answer that matters; arguments: JSON object text, or NULL. */
ATL_MUST_CHECK enum atl_code move_command(struct work *work, const char *command, const char *arguments,
                                          struct atl_error *err);
ATL_MUST_CHECK enum atl_code move_capability(struct work *work, const char *name, bool on,
                                             struct atl_error *err);
ATL_MUST_CHECK enum atl_code move_state(struct work *work, struct move_state *ret_state,
                                        struct atl_error *err);
/* "running", "paused", "inmigrate", "postmigrate" ... */
ATL_MUST_CHECK enum atl_code move_status(struct work *work, char status[24], struct atl_error *err);
/* The name QEMU has for what a drive ("scsi0") is on, in the arena. */
ATL_MUST_CHECK enum atl_code move_block_name(struct work *work, const char *drive, const char **ret_name,
                                             struct atl_error *err);
/* Of the mirror of that name: is it ready to be completed, how far is it? ABSENT: there is none. */
struct move_job {
    bool ready;
    uint64_t done, total;
    char error[192];
};
ATL_MUST_CHECK enum atl_code move_job(struct work *work, const char *name, struct move_job *ret_job,
                                      struct atl_error *err);

/* What has to be done in the end, and may be done again. */
typedef enum atl_code move_deed_fn(struct work *work, struct atl_error *err);

/* The guest at the source: migration and mirrors are called off; it goes on running, too. */
move_deed_fn move_call_off, move_go_on;
/* Ends the copy of the guest on this node, if there is one. */
move_deed_fn move_end_copy;
/* The target's copy begins to run. */
move_deed_fn move_wake;

/* The lock goes when all is in order at the source. */
move_deed_fn move_unlock;

/* Tries it, with a new connection to the engine, until it is done or the time is over: the engine may be
 * away. */
ATL_MUST_CHECK enum atl_code move_persist(struct work *work, move_deed_fn *fn, atl_ns limit,
                                          struct atl_error *err);
#define MOVE_PATIENCE (600 * ATL_SECOND)
#define MOVE_FOREVER  INT64_MAX

/* --- volumes ----------------------------------------------------------------------------------------------
 */

enum { MOVE_JOBS_MAX = 16 };

/* Jobs of this node's storage-agent: volumes on their way. */
struct move_jobs {
    char *ids[MOVE_JOBS_MAX]; /* in the work's arena */
    const char *names[MOVE_JOBS_MAX];
    size_t count;
};

/* At the target: an empty volume, or one that waits for what the source's storage-agent sends (its job is
 * noted for who cleans up). Both fill in ret_moved. */
ATL_MUST_CHECK enum atl_code move_alloc_volume(struct work *work, const Atoll__Qemu__V1__Moving *moving,
                                               bool cloudinit, Atoll__Qemu__V1__Moved *ret_moved,
                                               struct atl_error *err);
ATL_MUST_CHECK enum atl_code move_receive_volume(struct work *work, const Atoll__Qemu__V1__Moving *moving,
                                                 Atoll__Qemu__V1__Moved *ret_moved, struct move_jobs *jobs,
                                                 struct atl_error *err);
/* At the source: begins to send a volume. */
ATL_MUST_CHECK enum atl_code move_send_volume(struct work *work, const struct cmp_move_volume *volume,
                                              const Atoll__Bus__V1__StreamOffer *offer, uint64_t limit_kib_s,
                                              struct move_jobs *jobs, struct atl_error *err);
/* Waits until all jobs have ended well. Errors: the first that failed, by its volume's name; CANCELLED. */
ATL_MUST_CHECK enum atl_code move_jobs_done(struct work *work, const struct move_jobs *jobs,
                                            struct atl_error *err);
void move_jobs_cancel(struct work *work, const struct move_jobs *jobs);
void move_job_cancel(struct work *work, const char *id);

/* --- facts ------------------------------------------------------------------------------------------------
 */

/* Of this machine; in the work's arena. */
const char *move_processor(struct work *work);
const char *move_accel(struct work *work);

/* Volumes of the guest on storages that this node alone sees; NULL-terminated. Errors: a storage cannot be
 * read. */
ATL_MUST_CHECK enum atl_code move_own_volumes(struct work *work, const char ***ret_volumes,
                                              struct atl_error *err);
/* Lines of a text, in the arena; NULL-terminated. */
const char **move_lines(const char *text, struct atl_arena *arena);

/* The tasks "qmigrate" and "qmreceive". */
atl_task_fn work_migrate, work_receive;
/* The same after one that was cut off (`upid` of the specification). */
move_deed_fn move_recover_source, move_recover_target;

#endif
