/* A contract for tests of the bus, by hand: one service whose messages are Events. */
#ifndef ATL_TESTS_BUS_CONTRACT_H
#define ATL_TESTS_BUS_CONTRACT_H

#include "atoll/bus/v1/bus.pb-c.h"
#include "pure/contract.h"

static const struct atl_message test_message = {.name = "atoll.bus.v1.Event",
                                                .descriptor = &atoll__bus__v1__event__descriptor};
static const char *const test_callers[] = {"friend", "api-gateway", "ha-lrm", NULL};
static const char *const test_any[] = {"VM.Audit", NULL};
static const struct atl_perm test_perm = {.path = "/vms", .any = test_any};
static const struct atl_perm test_world = {.world = true};
static const struct atl_service test_service;

#define TEST_RPC(n, at, f, ms, who, what) TEST_VERB_RPC(ATL_NO_VERB, n, at, f, ms, who, what)
#define TEST_VERB_RPC(v, n, at, f, ms, who, what)                                                            \
    {                                                                                                        \
        .name = "atoll.test.v1.Test." n, .service = &test_service, .input = &test_message,                   \
        .output = &test_message, .flags = (f), .deadline_ms = (ms), .callers = (who), .perm = (what),        \
        .index = (at), .verb = (v)                                                                           \
    }

enum { TEST_ECHO, TEST_SLOW, TEST_COUNT, TEST_USER, TEST_WORLD, TEST_UNBUILT, TEST_STEADY, TEST_READ };
static const struct atl_rpc test_rpcs[] = {
    [TEST_ECHO] = TEST_RPC("Echo", TEST_ECHO, ATL_R_IDEMPOTENT, 5000, test_callers, NULL),
    [TEST_SLOW] = TEST_RPC("Slow", TEST_SLOW, 0, 5000, test_callers, NULL),
    [TEST_COUNT] = TEST_RPC("Count", TEST_COUNT, 0, 5000, test_callers, NULL),
    [TEST_USER] = TEST_RPC("User", TEST_USER, ATL_R_IDEMPOTENT, 5000, NULL, &test_perm),
    [TEST_WORLD] = TEST_RPC("World", TEST_WORLD, ATL_R_IDEMPOTENT, 5000, NULL, &test_world),
    [TEST_UNBUILT] = TEST_RPC("Unbuilt", TEST_UNBUILT, 0, 5000, test_callers, NULL),
    [TEST_STEADY] = TEST_RPC("Steady", TEST_STEADY, ATL_R_IDEMPOTENT, 5000, test_callers, NULL),
    [TEST_READ] = TEST_VERB_RPC(ATL_GET, "Read", TEST_READ, ATL_R_IDEMPOTENT, 5000, NULL, &test_perm),
};

/* What protoc-c would write; names of methods are not looked at. */
static const ProtobufCMethodDescriptor test_method_descriptors[] = {
    {"Echo", &atoll__bus__v1__event__descriptor, &atoll__bus__v1__event__descriptor},
};
static const ProtobufCServiceDescriptor test_service_descriptor = {
    .magic = PROTOBUF_C__SERVICE_DESCRIPTOR_MAGIC,
    .name = "atoll.test.v1.Test",
    .short_name = "Test",
    .n_methods = 1,
    .methods = test_method_descriptors,
};
static const struct atl_service test_service = {.name = "atoll.test.v1.Test",
                                                .server = "tester",
                                                .descriptor = &test_service_descriptor,
                                                .rpcs = test_rpcs,
                                                .count = sizeof test_rpcs / sizeof test_rpcs[0]};

#endif
