/* The realms that users log in with: pam and pve, and what domains.cfg says about them. */
#ifndef CFG_REALMS_H
#define CFG_REALMS_H

#include "atoll/access/v1/access.pb-c.h"
#include "pure/arena.h"
#include "pure/error.h"

enum { CFG_REALMS = 2 };

/*
 * Reads domains.cfg ("" if there is none): pam, then pve, each with its comment, second factor and whether it
 * is the default. Sections of realms of other types are passed over. The rows live in the arena. Errors:
 * ATL_E_INVALID it is no section file, a value is none, or a built-in name is given to another type.
 */
ATL_MUST_CHECK enum atl_code cfg_realms_read(const char *text, size_t length, struct atl_arena *arena,
                                             Atoll__Access__V1__DomainsRow *ret_rows[CFG_REALMS],
                                             struct atl_error *err);

#endif
