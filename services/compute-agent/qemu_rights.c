/* Who may put what into a virtual machine's configuration: what the expressions of the contract cannot say.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu.h"

enum atl_code qemu_need_root(struct atl_request *request, bool wanted, const char *field,
                             struct atl_error *err)
{
    if (!wanted || cmp_is_root(request))
        return ATL_OK;
    return atl_fail(err, ATL_E_DENIED, field, "Only root may use this option: '%s'", field);
}

/* The guest a volume's name says it belongs to: "local:101/vm-101-disk-0.qcow2" -> 101; 0: none. */
static uint32_t volume_owner(const char *volid)
{
    const char *base = strrchr(volid, '/');
    base = base != NULL ? base + 1 : strchr(volid, ':') + 1;
    if (strncmp(base, "vm-", 3) == 0 || strncmp(base, "base-", 5) == 0 || strncmp(base, "subvol-", 7) == 0)
        return (uint32_t)strtoul(strchr(base, '-') + 1, NULL, 10);
    return 0;
}

static enum atl_code need_drive(struct cmp_qemu *qemu, struct atl_request *request, uint32_t vmid,
                                const struct cmp_drive *item, struct atl_error *err)
{
    static const char *const whole[] = {"Datastore.Allocate", NULL};
    static const char *const allocate[] = {"Datastore.AllocateSpace", NULL};
    static const char *const look[] = {"Datastore.AllocateSpace", "Datastore.Audit", NULL};
    const struct atl_principal *principal = atl_request_principal(request);
    const char *sources[] = {item->drive->file, item->drive->import_from};
    for (size_t i = 0; i < ATL_COUNT(sources); i++) {
        char storage[101];
        char path[128];
        if (sources[i] == NULL || strcmp(sources[i], "none") == 0)
            continue;
        if (!cmp_volume_storage(sources[i], storage, sizeof storage)) {
            enum atl_code code =
                qemu_need_root(request, true, item->name, err); /* a file or drive of the host */
            if (code != ATL_OK)
                return code;
            continue;
        }
        (void)snprintf(path, sizeof path, "/storage/%s", storage);
        bool reads = i == 1 || cmp_drive_is_cdrom(item->drive);
        uint32_t owner = volume_owner(sources[i]);
        const char *const *need = reads ? look : allocate;
        if (owner != 0 && owner != vmid)
            need = whole; /* another guest's disk: only for who may do all on the storage */
        enum atl_code code = atl_keeper_need(qemu->cmp->keeper, principal, path, need, err);
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}

enum atl_code qemu_need_config(struct cmp_qemu *qemu, struct atl_request *request, uint32_t vmid,
                               const Atoll__Qemu__V1__Config *config, struct atl_error *err)
{
    if (config == NULL)
        return ATL_OK;
    size_t count = 0;
    const struct cmp_drive *drives = cmp_drives(config, atl_request_arena(request), &count);
    enum atl_code code = qemu_need_root(request, config->args != NULL, "args", err);
    if (code == ATL_OK)
        code = qemu_need_root(request, config->hookscript != NULL, "hookscript", err);
    for (size_t i = 0; code == ATL_OK && i < config->n_serial; i++)
        code = qemu_need_root(
            request, config->serial[i]->value != NULL && strcmp(config->serial[i]->value, "socket") != 0,
            "serial", err);
    for (size_t i = 0; code == ATL_OK && i < count; i++)
        code = need_drive(qemu, request, vmid, &drives[i], err);
    for (size_t i = 0; code == ATL_OK && i < config->n_net; i++) {
        const Atoll__Qemu__V1__Net *net = config->net[i]->value;
        if (net != NULL && net->bridge != NULL)
            code = cmp_need_bridge(qemu->cmp, request, net->bridge, net->has_tag ? net->tag : 0, err);
    }
    return code;
}

/* --- changes ----------------------------------------------------------------------------------------------
 */

struct change {
    struct cmp_qemu *qemu;
    struct atl_request *request;
    const char *path; /* "/vms/100" */
    const struct cmp_file *file;
    struct atl_error *err;
};

static enum atl_code need_kind(const struct change *change, bool cdrom)
{
    static const char *const disk[] = {"VM.Config.Disk", NULL};
    static const char *const disc[] = {"VM.Config.CDROM", NULL};
    return atl_keeper_need(change->qemu->cmp->keeper, atl_request_principal(change->request), change->path,
                           cdrom ? disc : disk, change->err);
}

/* The drives of that name as they are: running, and waiting for the next start. */
static enum atl_code need_present(const struct change *change, const char *name)
{
    const Atoll__Qemu__V1__Drive *drives[] = {cmp_drive_find(change->file->main->config, name),
                                              cmp_drive_find(change->file->pending->config, name)};
    enum atl_code code = ATL_OK;
    for (size_t i = 0; code == ATL_OK && i < ATL_COUNT(drives); i++)
        if (drives[i] != NULL)
            code = need_kind(change, cmp_drive_is_cdrom(drives[i]));
    return code;
}

static enum atl_code need_listed(const struct change *change, const char *list)
{
    enum atl_code code = ATL_OK;
    for (const char *at = list != NULL ? list : ""; code == ATL_OK && *at != '\0';) {
        size_t length = strcspn(at, ",; ");
        const char *name = atl_arena_strndup(atl_request_arena(change->request), at, length);
        code = need_present(change, name);
        if (code == ATL_OK && (strcmp(name, "args") == 0 || strcmp(name, "hookscript") == 0))
            code = qemu_need_root(change->request, true, name, change->err);
        at += length;
        at += strspn(at, ",; ");
    }
    return code;
}

enum atl_code qemu_need_change(struct cmp_qemu *qemu, struct atl_request *request, uint32_t vmid,
                               const Atoll__Qemu__V1__Config *set, const char *remove, const char *revert,
                               struct atl_error *err)
{
    struct atl_arena *arena = atl_request_arena(request);
    struct cmp_file file;
    const struct atl_file *text = NULL;
    size_t count = 0;
    enum atl_code code = qemu_config(qemu, vmid, arena, &file, &text, err);
    if (code != ATL_OK)
        return code;
    const struct change change = {qemu, request, atl_arena_format(arena, "/vms/%" PRIu32, vmid), &file, err};
    const struct cmp_drive *drives = set != NULL ? cmp_drives(set, arena, &count) : NULL;
    for (size_t i = 0; code == ATL_OK && i < count; i++) {
        code = need_kind(&change, cmp_drive_is_cdrom(drives[i].drive));
        if (code == ATL_OK)
            code = need_present(&change, drives[i].name);
    }
    if (code == ATL_OK)
        code = need_listed(&change, remove);
    return code == ATL_OK ? need_listed(&change, revert) : code;
}
