/* Streams: TLS contexts, the connecting side, reading and writing with deadlines. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/stream_internal.h"

/* Seconds, and a count. The last one also ends a connection whose other side takes nothing for so long. */
enum { PROBE_AFTER = 5, PROBE_EACH = 5, PROBES = 5, GIVE_UP = 30 };
enum { READ_AHEAD = 1 << 18 };
#define REKEY_BYTES ((uint64_t)64 << 30) /* well before what AES-GCM may do with one key */

void stream_set_socket(int fd)
{
    const struct {
        int level;
        int name;
        int value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, PROBE_AFTER},
        {IPPROTO_TCP, TCP_KEEPINTVL, PROBE_EACH},
        {IPPROTO_TCP, TCP_KEEPCNT, PROBES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, GIVE_UP * 1000},
    };
    for (size_t i = 0; i < ATL_COUNT(options); i++) /* known to every kernel; only promptness depends on it */
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

SSL_CTX *stream_context(const SSL_METHOD *method)
{
    SSL_CTX *context = SSL_CTX_new(method);
    atl_assert(context != NULL);
    int good =
        SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
        SSL_CTX_set_ciphersuites(
            context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384") == 1;
    atl_assert(good);
    (void)SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* answers the mode before */
    (void)SSL_CTX_set_num_tickets(context, 0);                         /* always taken */
    SSL_CTX_set_read_ahead(context, 1); /* many records with one call of the kernel */
    SSL_CTX_set_default_read_buffer_len(context, READ_AHEAD);
    return context;
}

struct atl_stream *stream_new(SSL *ssl, int fd, int stop)
{
    struct atl_stream *stream = atl_new0(struct atl_stream);
    stream->ssl = ssl;
    stream->fd = fd;
    stream->stop = stop;
    return stream;
}

/* --- attempts --- */

static enum stream_step judge(struct atl_stream *stream, int result, short *ret_events)
{
    switch (SSL_get_error(stream->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        *ret_events = POLLIN;
        return STREAM_WAIT;
    case SSL_ERROR_WANT_WRITE:
        *ret_events = POLLOUT;
        return STREAM_WAIT;
    case SSL_ERROR_ZERO_RETURN:
        return STREAM_END;
    default:
        stream->was_cut = true;
        return STREAM_BROKEN;
    }
}

enum stream_step stream_try_handshake(struct atl_stream *stream, short *ret_events)
{
    ERR_clear_error();
    int result = SSL_do_handshake(stream->ssl);
    return result == 1 ? STREAM_MOVED : judge(stream, result, ret_events);
}

enum stream_step stream_try_read(struct atl_stream *stream, void *bytes, size_t size, size_t *ret_got,
                                 short *ret_events)
{
    ERR_clear_error();
    int result = SSL_read_ex(stream->ssl, bytes, size, ret_got);
    return result == 1 ? STREAM_MOVED : judge(stream, result, ret_events);
}

enum stream_step stream_try_write(struct atl_stream *stream, const void *bytes, size_t size, size_t *ret_put,
                                  short *ret_events)
{
    ERR_clear_error();
    if (stream->keyed >= REKEY_BYTES && SSL_key_update(stream->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1)
        stream->keyed = 0;
    int result = SSL_write_ex(stream->ssl, bytes, size, ret_put);
    if (result != 1)
        return judge(stream, result, ret_events);
    stream->keyed += *ret_put;
    return STREAM_MOVED;
}

enum stream_step stream_try_finish(struct atl_stream *stream, short *ret_events)
{
    if (stream->was_cut)
        return STREAM_BROKEN;
    ERR_clear_error();
    int result = SSL_shutdown(stream->ssl); /* 0: said, the other side has not yet */
    return result >= 0 ? STREAM_MOVED : judge(stream, result, ret_events);
}

/* --- waiting --- */

enum atl_code stream_poll(int fd, short events, const struct atl_stream_wait *wait, struct atl_error *err)
{
    struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = wait->stop, .events = POLLIN}};
    for (;;) {
        atl_ns left = wait->deadline - atl_clock_monotonic();
        if (left <= 0)
            return atl_fail(err, ATL_E_DEADLINE, NULL, "the stream to the other node took too long");
        int ms = left > ATL_MINUTE ? 60000 : (int)(left / ATL_MS) + 1;
        if (poll(fds, ATL_COUNT(fds), ms) < 0 && errno != EINTR)
            return atl_fail(err, ATL_E_IO, NULL, "cannot wait for a stream: %s", strerror(errno));
        if (fds[1].revents != 0)
            return atl_fail(err, ATL_E_CANCELLED, NULL, "the stream was called off");
        if (fds[0].revents != 0)
            return ATL_OK;
    }
}

enum atl_code stream_broke(struct atl_stream *stream, struct atl_error *err)
{
    unsigned long error = ERR_get_error();
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    ERR_clear_error();
    if (atomic_load(&stream->aborted))
        return atl_fail(err, ATL_E_CANCELLED, NULL, "the stream was called off");
    return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the stream to the other node broke: %s",
                    reason != NULL ? reason : "the connection ended");
}

