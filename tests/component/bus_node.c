/*
 * A node of the bus by itself: one service in a cluster, told by lines what to do.
 *
 * usage: atl_bus_node NAME DIR ADDRESS SERVICE
 * Writes its record of the directory to DIR/NAME.record, prints "ready", and then takes
 *     know NODE            the record DIR/NODE.record into the directory
 *     call NODE SERVICE    asks for an echo
 *     hold NODE SERVICE    asks for something that is not idempotent and is never answered
 * Each prints a line when it ends: "known NODE", or "call|hold CODE MILLISECONDS sent|unsent TEXT".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atoll/store/v1/directory.pb-c.h"
#include "common/tests/bus_contract.h"
#include "io/bus.h"
#include "io/directory.h"

struct node {
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_directory *directory;
    const char *dir;
    char input[256];
    size_t length;
};

struct asked {
    const char *what;
    atl_ns since;
};

static void echo(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)user;
    atl_request_reply(request, input);
}

static void hold(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    (void)request; /* answered by the bus when its time is over */
    (void)input;
    (void)user;
}

static void answered(const struct atl_reply *reply, void *user)
{
    struct asked *asked = user;
    (void)printf("%s %s %.0f %s %s\n", asked->what, atl_code_to_text(reply->code),
                 (double)(atl_clock_monotonic() - asked->since) / 1e6, reply->sent ? "sent" : "unsent",
                 reply->code != ATL_OK ? reply->error.text : "");
    free(asked);
}

static void ask(struct node *node, const char *what, const char *whom, const char *service)
{
    struct asked *asked = atl_new0(struct asked);
    bool holds = strcmp(what, "hold") == 0;
    *asked = (struct asked){.what = holds ? "hold" : "call", .since = atl_clock_monotonic()};
    Atoll__Bus__V1__Event input = ATOLL__BUS__V1__EVENT__INIT;
    const struct atl_call_options options = {.service = service, .node = whom, .deadline = 20 * ATL_SECOND};
    (void)atl_bus_call(node->bus, &test_rpcs[holds ? TEST_SLOW : TEST_ECHO], &input.base, &options, answered,
                       asked);
}

static void know(struct node *node, const char *whom)
{
    uint8_t packed[ATL_DIRECTORY_RECORD];
    ATL_FREE_AT_EXIT char *path = atl_format("%s/%s.record", node->dir, whom);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        (void)fprintf(stderr, "atl_bus_node: no %s\n", path);
        exit(1);
    }
    size_t size = fread(packed, 1, sizeof packed, file);
    (void)fclose(file); /* it was read only */
    atl_directory_feed(node->directory, whom, packed, size);
    (void)printf("known %s\n", whom);
}

static void obey(struct node *node, char *line)
{
    const char *what = strsep(&line, " ");
    const char *whom = strsep(&line, " ");
    if (whom != NULL && strcmp(what, "know") == 0)
        know(node, whom);
    else if (whom != NULL && line != NULL)
        ask(node, what, whom, line);
}

static void on_input(void *user, unsigned int events)
{
    (void)events;
    struct node *node = user;
    ssize_t got = read(STDIN_FILENO, node->input + node->length, sizeof node->input - 1 - node->length);
    if (got <= 0) {
        atl_loop_stop(node->loop);
        return;
    }
    node->length += (size_t)got;
    node->input[node->length] = '\0';
    for (char *end = strchr(node->input, '\n'); end != NULL; end = strchr(node->input, '\n')) {
        *end = '\0';
        obey(node, node->input);
        node->length -= (size_t)(end + 1 - node->input);
        memmove(node->input, end + 1, node->length + 1);
    }
}

static bool write_record(const struct node *node, const char *name, char *address, char *service)
{
    Atoll__Store__V1__DirectoryNode record = ATOLL__STORE__V1__DIRECTORY_NODE__INIT;
    Atoll__Store__V1__ServiceKey line = ATOLL__STORE__V1__SERVICE_KEY__INIT;
    Atoll__Store__V1__ServiceKey *lines[] = {&line};
    uint8_t key[ATL_BUS_KEY_SIZE];
    uint8_t packed[ATL_DIRECTORY_RECORD];
    memcpy(key, atl_bus_public_key(node->bus), sizeof key);
    line.service = service;
    line.public_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    record.address = address;
    record.n_key = 1;
    record.key = lines;
    size_t size = atoll__store__v1__directory_node__pack(&record, packed);
    ATL_FREE_AT_EXIT char *path = atl_format("%s/%s.record", node->dir, name);
    FILE *file = fopen(path, "we");
    bool written = file != NULL && fwrite(packed, 1, size, file) == size;
    return file != NULL && fclose(file) == 0 && written;
}

static enum atl_code open_node(struct node *node, char **argv, struct atl_error *err)
{
    static const char *const callers[] = {"cli", NULL};
    static const struct atl_handler handlers[] = {{"Echo", echo}, {"Slow", hold}};
    ATL_FREE_AT_EXIT char *run_dir = atl_format("%s/%s", argv[2], argv[1]);
    ATL_FREE_AT_EXIT char *key = atl_format("%s/%s.key", argv[2], argv[1]);
    const struct atl_bus_options options = {
        .loop = node->loop, .service = argv[4], .node = argv[1], .run_dir = run_dir, .make_folders = callers};
    enum atl_code code = atl_bus_open(&options, &node->bus, err);
    if (code != ATL_OK)
        return code;
    atl_bus_serve(node->bus, &test_service, handlers, ATL_COUNT(handlers), NULL);
    const struct atl_bus_cluster cluster = {.directory = node->directory, .key_file = key};
    code = atl_bus_join_cluster(node->bus, &cluster, err);
    if (code == ATL_OK && !write_record(node, argv[1], argv[3], argv[4]))
        return atl_fail(err, ATL_E_IO, NULL, "cannot write the record");
    return code;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        (void)fprintf(stderr, "usage: atl_bus_node NAME DIR ADDRESS SERVICE\n");
        return 2;
    }
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    struct node node = {.loop = atl_loop_new(), .directory = atl_directory_new(), .dir = argv[2]};
    struct atl_error err = {0};
    enum atl_code code = open_node(&node, argv, &err);
    if (code == ATL_OK) {
        (void)atl_loop_fd(node.loop, STDIN_FILENO, ATL_READ, on_input, &node);
        (void)printf("ready\n");
        atl_loop_run(node.loop);
    } else {
        (void)fprintf(stderr, "atl_bus_node: %s\n", err.text);
    }
    atl_bus_close(&node.bus);
    atl_loop_free(node.loop);
    atl_directory_free(&node.directory);
    return code == ATL_OK ? 0 : 1;
}
