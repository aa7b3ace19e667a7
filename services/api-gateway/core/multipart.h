/*
 * multipart/form-data, read as it streams by: fields are collected (bounded), the bytes of the one file are
 * handed out where they lie. Nothing is allocated; the reader can be stopped after any byte.
 */
#ifndef GW_CORE_MULTIPART_H
#define GW_CORE_MULTIPART_H

#include "core/head.h"

enum {
    GW_BOUNDARY_MAX = 70, /* RFC 2046 */
    GW_PART_HEAD_MAX = 4096,
    GW_FIELD_MAX = 4096,
    GW_PARTS_MAX = 16,
    GW_PART_NAME_MAX = 256,
};

enum gw_part_kind {
    GW_PART_MORE,  /* all bytes are used up: feed more */
    GW_PART_FIELD, /* a field is complete: name, value */
    GW_PART_FILE,  /* a file begins: name, filename */
    GW_PART_DATA,  /* bytes of the file: data, size */
    GW_PART_FILE_END,
    GW_PART_END,   /* the last boundary; what follows is ignored */
    GW_PART_FAULT, /* fault says why; the reader must not be fed again */
};

struct gw_part {
    enum gw_part_kind kind;
    const char *name;
    const char *filename;
    const char *value;
    size_t size;      /* of value or data */
    const char *data; /* points into what was fed or into the reader: valid until the next call */
    const struct gw_fault *fault;
};

struct gw_multipart {
    int state;
    size_t matched; /* bytes of the delimiter that were seen last */
    size_t delimiter_size;
    size_t head_size;
    size_t value_size;
    unsigned int parts;
    bool in_file;
    char delimiter[GW_BOUNDARY_MAX + 5]; /* CR LF - - boundary */
    char head[GW_PART_HEAD_MAX + 1];
    char value[GW_FIELD_MAX + 1];
    char name[GW_PART_NAME_MAX];
    char filename[GW_PART_NAME_MAX];
};

/* Starts a reader with the boundary out of a Content-Type. NULL when it is well. */
ATL_MUST_CHECK const struct gw_fault *gw_multipart_init(struct gw_multipart *reader,
                                                        const char *content_type);

/* Takes bytes up to the next event; ret_used says how many. Call again with the rest until GW_PART_MORE. */
struct gw_part gw_multipart_next(struct gw_multipart *reader, const char *bytes, size_t size,
                                 size_t *ret_used);

#endif
