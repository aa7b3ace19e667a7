/* The address by which this host would reach another. */
#ifndef CFG_CLUSTER_ADDRESS_H
#define CFG_CLUSTER_ADDRESS_H

#include "core/cluster_conf.h"

/* peer: HOST, HOST:PORT or [HOST]:PORT. False: there is none that others could reach. Blocks for the name. */
bool cfg_address_towards(const char *peer, char ret_address[CFG_ADDRESS_SIZE]);

#endif
