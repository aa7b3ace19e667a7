/*
 * The file of a container (nodes/NODE/lxc/ID.conf) as a whole: what holds now, changes that wait for a
 * restart, snapshots; and how a request changes it. Pure.
 */
#ifndef CMP_LXC_DOC_H
#define CMP_LXC_DOC_H

#include "atoll/lxc/v1/lxc.pb-c.h"
#include "pure/arena.h"
#include "pure/buf.h"
#include "pure/codec.h"
#include "pure/digest.h"
#include "pure/error.h"

struct cmp_lxc_doc {
    struct atl_section *sections; /* as in the file; [0] is what holds now */
    size_t count;
    Atoll__Lxc__V1__File *now;
    Atoll__Lxc__V1__File *pending; /* NULL: nothing waits */
    const char *pending_delete;    /* "net0,mp1": settings that go at the next start; NULL: none */
    char digest[ATL_DIGEST_SIZE];  /* of the text it was read from */
    struct atl_arena *arena;       /* everything lives here; borrowed */
};

/* Reads a file. Lines it does not know are kept. Errors: ATL_E_INVALID more than the codec takes. */
ATL_MUST_CHECK enum atl_code cmp_lxc_doc_read(const char *text, size_t length, struct atl_arena *arena,
                                              struct cmp_lxc_doc *ret_doc, struct atl_error *err);

/* An empty file with that configuration. */
void cmp_lxc_doc_new(Atoll__Lxc__V1__Config *config, struct atl_arena *arena, struct cmp_lxc_doc *ret_doc);

void cmp_lxc_doc_write(struct cmp_lxc_doc *doc, struct atl_buf *out);

/* The raw lxc.* lines that hold now. */
size_t cmp_lxc_doc_raw(const struct cmp_lxc_doc *doc, const struct atl_line **ret_lines);

/* The section of that name (a snapshot), or NULL. */
Atoll__Lxc__V1__File *cmp_lxc_doc_section(const struct cmp_lxc_doc *doc, const char *name);

/* NULL, or why nobody may change the container now: the lock's name. */
const char *cmp_lxc_doc_lock(const struct cmp_lxc_doc *doc);
void cmp_lxc_doc_set_lock(struct cmp_lxc_doc *doc, const char *lock); /* NULL: none */

/* What holds now with the waiting changes put in; a copy in the arena. */
Atoll__Lxc__V1__Config *cmp_lxc_doc_wanted(const struct cmp_lxc_doc *doc);

/* Makes the waiting changes hold; false when there were none. Volumes of mount points that go become unused.
 */
bool cmp_lxc_doc_settle(struct cmp_lxc_doc *doc);

/* The rows of `pending`: every setting, its value now, the one that waits, and whether it goes. */
void cmp_lxc_doc_rows(const struct cmp_lxc_doc *doc, Atoll__Lxc__V1__GetPendingReply *reply);

/* --- changing
 * ----------------------------------------------------------------------------------------------- */

struct cmp_lxc_update {
    const Atoll__Lxc__V1__Config *set; /* volumes that are to be made are made already; may be NULL */
    const char *remove;                /* "net0,mp1", or NULL */
    const char *revert;                /* or NULL */
    const char *digest;                /* the caller's, or NULL */
    bool running;
    const uint8_t *random;  /* CMP_LXC_RANDOM bytes, for new MAC addresses */
    const char *mac_prefix; /* of datacenter.cfg, or NULL */
};
enum { CMP_LXC_RANDOM = 6 * 32 };

struct cmp_lxc_change {
    bool limits;              /* limits of the running container are to be set */
    const char *const *freed; /* volume ids to be removed after the change is committed */
    size_t freed_count;
};

/*
 * Changes the document as asked. Settings that a running container cannot take wait.
 *
 * Errors: ATL_E_CONFLICT locked ("CT is locked (backup)") or another digest; ATL_E_INVALID unknown names in
 * remove, a setting that is set and removed, one that cannot be changed; ATL_E_LIMIT no unused slot is left.
 * The document is then half changed: throw it away.
 */
ATL_MUST_CHECK enum atl_code cmp_lxc_doc_update(struct cmp_lxc_doc *doc, const struct cmp_lxc_update *update,
                                                struct cmp_lxc_change *ret_change, struct atl_error *err);

/* Gives every interface without a MAC address one; those that `old` (may be NULL) has at the same place stay.
 */
void cmp_lxc_fill_macs(Atoll__Lxc__V1__Config *config, const Atoll__Lxc__V1__Config *old,
                       const uint8_t *random, const char *prefix, struct atl_arena *arena);

/* Can that setting ("net0", "memory") change while the container runs? */
bool cmp_lxc_setting_is_live(const char *name);

#endif
