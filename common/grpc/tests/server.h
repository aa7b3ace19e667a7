/* A gRPC server for tests, in the same loop, that behaves as badly as the method's name says. */
#ifndef GRPC_TEST_SERVER_H
#define GRPC_TEST_SERVER_H

#include "io/loop.h"

struct test_server;

/* Listens on 127.0.0.1; port 0: any. */
struct test_server *test_server_new(struct atl_loop *loop, uint16_t port);
void test_server_free(struct test_server **server);
/* "127.0.0.1:PORT" */
const char *test_server_endpoint(const struct test_server *server);
uint16_t test_server_port(const struct test_server *server);
/* Accepts connections and says nothing any more, on any of them. */
void test_server_mute(struct test_server *server);
/* How often a request came whole, all methods together. */
unsigned int test_server_requests(const struct test_server *server);
unsigned int test_server_connections(const struct test_server *server); /* so far */
/* The grpc-timeout of the last request. */
const char *test_server_timeout(const struct test_server *server);

#endif
