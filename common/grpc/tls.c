/* The TLS side of a connection: our certificate, theirs verified for a name or an address, ALPN h2. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "grpc/internal.h"

void grpc_tls_why(const SSL *ssl, char *text, size_t size)
{
    unsigned long error = ERR_get_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    long verify = ssl != NULL ? SSL_get_verify_result(ssl) : X509_V_OK;
    if (verify != X509_V_OK)
        (void)snprintf(text, size, "certificate refused: %s", X509_verify_cert_error_string(verify));
    else
        (void)snprintf(text, size, "%s", reason != NULL ? reason : "the other side closed the connection");
    ERR_clear_error();
}

static enum atl_code load_files(SSL_CTX *context, const struct atl_grpc_tls *tls, struct atl_error *err)
{
    char why[128];
    ERR_clear_error();
    if (SSL_CTX_load_verify_file(context, tls->ca_file) != 1) {
        grpc_tls_why(NULL, why, sizeof why);
        return atl_fail(err, ATL_E_IO, NULL, "cannot use '%s': %s", tls->ca_file, why);
    }
    if (tls->cert_file == NULL)
        return ATL_OK;
    if (SSL_CTX_use_certificate_chain_file(context, tls->cert_file) != 1) {
        grpc_tls_why(NULL, why, sizeof why);
        return atl_fail(err, ATL_E_IO, NULL, "cannot use '%s': %s", tls->cert_file, why);
    }
    if (SSL_CTX_use_PrivateKey_file(context, tls->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(context) != 1) {
        grpc_tls_why(NULL, why, sizeof why);
        return atl_fail(err, ATL_E_IO, NULL, "cannot use '%s': %s", tls->key_file, why);
    }
    return ATL_OK;
}

/* Whom we talk to: an address is looked for among the certificate's addresses, a name among its names. */
static bool set_peer(SSL *ssl, const char *name)
{
    uint8_t bytes[sizeof(struct in6_addr)];
    if (inet_pton(AF_INET, name, bytes) == 1 || inet_pton(AF_INET6, name, bytes) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1;
    /* What SSL_set_tlsext_host_name() does, but for its cast, which clang does not like. */
    return SSL_set1_host(ssl, name) == 1 && SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME,
                                                     TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)name) == 1;
}

enum atl_code grpc_tls_new(const struct atl_grpc_tls *tls, const char *host, int fd, SSL **ret_ssl,
                           struct atl_error *err)
{
    static const uint8_t protocols[] = {2, 'h', '2'};
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    atl_assert(context != NULL);
    (void)SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION); /* always known to OpenSSL */
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    (void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    enum atl_code code = load_files(context, tls, err);
    SSL *ssl = code == ATL_OK ? SSL_new(context) : NULL;
    SSL_CTX_free(context); /* the SSL holds it */
    if (code != ATL_OK)
        return code;
    atl_assert(ssl != NULL);
    if (SSL_set_alpn_protos(ssl, protocols, sizeof protocols) != 0 || SSL_set_fd(ssl, fd) != 1 ||
        !set_peer(ssl, tls->name != NULL ? tls->name : host)) {
        SSL_free(ssl);
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is no name of a TLS server",
                        tls->name != NULL ? tls->name : host);
    }
    SSL_set_connect_state(ssl);
    *ret_ssl = ssl;
    return ATL_OK;
}
