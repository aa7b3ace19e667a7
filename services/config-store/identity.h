/* The keys and secrets of identity, and what is made with them: tickets, CSRF tokens, assertions. */
#ifndef CFG_IDENTITY_H
#define CFG_IDENTITY_H

#include "cfg.h"
#include "checker.h"
#include "pure/ticket.h"

#define CFG_TICKET_KEY "priv/authkey.key"
#define CFG_TICKET_PUB "authkey.pub"
#define CFG_CSRF_KEY   "priv/csrf.key"
#define CFG_SHADOW     "priv/shadow.cfg"
#define CFG_TOKENS     "priv/token.cfg"
#define CFG_USERS      "user.cfg"

/* Makes what is missing (first start: keys, user.cfg), then reads the keys. Blocks for a second the first
 * time. Errors: ATL_E_IO node key; ATL_E_INVALID a key in the tree is none. */
ATL_MUST_CHECK enum atl_code cfg_identity_open(struct cfg *cfg, const char *pam_helper,
                                               struct cfg_identity **ret_identity, struct atl_error *err);
void cfg_identity_free(struct cfg_identity **identity);

struct cfg_checker *cfg_identity_checker(struct cfg_identity *identity);

char *cfg_identity_ticket(struct cfg_identity *identity, const char *user, struct atl_arena *arena);
char *cfg_identity_csrf(struct cfg_identity *identity, const char *user, struct atl_arena *arena);
bool cfg_identity_csrf_valid(struct cfg_identity *identity, const char *text, const char *user);
/* Whose ticket is it? Errors: ATL_E_UNAUTHENTICATED. */
ATL_MUST_CHECK enum atl_code cfg_identity_ticket_user(struct cfg_identity *identity, const char *ticket,
                                                      struct atl_arena *arena, const char **ret_user,
                                                      struct atl_error *err);
/* A signed assertion for the user; ret_expires: wall clock, seconds. */
const uint8_t *cfg_identity_assert(struct cfg_identity *identity, const char *user, const char *token,
                                   struct atl_arena *arena, size_t *ret_size, int64_t *ret_expires);

/* Operations that put new keys of tickets and CSRF tokens into the tree; what they signed is worth nothing
 * from then on, on every node. ops: room for three. Blocks for the time it takes to make an RSA key. Errors:
 * ATL_E_INTERNAL. */
ATL_MUST_CHECK enum atl_code cfg_identity_new_keys(struct atl_arena *arena, struct cfg_op *ops,
                                                   size_t *ret_count, struct atl_error *err);

/* Random bytes; aborts when the machine has none. */
void cfg_random(void *bytes, size_t size);

#endif
