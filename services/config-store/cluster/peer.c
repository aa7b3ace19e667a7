/* The REST of a node that is not ours yet. */
#include "cluster/peer.h"

#include <curl/curl.h>
#include <json-c/json.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/cluster_conf.h"

enum { ANSWER_MAX = 1 << 20, CONNECT_SECONDS = 5, ANSWER_SECONDS = 40, HTTP_OK = 200 };

struct cfg_peer {
    CURL *curl;
    char *endpoint;
    char fingerprint[CFG_FINGERPRINT_SIZE];
    bool other; /* the certificate that was shown is another one */
    struct atl_buf form;
    struct atl_buf answer;
    struct curl_slist *headers;
};

/* --- trust --- */

/* In place of any chain: is the leaf the one that was named? */
static int check_leaf(X509_STORE_CTX *context, void *user)
{
    struct cfg_peer *peer = user;
    X509 *leaf = X509_STORE_CTX_get0_cert(context);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    char text[CFG_FINGERPRINT_SIZE] = "";
    if (leaf == NULL || X509_digest(leaf, EVP_sha256(), digest, &size) != 1)
        return 0;
    for (unsigned int i = 0; i < size; i++)
        (void)snprintf(text + (size_t)i * 3, 4, i + 1 < size ? "%02X:" : "%02X", digest[i]);
    peer->other = strcasecmp(text, peer->fingerprint) != 0;
    if (peer->other)
        X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_REJECTED);
    return peer->other ? 0 : 1;
}

static CURLcode set_trust(CURL *curl, void *ssl_context, void *user)
{
    (void)curl;
    SSL_CTX_set_cert_verify_callback(ssl_context, check_leaf, user);
    return CURLE_OK;
}

static size_t on_data(char *bytes, size_t size, size_t count, void *user)
{
    struct cfg_peer *peer = user;
    if (peer->answer.length + size * count > ANSWER_MAX)
        return 0;
    atl_buf_add(&peer->answer, bytes, size * count);
    return size * count;
}

