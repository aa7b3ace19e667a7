/*
 * The thread that talks to corosync: libquorum tells of each membership, votequorum counts votes, cmap has
 * the configured nodes. It asks for the votes twice a second too, since a qdevice that goes is told by no
 * callback (corosync 3.1), and so that silence is noticed.
 */
#include <corosync/cmap.h>
#include <corosync/corotypes.h>
#include <corosync/quorum.h>
#include <corosync/votequorum.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "member/member_internal.h"

enum { ASK_MS = 500, RETRY_MS = 200, NODE_KEYS_MAX = 128, STOP_WAIT_S = 2 };

struct member_thread {
    pthread_t thread;
    pthread_mutex_t mutex;
    struct member_report report; /* under the mutex */
    bool ending;                 /* under the mutex */
    bool left;                   /* under the mutex: nobody waits, the thread frees itself */
    int wake_fd;
    int stop_fd;

    /* of the thread alone */
    struct atl_membership state;
    uint32_t online[ATL_MEMBERS_MAX];
    size_t online_count;
    quorum_handle_t quorum;
    votequorum_handle_t votes;
    cmap_handle_t map;
    cmap_track_handle_t track;
    bool has_quorum, has_votes, has_map;
    bool config_changed;
    bool told; /* a callback came in this round */
};

/* --- callbacks --------------------------------------------------------------------------------------------
 */

static struct member_thread *self_of(quorum_handle_t handle)
{
    const void *context = NULL;
    cs_error_t rc = quorum_context_get(handle, &context);
    atl_assert(rc == CS_OK);
    return (struct member_thread *)(uintptr_t)context; /* ours, which libquorum keeps as const */
}

static void on_quorum(quorum_handle_t handle, uint32_t quorate, struct quorum_ring_id ring, uint32_t count,
                      const uint32_t *list)
{
    struct member_thread *self = self_of(handle);
    self->state.quorate = quorate != 0;
    self->state.ring = ring.seq;
    self->online_count = count < ATL_MEMBERS_MAX ? count : ATL_MEMBERS_MAX;
    memcpy(self->online, list, self->online_count * sizeof *list);
    self->told = true;
}

/* The table of libquorum's model gives this its shape. */
/* NOLINTNEXTLINE(readability-function-size) */
static void on_nodes(quorum_handle_t handle, struct quorum_ring_id ring, uint32_t count, const uint32_t *list,
                     uint32_t joined_count, const uint32_t *joined, uint32_t left_count, const uint32_t *left)
{
    (void)handle; /* on_quorum() follows within a few milliseconds, and has all of it */
    (void)ring;
    (void)count;
    (void)list;
    (void)joined_count;
    (void)joined;
    (void)left_count;
    (void)left;
}

static void on_config(cmap_handle_t handle, cmap_track_handle_t track, int32_t event, const char *key,
                      struct cmap_notify_value now, struct cmap_notify_value before, void *user)
{
    struct member_thread *self = user;
    (void)handle;
    (void)track;
    (void)event;
    (void)key;
    (void)now;
    (void)before;
    self->config_changed = true;
}

/* --- what is configured -----------------------------------------------------------------------------------
 */

static void read_text(cmap_handle_t map, const char *key, char *text, size_t size)
{
    char *value = NULL;
    text[0] = '\0';
    if (cmap_get_string(map, key, &value) != CS_OK)
        return;
    (void)atl_copy(text, size, value);
    free(value);
}

static bool read_node(struct member_thread *self, unsigned int position, struct atl_member *member)
{
    char key[CMAP_KEYNAME_MAXLEN + 1];
    memset(member, 0, sizeof *member);
    (void)snprintf(key, sizeof key, "nodelist.node.%u.nodeid", position);
    if (cmap_get_uint32(self->map, key, &member->id) != CS_OK)
        return false;
    (void)snprintf(key, sizeof key, "nodelist.node.%u.name", position);
    read_text(self->map, key, member->name, sizeof member->name);
    for (unsigned int link = 0; link < ATL_MEMBER_LINKS; link++) {
        (void)snprintf(key, sizeof key, "nodelist.node.%u.ring%u_addr", position, link);
        read_text(self->map, key, member->links[link], sizeof member->links[link]);
    }
    (void)snprintf(key, sizeof key, "nodelist.node.%u.quorum_votes", position);
    if (cmap_get_uint32(self->map, key, &member->votes) != CS_OK)
        member->votes = 1;
    return true;
}

