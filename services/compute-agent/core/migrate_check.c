/* What speaks against moving a virtual machine, all of it at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/domxml.h"
#include "core/migrate.h"
#include "pure/storage_map.h"

/* --- where volumes go -------------------------------------------------------------------------------------
 */

static void plan_local(const struct cmp_move_input *input, struct cmp_move_volume *volume,
                       struct atl_errors *errors)
{
    if (volume->cloudinit)
        volume->move = CMP_MOVE_REMAKE;
    else if (volume->cdrom)
        atl_errors_add(errors, volume->name, "the image '%s' lies on the local storage '%s'; eject it first",
                       volume->volid, volume->storage);
    else if (!input->running)
        volume->move = CMP_MOVE_COPY;
    else if (!input->with_local_disks)
        atl_errors_add(errors, "with-local-disks",
                       "%s: '%s' lies on the local storage '%s'; a running guest takes it along only with "
                       "with-local-disks",
                       volume->name, volume->volid, volume->storage);
    else
        volume->move = volume->unused || volume->pending ? CMP_MOVE_COPY : CMP_MOVE_MIRROR;
}

void cmp_move_plan(struct cmp_move_input *input, struct atl_arena *arena, struct atl_errors *errors)
{
    atl_storage_map_check(input->storages, "targetstorage", errors);
    for (size_t i = 0; i < input->volume_count; i++) {
        struct cmp_move_volume *volume = &input->volumes[i];
        volume->move = CMP_MOVE_NONE;
        volume->to_storage = volume->storage;
        if (volume->is_path && !volume->said_shared)
            atl_errors_add(errors, volume->name, "'%s' belongs to this machine", volume->volid);
        if (volume->is_path || volume->shared || volume->said_shared)
            continue;
        volume->to_storage = atl_storage_map(input->storages, volume->storage, arena);
        plan_local(input, volume, errors);
    }
}

/* --- checks -----------------------------------------------------------------------------------------------
 */

static void check_devices(const struct cmp_move_input *input, struct atl_arena *arena,
                          struct atl_errors *errors)
{
    const Atoll__Qemu__V1__Config *config = input->file->main->config;
    const char **devices = cmp_move_devices(config, arena);
    const char **mapped = cmp_move_mapped(config, arena);
    bool passes = input->force && !input->running;
    for (size_t i = 0; !passes && devices[i] != NULL; i++)
        atl_errors_add(errors, devices[i], "it is a device of this machine");
    for (size_t i = 0; input->running && mapped[i] != NULL; i++)
        atl_errors_add(errors, mapped[i], "a mapped device of this machine cannot move while the guest runs");
    if (input->running && config->tpmstate0 != NULL)
        atl_errors_add(errors, "tpmstate0", "the state of a TPM cannot move while the guest runs");
}

static void check_bridges(const struct cmp_move_input *input, struct atl_errors *errors)
{
    const Atoll__Qemu__V1__Config *config = input->file->main->config;
    for (size_t i = 0; input->missing_bridges != NULL && input->missing_bridges[i] != NULL; i++)
        for (size_t k = 0; k < config->n_net; k++) {
            const Atoll__Qemu__V1__Net *net = config->net[k]->value;
            char name[16];
            (void)snprintf(name, sizeof name, "net%" PRIu32, config->net[k]->index);
            if (net != NULL && net->bridge != NULL && strcmp(net->bridge, input->missing_bridges[i]) == 0)
                atl_errors_add(errors, name, "bridge '%s' does not exist on the target", net->bridge);
        }
}

static const struct cmp_move_storage *find_storage(const struct cmp_move_input *input, const char *storage,
                                                   const char *content)
{
    for (size_t i = 0; i < input->target_storage_count; i++)
        if (strcmp(input->target_storages[i].storage, storage) == 0 &&
            strcmp(input->target_storages[i].content, content) == 0)
            return &input->target_storages[i];
    return NULL;
}

static bool takes_format(const struct cmp_move_storage *storage, const char *format)
{
    for (size_t i = 0; storage->formats != NULL && storage->formats[i] != NULL; i++)
        if (format != NULL && strcmp(storage->formats[i], format) == 0)
            return true;
    return false;
}

/* All that goes to the storage has to fit; said once, at the first volume. */
static void check_space(const struct cmp_move_input *input, const struct cmp_move_storage *storage,
                        size_t first, struct atl_errors *errors)
{
    uint64_t need = 0;
    for (size_t i = 0; i < input->volume_count; i++) {
        const struct cmp_move_volume *volume = &input->volumes[i];
        if (volume->move == CMP_MOVE_NONE || strcmp(volume->to_storage, storage->storage) != 0)
            continue;
        if (i < first)
            return;
        need += volume->size_bytes;
    }
    if (storage->avail_bytes > 0 && need > storage->avail_bytes)
        atl_errors_add(errors, "targetstorage",
                       "storage '%s' on the target has %" PRIu64 " bytes left, %" PRIu64 " are needed",
                       storage->storage, storage->avail_bytes, need);
}

