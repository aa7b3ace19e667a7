/* Clean-ups after creations that were cut off. */
#include "left.h"

#include <stdlib.h>
#include <string.h>

#include "io/log.h"

enum { LEFT_MAX = 32, LOOK_S = CMP_LEFT_RESERVE_S + 2 };

struct entry {
    struct cmp_left *left;
    uint32_t vmid;
    struct atl_revision revision; /* of the file when it failed */
    unsigned int failed;
    struct atl_timer *timer; /* NULL: nothing waits */
};

struct cmp_left {
    struct cmp *cmp;
    const char *folder;
    const struct cmp_facts_table *facts;
    cmp_left_fn *again;
    void *user;
    struct atl_timer *look;     /* NULL: not yet */
    struct atl_revision looked; /* files up to here have been looked at */
    struct atl_revision seen;   /* files up to here were there at the last look: they are old enough */
    struct entry entries[LEFT_MAX];
};

struct cmp_left *cmp_left_open(struct cmp *cmp, const char *folder, const struct cmp_facts_table *facts,
                               cmp_left_fn *again, void *user)
{
    struct cmp_left *left = atl_new0(struct cmp_left);
    *left = (struct cmp_left){.cmp = cmp, .folder = folder, .facts = facts, .again = again, .user = user};
    return left;
}

void cmp_left_close(struct cmp_left **left)
{
    if (*left == NULL)
        return;
    atl_timer_free((*left)->look);
    for (size_t i = 0; i < LEFT_MAX; i++)
        atl_timer_free((*left)->entries[i].timer);
    free(*left);
    *left = NULL;
}

static bool same(struct atl_revision a, struct atl_revision b)
{
    return a.epoch == b.epoch && a.number == b.number;
}

static bool newer(struct atl_revision a, struct atl_revision b)
{
    return a.epoch != b.epoch ? a.epoch > b.epoch : a.number > b.number;
}

Atoll__Bus__V1__Revision *cmp_left_reserved(struct atl_revision revision, struct atl_arena *arena)
{
    Atoll__Bus__V1__Revision *reserved = atl_arena_new(arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(reserved);
    reserved->has_epoch = reserved->has_number = 1;
    reserved->epoch = revision.epoch;
    reserved->number = revision.number;
    return reserved;
}

bool cmp_left_is_of(const struct atl_file *file, const Atoll__Bus__V1__Revision *reserved)
{
    return reserved == NULL ||
           (file != NULL && same(file->revision, (struct atl_revision){reserved->epoch, reserved->number}));
}

static void look(void *user)
{
    struct cmp_left *left = user;
    size_t count = cmp_facts_count(left->facts);
    for (size_t i = 0; i < count; i++) {
        const struct cmp_facts *facts = cmp_facts_at(left->facts, i);
        if (facts->lock == NULL || strcmp(facts->lock, "create") != 0)
            continue;
        const struct atl_file *file = cmp_config_file(left->cmp, left->folder, facts->vmid);
        if (file != NULL && newer(file->revision, left->looked) && !newer(file->revision, left->seen))
            left->again(left->user, facts->vmid);
    }
    left->looked = left->seen;
    left->seen = atl_mirror_revision(left->cmp->mirror);
}

void cmp_left_watch(struct cmp_left *left)
{
    left->looked = left->seen = atl_mirror_revision(left->cmp->mirror);
    if (left->look == NULL)
        left->look = atl_loop_timer(left->cmp->loop, LOOK_S * ATL_SECOND, LOOK_S * ATL_SECOND, look, left);
}

static void try_again(void *user)
{
    struct entry *entry = user;
    const struct cmp_left *left = entry->left;
    const struct atl_file *file = cmp_config_file(left->cmp, left->folder, entry->vmid);
    entry->timer = NULL;
    if (file != NULL && same(file->revision, entry->revision))
        left->again(left->user, entry->vmid);
}

/* The guest's entry, or one that nothing waits in. */
static struct entry *entry_of(struct cmp_left *left, uint32_t vmid)
{
    struct entry *unused = NULL;
    for (size_t i = 0; i < LEFT_MAX; i++) {
        struct entry *entry = &left->entries[i];
        if (entry->vmid == vmid)
            return entry;
        if (entry->timer == NULL && (unused == NULL || entry->vmid == 0))
            unused = entry;
    }
    return unused;
}

void cmp_left_failed(struct cmp_left *left, uint32_t vmid)
{
    const struct atl_file *file = cmp_config_file(left->cmp, left->folder, vmid);
    struct entry *entry = entry_of(left, vmid);
    if (file == NULL || (entry != NULL && entry->timer != NULL))
        return;
    if (entry != NULL && (entry->vmid != vmid || !same(entry->revision, file->revision)))
        *entry = (struct entry){.left = left, .vmid = vmid, .revision = file->revision};
    atl_ns pause = entry != NULL ? cmp_left_pause(++entry->failed) : 0;
    if (pause == 0)
        atl_log(ATL_ERROR, "clean-up-failed",
                "guest %" PRIu32 " stays locked until the agent begins anew: see its tasks", vmid);
    else
        entry->timer = atl_loop_timer(left->cmp->loop, pause, 0, try_again, entry);
}

char **cmp_left_before(const Atoll__Storage__V1__ListOfGuestReply *list, struct atl_arena *arena,
                       size_t *ret_count)
{
    char **keep = atl_arena_array(arena, char *, list->n_volume + list->n_unread_storage + 1);
    size_t count = 0;
    for (size_t i = 0; i < list->n_volume; i++)
        keep[count++] = atl_arena_strdup(arena, list->volume[i]->volid);
    for (size_t i = 0; i < list->n_unread_storage; i++)
        keep[count++] = atl_arena_format(arena, "%s:", list->unread_storage[i]);
    *ret_count = count;
    return keep;
}
