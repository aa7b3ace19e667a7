/* What the tree's own files say about the tree: datacenter.cfg. */
#ifndef CFG_OPTIONS_H
#define CFG_OPTIONS_H

#include "core/tree.h"

/*
 * The lowest free guest id in the range of datacenter.cfg ("next-id: lower=100,upper=1000000"); when the
 * caller names one (not 0), that one if it is free. Errors: ATL_E_EXISTS "VM 100 already exists"; ATL_E_LIMIT
 * no id is free.
 */
ATL_MUST_CHECK enum atl_code cfg_next_id(const struct cfg_tree *tree, uint32_t wish, uint32_t *ret_vmid,
                                         struct atl_error *err);

/* The value of `key: value` in a text of such lines ("datacenter.cfg", a guest's first section); false: not
 * there. Reads up to the first line that begins with '['. */
bool cfg_line_value(const char *text, const char *key, char *ret_value, size_t size);

#endif
