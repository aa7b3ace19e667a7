/* The server: listeners, limits, the sweep for those that are too slow. */
#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "http/internal.h"

enum { ACCEPTS_PER_ROUND = 64, BACKLOG = 4096, SPARE_DESCRIPTORS = 256, CROWD = 256 };

#define SWEEP_PERIOD (250 * ATL_MS)
#define DRAIN_STEP   (20 * ATL_MS)

/* Frees the dead, but those that stand in the list of marked ones. */
static void bury(struct gw_http *http)
{
    struct gw_conn **link = &http->dead;
    while (*link != NULL) {
        struct gw_conn *conn = *link;
        if (conn->marked && !http->freeing) {
            link = &conn->next;
            continue;
        }
        *link = conn->next;
        gw_conn_free(conn);
    }
}

static void accepting(struct gw_http *http, bool on)
{
    http->full = !on;
    for (size_t i = 0; i < http->listener_count; i++)
        atl_watch_set(http->listeners[i].watch, on ? ATL_READ : 0);
}

/* The end of a round: what was marked during it is served, what died is freed. */
static void on_flush(void *user)
{
    struct gw_http *http = user;
    http->flush = NULL;
    struct gw_conn *marked = http->marked;
    http->marked = NULL;
    while (marked != NULL) {
        struct gw_conn *conn = marked;
        marked = conn->next_marked;
        conn->next_marked = NULL;
        conn->marked = false;
        gw_conn_serve(conn);
    }
    bury(http);
    if (http->full && http->conn_count < http->options.connections_max)
        accepting(http, true);
}

void gw_conn_mark(struct gw_conn *conn)
{
    struct gw_http *http = conn->http;
    if (!conn->marked) {
        conn->marked = true;
        conn->next_marked = http->marked;
        http->marked = conn;
    }
    if (http->flush == NULL && !http->freeing)
        http->flush = atl_loop_timer(http->loop, 0, 0, on_flush, http);
}

/* After a crowd has left: its memory goes back to the machine. */
static void give_memory_back(struct gw_http *http)
{
    if (http->conn_count > http->conn_peak)
        http->conn_peak = http->conn_count;
    if (http->conn_peak < CROWD || http->conn_count > http->conn_peak / 4)
        return;
    (void)malloc_trim(0); /* says only whether there was any */
    http->conn_peak = http->conn_count;
}

static void on_sweep(void *user)
{
    struct gw_http *http = user;
    atl_ns now = atl_loop_now(http->loop);
    struct gw_conn *next = NULL;
    for (struct gw_conn *conn = http->conns; conn != NULL; conn = next) {
        next = conn->next;
        gw_conn_check(conn, now);
    }
    if (http->full && http->conn_count < http->options.connections_max)
        accepting(http, true); /* also after descriptors had run out */
    give_memory_back(http);
    if (http->conn_count == 0 && !http->full) {
        atl_timer_free(http->sweep);
        http->sweep = NULL;
    }
}

/* Makes room when all places are taken: the connection that has been idle for longest goes. */
static void evict_idle(struct gw_http *http)
{
    struct gw_conn *oldest = NULL;
    for (struct gw_conn *conn = http->conns; conn != NULL; conn = conn->next) {
        bool idle = conn->state == GW_CONN_OPEN && conn->requests == NULL && conn->out_at == conn->out.length;
        if (idle && (oldest == NULL || conn->idle_since < oldest->idle_since))
            oldest = conn;
    }
    if (oldest != NULL)
        gw_conn_kill(oldest);
}

/* An address as text and as a number for counting; of IPv6 the network part counts. */
static uint64_t describe(const struct sockaddr_storage *address, char *text, size_t size)
{
    uint64_t hash = 14695981039346656037U; /* FNV-1a */
    uint8_t bytes[16];
    size_t count = 4;
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);
        memcpy(bytes, six->sin6_addr.s6_addr, sizeof bytes);
        count = mapped ? 4 : 8;
        if (mapped)
            memmove(bytes, bytes + 12, 4);
        (void)inet_ntop(mapped ? AF_INET : AF_INET6, bytes, text,
                        (socklen_t)size); /* the array is large enough */
    } else {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        memcpy(bytes, &four->sin_addr, 4);
        (void)inet_ntop(AF_INET, bytes, text, (socklen_t)size); /* as above */
    }
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ bytes[i]) * 1099511628211U;
    return hash;
}

