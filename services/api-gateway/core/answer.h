/* The bodies of answers: the envelope around data and errors, in both forms. */
#ifndef GW_CORE_ANSWER_H
#define GW_CORE_ANSWER_H

#include "core/router.h"
#include "pure/buf.h"
#include "pure/codec.h"

/* {"data":...} with what stands beside it (total); extjs adds "success":1. */
void gw_answer_data(enum gw_form form, const struct atl_message *table, const ProtobufCMessage *message,
                    struct atl_buf *out);

struct gw_failure {
    int status;
    const char *sentence; /* the reason phrase and `message` */
    const char *field;    /* the one parameter at fault with its text, or NULL */
    const char *text;
    const struct atl_errors *errors; /* several, or NULL */
};

/* {"data":null,"message":...,"errors":{...}}; extjs adds "success":0 and "status". */
void gw_answer_failure(enum gw_form form, const struct gw_failure *failure, struct atl_buf *out);

#endif
