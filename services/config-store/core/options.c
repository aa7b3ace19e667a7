/* What the tree's own files say about the tree. */
#include "core/options.h"

#include <stdlib.h>
#include <string.h>

enum { NEXT_LOWER = 100, NEXT_UPPER = 1000000 };

bool cfg_line_value(const char *text, const char *key, char *ret_value, size_t size)
{
    size_t length = strlen(key);
    for (const char *line = text; *line != '\0' && *line != '[';) {
        size_t end = strcspn(line, "\n");
        if (strncmp(line, key, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;
            value += strspn(value, " \t");
            size_t used = (size_t)(line + end - value);
            if (value > line + end)
                used = 0;
            while (used > 0 && (value[used - 1] == ' ' || value[used - 1] == '\t' || value[used - 1] == '\r'))
                used--;
            if (used >= size)
                used = size - 1;
            memcpy(ret_value, value, used);
            ret_value[used] = '\0';
            return true;
        }
        line += end;
        if (*line == '\n')
            line++;
    }
    return false;
}

/* lower=X or upper=X in a property string. */
static uint32_t read_bound(const char *text, const char *key, uint32_t fallback)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        return fallback;
    unsigned long value = strtoul(at + strlen(key), NULL, 10);
    return value >= CFG_VMID_MIN && value <= CFG_VMID_MAX ? (uint32_t)value : fallback;
}

enum atl_code cfg_next_id(const struct cfg_tree *tree, uint32_t wish, uint32_t *ret_vmid,
                          struct atl_error *err)
{
    if (wish != 0) {
        const struct cfg_file *holder = cfg_tree_guest(tree, wish);
        if (holder != NULL)
            return atl_fail(err, ATL_E_EXISTS, "vmid", "VM %u already exists", wish);
        *ret_vmid = wish;
        return ATL_OK;
    }
    char range[128] = "";
    const struct cfg_file *file = cfg_tree_get(tree, "datacenter.cfg");
    if (file != NULL)
        (void)cfg_line_value((const char *)file->bytes, "next-id", range, sizeof range);
    uint32_t lower = read_bound(range, "lower=", NEXT_LOWER);
    uint32_t upper = read_bound(range, "upper=", NEXT_UPPER);
    uint32_t found = cfg_tree_next_id(tree, lower, upper);
    if (found == 0)
        return atl_fail(err, ATL_E_LIMIT, "vmid", "unable to get any free VMID in range [%u, %u]", lower,
                        upper);
    *ret_vmid = found;
    return ATL_OK;
}