static bool accept_one(struct gw_http *http, int listener)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            accepting(http, false); /* the sweep tries again */
        return errno == ECONNABORTED || errno == EINTR;
    }
    char peer[INET6_ADDRSTRLEN] = "";
    uint64_t hash = describe(&address, peer, sizeof peer);
    if (http->per_address[hash % GW_ADDRESS_BUCKETS] >= http->options.connections_per_address) {
        (void)close(fd); /* refused: this address has had its share */
        return true;
    }
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* only slower without it */
    (void)gw_conn_new(http, fd, peer, hash);
    return true;
}

static void on_accept(void *user, unsigned int events)
{
    (void)events;
    struct gw_listener *listener = user;
    struct gw_http *http = listener->http;
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        if (http->conn_count >= http->options.connections_max)
            evict_idle(http);
        if (http->conn_count >= http->options.connections_max) {
            accepting(http, false);
            break;
        }
        if (!accept_one(http, listener->fd))
            break;
    }
    if (http->sweep == NULL && (http->conn_count > 0 || http->full))
        http->sweep = atl_loop_timer(http->loop, SWEEP_PERIOD, SWEEP_PERIOD, on_sweep, http);
}

/* As many descriptors as the machine lets us have; how many connections fit is what it returns. */
static size_t raise_descriptors(size_t wanted)
{
    struct rlimit limit = {0};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return wanted;
    rlim_t target = wanted + SPARE_DESCRIPTORS;
    if (limit.rlim_cur < target) {
        struct rlimit more = {.rlim_cur = target,
                              .rlim_max = limit.rlim_max < target ? target : limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &more) != 0) { /* not root: up to the hard limit then */
            more = (struct rlimit){.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
            (void)setrlimit(RLIMIT_NOFILE, &more); /* what is there is read back below */
        }
        (void)getrlimit(RLIMIT_NOFILE, &limit); /* worked a moment ago */
    }
    size_t room =
        limit.rlim_cur > 2 * SPARE_DESCRIPTORS ? limit.rlim_cur - SPARE_DESCRIPTORS : SPARE_DESCRIPTORS;
    return wanted < room ? wanted : room;
}

static atl_ns or_default(atl_ns value, atl_ns fallback)
{
    return value == 0 ? fallback : value;
}

enum atl_code gw_http_new(const struct gw_http_options *options, struct gw_http **ret_http,
                          struct atl_error *err)
{
    SSL_CTX *tls = NULL;
    enum atl_code code = gw_tls_context(options->cert_file, options->key_file, &tls, err);
    if (code != ATL_OK)
        return code;
    struct gw_http *http = atl_new0(struct gw_http);
    http->options = *options;
    http->loop = options->loop;
    http->tls = tls;
    http->date_at = -1;
    struct gw_http_options *own = &http->options;
    own->cert_file = NULL; /* borrowed texts are not kept */
    own->key_file = NULL;
    own->connections_max = raise_descriptors(own->connections_max == 0 ? 8192 : own->connections_max);
    if (own->connections_per_address == 0)
        own->connections_per_address = own->connections_max / 2;
    if (own->connections_per_address > UINT16_MAX)
        own->connections_per_address = UINT16_MAX;
    own->idle_h1 = or_default(own->idle_h1, 5 * ATL_SECOND);
    own->idle_h2 = or_default(own->idle_h2, ATL_MINUTE);
    own->head_time = or_default(own->head_time, 10 * ATL_SECOND);
    own->write_time = or_default(own->write_time, 30 * ATL_SECOND);
    *ret_http = http;
    return ATL_OK;
}

