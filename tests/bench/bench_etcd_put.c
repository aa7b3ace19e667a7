/*
 * Writes a key of 1 KiB again and again with the bare client, as often as said; prints the median in
 * microseconds. For bench_cluster.py, which runs it inside a node.
 *
 * usage: bench_etcd_put ADDRESS:PORT CA CERT KEY COUNT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "etcd/etcd.h"
#include "etcd/etcd.pb-c.h"

enum { CONTENT = 1024 };

static void on_put(const struct atl_etcd_answer *answer, void *user)
{
    if (answer->code != ATL_OK) {
        (void)fprintf(stderr, "bench_etcd_put: %s\n", answer->error.text);
        exit(EXIT_FAILURE);
    }
    *(bool *)user = true;
}

static double put(struct atl_loop *loop, struct atl_grpc *channel)
{
    static uint8_t key[] = "bench/bare";
    static uint8_t content[CONTENT];
    bool done = false;
    Etcd__PutRequest request = ETCD__PUT_REQUEST__INIT;
    request.key = (ProtobufCBinaryData){.data = key, .len = sizeof key - 1};
    request.value = (ProtobufCBinaryData){.data = content, .len = sizeof content};
    atl_ns start = atl_clock_monotonic();
    (void)atl_etcd_call(channel, ATL_ETCD_PUT, &request.base, 10 * ATL_SECOND, on_put, &done);
    while (!done)
        atl_loop_step(loop, -1);
    return bench_since(start);
}

int main(int argc, char **argv)
{
    size_t count = argc == 6 ? strtoul(argv[5], NULL, 10) : 0;
    if (count == 0) {
        (void)fprintf(stderr, "usage: bench_etcd_put ADDRESS:PORT CA CERT KEY COUNT\n");
        return 2;
    }
    struct atl_loop *loop = atl_loop_new();
    struct atl_grpc *channel = NULL;
    struct atl_error err = {0};
    const char *endpoint = argv[1];
    const struct atl_grpc_tls tls = {.ca_file = argv[2], .cert_file = argv[3], .key_file = argv[4]};
    const struct atl_grpc_options options = {
        .loop = loop, .endpoints = &endpoint, .endpoint_count = 1, .tls = &tls, .seed = 1};
    if (atl_grpc_new(&options, &channel, &err) != ATL_OK) {
        (void)fprintf(stderr, "bench_etcd_put: %s\n", err.text);
        return EXIT_FAILURE;
    }
    double *samples = atl_alloc0(count * sizeof *samples);
    (void)put(loop, channel);
    for (size_t i = 0; i < count; i++)
        samples[i] = put(loop, channel);
    (void)printf("%.1f\n", bench_median(samples, count));
    free(samples);
    atl_grpc_free(&channel);
    atl_loop_free(loop);
    return EXIT_SUCCESS;
}
