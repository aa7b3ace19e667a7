/* Privileges and the built-in roles, as the administration manual lists them. */
#ifndef ATL_PURE_ROLES_H
#define ATL_PURE_ROLES_H

#include "pure/base.h"

typedef uint64_t atl_privs; /* a set of privileges, one bit each */

enum { ATL_PRIV_MAX = 64 };

/* The names, sorted; the index is the bit. */
extern const char *const atl_priv_names[];
extern const size_t atl_priv_count;

/* The bit of a privilege, or 0 when there is none of that name. */
atl_privs atl_priv_from_text(const char *name);
/* All privileges there are. */
atl_privs atl_privs_all(void);

struct atl_builtin_role {
    const char *name;
    atl_privs privs;
    bool no_access; /* takes away all that other roles give on the same path */
};

/* The built-in role of that name, or NULL. */
const struct atl_builtin_role *atl_builtin_role(const char *name);
/* The built-in role at index, sorted by name, or NULL behind the last. */
const struct atl_builtin_role *atl_builtin_role_at(size_t index);

#endif
