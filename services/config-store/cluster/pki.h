/* The cluster's authority and the certificates of etcd: EC P-256, OpenSSL. */
#ifndef CFG_CLUSTER_PKI_H
#define CFG_CLUSTER_PKI_H

#include "cluster/place.h"

/* Makes an authority: DIR/ca.key (0600) and DIR/etcd/ca.pem. Errors: ATL_E_IO, ATL_E_INTERNAL. */
ATL_MUST_CHECK enum atl_code cfg_pki_make_ca(const struct cfg_place *place, const char *cluster,
                                             struct atl_error *err);
/* Makes DIR/etcd/node.key and a request for its certificate (PEM). */
ATL_MUST_CHECK enum atl_code cfg_pki_make_request(const struct cfg_place *place, struct atl_buf *ret_csr,
                                                  struct atl_error *err);

struct cfg_pki_subject { /* what the certificate will say; what the request says of names is not taken */
    const char *node;
    const char *address;
};
/* Signs a request with the authority's key. Errors: ATL_E_STATE its key is not on this node; ATL_E_INVALID
 * "csr" it is no request, or not signed with its own key. */
ATL_MUST_CHECK enum atl_code cfg_pki_sign(const struct cfg_place *place, const char *csr,
                                          const struct cfg_pki_subject *subject, struct atl_buf *ret_cert,
                                          struct atl_error *err);

#endif
