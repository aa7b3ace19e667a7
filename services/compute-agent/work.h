/*
 * Task workers of virtual machines: what their steps share. A worker is a process of its own and may block;
 * it knows the guest from the tree and the storage-agent, and the engine through its driver.
 */
#ifndef CMP_WORK_H
#define CMP_WORK_H

#include "atoll/qemu/v1/work.pb-c.h"
#include "atoll/storage/v1/volume.pb-c.h"
#include "core/config.h"
#include "core/domxml.h"
#include "core/update.h"
#include "drivers/driver.h"
#include "io/mirror.h"
#include "io/task.h"
#include "io/treelock.h"

struct work {
    struct atl_task *task;
    const Atoll__Qemu__V1__Work *spec;
    struct atl_arena arena;
    struct atl_bus *bus;
    const struct cmp_driver *driver;
    void *engine;
    struct atl_treelock lock;
    atl_ns locked_at;
    char path[200];       /* of the guest's file in the tree */
    struct atl_file text; /* as it was read last */
    struct cmp_file file;
};

#define WORK_AT_EXIT ATL_CLEANUP(work_done)
/* Reads the spec and opens bus and engine. */
ATL_MUST_CHECK enum atl_code work_init(struct work *work, struct atl_task *task, const uint8_t *spec,
                                       size_t size, struct atl_error *err);
void work_done(struct work *work);

/* Takes the guest's lock in the tree (waits up to 10 s) and reads its file.
 * Errors: ATL_E_CONFLICT somebody holds it; ATL_E_ABSENT no such guest; ATL_E_STATE "VM is locked (create)".
 */
ATL_MUST_CHECK enum atl_code work_take(struct work *work, struct atl_error *err);
/* To be called now and then by what takes long: renews the lock. ATL_E_CANCELLED when the task is to stop. */
ATL_MUST_CHECK enum atl_code work_keep(struct work *work, struct atl_error *err);
void work_sleep(struct work *work, atl_ns time);

ATL_MUST_CHECK enum atl_code work_read(struct work *work, struct atl_error *err);
/* Writes work->file, if nobody changed it since it was read and (when taken) the lock is still held. */
ATL_MUST_CHECK enum atl_code work_write(struct work *work, struct atl_error *err);
ATL_MUST_CHECK enum atl_code work_delete_file(struct work *work, struct atl_error *err);

/* --- volumes ----------------------------------------------------------------------------------------------
 */

/* Volumes that a task has made and that go again when it fails. */
struct work_made {
    const char **volumes;
    size_t count;
    size_t room;
};

/* Makes every new volume that the configuration asks for and writes its id in place of the wish. */
ATL_MUST_CHECK enum atl_code work_make_volumes(struct work *work, Atoll__Qemu__V1__Config *config,
                                               struct work_made *made, struct atl_error *err);
/* Removes them; what cannot be removed is warned of in the log. False: some stay. */
bool work_free_volumes(struct work *work, const char *const *volumes, size_t count);
/* Ends what a dead task still imports for the guest: after it no volume appears. Errors: ATL_E_UNAVAILABLE.
 */
ATL_MUST_CHECK enum atl_code work_stop_imports(struct work *work, struct atl_error *err);
ATL_MUST_CHECK enum atl_code work_volume_info(struct work *work, const char *volid,
                                              const Atoll__Storage__V1__VolumeInfo **ret_info,
                                              struct atl_error *err);

/* The facts for cmp_domain_xml(): paths of volumes, bridges, folders (which are made). */
ATL_MUST_CHECK enum atl_code work_machine(struct work *work, const Atoll__Qemu__V1__Config *config,
                                          struct cmp_machine *ret_machine, struct atl_error *err);

/* Starts the guest as its file says, pending changes taken over. The lock is held. */
ATL_MUST_CHECK enum atl_code work_start_guest(struct work *work, struct atl_error *err);
/* Writes the cloud-init drive anew, if the guest has one. */
ATL_MUST_CHECK enum atl_code work_cloudinit(struct work *work, const struct cmp_machine *machine,
                                            struct atl_error *err);

/* "kvm" or "tcg": what the agent found out; waits for it. */
const char *work_accelerator(struct work *work);
/* Of the emulator, "7.2.22", in the arena; NULL: it does not tell. */
const char *work_qemu_version(struct work *work);
/* The folder of the guest's sockets on this node, which no longer runs it. */
void work_remove_run_dir(const struct work *work);

/* The tasks, by type. */
atl_task_fn work_start, work_stop, work_shutdown, work_reboot, work_reset, work_suspend, work_resume;
atl_task_fn work_create, work_config, work_destroy, work_resize;

#endif
