/*
 * Logging: one event, structured. Goes to journald's socket when it is there, else to stderr as lines with
 * the level in front ("<6>guest-started: guest 100 started (ATOLL_VMID=100)"), which journald and runsvdir
 * both read. No secrets in it, ever, and no text of a user in the format.
 *
 * Before atl_log_open() everything goes to stderr. All functions belong to one thread. Nothing here blocks:
 * what journald does not take at once is dropped and counted, and the next event that gets through says how
 * many.
 */
#ifndef ATL_IO_LOG_H
#define ATL_IO_LOG_H

#include "pure/base.h"

enum atl_level {
    ATL_ERROR = 3,   /* gave up */
    ATL_WARNING = 4, /* went on: "ignoring", "retrying in 5 s" */
    ATL_NOTICE = 5,  /* a change of state an administrator wants to see */
    ATL_INFO = 6,
    ATL_DEBUG = 7, /* off unless asked for */
};

enum { ATL_LOG_MESSAGE_MAX = 4096, ATL_LOG_FIELDS_MAX = 16 };

struct atl_log_field {
    const char *name; /* "ATOLL_VMID", "ATOLL_NODE", "ATOLL_TASK", "ATOLL_REQUEST": capitals, digits, _ */
    const char *value;
};

struct atl_log_place {
    const char *file;
    const char *function;
    int line;
};

/* A test's eye on what is logged: gets each event that passes the level, instead of journald and stderr. */
typedef void atl_log_sink_fn(enum atl_level level, const char *event, const char *message, void *user);

struct atl_log_options {
    const char *identifier;   /* "atoll-compute-agent"; copied */
    const char *node;         /* copied; NULL: no ATOLL_NODE of its own */
    const char *journal_path; /* NULL: /run/systemd/journal/socket */
    enum atl_level level;     /* the last one that is written; 0: ATL_INFO */
};
void atl_log_open(const struct atl_log_options *options);
void atl_log_close(void);
void atl_log_set_sink(atl_log_sink_fn *fn, void *user); /* NULL: back to normal */
bool atl_log_wants(enum atl_level level);
/* "error" ... "debug"; false: no such level. */
bool atl_level_from_text(const char *text, enum atl_level *ret_level);

ATL_PRINTF(6, 7)
void atl_log_at(const struct atl_log_place *place, enum atl_level level, const char *event,
                const struct atl_log_field *fields, size_t count, const char *format, ...);

/* event: a stable word ("guest-started"), listed in the service's README. */
#define atl_log_event(level, event, fields, count, ...)                                                      \
    do {                                                                                                     \
        if (atl_log_wants(level))                                                                            \
            atl_log_at(&(const struct atl_log_place){__FILE_NAME__, __func__, __LINE__}, level, event,       \
                       fields, count, __VA_ARGS__);                                                          \
    } while (0)
#define atl_log(level, event, ...) atl_log_event(level, event, NULL, 0, __VA_ARGS__)

#endif
