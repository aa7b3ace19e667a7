/* A change of user.cfg, the files of secrets or another file: read, changed, written back in one transaction.
 */
#ifndef CFG_EDIT_H
#define CFG_EDIT_H

#include "cfg.h"

enum {
    CFG_EDIT_FILES = 4,
    CFG_TRIES_MAX = 32, /* so often a change begins again since another node was faster: every other time */
};

struct cfg_edit;
/*
 * Prepares the change on the tree as it is: changes edit->acl and what goes with it, and ends with
 * cfg_edit_commit() or cfg_edit_finish(): true; or refuses the request: false. It is called again, on the
 * newer tree, when another node was faster.
 */
typedef bool cfg_edit_fn(struct cfg_edit *edit, const void *wish);

/* Everything lives in the request's arena. */
struct cfg_edit {
    struct cfg *cfg;
    struct atl_request *request;
    struct atl_acl *acl; /* to be changed */
    struct cfg_op ops[CFG_EDIT_FILES];
    size_t op_count;
    cfg_edit_fn *fn;
    const void *wish;
    cfg_store_done_fn *done;
    void *user;
    unsigned int tries;
    bool has_turn;
};

/* Calls fn when it is the change's turn. wish: of the request's arena, or static. */
void cfg_edit_run(struct cfg *cfg, struct atl_request *request, cfg_edit_fn *fn, const void *wish);
/* A change that nobody waits for, of the caller's: it is not begun again. */
void cfg_edit_begin(struct cfg_edit *edit, struct cfg *cfg, struct atl_request *request);
/* The changed acl is to be written. */
void cfg_edit_users(struct cfg_edit *edit);
/* user: with realm; hash NULL: his line goes. */
void cfg_edit_password(struct cfg_edit *edit, const char *user, const char *hash);
/* id: "user@realm!name"; kept NULL: its line goes. */
void cfg_edit_token(struct cfg_edit *edit, const char *id, const char *kept);
/* All tokens of the user go. */
void cfg_edit_drop_tokens(struct cfg_edit *edit, const char *user);
/* Another file; the text is taken. */
void cfg_edit_file(struct cfg_edit *edit, const char *path, struct atl_buf *text);
/* Writes; fn is called once, with what became of it in the end. */
void cfg_edit_commit(struct cfg_edit *edit, cfg_store_done_fn *fn, void *user);
/* Writes, and answers the request with nothing, or with the error. */
void cfg_edit_finish(struct cfg_edit *edit);

#endif
