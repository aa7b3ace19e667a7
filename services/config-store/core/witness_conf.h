/*
 * witness.conf of a witness: what it has been told by the cluster. Pure.
 */
#ifndef CFG_CORE_WITNESS_CONF_H
#define CFG_CORE_WITNESS_CONF_H

#include "core/cluster_conf.h"
#include "core/rotation.h"

enum { CFG_GATEWAYS_SIZE = 2048 };

struct cfg_witness_conf {
    char cluster[64];
    char address[CFG_ADDRESS_SIZE]; /* ours */
    /* of the certificates that are used here */
    uint64_t generation;
    enum cfg_rotation_phase phase;
    char gateways[CFG_GATEWAYS_SIZE]; /* ADDRESS:PORT/FINGERPRINT, with commas between */
    char word[CFG_JOIN_ID + 1];       /* the name of the word it came in with, nothing secret; "": not kept */
};
/* Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_witness_conf_read(const char *text, struct cfg_witness_conf *ret_conf,
                                                   struct atl_error *err);
void cfg_witness_conf_write(const struct cfg_witness_conf *conf, struct atl_buf *out);

/* The i-th of the gateways, counted round and round. Errors: ATL_E_INVALID there is none. */
struct cfg_gateway {
    char endpoint[CFG_ADDRESS_SIZE + 8];
    char fingerprint[CFG_FINGERPRINT_SIZE];
};
ATL_MUST_CHECK enum atl_code cfg_witness_gateway(const struct cfg_witness_conf *conf, size_t i,
                                                 struct cfg_gateway *ret_gateway, struct atl_error *err);

#endif
