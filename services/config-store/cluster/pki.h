/* The cluster's authority and the certificates of etcd: EC P-256, OpenSSL. */
#ifndef CFG_CLUSTER_PKI_H
#define CFG_CLUSTER_PKI_H

#include "cluster/place.h"

/* The files of an authority. Of several certificates in one file the first is the one that signs. */
struct cfg_pki_authority {
    const char *key;
    const char *cert;
};
extern const struct cfg_pki_authority cfg_pki_current; /* DIR/ca.key, DIR/etcd/ca.pem */
extern const struct cfg_pki_authority cfg_pki_next;    /* in DIR/next */

/* Makes an authority; its key's file has 0600. name: of whom it says it is. Errors: ATL_E_IO, ATL_E_INTERNAL.
 */
ATL_MUST_CHECK enum atl_code cfg_pki_make_ca(const struct cfg_place *place,
                                             const struct cfg_pki_authority *authority, const char *name,
                                             struct atl_error *err);
/* Makes DIR/etcd/node.key and a request for its certificate (PEM). */
ATL_MUST_CHECK enum atl_code cfg_pki_make_request(const struct cfg_place *place, struct atl_buf *ret_csr,
                                                  struct atl_error *err);
/* Another request with the key that is there. Errors: ATL_E_IO, ATL_E_ABSENT, ATL_E_INTERNAL. */
ATL_MUST_CHECK enum atl_code cfg_pki_request(const struct cfg_place *place, struct atl_buf *ret_csr,
                                             struct atl_error *err);

struct cfg_pki_subject { /* what the certificate will say; what the request says of names is not taken */
    const char *node;
    const char *address;
    const char
        *cluster; /* by this name the witness's corosync-qnetd knows the nodes; NULL: not one of them */
};
/* Signs a request with the authority's key, for place->life_s. Errors: ATL_E_STATE its key is not on this
 * node; ATL_E_INVALID "csr" it is no request, or not signed with its own key. */
ATL_MUST_CHECK enum atl_code cfg_pki_sign(const struct cfg_place *place,
                                          const struct cfg_pki_authority *authority, const char *csr,
                                          const struct cfg_pki_subject *subject, struct atl_buf *ret_cert,
                                          struct atl_error *err);

enum { CFG_KEY_HASH = 32 };
/* SHA-256 of the key that a request is about, and was signed with. Errors: ATL_E_INVALID "csr". */
ATL_MUST_CHECK enum atl_code cfg_pki_key_hash(const char *csr, uint8_t ret_hash[CFG_KEY_HASH],
                                              struct atl_error *err);

/* Is the first certificate of the file to be renewed (core/rotation.h)? Also when it cannot be read. */
bool cfg_pki_due(const struct cfg_place *place, const char *name, int64_t now);

#endif
