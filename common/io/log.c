/* Logging to journald's native socket, or to stderr. */
#include "io/log.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "pure/buf.h"

static struct {
    char *identifier;
    char *node;
    int fd; /* of journald, when open; 0: not open, so that all zero is the state before atl_log_open() */
    enum atl_level level;
    unsigned long dropped;
    atl_log_sink_fn *sink;
    void *sink_user;
} state;

static const struct {
    const char *name;
    enum atl_level level;
} levels[] = {{"error", ATL_ERROR},
              {"warning", ATL_WARNING},
              {"notice", ATL_NOTICE},
              {"info", ATL_INFO},
              {"debug", ATL_DEBUG}};

bool atl_level_from_text(const char *text, enum atl_level *ret_level)
{
    for (size_t i = 0; i < ATL_COUNT(levels); i++)
        if (strcmp(levels[i].name, text) == 0) {
            *ret_level = levels[i].level;
            return true;
        }
    return false;
}

static int connect_journal(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!atl_copy(address.sun_path, sizeof address.sun_path, path))
        return 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return 0;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 && fd > 0)
        return fd;
    (void)close(fd);
    return 0;
}

void atl_log_open(const struct atl_log_options *options)
{
    atl_log_close();
    state.identifier = atl_strdup(options->identifier);
    state.node = options->node != NULL ? atl_strdup(options->node) : NULL;
    state.level = options->level != 0 ? options->level : ATL_INFO;
    state.fd = connect_journal(options->journal_path != NULL ? options->journal_path
                                                             : "/run/systemd/journal/socket");
}

void atl_log_close(void)
{
    if (state.fd > 0)
        (void)close(state.fd);
    free(state.identifier);
    free(state.node);
    state.fd = 0;
    state.identifier = NULL;
    state.node = NULL;
    state.level = 0;
    state.dropped = 0;
}

void atl_log_set_sink(atl_log_sink_fn *fn, void *user)
{
    state.sink = fn;
    state.sink_user = user;
}

bool atl_log_wants(enum atl_level level)
{
    return level <= (state.level != 0 ? state.level : ATL_INFO);
}

/* --- journald: NAME=value lines; a value with a newline has its length in front --- */

static void put_field(struct atl_buf *buf, const char *name, const char *value)
{
    atl_buf_text(buf, name);
    if (strchr(value, '\n') == NULL) {
        atl_buf_char(buf, '=');
    } else {
        uint64_t length = htole64((uint64_t)strlen(value));
        atl_buf_char(buf, '\n');
        atl_buf_add(buf, &length, sizeof length);
    }
    atl_buf_text(buf, value);
    atl_buf_char(buf, '\n');
}

struct record {
    const struct atl_log_place *place;
    enum atl_level level;
    const char *event;
    const struct atl_log_field *fields;
    size_t count;
    const char *message;
};

static bool send_journal(const struct record *record)
{
    ATL_BUF_AT_EXIT struct atl_buf buf = {0};
    char number[24];
    put_field(&buf, "MESSAGE", record->message);
    (void)snprintf(number, sizeof number, "%d", (int)record->level);
    put_field(&buf, "PRIORITY", number);
    put_field(&buf, "SYSLOG_IDENTIFIER", state.identifier);
    put_field(&buf, "ATOLL_EVENT", record->event);
    if (state.node != NULL)
        put_field(&buf, "ATOLL_NODE", state.node);
    put_field(&buf, "CODE_FILE", record->place->file);
    put_field(&buf, "CODE_FUNC", record->place->function);
    (void)snprintf(number, sizeof number, "%d", record->place->line);
    put_field(&buf, "CODE_LINE", number);
    for (size_t i = 0; i < record->count; i++)
        put_field(&buf, record->fields[i].name, record->fields[i].value);
    return send(state.fd, buf.data, buf.length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* --- stderr: one write per line, so that lines of several processes do not mix --- */

static void put_clean(struct atl_buf *buf, const char *text)
{
    for (; *text != '\0'; text++)
        atl_buf_char(buf, (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void write_stderr(const struct record *record)
{
    ATL_BUF_AT_EXIT struct atl_buf buf = {0};
    atl_buf_printf(&buf, "<%d>", (int)record->level);
    if (state.identifier != NULL)
        atl_buf_printf(&buf, "%s[%d] ", state.identifier, (int)getpid());
    atl_buf_printf(&buf, "%s: ", record->event);
    put_clean(&buf, record->message);
    for (size_t i = 0; i < record->count; i++) {
        atl_buf_text(&buf, i == 0 ? " (" : " ");
        atl_buf_printf(&buf, "%s=", record->fields[i].name);
        put_clean(&buf, record->fields[i].value);
    }
    if (record->count > 0)
        atl_buf_char(&buf, ')');
    atl_buf_char(&buf, '\n');
    ssize_t written = -1;
    do
        written = write(STDERR_FILENO, buf.data, buf.length);
    while (written < 0 && errno == EINTR);
}

static void put(const struct record *record)
{
    if (state.sink != NULL)
        state.sink(record->level, record->event, record->message, state.sink_user);
    else if (state.fd <= 0)
        write_stderr(record);
    else if (!send_journal(record))
        state.dropped++;
}

static void tell_dropped(void)
{
    char message[80];
    unsigned long dropped = state.dropped;
    (void)snprintf(message, sizeof message, "%lu log events were lost: journald did not take them in time",
                   dropped);
    struct record record = {.place = &(struct atl_log_place){__FILE_NAME__, __func__, __LINE__},
                            .level = ATL_WARNING,
                            .event = "log-lost",
                            .message = message};
    if (send_journal(&record))
        state.dropped = 0;
}

void atl_log_at(const struct atl_log_place *place, enum atl_level level, const char *event,
                const struct atl_log_field *fields, size_t count, const char *format, ...)
{
    atl_assert(count <= ATL_LOG_FIELDS_MAX);
    char message[ATL_LOG_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args); /* cut when too long */
    va_end(args);
    int saved = errno;
    if (state.dropped > 0 && state.fd > 0 && state.sink == NULL)
        tell_dropped();
    put(&(struct record){.place = place,
                         .level = level,
                         .event = event,
                         .fields = fields,
                         .count = count,
                         .message = message});
    errno = saved;
}
