/* Stores for tests: one on SQLite or any number on one etcd, driven step by step. */
#ifndef CFG_ETCD_RIG_H
#define CFG_ETCD_RIG_H

#include "atl_test.h"

#include "drivers/etcd_move.h"
#include "etcd_fixture.h"
#include "store.h"

struct rig {
    struct atl_loop *loop;
    char dir[40];              /* of SQLite */
    struct etcd_fixture *etcd; /* NULL: on SQLite */
    const char *endpoints[ETCD_MEMBERS_MAX];
    struct cfg_shared_options shared;
};

void rig_open_sqlite(struct rig *rig);
/* Real etcd with an empty tree in it. */
void rig_open_etcd(struct rig *rig, size_t members, bool tls);
void rig_close(struct rig *rig);

struct cfg_store *rig_store(struct rig *rig);

/* Moves the tree of a SQLite engine, which holds the given files, into the rig's etcd. */
struct rig_file {
    const char *path;
    const char *text;
};
struct rig_move {
    const struct rig_file *files;
    size_t count;
    bool replace;
    bool (*step)(enum cfg_move_step step, void *user);
    void *user;
};
enum atl_code rig_move(struct rig *rig, const struct rig_move *what, uint64_t *ret_epoch,
                       struct atl_error *err);

/* One transaction, waited for. */
struct cfg_store_result rig_txn(struct rig *rig, struct cfg_store *store, const struct cfg_txn *txn,
                                const uint8_t *id);
struct cfg_store_result rig_put(struct rig *rig, struct cfg_store *store, const char *path, const char *text);
/* Begins one; *done tells. */
struct rig_answer {
    bool done;
    struct cfg_store_result result;
};
void rig_begin(struct cfg_store *store, const struct cfg_txn *txn, const uint8_t *id,
               struct rig_answer *answer);
void rig_wait(struct rig *rig, const bool *done);
/* Steps until the store shows the text at the path (NULL: nothing). */
void rig_wait_for(struct rig *rig, struct cfg_store *store, const char *path, const char *text);
const char *rig_text(struct cfg_store *store, const char *path); /* NULL: not there */

#endif
