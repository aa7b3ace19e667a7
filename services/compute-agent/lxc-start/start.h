/* The small deeds around a start: leftovers of cgroups, the file that tells who runs, links that stay down.
 */
#ifndef CT_START_H
#define CT_START_H

#include <sys/types.h>

#include "pure/error.h"

/* Removes that folder and those below it from every hierarchy, as far as they are empty: the first version of
 * cgroups cannot remove a monitor's folder while the monitor is ending in it. */
void ct_cgroup_remove(const char *name);

/* Writes FOLDER/run in one step and prints it. Errors: ATL_E_STATE the container has ended; ATL_E_IO. */
ATL_MUST_CHECK enum atl_code ct_run_file(const char *folder, pid_t init, struct atl_error *err);

void ct_link_down(const char *interface);

#endif
