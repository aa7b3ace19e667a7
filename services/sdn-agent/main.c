/* atoll-sdn-agent: the networks of a node. */
#include <string.h>

#include "sdn.h"

static struct sdn_options options = {.interfaces = "/etc/network/interfaces"};
static bool teardown;

static const struct atl_program_option program_options[] = {
    {"interfaces", "FILE", "the host's interfaces (default /etc/network/interfaces)", &options.interfaces,
     NULL},
    {"teardown", NULL, "take down what an agent with these folders made, and end", NULL, &teardown},
};

static enum atl_code start(struct atl_program *program, void **ret_self, struct atl_error *err)
{
    return sdn_start(program, &options, ret_self, err);
}

/* The value of --NAME VALUE or --NAME=VALUE, or the default. */
static const char *option_of(int argc, char **argv, const char *name, const char *fallback)
{
    size_t length = strlen(name);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0 && i + 1 < argc)
            return argv[i + 1];
        if (strncmp(argv[i], name, length) == 0 && argv[i][length] == '=')
            return argv[i] + length + 1;
    }
    return fallback;
}

int main(int argc, char **argv)
{
    /* Taking down needs no bus and no node: it is done before the service's frame begins. */
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--teardown") == 0)
            return sdn_teardown(option_of(argc, argv, "--run-dir", "/run/atoll"),
                                option_of(argc, argv, "--state-dir", "/var/lib/atoll"));
    }
    return atl_program_main(&(const struct atl_program_spec){.name = "sdn-agent",
                                                             .summary = "networks of a node",
                                                             .options = program_options,
                                                             .option_count = ATL_COUNT(program_options),
                                                             .start = start,
                                                             .stop = sdn_stop},
                            argc, argv);
}
