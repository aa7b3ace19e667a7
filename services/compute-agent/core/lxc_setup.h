/*
 * The files inside a container that tell it its name, its network and its first password: old text in, new
 * text out. Which files there are depends on the kind of system; an unmanaged one keeps its files as they
 * are.
 */
#ifndef CMP_LXC_SETUP_H
#define CMP_LXC_SETUP_H

#include "atoll/lxc/v1/helper.pb-c.h"
#include "pure/arena.h"

struct cmp_lxc_file {
    const char *path; /* absolute inside the container */
    const char
        *folder;   /* made first when it is missing, with mode 0700 (0755 if not secret); NULL: must exist */
    uint32_t mode; /* of a new file; an old one keeps its own */
    bool only_existing; /* a file that is not there is not made */
    bool secret;
};

enum { CMP_LXC_FILES_MAX = 48, CMP_LXC_FILE_BYTES = 1 << 20 };

/* The files to look at, in order. Returns how many were written to files (CMP_LXC_FILES_MAX places). */
size_t cmp_lxc_setup_files(const Atoll__Lxc__V1__Setup *setup, struct atl_arena *arena,
                           struct cmp_lxc_file *files);

/*
 * The new text of one of these files.
 *
 * old      text now, terminated, or NULL when the file is not there
 * returns  the new text, in the arena; NULL when nothing is to change
 */
const char *cmp_lxc_setup_text(const Atoll__Lxc__V1__Setup *setup, const char *path, const char *old,
                               struct atl_arena *arena);

/* For lxc_setup_net.c. */
size_t cmp_lxc_setup_net_files(const Atoll__Lxc__V1__Setup *setup, struct atl_arena *arena,
                               struct cmp_lxc_file *files, size_t room);
const char *cmp_lxc_setup_net_text(const Atoll__Lxc__V1__Setup *setup, const char *path, const char *old,
                                   struct atl_arena *arena);

#endif
