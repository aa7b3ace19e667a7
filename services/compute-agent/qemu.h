/* The part of the agent for virtual machines: what its files share. */
#ifndef CMP_QEMU_H
#define CMP_QEMU_H

#include "atoll/qemu/v1/qemu.pb-c.h"
#include "atoll/qemu/v1/work.pb-c.h"
#include "cmp.h"
#include "core/config.h"
#include "core/life.h"
#include "engine.h"
#include "facts.h"
#include "left.h"

/* One guest that runs, as seen last. */
struct qemu_vm {
    struct cmp_sample sample;
    atl_ns seen_at;
    double cpu; /* used share of its processors, 0..1 */
    uint64_t net_before, disk_before;
};

struct qemu_wait;

struct cmp_qemu {
    struct cmp *cmp;
    struct cmp_engine *engine;
    const struct cmp_driver *driver;
    bool known;          /* the engine has told what runs */
    bool up;             /* the engine answers */
    struct qemu_vm *vms; /* sorted by vmid */
    size_t vm_count;
    struct cmp_facts_table *facts;
    const char *accel; /* "kvm", "tcg"; NULL while the boot probe goes on */
    struct qemu_accel *probe;
    struct qemu_wait *waits;       /* requests that wait for the end of a task */
    struct cmp_left *left;         /* clean-ups that are tried again */
    bool swept;                    /* what cut-off creations left was looked for */
    bool moves_swept;              /* and what cut-off migrations left */
    struct qemu_receive *receives; /* requests that wait until a task listens */
};

/* --- state ------------------------------------------------------------------------------------------------
 */

const struct qemu_vm *qemu_vm_find(const struct cmp_qemu *qemu, uint32_t vmid);
enum cmp_state qemu_state(const struct cmp_qemu *qemu, uint32_t vmid);
/* What the engine says runs now takes the place of what was known. */
void qemu_take_samples(const struct cmp_sample *samples, size_t count, void *qemu);
/* Calls `then` in the loop, once the state of the guest is as new as this call; when the engine is away or
 * busy, with what was seen last. */
void qemu_fresh(struct cmp_qemu *qemu, struct atl_request *request, const ProtobufCMessage *input,
                uint32_t vmid, atl_handler_fn *then);
/* The guest's file as data, in the arena. Errors: ATL_E_ABSENT "Configuration file ... does not exist". */
ATL_MUST_CHECK enum atl_code qemu_config(const struct cmp_qemu *qemu, uint32_t vmid, struct atl_arena *arena,
                                         struct cmp_file *ret_file, const struct atl_file **ret_text,
                                         struct atl_error *err);

/* --- methods ----------------------------------------------------------------------------------------------
 */

/* A specification with what every task needs. */
ATL_MUST_CHECK enum atl_code qemu_work(const struct cmp_qemu *qemu, struct atl_request *request,
                                       uint32_t vmid, struct atl_arena *arena,
                                       Atoll__Qemu__V1__Work **ret_work, struct atl_error *err);
/* Gives the network devices that have none a MAC address, by the prefix of datacenter.cfg. set may be NULL.
 */
void qemu_fill_macs(const struct cmp_qemu *qemu, Atoll__Qemu__V1__Config *set, struct atl_arena *arena);
/* Root alone may: skiplock, args, hookscript, files of the host as disks. */
ATL_MUST_CHECK enum atl_code qemu_need_root(struct atl_request *request, bool wanted, const char *field,
                                            struct atl_error *err);
/* What `code: true` of the changing methods means: storages, hand-written arguments, host files. */
ATL_MUST_CHECK enum atl_code qemu_need_config(struct cmp_qemu *qemu, struct atl_request *request,
                                              uint32_t vmid, const Atoll__Qemu__V1__Config *config,
                                              struct atl_error *err);
/* The same for what a change does to settings that are there: a drive that is a CD-ROM is changed or taken
 * away with VM.Config.CDROM, any other with VM.Config.Disk. remove, revert: lists of names, or NULL. */
ATL_MUST_CHECK enum atl_code qemu_need_change(struct cmp_qemu *qemu, struct atl_request *request,
                                              uint32_t vmid, const Atoll__Qemu__V1__Config *set,
                                              const char *remove, const char *revert, struct atl_error *err);

/* Puts the hash of `cipassword` in its place. */
ATL_MUST_CHECK enum atl_code qemu_hash_password(Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                                                struct atl_error *err);

/* Starts the task; when it ends the request is answered with nothing, or with its error. */
void qemu_task_wait(struct cmp_qemu *qemu, struct atl_request *request, const char *type, uint32_t vmid,
                    const Atoll__Qemu__V1__Work *work);
void qemu_wait_ended(struct cmp_qemu *qemu, const struct atl_task_info *info);
void qemu_waits_free(struct cmp_qemu *qemu);

atl_handler_fn qemu_list, qemu_get_status, qemu_get_config, qemu_get_pending;
atl_handler_fn qemu_update, qemu_update_task, qemu_create, qemu_delete, qemu_resize;
atl_handler_fn qemu_agent, qemu_agent_ping, qemu_agent_interfaces, qemu_agent_osinfo, qemu_agent_shutdown;
atl_handler_fn qemu_agent_exec, qemu_agent_exec_status, qemu_monitor;

void qemu_rpc_serve(struct cmp_qemu *qemu);

/* --- cut-off creations ------------------------------------------------------------------------------------
 */

/* A task ended: if it was creating a guest and left a reserved file, starts the one that removes it; if that
 * one failed, it is tried again later. */
void qemu_clean_up(struct cmp_qemu *qemu, const struct atl_task_info *info);
/* The same for all files that are still reserved and have no living task; once, after the start. */
void qemu_sweep(struct cmp_qemu *qemu);
/* The same for this one. user: the struct cmp_qemu. */
void qemu_clean_up_reserved(void *user, uint32_t vmid);

/* --- migration --------------------------------------------------------------------------------------------
 */

atl_handler_fn qemu_migrate, qemu_migrate_precondition;
void qemu_migration_serve(struct cmp_qemu *qemu);
void qemu_receives_free(struct cmp_qemu *qemu);
/* A task ended: a request that waits for it learns it, and what a killed worker of a migration left is put in
 * order by another. */
void qemu_move_ended(struct cmp_qemu *qemu, const struct atl_task_info *info);
/* The same for those that were killed while the agent was away; once, after the start. */
void qemu_move_sweep(struct cmp_qemu *qemu);
/* Has every guest of this node whose migration was cut off its place, and is no migration under way? */
bool qemu_move_in_order(const struct cmp_qemu *qemu);

/* --- accelerator ------------------------------------------------------------------------------------------
 */

struct qemu_accel;
/* Finds out whether KVM really runs guests here; the answer is remembered per kernel and processor. */
void qemu_accel_open(struct cmp_qemu *qemu);
void qemu_accel_close(struct cmp_qemu *qemu);

#endif
