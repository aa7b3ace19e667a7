/* Which engine the command line asks for. */
#ifndef CFG_CHOOSE_H
#define CFG_CHOOSE_H

#include "drivers/engine.h"
#include "drivers/shared.h"

/* As text; NULL: not given. */
struct cfg_engine_choice {
    const char *kind;
    const char *endpoints;
    const char *home; /* see struct atl_grpc_options; NULL */
    const char *ca_file;
    const char *cert_file;
    const char *key_file;
    const char *quota;
    const char *seal_key; /* file; see struct cfg_shared_options */
};

/* The options point into this, so it stays until the store is open. */
struct cfg_engine_chosen {
    const struct cfg_engine_driver *driver; /* or NULL, with `shared` */
    const struct cfg_shared_driver *shared;
    struct cfg_shared_options options;
    struct atl_grpc_tls tls;
    const char *endpoints[ATL_GRPC_ENDPOINTS_MAX];
    char text[1024];
};

/* Errors: ATL_E_INVALID, naming the option. */
ATL_MUST_CHECK enum atl_code cfg_engine_choose(const struct cfg_engine_choice *choice, struct atl_loop *loop,
                                               struct cfg_engine_chosen *ret_chosen, struct atl_error *err);

#endif
