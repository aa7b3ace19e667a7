/* What a backup of the tree holds. */
#include "core/backup.h"

#include <string.h>

enum { NAME_MAX_BYTES = 64 };

bool cfg_backup_covers(const char *path)
{
    static const char *const left[] = {".state/", "corosync.conf", "authkey.pub", "priv/authkey.key",
                                       "priv/csrf.key"};
    for (size_t i = 0; i < ATL_COUNT(left); i++)
        if (cfg_path_below(path, left[i]))
            return false;
    return true;
}

static enum atl_code take(const struct cfg_tree *from, bool covered, struct cfg_tree *to,
                          struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < from->count && code == ATL_OK; i++) {
        const struct cfg_file *file = from->files[i];
        if (cfg_backup_covers(file->path) == covered)
            code = cfg_tree_load(to, file->path, file->bytes, file->size, file->number, err);
    }
    return code;
}

enum atl_code cfg_backup_merge(const struct cfg_tree *saved, const struct cfg_tree *now,
                               struct cfg_tree *ret_tree, struct atl_error *err)
{
    cfg_tree_init(ret_tree, (saved->epoch > now->epoch ? saved->epoch : now->epoch) + 1);
    ret_tree->number = saved->number > now->number ? saved->number : now->number;
    enum atl_code code = take(saved, true, ret_tree, err);
    return code == ATL_OK ? take(now, false, ret_tree, err) : code;
}

/* The next file from `at` on that a backup does not cover, or NULL. */
static const struct cfg_file *next_left(const struct cfg_tree *tree, size_t *at)
{
    while (*at < tree->count && cfg_backup_covers(tree->files[*at]->path))
        (*at)++;
    return *at < tree->count ? tree->files[(*at)++] : NULL;
}

bool cfg_backup_rest_same(const struct cfg_tree *one, const struct cfg_tree *other)
{
    size_t i = 0;
    size_t k = 0;
    for (;;) {
        const struct cfg_file *a = next_left(one, &i);
        const struct cfg_file *b = next_left(other, &k);
        if (a == NULL || b == NULL)
            return a == NULL && b == NULL;
        if (strcmp(a->path, b->path) != 0 || a->number != b->number)
            return false;
    }
}

bool cfg_backup_name_valid(const char *name)
{
    size_t length = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return length > 0 && length <= NAME_MAX_BYTES && name[length] == '\0' && name[0] != '.';
}
