/* What reading and changing a container's file share. */
#ifndef CMP_LXC_UPDATE_H
#define CMP_LXC_UPDATE_H

#include "core/lxc_doc.h"

enum { CMP_LXC_NAME = 64 };

/* The next name of a list with commas, semicolons or blanks; *at moves on and is NULL at the end (or at
 * once). A mark "!" before a name is dropped; a name that is too long is cut, so it is unknown. */
bool cmp_lxc_next_name(const char **at, char ret_name[CMP_LXC_NAME]);

Atoll__Lxc__V1__File *cmp_lxc_file_new(struct atl_arena *arena);
bool cmp_lxc_pending_name(const char *name);

#endif
