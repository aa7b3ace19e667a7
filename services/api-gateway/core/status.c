/* The table of statuses. */
#include "core/status.h"

static const int statuses[ATL_CODES] = {
    [ATL_OK] = 200,
    [ATL_E_CANCELLED] = 500,
    [ATL_E_UNKNOWN] = 500,
    [ATL_E_INVALID] = 400,
    [ATL_E_DEADLINE] = 500,
    [ATL_E_ABSENT] = 500,
    [ATL_E_EXISTS] = 500,
    [ATL_E_DENIED] = 403,
    [ATL_E_LIMIT] = 500,
    [ATL_E_STATE] = 500,
    [ATL_E_CONFLICT] = 500,
    [ATL_E_RANGE] = 500,
    [ATL_E_UNIMPLEMENTED] = 501,
    [ATL_E_INTERNAL] = 500,
    [ATL_E_UNAVAILABLE] = 500,
    [ATL_E_IO] = 500,
    [ATL_E_UNAUTHENTICATED] = 401,
};

int gw_status_of(enum atl_code code, enum gw_origin origin)
{
    if (code < 0 || code >= ATL_CODES)
        return 500;
    if (code == ATL_E_UNAVAILABLE && origin == GW_NOT_REACHED)
        return 595;
    if (code == ATL_E_UNAVAILABLE && origin == GW_CONNECTION_BROKE)
        return 596;
    return statuses[code];
}

const char *gw_status_sentence(const struct atl_error *error, bool has_field_errors)
{
    if (error->code == ATL_E_INVALID && (has_field_errors || error->field[0] != '\0'))
        return "Parameter verification failed.";
    return error->text[0] != '\0' ? error->text : atl_code_to_text(error->code);
}