enum atl_code atl_stream_read(struct atl_stream *stream, void *bytes, size_t size, atl_ns deadline,
                              size_t *ret_got, struct atl_error *err)
{
    const struct atl_stream_wait wait = {deadline, stream->stop};
    atl_assert(size > 0);
    for (;;) {
        short events = 0;
        enum stream_step step = stream_try_read(stream, bytes, size, ret_got, &events);
        if (step == STREAM_MOVED)
            return ATL_OK;
        if (step == STREAM_BROKEN || atomic_load(&stream->aborted))
            return stream_broke(stream, err);
        if (step == STREAM_END) {
            *ret_got = 0;
            return ATL_OK;
        }
        enum atl_code code = stream_poll(stream->fd, events, &wait, err);
        if (code != ATL_OK)
            return code;
    }
}

enum atl_code atl_stream_read_all(struct atl_stream *stream, void *bytes, size_t size, atl_ns deadline,
                                  struct atl_error *err)
{
    uint8_t *to = bytes;
    while (size > 0) {
        size_t got = 0;
        enum atl_code code = atl_stream_read(stream, to, size, deadline, &got, err);
        if (code != ATL_OK)
            return code;
        if (got == 0)
            return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the other node ended the stream too early");
        to += got;
        size -= got;
    }
    return ATL_OK;
}

enum atl_code atl_stream_write(struct atl_stream *stream, const void *bytes, size_t size, atl_ns deadline,
                               struct atl_error *err)
{
    const struct atl_stream_wait wait = {deadline, stream->stop};
    const uint8_t *from = bytes;
    while (size > 0) {
        short events = 0;
        size_t put = 0;
        enum stream_step step = stream_try_write(stream, from, size, &put, &events);
        enum atl_code code = ATL_OK;
        if (step == STREAM_MOVED) {
            from += put;
            size -= put;
        } else if (step == STREAM_WAIT && !atomic_load(&stream->aborted)) {
            code = stream_poll(stream->fd, events, &wait, err);
        } else {
            code = stream_broke(stream, err);
        }
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}

enum atl_code atl_stream_finish(struct atl_stream *stream, atl_ns deadline, struct atl_error *err)
{
    const struct atl_stream_wait wait = {deadline, stream->stop};
    for (;;) {
        short events = 0;
        enum stream_step step = stream_try_finish(stream, &events);
        if (step == STREAM_MOVED)
            return ATL_OK;
        if (step != STREAM_WAIT || atomic_load(&stream->aborted))
            return stream_broke(stream, err);
        enum atl_code code = stream_poll(stream->fd, events, &wait, err);
        if (code != ATL_OK)
            return code;
    }
}

void atl_stream_abort(struct atl_stream *stream)
{
    atomic_store(&stream->aborted, true);
    (void)shutdown(stream->fd, SHUT_RDWR); /* fails where it has ended already */
}

void atl_stream_close(struct atl_stream **pointer)
{
    struct atl_stream *stream = *pointer;
    *pointer = NULL;
    if (stream == NULL)
        return;
    SSL_free(stream->ssl);
    (void)close(stream->fd);
    ERR_clear_error();
    free(stream);
}

/* --- connecting --- */

static enum atl_code open_socket(const struct atl_stream_offer *offer, const struct atl_stream_wait *wait,
                                 int *ret_fd, struct atl_error *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to = {0};
    socklen_t size = sizeof to.v4;
    if (inet_pton(AF_INET, offer->address, &to.v4.sin_addr) == 1) {
        to.v4.sin_family = AF_INET;
        to.v4.sin_port = htons(offer->port);
    } else if (inet_pton(AF_INET6, offer->address, &to.v6.sin6_addr) == 1) {
        to.v6.sin6_family = AF_INET6;
        to.v6.sin6_port = htons(offer->port);
        size = sizeof to.v6;
    } else {
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is no address of a stream", offer->address);
    }
    int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "no socket: %s", strerror(errno));
    stream_set_socket(fd);
    enum atl_code code = ATL_OK;
    int error = connect(fd, &to.any, size) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
        socklen_t error_size = sizeof error;
        code = stream_poll(fd, POLLOUT, wait, err);
        if (code == ATL_OK && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0)
            error = errno;
    }
    if (code == ATL_OK && error != 0)
        code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "cannot reach %s port %u: %s", offer->address,
                        offer->port, strerror(error));
    if (code != ATL_OK) {
        (void)close(fd);
        return code;
    }
    *ret_fd = fd;
    return ATL_OK;
}

