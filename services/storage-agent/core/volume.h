/*
 * Volume ids and what follows from them: kind of content, format, owner, place below the storage's folder.
 *
 * An id is STORAGE:NAME. NAME is one of
 *     100/vm-100-disk-0.qcow2            a disk; base-... is a template's, subvol-100-disk-0.subvol a folder
 *     90/base-90-disk-0.qcow2/100/vm-100-disk-0.qcow2    a linked clone with the volume it rests on
 *     iso/debian.iso  vztmpl/x.tar.zst  snippets/x.yaml  import/x.qcow2  backup/vzdump-qemu-100-...
 * What is parsed here can be made into a path that stays below its folder whatever the bytes were.
 */
#ifndef STO_CORE_VOLUME_H
#define STO_CORE_VOLUME_H

#include "pure/arena.h"
#include "pure/error.h"

enum sto_content {
    STO_IMAGES,
    STO_ROOTDIR,
    STO_VZTMPL,
    STO_ISO,
    STO_BACKUP,
    STO_SNIPPETS,
    STO_IMPORT,
    STO_NO_CONTENT, /* "none": the storage holds nothing */
    STO_CONTENTS,
};

enum sto_format {
    STO_RAW,
    STO_QCOW2,
    STO_VMDK,
    STO_SUBVOL,
    STO_ISO_IMAGE,
    STO_TGZ,
    STO_TXZ,
    STO_TZST,
    STO_TBZ2,
    STO_TAR,
    STO_VMA,
    STO_OVA,
    STO_OVF,
    STO_SNIPPET,
    STO_FORMATS,
};

enum { STO_ID_MAX = 64, STO_FILE_MAX = 200, STO_NAME_MAX = 480, STO_PATH_MAX = 1024 };
enum { STO_VMID_MIN = 100, STO_VMID_MAX = 999999999 };

/* "images", "iso", ... and back. */
const char *sto_content_to_text(enum sto_content content);
bool sto_content_from_text(const char *text, size_t length, enum sto_content *ret_content);

/* As the API shows it: "raw", "qcow2", "iso", "tzst" ... and back. */
const char *sto_format_to_text(enum sto_format format);
bool sto_format_from_text(const char *text, enum sto_format *ret_format);

struct sto_volume {
    char storage[STO_ID_MAX];  /* empty when only a name was parsed */
    char name[STO_NAME_MAX];   /* what stands behind the colon */
    char file[STO_FILE_MAX];   /* last part of the name: the file, or a subvol's folder */
    char parent[STO_NAME_MAX]; /* linked clone: name of the volume below it; else empty */
    enum sto_content content;  /* STO_IMAGES for disks of both kinds of guests; STO_ROOTDIR for a subvol */
    enum sto_format format;
    uint32_t vmid; /* owner; 0: none */
    bool base;     /* a template's disk */
};

/*
 * Parses STORAGE:NAME; `text` may hold any bytes. field names the parameter in the error.
 * Errors: ATL_E_INVALID with a sentence that says what a volume id is.
 */
ATL_MUST_CHECK enum atl_code sto_volume_parse(const char *text, const char *field,
                                              struct sto_volume *ret_volume, struct atl_error *err);

/* Parses NAME alone; ret_volume->storage is empty. Errors: as above. */
ATL_MUST_CHECK enum atl_code sto_volume_parse_name(const char *name, const char *field,
                                                   struct sto_volume *ret_volume, struct atl_error *err);

/* Appends STORAGE:NAME as text in the arena. */
const char *sto_volume_to_text(const struct sto_volume *volume, struct atl_arena *arena);

/* Makes the volume of one file in a content folder ("iso", "x.iso"); images need the owner as well.
 * False when such a file is none of ours (other ending, hidden, temporary): lists leave it out. */
bool sto_volume_of_file(enum sto_content content, uint32_t vmid, const char *file,
                        struct sto_volume *ret_volume);

/* Is that a file name we write? 1..199 bytes of UTF-8 without control bytes, '/', ',', ';', leading '.' or
 * '-'. */
bool sto_file_name_ok(const char *file);

/* The name an upload gets: other bytes than letters, digits and _.- become '_'.
 * Errors: ATL_E_INVALID (field "filename") when it names a folder, is hidden, too long, or has no ending that
 * this content takes. */
ATL_MUST_CHECK enum atl_code sto_upload_name(enum sto_content content, const char *filename,
                                             struct sto_volume *ret_volume, struct atl_error *err);

#endif
