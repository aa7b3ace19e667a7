/*
 * atoll-lxc-unpack ORDER: makes the file system of a new container out of a template.
 *
 * The archive comes from outside. It is read by a child that has the new volume as its root, the container's
 * ids, no network and few capabilities: whatever it holds, and even if it breaks the reader, it can only
 * write into the volume it was meant for. Prints progress; exits 1 with one line on stderr.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "core/lxc_make.h"
#include "core/lxc_setup.h"
#include "helper/helper.h"

enum { BLOCK_BYTES = 1 << 18, ENTRIES_MAX = 10000000 };

struct order {
    const Atoll__Lxc__V1__UnpackSpec *spec;
    int fd; /* of the archive; at place 4 inside the sandbox */
};

static enum atl_code open_archive(struct archive *in, int fd, struct atl_error *err)
{
    archive_read_support_format_tar(in);
    archive_read_support_filter_gzip(in); /* each of them inside this process: no program is run */
    archive_read_support_filter_xz(in);
    archive_read_support_filter_zstd(in);
    archive_read_support_filter_bzip2(in);
    archive_read_support_filter_none(in);
    if (archive_read_open_fd(in, fd, BLOCK_BYTES) != ARCHIVE_OK)
        return atl_fail(err, ATL_E_INVALID, "ostemplate", "the template is no archive that can be read: %s",
                        archive_error_string(in));
    return ATL_OK;
}

/* What went wrong while writing, with the kernel's own word: libarchive's alone is often "Can't create". */
static enum atl_code fail_write(struct archive *out, const char *what, const char *name,
                                struct atl_error *err)
{
    int why = archive_errno(out);
    const char *text = archive_error_string(out);
    const char *word = why > 0 ? strerror(why) : "";
    bool told = text != NULL && (word[0] == '\0' || strstr(text, word) != NULL);
    return atl_fail(err, ATL_E_IO, NULL, "cannot %s '%.200s': %s%s%s", what, name, text != NULL ? text : "",
                    told ? "" : ": ", told ? "" : word);
}

static enum atl_code copy_data(struct archive *in, struct archive *out, const char *name,
                               struct atl_error *err)
{
    const void *block = NULL;
    size_t size = 0;
    la_int64_t offset = 0;
    for (;;) {
        int got = archive_read_data_block(in, &block, &size, &offset);
        if (got == ARCHIVE_EOF)
            return ATL_OK;
        if (got < ARCHIVE_WARN)
            return atl_fail(err, ATL_E_INVALID, "ostemplate", "the template is damaged at '%.200s': %s", name,
                            archive_error_string(in));
        if (archive_write_data_block(out, block, size, offset) < ARCHIVE_WARN)
            return fail_write(out, "write", name, err);
    }
}

/* Devices come from the host when the container starts, so those of the archive are left out. */
static bool wanted(struct archive_entry *entry)
{
    mode_t type = archive_entry_filetype(entry);
    const char *name = archive_entry_pathname(entry);
    if (name == NULL || (archive_entry_hardlink(entry) == NULL && (type == AE_IFCHR || type == AE_IFBLK)))
        return false;
    while (strncmp(name, "./", 2) == 0)
        name += 2;
    return strncmp(name, "dev/", 4) != 0 || name[4] == '\0';
}

static enum atl_code copy_entry(struct archive *in, struct archive *out, struct archive_entry *entry,
                                struct atl_error *err)
{
    const char *name = archive_entry_pathname(entry);
    int got = archive_write_header(out, entry);
    if (got < ARCHIVE_WARN)
        return fail_write(out, "make", name, err);
    enum atl_code code = ATL_OK;
    if (!archive_entry_size_is_set(entry) || archive_entry_size(entry) > 0)
        code = copy_data(in, out, name, err);
    if (code == ATL_OK && archive_write_finish_entry(out) < ARCHIVE_WARN)
        code = fail_write(out, "finish", name, err);
    return code;
}

