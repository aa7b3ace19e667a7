/* The TLS context of the server. */
#include <openssl/err.h>
#include <string.h>

#include "http/internal.h"

/* HTTP/2 where the client offers it, else HTTP/1.1, whatever else it offers. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *offered, unsigned int length, void *user)
{
    (void)ssl;
    (void)user;
    static const char *const wanted[] = {"h2", "http/1.1"};
    for (size_t i = 0; i < ATL_COUNT(wanted); i++) {
        size_t size = strlen(wanted[i]);
        for (unsigned int at = 0; at < length && at + offered[at] < length; at += offered[at] + 1U) {
            if (offered[at] == size && memcmp(offered + at + 1, wanted[i], size) == 0) {
                *out = offered + at + 1;
                *out_length = offered[at];
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static const char *reason(void)
{
    unsigned long code = ERR_get_error();
    const char *text = ERR_reason_error_string(code);
    ERR_clear_error();
    return text != NULL ? text : "unknown cause";
}

enum atl_code gw_tls_context(const char *cert_file, const char *key_file, SSL_CTX **ret_context,
                             struct atl_error *err)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    atl_assert(context != NULL);
    (void)SSL_CTX_set_min_proto_version(context,
                                        TLS1_2_VERSION); /* a constant that is known cannot be refused */
    (void)SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                           SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                           SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                        SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* tickets carry it all */
    (void)SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    enum atl_code code = ATL_OK;
    if (SSL_CTX_use_certificate_chain_file(context, cert_file) != 1)
        code = atl_fail(err, ATL_E_IO, "cert", "cannot use the certificate '%s': %s", cert_file, reason());
    else if (SSL_CTX_use_PrivateKey_file(context, key_file, SSL_FILETYPE_PEM) != 1)
        code = atl_fail(err, ATL_E_IO, "key", "cannot use the key '%s': %s", key_file, reason());
    else if (SSL_CTX_check_private_key(context) != 1)
        code = atl_fail(err, ATL_E_IO, "key", "key '%s' does not belong to certificate '%s'", key_file,
                        cert_file);
    if (code != ATL_OK) {
        SSL_CTX_free(context);
        return code;
    }
    *ret_context = context;
    return ATL_OK;
}
