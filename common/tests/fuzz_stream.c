/* Opening frames of streams from any bytes, and in any pieces: what is taken comes back the same. */
#include <stdlib.h>
#include <string.h>

#include "io/stream_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stream_frame frame;
    enum stream_frame_state state = STREAM_FRAME_SHORT;
    for (size_t have = 0; have <= size && have <= STREAM_FRAME_MAX + 1; have++) {
        uint8_t *piece = malloc(have + 1); /* so that a read past its end is seen */
        memcpy(piece, data, have);
        enum stream_frame_state next = stream_frame_unpack(piece, have, &frame);
        free(piece);
        if (state == STREAM_FRAME_BAD && next != STREAM_FRAME_BAD)
            abort(); /* more bytes made it good */
        if (state == STREAM_FRAME_WHOLE && next != STREAM_FRAME_BAD)
            abort(); /* bytes behind the frame were taken */
        if (next == STREAM_FRAME_WHOLE) {
            uint8_t again[STREAM_FRAME_MAX];
            if (stream_frame_pack(frame.token, frame.channel, again) != have ||
                memcmp(again, data, have) != 0)
                abort();
        }
        state = next;
    }
    return 0;
}