static int open_listener(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int on = 1;
    int off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* without it a restart waits, no more */
    if (info->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off,
                         sizeof off); /* IPv4 clients may then be missing */
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return -1;
}

static uint16_t port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
    } address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, &address.any, &size) != 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.six.sin6_port : address.four.sin_port);
}

enum atl_code gw_http_listen(struct gw_http *http, const char *address, uint16_t *ret_port,
                             struct atl_error *err)
{
    const char *colon = strrchr(address, ':');
    if (http->listener_count == GW_LISTENERS_MAX)
        return atl_fail(err, ATL_E_LIMIT, "listen", "at most %d addresses can be listened at",
                        GW_LISTENERS_MAX);
    if (colon == NULL || colon == address || colon[1] == '\0')
        return atl_fail(err, ATL_E_INVALID, "listen", "'%s' is not HOST:PORT", address);
    bool bracket = address[0] == '[' && colon[-1] == ']';
    ATL_FREE_AT_EXIT char *host =
        atl_strndup(address + (bracket ? 1 : 0), (size_t)(colon - address) - (bracket ? 2 : 0));
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *info = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &info) != 0)
        return atl_fail(err, ATL_E_INVALID, "listen", "'%s' is not an address and a port", address);
    int fd = open_listener(info);
    int saved = errno;
    freeaddrinfo(info);
    if (fd < 0)
        return atl_fail(err, ATL_E_IO, "listen", "cannot listen at '%s': %s", address, strerror(saved));
    struct gw_listener *listener = &http->listeners[http->listener_count++];
    *listener = (struct gw_listener){.http = http, .fd = fd};
    listener->watch = atl_loop_fd(http->loop, fd, ATL_READ, on_accept, listener);
    if (ret_port != NULL)
        *ret_port = port_of(fd);
    return ATL_OK;
}

static void close_listeners(struct gw_http *http)
{
    for (size_t i = 0; i < http->listener_count; i++) {
        atl_watch_free(http->listeners[i].watch);
        (void)close(http->listeners[i].fd);
    }
    http->listener_count = 0;
}

/* Ends the connections that owe nobody an answer; true when others are left. */
static bool some_owe(struct gw_http *http)
{
    bool owing = false;
    for (struct gw_conn *conn = http->conns; conn != NULL; conn = conn->next) {
        bool owes = conn->requests != NULL || conn->out_at < conn->out.length;
        owing = owing || (owes && conn->state == GW_CONN_OPEN) || conn->state == GW_CONN_CLOSING;
        if (!owes)
            gw_conn_finish(conn);
    }
    return owing;
}

void gw_http_drain(struct gw_http *http, atl_ns grace)
{
    atl_ns end = atl_clock_monotonic() + grace;
    close_listeners(http);
    while (some_owe(http) && atl_clock_monotonic() < end)
        atl_loop_step(http->loop, DRAIN_STEP);
}

void gw_http_free(struct gw_http *http)
{
    if (http == NULL)
        return;
    http->freeing = true;
    close_listeners(http);
    while (http->conns != NULL)
        gw_conn_kill(http->conns);
    bury(http);
    atl_timer_free(http->flush);
    atl_timer_free(http->sweep);
    while (http->spare != NULL) {
        struct gw_request *request = http->spare;
        http->spare = request->next;
        atl_arena_done(&request->arena);
        atl_buf_done(&request->body);
        atl_buf_done(&request->pending);
        free(request);
    }
    SSL_CTX_free(http->tls);
    free(http);
}

const char *gw_http_date(struct gw_http *http)
{
    int64_t now = atl_clock_wall_seconds();
    if (now != http->date_at) {
        static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        time_t seconds = (time_t)now;
        struct tm tm = {0};
        (void)gmtime_r(&seconds, &tm); /* fails past the year 2^31 only */
        (void)snprintf(http->date, sizeof http->date, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[tm.tm_wday],
                       tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
        http->date_at = now;
    }
    return http->date;
}
