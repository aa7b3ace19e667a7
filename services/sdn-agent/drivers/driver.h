/*
 * How the sdn-agent sees and changes a host's network. One const table; the only one now is the kernel's,
 * "linux". Functions do not block for longer than a netlink or nftables transaction takes (a few
 * milliseconds) and belong to the loop's thread.
 */
#ifndef SDN_DRIVERS_DRIVER_H
#define SDN_DRIVERS_DRIVER_H

#include "core/plan.h"

struct sdn_driver {
    const char *name;
    /* Fills links and addresses of *state; they live in the arena. Errors: ATL_E_IO. */
    enum atl_code (*observe)(void *self, struct atl_arena *arena, struct sdn_state *state,
                             struct atl_error *err);
    /* Makes a bridge; answers its index. Errors: ATL_E_EXISTS, ATL_E_IO. */
    enum atl_code (*make_bridge)(void *self, const char *name, uint32_t mtu, int *ret_index,
                                 struct atl_error *err);
    enum atl_code (*remove_link)(void *self, const char *name, struct atl_error *err);
    enum atl_code (*add_address)(void *self, const char *name, const struct sdn_address *address,
                                 struct atl_error *err);
    enum atl_code (*set_up)(void *self, const char *name, bool up, struct atl_error *err);
    enum atl_code (*attach)(void *self, const char *name, const char *bridge, struct atl_error *err);
    enum atl_code (*get_forwarding)(void *self, bool *ret_on, struct atl_error *err);
    enum atl_code (*set_forwarding)(void *self, bool on, struct atl_error *err);
    /* Replaces the table `ip atoll_nat` in one transaction; text NULL: takes it away. ret_listing: how the
     * kernel lists it then, to be freed with free(); NULL when it was taken away. */
    enum atl_code (*load_nat)(void *self, const char *text, char **ret_listing, struct atl_error *err);
    /* The listing, or NULL when there is no such table. */
    char *(*list_nat)(void *self);
    /* A descriptor that is readable when links or addresses changed, and what empties it. -1: none. */
    int (*events_fd)(void *self);
    void (*events_drain)(void *self);
    void (*close)(void *self);
};

/* Errors: ATL_E_IO the kernel gives no netlink socket. */
ATL_MUST_CHECK enum atl_code sdn_linux_open(void **ret_self, struct atl_error *err);
extern const struct sdn_driver sdn_driver_linux;

#endif