static int by_id(const void *a, const void *b)
{
    const struct atl_member *one = a;
    const struct atl_member *other = b;
    return (one->id > other->id) - (one->id < other->id);
}

static void read_config(struct member_thread *self)
{
    struct atl_membership *state = &self->state;
    uint32_t own = 0;
    self->config_changed = false;
    memset(state->members, 0, sizeof state->members);
    state->count = 0;
    (void)cmap_get_uint32(self->map, "runtime.votequorum.this_node_id", &own);
    for (unsigned int at = 0; at < NODE_KEYS_MAX && state->count < ATL_MEMBERS_MAX; at++) {
        struct atl_member *member = &state->members[state->count];
        if (!read_node(self, at, member))
            continue;
        member->self = member->id == own;
        state->count++;
    }
    memset(&state->members[state->count], 0, (ATL_MEMBERS_MAX - state->count) * sizeof state->members[0]);
    qsort(state->members, state->count, sizeof state->members[0], by_id);
    read_text(self->map, "totem.cluster_name", state->cluster_name, sizeof state->cluster_name);
    if (cmap_get_uint64(self->map, "totem.config_version", &state->config_version) != CS_OK)
        state->config_version = 0;
}

static void mark_online(struct member_thread *self)
{
    for (size_t i = 0; i < self->state.count; i++) {
        struct atl_member *member = &self->state.members[i];
        member->online = false;
        for (size_t k = 0; k < self->online_count; k++)
            member->online |= self->online[k] == member->id;
    }
}

/* --- a round ----------------------------------------------------------------------------------------------
 */

static void disconnect(struct member_thread *self)
{
    if (self->has_quorum)
        (void)quorum_finalize(self->quorum);
    if (self->has_votes)
        (void)votequorum_finalize(self->votes);
    if (self->has_map)
        (void)cmap_finalize(self->map);
    self->has_quorum = self->has_votes = self->has_map = false;
}

static bool connect_all(struct member_thread *self)
{
    quorum_model_v1_data_t model;
    memset(&model, 0, sizeof model);
    model.model = QUORUM_MODEL_V1;
    model.quorum_notify_fn = on_quorum;
    model.nodelist_notify_fn = on_nodes;
    uint32_t type = 0;
    self->has_quorum = quorum_model_initialize(&self->quorum, QUORUM_MODEL_V1, (quorum_model_data_t *)&model,
                                               &type, self) == CS_OK;
    if (!self->has_quorum || type != QUORUM_SET)
        return false;
    self->has_votes = votequorum_initialize(&self->votes, NULL) == CS_OK;
    self->has_map = cmap_initialize(&self->map) == CS_OK;
    if (!self->has_votes || !self->has_map)
        return false;
    self->config_changed = true;
    const int32_t all = CMAP_TRACK_ADD | CMAP_TRACK_DELETE | CMAP_TRACK_MODIFY | CMAP_TRACK_PREFIX;
    return cmap_track_add(self->map, "nodelist.", all, on_config, self, &self->track) == CS_OK &&
           cmap_track_add(self->map, "totem.config_version", all, on_config, self, &self->track) == CS_OK &&
           quorum_trackstart(self->quorum, CS_TRACK_CURRENT | CS_TRACK_CHANGES) == CS_OK;
}

static bool ask_votes(struct member_thread *self)
{
    struct votequorum_info info;
    memset(&info, 0, sizeof info);
    if (votequorum_getinfo(self->votes, VOTEQUORUM_QDEVICE_NODEID, &info) != CS_OK)
        memset(&info, 0, sizeof info);
    if (votequorum_getinfo(self->votes, 0, &info) != CS_OK)
        return false;
    self->state.expected_votes = info.highest_expected;
    self->state.total_votes = info.total_votes;
    self->state.needed_votes = info.quorum;
    self->state.has_qdevice = (info.flags & VOTEQUORUM_INFO_QDEVICE_REGISTERED) != 0;
    self->state.qdevice_votes =
        (info.flags & VOTEQUORUM_INFO_QDEVICE_CAST_VOTE) != 0 ? info.qdevice_votes : 0;
    self->state.quorate = (info.flags & VOTEQUORUM_INFO_QUORATE) != 0;
    return true;
}

