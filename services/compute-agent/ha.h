/*
 * Guests under high availability: what users ask of them is asked of the manager (ha-crm), and comes back as
 * an order of ha-lrm. What ha-lrm asks is done.
 */
#ifndef CMP_HA_H
#define CMP_HA_H

#include "cmp.h"

/* Is the guest a resource that is not ignored? kind: "qemu-server" or "lxc". */
bool cmp_ha_managed(const struct cmp *cmp, const char *kind, uint32_t vmid);

struct cmp_ha_wish {
    const char *kind; /* "qemu-server", "lxc" */
    uint32_t vmid;
    const char *verb;   /* "start", "stop" (at once), "shutdown", "migrate" */
    const char *target; /* migrate */
};
/* True: the guest is managed and a user asks; the request is answered with the task that asks the manager. */
bool cmp_ha_takes(struct cmp *cmp, struct atl_request *request, const struct cmp_ha_wish *wish);

/* Refuses to remove what is a resource, unless it is to be taken out of there: then *ret_forget is true.
 * Errors: ATL_E_STATE. */
ATL_MUST_CHECK enum atl_code cmp_ha_unused(const struct cmp *cmp, const char *kind, uint32_t vmid, bool purge,
                                           bool *ret_forget, struct atl_error *err);
/* May the caller put new guests under high availability, if he wants to? Errors: ATL_E_DENIED. */
ATL_MUST_CHECK enum atl_code cmp_ha_may_add(struct cmp *cmp, struct atl_request *request, bool wanted,
                                            struct atl_error *err);

/* In tasks; kind: as above. A new resource: to be started, else to be kept stopped. Errors: of the call. */
ATL_MUST_CHECK enum atl_code cmp_ha_add(struct atl_task *task, const char *kind, uint32_t vmid, bool started,
                                        struct atl_error *err);
/* It is a resource no longer, and in no rule. Errors: of the call; none when it is no resource. */
ATL_MUST_CHECK enum atl_code cmp_ha_forget(struct atl_task *task, const char *kind, uint32_t vmid,
                                           struct atl_error *err);

/* The field `ha` of a guest's status: {"managed":1,"state":"started"}; in the arena. */
const char *cmp_ha_json(const struct cmp *cmp, const char *kind, uint32_t vmid, struct atl_arena *arena);

#endif
