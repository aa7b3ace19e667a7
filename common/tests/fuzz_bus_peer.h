/* A bus that calls a service which is the fuzzer: what it sends goes nowhere, what comes back is made up. */
#ifndef ATL_TESTS_FUZZ_BUS_PEER_H
#define ATL_TESTS_FUZZ_BUS_PEER_H

#include <stdlib.h>
#include <string.h>

#include "bus_contract.h"
#include "io/bus_internal.h"

struct fuzz_peer {
    struct atl_bus *bus;
    struct bus_peer *peer;
    void *sink; /* the other end of the peer's socket */
};

static inline void fuzz_must(bool holds)
{
    if (!holds)
        abort();
}

static inline struct fuzz_peer fuzz_peer_open(void)
{
    struct fuzz_peer fuzz = {0};
    const struct atl_bus_options options = {.loop = atl_loop_new(),
                                            .service = "friend",
                                            .node = "n",
                                            .run_dir = "/nonexistent",
                                            .client_only = true};
    fuzz_must(atl_bus_open(&options, &fuzz.bus, NULL) == ATL_OK);
    fuzz.peer = atl_bus_peer(fuzz.bus, "tester", NULL);
    fuzz.sink = zmq_socket(fuzz.bus->context, ZMQ_DEALER);
    fuzz_must(fuzz.peer != NULL && fuzz.sink != NULL);
    fuzz_must(zmq_bind(fuzz.sink, "inproc://sink") == 0);
    fuzz_must(zmq_connect(fuzz.peer->socket, "inproc://sink") == 0);
    fuzz.peer->connected = true;
    return fuzz;
}

static inline void fuzz_peer_drain(const struct fuzz_peer *fuzz)
{
    zmq_msg_t parts[3];
    while (atl_bus_receive(fuzz->sink, parts) > 0)
        atl_bus_parts_close(parts);
    atl_bus_parts_close(parts);
}

static inline void fuzz_peer_close(struct fuzz_peer *fuzz)
{
    struct atl_loop *loop = fuzz->bus->loop;
    (void)zmq_close(fuzz->sink);
    atl_bus_close(&fuzz->bus);
    atl_loop_free(loop);
    *fuzz = (struct fuzz_peer){0};
}

static inline void fuzz_frame(zmq_msg_t *frame, const uint8_t *bytes, size_t size)
{
    fuzz_must(zmq_msg_init_size(frame, size) == 0);
    if (size > 0)
        memcpy(zmq_msg_data(frame), bytes, size);
}

#endif
