/*
 * Calls methods over the bus as one of its services, without any user's assertion, and tells what came back.
 *
 * usage: atl_bus_probe RUN-DIR SERVICE [DIR NODE]
 * DIR NODE: as an associate of that name, with the key and the directory in DIR, to any node of the cluster
 * lines METHOD<TAB>FORM-ENCODED-PARAMETERS on standard input
 * prints METHOD<TAB>PATH<TAB>CODE<TAB>TEXT for each
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/bus.h"
#include "pure/codec.h"

static const char *to; /* NULL: this node */

static enum atl_code call(struct atl_bus *bus, const struct atl_rpc *rpc, const char *form,
                          struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_param *params = NULL;
    size_t count = 0;
    struct atl_errors errors = {0};
    ProtobufCMessage *input = NULL;
    enum atl_code code = atl_form_params(form, strlen(form), &arena, &params, &count, err);
    if (code == ATL_OK)
        code = atl_params_decode(rpc->input, params, count, &arena, &input, &errors);
    if (code != ATL_OK)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the probe's own parameters: %s %s",
                        errors.count > 0 ? errors.items[0].field : "",
                        errors.count > 0 ? errors.items[0].text : "");
    const ProtobufCMessage *output = NULL;
    const struct atl_call_options options = {.deadline = 5 * ATL_SECOND, .node = to};
    return atl_bus_call_wait(bus, rpc, input, &options, &arena, &output, err);
}

static enum atl_code become_associate(struct atl_bus *bus, struct atl_directory *directory, const char *dir,
                                      struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *key = atl_format("%s/bus.key", dir);
    ATL_FREE_AT_EXIT char *copy = atl_format("%s/directory", dir);
    to = ATL_ANY_NODE;
    atl_directory_keep(directory, copy);
    return atl_bus_join_cluster(
        bus, &(const struct atl_bus_cluster){.directory = directory, .key_file = key, .associate = true},
        err);
}

int main(int argc, char **argv)
{
    if (argc != 3 && argc != 5) {
        (void)fprintf(stderr, "usage: atl_bus_probe RUN-DIR SERVICE [DIR NODE] <METHODS\n");
        return 2;
    }
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    const struct atl_bus_options options = {.loop = loop,
                                            .service = argv[2],
                                            .node = argc == 5 ? argv[4] : "probe",
                                            .run_dir = argv[1],
                                            .client_only = true};
    struct atl_directory *directory = atl_directory_new();
    enum atl_code opened = atl_bus_open(&options, &bus, &err);
    if (opened == ATL_OK && argc == 5)
        opened = become_associate(bus, directory, argv[3], &err);
    if (opened != ATL_OK) {
        (void)fprintf(stderr, "atl_bus_probe: %s\n", err.text);
        atl_loop_free(loop);
        return 1;
    }
    char line[8192];
    int unknown = 0;
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *form = line;
        const char *method = strsep(&form, "\t");
        const struct atl_rpc *rpc = atl_contract_rpc(method);
        if (rpc == NULL) {
            (void)fprintf(stderr, "atl_bus_probe: no method '%s'\n", method);
            unknown++;
            continue;
        }
        err = (struct atl_error){0};
        enum atl_code code = call(bus, rpc, form != NULL ? form : "", &err);
        (void)printf("%s\t%s\t%s\t%s\n", method, rpc->path != NULL ? rpc->path : "-", atl_code_to_text(code),
                     err.text);
    }
    atl_bus_close(&bus);
    atl_directory_free(&directory);
    atl_loop_free(loop);
    return unknown > 0;
}
