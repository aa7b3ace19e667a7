/*
 * The REST of a node that is not ours yet: TLS that trusts one certificate, by its fingerprint, and nothing
 * else. For task workers: it blocks.
 */
#ifndef CFG_CLUSTER_PEER_H
#define CFG_CLUSTER_PEER_H

#include "pure/buf.h"
#include "pure/error.h"

struct cfg_peer;
struct json_object;

/* endpoint: ADDRESS:PORT; fingerprint: SHA-256 of the gateway's certificate, AA:BB:... Connects later. */
struct cfg_peer *cfg_peer_new(const char *endpoint, const char *fingerprint);
void cfg_peer_free(struct cfg_peer **peer);

/* How long an answer may take; 40 seconds unless something else is said. */
void cfg_peer_limit(struct cfg_peer *peer, unsigned int seconds);

/* One more parameter of the next post. */
void cfg_peer_param(struct cfg_peer *peer, const char *name, const char *value);
/*
 * Posts what was added since the last one. ret_data: the answer's data, freed with json_object_put().
 * Errors: ATL_E_UNAVAILABLE not reached; ATL_E_DENIED the certificate is
 * another; else ATL_E_STATE with its words.
 */
ATL_MUST_CHECK enum atl_code cfg_peer_post(struct cfg_peer *peer, const char *path,
                                           struct json_object **ret_data, struct atl_error *err);
/* What follows is asked as this user. Errors: as of cfg_peer_post(). */
ATL_MUST_CHECK enum atl_code cfg_peer_login(struct cfg_peer *peer, const char *user, const char *password,
                                            struct atl_error *err);

/* A text of the answer, or NULL. */
const char *cfg_peer_text(struct json_object *data, const char *name);

#endif
