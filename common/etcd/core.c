/* What etcd's answers mean, without I/O. */
#include "etcd/core.h"

#include <stdlib.h>
#include <string.h>

/* etcd's own refusals. All else that came back may have been proposed before it failed: "request timed out",
 * "leader changed", "server stopped". */
enum atl_etcd_outcome atl_etcd_outcome(const struct atl_etcd_ending *ending)
{
    if (ending->code == ATL_OK)
        return ATL_ETCD_DONE;
    if (!ending->sent)
        return ATL_ETCD_NOT_DONE;
    if (!ending->remote)
        return ATL_ETCD_UNKNOWN;
    switch (ending->code) {
    case ATL_E_INVALID:
    case ATL_E_ABSENT:
    case ATL_E_EXISTS:
    case ATL_E_DENIED:
    case ATL_E_LIMIT:
    case ATL_E_STATE:
    case ATL_E_RANGE:
    case ATL_E_UNIMPLEMENTED:
    case ATL_E_UNAUTHENTICATED:
        return ATL_ETCD_NOT_DONE;
    case ATL_E_UNAVAILABLE: /* refused at the door */
        return strcmp(ending->text, "etcdserver: no leader") == 0 ? ATL_ETCD_NOT_DONE : ATL_ETCD_UNKNOWN;
    default:
        return ATL_ETCD_UNKNOWN;
    }
}

size_t atl_etcd_prefix_end(const uint8_t *prefix, size_t size, uint8_t *ret_end)
{
    while (size > 0 && prefix[size - 1] == 0xff)
        size--;
    atl_assert(size > 0);
    memcpy(ret_end, prefix, size);
    ret_end[size - 1]++;
    return size;
}

void atl_etcd_events_init(struct atl_etcd_events *events, int64_t seen)
{
    *events = (struct atl_etcd_events){.seen = seen};
}

static void drop_first(struct atl_etcd_events *events, size_t count)
{
    for (size_t i = 0; i < count; i++)
        etcd__event__free_unpacked(events->events[i], NULL);
    memmove(events->events, events->events + count, (events->count - count) * sizeof events->events[0]);
    events->count -= count;
}

void atl_etcd_events_done(struct atl_etcd_events *events)
{
    if (events->count > 0)
        drop_first(events, events->count);
    free(events->events);
    *events = (struct atl_etcd_events){0};
}

static int64_t last_revision(const struct atl_etcd_events *events)
{
    return events->count > 0 ? events->events[events->count - 1]->kv->mod_revision : events->seen;
}

enum atl_code atl_etcd_events_add(struct atl_etcd_events *events, Etcd__WatchResponse *answer,
                                  struct atl_error *err)
{
    atl_assert(events->given == 0 && events->ready == 0);
    if (answer->n_events > ATL_ETCD_EVENTS_MAX - events->count)
        return atl_fail(err, ATL_E_LIMIT, NULL, "more than %d events in one answer", ATL_ETCD_EVENTS_MAX);
    if (events->count + answer->n_events > events->room) {
        events->room = 2 * (events->count + answer->n_events);
        events->events = atl_realloc(events->events, events->room * sizeof events->events[0]);
    }
    for (size_t i = 0; i < answer->n_events; i++) {
        Etcd__Event *event = answer->events[i];
        if (event->kv == NULL || event->kv->mod_revision < last_revision(events))
            return atl_fail(err, ATL_E_INVALID, NULL, "events out of order");
        answer->events[i] = NULL;
        if (event->kv->mod_revision <= events->seen)
            etcd__event__free_unpacked(event, NULL); /* told before the connection was lost */
        else
            events->events[events->count++] = event;
    }
    answer->n_events = 0; /* its array is freed with the answer */
    events->ready = events->count;
    if (answer->fragment) /* the last revision may go on in the next part */
        while (events->ready > 0 &&
               events->events[events->ready - 1]->kv->mod_revision == last_revision(events))
            events->ready--;
    return ATL_OK;
}

size_t atl_etcd_events_next(struct atl_etcd_events *events, Etcd__Event *const **ret_events)
{
    if (events->given == events->ready) {
        if (events->given > 0)
            drop_first(events, events->given);
        events->given = events->ready = 0;
        return 0;
    }
    size_t from = events->given;
    int64_t revision = events->events[from]->kv->mod_revision;
    while (events->given < events->ready && events->events[events->given]->kv->mod_revision == revision)
        events->given++;
    events->seen = revision;
    *ret_events = events->events + from;
    return events->given - from;
}
