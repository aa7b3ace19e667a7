/* Names in the tree: which paths there may be, what they mean, who may touch them. */
#ifndef CFG_PATH_H
#define CFG_PATH_H

#include "pure/error.h"

enum {
    CFG_PATH_MAX = 1024,
    CFG_PART_MAX = 255,
    CFG_VMID_MIN = 100,
    CFG_VMID_MAX = 999999999,
    CFG_NODE_MAX = 63
};

/*
 * A path is parts joined by '/', without one at its ends: printable ASCII, at most 255 bytes a part, none
 * empty,
 * "." or "..". Below nodes/NODE/qemu-server and nodes/NODE/lxc only ID.conf may stand.
 * Errors: ATL_E_INVALID, naming "path".
 */
ATL_MUST_CHECK enum atl_code cfg_path_check(const char *path, struct atl_error *err);

enum cfg_guest_type { CFG_NO_GUEST, CFG_QEMU, CFG_LXC };

struct cfg_guest_path {
    enum cfg_guest_type type; /* CFG_NO_GUEST: the path is of another kind */
    uint32_t vmid;
    char node[CFG_NODE_MAX + 1];
};

/* Takes "nodes/NODE/qemu-server/ID.conf" and "nodes/NODE/lxc/ID.conf" apart. */
struct cfg_guest_path cfg_guest_path(const char *path);

/* Is path below the prefix? "nodes/" is a folder, "user.cfg" one file, "" all; "*" stands for one whole part.
 */
bool cfg_path_below(const char *path, const char *prefix);

/* May that service (a name on the bus) read or write the path? Unknown services may nothing. */
bool cfg_may_read(const char *service, const char *path);
bool cfg_may_write(const char *service, const char *path);

#endif
