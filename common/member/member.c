/* Membership as the loop sees it. */
#include "member/member.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "member/member_internal.h"

#define CHECK_TIME (250 * ATL_MS)

struct atl_members {
    struct atl_loop *loop;
    atl_members_fn *fn;
    void *user;
    struct member_thread *thread; /* NULL: alone */
    int wake_fd;
    struct atl_watch *watch;
    struct atl_timer *check;
    struct member_report report;
    struct atl_membership now;
};

static bool same_member(const struct atl_member *one, const struct atl_member *other)
{
    bool same = one->id == other->id && one->votes == other->votes && one->online == other->online &&
                one->self == other->self && strcmp(one->name, other->name) == 0;
    for (size_t link = 0; link < ATL_MEMBER_LINKS && same; link++)
        same = strcmp(one->links[link], other->links[link]) == 0;
    return same;
}

bool member_same(const struct atl_membership *one, const struct atl_membership *other)
{
    bool same = one->connected == other->connected && one->quorate == other->quorate &&
                one->ring == other->ring && one->config_version == other->config_version &&
                one->expected_votes == other->expected_votes && one->total_votes == other->total_votes &&
                one->needed_votes == other->needed_votes && one->qdevice_votes == other->qdevice_votes &&
                one->has_qdevice == other->has_qdevice && one->count == other->count &&
                strcmp(one->cluster_name, other->cluster_name) == 0;
    for (size_t i = 0; i < one->count && same; i++)
        same = same_member(&one->members[i], &other->members[i]);
    return same;
}

bool member_apply(const struct member_report *report, atl_ns clock, struct atl_membership *now)
{
    struct atl_membership next = report->state;
    bool heard = report->heard_at != 0 && clock - report->heard_at < MEMBER_STALE;
    next.connected = heard;
    next.quorate = heard && report->state.quorate;
    if (!heard) {
        next.changed_at = clock;
        for (size_t i = 0; i < next.count; i++)
            next.members[i].online = false;
    }
    if (member_same(now, &next))
        return false;
    next.quorate_at = next.quorate != now->quorate ? next.changed_at : now->quorate_at;
    *now = next;
    return true;
}

static void look(struct atl_members *members)
{
    member_thread_read(members->thread, &members->report);
    if (member_apply(&members->report, atl_clock_monotonic(), &members->now) && members->fn != NULL)
        members->fn(&members->now, members->user);
}

static void on_wake(void *user, unsigned int events)
{
    struct atl_members *members = user;
    uint64_t count = 0;
    (void)events;
    if (read(members->wake_fd, &count, sizeof count) == (ssize_t)sizeof count)
        look(members);
}

static void on_check(void *user)
{
    look(user);
}

static void be_alone(struct atl_members *members, const char *node)
{
    struct atl_membership *now = &members->now;
    now->connected = now->quorate = true;
    now->changed_at = now->quorate_at = atl_clock_monotonic();
    now->expected_votes = now->total_votes = now->needed_votes = 1;
    now->count = 1;
    now->members[0] = (struct atl_member){.id = 1, .votes = 1, .online = true, .self = true};
    (void)atl_copy(now->members[0].name, sizeof now->members[0].name, node);
}

struct atl_members *atl_members_open(const struct atl_members_options *options, atl_members_fn *fn,
                                     void *user)
{
    struct atl_members *members = atl_new0(struct atl_members);
    members->loop = options->loop;
    members->fn = fn;
    members->user = user;
    members->wake_fd = -1;
    if (!options->corosync) {
        be_alone(members, options->node);
        return members;
    }
    members->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atl_assert(members->wake_fd >= 0);
    members->thread = member_thread_start(members->wake_fd);
    members->watch = atl_loop_fd(options->loop, members->wake_fd, ATL_READ, on_wake, members);
    members->check = atl_loop_timer(options->loop, CHECK_TIME, CHECK_TIME, on_check, members);
    return members;
}

void atl_members_close(struct atl_members **members)
{
    struct atl_members *old = *members;
    *members = NULL;
    if (old == NULL)
        return;
    atl_timer_free(old->check);
    atl_watch_free(old->watch);
    if (old->thread != NULL)
        member_thread_stop(old->thread); /* closes the descriptor when it ends in time */
    free(old);
}

const struct atl_membership *atl_members_now(const struct atl_members *members)
{
    return &members->now;
}

const struct atl_member *atl_members_find(const struct atl_membership *now, const char *name)
{
    for (size_t i = 0; i < now->count; i++)
        if (strcmp(now->members[i].name, name) == 0)
            return &now->members[i];
    return NULL;
}
