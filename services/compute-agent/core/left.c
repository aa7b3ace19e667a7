/* What a creation that was cut off has left. */
#include "core/left.h"

#include <string.h>

bool cmp_left_keeps(char *const *keep, size_t count, const char *volid)
{
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(keep[i]);
        bool storage = length > 0 && keep[i][length - 1] == ':';
        if (storage ? strncmp(keep[i], volid, length) == 0 : strcmp(keep[i], volid) == 0)
            return true;
    }
    return false;
}

atl_ns cmp_left_pause(unsigned int failed)
{
    enum { FIRST_S = 10, LONGEST_S = 600 };
    if (failed == 0 || failed >= CMP_LEFT_TRIES)
        return 0;
    uint64_t seconds = (uint64_t)FIRST_S << (failed - 1);
    return (atl_ns)(seconds < LONGEST_S ? seconds : LONGEST_S) * ATL_SECOND;
}
