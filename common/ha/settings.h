/* The settings of high availability out of datacenter.cfg: its lines `ha:` and `crs:`. Pure. */
#ifndef ATL_HA_SETTINGS_H
#define ATL_HA_SETTINGS_H

#include "atoll/ha/v1/state.pb-c.h"
#include "pure/arena.h"

/* text: of the file, terminated; NULL: there is none. A line that cannot be taken is as if it were not there.
 * Everything that has a default is filled in. */
Atoll__Ha__V1__Settings *atl_ha_settings(const char *text, struct atl_arena *arena);

#endif
