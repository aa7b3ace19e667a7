/* Bytes from a connection through the whole path of a request: header, admission, payload, handler. */
#include <stdlib.h>
#include <string.h>

#include "bus_contract.h"
#include "io/bus_internal.h"

static void echo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)user;
    atl_request_reply(request, input);
}

static const struct atl_handler handlers[] = {{"Echo", echo}, {"Count", echo}};

static struct bus_port *open_port(void)
{
    struct atl_bus *bus = NULL;
    struct atl_bus_options options = {.loop = atl_loop_new(),
                                      .service = "tester",
                                      .node = "n",
                                      .run_dir = "/nonexistent",
                                      .client_only = true};
    if (atl_bus_open(&options, &bus, NULL) != ATL_OK)
        abort();
    atl_bus_serve(bus, &test_service, handlers, ATL_COUNT(handlers), NULL);
    atl_bus_serve_builtin(bus);
    return atl_bus_port_new(bus, "friend", NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Two bytes say how long the header is. The clock is put right, or nearly every input would be late. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bus_port *port;
    if (port == NULL)
        port = open_port();
    if (size < 2)
        return 0;
    size_t header_size = (size_t)data[0] << 8 | data[1];
    data += 2;
    size -= 2;
    if (header_size > size)
        header_size = size;
    zmq_msg_t header;
    zmq_msg_t payload;
    if (zmq_msg_init_size(&header, header_size) != 0 || zmq_msg_init_size(&payload, size - header_size) != 0)
        abort();
    memcpy(zmq_msg_data(&header), data, header_size);
    memcpy(zmq_msg_data(&payload), data + header_size, size - header_size);
    const struct bus_identity from = {.size = 1, .bytes = {1}};
    bus_header *read = atoll__bus__v1__header__unpack(NULL, header_size, zmq_msg_data(&header));
    if (read != NULL && read->has_sent_at_ns) {
        read->sent_at_ns = atl_clock_boot();
        (void)zmq_msg_close(&header);
        atl_bus_header_pack(read, &header);
    }
    if (read != NULL)
        atoll__bus__v1__header__free_unpacked(read, NULL);
    atl_bus_port_message(port, &from, &header, &payload);
    (void)zmq_msg_close(&header);
    (void)zmq_msg_close(&payload);
    return 0;
}
