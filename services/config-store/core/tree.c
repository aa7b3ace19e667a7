/* The tree in memory. */
#include "core/tree.h"

#include <stdlib.h>
#include <string.h>

/* --- files
 * -------------------------------------------------------------------------------------------------- */

static struct cfg_file *file_new(const char *path, const void *bytes, size_t size, uint64_t number)
{
    struct cfg_file *file = atl_new0(struct cfg_file);
    file->path = atl_strdup(path);
    file->bytes = atl_alloc0(size + 1);
    if (size > 0)
        memcpy(file->bytes, bytes, size);
    file->size = size;
    file->number = number;
    return file;
}

static void file_free(struct cfg_file *file)
{
    if (file == NULL)
        return;
    free(file->path);
    free(file->bytes);
    free(file);
}

static uint64_t file_cost(const struct cfg_file *file)
{
    return strlen(file->path) + file->size;
}

void cfg_tree_init(struct cfg_tree *tree, uint64_t epoch)
{
    *tree = (struct cfg_tree){.epoch = epoch, .bytes_max = CFG_TREE_BYTES_MAX};
}

void cfg_tree_done(struct cfg_tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        file_free(tree->files[i]);
    free(tree->files);
    free(tree->guests);
    *tree = (struct cfg_tree){0};
}

size_t cfg_tree_seek(const struct cfg_tree *tree, const char *path)
{
    size_t low = 0;
    size_t high = tree->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(tree->files[middle]->path, path) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct cfg_file *find(const struct cfg_tree *tree, const char *path)
{
    size_t at = cfg_tree_seek(tree, path);
    return at < tree->count && strcmp(tree->files[at]->path, path) == 0 ? tree->files[at] : NULL;
}

const struct cfg_file *cfg_tree_get(const struct cfg_tree *tree, const char *path)
{
    return find(tree, path);
}

/* --- guest ids
 * ---------------------------------------------------------------------------------------------- */

static size_t guest_seek(const struct cfg_tree *tree, uint32_t vmid)
{
    size_t low = 0;
    size_t high = tree->guest_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tree->guests[middle].vmid < vmid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct cfg_file *cfg_tree_guest(const struct cfg_tree *tree, uint32_t vmid)
{
    size_t at = guest_seek(tree, vmid);
    return at < tree->guest_count && tree->guests[at].vmid == vmid ? tree->guests[at].file : NULL;
}

static void guest_put(struct cfg_tree *tree, uint32_t vmid, const struct cfg_file *file)
{
    size_t at = guest_seek(tree, vmid);
    if (at == tree->guest_count || tree->guests[at].vmid != vmid) {
        if (tree->guest_count == tree->guest_room) {
            tree->guest_room = tree->guest_room == 0 ? 64 : tree->guest_room * 2;
            tree->guests = atl_realloc(tree->guests, tree->guest_room * sizeof tree->guests[0]);
        }
        memmove(&tree->guests[at + 1], &tree->guests[at], (tree->guest_count - at) * sizeof tree->guests[0]);
        tree->guest_count++;
    }
    tree->guests[at] = (struct cfg_guest){.vmid = vmid, .file = file};
}

static void guest_drop(struct cfg_tree *tree, uint32_t vmid)
{
    size_t at = guest_seek(tree, vmid);
    atl_assert(at < tree->guest_count);
    atl_assert(tree->guests[at].vmid == vmid);
    memmove(&tree->guests[at], &tree->guests[at + 1], (tree->guest_count - at - 1) * sizeof tree->guests[0]);
    tree->guest_count--;
}

uint32_t cfg_tree_next_id(const struct cfg_tree *tree, uint32_t low, uint32_t high)
{
    uint32_t wanted = low;
    for (size_t at = guest_seek(tree, low); at < tree->guest_count && tree->guests[at].vmid == wanted; at++)
        wanted++;
    return wanted <= high ? wanted : 0;
}

static const char *guest_word(enum cfg_guest_type type)
{
    return type == CFG_QEMU ? "VM" : "CT";
}

/* The sentence that clients of the API match on. */
static enum atl_code id_in_use(const struct cfg_guest_path *wanted, const struct cfg_file *holder,
                               struct atl_error *err)
{
    struct cfg_guest_path there = cfg_guest_path(holder->path);
    if (wanted->type == CFG_QEMU)
        return atl_fail(err, ATL_E_EXISTS, "vmid",
                        "unable to create VM %u - %s %u already exists on node '%s'", wanted->vmid,
                        guest_word(there.type), there.vmid, there.node);
    return atl_fail(err, ATL_E_EXISTS, "vmid", "%s %u already exists on node '%s'", guest_word(there.type),
                    there.vmid, there.node);
}

/* --- changing
 * ----------------------------------------------------------------------------------------------- */

/* Puts `file` at its path, or takes the path out when file is NULL. Returns what was there. */
static struct cfg_file *replace(struct cfg_tree *tree, const char *path, struct cfg_file *file)
{
    size_t at = cfg_tree_seek(tree, path);
    bool there = at < tree->count && strcmp(tree->files[at]->path, path) == 0;
    struct cfg_file *old = there ? tree->files[at] : NULL;
    struct cfg_guest_path guest = cfg_guest_path(path);
    if (old != NULL)
        tree->bytes -= file_cost(old);
    if (file == NULL) {
        atl_assert(there);
        memmove(&tree->files[at], &tree->files[at + 1], (tree->count - at - 1) * sizeof tree->files[0]);
        tree->count--;
        if (guest.type != CFG_NO_GUEST)
            guest_drop(tree, guest.vmid);
        return old;
    }
    tree->bytes += file_cost(file);
    if (guest.type != CFG_NO_GUEST)
        guest_put(tree, guest.vmid, file);
    if (there) {
        tree->files[at] = file;
        return old;
    }
    if (tree->count == tree->room) {
        tree->room = tree->room == 0 ? 256 : tree->room * 2;
        tree->files = atl_realloc(tree->files, tree->room * sizeof tree->files[0]);
    }
    memmove(&tree->files[at + 1], &tree->files[at], (tree->count - at) * sizeof tree->files[0]);
    tree->files[at] = file;
    tree->count++;
    return NULL;
}

static void note(struct cfg_batch *batch, struct cfg_file *old, struct cfg_file *new, uint64_t number)
{
    if (batch->count == batch->room) {
        batch->room = batch->room == 0 ? 64 : batch->room * 2;
        batch->changes = atl_realloc(batch->changes, batch->room * sizeof batch->changes[0]);
    }
    batch->changes[batch->count++] = (struct cfg_change){.old = old, .new = new, .number = number};
}

/* A file must not be a folder too, or no file system could show the tree. */
static enum atl_code check_folders(const struct cfg_tree *tree, const char *path, struct atl_error *err)
{
    char folder[CFG_PATH_MAX + 2];
    size_t length = strlen(path);
    memcpy(folder, path, length);
    memcpy(folder + length, "/", 2);
    size_t below = cfg_tree_seek(tree, folder);
    if (below < tree->count && strncmp(tree->files[below]->path, folder, length + 1) == 0)
        return atl_fail(err, ATL_E_EXISTS, "path", "'%s' is a folder", path);
    for (size_t i = length; i > 0; i--) {
        if (folder[i] != '/' || i == length)
            continue;
        folder[i] = '\0';
        if (find(tree, folder) != NULL)
            return atl_fail(err, ATL_E_EXISTS, "path", "'%s' is a file, not a folder", folder);
    }
    return ATL_OK;
}

/* May a new file stand at path? */
static enum atl_code check_new(const struct cfg_tree *tree, const char *path, struct atl_error *err)
{
    enum atl_code code = cfg_path_check(path, err);
    if (code != ATL_OK)
        return code;
    struct cfg_guest_path guest = cfg_guest_path(path);
    const struct cfg_file *holder = guest.type != CFG_NO_GUEST ? cfg_tree_guest(tree, guest.vmid) : NULL;
    if (holder != NULL && strcmp(holder->path, path) != 0)
        return id_in_use(&guest, holder, err);
    if (find(tree, path) != NULL)
        return ATL_OK;
    if (tree->count >= CFG_FILES_MAX)
        return atl_fail(err, ATL_E_LIMIT, "path", "the tree has reached its limit of %d files",
                        CFG_FILES_MAX);
    return check_folders(tree, path, err);
}

static enum atl_code put(struct cfg_tree *tree, const struct cfg_op *op, struct cfg_batch *batch,
                         struct atl_error *err)
{
    if (op->size > CFG_FILE_BYTES_MAX)
        return atl_fail(err, ATL_E_LIMIT, "content", "'%s' would have %zu bytes; a file may have 1 MiB",
                        op->path, op->size);
    enum atl_code code = check_new(tree, op->path, err);
    if (code != ATL_OK)
        return code;
    const struct cfg_file *old = find(tree, op->path);
    uint64_t before = old != NULL ? file_cost(old) : 0;
    if (tree->bytes - before + strlen(op->path) + op->size > tree->bytes_max)
        return atl_fail(err, ATL_E_LIMIT, "content", "the tree has reached its limit of %" PRIu64 " MiB",
                        tree->bytes_max >> 20);
    struct cfg_file *file = file_new(op->path, op->bytes, op->size, tree->number + 1);
    note(batch, replace(tree, op->path, file), file, tree->number + 1);
    return ATL_OK;
}

static enum atl_code delete (struct cfg_tree *tree, const struct cfg_op *op, struct cfg_batch *batch,
                             struct atl_error *err) {
    if (find(tree, op->path) == NULL) return atl_fail(err, ATL_E_ABSENT, "path", "'%s' does not exist",
                                                      op->path);
    note(batch, replace(tree, op->path, NULL), NULL, tree->number + 1);
    return ATL_OK;
}

static enum atl_code rename_file(struct cfg_tree *tree, const struct cfg_op *op, struct cfg_batch *batch,
                                 struct atl_error *err)
{
    struct cfg_file *old = find(tree, op->path);
    if (old == NULL)
        return atl_fail(err, ATL_E_ABSENT, "path", "'%s' does not exist", op->path);
    if (op->to == NULL)
        return atl_fail(err, ATL_E_INVALID, "to", "a new path is needed");
    if (find(tree, op->to) != NULL)
        return atl_fail(err, ATL_E_EXISTS, "to", "'%s' already exists", op->to);
    note(batch, replace(tree, op->path, NULL), NULL, tree->number + 1);
    enum atl_code code = check_new(tree, op->to, err); /* the old place is free by now: a guest may move */
    if (code != ATL_OK)
        return code;
    struct cfg_file *file = file_new(op->to, old->bytes, old->size, tree->number + 1);
    note(batch, replace(tree, op->to, file), file, tree->number + 1);
    return ATL_OK;
}

static enum atl_code check_compare(const struct cfg_tree *tree, const struct cfg_compare *compare,
                                   struct atl_error *err)
{
    const struct cfg_file *file = find(tree, compare->path);
    struct cfg_guest_path guest = cfg_guest_path(compare->path);
    switch (compare->kind) {
    case CFG_ABSENT: {
        const struct cfg_file *holder = guest.type != CFG_NO_GUEST ? cfg_tree_guest(tree, guest.vmid) : file;
        if (holder == NULL)
            return ATL_OK;
        if (guest.type != CFG_NO_GUEST)
            return id_in_use(&guest, holder, err);
        return atl_fail(err, ATL_E_CONFLICT, "path", "'%s' already exists", compare->path);
    }
    case CFG_EXISTS:
        return file != NULL ? ATL_OK
                            : atl_fail(err, ATL_E_CONFLICT, "path", "'%s' does not exist", compare->path);
    case CFG_AT_REVISION:
        if (file != NULL && compare->epoch == tree->epoch && compare->number == file->number)
            return ATL_OK;
        return atl_fail(err, ATL_E_CONFLICT, "path", "'%s' was %s meanwhile - try again", compare->path,
                        file == NULL ? "removed" : "changed");
    }
    return atl_fail(err, ATL_E_INVALID, "compare", "unknown kind of compare");
}

/* What a transaction writes: a file that is renamed is written anew, on the one engine as on the other. */
static size_t op_bytes(const struct cfg_tree *tree, const struct cfg_op *op)
{
    if (op->kind != CFG_RENAME)
        return op->size;
    const struct cfg_file *file = find(tree, op->path);
    return file != NULL ? file->size : 0;
}

static enum atl_code check_limits(const struct cfg_tree *tree, const struct cfg_txn *txn,
                                  struct atl_error *err)
{
    if (txn->op_count > CFG_TXN_OPS_MAX || txn->compare_count > CFG_TXN_COMPARES_MAX)
        return atl_fail(err, ATL_E_LIMIT, "operation", "a transaction may change %d files at most",
                        CFG_TXN_OPS_MAX);
    size_t bytes = 0;
    for (size_t i = 0; i < txn->op_count; i++)
        bytes += op_bytes(tree, &txn->ops[i]);
    if (bytes > CFG_TXN_BYTES_MAX)
        return atl_fail(err, ATL_E_LIMIT, "content",
                        "a transaction may hold 1 MiB at most, this one has %zu bytes", bytes);
    return ATL_OK;
}

static void undo_to(struct cfg_batch *batch, struct cfg_tree *tree, size_t mark)
{
    while (batch->count > mark) {
        struct cfg_change *change = &batch->changes[--batch->count];
        const char *path = change->new != NULL ? change->new->path : change->old->path;
        (void)replace(tree, path, change->old); /* returns change->new, which is freed below */
        file_free(change->new);
    }
}

static enum atl_code apply_op(struct cfg_tree *tree, const struct cfg_op *op, struct cfg_batch *batch,
                              struct atl_error *err)
{
    switch (op->kind) {
    case CFG_PUT:
        return put(tree, op, batch, err);
    case CFG_DELETE:
        return delete (tree, op, batch, err);
    case CFG_RENAME:
        return rename_file(tree, op, batch, err);
    }
    return atl_fail(err, ATL_E_INVALID, "kind", "unknown kind of operation");
}

enum atl_code cfg_tree_apply(struct cfg_tree *tree, const struct cfg_txn *txn, struct cfg_batch *batch,
                             struct atl_error *err)
{
    enum atl_code code = check_limits(tree, txn, err);
    for (size_t i = 0; i < txn->compare_count && code == ATL_OK; i++)
        code = check_compare(tree, &txn->compares[i], err);
    size_t mark = batch->count;
    for (size_t i = 0; i < txn->op_count && code == ATL_OK; i++)
        code = apply_op(tree, &txn->ops[i], batch, err);
    if (code != ATL_OK) {
        undo_to(batch, tree, mark);
        return code;
    }
    if (txn->op_count > 0)
        tree->number++;
    return ATL_OK;
}

enum atl_code cfg_tree_load(struct cfg_tree *tree, const char *path, const void *bytes, size_t size,
                            uint64_t number, struct atl_error *err)
{
    if (size > CFG_FILE_BYTES_MAX || tree->bytes + size > tree->bytes_max)
        return atl_fail(err, ATL_E_LIMIT, "content", "'%s' is too large for the tree", path);
    if (find(tree, path) != NULL)
        return atl_fail(err, ATL_E_EXISTS, "path", "'%s' is there twice", path);
    enum atl_code code = check_new(tree, path, err);
    if (code == ATL_OK)
        (void)replace(tree, path, file_new(path, bytes, size, number)); /* nothing was there */
    return code;
}

void cfg_tree_feed(struct cfg_tree *tree, const struct cfg_fed *fed, struct cfg_batch *batch)
{
    if (fed->bytes != NULL) {
        struct cfg_file *file = file_new(fed->path, fed->bytes, fed->size, fed->number);
        note(batch, replace(tree, fed->path, file), file, fed->at);
        return;
    }
    struct cfg_file *old = find(tree, fed->path);
    if (old == NULL)
        return;
    struct cfg_guest_path guest = cfg_guest_path(fed->path);
    const struct cfg_file *holder = guest.type != CFG_NO_GUEST ? cfg_tree_guest(tree, guest.vmid) : NULL;
    note(batch, replace(tree, fed->path, NULL), NULL, fed->at);
    if (holder != NULL && holder != old)
        guest_put(tree, guest.vmid, holder); /* the guest stands elsewhere by now */
}

void cfg_batch_keep(struct cfg_batch *batch)
{
    for (size_t i = 0; i < batch->count; i++)
        file_free(batch->changes[i].old);
    batch->count = 0;
}

void cfg_batch_undo(struct cfg_batch *batch, struct cfg_tree *tree, uint64_t number)
{
    undo_to(batch, tree, 0);
    tree->number = number;
}

void cfg_batch_done(struct cfg_batch *batch)
{
    atl_assert(batch->count == 0);
    free(batch->changes);
    *batch = (struct cfg_batch){0};
}
