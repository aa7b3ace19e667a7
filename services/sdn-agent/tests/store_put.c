/*
 * Writes one file of the tree as compute-agent does; for test_sdn_network.py.
 *
 * usage: sdn_store_put RUN-DIR PATH TEXT
 */
#include <stdio.h>
#include <string.h>

#include "io/mirror.h"

int main(int argc, char **argv)
{
    if (argc != 4) {
        (void)fprintf(stderr, "usage: sdn_store_put RUN-DIR PATH TEXT\n");
        return 2;
    }
    struct atl_loop *loop = atl_loop_new();
    struct atl_bus *bus = NULL;
    struct atl_error err = {0};
    const struct atl_bus_options options = {
        .loop = loop, .service = "compute-agent", .node = "n1", .run_dir = argv[1], .client_only = true};
    enum atl_code code = atl_bus_open(&options, &bus, &err);
    if (code == ATL_OK) {
        struct atl_txn txn;
        struct atl_revision revision;
        atl_txn_init(&txn);
        atl_txn_put(&txn, argv[2], argv[3], strlen(argv[3]));
        code = atl_txn_send_wait(bus, &txn, 5 * ATL_SECOND, &revision, &err);
        atl_txn_done(&txn);
        atl_bus_close(&bus);
    }
    atl_loop_free(loop);
    if (code != ATL_OK)
        (void)fprintf(stderr, "sdn_store_put: %s\n", err.text);
    return code != ATL_OK;
}
