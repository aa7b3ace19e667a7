/* The fingerprint of a configuration file, as clients know and give it back: SHA-1 in lower-case hexadecimal.
 * It tells files apart, and keeps nothing safe. Pure. */
#ifndef ATL_PURE_DIGEST_H
#define ATL_PURE_DIGEST_H

#include "pure/base.h"
#include "pure/error.h"

enum { ATL_DIGEST_SIZE = 41 }; /* with the NUL */

void atl_digest(const char *text, size_t length, char ret_digest[ATL_DIGEST_SIZE]);

/* Is the file still the one that the client has seen? wanted NULL or "": he does not ask. ATL_E_CONFLICT with
 * the sentence that clients know. */
ATL_MUST_CHECK enum atl_code atl_digest_check(const char *digest, const char *wanted, struct atl_error *err);

#endif
