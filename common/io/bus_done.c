/* The answers of requests that must not be executed twice, kept for a while for those who ask again. */
#include <stdlib.h>
#include <string.h>

#include "io/bus_internal.h"

static void drop_oldest(struct bus_done_list *list)
{
    struct bus_done *done = list->oldest;
    list->oldest = done->newer;
    if (list->oldest == NULL)
        list->newest = NULL;
    list->bytes -= done->size;
    atl_bus_map_remove(&list->map, &done->node);
    (void)zmq_msg_close(&done->header); /* fails for uninitialised messages only */
    (void)zmq_msg_close(&done->payload);
    free(done);
}

static void drop_old(struct bus_done_list *list, atl_ns now)
{
    while (list->oldest != NULL && now - list->oldest->at >= BUS_DONE_LIFE)
        drop_oldest(list);
}

static void share(zmq_msg_t *to, zmq_msg_t *from)
{
    (void)zmq_msg_init(to); /* never fails */
    int rc = zmq_msg_copy(to, from);
    atl_assert(rc == 0);
}

void atl_bus_done_add(struct bus_done_list *list, const uint8_t *id, uint64_t fingerprint, zmq_msg_t *header,
                      zmq_msg_t *payload, atl_ns now)
{
    drop_old(list, now);
    struct bus_done *done = atl_new0(struct bus_done);
    memcpy(done->node.id, id, ATL_REQUEST_ID_SIZE);
    done->at = now;
    done->fingerprint = fingerprint;
    done->size = sizeof *done + zmq_msg_size(header) + zmq_msg_size(payload);
    share(&done->header, header);
    share(&done->payload, payload);
    list->bytes += done->size;
    atl_bus_map_add(&list->map, &done->node);
    if (list->newest != NULL)
        list->newest->newer = done;
    else
        list->oldest = done;
    list->newest = done;
    while (list->map.count > BUS_DONE_MAX || (list->bytes > BUS_DONE_BYTES && list->oldest != list->newest))
        drop_oldest(list);
}

struct bus_done *atl_bus_done_find(struct bus_done_list *list, const uint8_t *id, atl_ns now)
{
    drop_old(list, now);
    return (struct bus_done *)atl_bus_map_find(&list->map, id);
}

void atl_bus_done_free(struct bus_done_list *list)
{
    while (list->oldest != NULL)
        drop_oldest(list);
    atl_bus_map_done(&list->map);
}
