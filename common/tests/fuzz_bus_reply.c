/* Bytes that come back to a caller: header, errors, payload of an answer. A call ends once, whatever comes.
 */
#include "fuzz_bus_peer.h"

static const uint8_t call_id[ATL_REQUEST_ID_SIZE] = {1, 2, 3};

struct ending {
    unsigned int times;
};

static void ended(const struct atl_reply *reply, void *user)
{
    struct ending *ending = user;
    ending->times++;
    fuzz_must(ending->times == 1 && reply->code < ATL_CODES);
    fuzz_must((reply->code == ATL_OK) == (reply->output != NULL));
    if (reply->output != NULL) {
        fuzz_must(reply->output->descriptor == test_message.descriptor);
        (void)protobuf_c_message_get_packed_size(reply->output); /* reads all of it */
        return;
    }
    fuzz_must(memchr(reply->error.text, '\0', sizeof reply->error.text) != NULL);
    fuzz_must(memchr(reply->error.field, '\0', sizeof reply->error.field) != NULL);
    for (size_t i = 0; reply->errors != NULL && i < reply->errors->count; i++)
        fuzz_must(memchr(reply->errors->items[i].text, '\0', sizeof reply->errors->items[i].text) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says which method is called and whether the id in the header is put right, two more how long
 * the header is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct fuzz_peer fuzz;
    if (fuzz.bus == NULL)
        fuzz = fuzz_peer_open();
    if (size < 3)
        return 0;
    bool mend = data[0] & 1;
    const struct atl_rpc *rpc = &test_rpcs[data[0] & 2 ? TEST_COUNT : TEST_ECHO];
    size_t header_size = (size_t)data[1] << 8 | data[2];
    data += 3;
    size -= 3;
    if (header_size > size)
        header_size = size;
    zmq_msg_t header;
    zmq_msg_t payload;
    fuzz_frame(&header, data, header_size);
    fuzz_frame(&payload, data + header_size, size - header_size);
    bus_header *read = mend ? atoll__bus__v1__header__unpack(NULL, header_size, data) : NULL;
    if (read != NULL) {
        ProtobufCBinaryData own = read->request_id;
        uint8_t id[ATL_REQUEST_ID_SIZE];
        memcpy(id, call_id, sizeof id);
        read->has_version = read->has_kind = read->has_request_id = read->has_status = 1;
        read->kind = ATOLL__BUS__V1__HEADER__KIND__REPLY;
        read->request_id = (ProtobufCBinaryData){.len = sizeof id, .data = id};
        (void)zmq_msg_close(&header);
        atl_bus_header_pack(read, &header);
        read->request_id = own;
        atoll__bus__v1__header__free_unpacked(read, NULL);
    }
    struct ending ending = {0};
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    const struct atl_call_options options = {.request_id = call_id};
    struct atl_call *call = atl_bus_call(fuzz.bus, rpc, &input.base, &options, ended, &ending);
    fuzz_must(fuzz.peer->sent.first == call);
    atl_bus_peer_message(fuzz.peer, &header, &payload);
    if (ending.times == 0)
        atl_call_cancel(call);
    fuzz_must(fuzz.peer->calls == 0 && fuzz.bus->calls.count == 0);
    (void)zmq_msg_close(&header);
    (void)zmq_msg_close(&payload);
    fuzz_peer_drain(&fuzz);
    return 0;
}
