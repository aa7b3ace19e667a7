/*
 * The secrets that all nodes of a cluster share, as files of this node: corosync's key, the keys of priv/,
 * the authority and what it has signed. Those of the next generation lie in DIR/next until they are used;
 * core/rotation.h says when.
 */
#ifndef CFG_CLUSTER_SECRETS_H
#define CFG_CLUSTER_SECRETS_H

#include "cluster/pki.h"
#include "core/rotation.h"

enum { CFG_AUTHKEY_BYTES = 256, CFG_AUTHKEY_MAX = 1024 };

struct cfg_secrets {
    uint64_t generation;
    struct atl_buf ca;          /* PEM; more than one certificate while the authority changes */
    struct atl_buf certificate; /* of the one they are for, PEM */
    struct atl_buf authkey;
    struct atl_buf priv_key; /* one or more keys, the first to write with */
    struct atl_buf ca_key;   /* PEM; empty: not for everybody */
};
/* Forgets them. */
void cfg_secrets_done(struct cfg_secrets *secrets);
#define CFG_SECRETS_AT_EXIT ATL_CLEANUP(cfg_secrets_done)

/* A new key of corosync. Errors: ATL_E_INTERNAL. */
ATL_MUST_CHECK enum atl_code cfg_secrets_authkey(struct atl_buf *ret_key, struct atl_error *err);

/* Which generation this node uses, and nothing else. Errors: ATL_E_IO. */
uint64_t cfg_secrets_generation(const struct cfg_place *place);
ATL_MUST_CHECK enum atl_code cfg_secrets_set_generation(const struct cfg_place *place, uint64_t generation,
                                                        struct atl_error *err);
/* Do those of that generation lie ready in DIR/next, all of them? */
bool cfg_secrets_prepared(const struct cfg_place *place, uint64_t generation);

struct cfg_secrets_wish {
    uint64_t generation;
    const char *cluster;
    struct cfg_pki_subject subject; /* ourselves */
};
/* Makes new ones in DIR/next. Errors: ATL_E_IO, ATL_E_INTERNAL. */
ATL_MUST_CHECK enum atl_code cfg_secrets_make(const struct cfg_place *place,
                                              const struct cfg_secrets_wish *wish, struct atl_error *err);
/* Puts what another node gave into DIR/next. Errors: ATL_E_IO. */
ATL_MUST_CHECK enum atl_code cfg_secrets_keep(const struct cfg_place *place,
                                              const struct cfg_secrets *secrets, struct atl_error *err);
/* Reads those that are used, or the next ones, without a certificate. Errors: ATL_E_IO, ATL_E_ABSENT. */
ATL_MUST_CHECK enum atl_code cfg_secrets_read(const struct cfg_place *place, bool next,
                                              struct cfg_secrets *ret_secrets, struct atl_error *err);
/*
 * Makes of the next ones what the phase wants, and what the phases before it wanted; may be done again. After
 * SPREAD and DROP etcd has to begin anew, after USE and DROP corosync has to read its key.
 * Errors: ATL_E_IO, ATL_E_ABSENT.
 */
ATL_MUST_CHECK enum atl_code cfg_secrets_apply(const struct cfg_place *place, enum cfg_rotation_phase phase,
                                               struct atl_error *err);

#endif
