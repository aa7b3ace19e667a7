/* A change of user.cfg and the files of secrets. */
#include "edit.h"

#include <string.h>

#include "core/secrets.h"
#include "identity.h"

void cfg_edit_begin(struct cfg_edit *edit, struct cfg *cfg, struct atl_request *request)
{
    *edit = (struct cfg_edit){.cfg = cfg, .request = request};
    size_t size = 0;
    const char *text = cfg_text_ahead(cfg, CFG_USERS, &size);
    edit->acl = atl_acl_parse(text, size, atl_request_arena(request), NULL);
}

static void end_turn(struct cfg *cfg, bool has_turn, bool contended)
{
    if (has_turn)
        cfg_turns_end(cfg_store_turns(cfg->store), contended);
}

/* What the request holds may be gone when fn has answered it. */
static void prepare(struct cfg_edit *edit)
{
    struct cfg *cfg = edit->cfg;
    struct cfg_edit start = *edit;
    cfg_edit_begin(edit, cfg, start.request);
    edit->fn = start.fn;
    edit->wish = start.wish;
    edit->tries = start.tries + 1;
    edit->has_turn = start.has_turn;
    if (!start.fn(edit, start.wish))
        end_turn(cfg, start.has_turn, false);
}

static void on_turn(bool taken, void *user)
{
    struct cfg_edit *edit = user;
    struct cfg *cfg = edit->cfg;
    edit->has_turn = taken;
    if (atl_request_remaining(edit->request) > 0) {
        prepare(edit);
        return;
    }
    cfg_refuse(edit->request, ATL_E_DEADLINE, NULL, "too many changes were ahead of this one");
    end_turn(cfg, taken, false);
}

void cfg_edit_run(struct cfg *cfg, struct atl_request *request, cfg_edit_fn *fn, const void *wish)
{
    struct cfg_edit *edit = atl_arena_new(atl_request_arena(request), struct cfg_edit);
    *edit = (struct cfg_edit){.cfg = cfg, .request = request, .fn = fn, .wish = wish};
    bool writable = true;
    (void)cfg_store_age(cfg->store, &writable);
    if (cfg_store_turns(cfg->store) != NULL && writable) /* else it hears at once why it cannot be done */
        cfg_turns_wait(cfg_store_turns(cfg->store), on_turn, edit);
    else
        prepare(edit);
}

void cfg_edit_file(struct cfg_edit *edit, const char *path, struct atl_buf *text)
{
    atl_assert(edit->op_count < CFG_EDIT_FILES);
    struct atl_arena *arena = atl_request_arena(edit->request);
    edit->ops[edit->op_count++] =
        (struct cfg_op){.kind = CFG_PUT,
                        .path = path,
                        .bytes = atl_arena_copy(arena, text->data != NULL ? text->data : "", text->length),
                        .size = text->length};
    if (text->data != NULL)
        explicit_bzero(text->data, text->capacity);
    atl_buf_done(text);
}

void cfg_edit_users(struct cfg_edit *edit)
{
    struct atl_buf text = {0};
    atl_acl_write(edit->acl, &text);
    cfg_edit_file(edit, CFG_USERS, &text);
}

void cfg_edit_password(struct cfg_edit *edit, const char *user, const char *hash)
{
    size_t size = 0;
    const char *old = cfg_text_ahead(edit->cfg, CFG_SHADOW, &size);
    const char *name =
        atl_arena_strndup(atl_request_arena(edit->request), user, (size_t)(strrchr(user, '@') - user));
    struct atl_buf text = {0};
    cfg_secret_set(old, name, ':', hash, &text);
    cfg_edit_file(edit, CFG_SHADOW, &text);
}

void cfg_edit_token(struct cfg_edit *edit, const char *id, const char *kept)
{
    size_t size = 0;
    const char *old = cfg_text_ahead(edit->cfg, CFG_TOKENS, &size);
    struct atl_buf text = {0};
    cfg_secret_set(old, id, ' ', kept, &text);
    cfg_edit_file(edit, CFG_TOKENS, &text);
}

void cfg_edit_drop_tokens(struct cfg_edit *edit, const char *user)
{
    size_t size = 0;
    const char *old = cfg_text_ahead(edit->cfg, CFG_TOKENS, &size);
    struct atl_buf text = {0};
    cfg_secret_drop_prefix(old, atl_arena_format(atl_request_arena(edit->request), "%s!", user), &text);
    cfg_edit_file(edit, CFG_TOKENS, &text);
}

static void on_written(const struct cfg_store_result *result, void *user)
{
    struct cfg_edit *edit = user;
    if (result->code == ATL_E_CONFLICT && edit->tries < CFG_TRIES_MAX &&
        atl_request_remaining(edit->request) > 0) {
        prepare(edit);
        return;
    }
    end_turn(edit->cfg, edit->has_turn, edit->tries > 1);
    edit->done(result, edit->user); /* frees the edit with its request */
}

void cfg_edit_commit(struct cfg_edit *edit, cfg_store_done_fn *fn, void *user)
{
    const struct cfg_txn txn = {.ops = edit->ops, .op_count = edit->op_count};
    edit->done = fn;
    edit->user = user;
    cfg_store_txn(edit->cfg->store, &txn, atl_request_id(edit->request), on_written, edit);
}

static void reply_nothing(const struct cfg_store_result *result, void *user)
{
    if (result->code != ATL_OK)
        atl_request_fail(user, &result->error, NULL);
    else
        cfg_reply_nothing(user);
}

void cfg_edit_finish(struct cfg_edit *edit)
{
    cfg_edit_commit(edit, reply_nothing, edit->request);
}
