/* Streams: the listening side, with a certificate that lives no longer than it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/stream_internal.h"

enum { GUESTS_MAX = 8, BACKLOG = 16, CERTIFICATE_DAYS = 30 };
#define GREET_TIME (5 * ATL_SECOND)

/* A connection that has not been taken yet. */
struct newcomer {
    struct atl_stream *stream; /* NULL: the place is free */
    bool shaken;               /* TLS stands, the opening frame comes */
    short events;              /* what it waits for */
    atl_ns deadline;
    size_t have;
    uint8_t bytes[STREAM_FRAME_MAX + 1]; /* one more than a frame: who sends that is turned away */
};

struct atl_stream_server {
    int fd;
    SSL_CTX *context;
    atomic_bool aborted;
    uint8_t token[ATL_STREAM_TOKEN];
    struct newcomer newcomers[GUESTS_MAX];
};

/* --- the certificate --- */

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    atl_assert(certificate != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    int good = X509_set_version(certificate, X509_VERSION_3) == 1 &&
               ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
               X509_gmtime_adj(X509_getm_notBefore(certificate), -86400L) != NULL &&
               X509_gmtime_adj(X509_getm_notAfter(certificate), CERTIFICATE_DAYS * 86400L) != NULL &&
               X509_set_pubkey(certificate, key) == 1 &&
               X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"atoll stream", -1,
                                          -1, 0) == 1 &&
               X509_set_issuer_name(certificate, name) == 1 && X509_sign(certificate, key, EVP_sha256()) > 0;
    atl_assert(good);
    return certificate;
}

static void load_certificate(SSL_CTX *context, uint8_t fingerprint[ATL_STREAM_FINGERPRINT])
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    atl_assert(key != NULL);
    X509 *certificate = make_certificate(key);
    unsigned int size = ATL_STREAM_FINGERPRINT;
    int good = X509_digest(certificate, EVP_sha256(), fingerprint, &size) == 1 &&
               SSL_CTX_use_certificate(context, certificate) == 1 &&
               SSL_CTX_use_PrivateKey(context, key) == 1;
    atl_assert(good);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* --- listening --- */

/* Tries all ports of ours, from a random one on. */
static enum atl_code bind_any(int fd, struct sockaddr *address, socklen_t size, uint16_t *ret_port,
                              struct atl_error *err)
{
    const unsigned int ports = ATL_STREAM_PORT_LAST - ATL_STREAM_PORT_FIRST + 1;
    uint16_t first = 0;
    ssize_t got = getrandom(&first, sizeof first, 0);
    atl_assert(got == (ssize_t)sizeof first);
    for (unsigned int i = 0; i < ports; i++) {
        uint16_t port = (uint16_t)(ATL_STREAM_PORT_FIRST + (first + i) % ports);
        in_port_t wire = htons(port);
        if (address->sa_family == AF_INET)
            memcpy((char *)address + offsetof(struct sockaddr_in, sin_port), &wire, sizeof wire);
        else
            memcpy((char *)address + offsetof(struct sockaddr_in6, sin6_port), &wire, sizeof wire);
        if (bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0) {
            *ret_port = port;
            return ATL_OK;
        }
        if (errno != EADDRINUSE)
            return atl_fail(err, ATL_E_IO, NULL, "cannot listen for a stream: %s", strerror(errno));
    }
    return atl_fail(err, ATL_E_LIMIT, NULL, "all ports for streams are taken (%d to %d)",
                    ATL_STREAM_PORT_FIRST, ATL_STREAM_PORT_LAST);
}

static enum atl_code open_listener(const char *address, int *ret_fd, uint16_t *ret_port,
                                   struct atl_error *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = {0};
    socklen_t size = sizeof at.v4;
    if (inet_pton(AF_INET, address, &at.v4.sin_addr) == 1) {
        at.v4.sin_family = AF_INET;
    } else if (inet_pton(AF_INET6, address, &at.v6.sin6_addr) == 1) {
        at.v6.sin6_family = AF_INET6;
        size = sizeof at.v6;
    } else {
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is no address to listen on", address);
    }
    int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "no socket: %s", strerror(errno));
    enum atl_code code = bind_any(fd, &at.any, size, ret_port, err);
    if (code != ATL_OK) {
        (void)close(fd);
        return code;
    }
    *ret_fd = fd;
    return ATL_OK;
}

