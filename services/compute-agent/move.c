/* Moving a virtual machine: words between the workers, and whose the guest is. */
#include "move.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "atoll/qemu/v1/migrate.atl.h"
#include "atoll/storage/v1/volume.atl.h"
#include "atoll/store/v1/store.atl.h"

enum { HEAD = 4, WORD_MAX = 4 << 20 };

static const atl_ns say_within = 20 * ATL_SECOND;
static const atl_ns ask_again = 300 * ATL_MS;

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

void move_files_init(struct move_files *files, const char *source, const char *target, uint32_t vmid)
{
    *files = (struct move_files){.found = false};
    (void)snprintf(files->source, sizeof files->source, "nodes/%.80s/qemu-server/%" PRIu32 ".conf", source,
                   vmid);
    (void)snprintf(files->target, sizeof files->target, "nodes/%.80s/qemu-server/%" PRIu32 ".conf", target,
                   vmid);
}

static enum atl_code read_now(struct work *work, const char *path, bool *ret_found, struct atl_file *ret_file,
                              struct atl_error *err)
{
    Atoll__Store__V1__GetRequest request = ATOLL__STORE__V1__GET_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.path = atl_arena_strdup(&work->arena, path);
    request.has_linearizable = true;
    request.linearizable = true;
    const struct atl_task_call call = {
        .rpc = &atl_rpc_store_v1_Store_Get, .input = &request.base, .to_the_end = true};
    enum atl_code code = atl_task_call_at(work->task, &call, &work->arena, &output, err);
    *ret_found = code == ATL_OK;
    if (code != ATL_OK)
        return code == ATL_E_ABSENT ? ATL_OK : code;
    const Atoll__Store__V1__File *file = ((const Atoll__Store__V1__GetReply *)output)->file;
    *ret_file = (struct atl_file){
        .path = file->path,
        .bytes = atl_arena_strndup(&work->arena, (const char *)file->content.data, file->content.len),
        .size = file->content.len};
    if (file->revision != NULL)
        ret_file->revision =
            (struct atl_revision){.epoch = file->revision->epoch, .number = file->revision->number};
    return ATL_OK;
}

enum atl_code move_files_read(struct work *work, struct move_files *files, struct atl_error *err)
{
    enum atl_code code = read_now(work, files->source, &files->found, &files->text, err);
    return code == ATL_OK ? read_now(work, files->target, &files->at_target, &files->target_text, err) : code;
}

bool move_locked(struct work *work, const struct atl_file *file)
{
    struct cmp_file data;
    return cmp_file_read(file->bytes, file->size, &work->arena, &data, NULL) == ATL_OK &&
           data.main->state->lock != NULL && strcmp(data.main->state->lock, "migrate") == 0;
}

/* The file at the source without its lock; whoever comes second finds it changed. */
static enum atl_code unlock(struct work *work, const struct move_files *files, struct atl_error *err)
{
    ATL_BUF_AT_EXIT struct atl_buf text = {0};
    ATL_TXN_AT_EXIT struct atl_txn txn;
    struct cmp_file file;
    enum atl_code code = cmp_file_read(files->text.bytes, files->text.size, &work->arena, &file, err);
    if (code != ATL_OK)
        return code;
    file.main->state->lock = NULL;
    cmp_file_write(&file, &text);
    atl_txn_init(&txn);
    atl_txn_compare(&txn, files->source, files->text.revision);
    atl_txn_put(&txn, files->source, text.data, text.length);
    return atl_txn_send_wait(work->bus, &txn, 5 * ATL_SECOND, NULL, err);
}

enum cmp_move_verdict move_settle(struct work *work, struct move_files *files)
{
    bool told = false;
    for (;;) {
        struct atl_error error = {0};
        enum cmp_move_verdict verdict = CMP_MOVE_OPEN;
        enum atl_code code = move_files_read(work, files, &error);
        if (code == ATL_OK) {
            enum cmp_move_file source = CMP_FILE_ABSENT;
            if (files->found)
                source = move_locked(work, &files->text) ? CMP_FILE_OURS : CMP_FILE_OTHER;
            verdict = cmp_move_judge(source, files->at_target);
            if (verdict != CMP_MOVE_OPEN)
                return verdict;
            code = unlock(work, files, &error);
            if (code == ATL_OK)
                return CMP_MOVE_SOURCE;
        }
        if (!told && code != ATL_E_CONFLICT)
            atl_task_warn(work->task, "whose the guest is cannot be told yet, asking on: %s", error.text);
        told = told || code != ATL_E_CONFLICT;
        const struct timespec pause = {.tv_nsec = ask_again};
        (void)nanosleep(&pause, NULL); /* cut short by a signal: it asks a little sooner */
    }
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
