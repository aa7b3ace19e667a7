/* The head of an HTTP request, the same for HTTP/1.1 and HTTP/2: what the router and the handlers see. */
#ifndef GW_CORE_HEAD_H
#define GW_CORE_HEAD_H

#include "pure/arena.h"
#include "pure/base.h"

enum { GW_HEADERS_MAX = 64, GW_HEAD_BYTES_MAX = 8192 };

/* A refusal that is decided: static data. */
struct gw_fault {
    int status;
    const char *reason;
};

struct gw_header {
    const char *name; /* lower case */
    const char *value;
};

/* All texts live in the request's arena. */
struct gw_head {
    const char *method;
    const char *path;  /* as sent, before the question mark; begins with a slash, or is "*" */
    const char *query; /* as sent, behind it; never NULL */
    struct gw_header *headers;
    size_t header_count;
    int64_t content_length; /* -1: not given */
    bool keep_alive;        /* HTTP/1 only */
    bool expect_continue;   /* HTTP/1 only */
    bool http2;
};

/* Cuts the target into path and query; absolute form ("https://host/path") loses its authority. target is
 * changed. NULL when it is neither a path, nor absolute, nor "*". */
const struct gw_fault *gw_head_target(struct gw_head *head, char *target);

/* Reads a Content-Length: digits only, at most 18. */
const struct gw_fault *gw_head_length(struct gw_head *head, const char *value);

/* The first header of that lower-case name, or NULL. */
const char *gw_head_find(const struct gw_head *head, const char *name);

/* True when the comma-separated list holds the token, ignoring case and parameters behind a semicolon;
 * a token with q=0 does not count. */
bool gw_list_has(const char *list, const char *token);

/* True when a Content-Type is this type, ignoring case and parameters. value may be NULL. */
bool gw_media_is(const char *value, const char *type);

/* Undoes %XX in place; false when an escape is broken or yields a control byte. */
bool gw_percent_decode(char *text);

#endif