enum atl_code atl_stream_listen(const char *address, struct atl_stream_server **ret_server,
                                struct atl_stream_offer *ret_offer, struct atl_error *err)
{
    struct atl_stream_offer offer = {0};
    int fd = -1;
    if (!atl_copy(offer.address, sizeof offer.address, address))
        return atl_fail(err, ATL_E_INVALID, NULL, "that is no address to listen on");
    enum atl_code code = open_listener(address, &fd, &offer.port, err);
    if (code != ATL_OK)
        return code;
    struct atl_stream_server *server = atl_new0(struct atl_stream_server);
    server->fd = fd;
    server->context = stream_context(TLS_server_method());
    load_certificate(server->context, offer.fingerprint);
    ssize_t got = getrandom(offer.token, sizeof offer.token, 0);
    atl_assert(got == (ssize_t)sizeof offer.token); /* up to 256 bytes always come whole */
    memcpy(server->token, offer.token, sizeof server->token);
    *ret_server = server;
    *ret_offer = offer;
    return ATL_OK;
}

void atl_stream_server_abort(struct atl_stream_server *server)
{
    atomic_store(&server->aborted, true);
    (void)shutdown(server->fd, SHUT_RDWR); /* wakes whoever polls it */
}

void atl_stream_server_close(struct atl_stream_server **pointer)
{
    struct atl_stream_server *server = *pointer;
    *pointer = NULL;
    if (server == NULL)
        return;
    for (size_t i = 0; i < GUESTS_MAX; i++)
        atl_stream_close(&server->newcomers[i].stream);
    SSL_CTX_free(server->context);
    (void)close(server->fd);
    OPENSSL_cleanse(server->token, sizeof server->token);
    free(server);
}

/* --- newcomers --- */

static struct newcomer *free_place(struct atl_stream_server *server)
{
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        if (server->newcomers[i].stream == NULL)
            return &server->newcomers[i];
    }
    return NULL;
}

static void let_in(struct atl_stream_server *server)
{
    struct newcomer *place = free_place(server);
    atl_assert(place != NULL); /* else the listener was not polled */
    int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return; /* gone again, or no descriptor is left: it is tried again */
    stream_set_socket(fd);
    SSL *ssl = SSL_new(server->context);
    atl_assert(ssl != NULL);
    int set = SSL_set_fd(ssl, fd);
    atl_assert(set == 1);
    SSL_set_accept_state(ssl);
    *place = (struct newcomer){
        .stream = stream_new(ssl, fd, -1), .events = POLLIN, .deadline = atl_clock_monotonic() + GREET_TIME};
}

/* One byte, which a fresh connection always has room for. */
static bool answer(struct atl_stream *stream, uint8_t byte)
{
    size_t put = 0;
    short events = 0;
    return stream_try_write(stream, &byte, 1, &put, &events) == STREAM_MOVED;
}

/* True: it is taken, with its frame in *ret. Else it waits for more, or is gone. */
static bool greet(const struct atl_stream_server *server, struct newcomer *newcomer, struct stream_frame *ret)
{
    enum stream_frame_state state = STREAM_FRAME_SHORT;
    enum stream_step step = STREAM_MOVED;
    if (!newcomer->shaken) {
        step = stream_try_handshake(newcomer->stream, &newcomer->events);
        newcomer->shaken = step == STREAM_MOVED;
    }
    while (step == STREAM_MOVED && state == STREAM_FRAME_SHORT) {
        size_t got = 0;
        step = stream_try_read(newcomer->stream, newcomer->bytes + newcomer->have,
                               sizeof newcomer->bytes - newcomer->have, &got, &newcomer->events);
        newcomer->have += step == STREAM_MOVED ? got : 0;
        state = stream_frame_unpack(newcomer->bytes, newcomer->have, ret);
    }
    if (step == STREAM_WAIT && state == STREAM_FRAME_SHORT)
        return false;
    bool good = state == STREAM_FRAME_WHOLE && atl_equal_secret(ret->token, server->token, ATL_STREAM_TOKEN);
    if (newcomer->shaken && step == STREAM_MOVED)
        good = answer(newcomer->stream, good ? STREAM_TAKEN : STREAM_REFUSED) && good;
    if (!good)
        atl_stream_close(&newcomer->stream);
    return good;
}

