/* How the secrets that all nodes share are replaced. */
#include "core/rotation.h"

#include <string.h>

static const char *const phases[CFG_ROTATION_PHASES] = {[CFG_ROTATION_DONE] = "done",
                                                        [CFG_ROTATION_SPREAD] = "spread",
                                                        [CFG_ROTATION_USE] = "use",
                                                        [CFG_ROTATION_DROP] = "drop"};

const char *cfg_rotation_phase_to_text(enum cfg_rotation_phase phase)
{
    atl_assert(phase < CFG_ROTATION_PHASES);
    return phases[phase];
}

static bool has_done(const struct cfg_rotation_view *view, const struct cfg_rotation_node *node)
{
    return node->generation == view->rotation.generation && node->phase >= view->rotation.phase;
}

static const struct cfg_rotation_node *find(const struct cfg_rotation_view *view, const char *name)
{
    for (size_t i = 0; i < view->count; i++)
        if (strcmp(view->nodes[i].name, name) == 0)
            return &view->nodes[i];
    return NULL;
}

static bool is_first_online(const struct cfg_rotation_view *view)
{
    size_t i = 0;
    while (i < view->count && !view->nodes[i].online)
        i++;
    return i < view->count && strcmp(view->nodes[i].name, view->self) == 0;
}

static bool all_have_done(const struct cfg_rotation_view *view)
{
    for (size_t i = 0; i < view->count; i++)
        if (view->nodes[i].online && !has_done(view, &view->nodes[i]))
            return false;
    return true;
}

/* Have all that are online and stand before us done their part? */
static bool is_our_turn(const struct cfg_rotation_view *view)
{
    for (size_t i = 0; i < view->count && strcmp(view->nodes[i].name, view->self) != 0; i++)
        if (view->nodes[i].online && !has_done(view, &view->nodes[i]))
            return false;
    return true;
}

/* Who has the new secrets: who made them, else somebody who has told so. */
static const char *source(const struct cfg_rotation_view *view)
{
    const struct cfg_rotation_node *by = find(view, view->rotation.by);
    if (by != NULL && by->online)
        return by->name;
    for (size_t i = 0; i < view->count; i++) {
        const struct cfg_rotation_node *node = &view->nodes[i];
        if (node->online && !node->witness && node->generation == view->rotation.generation &&
            strcmp(node->name, view->self) != 0)
            return node->name;
    }
    return NULL;
}

static struct cfg_rotation_act get_secrets(const struct cfg_rotation_view *view)
{
    if (strcmp(view->rotation.by, view->self) == 0 && view->rotation.phase == CFG_ROTATION_SPREAD)
        return (struct cfg_rotation_act){.kind = CFG_ROTATE_MAKE};
    const char *node = source(view);
    if (node == NULL)
        return (struct cfg_rotation_act){.kind = CFG_ROTATE_NOTHING};
    return (struct cfg_rotation_act){.kind = CFG_ROTATE_FETCH, .node = node};
}

static struct cfg_rotation_act own_part(const struct cfg_rotation_view *view,
                                        const struct cfg_rotation_node *self)
{
    const struct cfg_rotation *rotation = &view->rotation;
    if (view->generation == rotation->generation) /* done to the end, and cut off before it was told */
        return (struct cfg_rotation_act){.kind = CFG_ROTATE_TELL, .phase = rotation->phase};
    if (!view->prepared)
        return get_secrets(view);
    if (rotation->phase != CFG_ROTATION_USE && !is_our_turn(view))
        return (struct cfg_rotation_act){.kind = CFG_ROTATE_NOTHING};
    bool anew = rotation->phase != CFG_ROTATION_USE || self->generation != rotation->generation;
    return (struct cfg_rotation_act){.kind = CFG_ROTATE_CARRY_OUT, .phase = rotation->phase, .anew = anew};
}

struct cfg_rotation_act cfg_rotation_next(const struct cfg_rotation_view *view)
{
    static const struct cfg_rotation_act nothing = {.kind = CFG_ROTATE_NOTHING};
    static const struct cfg_rotation_act take_over = {.kind = CFG_ROTATE_TAKE_OVER};
    const struct cfg_rotation *rotation = &view->rotation;
    const struct cfg_rotation_node *self = find(view, view->self);
    if (self == NULL)
        return nothing;
    if (rotation->phase == CFG_ROTATION_DONE && view->generation < rotation->generation)
        return (struct cfg_rotation_act){.kind = CFG_ROTATE_CATCH_UP};
    if (rotation->phase == CFG_ROTATION_DONE)
        return nothing;
    const struct cfg_rotation_node *by = find(view, rotation->by);
    if (rotation->phase == CFG_ROTATION_SPREAD && (by == NULL || !by->online))
        return is_first_online(view) ? take_over : nothing;
    if (!has_done(view, self))
        return own_part(view, self);
    if (!is_first_online(view) || !all_have_done(view))
        return nothing;
    return (struct cfg_rotation_act){.kind = CFG_ROTATE_ADVANCE,
                                     .phase = rotation->phase == CFG_ROTATION_DROP ? CFG_ROTATION_DONE
                                                                                   : rotation->phase + 1};
}

bool cfg_rotation_is_witness_turn(const struct cfg_rotation_view *view)
{
    for (size_t i = 0; i < view->count; i++)
        if (!view->nodes[i].witness && view->nodes[i].online && !has_done(view, &view->nodes[i]))
            return false;
    return true;
}

bool cfg_rotation_is_settled(enum cfg_rotation_phase phase)
{
    return phase != CFG_ROTATION_SPREAD;
}

bool cfg_keeps_authority(const struct cfg_corosync *conf, const char *node)
{
    for (size_t i = 0; i < conf->count && i < CFG_KEEPERS; i++)
        if (strcmp(conf->nodes[i].name, node) == 0)
            return true;
    return false;
}

bool cfg_renewal_due(int64_t not_before, int64_t not_after, int64_t now)
{
    return now < not_before || now >= not_after - (not_after - not_before) / 3;
}

void cfg_bundle(const char *first, const char *rest, struct atl_buf *out)
{
    atl_buf_text(out, first);
    const char *again = first[0] != '\0' ? strstr(rest, first) : NULL;
    if (again == NULL) {
        atl_buf_text(out, rest);
        return;
    }
    atl_buf_add(out, rest, (size_t)(again - rest));
    atl_buf_text(out, again + strlen(first));
}
