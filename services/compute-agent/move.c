/* Moving a virtual machine: words between the workers, and whose the guest is. */
#include "move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atoll/qemu/v1/migrate.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "handover.h"

enum { HEAD = 4, WORD_MAX = 4 << 20 };

static const atl_ns say_within = 20 * ATL_SECOND;

/* --- words ------------------------------------------------------------------------------------------------
 */

void move_link_done(struct move_link *link)
{
    atl_stream_close(&link->stream);
    free(link->bytes);
    *link = (struct move_link){0};
}

enum atl_code move_say(struct move_link *link, const char *kind, Atoll__Qemu__V1__Word *word,
                       struct atl_error *err)
{
    char name[16];
    (void)atl_copy(name, sizeof name, kind);
    word->kind = name;
    size_t size = protobuf_c_message_get_packed_size(&word->base);
    if (size > WORD_MAX)
        return atl_fail(err, ATL_E_LIMIT, NULL, "the guest's description is too large");
    if (link->stream == NULL)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the other node is not connected");
    ATL_FREE_AT_EXIT uint8_t *bytes = atl_alloc0(HEAD + size);
    for (unsigned int i = 0; i < HEAD; i++)
        bytes[i] = (uint8_t)(size >> (8 * (HEAD - 1 - i)));
    (void)protobuf_c_message_pack(&word->base, bytes + HEAD);
    return atl_stream_write(link->stream, bytes, HEAD + size, atl_clock_monotonic() + say_within, err);
}

/* Reads on until `size` bytes of the word are there. */
static enum atl_code fill(struct move_link *link, size_t size, atl_ns deadline, struct atl_error *err)
{
    while (link->got < size) {
        size_t got = 0;
        enum atl_code code =
            atl_stream_read(link->stream, link->bytes + link->got, size - link->got, deadline, &got, err);
        if (code == ATL_OK && got == 0)
            code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the other node has ended the migration");
        if (code != ATL_OK)
            return code;
        link->got += got;
    }
    return ATL_OK;
}

enum atl_code move_hear(struct move_link *link, atl_ns deadline, struct atl_arena *arena,
                        const Atoll__Qemu__V1__Word **ret_word, struct atl_error *err)
{
    if (link->stream == NULL)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the other node is not connected");
    if (link->bytes == NULL)
        link->bytes = atl_alloc0(HEAD + WORD_MAX);
    enum atl_code code = fill(link, HEAD, deadline, err);
    if (code != ATL_OK)
        return code;
    link->size = 0;
    for (unsigned int i = 0; i < HEAD; i++)
        link->size = link->size << 8 | link->bytes[i];
    if (link->size > WORD_MAX)
        return atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the other node talks nonsense");
    code = fill(link, HEAD + link->size, deadline, err);
    if (code != ATL_OK)
        return code;
    link->got = 0;
    *ret_word = (const Atoll__Qemu__V1__Word *)atl_unpack(&atl_msg_qemu_v1_Word, link->bytes + HEAD,
                                                          link->size, arena);
    return *ret_word != NULL ? ATL_OK
                             : atl_fail(err, ATL_E_UNAVAILABLE, NULL, "the other node talks nonsense");
}

/* --- the tree decides -------------------------------------------------------------------------------------
 */

bool move_locked(const struct atl_file *file, struct atl_arena *arena)
{
    struct cmp_file data;
    return cmp_file_read(file->bytes, file->size, arena, &data, NULL) == ATL_OK &&
           data.main->state->lock != NULL && strcmp(data.main->state->lock, "migrate") == 0;
}

void move_handover_init(struct work *work, const char *source, const char *target,
                        struct cmp_handover *handover)
{
    *handover = (struct cmp_handover){.task = work->task, .arena = &work->arena, .locked = move_locked};
    cmp_handover_init(handover, "qemu-server", source, target, work->spec->vmid);
}

enum atl_code move_unlock(struct work *work, struct atl_error *err)
{
    enum atl_code code = work_read(work, err);
    if (code == ATL_E_ABSENT)
        return ATL_OK; /* it was removed */
    if (code != ATL_OK || !move_locked(&work->text, &work->arena))
        return code;
    work->file.main->state->lock = NULL;
    return work_write(work, err);
}

/* --- volumes ----------------------------------------------------------------------------------------------
 */

enum atl_code move_own_volumes(struct work *work, const char ***ret_volumes, struct atl_error *err)
{
    Atoll__Storage__V1__ListOfGuestRequest request = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.vmid = work->spec->vmid;
    const struct atl_task_call call = {
        .rpc = &atl_rpc_storage_v1_Volumes_ListOfGuest, .input = &request.base, .to_the_end = true};
    enum atl_code code = atl_task_call_at(work->task, &call, &work->arena, &output, err);
    if (code != ATL_OK)
        return code;
    const Atoll__Storage__V1__ListOfGuestReply *reply = (const Atoll__Storage__V1__ListOfGuestReply *)output;
    const char **volumes = atl_arena_array(&work->arena, const char *, reply->n_volume + 1);
    size_t count = 0;
    for (size_t i = 0; i < reply->n_volume; i++)
        if (!(reply->volume[i]->has_shared && reply->volume[i]->shared))
            volumes[count++] = reply->volume[i]->volid;
    volumes[count] = NULL;
    *ret_volumes = volumes;
    return ATL_OK;
}

const char **move_lines(const char *text, struct atl_arena *arena)
{
    size_t count = 0;
    for (const char *at = text; *at != '\0'; at++)
        count += *at == '\n';
    const char **lines = atl_arena_array(arena, const char *, count + 2);
    count = 0;
    for (const char *at = text; *at != '\0';) {
        size_t length = strcspn(at, "\n");
        if (length > 0)
            lines[count++] = atl_arena_strndup(arena, at, length);
        at += length;
        at += *at == '\n';
    }
    lines[count] = NULL;
    return lines;
}

/* --- facts ------------------------------------------------------------------------------------------------
 */

const char *move_processor(struct work *work)
{
    char line[512];
    const char *found = NULL;
    FILE *file = fopen("/proc/cpuinfo", "re");
    while (file != NULL && found == NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "model name", 10) == 0 && colon != NULL)
            found = atl_arena_strdup(&work->arena, colon + 1 + strspn(colon + 1, " "));
    }
    if (file != NULL)
        (void)fclose(file); /* it was read only */
    return found;
}

const char *move_accel(struct work *work)
{
    return strcmp(work->spec->accel, "auto") == 0 ? work_accelerator(work) : work->spec->accel;
}