static void check_volumes(const struct cmp_move_input *input, struct atl_errors *errors)
{
    for (size_t i = 0; i < input->volume_count; i++) {
        const struct cmp_move_volume *volume = &input->volumes[i];
        if (volume->is_path)
            continue;
        const char *content = volume->cdrom && !volume->cloudinit ? "iso" : "images";
        const struct cmp_move_storage *storage = find_storage(input, volume->to_storage, content);
        if (storage == NULL || !storage->usable) {
            atl_errors_add(errors, volume->name, "storage '%s' cannot be used on the target: %s",
                           volume->to_storage,
                           storage != NULL && storage->reason != NULL ? storage->reason : "nothing is known");
            continue;
        }
        if ((volume->move == CMP_MOVE_COPY || volume->move == CMP_MOVE_MIRROR) &&
            !takes_format(storage, volume->format))
            atl_errors_add(errors, volume->name, "storage '%s' takes no volume of format '%s'",
                           volume->to_storage, volume->format);
        if (volume->move != CMP_MOVE_NONE)
            check_space(input, storage, i, errors);
    }
}

/* Sections of the file beside the configuration and what waits: snapshots. */
static void check_snapshots(const struct cmp_move_input *input, struct atl_errors *errors)
{
    bool mirrored = false;
    for (size_t i = 0; i < input->volume_count; i++)
        mirrored = mirrored || input->volumes[i].move == CMP_MOVE_MIRROR;
    for (size_t i = 1; mirrored && i < input->file->count; i++) {
        const char *name = input->file->sections[i].name;
        if (strcmp(name, "PENDING") != 0 && strncmp(name, "special:", 8) != 0)
            atl_errors_add(errors, "with-local-disks",
                           "the snapshot '%s' cannot move with a local disk while the guest runs", name);
    }
}

/* <0, 0, >0 as versions are older, equal, newer; texts that are none count as 0. */
static int compare_versions(const char *a, const char *b)
{
    while (*a != '\0' || *b != '\0') {
        char *next_a = NULL;
        char *next_b = NULL;
        unsigned long left = strtoul(a, &next_a, 10);
        unsigned long right = strtoul(b, &next_b, 10);
        if (left != right)
            return left < right ? -1 : 1;
        a = *next_a == '.' && next_a != a ? next_a + 1 : "";
        b = *next_b == '.' && next_b != b ? next_b + 1 : "";
    }
    return 0;
}

static void check_machine(const struct cmp_move_input *input, struct atl_errors *errors)
{
    const struct cmp_move_node *source = &input->source;
    const struct cmp_move_node *target = &input->target;
    const Atoll__Qemu__V1__Config *config = input->file->main->config;
    const char *model = config->cpu != NULL && config->cpu->cputype != NULL ? config->cpu->cputype : "";
    if (!input->running)
        return;
    if (strcmp(source->accel, target->accel) != 0)
        atl_errors_add(errors, "kvm", "the guest runs with %s here, the target runs guests with %s",
                       source->accel, target->accel);
    if (source->qemu_version != NULL && target->qemu_version != NULL &&
        compare_versions(source->qemu_version, target->qemu_version) > 0)
        atl_errors_add(errors, "machine", "QEMU is %s here and only %s on the target", source->qemu_version,
                       target->qemu_version);
    bool same = source->processor != NULL && target->processor != NULL &&
                strcmp(source->processor, target->processor) == 0;
    if (strcmp(source->accel, "kvm") == 0 && (strcmp(model, "host") == 0 || strcmp(model, "max") == 0) &&
        !same)
        atl_errors_add(errors, "cpu", "the guest has the processor of this machine (%s), the target's is %s",
                       source->processor != NULL ? source->processor : "unknown",
                       target->processor != NULL ? target->processor : "unknown");
}

void cmp_move_check(const struct cmp_move_input *input, struct atl_errors *errors)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    if (input->running && !input->online)
        atl_errors_add(errors, "online", "can't migrate running VM without --online");
    if (input->no_quorum)
        atl_errors_add(errors, "target", "the target has no quorum");
    if (input->runs_there)
        atl_errors_add(errors, "vmid", "a machine with the id %" PRIu32 " runs there already", input->vmid);
    check_bridges(input, errors);
    check_devices(input, &arena, errors);
    check_volumes(input, errors);
    check_snapshots(input, errors);
    check_machine(input, errors);
}