/* Turns away who has been silent for too long; answers when the next one has been, or the deadline. */
static atl_ns expire(struct atl_stream_server *server, atl_ns now, atl_ns deadline)
{
    atl_ns until = deadline;
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        struct newcomer *newcomer = &server->newcomers[i];
        if (newcomer->stream != NULL && newcomer->deadline <= now)
            atl_stream_close(&newcomer->stream);
        if (newcomer->stream != NULL && newcomer->deadline < until)
            until = newcomer->deadline;
    }
    return until;
}

/* Polls the newcomers, the listener and what calls off; the descriptors in this order. */
static enum atl_code wait_for_some(struct atl_stream_server *server, const struct atl_stream_wait *wait,
                                   struct pollfd fds[GUESTS_MAX + 2], struct atl_error *err)
{
    atl_ns now = atl_clock_monotonic();
    atl_ns until = expire(server, now, wait->deadline);
    if (wait->deadline <= now)
        return atl_fail(err, ATL_E_DEADLINE, NULL, "the other node did not come for its stream in time");
    for (size_t i = 0; i < GUESTS_MAX; i++) {
        const struct newcomer *newcomer = &server->newcomers[i];
        fds[i] = (struct pollfd){.fd = newcomer->stream != NULL ? newcomer->stream->fd : -1,
                                 .events = newcomer->events};
    }
    fds[GUESTS_MAX] = (struct pollfd){.fd = free_place(server) != NULL ? server->fd : -1, .events = POLLIN};
    fds[GUESTS_MAX + 1] = (struct pollfd){.fd = wait->stop, .events = POLLIN};
    atl_ns left = until - now;
    int ms = left > ATL_MINUTE ? 60000 : (int)(left / ATL_MS) + 1;
    if (poll(fds, GUESTS_MAX + 2, ms) < 0 && errno != EINTR)
        return atl_fail(err, ATL_E_IO, NULL, "cannot wait for a stream: %s", strerror(errno));
    if (atomic_load(&server->aborted) || fds[GUESTS_MAX + 1].revents != 0)
        return atl_fail(err, ATL_E_CANCELLED, NULL, "the stream was called off");
    return ATL_OK;
}

enum atl_code atl_stream_accept_until(struct atl_stream_server *server, const struct atl_stream_wait *wait,
                                      struct atl_stream **ret_stream,
                                      char ret_channel[ATL_STREAM_CHANNEL_MAX + 1], struct atl_error *err)
{
    for (;;) {
        struct pollfd fds[GUESTS_MAX + 2] = {0};
        enum atl_code code = wait_for_some(server, wait, fds, err);
        if (code != ATL_OK)
            return code;
        for (size_t i = 0; i < GUESTS_MAX; i++) {
            struct stream_frame frame;
            struct newcomer *newcomer = &server->newcomers[i];
            if (fds[i].fd < 0 || fds[i].revents == 0 || !greet(server, newcomer, &frame))
                continue;
            newcomer->stream->stop = wait->stop;
            *ret_stream = ATL_STEAL(newcomer->stream);
            memcpy(ret_channel, frame.channel, sizeof frame.channel);
            ERR_clear_error();
            return ATL_OK;
        }
        if (fds[GUESTS_MAX].revents != 0)
            let_in(server);
    }
}

enum atl_code atl_stream_accept(struct atl_stream_server *server, atl_ns deadline,
                                struct atl_stream **ret_stream, char ret_channel[ATL_STREAM_CHANNEL_MAX + 1],
                                struct atl_error *err)
{
    const struct atl_stream_wait wait = {deadline, -1};
    return atl_stream_accept_until(server, &wait, ret_stream, ret_channel, err);
}
