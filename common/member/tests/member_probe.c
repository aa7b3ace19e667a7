/* Prints each change of membership as one line, until it is told to stop. For tests/component/test_member.py.
 */
#include <stdio.h>

#include "member/member.h"

static void print(const struct atl_membership *now, void *user)
{
    (void)user;
    (void)printf("{\"at\": %" PRId64 ", \"connected\": %d, \"quorate\": %d, \"ring\": %" PRIu64
                 ", \"votes\": [%u, %u, %u], \"config\": %" PRIu64 ", \"cluster\": \"%s\", \"members\": {",
                 now->changed_at, now->connected, now->quorate, now->ring, now->total_votes,
                 now->needed_votes, now->expected_votes, now->config_version, now->cluster_name);
    for (size_t i = 0; i < now->count; i++)
        (void)printf("%s\"%s\": [%u, %d, %d, \"%s\"]", i > 0 ? ", " : "", now->members[i].name,
                     now->members[i].id, now->members[i].online, now->members[i].self,
                     now->members[i].links[0]);
    (void)puts("}}");
    (void)fflush(stdout);
}

int main(void)
{
    struct atl_loop *loop = atl_loop_new();
    atl_loop_handle_signals(loop);
    const struct atl_members_options options = {.loop = loop, .node = "probe", .corosync = true};
    struct atl_members *members = atl_members_open(&options, print, NULL);
    atl_loop_run(loop);
    atl_members_close(&members);
    atl_loop_free(loop);
    return 0;
}
