/* Task workers of containers: what their steps share. A worker is a process of its own and may block. */
#ifndef CMP_LXC_WORK_H
#define CMP_LXC_WORK_H

#include "atoll/lxc/v1/helper.pb-c.h"
#include "core/lxc_doc.h"
#include "core/lxc_make.h"
#include "drivers/lxc_driver.h"
#include "io/mirror.h"
#include "io/task.h"

struct lxc_work {
    struct atl_task *task;
    const Atoll__Lxc__V1__TaskSpec *spec;
    struct atl_arena arena;
    struct atl_bus *bus; /* opened when first needed */
    const struct cmp_lxc_driver *driver;
    struct cmp_lxc_host host;
    uint32_t vmid;
    bool to_the_end;      /* a stop of the task does not end what follows: it puts things in order */
    int lock_fd;          /* one worker per container; goes with the process */
    char path[200];       /* of the container's file in the tree */
    struct atl_file file; /* as it was read last */
    struct cmp_lxc_doc doc;
};

#define LXC_WORK_AT_EXIT ATL_CLEANUP(lxc_work_done)
/* Reads the spec and takes the container's lock on this machine (waits up to 10 s). */
ATL_MUST_CHECK enum atl_code lxc_work_init(struct lxc_work *work, struct atl_task *task, const uint8_t *spec,
                                           size_t size, struct atl_error *err);
void lxc_work_done(struct lxc_work *work);

/* Reads the container's file. Errors: ATL_E_ABSENT "Configuration file '...' does not exist". */
ATL_MUST_CHECK enum atl_code lxc_work_read(struct lxc_work *work, struct atl_error *err);
/* Writes the document, if nobody changed the file since it was read; the work may write again. */
ATL_MUST_CHECK enum atl_code lxc_work_write(struct lxc_work *work, struct atl_error *err);
ATL_MUST_CHECK enum atl_code lxc_work_delete_file(struct lxc_work *work, struct atl_error *err);
ATL_MUST_CHECK enum atl_code lxc_work_bus(struct lxc_work *work, struct atl_error *err);

/* Facts for the configuration of the work; CPUs are chosen by what runs now. */
void lxc_work_facts(struct lxc_work *work, const Atoll__Lxc__V1__Config *config,
                    struct cmp_lxc_facts *ret_facts);

/* Settles what waits, compiles, finds the volumes and starts. The document is read already. */
ATL_MUST_CHECK enum atl_code lxc_work_start(struct lxc_work *work, struct atl_error *err);

/* Shuts it down within the spec's timeout; force: stops what does not hear. */
ATL_MUST_CHECK enum atl_code lxc_work_halt(struct lxc_work *work, bool force, struct atl_error *err);

/* Path and format of a volume. */
ATL_MUST_CHECK enum atl_code lxc_work_mount(struct lxc_work *work, const struct cmp_lxc_mount *mount,
                                            Atoll__Lxc__V1__Mount **ret_mount, struct atl_error *err);

enum { CMP_LXC_TASKS = 10 };
extern const struct atl_task_type cmp_lxc_tasks[CMP_LXC_TASKS];

/* In lxc_create.c, lxc_remove.c and lxc_move.c. */
enum atl_code lxc_task_migrate(struct atl_task *task, const uint8_t *spec, size_t size,
                               struct atl_error *err);
enum atl_code lxc_task_create(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err);
enum atl_code lxc_task_destroy(struct atl_task *task, const uint8_t *spec, size_t size,
                               struct atl_error *err);
enum atl_code lxc_task_resize(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err);

#endif