static enum atl_code extract(struct archive *in, struct archive *out, struct atl_error *err)
{
    struct archive_entry *entry = NULL;
    unsigned long count = 0;
    for (;;) {
        int got = archive_read_next_header(in, &entry);
        if (got == ARCHIVE_EOF)
            break;
        if (got < ARCHIVE_WARN)
            return atl_fail(err, ATL_E_INVALID, "ostemplate", "the template is damaged: %s",
                            archive_error_string(in));
        if (++count > ENTRIES_MAX)
            return atl_fail(err, ATL_E_LIMIT, "ostemplate", "the template holds more than %d files",
                            ENTRIES_MAX);
        if (!wanted(entry))
            continue;
        enum atl_code code = copy_entry(in, out, entry, err);
        if (code != ATL_OK)
            return code;
    }
    if (count == 0)
        return atl_fail(err, ATL_E_INVALID, "ostemplate", "the template is empty");
    if (archive_write_close(out) != ARCHIVE_OK)
        (void)fprintf(stderr, "<4>%s\n", archive_error_string(out));
    (void)printf("unpacked %lu files\n", count);
    return ATL_OK;
}

/* Which files there are to write depends on the kind of system, which only the template knows. */
static enum atl_code tell_the_guest(Atoll__Lxc__V1__Setup *setup, struct atl_error *err)
{
    size_t size = 0;
    ATL_FREE_AT_EXIT char *release = ct_file_read("/etc/os-release", CMP_LXC_FILE_BYTES, &size);
    ATL_FREE_AT_EXIT char *ostype =
        atl_strdup(setup->ostype[0] != '\0' ? setup->ostype : cmp_lxc_ostype(release != NULL ? release : ""));
    (void)printf("ostype %s\n", ostype);
    char *given = setup->ostype;
    setup->ostype = ostype;
    enum atl_code code = ct_setup_apply(setup, err);
    setup->ostype = given;
    return code;
}

static enum atl_code inside(void *user, struct atl_error *err)
{
    const struct order *order = user;
    struct archive *in = archive_read_new();
    struct archive *out = archive_write_disk_new();
    if (in == NULL || out == NULL)
        return atl_fail(err, ATL_E_LIMIT, NULL, "memory is out");
    archive_write_disk_set_options(out, ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME |
                                            ARCHIVE_EXTRACT_XATTR | ARCHIVE_EXTRACT_ACL |
                                            ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_SPARSE);
    enum atl_code code = open_archive(in, 4, err); /* where ct_sandbox_run() puts it */
    if (code == ATL_OK)
        code = extract(in, out, err);
    (void)archive_read_free(in);   /* reported above */
    (void)archive_write_free(out); /* reported above */
    if (code == ATL_OK && order->spec->setup != NULL)
        code = tell_the_guest(order->spec->setup, err);
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (code == ATL_OK && (root < 0 || syncfs(root) != 0))
        code = atl_fail(err, ATL_E_IO, NULL, "cannot write the volume out: %s", strerror(errno));
    (void)fflush(stdout); /* progress only */
    return code;
}

static enum atl_code work(const char *path, struct atl_error *err)
{
    size_t size = 0;
    ATL_FREE_AT_EXIT uint8_t *bytes = ct_file_read(path, CT_SPEC_BYTES_MAX, &size);
    Atoll__Lxc__V1__UnpackSpec *spec =
        bytes != NULL ? atoll__lxc__v1__unpack_spec__unpack(NULL, size, bytes) : NULL;
    if (spec == NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is no order to unpack a template", path);
    struct order order = {.spec = spec, .fd = open(spec->archive, O_RDONLY | O_CLOEXEC)};
    enum atl_code code = ATL_OK;
    if (order.fd < 0)
        code = atl_fail(err, ATL_E_ABSENT, "ostemplate", "cannot open the template '%s': %s", spec->archive,
                        strerror(errno));
    if (code == ATL_OK)
        code = ct_mounts_isolate(err);
    if (code == ATL_OK)
        code = ct_mounts_make(spec->folder, spec->mount, spec->n_mount, spec->map, err);
    ATL_FREE_AT_EXIT char *root = atl_format("%s/rootfs", spec->folder);
    if (code == ATL_OK)
        code = ct_sandbox_run(root, spec->map, order.fd, inside, &order, err);
    if (order.fd >= 0)
        (void)close(order.fd); /* only read from */
    atoll__lxc__v1__unpack_spec__free_unpacked(spec, NULL);
    return code;
}

int main(int argc, char **argv)
{
    struct atl_error error = {0};
    (void)umask(022);
    if (argc != 2) {
        (void)fprintf(stderr, "usage: atoll-lxc-unpack ORDER\n");
        return 2;
    }
    if (work(argv[1], &error) == ATL_OK)
        return 0;
    (void)fprintf(stderr, "%s\n", error.text);
    return 1;
}
