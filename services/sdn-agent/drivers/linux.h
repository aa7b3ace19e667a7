/* Inside of the driver for the kernel: netlink.c and nft.c share this. */
#ifndef SDN_DRIVERS_LINUX_H
#define SDN_DRIVERS_LINUX_H

#include <libmnl/libmnl.h>
#include <nftables/libnftables.h>

#include "drivers/driver.h"

struct sdn_linux {
    struct mnl_socket *requests;
    struct mnl_socket *events;
    struct nft_ctx *nft;
    unsigned int sequence;
};

enum atl_code sdn_nft_load(void *self, const char *text, char **ret_listing, struct atl_error *err);
char *sdn_nft_list(void *self);

#endif
