/*
 * A virtual machine's file as data: the configuration, the changes that wait for a restart, and its identity
 * (digest). Pure; everything lives in the arena that is given.
 */
#ifndef CMP_CORE_CONFIG_H
#define CMP_CORE_CONFIG_H

#include "core/drive.h"
#include "pure/codec.h"
#include "pure/digest.h"

enum { CMP_MAC_SIZE = 18, CMP_UUID_SIZE = 37 };

struct cmp_file {
    struct atl_arena *arena;
    struct atl_section *sections; /* the first is the configuration; there always is one */
    size_t count;
    Atoll__Qemu__V1__File *main;    /* of the first section */
    Atoll__Qemu__V1__File *pending; /* of [PENDING]; empty when there is none */
    const char *pending_delete;     /* "net1,scsi2": taken away at the next start; "" when none */
};

/* Reads a guest file; lines that are not understood are kept. Never NULL parts. Errors: ATL_E_INTERNAL. */
ATL_MUST_CHECK enum atl_code cmp_file_read(const char *text, size_t size, struct atl_arena *arena,
                                           struct cmp_file *ret_file, struct atl_error *err);
/* An empty file. */
void cmp_file_new(struct atl_arena *arena, struct cmp_file *ret_file);
/* Writes it back; a [PENDING] without content is left out. */
void cmp_file_write(const struct cmp_file *file, struct atl_buf *out);

/* One parameter of a configuration. */
struct cmp_setting {
    const char *name;
    const char *value;
};
/* All that is given, in canonical order. */
struct cmp_setting *cmp_settings(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena,
                                 size_t *ret_count);
/* Sets one parameter from its text. Errors: ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cmp_setting_put(Atoll__Qemu__V1__Config *config, const char *name,
                                             const char *value, struct atl_arena *arena,
                                             struct atl_error *err);
const char *cmp_setting_get(const Atoll__Qemu__V1__Config *config, const char *name, struct atl_arena *arena);
bool cmp_setting_given(const Atoll__Qemu__V1__Config *config, const char *name);
void cmp_setting_clear(Atoll__Qemu__V1__Config *config, const char *name);

/* The configuration as it will be at the next start: pending changes on top. */
Atoll__Qemu__V1__Config *cmp_config_next(const struct cmp_file *file, struct atl_arena *arena);

/* Is the name in a list "a,b;c"? */
bool cmp_list_has(const char *list, const char *name);
/* The list with the name added (once), or taken out. */
const char *cmp_list_add(const char *list, const char *name, struct atl_arena *arena);
const char *cmp_list_drop(const char *list, const char *name, struct atl_arena *arena);

/*
 * Everything wrong with a configuration that its single parameters do not show: options a bus does not have,
 * a balloon larger than the memory, boot devices that are not there.
 * Errors: ATL_E_INVALID, each fault in errors; ATL_E_UNIMPLEMENTED.
 */
ATL_MUST_CHECK enum atl_code cmp_config_check(const Atoll__Qemu__V1__Config *config,
                                              struct atl_errors *errors);

/* What a new machine gets beside what was asked for. */
struct cmp_birth {
    const uint8_t *random;  /* CMP_BIRTH_RANDOM bytes */
    int64_t now;            /* wall clock, seconds */
    const char *mac_prefix; /* "BC:24:11" */
    const char *qemu_version;
};
enum { CMP_BIRTH_RANDOM = 32 * 3 + 32 };

/* MAC addresses for interfaces that have none. */
void cmp_fill_macs(Atoll__Qemu__V1__Config *config, const uint8_t *random, const char *mac_prefix,
                   struct atl_arena *arena);
/* MAC addresses, system UUID, generation id, boot order, record of the birth. */
void cmp_fill_birth(struct cmp_file *file, const struct cmp_birth *birth);
/* A random (version 4) UUID out of 16 bytes. */
void cmp_uuid(const uint8_t random[16], char uuid[CMP_UUID_SIZE]);

/* The disk the guest's size is told by: the first to boot from, else the first; NULL when it has none. */
const Atoll__Qemu__V1__Drive *cmp_main_disk(const Atoll__Qemu__V1__Config *config, struct atl_arena *arena);

/* Volumes the file refers to: disks, unused ones, pending ones. Sorted, no doubles. */
const char **cmp_volumes_of(const struct cmp_file *file, struct atl_arena *arena, size_t *ret_count);

#endif
