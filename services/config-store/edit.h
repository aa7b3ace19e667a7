/* A change of user.cfg and the files of secrets: read, changed, written back in one transaction. */
#ifndef CFG_EDIT_H
#define CFG_EDIT_H

#include "cfg.h"

enum { CFG_EDIT_FILES = 4 };

/* Embedded; everything lives in the request's arena. One thread and no waiting between begin and commit, so
 * that nobody else can change the files meanwhile. */
struct cfg_edit {
    struct cfg *cfg;
    struct atl_request *request;
    struct atl_acl *acl; /* to be changed */
    struct cfg_op ops[CFG_EDIT_FILES];
    size_t op_count;
};

void cfg_edit_begin(struct cfg_edit *edit, struct cfg *cfg, struct atl_request *request);
/* The changed acl is to be written. */
void cfg_edit_users(struct cfg_edit *edit);
/* user: with realm; hash NULL: his line goes. */
void cfg_edit_password(struct cfg_edit *edit, const char *user, const char *hash);
/* id: "user@realm!name"; kept NULL: its line goes. */
void cfg_edit_token(struct cfg_edit *edit, const char *id, const char *kept);
/* All tokens of the user go. */
void cfg_edit_drop_tokens(struct cfg_edit *edit, const char *user);
/* Writes; fn is called once. */
void cfg_edit_commit(struct cfg_edit *edit, cfg_store_done_fn *fn, void *user);
/* Writes, and answers the request with nothing, or with the error. */
void cfg_edit_finish(struct cfg_edit *edit);

#endif
