/* The audit log: one line for each request that may change something. */
#include <stdio.h>

#include "gw.h"
#include "io/log.h"

/* Copies text with every byte that is not visible ASCII replaced: it comes from outside. */
static const char *visible(const char *text, char *to, size_t size)
{
    size_t at = 0;
    for (; *text != '\0' && at + 1 < size; text++)
        to[at++] = *text > ' ' && *text <= '~' ? *text : '?';
    to[at] = '\0';
    return to;
}

void gw_audit(const struct gw_work *work, int status)
{
    if (work->verb == ATL_GET)
        return;
    char path[512];
    char user[GW_USER_MAX];
    char code[16];
    (void)snprintf(code, sizeof code, "%d", status);
    const struct atl_log_field fields[] = {
        {"ATOLL_USER", visible(work->user != NULL ? work->user : "-", user, sizeof user)},
        {"ATOLL_PEER", work->request->peer},
        {"ATOLL_STATUS", code},
    };
    atl_log_event(ATL_INFO, "audit", fields, ATL_COUNT(fields), "%s %s", work->request->head.method,
                  visible(work->api_path, path, sizeof path));
}
