/* Self-signed certificates. */
#include "cert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pure/base.h"
#include "pure/buf.h"

enum { DAYS = 3650, NAME_MAX_BYTES = 64, SERIAL_BITS = 127 };

static bool add_extension(X509 *cert, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return ok;
}

/* "DNS:pve1,IP:127.0.0.1" out of "pve1,127.0.0.1"; false when a name holds what no name holds. */
static bool alternative_names(const char *names, struct atl_buf *out)
{
    while (*names != '\0') {
        size_t length = strcspn(names, ",");
        char name[NAME_MAX_BYTES];
        unsigned char address[16];
        if (length == 0 || length >= sizeof name ||
            strspn(names, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:*") < length)
            return false;
        memcpy(name, names, length);
        name[length] = '\0';
        bool is_address = inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
        atl_buf_printf(out, "%s%s:%s", out->length > 0 ? "," : "", is_address ? "IP" : "DNS", name);
        names += length;
        names += *names == ',' ? 1 : 0;
    }
    return out->length > 0;
}

static X509 *make_cert(EVP_PKEY *key, const char *first_name, size_t first_length, const char *alternatives)
{
    X509 *cert = X509_new();
    BIGNUM *serial = BN_new();
    atl_assert(cert != NULL);
    atl_assert(serial != NULL);
    X509_NAME *name = X509_get_subject_name(cert);
    bool ok =
        X509_set_version(cert, X509_VERSION_3) == 1 &&
        BN_rand(serial, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
        BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)) != NULL &&
        X509_gmtime_adj(X509_getm_notBefore(cert), -300) != NULL &&
        X509_gmtime_adj(X509_getm_notAfter(cert), (long)DAYS * 86400) != NULL &&
        X509_set_pubkey(cert, key) == 1 &&
        X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"Atoll", -1, -1, 0) == 1 &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)first_name,
                                   (int)first_length, -1, 0) == 1 &&
        X509_set_issuer_name(cert, name) == 1 &&
        add_extension(cert, NID_basic_constraints, "critical,CA:FALSE") &&
        add_extension(cert, NID_key_usage, "critical,digitalSignature") &&
        add_extension(cert, NID_ext_key_usage, "serverAuth") &&
        add_extension(cert, NID_subject_key_identifier, "hash") &&
        add_extension(cert, NID_subject_alt_name, alternatives) && X509_sign(cert, key, EVP_sha256()) > 0;
    BN_free(serial);
    if (!ok) {
        X509_free(cert);
        return NULL;
    }
    return cert;
}

/* Opens PATH.new; it becomes PATH when all is written. */
static FILE *open_new(const char *path, mode_t mode, char **ret_new)
{
    *ret_new = atl_format("%s.new", path);
    (void)unlink(*ret_new); /* left by one that was cut off */
    int fd = open(*ret_new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL && fd >= 0)
        (void)close(fd);
    return file;
}

static enum atl_code write_pem(const char *path, mode_t mode, X509 *cert, EVP_PKEY *key,
                               struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *fresh = NULL;
    FILE *file = open_new(path, mode, &fresh);
    if (file == NULL)
        return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(errno));
    int wrote = cert != NULL ? PEM_write_X509(file, cert)
                             : PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    bool synced = wrote == 1 && fflush(file) == 0 && fsync(fileno(file)) == 0;
    bool closed = fclose(file) == 0;
    if (!synced || !closed || rename(fresh, path) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(errno));
    return ATL_OK;
}

enum atl_code gw_cert_make(const char *names, const char *cert_file, const char *key_file,
                           struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf alternatives = {0};
    if (!alternative_names(names, &alternatives))
        return atl_fail(err, ATL_E_INVALID, "make-cert", "'%s' is no list of host names and addresses",
                        names);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    atl_assert(key != NULL);
    X509 *cert = make_cert(key, names, strcspn(names, ","), alternatives.data);
    enum atl_code code = ATL_OK;
    if (cert == NULL)
        code = atl_fail(err, ATL_E_INVALID, "make-cert", "no certificate can be made for '%s'", names);
    if (code == ATL_OK)
        code = write_pem(key_file, 0600, NULL, key, err);
    if (code == ATL_OK)
        code = write_pem(cert_file, 0644, cert, NULL, err);
    X509_free(cert);
    EVP_PKEY_free(key);
    return code;
}