/* Takes the certificate of the offer and no other; dates and names do not matter. */
static int is_pinned(X509_STORE_CTX *store, void *user)
{
    const struct atl_stream_offer *offer = user;
    const X509 *shown = X509_STORE_CTX_get0_cert(store);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    bool same = shown != NULL && X509_digest(shown, EVP_sha256(), digest, &size) == 1 &&
                size == ATL_STREAM_FINGERPRINT && atl_equal_secret(digest, offer->fingerprint, size);
    X509_STORE_CTX_set_error(store, same ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
    return same ? 1 : 0;
}

static enum atl_code shake_hands(struct atl_stream *stream, const struct atl_stream_wait *wait,
                                 struct atl_error *err)
{
    for (;;) {
        short events = 0;
        enum stream_step step = stream_try_handshake(stream, &events);
        if (step == STREAM_MOVED)
            return ATL_OK;
        if (step != STREAM_WAIT && SSL_get_verify_result(stream->ssl) != X509_V_OK)
            return atl_fail(err, ATL_E_UNAUTHENTICATED, NULL,
                            "the other node's certificate is not the one that was announced");
        if (step != STREAM_WAIT)
            return stream_broke(stream, err);
        enum atl_code code = stream_poll(stream->fd, events, wait, err);
        if (code != ATL_OK)
            return code;
    }
}

static enum atl_code introduce(struct atl_stream *stream, const struct atl_stream_offer *offer,
                               const char *channel, atl_ns deadline, struct atl_error *err)
{
    uint8_t frame[STREAM_FRAME_MAX];
    uint8_t answer = STREAM_REFUSED;
    size_t size = stream_frame_pack(offer->token, channel, frame);
    if (size == 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is no name of a channel", channel);
    enum atl_code code = atl_stream_write(stream, frame, size, deadline, err);
    OPENSSL_cleanse(frame, sizeof frame);
    if (code == ATL_OK)
        code = atl_stream_read_all(stream, &answer, 1, deadline, err);
    if (code == ATL_OK && answer != STREAM_TAKEN)
        code = atl_fail(err, ATL_E_UNAUTHENTICATED, NULL, "the other node refused the stream's token");
    return code;
}

enum atl_code atl_stream_connect_until(const struct atl_stream_offer *offer, const char *channel,
                                       const struct atl_stream_wait *wait, struct atl_stream **ret_stream,
                                       struct atl_error *err)
{
    struct atl_stream_offer pinned = *offer;
    int fd = -1;
    enum atl_code code = open_socket(offer, wait, &fd, err);
    if (code != ATL_OK)
        return code;
    SSL_CTX *context = stream_context(TLS_client_method());
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(context, is_pinned, &pinned);
    SSL *ssl = SSL_new(context);
    SSL_CTX_free(context); /* the SSL holds it */
    atl_assert(ssl != NULL);
    int set = SSL_set_fd(ssl, fd);
    atl_assert(set == 1);
    SSL_set_connect_state(ssl);
    struct atl_stream *stream = stream_new(ssl, fd, wait->stop);
    code = shake_hands(stream, wait, err);
    if (code == ATL_OK)
        code = introduce(stream, offer, channel, wait->deadline, err);
    OPENSSL_cleanse(&pinned, sizeof pinned);
    if (code != ATL_OK) {
        atl_stream_close(&stream);
        return code;
    }
    *ret_stream = stream;
    return ATL_OK;
}

enum atl_code atl_stream_connect(const struct atl_stream_offer *offer, const char *channel, atl_ns deadline,
                                 struct atl_stream **ret_stream, struct atl_error *err)
{
    const struct atl_stream_wait wait = {deadline, -1};
    return atl_stream_connect_until(offer, channel, &wait, ret_stream, err);
}
