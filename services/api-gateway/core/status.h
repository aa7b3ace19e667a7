/* How codes of the bus look on HTTP: one table, and the sentence that clients match. */
#ifndef GW_CORE_STATUS_H
#define GW_CORE_STATUS_H

#include "pure/error.h"

/* Where an error came from: the same code means another thing when no service answered at all. */
enum gw_origin {
    GW_FROM_SERVICE,     /* a service answered so */
    GW_NOT_REACHED,      /* the call was never sent */
    GW_CONNECTION_BROKE, /* sent, and no answer came back */
};

/* The HTTP status of an error. Never 200 for an error, 200 for ATL_OK. */
int gw_status_of(enum atl_code code, enum gw_origin origin);

/*
 * The sentence of an answer: what the reason phrase and `message` say. The error's own text, but where
 * clients know one fixed sentence for the status ("Parameter verification failed.").
 */
const char *gw_status_sentence(const struct atl_error *error, bool has_field_errors);

#endif
