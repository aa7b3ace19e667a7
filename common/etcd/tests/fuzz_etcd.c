/* Bytes from an etcd: watch answers one after the other, each with its length in front. */
#include "etcd/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct atl_etcd_events events;
    atl_etcd_events_init(&events, 0);
    while (size > 0) {
        size_t length = data[0] < size ? data[0] : size - 1;
        Etcd__WatchResponse *answer = etcd__watch_response__unpack(NULL, length, data + 1);
        data += length + 1;
        size -= length + 1;
        if (answer == NULL)
            continue;
        enum atl_code code = atl_etcd_events_add(&events, answer, NULL);
        etcd__watch_response__free_unpacked(answer, NULL);
        if (code != ATL_OK)
            break;
        Etcd__Event *const *got = NULL;
        int64_t before = events.seen;
        for (size_t count = 0; (count = atl_etcd_events_next(&events, &got)) > 0; before = events.seen) {
            atl_assert(events.seen > before);
            for (size_t i = 0; i < count; i++)
                atl_assert(got[i]->kv->mod_revision == events.seen);
        }
    }
    atl_etcd_events_done(&events);
    return 0;
}
