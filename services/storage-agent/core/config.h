/*
 * storage.cfg: what a storage is, and changes to the file.
 *
 * All functions are pure; what they return lives in the arena. The file is a list of sections
 *     dir: local
 *             path /var/lib/vz
 *             content iso,vztmpl
 * and a section of a type or with keys that this version does not know is kept as it stands.
 */
#ifndef STO_CORE_CONFIG_H
#define STO_CORE_CONFIG_H

#include "atoll/storage/v1/storage.pb-c.h"
#include "core/volume.h"
#include "pure/codec.h"
#include "pure/digest.h"

enum { STO_STORAGES_MAX = 256 };

enum sto_preallocation {
    STO_PREALLOCATE_OFF,
    STO_PREALLOCATE_METADATA,
    STO_PREALLOCATE_FALLOC,
    STO_PREALLOCATE_FULL,
};

/* A storage type as the API knows it, whether a driver for it is built or not. */
struct sto_type {
    const char *name;
    uint32_t contents; /* bits 1 << enum sto_content that it may hold */
    uint32_t default_contents;
    uint32_t formats; /* bits 1 << enum sto_format that may be allocated */
    enum sto_format default_format;
    bool shared;              /* by its nature seen by all nodes */
    const char *const *keys;  /* settings it takes, NULL-terminated; NULL: it is not built */
    const char *const *fixed; /* those that are given at creation and never change; all are required */
};

/* NULL: no such type. */
const struct sto_type *sto_type_find(const char *name);

/* One storage with defaults filled in. */
struct sto_storage {
    const char *id;
    const char *type_name;
    const struct sto_type *type; /* NULL: a type nobody knows */
    const char *path;            /* absolute, or NULL */
    uint32_t contents;           /* bits */
    const char *content_text;    /* "images,iso" */
    bool shared;
    bool disabled;
    bool make_base; /* make the folder at `path` if it is missing */
    bool make_subdirs;
    const char *mountpoint; /* must be a mount point for the storage to be active; NULL: no matter */
    enum sto_preallocation preallocation;
    enum sto_format default_format;
    const char *dirs[STO_CONTENTS]; /* folder of each content below path; NULL: none */
    const char *nodes;              /* list, or NULL: all */
    const Atoll__Storage__V1__Entry *entry;
};

struct sto_config {
    struct atl_section *sections; /* message: Entry */
    struct sto_storage *storages; /* same order and count */
    size_t count;
    char digest[ATL_DIGEST_SIZE];
};

/* Reads storage.cfg (text may be NULL: no file yet). A line or section it cannot read is kept, never fatal.
 * Errors: ATL_E_INVALID the text is no section file; ATL_E_LIMIT too many storages. */
ATL_MUST_CHECK enum atl_code sto_config_read(const char *text, size_t length, struct atl_arena *arena,
                                             struct sto_config *ret_config, struct atl_error *err);

/* NULL: none of that id. */
const struct sto_storage *sto_config_find(const struct sto_config *config, const char *id);

/* Errors: ATL_E_ABSENT "storage 'x' does not exist". */
ATL_MUST_CHECK enum atl_code sto_config_need(const struct sto_config *config, const char *id,
                                             const struct sto_storage **ret_storage, struct atl_error *err);

bool sto_storage_on_node(const struct sto_storage *storage, const char *node);
bool sto_storage_takes(const struct sto_storage *storage, enum sto_content content);

/*
 * Errors, in this order: ATL_E_STATE "storage 'x' is disabled", "... is not available on node 'y'";
 * ATL_E_UNIMPLEMENTED no driver for its type; ATL_E_INVALID (field) it does not take that content
 * (STO_CONTENTS: any will do).
 */
ATL_MUST_CHECK enum atl_code sto_storage_usable(const struct sto_storage *storage, const char *node,
                                                enum sto_content content, const char *field,
                                                struct atl_error *err);

/*
 * The new text of the file after one change. errors names each parameter at fault.
 * Errors: ATL_E_INVALID; ATL_E_EXISTS "storage ID 'x' already defined"; ATL_E_ABSENT; ATL_E_CONFLICT the
 * digest is not the one of the file; ATL_E_UNIMPLEMENTED a type that is not built; ATL_E_LIMIT.
 */
struct sto_change {
    struct atl_buf *ret_text;
    struct atl_errors *errors;
    struct atl_error *err;
};
ATL_MUST_CHECK enum atl_code sto_config_add(const struct sto_config *config,
                                            const Atoll__Storage__V1__CreateRequest *request,
                                            struct atl_arena *arena, const struct sto_change *change);
ATL_MUST_CHECK enum atl_code sto_config_change(const struct sto_config *config,
                                               const Atoll__Storage__V1__UpdateRequest *request,
                                               struct atl_arena *arena, const struct sto_change *change);
ATL_MUST_CHECK enum atl_code sto_config_remove(const struct sto_config *config, const char *id,
                                               const struct sto_change *change);

/* The entry as the API shows it: content always given, secrets left to the codec. */
Atoll__Storage__V1__Entry *sto_storage_entry(const struct sto_storage *storage, const char *digest,
                                             struct atl_arena *arena);

#endif
