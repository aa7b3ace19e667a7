/* What shells save of their cores' views, looked at again. */
#ifndef SIM_REPLAY_H
#define SIM_REPLAY_H

#include "sim.h"

/* Prints the plan that the core makes of the saved view. Errors: ATL_E_ABSENT, ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code sim_replay(const char *path, FILE *out, struct atl_error *err);

/* Makes a cluster as the manager saw it, and begins. *ret_saved is to live as long as sim, also when this
 * fails with ATL_E_LIMIT; free it with atoll__ha__v1__saved__free_unpacked(). */
ATL_MUST_CHECK enum atl_code sim_from_saved(struct sim *sim, const char *path,
                                            Atoll__Ha__V1__Saved **ret_saved, struct atl_error *err);

#endif
