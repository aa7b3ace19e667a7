/* Changes of the tree that a request asks for. */
#include "io/edit.h"

#include <stdlib.h>

enum { TRIES = 20 };
#define AGAIN (50 * ATL_MS)

struct one {
    struct atl_edit edit;
    struct atl_edits *edits;
    struct one *next;
    struct atl_timer *timer;
    struct atl_revision revision; /* done there; the mirror is not */
    int tries;
    bool waits; /* for the mirror */
};

struct atl_edits {
    struct atl_bus *bus;
    struct atl_mirror *mirror;
    struct one *first;
};

struct atl_edits *atl_edits_new(struct atl_bus *bus, struct atl_mirror *mirror)
{
    struct atl_edits *edits = atl_new0(struct atl_edits);
    edits->bus = bus;
    edits->mirror = mirror;
    return edits;
}

static void drop(struct one *one)
{
    struct one **link = &one->edits->first;
    while (*link != one)
        link = &(*link)->next;
    *link = one->next;
    atl_timer_free(one->timer);
    free(one);
}

void atl_edits_free(struct atl_edits **edits)
{
    if (*edits == NULL)
        return;
    while ((*edits)->first != NULL)
        drop((*edits)->first);
    free(*edits);
    *edits = NULL;
}

static void answer(struct one *one)
{
    struct atl_edit edit = one->edit;
    drop(one);
    atl_request_reply(edit.request, edit.output);
}

static bool reached(struct atl_revision have, struct atl_revision wanted)
{
    return have.epoch > wanted.epoch || (have.epoch == wanted.epoch && have.number >= wanted.number);
}

void atl_edits_moved(struct atl_edits *edits)
{
    struct atl_revision have = atl_mirror_revision(edits->mirror);
    for (struct one *one = edits->first, *next = NULL; one != NULL; one = next) {
        next = one->next;
        if (one->waits && reached(have, one->revision))
            answer(one);
    }
}

static void try(void *user);

static void done(const struct atl_txn_result *result, void *user)
{
    struct one *one = user;
    struct atl_request *request = one->edit.request;
    if (result->code == ATL_E_CONFLICT && one->tries < TRIES && atl_request_remaining(request) > 2 * AGAIN) {
        one->timer = atl_loop_timer(atl_bus_loop(one->edits->bus), AGAIN, 0, try, one);
        return;
    }
    if (result->code != ATL_OK) {
        drop(one);
        atl_request_fail(request, &result->error, NULL);
        return;
    }
    one->waits = true;
    one->revision = result->revision;
    atl_edits_moved(one->edits);
}

static void try(void *user)
{
    struct one *one = user;
    struct atl_request *request = one->edit.request;
    struct atl_errors *errors = atl_arena_new(atl_request_arena(request), struct atl_errors);
    struct atl_error err = {0};
    ATL_TXN_AT_EXIT struct atl_txn txn;
    one->timer = NULL;
    one->tries++;
    atl_txn_init(&txn);
    enum atl_code code = ATL_OK;
    if (!atl_mirror_ready(one->edits->mirror))
        code = atl_fail(&err, ATL_E_UNAVAILABLE, NULL, "the configuration is not known yet, try again");
    else
        code = one->edit.make(request, one->edit.input, &txn, one->edit.user, errors, &err);
    if (code != ATL_OK) {
        drop(one);
        atl_request_fail(request, &err, errors->count > 0 ? errors : NULL);
    } else if (txn.request.n_operation == 0) {
        answer(one);
    } else {
        atl_txn_send(one->edits->bus, &txn, atl_request_remaining(request), done, one);
    }
}

void atl_edit_begin(struct atl_edits *edits, const struct atl_edit *edit)
{
    struct one *one = atl_new0(struct one);
    one->edit = *edit;
    one->edits = edits;
    one->next = edits->first;
    edits->first = one;
    try(one);
}
