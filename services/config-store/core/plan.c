/* A transaction as compares and puts. */
#include "core/plan.h"

#include <string.h>

/* How a path was before and is afterwards. */
struct touched {
    const char *path;
    const struct cfg_file *before;
    const struct cfg_file *after;
};

static size_t collect(const struct cfg_batch *batch, struct touched *touched)
{
    size_t count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct cfg_change *change = &batch->changes[i];
        const char *path = change->new != NULL ? change->new->path : change->old->path;
        size_t at = 0;
        while (at < count && strcmp(touched[at].path, path) != 0)
            at++;
        if (at == count)
            touched[count++] = (struct touched){.path = path, .before = change->old};
        touched[at].after = change->new;
    }
    return count;
}

static void add_compare(struct cfg_plan *plan, struct atl_arena *arena, const char *path, uint64_t number)
{
    for (size_t i = 0; i < plan->compare_count; i++)
        if (strcmp(plan->compares[i].path, path) == 0 && plan->compares[i].number == number)
            return;
    plan->compares[plan->compare_count++] =
        (struct cfg_plan_compare){.path = atl_arena_strdup(arena, path), .number = number};
}

/* Does the transaction itself make place: was the path, or something below it, there and is touched? Those
 * are compared one by one. */
static bool clears(const struct touched *touched, size_t count, const char *path, bool below)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < count; i++) {
        if (touched[i].before == NULL || strncmp(touched[i].path, path, length) != 0)
            continue;
        if (touched[i].path[length] == (below ? '/' : '\0'))
            return true;
    }
    return false;
}

static void add_parents(struct cfg_plan *plan, struct atl_arena *arena, size_t *room, const char *path)
{
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char *folder = atl_arena_strndup(arena, path, (size_t)(slash - path));
        size_t at = 0;
        while (at < plan->no_file_count && strcmp(plan->no_files[at], folder) != 0)
            at++;
        if (at < plan->no_file_count)
            continue;
        plan->no_files =
            atl_arena_grow(arena, plan->no_files, plan->no_file_count, room, sizeof plan->no_files[0]);
        plan->no_files[plan->no_file_count++] = folder;
    }
}

static bool has_guest(const struct touched *touched, size_t count, uint32_t vmid, bool before)
{
    for (size_t i = 0; i < count; i++) {
        const struct cfg_file *file = before ? touched[i].before : touched[i].after;
        struct cfg_guest_path guest = cfg_guest_path(touched[i].path);
        if (file != NULL && guest.type != CFG_NO_GUEST && guest.vmid == vmid)
            return true;
    }
    return false;
}

static void add_guest(struct cfg_plan *plan, const struct touched *touched, size_t count, size_t at)
{
    const struct touched *one = &touched[at];
    struct cfg_guest_path guest = cfg_guest_path(one->path);
    if (guest.type == CFG_NO_GUEST || (one->before != NULL) == (one->after != NULL))
        return;
    struct cfg_plan_guest entry = {.vmid = guest.vmid};
    if (one->after != NULL) {
        entry.path = plan->changes[plan->change_count - 1].path;
        entry.fresh = !has_guest(touched, count, guest.vmid, true);
    } else if (has_guest(touched, count, guest.vmid, false)) {
        return; /* it has moved */
    }
    plan->guests[plan->guest_count++] = entry;
}

static void add_change(struct cfg_plan *plan, struct atl_arena *arena, const struct touched *one)
{
    struct cfg_plan_change change = {.path = atl_arena_strdup(arena, one->path)};
    if (one->after != NULL) {
        change.size = one->after->size;
        change.bytes = atl_arena_copy(arena, one->after->bytes, one->after->size + 1);
        plan->only_state = plan->only_state && strncmp(one->path, ".state/", 7) == 0;
    }
    plan->changes[plan->change_count++] = change;
}

