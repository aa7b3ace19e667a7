/* What task workers of the storage-agent do; each is a process of its own, without the agent's state. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "atoll/storage/v1/job.pb-c.h"
#include "sto.h"

struct place {
    struct sto_config config;
    const struct sto_storage *storage;
    const struct sto_driver *driver;
};

static enum atl_code find_place(const char *storage_cfg, const char *storage, struct atl_arena *arena,
                                struct place *ret_place, struct atl_error *err)
{
    enum atl_code code = sto_config_read(storage_cfg, strlen(storage_cfg), arena, &ret_place->config, err);
    if (code == ATL_OK)
        code = sto_config_need(&ret_place->config, storage, &ret_place->storage, err);
    if (code == ATL_OK)
        code = sto_driver_need(ret_place->storage, &ret_place->driver, err);
    return code;
}

/* --- imgdel --- */

static enum atl_code remove_volume(struct atl_task *task, const uint8_t *spec, size_t size,
                                   struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ProtobufCAllocator allocator = atl_arena_allocator(&arena);
    const Atoll__Storage__V1__RemoveJob *job = atoll__storage__v1__remove_job__unpack(&allocator, size, spec);
    if (job == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the task's specification cannot be read");
    struct sto_volume volume;
    struct place place;
    bool was_there = false;
    sto_driver_set_node(atl_task_node(task));
    enum atl_code code = sto_volume_parse(job->volid, "volume", &volume, err);
    if (code == ATL_OK)
        code = find_place(job->storage_cfg, volume.storage, &arena, &place, err);
    if (code == ATL_OK)
        code = place.driver->remove(place.storage, &volume, &was_there, err);
    if (code == ATL_OK)
        atl_task_log(task, was_there ? "Removed volume '%s'" : "Volume '%s' was gone already", job->volid);
    return code;
}

/* --- imgcopy --- */

static const EVP_MD *algorithm_of(const char *name)
{
    static const char *const names[] = {"md5", "sha1", "sha224", "sha256", "sha384", "sha512"};
    for (size_t i = 0; i < ATL_COUNT(names); i++) {
        if (strcmp(names[i], name) == 0)
            return EVP_get_digestbyname(name);
    }
    return NULL;
}

static enum atl_code digest_file(struct atl_task *task, int fd, EVP_MD_CTX *digest, uint64_t size,
                                 struct atl_error *err)
{
    static uint8_t bytes[256 * 1024];
    uint64_t done = 0;
    for (;;) {
        ssize_t got = pread(fd, bytes, sizeof bytes, (off_t)done);
        if (got < 0)
            return atl_fail(err, ATL_E_IO, NULL, "cannot read the uploaded file: %s", strerror(errno));
        if (got == 0)
            return ATL_OK;
        if (EVP_DigestUpdate(digest, bytes, (size_t)got) != 1)
            return atl_fail(err, ATL_E_INTERNAL, NULL, "the checksum cannot be computed");
        done += (uint64_t)got;
        if (atl_task_stopped(task))
            return atl_fail(err, ATL_E_CANCELLED, NULL, "stopped");
        atl_task_progress(task, size > 0 ? (double)done / (double)size : 1, "checking");
    }
}

static enum atl_code check_sum(struct atl_task *task, int fd, const Atoll__Storage__V1__CopyJob *job,
                               struct atl_error *err)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    char text[2 * EVP_MAX_MD_SIZE + 1] = "";
    unsigned int length = 0;
    const EVP_MD *algorithm = algorithm_of(job->checksum_algorithm);
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    enum atl_code code = ATL_OK;
    atl_task_log(task, "calculating checksum...");
    if (digest == NULL || algorithm == NULL || EVP_DigestInit_ex(digest, algorithm, NULL) != 1)
        code = atl_fail(err, ATL_E_INVALID, "checksum-algorithm", "checksum algorithm '%s' is not available",
                        job->checksum_algorithm);
    if (code == ATL_OK)
        code = digest_file(task, fd, digest, job->size_bytes, err);
    if (code == ATL_OK && EVP_DigestFinal_ex(digest, sum, &length) != 1)
        code = atl_fail(err, ATL_E_INTERNAL, NULL, "the checksum cannot be computed");
    EVP_MD_CTX_free(digest);
    for (unsigned int i = 0; i < length; i++)
        (void)snprintf(text + (size_t)i * 2, 3, "%02x", sum[i]);
    if (code == ATL_OK && strcasecmp(text, job->checksum) != 0)
        code = atl_fail(err, ATL_E_INVALID, "checksum", "checksum mismatch: got '%s', expected '%s'", text,
                        job->checksum);
    if (code == ATL_OK)
        atl_task_log(task, "OK, checksum verified");
    return code;
}

/* An image that reaches into other files of the node is refused before anything opens it. */
static enum atl_code check_image(int fd, const struct sto_volume *volume, struct atl_error *err)
{
    struct sto_image image = {0};
    if (volume->content != STO_IMPORT || volume->format > STO_VMDK)
        return ATL_OK;
    enum atl_code code = sto_read_image(fd, volume->format, &image, err);
    if (code == ATL_OK && image.foreign)
        code = atl_fail(err, ATL_E_INVALID, NULL,
                        "the image rests on another file, which is refused; flatten it first");
    return code;
}

static enum atl_code copy_file(struct atl_task *task, const uint8_t *spec, size_t size, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    ProtobufCAllocator allocator = atl_arena_allocator(&arena);
    const Atoll__Storage__V1__CopyJob *job = atoll__storage__v1__copy_job__unpack(&allocator, size, spec);
    if (job == NULL)
        return atl_fail(err, ATL_E_INTERNAL, NULL, "the task's specification cannot be read");
    struct place place;
    struct sto_slot slot = {.fd = -1};
    (void)atl_copy(slot.folder, sizeof slot.folder, job->folder);
    (void)atl_copy(slot.temporary, sizeof slot.temporary, job->temporary);
    sto_driver_set_node(atl_task_node(task));
    enum atl_code code = find_place(job->storage_cfg, job->storage, &arena, &place, err);
    if (code != ATL_OK)
        return code;
    code = sto_volume_parse_name(job->volume, "filename", &slot.volume, err);
    (void)atl_copy(slot.volume.storage, sizeof slot.volume.storage, job->storage);
    atl_task_log(task, "starting file import from: %s", job->filename != NULL ? job->filename : job->volume);
    atl_task_log(task, "target: %s, %" PRIu64 " bytes", sto_volume_to_text(&slot.volume, &arena),
                 job->size_bytes);
    if (code == ATL_OK)
        code = place.driver->resume(place.storage, &slot, err);
    if (code == ATL_OK && job->checksum != NULL)
        code = check_sum(task, slot.fd, job, err);
    if (code == ATL_OK)
        code = check_image(slot.fd, &slot.volume, err);
    if (code == ATL_OK)
        code = place.driver->commit(place.storage, &slot, err);
    place.driver->drop(place.storage, &slot);
    if (code == ATL_OK)
        atl_task_log(task, "finished file import successfully");
    return code;
}

const struct atl_task_type sto_task_types[] = {{"imgdel", remove_volume}, {"imgcopy", copy_file}};
const size_t sto_task_type_count = ATL_COUNT(sto_task_types);
