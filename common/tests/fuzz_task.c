/* Task ids and the status of a spool from any bytes: what is accepted comes back the same. */
#include <stdlib.h>
#include <string.h>

#include "io/task_spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = atl_strndup((const char *)data, size);
    struct atl_upid upid;
    char again[ATL_UPID_MAX];
    struct atl_upid second;
    if (atl_upid_from_text(text, &upid, NULL) == ATL_OK &&
        (atl_upid_to_text(&upid, again, NULL) != ATL_OK ||
         atl_upid_from_text(again, &second, NULL) != ATL_OK || second.pstart != upid.pstart ||
         second.pid != upid.pid || second.start != upid.start || strcmp(second.user, upid.user) != 0 ||
         strcmp(second.id, upid.id) != 0))
        abort();
    struct atl_upid_filter filter = {.status = text, .user = text};
    upid = (struct atl_upid){.user = "root@pam"};
    (void)atl_upid_passes(&filter, &upid, "OK");
    struct atl_task_info info = {0};
    atl_spool_status_parse(text, &info);
    if ((info.state == ATL_TASK_STOPPED) != (info.exit[0] != '\0'))
        abort();
    free(text);
    return 0;
}
