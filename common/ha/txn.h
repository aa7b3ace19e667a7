/* Transactions of high availability, put together in an arena. Pure. */
#ifndef ATL_HA_TXN_H
#define ATL_HA_TXN_H

#include "atoll/store/v1/store.pb-c.h"
#include "pure/arena.h"

struct atl_ha_txn {
    struct atl_arena *arena;               /* borrowed; all of the request lies in it */
    Atoll__Store__V1__TxnRequest *request; /* grows with each call */
    size_t compares;                       /* room in request->compare */
    size_t operations;                     /* room in request->operation */
};

struct atl_ha_txn atl_ha_txn_begin(struct atl_arena *arena);

/* The file must be as it was at that revision (borrowed until the request is sent); NULL: it must not be
 * there. */
void atl_ha_txn_compare(struct atl_ha_txn *txn, const char *path, const Atoll__Bus__V1__Revision *revision);

/* The path is copied, the content packed. */
void atl_ha_txn_put(struct atl_ha_txn *txn, const char *path, const ProtobufCMessage *content);
void atl_ha_txn_delete(struct atl_ha_txn *txn, const char *path);
void atl_ha_txn_rename(struct atl_ha_txn *txn, const char *path, const char *to);

#endif
