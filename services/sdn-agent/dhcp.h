/*
 * DHCP for bridges: one dnsmasq each, a daemon of its own that lives on when the agent ends. A restarted
 * agent knows it again by its pid file and by its command line, which names the configuration file that only
 * we write.
 */
#ifndef SDN_DHCP_H
#define SDN_DHCP_H

#include "core/plan.h"
#include "io/loop.h"

struct sdn_dhcp;

/* loop may be NULL: then only sdn_dhcp_stop_all() may be called. Adopts what runs. Never NULL. */
struct sdn_dhcp *sdn_dhcp_open(struct atl_loop *loop, const struct sdn_dhcp_paths *paths);
void sdn_dhcp_free(struct sdn_dhcp **dhcp); /* the servers go on */

/* Those that run or are being started, in the arena. */
const struct sdn_dhcp_state *sdn_dhcp_states(struct sdn_dhcp *dhcp, struct atl_arena *arena,
                                             size_t *ret_count);

/* Starts a server; what becomes of it is seen in sdn_dhcp_states() and in the log. One that failed lately is
 * not tried again for some seconds: then nothing happens. Errors: ATL_E_IO, ATL_E_ABSENT dnsmasq is not
 * installed. */
ATL_MUST_CHECK enum atl_code sdn_dhcp_start(struct sdn_dhcp *dhcp, const char *bridge, const char *text,
                                            struct atl_error *err);
/* Ends a server and takes its configuration away; leases stay. Not running: fine. */
void sdn_dhcp_stop(struct sdn_dhcp *dhcp, const char *bridge);
void sdn_dhcp_stop_all(struct sdn_dhcp *dhcp);

#endif
