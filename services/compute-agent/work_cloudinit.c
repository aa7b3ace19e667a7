/* Writes the cloud-init drive of a virtual machine before it starts. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cloudinit.h"
#include "io/process.h"
#include "work.h"

enum { IMAGE_MAX = 4 << 20 };

/* Folder of the files; removed with all it holds. */
struct tree {
    char path[4096];
};

static void tree_remove(struct tree *tree)
{
    static const char *const names[] = {"openstack/latest/user_data",
                                        "openstack/latest/meta_data.json",
                                        "openstack/content/0000",
                                        "user-data",
                                        "network-config",
                                        "meta-data",
                                        "vendor-data",
                                        "image.iso"};
    static const char *const folders[] = {"openstack/latest", "openstack/content", "openstack", "."};
    char path[4352];
    if (tree->path[0] == '\0')
        return;
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", tree->path, names[i]);
        (void)unlink(path); /* only one form of them is there */
    }
    for (size_t i = 0; i < ATL_COUNT(folders) - 1; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", tree->path, folders[i]);
        (void)rmdir(path);
    }
    (void)rmdir(tree->path);
}

static enum atl_code write_file(const char *folder, const char *name, const char *text, struct atl_error *err)
{
    char path[4352];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *at = path + strlen(folder) + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        (void)mkdir(path, 0700); /* the file's own folder may be there */
        *at = '/';
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int reason = errno;
    if (fd >= 0)
        (void)close(fd);
    return done ? ATL_OK : atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(reason));
}

static enum atl_code make_image(const struct tree *tree, const char *label, struct atl_error *err)
{
    char image[4200];
    (void)snprintf(image, sizeof image, "%s/image.iso", tree->path);
    const char *const argv[] = {"genisoimage", "-quiet", "-J",       "-R", "-input-charset",
                                "utf-8",       "-V",     label,      "-m", "image.iso",
                                "-o",          image,    tree->path, NULL};
    const struct atl_process_options options = {.argv = argv, .capture = 65536, .timeout = 30 * ATL_SECOND};
    struct atl_error error = {0};
    enum atl_code code = atl_process_run(&options, NULL, NULL, &error);
    return code == ATL_OK ? ATL_OK
                          : atl_fail(err, code, NULL, "cannot make the cloud-init drive: %s", error.text);
}

static enum atl_code copy_image(const struct tree *tree, const char *to, struct atl_error *err)
{
    char path[4200];
    (void)snprintf(path, sizeof path, "%s/image.iso", tree->path);
    char *bytes = atl_alloc0(IMAGE_MAX);
    int in = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = in >= 0 ? read(in, bytes, IMAGE_MAX) : -1;
    int out = got > 0 && got < IMAGE_MAX ? open(to, O_WRONLY | O_CLOEXEC) : -1;
    bool done = out >= 0 && pwrite(out, bytes, (size_t)got, 0) == got && fsync(out) == 0;
    int reason = errno;
    if (in >= 0)
        (void)close(in);
    if (out >= 0)
        (void)close(out);
    free(bytes);
    return done ? ATL_OK
                : atl_fail(err, ATL_E_IO, NULL, "cannot write the cloud-init drive '%s': %s", to,
                           strerror(reason));
}

static const char *drive_path(struct work *work, const struct cmp_machine *machine)
{
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(work->file.main->config, &work->arena, &count);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; cmp_drive_is_cloudinit(drives[i].drive) && k < machine->volume_count; k++)
            if (strcmp(machine->volumes[k].name, drives[i].name) == 0)
                return machine->volumes[k].path;
    return NULL;
}

/* First "nameserver" and the "search" line of the host, for guests that name none. */
static void host_dns(struct work *work, struct cmp_cloudinit_facts *facts)
{
    char line[512];
    FILE *file = fopen("/etc/resolv.conf", "re");
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "nameserver ", 11) == 0 && facts->nameserver == NULL)
            facts->nameserver = atl_arena_strdup(&work->arena, line + 11);
        else if (strncmp(line, "search ", 7) == 0)
            facts->searchdomain = atl_arena_strdup(&work->arena, line + 7);
    }
    (void)fclose(file);
}

enum atl_code work_cloudinit(struct work *work, const struct cmp_machine *machine, struct atl_error *err)
{
    const char *path = drive_path(work, machine);
    if (path == NULL)
        return ATL_OK;
    struct cmp_cloudinit_facts facts = {.vmid = work->spec->vmid};
    struct cmp_cloudinit cloudinit;
    host_dns(work, &facts);
    cmp_cloudinit_build(work->file.main->config, &facts, &work->arena, &cloudinit);
    ATL_CLEANUP(tree_remove) struct tree tree;
    (void)snprintf(tree.path, sizeof tree.path, "%.4000s/cloudinit-XXXXXX", machine->run_dir);
    if (mkdtemp(tree.path) == NULL) {
        int reason = errno;
        tree.path[0] = '\0';
        return atl_fail(err, ATL_E_IO, NULL, "cannot make a folder in '%s': %s", machine->run_dir,
                        strerror(reason));
    }
    enum atl_code code = ATL_OK;
    for (size_t i = 0; code == ATL_OK && i < cloudinit.count; i++)
        code = write_file(tree.path, cloudinit.files[i].path, cloudinit.files[i].text, err);
    if (code == ATL_OK)
        code = make_image(&tree, cloudinit.label, err);
    return code == ATL_OK ? copy_image(&tree, path, err) : code;
}
