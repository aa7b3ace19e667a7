/* The cluster's authority and the certificates of etcd. */
#include "cluster/pki.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "core/rotation.h"

enum { SERIAL_BYTES = 16, CLOCK_SKEW = 300 };
#define CA_SECONDS (INT64_C(7300) * 86400)

const struct cfg_pki_authority cfg_pki_current = {.key = "ca.key", .cert = "etcd/ca.pem"};
const struct cfg_pki_authority cfg_pki_next = {.key = "next/ca.key", .cert = "next/ca.pem"};

static void free_key(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}
static void free_cert(X509 **cert)
{
    X509_free(*cert);
}
static void free_request(X509_REQ **request)
{
    X509_REQ_free(*request);
}
#define KEY_AT_EXIT     ATL_CLEANUP(free_key)
#define CERT_AT_EXIT    ATL_CLEANUP(free_cert)
#define REQUEST_AT_EXIT ATL_CLEANUP(free_request)

static enum atl_code failed(struct atl_error *err, const char *what)
{
    return atl_fail(err, ATL_E_INTERNAL, NULL, "OpenSSL cannot make %s", what);
}

/* --- PEM --- */

static bool take_bio(BIO *bio, bool written, struct atl_buf *out)
{
    char *data = NULL;
    long size = bio != NULL && written ? BIO_get_mem_data(bio, &data) : 0;
    if (size > 0)
        atl_buf_add(out, data, (size_t)size);
    BIO_free(bio);
    return size > 0;
}

static bool key_to_pem(EVP_PKEY *key, struct atl_buf *out)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    return take_bio(bio, bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1,
                    out);
}

static bool cert_to_pem(X509 *cert, struct atl_buf *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    return take_bio(bio, bio != NULL && PEM_write_bio_X509(bio, cert) == 1, out);
}

static enum atl_code write_key(const struct cfg_place *place, const char *name, EVP_PKEY *key,
                               struct atl_error *err)
{
    struct atl_buf pem ATL_BUF_AT_EXIT = {0};
    if (!key_to_pem(key, &pem))
        return failed(err, "a key");
    enum atl_code code = cfg_place_write(place, name, &pem, err);
    explicit_bzero(pem.data, pem.capacity);
    return code;
}

/* --- certificates --- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

static bool set_serial(X509 *cert)
{
    uint8_t bytes[SERIAL_BYTES];
    if (RAND_bytes(bytes, sizeof bytes) != 1)
        return false;
    bytes[0] &= 0x7f; /* it is a positive number */
    BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
    bool ok = number != NULL && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return ok;
}

/* A certificate without extensions and signature. It begins a little ago, for clocks differ. */
static X509 *new_cert(EVP_PKEY *key, const char *name, int64_t seconds)
{
    long skew = seconds / 10 < CLOCK_SKEW ? (long)(seconds / 10) : CLOCK_SKEW;
    X509 *cert = X509_new();
    X509_NAME *subject = cert != NULL ? X509_get_subject_name(cert) : NULL;
    bool ok =
        subject != NULL && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -skew) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(cert), (long)seconds) != NULL && X509_set_pubkey(cert, key) == 1 &&
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0) == 1;
    if (ok)
        return cert;
    X509_free(cert);
    return NULL;
}

enum atl_code cfg_pki_make_ca(const struct cfg_place *place, const struct cfg_pki_authority *authority,
                              const char *name, struct atl_error *err)
{
    EVP_PKEY *key KEY_AT_EXIT = EVP_EC_gen("P-256");
    X509 *cert CERT_AT_EXIT = key != NULL ? new_cert(key, name, CA_SECONDS) : NULL;
    struct atl_buf pem ATL_BUF_AT_EXIT = {0};
    bool made = cert != NULL && X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
                add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                add_extension(cert, cert, NID_subject_key_identifier, "hash") &&
                X509_sign(cert, key, EVP_sha256()) > 0 && cert_to_pem(cert, &pem);
    if (!made)
        return failed(err, "the cluster's authority");
    enum atl_code code = write_key(place, authority->key, key, err);
    return code == ATL_OK ? cfg_place_write(place, authority->cert, &pem, err) : code;
}

static enum atl_code request_with(EVP_PKEY *key, struct atl_buf *ret_csr, struct atl_error *err)
{
    X509_REQ *request REQUEST_AT_EXIT = X509_REQ_new();
    if (request == NULL || X509_REQ_set_pubkey(request, key) != 1 ||
        X509_REQ_sign(request, key, EVP_sha256()) <= 0)
        return failed(err, "a request for a certificate");
    BIO *bio = BIO_new(BIO_s_mem());
    return take_bio(bio, bio != NULL && PEM_write_bio_X509_REQ(bio, request) == 1, ret_csr)
               ? ATL_OK
               : failed(err, "a request for a certificate");
}

enum atl_code cfg_pki_make_request(const struct cfg_place *place, struct atl_buf *ret_csr,
                                   struct atl_error *err)
{
    EVP_PKEY *key KEY_AT_EXIT = EVP_EC_gen("P-256");
    if (key == NULL)
        return failed(err, "a key");
    enum atl_code code = write_key(place, "etcd/node.key", key, err);
    return code == ATL_OK ? request_with(key, ret_csr, err) : code;
}

/* --- signing --- */

static EVP_PKEY *read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return key;
}

static X509 *read_cert(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return cert;
}

