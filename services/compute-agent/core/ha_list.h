/* Which guests are under high availability, out of ha/resources.cfg. Pure. */
#ifndef CMP_CORE_HA_LIST_H
#define CMP_CORE_HA_LIST_H

#include "pure/base.h"

struct cmp_ha_entry {
    char state[16]; /* what is wanted; "started" when the file does not say */
    char group[64]; /* or empty */
};

/* Is there a section `TYPE: VMID` ("vm", "ct")? text: of the file, terminated, or NULL. ret_entry is written
 * in any case. */
bool cmp_ha_listed(const char *text, const char *type, uint32_t vmid, struct cmp_ha_entry *ret_entry);

#endif