/* Waits for news or for the next question; false: corosync is gone. */
static bool round_once(struct member_thread *self)
{
    int quorum_fd = -1;
    int map_fd = -1;
    if (quorum_fd_get(self->quorum, &quorum_fd) != CS_OK || cmap_fd_get(self->map, &map_fd) != CS_OK)
        return false;
    struct pollfd fds[] = {{.fd = quorum_fd, .events = POLLIN},
                           {.fd = map_fd, .events = POLLIN},
                           {.fd = self->stop_fd, .events = POLLIN}};
    if (poll(fds, ATL_COUNT(fds), ASK_MS) < 0)
        return true;
    if (fds[0].revents != 0 && quorum_dispatch(self->quorum, CS_DISPATCH_ALL) != CS_OK)
        return false;
    if (fds[1].revents != 0 && cmap_dispatch(self->map, CS_DISPATCH_ALL) != CS_OK)
        return false;
    if (self->config_changed)
        read_config(self);
    mark_online(self);
    return ask_votes(self);
}

/* Gives what was found to the loop; the lock is held for a copy only. */
static void report(struct member_thread *self, bool connected)
{
    atl_ns now = atl_clock_monotonic();
    (void)pthread_mutex_lock(&self->mutex);
    struct atl_membership *last = &self->report.state;
    bool news = !member_same(last, &self->state) || connected != (self->report.heard_at != 0);
    self->report.heard_at = connected ? now : 0;
    if (news) {
        self->state.changed_at = now;
        *last = self->state;
        self->report.number++;
    }
    (void)pthread_mutex_unlock(&self->mutex);
    const uint64_t one = 1;
    if (news && write(self->wake_fd, &one, sizeof one) < 0)
        return; /* the counter is full: the loop has a reason to look already */
}

static bool ending(struct member_thread *self)
{
    (void)pthread_mutex_lock(&self->mutex);
    bool ends = self->ending;
    (void)pthread_mutex_unlock(&self->mutex);
    return ends;
}

static void thread_free(struct member_thread *self)
{
    (void)close(self->stop_fd);
    (void)close(self->wake_fd);
    (void)pthread_mutex_destroy(&self->mutex);
    free(self);
}

static void *thread_main(void *user)
{
    struct member_thread *self = user;
    while (!ending(self)) {
        bool connected = connect_all(self);
        while (connected && !ending(self)) {
            connected = round_once(self);
            report(self, connected);
        }
        disconnect(self);
        report(self, false);
        struct pollfd stop = {.fd = self->stop_fd, .events = POLLIN};
        (void)poll(&stop, 1, RETRY_MS);
    }
    (void)pthread_mutex_lock(&self->mutex);
    bool left = self->left;
    (void)pthread_mutex_unlock(&self->mutex);
    if (left)
        thread_free(self);
    return NULL;
}

/* --- from the loop ----------------------------------------------------------------------------------------
 */

struct member_thread *member_thread_start(int wake_fd)
{
    struct member_thread *self = atl_new0(struct member_thread);
    self->wake_fd = wake_fd;
    self->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atl_assert(self->stop_fd >= 0);
    int rc = pthread_mutex_init(&self->mutex, NULL);
    atl_assert(rc == 0);
    rc = pthread_create(&self->thread, NULL, thread_main, self);
    atl_assert(rc == 0);
    return self;
}

void member_thread_read(struct member_thread *thread, struct member_report *ret_report)
{
    (void)pthread_mutex_lock(&thread->mutex);
    *ret_report = thread->report;
    (void)pthread_mutex_unlock(&thread->mutex);
}

void member_thread_stop(struct member_thread *thread)
{
    const uint64_t one = 1;
    struct timespec end;
    (void)pthread_mutex_lock(&thread->mutex);
    thread->ending = true;
    (void)pthread_mutex_unlock(&thread->mutex);
    if (write(thread->stop_fd, &one, sizeof one) < 0)
        return; /* cannot be: an eventfd at 0 takes a 1 */
    (void)clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += STOP_WAIT_S;
    if (pthread_timedjoin_np(thread->thread, NULL, &end) == 0) {
        thread_free(thread);
        return;
    }
    (void)pthread_mutex_lock(&thread->mutex);
    thread->left = true; /* it hangs in corosync: it ends, and frees what is its own, when corosync answers */
    (void)pthread_mutex_unlock(&thread->mutex);
    (void)pthread_detach(thread->thread);
}
