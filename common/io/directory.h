/*
 * The directory: which nodes the cluster has, where they are, and by which key each of their services is
 * known. The bus reads it to reach other nodes and to know who calls from them; nobody who is not in it is
 * admitted.
 *
 * It is fed with the files of `.state/directory/`, from a mirror by atl_directory_follow() or, in
 * config-store, by hand; and it starts from the copy that the node kept on disk. All functions belong to the
 * loop's thread.
 */
#ifndef ATL_IO_DIRECTORY_H
#define ATL_IO_DIRECTORY_H

#include "pure/base.h"
#include "pure/error.h"

enum {
    ATL_BUS_KEY_SIZE = 32,       /* of a CURVE key, public or secret */
    ATL_DIRECTORY_NODES = 256,   /* records past that are not taken */
    ATL_DIRECTORY_KEYS = 16,     /* services of a node */
    ATL_DIRECTORY_RECORD = 4096, /* bytes of a packed record */
    ATL_PROTOCOL_MINOR = 0,      /* the minor version of the protocol that we speak */
};
#define ATL_DIRECTORY_PREFIX ".state/directory/"

struct atl_directory;

struct atl_directory_key {
    char service[32];
    uint8_t public_key[ATL_BUS_KEY_SIZE];
};

struct atl_directory_node {
    char node[64];
    char address[64]; /* IPv4 or IPv6, without brackets */
    uint32_t protocol_minor;
    bool associate; /* no node of the cluster: a host with the services below and nothing else */
    size_t key_count;
    struct atl_directory_key keys[ATL_DIRECTORY_KEYS];
};

struct atl_directory *atl_directory_new(void);
void atl_directory_free(struct atl_directory **directory); /* after the bus and the mirror that use it */

/* The record of a node came or changed; bytes NULL: it is gone. One that is no record, whose address is none
 * or that gives a key twice counts as gone: it admits nobody. The listeners are called if that changes
 * anything. */
void atl_directory_feed(struct atl_directory *directory, const char *node, const void *bytes, size_t size);

/* Borrowed until the next feed; NULL: not in the directory. */
const struct atl_directory_node *atl_directory_node(const struct atl_directory *directory, const char *node);
const uint8_t *atl_directory_key(const struct atl_directory *directory, const char *service,
                                 const char *node);
/* Whose key it is. A key that two services claim belongs to neither. */
bool atl_directory_owner(const struct atl_directory *directory, const uint8_t key[ATL_BUS_KEY_SIZE],
                         const char **ret_service, const char **ret_node);
size_t atl_directory_count(const struct atl_directory *directory);
/* In the order of the names; borrowed likewise. */
const struct atl_directory_node *atl_directory_at(const struct atl_directory *directory, size_t index);

/* Where a service listens in a cluster: this port for calls and the next one for events (docs/decisions/
 * 0010). 0: no service of a node. */
uint16_t atl_directory_port(const char *service);

/* Calls fn after each feed that changed something. At most 4. */
typedef void atl_directory_fn(void *user);
void atl_directory_on_change(struct atl_directory *directory, atl_directory_fn *fn, void *user);
void atl_directory_drop_listener(struct atl_directory *directory, atl_directory_fn *fn, const void *user);

/* --- the copy on disk --- */

/* Reads the copy, if there is one, and from then on writes it anew after each change (0600, replaced by
 * rename). A copy that is damaged is left out with a warning. path is copied. Blocks for a small file. */
void atl_directory_keep(struct atl_directory *directory, const char *path);

#endif
