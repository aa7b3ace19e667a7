/*
 * The keeper of the door of a service: verifies assertions and permissions against user.cfg and the nodes'
 * keys, and gives the bus its struct atl_guard.
 *
 * In a service:
 *     mirror = atl_mirror_open(bus, (const char *const[]){ATL_KEEPER_PREFIXES, "nodes/pve1/", NULL});
 *     keeper = atl_keeper_new(bus, mirror);    (sets the bus's guard; both must outlive it)
 * config-store feeds its own keeper by atl_keeper_feed(). All functions belong to the loop's thread.
 */
#ifndef ATL_IO_GUARD_H
#define ATL_IO_GUARD_H

#include "io/bus.h"
#include "io/mirror.h"
#include "pure/acl.h"

#define ATL_KEEPER_PREFIXES "user.cfg", ".state/key/", ".state/directory/"

struct atl_keeper;

/* mirror: of at least ATL_KEEPER_PREFIXES; NULL: the owner feeds. bus may be NULL in tests. */
struct atl_keeper *atl_keeper_new(struct atl_bus *bus, struct atl_mirror *mirror);
void atl_keeper_free(struct atl_keeper **keeper);

/* A file changed: "user.cfg" or ".state/key/NODE" (others are ignored); bytes NULL: it is gone. */
void atl_keeper_feed(struct atl_keeper *keeper, const char *path, const char *bytes, size_t size);
/* The copy is at that revision now; requests that wait for it are looked at again. */
void atl_keeper_set_revision(struct atl_keeper *keeper, struct atl_revision revision);
/* Whether nothing newer comes to a copy that the owner feeds; a mirror knows itself. NULL: never. */
void atl_keeper_on_frozen(struct atl_keeper *keeper, bool (*frozen)(void *user), void *user);
/* For tests: wall clock in seconds instead of the machine's; 0: the machine's. */
void atl_keeper_set_time(struct atl_keeper *keeper, int64_t now);

struct atl_guard atl_keeper_guard(struct atl_keeper *keeper);

/* user.cfg as it is now; borrowed until the next round of the loop. Never NULL. */
const struct atl_acl *atl_keeper_acl(const struct atl_keeper *keeper);

/*
 * The principal of a request, ready for further checks in a handler (filtering lists, `code` permissions).
 * Errors: ATL_E_UNAUTHENTICATED no user, or he is gone meanwhile. Valid until the next round of the loop:
 * fetch it again after waiting for something.
 */
ATL_MUST_CHECK enum atl_code atl_keeper_subject(struct atl_keeper *keeper,
                                                const struct atl_principal *principal,
                                                struct atl_subject *ret_subject, struct atl_error *err);

/* One check: the principal needs one of the privileges (NULL-terminated) on path. A service that calls for
 * itself or for a task may. Errors: ATL_E_DENIED "Permission check failed (PATH, PRIV)". */
ATL_MUST_CHECK enum atl_code atl_keeper_need(struct atl_keeper *keeper, const struct atl_principal *principal,
                                             const char *path, const char *const *any, struct atl_error *err);

#endif
