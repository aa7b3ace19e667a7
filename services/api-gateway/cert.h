/* A certificate for a gateway that has none yet. */
#ifndef GW_CERT_H
#define GW_CERT_H

#include "pure/error.h"

/*
 * Writes a new P-256 key (mode 0600) and a self-signed certificate (ten years, server only) to two PEM files;
 * the names (comma-separated host names and addresses) stand in it. Existing files are replaced, each at
 * once. Errors: ATL_E_INVALID no usable name; ATL_E_IO a file cannot be written.
 */
ATL_MUST_CHECK enum atl_code gw_cert_make(const char *names, const char *cert_file, const char *key_file,
                                          struct atl_error *err);

#endif
