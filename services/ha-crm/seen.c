/* When files of the tree changed, on this node's own clock. */
#include <stdlib.h>
#include <string.h>

#include "io/log.h"
#include "shell.h"

static struct crm_seen *find(struct crm *crm, const char *path)
{
    for (size_t i = 0; i < crm->seen_count; i++)
        if (strcmp(crm->seen[i].path, path) == 0)
            return &crm->seen[i];
    return NULL;
}

void crm_seen_note(struct crm *crm, const char *path, bool absent)
{
    struct crm_seen *seen = find(crm, path);
    if (seen != NULL && absent) {
        free(seen->path);
        *seen = crm->seen[--crm->seen_count];
        return;
    }
    if (seen == NULL && !absent) {
        if (crm->seen_count == CRM_SEEN_MAX) { /* its age stays 0: nothing is ever taken over because of it */
            atl_log(ATL_ERROR, "too-many-nodes", "more than %d files of nodes to watch", CRM_SEEN_MAX);
            return;
        }
        seen = &crm->seen[crm->seen_count++];
        seen->path = atl_strdup(path);
    }
    if (seen != NULL)
        seen->at = atl_clock_boot();
}

uint64_t crm_seen_age(const struct crm *crm, const char *path)
{
    for (size_t i = 0; i < crm->seen_count; i++)
        if (strcmp(crm->seen[i].path, path) == 0)
            return (uint64_t)((atl_clock_boot() - crm->seen[i].at) / ATL_MS);
    return 0;
}
