/* Files that travel beside a call: over the storage-agent's socket at the machine (upload.proto), as a
 * multipart body through REST. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/stream.h"

enum { CHUNK = 256 << 10, STALL_S = 60, ACK_S = 600, LINE_SIZE = 601 };
#define MEET_TIME (20 * ATL_SECOND)

enum atl_code cli_file_open(const struct atl_param *params, size_t count, struct cli_file *ret_file,
                            struct atl_error *err)
{
    struct stat info;
    *ret_file = (struct cli_file){.fd = -1};
    for (size_t i = 0; i < count; i++)
        if (strcmp(params[i].name, "filename") == 0)
            ret_file->path = params[i].value;
    if (ret_file->path == NULL)
        return atl_fail(err, ATL_E_INVALID, "filename", "say which file is sent with --filename PATH");
    ret_file->fd = open(ret_file->path, O_RDONLY | O_CLOEXEC);
    if (ret_file->fd < 0 || fstat(ret_file->fd, &info) != 0)
        return atl_fail(err, ATL_E_INVALID, "filename", "'%s' cannot be read: %s", ret_file->path,
                        strerror(errno));
    if (!S_ISREG(info.st_mode)) {
        cli_file_close(ret_file);
        return atl_fail(err, ATL_E_INVALID, "filename", "'%s' is no file", ret_file->path);
    }
    ret_file->size = (uint64_t)info.st_size;
    const char *slash = strrchr(ret_file->path, '/');
    ret_file->name = slash != NULL ? slash + 1 : ret_file->path;
    return ATL_OK;
}

void cli_file_close(struct cli_file *file)
{
    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}

void cli_file_progress(const struct cli_file *file, uint64_t sent)
{
    if (!isatty(STDERR_FILENO) || file->size == 0)
        return;
    (void)fprintf(stderr, "\r%s: %3" PRIu64 " %% of %" PRIu64 " MiB%s", file->name, sent * 100 / file->size,
                  (file->size + (1 << 20) - 1) >> 20, sent == file->size ? "\n" : "");
}

/* --- the agent's socket -----------------------------------------------------------------------------------
 */

static void set_patience(int fd)
{
    const struct timeval stall = {.tv_sec = STALL_S};
    const struct timeval acknowledged = {.tv_sec = ACK_S};
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &acknowledged, sizeof acknowledged);
}

static int connect_agent(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!atl_copy(address.sun_path, sizeof address.sun_path, path))
        return -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_patience(fd);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static bool send_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t put = send(fd, bytes, size, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        bytes += put;
        size -= (size_t)put;
    }
    return true;
}

/* Until the end, or until the agent takes no more: why, stands in its line. */
static enum atl_code send_file(int fd, const struct cli_file *file, uint64_t *ret_sent, struct atl_error *err)
{
    ATL_FREE_AT_EXIT uint8_t *chunk = atl_alloc0(CHUNK);
    for (*ret_sent = 0;;) {
        ssize_t got = read(file->fd, chunk, CHUNK);
        if (got < 0)
            return atl_fail(err, ATL_E_IO, "filename", "'%s' cannot be read: %s", file->path,
                            strerror(errno));
        if (got == 0 || !send_all(fd, chunk, (size_t)got))
            return ATL_OK;
        *ret_sent += (uint64_t)got;
        cli_file_progress(file, *ret_sent);
    }
}

static enum atl_code read_line(int fd, uint64_t sent, struct atl_error *err)
{
    char line[LINE_SIZE] = {0};
    size_t size = 0;
    ssize_t got = 1;
    while (got > 0 && size < sizeof line - 1 && memchr(line, '\n', size) == NULL) {
        got = recv(fd, line + size, sizeof line - 1 - size, 0);
        size += got > 0 ? (size_t)got : 0;
    }
    line[size] = '\0';
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "ERROR ", 6) == 0)
        return atl_fail(err, ATL_E_UNKNOWN, NULL, "%s", line + 6);
    if (strncmp(line, "OK ", 3) != 0 || strtoull(line + 3, NULL, 10) != sent)
        return atl_fail(err, ATL_E_IO, NULL, "the storage-agent did not get all bytes of the upload");
    return ATL_OK;
}

/* A socket whose bytes go to another node's agent. */
static enum atl_code connect_far(const Atoll__Bus__V1__StreamOffer *message,
                                 struct atl_stream_relay **ret_relay, int *ret_fd, struct atl_error *err)
{
    struct atl_stream_offer offer;
    int pair[2];
    enum atl_code code = atl_stream_offer_unpack(message, &offer, err);
    if (code != ATL_OK)
        return code;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "no sockets: %s", strerror(errno));
    set_patience(pair[0]);
    *ret_fd = pair[0];
    *ret_relay = atl_stream_relay_connect(&offer, "upload", atl_clock_monotonic() + MEET_TIME, &pair[1]);
    return ATL_OK;
}

static enum atl_code send_over(int fd, const struct cli_file *file,
                               const Atoll__Storage__V1__UploadOffer *offer, struct atl_error *err)
{
    uint64_t sent = 0;
    enum atl_code code = send_all(fd, offer->token.data, offer->token.len)
                             ? send_file(fd, file, &sent, err)
                             : atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the storage-agent takes no bytes");
    (void)shutdown(fd, SHUT_WR);
    return code == ATL_OK ? read_line(fd, sent, err) : code;
}

enum atl_code cli_file_send(const struct cli_file *file, const Atoll__Storage__V1__UploadOffer *offer,
                            struct atl_error *err)
{
    struct atl_stream_relay *relay = NULL;
    struct atl_error broken = {0};
    int fd = -1;
    enum atl_code code = ATL_OK;
    if (offer->stream != NULL)
        code = connect_far(offer->stream, &relay, &fd, err);
    else if (offer->socket == NULL || (fd = connect_agent(offer->socket)) < 0)
        code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "cannot reach the storage-agent's upload socket: %s",
                        strerror(errno));
    if (code != ATL_OK)
        return code;
    code = send_over(fd, file, offer, err);
    if (code != ATL_OK && relay != NULL && atl_stream_relay_ended(relay, &broken) && broken.code != ATL_OK)
        code = atl_fail(err, broken.code, NULL, "%s", broken.text);
    (void)close(fd);
    atl_stream_relay_free(&relay);
    return code;
}
