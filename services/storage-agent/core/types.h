/* Inside of the core: the table of storage types and the small checks that reading and changing share. */
#ifndef STO_CORE_TYPES_H
#define STO_CORE_TYPES_H

#include "core/config.h"

/* Bits of a list "images,iso"; ret_wrong is the first word that is no content, or NULL. */
uint32_t sto_content_bits(const char *list, const char **ret_wrong, struct atl_arena *arena);

/* A relative folder without "." and ".." parts. */
bool sto_folder_ok(const char *folder);

/* An absolute path without "." and ".." parts and control bytes, not "/" alone. */
bool sto_path_ok(const char *path);

/* Fills dirs from "iso=my/images,vztmpl=other"; false when a part cannot be taken. */
bool sto_dirs_read(const char *text, const char *dirs[STO_CONTENTS], struct atl_arena *arena);

#endif