enum atl_code cfg_pki_request(const struct cfg_place *place, struct atl_buf *ret_csr, struct atl_error *err)
{
    struct atl_buf pem ATL_BUF_AT_EXIT = {0};
    enum atl_code code = cfg_place_read(place, "etcd/node.key", &pem, err);
    if (code != ATL_OK)
        return code;
    EVP_PKEY *key KEY_AT_EXIT = read_key(pem.data);
    explicit_bzero(pem.data, pem.capacity);
    return key != NULL ? request_with(key, ret_csr, err)
                       : atl_fail(err, ATL_E_IO, NULL, "etcd/node.key holds no key");
}

static X509_REQ *read_request(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_REQ *request = bio != NULL ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    return request;
}

/* The key of a request that was signed with it; the request's own. NULL: it is none. */
static EVP_PKEY *key_of(X509_REQ *request)
{
    EVP_PKEY *key = request != NULL ? X509_REQ_get0_pubkey(request) : NULL;
    return key != NULL && X509_REQ_verify(request, key) == 1 ? key : NULL;
}

enum atl_code cfg_pki_key_hash(const char *csr, uint8_t ret_hash[CFG_KEY_HASH], struct atl_error *err)
{
    X509_REQ *request REQUEST_AT_EXIT = read_request(csr);
    EVP_PKEY *key = key_of(request);
    unsigned char *bytes = NULL;
    int size = key != NULL ? i2d_PUBKEY(key, &bytes) : 0;
    bool done = size > 0 && EVP_Digest(bytes, (size_t)size, ret_hash, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_free(bytes);
    return done ? ATL_OK : atl_fail(err, ATL_E_INVALID, "csr", "this is no request for a certificate");
}

struct signing {
    EVP_PKEY *key;
    X509 *ca;
    int64_t life_s;
};

static enum atl_code sign(const struct signing *signing, EVP_PKEY *subject_key,
                          const struct cfg_pki_subject *subject, struct atl_buf *ret_cert)
{
    X509 *ca = signing->ca;
    X509 *cert CERT_AT_EXIT = new_cert(subject_key, subject->node, signing->life_s);
    char *names ATL_FREE_AT_EXIT =
        atl_format("DNS:%s,%s%s%sIP:%s,IP:127.0.0.1", subject->node, subject->cluster != NULL ? "DNS:" : "",
                   subject->cluster != NULL ? subject->cluster : "", subject->cluster != NULL ? "," : "",
                   subject->address);
    bool made = cert != NULL && X509_set_issuer_name(cert, X509_get_subject_name(ca)) == 1 &&
                add_extension(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
                add_extension(cert, ca, NID_key_usage, "critical,digitalSignature") &&
                add_extension(cert, ca, NID_ext_key_usage, "serverAuth,clientAuth") &&
                add_extension(cert, ca, NID_subject_key_identifier, "hash") &&
                add_extension(cert, ca, NID_authority_key_identifier, "keyid") &&
                add_extension(cert, ca, NID_subject_alt_name, names) &&
                X509_sign(cert, signing->key, EVP_sha256()) > 0 && cert_to_pem(cert, ret_cert);
    return made ? ATL_OK : ATL_E_INTERNAL;
}

enum atl_code cfg_pki_sign(const struct cfg_place *place, const struct cfg_pki_authority *authority,
                           const char *csr, const struct cfg_pki_subject *subject, struct atl_buf *ret_cert,
                           struct atl_error *err)
{
    struct atl_buf key_pem ATL_BUF_AT_EXIT = {0};
    struct atl_buf ca_pem ATL_BUF_AT_EXIT = {0};
    atl_assert(place->life_s > 0);
    if (cfg_place_read(place, authority->key, &key_pem, NULL) != ATL_OK)
        return atl_fail(err, ATL_E_STATE, NULL,
                        "the key of the cluster's authority is not on this node; ask one of the first three");
    enum atl_code code = cfg_place_read(place, authority->cert, &ca_pem, err);
    if (code != ATL_OK)
        return code;
    EVP_PKEY *ca_key KEY_AT_EXIT = read_key(key_pem.data);
    explicit_bzero(key_pem.data, key_pem.capacity);
    X509 *ca CERT_AT_EXIT = read_cert(ca_pem.data);
    if (ca_key == NULL || ca == NULL)
        return atl_fail(err, ATL_E_IO, NULL, "%s or %s cannot be read", authority->key, authority->cert);
    X509_REQ *request REQUEST_AT_EXIT = read_request(csr);
    EVP_PKEY *subject_key = key_of(request);
    if (subject_key == NULL)
        return atl_fail(err, ATL_E_INVALID, "csr", "this is no request for a certificate");
    const struct signing signing = {.key = ca_key, .ca = ca, .life_s = place->life_s};
    return sign(&signing, subject_key, subject, ret_cert) == ATL_OK ? ATL_OK : failed(err, "a certificate");
}

/* --- how long --- */

static bool to_seconds(const ASN1_TIME *time, int64_t *ret_seconds)
{
    struct tm parts;
    if (time == NULL || ASN1_TIME_to_tm(time, &parts) != 1)
        return false;
    *ret_seconds = timegm(&parts);
    return true;
}

bool cfg_pki_due(const struct cfg_place *place, const char *name, int64_t now)
{
    struct atl_buf pem ATL_BUF_AT_EXIT = {0};
    int64_t from = 0;
    int64_t to = 0;
    if (cfg_place_read(place, name, &pem, NULL) != ATL_OK)
        return true;
    X509 *cert CERT_AT_EXIT = read_cert(pem.data);
    if (cert == NULL || !to_seconds(X509_get0_notBefore(cert), &from) ||
        !to_seconds(X509_get0_notAfter(cert), &to))
        return true;
    return cfg_renewal_due(from, to, now);
}