static void add_asked(struct cfg_plan *plan, struct atl_arena *arena, const struct cfg_txn *txn,
                      const struct cfg_tree *tree)
{
    for (size_t i = 0; i < txn->compare_count; i++) {
        const struct cfg_compare *compare = &txn->compares[i];
        const struct cfg_file *file = cfg_tree_get(tree, compare->path);
        struct cfg_guest_path guest = cfg_guest_path(compare->path);
        /* An absent guest is compared by its id, where it is made; alone it has no place to be compared. */
        if (compare->kind == CFG_ABSENT && guest.type != CFG_NO_GUEST)
            continue;
        add_compare(plan, arena, compare->path, file != NULL ? file->number : 0);
    }
}

static void fill(struct cfg_plan *plan, struct atl_arena *arena, const struct touched *touched, size_t count)
{
    size_t room = 0;
    plan->changes = atl_arena_array(arena, struct cfg_plan_change, count + 1);
    plan->guests = atl_arena_array(arena, struct cfg_plan_guest, count + 1);
    plan->no_folders = atl_arena_array(arena, const char *, count + 1);
    plan->only_state = true;
    for (size_t i = 0; i < count; i++) {
        const struct touched *one = &touched[i];
        if (one->before == NULL && one->after == NULL)
            continue;
        add_compare(plan, arena, one->path, one->before != NULL ? one->before->number : 0);
        add_change(plan, arena, one);
        add_guest(plan, touched, count, i);
        if (one->before != NULL || one->after == NULL)
            continue;
        add_parents(plan, arena, &room, one->path);
        if (!clears(touched, count, one->path, true))
            plan->no_folders[plan->no_folder_count++] = plan->changes[plan->change_count - 1].path;
    }
    size_t kept = 0;
    for (size_t i = 0; i < plan->no_file_count; i++)
        if (!clears(touched, count, plan->no_files[i], false))
            plan->no_files[kept++] = plan->no_files[i];
    plan->no_file_count = kept;
}

enum atl_code cfg_plan_make(struct cfg_tree *tree, const struct cfg_txn *txn, struct atl_arena *arena,
                            struct cfg_plan *ret_plan, struct atl_error *err)
{
    struct cfg_batch batch = {0};
    uint64_t number = tree->number;
    struct cfg_plan plan = {.epoch = tree->epoch};
    enum atl_code code = cfg_tree_apply(tree, txn, &batch, err);
    if (code == ATL_OK) {
        struct touched *touched = atl_arena_array(arena, struct touched, batch.count + 1);
        size_t count = collect(&batch, touched);
        plan.compares = atl_arena_array(arena, struct cfg_plan_compare, count + txn->compare_count + 1);
        fill(&plan, arena, touched, count);
    }
    cfg_batch_undo(&batch, tree, number);
    cfg_batch_done(&batch);
    if (code != ATL_OK)
        return code;
    add_asked(&plan, arena, txn, tree);
    *ret_plan = plan;
    return ATL_OK;
}

static char *copy_text(struct atl_arena *arena, const char *text)
{
    return text != NULL ? atl_arena_strdup(arena, text) : NULL;
}

void cfg_txn_copy(const struct cfg_txn *txn, struct atl_arena *arena, struct cfg_txn *ret_txn)
{
    struct cfg_compare *compares = atl_arena_array(arena, struct cfg_compare, txn->compare_count + 1);
    struct cfg_op *ops = atl_arena_array(arena, struct cfg_op, txn->op_count + 1);
    for (size_t i = 0; i < txn->compare_count; i++) {
        compares[i] = txn->compares[i];
        compares[i].path = copy_text(arena, txn->compares[i].path);
    }
    for (size_t i = 0; i < txn->op_count; i++) {
        ops[i] = txn->ops[i];
        ops[i].path = copy_text(arena, txn->ops[i].path);
        ops[i].to = copy_text(arena, txn->ops[i].to);
        ops[i].bytes = ops[i].size > 0 ? atl_arena_copy(arena, txn->ops[i].bytes, ops[i].size) : NULL;
    }
    *ret_txn = (struct cfg_txn){
        .compares = compares, .compare_count = txn->compare_count, .ops = ops, .op_count = txn->op_count};
}
