/* What the files of the etcd client share. */
#ifndef ATL_ETCD_INTERNAL_H
#define ATL_ETCD_INTERNAL_H

#include "etcd/etcd.h"

extern const struct atl_grpc_metadata etcd_needs_leader[1];

/* The packed message; free() it. */
uint8_t *etcd_pack(const ProtobufCMessage *message, size_t *ret_size);

#endif
