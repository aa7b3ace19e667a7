/* What a request shows to say who it comes from: read from its headers, not judged here. */
#ifndef GW_CORE_CREDENTIAL_H
#define GW_CORE_CREDENTIAL_H

#include "core/head.h"

enum { GW_CREDENTIAL_MAX = 4096 };

enum gw_credential_kind {
    GW_NO_CREDENTIAL,
    GW_TICKET, /* of a login: cookie PVEAuthCookie, or Authorization: PVEAuthCookie=... */
    GW_TOKEN,  /* Authorization: PVEAPIToken=user@realm!name=secret */
};

struct gw_credential {
    enum gw_credential_kind kind;
    const char *value; /* decoded, in the arena; NULL without one */
    const char *csrf;  /* header CSRFPreventionToken, or NULL */
};

/* Never fails: what cannot be read is no credential. An API token beats a cookie. */
void gw_credential_find(const struct gw_head *head, struct atl_arena *arena, struct gw_credential *ret);

#endif
