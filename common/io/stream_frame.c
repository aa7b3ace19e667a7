/* The opening frame of a stream, and its offer on the bus. */
#include <string.h>

#include "io/stream_internal.h"

static const uint8_t magic[] = {'A', 'T', 'L', 'S', 1};
static_assert(sizeof magic + 1 == STREAM_FRAME_HEAD, "the length of the name follows");

static bool is_channel(const char *name, size_t length)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:";
    for (size_t i = 0; i < length; i++) {
        if (name[i] == '\0' || strchr(letters, name[i]) == NULL)
            return false;
    }
    return length >= 1 && length <= ATL_STREAM_CHANNEL_MAX;
}

size_t stream_frame_pack(const uint8_t token[ATL_STREAM_TOKEN], const char *channel,
                         uint8_t bytes[STREAM_FRAME_MAX])
{
    size_t length = strnlen(channel, ATL_STREAM_CHANNEL_MAX + 1);
    if (!is_channel(channel, length))
        return 0;
    memcpy(bytes, magic, sizeof magic);
    bytes[sizeof magic] = (uint8_t)length;
    memcpy(bytes + STREAM_FRAME_HEAD, token, ATL_STREAM_TOKEN);
    memcpy(bytes + STREAM_FRAME_HEAD + ATL_STREAM_TOKEN, channel, length);
    return STREAM_FRAME_HEAD + ATL_STREAM_TOKEN + length;
}

enum stream_frame_state stream_frame_unpack(const uint8_t *bytes, size_t size, struct stream_frame *ret)
{
    size_t common = size < sizeof magic ? size : sizeof magic;
    if (memcmp(bytes, magic, common) != 0)
        return STREAM_FRAME_BAD;
    if (size < STREAM_FRAME_HEAD)
        return STREAM_FRAME_SHORT;
    size_t length = bytes[sizeof magic];
    size_t whole = STREAM_FRAME_HEAD + ATL_STREAM_TOKEN + length;
    if (length < 1 || length > ATL_STREAM_CHANNEL_MAX || size > whole)
        return STREAM_FRAME_BAD;
    if (size < whole)
        return STREAM_FRAME_SHORT;
    const char *channel = (const char *)bytes + STREAM_FRAME_HEAD + ATL_STREAM_TOKEN;
    if (!is_channel(channel, length))
        return STREAM_FRAME_BAD;
    memcpy(ret->token, bytes + STREAM_FRAME_HEAD, ATL_STREAM_TOKEN);
    memcpy(ret->channel, channel, length);
    ret->channel[length] = '\0';
    return STREAM_FRAME_WHOLE;
}

Atoll__Bus__V1__StreamOffer *atl_stream_offer_pack(const struct atl_stream_offer *offer,
                                                   struct atl_arena *arena)
{
    Atoll__Bus__V1__StreamOffer *message = atl_arena_new(arena, Atoll__Bus__V1__StreamOffer);
    atoll__bus__v1__stream_offer__init(message);
    message->address = atl_arena_strdup(arena, offer->address);
    message->port = offer->port;
    message->fingerprint.data = atl_arena_copy(arena, offer->fingerprint, sizeof offer->fingerprint);
    message->fingerprint.len = sizeof offer->fingerprint;
    message->token.data = atl_arena_copy(arena, offer->token, sizeof offer->token);
    message->token.len = sizeof offer->token;
    return message;
}

enum atl_code atl_stream_offer_unpack(const Atoll__Bus__V1__StreamOffer *message,
                                      struct atl_stream_offer *ret_offer, struct atl_error *err)
{
    struct atl_stream_offer offer = {0};
    if (message->fingerprint.len != sizeof offer.fingerprint || message->token.len != sizeof offer.token ||
        message->port < ATL_STREAM_PORT_FIRST || message->port > ATL_STREAM_PORT_LAST ||
        !atl_copy(offer.address, sizeof offer.address, message->address))
        return atl_fail(err, ATL_E_INVALID, NULL, "the other node offers a stream that is none");
    offer.port = (uint16_t)message->port;
    memcpy(offer.fingerprint, message->fingerprint.data, sizeof offer.fingerprint);
    memcpy(offer.token, message->token.data, sizeof offer.token);
    *ret_offer = offer;
    return ATL_OK;
}
