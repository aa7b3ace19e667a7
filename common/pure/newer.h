/*
 * Parameters of a newer version: what a node sends that the other one, which is older, does not know. The
 * older one finds their numbers and refuses the request; the newer one knows their names. A parameter is
 * never dropped in silence while a cluster is upgraded node by node.
 */
#ifndef ATL_PURE_NEWER_H
#define ATL_PURE_NEWER_H

#include "pure/contract.h"

enum { ATL_NEWER_MAX = 64 };

/* The first field that this message, or one in it, carries and its descriptor lacks: "#7.900" is field 900 of
 * the message in field 7. False: there is none. */
bool atl_newer_find(const ProtobufCMessage *message, char ret_path[ATL_NEWER_MAX]);

/* The name of that parameter to who knows it, "net[n].queues". False, and nothing written: the text is no
 * such path, or we do not know it either. */
bool atl_newer_name(const struct atl_message *table, const char *path, char ret_name[ATL_NEWER_MAX]);

#endif
