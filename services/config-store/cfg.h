/* The parts of config-store and how they hang together. */
#ifndef CFG_H
#define CFG_H

#include "atoll/bus/v1/bus.pb-c.h"
#include "io/guard.h"
#include "io/service.h"
#include "store.h"

struct cfg_watchers;
struct cfg_locks;
struct cfg_identity;
struct cfg_view;
struct cfg_reach;
struct cfg_cluster;

struct cfg {
    const struct atl_program *program;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct cfg_store *store;
    struct atl_keeper *keeper;
    struct cfg_watchers *watchers;
    struct cfg_locks *locks;
    struct cfg_identity *identity;
    struct cfg_view *view;
    struct cfg_reach *reach;
    struct cfg_cluster *cluster;
};

/* Answers with an error made on the spot. */
ATL_PRINTF(4, 5)
void cfg_refuse(struct atl_request *request, enum atl_code code, const char *field, const char *format, ...);
/* Answers with `Nothing`. */
void cfg_reply_nothing(struct atl_request *request);

/* Who asks, on what is on disk. False: refused, answered. */
bool cfg_get_subject(struct cfg *cfg, struct atl_request *request, struct atl_subject *subject);
Atoll__Bus__V1__Revision *cfg_new_revision(struct atl_arena *arena, uint64_t epoch, uint64_t number);

/* A file of the tree as text, "" when it is not there; what is queued counts. Borrowed until the next change.
 */
const char *cfg_text_ahead(const struct cfg *cfg, const char *path, size_t *ret_size);

/* The RPC surfaces, one file each. */
void cfg_serve_store(struct cfg *cfg);
void cfg_serve_identity(struct cfg *cfg);
void cfg_serve_access(struct cfg *cfg);
void cfg_serve_cluster(struct cfg *cfg);
void cfg_serve_options(struct cfg *cfg);
void cfg_serve_pools(struct cfg *cfg);
void cfg_serve_directory(struct cfg *cfg);

/* One table serves a service of the contract: these handlers stand in several files. */
atl_handler_fn cfg_handle_watch;
atl_handler_fn cfg_handle_lock;
atl_handler_fn cfg_handle_renew_lock;
atl_handler_fn cfg_handle_unlock;

struct cfg_watchers *cfg_watchers_new(struct cfg *cfg);
void cfg_watchers_free(struct cfg_watchers **watchers);
struct cfg_locks *cfg_locks_new(struct cfg *cfg);
void cfg_locks_free(struct cfg_locks **locks);

#endif
