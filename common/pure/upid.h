/* Ids of tasks, and which of many tasks a list is to show. */
#ifndef ATL_PURE_UPID_H
#define ATL_PURE_UPID_H

#include "pure/error.h"

enum { ATL_UPID_MAX = 240 }; /* bytes with the final NUL: it is the name of a folder too */

/* UPID:node:pid:pstart:start:type:id:user: with hexadecimal numbers. */
struct atl_upid {
    char node[64];
    uint32_t pid;
    uint64_t pstart; /* 8 or 9 hexadecimal digits */
    uint32_t start;  /* seconds since 1970 */
    char type[32];
    char id[64]; /* may be empty */
    char user[128];
};

/* Errors: ATL_E_INVALID, field "upid". */
ATL_MUST_CHECK enum atl_code atl_upid_from_text(const char *text, struct atl_upid *ret_upid,
                                                struct atl_error *err);

/* Errors: ATL_E_INVALID a part holds bytes that a UPID cannot carry, or all is too long. */
ATL_MUST_CHECK enum atl_code atl_upid_to_text(const struct atl_upid *upid, char ret_text[ATL_UPID_MAX],
                                              struct atl_error *err);

/* What a list is to show; all zero: everything. Texts are borrowed. */
struct atl_upid_filter {
    const char *node;      /* exactly */
    const char *user;      /* part of the user */
    const char *type;      /* exactly */
    const char *id;        /* exactly: a guest's id as text */
    const char *status;    /* list of "ok", "error", "warning", "unknown", by , ; or blank */
    int64_t since;         /* start >= since, seconds since 1970; 0: no bound */
    int64_t until;         /* start <= until; 0: no bound */
    bool errors;           /* only those that ended, and not with OK or WARNINGS */
    bool active;           /* only those that have not ended */
    bool ended;            /* only those that have */
    size_t start;          /* how many to leave out */
    size_t limit;          /* how many to show; 0: no bound */
    const char *only_user; /* exactly: what a user without rights may see; NULL: all */
};

/* exit: how it ended, or "" for one that has not. Does not look at start and limit. */
bool atl_upid_passes(const struct atl_upid_filter *filter, const struct atl_upid *upid, const char *exit);

/* "ok", "warning", "error", or "unknown" for one that has not ended. */
const char *atl_upid_outcome(const char *exit);

#endif
