/* The fingerprint of a configuration file. */
#include "pure/digest.h"

#include <openssl/evp.h>
#include <strings.h>

void atl_digest(const char *text, size_t length, char ret_digest[ATL_DIGEST_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char sum[EVP_MAX_MD_SIZE] = {0};
    unsigned int size = 0;
    int done = EVP_Digest(text, length, sum, &size, EVP_sha1(), NULL);
    atl_assert(done == 1);
    atl_assert(size == (ATL_DIGEST_SIZE - 1) / 2);
    for (size_t i = 0; i < size; i++) {
        ret_digest[2 * i] = hex[sum[i] >> 4];
        ret_digest[2 * i + 1] = hex[sum[i] & 15];
    }
    ret_digest[ATL_DIGEST_SIZE - 1] = '\0';
}

enum atl_code atl_digest_check(const char *digest, const char *wanted, struct atl_error *err)
{
    if (wanted == NULL || wanted[0] == '\0' || strcasecmp(wanted, digest) == 0)
        return ATL_OK;
    return atl_fail(err, ATL_E_CONFLICT, "digest",
                    "detected modified configuration - file changed by other user? Try again.");
}
