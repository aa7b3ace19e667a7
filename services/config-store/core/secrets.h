/* priv/shadow.cfg ("name:hash:") and priv/token.cfg ("user@realm!id hash") as text: find, set, drop one line.
 */
#ifndef CFG_SECRETS_H
#define CFG_SECRETS_H

#include "pure/arena.h"
#include "pure/buf.h"

/* What stands for key in a text of lines KEY SEPARATOR VALUE; up to the next separator, blank or line end.
 * NULL: no such line. Lives in the arena. */
const char *cfg_secret_get(const char *text, const char *key, char separator, struct atl_arena *arena);

/* The text with the line of key set to value, or without it (value NULL). Other lines stay as they are. */
void cfg_secret_set(const char *text, const char *key, char separator, const char *value,
                    struct atl_buf *out);

/* The text without the lines whose key begins with prefix: the tokens of a user that goes. */
void cfg_secret_drop_prefix(const char *text, const char *prefix, struct atl_buf *out);

#endif