struct cfg_peer *cfg_peer_new(const char *endpoint, const char *fingerprint)
{
    struct cfg_peer *peer = atl_new0(struct cfg_peer);
    peer->endpoint = atl_strdup(endpoint);
    (void)atl_copy(peer->fingerprint, sizeof peer->fingerprint, fingerprint);
    peer->curl = curl_easy_init();
    atl_assert(peer->curl != NULL);
    (void)curl_easy_setopt(peer->curl, CURLOPT_SSL_CTX_FUNCTION, set_trust);
    (void)curl_easy_setopt(peer->curl, CURLOPT_SSL_CTX_DATA, peer);
    (void)curl_easy_setopt(peer->curl, CURLOPT_SSL_VERIFYHOST, 0L); /* the fingerprint says more */
    (void)curl_easy_setopt(peer->curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    (void)curl_easy_setopt(peer->curl, CURLOPT_TIMEOUT, (long)ANSWER_SECONDS);
    (void)curl_easy_setopt(peer->curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(peer->curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(peer->curl, CURLOPT_PROTOCOLS_STR, "https");
    (void)curl_easy_setopt(peer->curl, CURLOPT_WRITEFUNCTION, on_data);
    (void)curl_easy_setopt(peer->curl, CURLOPT_WRITEDATA, peer);
    return peer;
}

void cfg_peer_limit(struct cfg_peer *peer, unsigned int seconds)
{
    (void)curl_easy_setopt(peer->curl, CURLOPT_CONNECTTIMEOUT, (long)seconds);
    (void)curl_easy_setopt(peer->curl, CURLOPT_TIMEOUT, (long)seconds);
}

static void wipe_form(struct cfg_peer *peer)
{
    if (peer->form.data != NULL) /* there may be a password in it */
        explicit_bzero(peer->form.data, peer->form.capacity);
    atl_buf_reset(&peer->form);
}

void cfg_peer_free(struct cfg_peer **pointer)
{
    struct cfg_peer *peer = *pointer;
    *pointer = NULL;
    if (peer == NULL)
        return;
    wipe_form(peer);
    curl_easy_cleanup(peer->curl);
    curl_slist_free_all(peer->headers);
    atl_buf_done(&peer->form);
    atl_buf_done(&peer->answer);
    free(peer->endpoint);
    free(peer);
}

/* --- asking --- */

void cfg_peer_param(struct cfg_peer *peer, const char *name, const char *value)
{
    char *escaped = curl_easy_escape(peer->curl, value, 0);
    atl_assert(escaped != NULL);
    atl_buf_printf(&peer->form, "%s%s=%s", peer->form.length > 0 ? "&" : "", name, escaped);
    explicit_bzero(escaped, strlen(escaped));
    curl_free(escaped);
}

const char *cfg_peer_text(struct json_object *data, const char *name)
{
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(data, name, &value) || !json_object_is_type(value, json_type_string))
        return NULL;
    return json_object_get_string(value);
}

/* What it says when it refuses: the first error of a parameter, or the message. */
static const char *words(struct json_object *answer)
{
    struct json_object *errors = NULL;
    if (json_object_object_get_ex(answer, "errors", &errors) &&
        json_object_is_type(errors, json_type_object) && json_object_object_length(errors) > 0) {
        struct json_object_iterator first = json_object_iter_begin(errors);
        return json_object_get_string(json_object_iter_peek_value(&first));
    }
    const char *message = cfg_peer_text(answer, "message");
    return message != NULL ? message : "it gives no reason";
}

static enum atl_code take_answer(struct cfg_peer *peer, long status, struct json_object **ret_data,
                                 struct atl_error *err)
{
    struct json_object *answer = json_tokener_parse(peer->answer.data != NULL ? peer->answer.data : "");
    struct json_object *data = NULL;
    enum atl_code code = ATL_OK;
    if (answer == NULL || !json_object_is_type(answer, json_type_object))
        code = atl_fail(err, ATL_E_STATE, NULL, "%s answers %ld and no JSON", peer->endpoint, status);
    else if (status != HTTP_OK)
        code = atl_fail(err, ATL_E_STATE, NULL, "%s says: %s", peer->endpoint, words(answer));
    else if (!json_object_object_get_ex(answer, "data", &data) || data == NULL)
        code = atl_fail(err, ATL_E_STATE, NULL, "%s answers without data", peer->endpoint);
    if (code == ATL_OK)
        *ret_data = json_object_get(data);
    json_object_put(answer);
    return code;
}

enum atl_code cfg_peer_post(struct cfg_peer *peer, const char *path, struct json_object **ret_data,
                            struct atl_error *err)
{
    char *url ATL_FREE_AT_EXIT = atl_format("https://%s/api2/json%s", peer->endpoint, path);
    long status = 0;
    peer->other = false;
    atl_buf_reset(&peer->answer);
    (void)curl_easy_setopt(peer->curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(peer->curl, CURLOPT_HTTPHEADER, peer->headers);
    (void)curl_easy_setopt(peer->curl, CURLOPT_POSTFIELDSIZE, (long)peer->form.length);
    (void)curl_easy_setopt(peer->curl, CURLOPT_POSTFIELDS, peer->form.data);
    CURLcode done = curl_easy_perform(peer->curl);
    wipe_form(peer);
    if (peer->other)
        return atl_fail(err, ATL_E_DENIED, "fingerprint",
                        "%s has a certificate with another fingerprint; nothing was sent to it",
                        peer->endpoint);
    if (done != CURLE_OK)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "%s is not reached: %s", peer->endpoint,
                        curl_easy_strerror(done));
    (void)curl_easy_getinfo(peer->curl, CURLINFO_RESPONSE_CODE, &status);
    return take_answer(peer, status, ret_data, err);
}

static void add_header(struct cfg_peer *peer, const char *name, const char *value)
{
    char *line ATL_FREE_AT_EXIT = atl_format("%s%s", name, value);
    peer->headers = curl_slist_append(peer->headers, line);
    explicit_bzero(line, strlen(line));
}

enum atl_code cfg_peer_login(struct cfg_peer *peer, const char *user, const char *password,
                             struct atl_error *err)
{
    struct json_object *data = NULL;
    cfg_peer_param(peer, "username", user);
    cfg_peer_param(peer, "password", password);
    enum atl_code code = cfg_peer_post(peer, "/access/ticket", &data, err);
    if (code != ATL_OK)
        return code;
    const char *ticket = cfg_peer_text(data, "ticket");
    const char *csrf = cfg_peer_text(data, "CSRFPreventionToken");
    if (ticket != NULL && csrf != NULL) {
        char *escaped = curl_easy_escape(peer->curl, ticket, 0);
        add_header(peer, "Cookie: PVEAuthCookie=", escaped);
        add_header(peer, "CSRFPreventionToken: ", csrf);
        curl_free(escaped);
    } else {
        code = atl_fail(err, ATL_E_STATE, NULL, "%s asks for a second factor", peer->endpoint);
    }
    json_object_put(data);
    return code;
}
