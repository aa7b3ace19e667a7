/* Any bytes as a path, a guest's file, a file of secrets, a lock, a UPID: no crash, and the rules hold. */
#include <stdlib.h>
#include <string.h>

#include "core/lock.h"
#include "core/options.h"
#include "core/realms.h"
#include "core/secrets.h"
#include "core/status.h"
#include "core/tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_tree(const char *text, size_t size, struct atl_arena *arena)
{
    struct cfg_tree tree;
    struct cfg_batch batch = {0};
    cfg_tree_init(&tree, 1);
    const struct cfg_op ops[] = {
        {.kind = CFG_PUT, .path = text, .bytes = (const uint8_t *)text, .size = size},
        {.kind = CFG_PUT, .path = ".state/lock/x", .bytes = (const uint8_t *)text, .size = size},
        {.kind = CFG_PUT, .path = "datacenter.cfg", .bytes = (const uint8_t *)text, .size = size},
    };
    for (size_t i = 0; i < ATL_COUNT(ops); i++) {
        const struct cfg_txn txn = {.ops = &ops[i], .op_count = 1};
        enum atl_code code = cfg_tree_apply(&tree, &txn, &batch, NULL);
        atl_assert(i > 0 || (code == ATL_OK) == (cfg_path_check(text, NULL) == ATL_OK));
    }
    uint32_t vmid = 0;
    (void)cfg_lock_take(&tree, "x", "me", 1000, 5000, arena);
    if (cfg_next_id(&tree, 0, &vmid, NULL) == ATL_OK)
        atl_assert(vmid >= CFG_VMID_MIN);
    cfg_batch_keep(&batch);
    cfg_batch_done(&batch);
    cfg_tree_done(&tree);
}

static void try_status(char *text)
{
    struct cfg_status *status = cfg_status_new();
    const struct cfg_guest_path guest = {.type = CFG_LXC, .vmid = 100, .node = "n"};
    cfg_status_guest(status, &guest, text);
    char node[] = "n";
    Atoll__Store__V1__TaskStatus task = ATOLL__STORE__V1__TASK_STATUS__INIT;
    task.upid = text;
    Atoll__Store__V1__TaskStatus *tasks[] = {&task};
    Atoll__Store__V1__PushRequest push = ATOLL__STORE__V1__PUSH_REQUEST__INIT;
    push.node = node;
    push.epoch = push.sequence = 1;
    push.has_full = push.full = 1;
    push.n_task = 1;
    push.task = tasks;
    atl_assert(cfg_status_push(status, "compute-agent", &push, 0));
    cfg_status_free(&status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096)
        return 0;
    struct atl_arena arena = {0};
    char *text = atl_arena_strndup(&arena, (const char *)data, size);
    struct atl_buf out = {0};
    try_tree(text, strlen(text), &arena);
    try_status(text);
    Atoll__Access__V1__DomainsRow *realms[CFG_REALMS];
    if (cfg_realms_read(text, strlen(text), &arena, realms, NULL) == ATL_OK)
        atl_assert(strcmp(realms[0]->realm, "pam") == 0);
    cfg_secret_set(text, "name", ':', "value", &out);
    const char *found = cfg_secret_get(out.data, "name", ':', &arena);
    atl_assert(found != NULL);
    atl_assert(strcmp(found, "value") == 0);
    atl_buf_done(&out);
    atl_arena_done(&arena);
    return 0;
}
