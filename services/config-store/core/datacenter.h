/* datacenter.cfg as the API shows and changes it. Pure; everything lives in the arena that is given. */
#ifndef CFG_DATACENTER_H
#define CFG_DATACENTER_H

#include "atoll/cluster/v1/options.pb-c.h"
#include "pure/buf.h"
#include "pure/codec.h"
#include "pure/error.h"

/* What the file says; lines that cannot be read are not there. text "" is an empty one. */
Atoll__Cluster__V1__Datacenter *cfg_datacenter_read(const char *text, size_t size, struct atl_arena *arena);

/* What everyone may see of it, in place: how consoles open, how tags look, what stands before a login. */
void cfg_datacenter_reduce(Atoll__Cluster__V1__Datacenter *options);

/*
 * The file after a change: what is given replaces what there is, what `delete` lists goes, lines that this
 * version does not know stay. Errors: ATL_E_INVALID, with errors that name the parameters; ATL_E_CONFLICT the
 * digest is another one; ATL_E_UNIMPLEMENTED.
 */
ATL_MUST_CHECK enum atl_code cfg_datacenter_change(const char *text, size_t size,
                                                   const Atoll__Cluster__V1__SetOptionsRequest *wish,
                                                   struct atl_arena *arena, struct atl_buf *out,
                                                   struct atl_errors *errors, struct atl_error *err);

#endif
