/* When the members of etcd give back space. */
#include "core/space.h"

#define WORTH ((uint64_t)16 << 20) /* a smaller database is not worth the pause */
enum { AMPLE_PERCENT = 80 };

static bool is_worth(const struct cfg_space_member *member, bool scarce)
{
    if (scarce)
        return member->compacted || member->bytes - member->used > member->bytes / 10;
    return member->bytes >= WORTH && member->bytes / 2 > member->used;
}

int cfg_space_choose(const struct cfg_space_member *members, size_t count, bool scarce)
{
    int chosen = -1;
    size_t leaders = 0;
    for (size_t i = 0; i < count; i++) {
        if (!members[i].answered || members[i].used > members[i].bytes)
            return -1;
        leaders += members[i].leads;
        if (is_worth(&members[i], scarce) && (chosen < 0 || members[chosen].leads))
            chosen = (int)i;
    }
    return leaders == 1 ? chosen : -1;
}

bool cfg_space_is_ample(const struct cfg_space_member *members, size_t count, uint64_t quota)
{
    for (size_t i = 0; i < count; i++)
        if (!members[i].answered || members[i].bytes >= quota / 100 * AMPLE_PERCENT)
            return false;
    return count > 0;
}
