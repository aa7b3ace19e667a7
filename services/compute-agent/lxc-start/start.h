/* The small deeds around a start: leftovers of cgroups, the file that tells who runs, links that stay down.
 */
#ifndef CT_START_H
#define CT_START_H

#include <sys/types.h>

#include "atoll/lxc/v1/helper.pb-c.h"
#include "io/task.h"
#include "pure/error.h"

enum { CT_TASK_TYPES = 1 };
extern const struct atl_task_type ct_task_types[CT_TASK_TYPES];

/* Mounts, sets up and starts. The process is in another mount namespace afterwards. */
ATL_MUST_CHECK enum atl_code ct_start(const Atoll__Lxc__V1__StartSpec *spec, struct atl_error *err);

/* Removes that folder and those below it from every hierarchy, as far as they are empty: the first version of
 * cgroups cannot remove a monitor's folder while the monitor is ending in it. */
void ct_cgroup_remove(const char *name);

/* Writes FOLDER/run in one step and prints it. Errors: ATL_E_STATE the container has ended; ATL_E_IO. */
ATL_MUST_CHECK enum atl_code ct_run_file(const char *folder, pid_t init, struct atl_error *err);

void ct_link_down(const char *interface);

#endif
