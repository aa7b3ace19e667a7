/* Volumes to and from other nodes: Send and Receive of volume.proto, over a stream (io/stream.h), in pieces.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive.h"
#include "atoll/storage/v1/volume.pb-c.h"
#include "copy.h"
#include "core/parcel.h"

enum { MOVES_MAX = 16, ANSWER_MAX = 600, FOLDER_PIECE = 1 << 16 /* what a pipe holds */ };
#define CHANNEL      "volume"
#define MEET_TIME    (30 * ATL_SECOND)
#define SILENT_TIME  (60 * ATL_SECOND)
#define ANSWER_TIME  (600 * ATL_SECOND) /* the other disk takes what its memory holds */
#define TELL_TIME    (5 * ATL_SECOND)
#define LENGTH_LIMIT (2 * STO_SIZE_MAX) /* of a qcow2 file: with its snapshots */

/* One end of it, in a thread. */
struct move {
    struct sto_copy *copy;
    struct atl_stream *stream;
    EVP_MD_CTX *sum;
    int sink; /* what comes is written there; borrowed */
    atl_ns began;
    uint64_t sent;
    char answer[ANSWER_MAX + 1]; /* of who receives */
    size_t answer_size;
    uint8_t piece[STO_PARCEL_HEAD + STO_PARCEL_PIECE_MAX];
};

static struct move *move_new(struct sto_copy *copy)
{
    struct move *move = atl_new0(struct move);
    move->copy = copy;
    move->sum = EVP_MD_CTX_new();
    move->began = atl_clock_monotonic();
    int good = move->sum != NULL && EVP_DigestInit_ex(move->sum, EVP_sha256(), NULL) == 1;
    atl_assert(good);
    return move;
}

static void move_free(struct move *move)
{
    atl_stream_close(&move->stream);
    EVP_MD_CTX_free(move->sum);
    free(move);
}

static void add_to_sum(struct move *move, const void *bytes, size_t size)
{
    int good = EVP_DigestUpdate(move->sum, bytes, size);
    atl_assert(good == 1);
}

static void end_sum(struct move *move, uint8_t digest[STO_PARCEL_DIGEST])
{
    unsigned int size = STO_PARCEL_DIGEST;
    int good = EVP_DigestFinal_ex(move->sum, digest, &size);
    atl_assert(good == 1);
}

static void show_progress(struct sto_copy *copy, uint64_t at, uint64_t length)
{
    if (length > 0)
        atomic_store(&copy->progress, (unsigned int)((double)at / (double)length * 10000));
}

/* --- sending --- */

static enum atl_code rest(const struct move *move, struct atl_error *err)
{
    struct pollfd stop = {.fd = move->copy->stop, .events = POLLIN};
    atl_ns left = 0;
    while ((left = sto_parcel_rest(move->sent, move->copy->limit_bytes_s,
                                   atl_clock_monotonic() - move->began)) > 0) {
        int ms = left > ATL_SECOND ? 1000 : (int)(left / ATL_MS) + 1;
        if (poll(&stop, 1, ms) > 0)
            return atl_fail(err, ATL_E_CANCELLED, NULL, "the copy was stopped");
    }
    return ATL_OK;
}

/* "OK", or why not: one sentence, up to the end of the stream. */
static enum atl_code take_answer(struct move *move, struct atl_error *err)
{
    for (size_t got = 1; got > 0 && move->answer_size < ANSWER_MAX; move->answer_size += got) {
        enum atl_code code =
            atl_stream_read(move->stream, move->answer + move->answer_size, ANSWER_MAX - move->answer_size,
                            atl_clock_monotonic() + ANSWER_TIME, &got, err);
        if (code != ATL_OK)
            return code;
    }
    if (strcmp(move->answer, "OK") == 0)
        return ATL_OK;
    return atl_fail(err, ATL_E_IO, NULL, "the other node did not take the volume: %s", move->answer);
}

/* An answer before the end is a refusal, and its words are better than "the connection ended" a little later.
 */
static enum atl_code look_for_refusal(struct move *move, struct atl_error *err)
{
    size_t got = 0;
    if (atl_stream_read(move->stream, move->answer, ANSWER_MAX, 0, &got, NULL) != ATL_OK || got == 0)
        return ATL_OK; /* nothing; what broke is told by the next piece */
    move->answer_size = got;
    enum atl_code code = take_answer(move, err);
    return code != ATL_OK ? code : atl_fail(err, ATL_E_INTERNAL, NULL, "the other node took half a volume");
}

static enum atl_code send_piece(struct move *move, const struct sto_parcel *parcel, struct atl_error *err)
{
    size_t size = STO_PARCEL_HEAD + parcel->length;
    sto_parcel_pack(parcel, move->piece);
    if (!parcel->end)
        add_to_sum(move, move->piece, size);
    move->sent += size;
    enum atl_code code =
        atl_stream_write(move->stream, move->piece, size, atl_clock_monotonic() + SILENT_TIME, err);
    if (code == ATL_OK && !parcel->end)
        code = look_for_refusal(move, err);
    return code == ATL_OK ? rest(move, err) : code;
}

/* The pieces of one stretch without holes. */
static enum atl_code send_stretch(struct move *move, uint64_t from, uint64_t to, uint64_t length,
                                  struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    for (uint64_t at = from; at < to && code == ATL_OK;) {
        size_t size = to - at < STO_PARCEL_PIECE_MAX ? (size_t)(to - at) : STO_PARCEL_PIECE_MAX;
        ssize_t got = pread(move->copy->source, move->piece + STO_PARCEL_HEAD, size, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return atl_fail(err, ATL_E_IO, NULL, "cannot read the volume: %s",
                            got < 0 ? strerror(errno) : "it became shorter");
        code = send_piece(move, &(const struct sto_parcel){.offset = at, .length = (uint32_t)got}, err);
        at += (uint64_t)got;
        show_progress(move->copy, at, length);
    }
    return code;
}

static enum atl_code send_end(struct move *move, uint64_t length, struct atl_error *err)
{
    const struct sto_parcel end = {.end = true, .offset = length, .length = STO_PARCEL_DIGEST};
    end_sum(move, move->piece + STO_PARCEL_HEAD);
    enum atl_code code = send_piece(move, &end, err);
    return code == ATL_OK ? atl_stream_finish(move->stream, atl_clock_monotonic() + TELL_TIME, err) : code;
}

static enum atl_code send_file(struct move *move, struct atl_error *err)
{
    struct stat st;
    int fd = move->copy->source;
    enum atl_code code = ATL_OK;
    if (fstat(fd, &st) < 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot look at the volume: %s", strerror(errno));
    for (off_t at = 0; at < st.st_size && code == ATL_OK;) {
        off_t data = lseek(fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break; /* a hole up to the end */
        off_t hole = data >= 0 ? lseek(fd, data, SEEK_HOLE) : -1;
        if (data < 0 || hole < 0)
            return atl_fail(err, ATL_E_IO, NULL, "cannot read the volume: %s", strerror(errno));
        code = send_stretch(move, (uint64_t)data, (uint64_t)hole, (uint64_t)st.st_size, err);
        at = hole;
    }
    return code == ATL_OK ? send_end(move, (uint64_t)st.st_size, err) : code;
}

/* Pieces as tar writes them; *ret_length: all of them. */
static enum atl_code send_archive(struct move *move, int fd, uint64_t *ret_length, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    uint64_t at = 0;
    for (ssize_t got = 1; got != 0 && code == ATL_OK;) {
        got = read(fd, move->piece + STO_PARCEL_HEAD, FOLDER_PIECE);
        if (got < 0 && errno != EINTR)
            return atl_fail(err, ATL_E_IO, NULL, "cannot read the volume: %s", strerror(errno));
        if (got <= 0)
            continue;
        code = send_piece(move, &(const struct sto_parcel){.offset = at, .length = (uint32_t)got}, err);
        at += (uint64_t)got;
    }
    *ret_length = at;
    return code;
}

static enum atl_code send_folder(struct move *move, struct atl_error *err)
{
    struct sto_archive *archive = NULL;
    struct atl_error why = {0};
    uint64_t length = 0;
    int fd = -1;
    enum atl_code code = sto_archive_pack(move->copy->source, &move->copy->cancel, &archive, &fd, err);
    if (code != ATL_OK)
        return code;
    code = send_archive(move, fd, &length, err);
    enum atl_code ended = sto_archive_end(&archive, &why);
    if (code == ATL_OK && ended != ATL_OK) {
        *err = why;
        code = ended;
    }
    return code == ATL_OK ? send_end(move, length, err) : code;
}

static void send_volume(struct sto_copy *copy)
{
    struct move *move = move_new(copy);
    const struct atl_stream_wait wait = {.deadline = move->began + MEET_TIME, .stop = copy->stop};
    enum atl_code code = atl_stream_connect_until(&copy->offer, CHANNEL, &wait, &move->stream, &copy->err);
    if (code == ATL_OK && copy->source_format == STO_SUBVOL)
        code = send_folder(move, &copy->err);
    else if (code == ATL_OK)
        code = send_file(move, &copy->err);
    if (code == ATL_OK)
        code = take_answer(move, &copy->err);
    atl_assert((code == ATL_OK) == (copy->err.code == ATL_OK));
    move_free(move);
}

/* --- receiving --- */

static enum atl_code write_failed(const struct move *move, struct atl_error *err)
{
    return atl_fail(err, errno == ENOSPC || errno == EDQUOT ? ATL_E_LIMIT : ATL_E_IO, NULL,
                    "cannot write to storage '%s': %s", move->copy->storage->id, strerror(errno));
}

/* Into the file at its place; into tar one after the other. */
static enum atl_code write_piece(const struct move *move, const struct sto_parcel *parcel,
                                 struct atl_error *err)
{
    const uint8_t *bytes = move->piece + STO_PARCEL_HEAD;
    bool folder = move->copy->slot.volume.format == STO_SUBVOL;
    for (size_t done = 0; done < parcel->length;) {
        size_t left = parcel->length - done;
        ssize_t put = folder ? write(move->sink, bytes + done, left)
                             : pwrite(move->sink, bytes + done, left, (off_t)(parcel->offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return write_failed(move, err);
        done += (size_t)put;
    }
    return ATL_OK;
}

static enum atl_code receive_pieces(struct move *move, uint64_t limit, uint64_t *ret_length,
                                    struct atl_error *err)
{
    struct sto_parcel parcel = {0};
    uint8_t digest[STO_PARCEL_DIGEST];
    for (uint64_t from = 0;; from = parcel.offset + parcel.length) {
        enum atl_code code = atl_stream_read_all(move->stream, move->piece, STO_PARCEL_HEAD,
                                                 atl_clock_monotonic() + SILENT_TIME, err);
        if (code == ATL_OK)
            code = sto_parcel_unpack(move->piece, from, limit, &parcel, err);
        if (code == ATL_OK)
            code = atl_stream_read_all(move->stream, move->piece + STO_PARCEL_HEAD, parcel.length,
                                       atl_clock_monotonic() + SILENT_TIME, err);
        if (code != ATL_OK)
            return code;
        if (parcel.end)
            break;
        add_to_sum(move, move->piece, STO_PARCEL_HEAD + parcel.length);
        code = write_piece(move, &parcel, err);
        if (code != ATL_OK)
            return code;
        show_progress(move->copy, parcel.offset, move->copy->size_bytes);
    }
    end_sum(move, digest);
    if (memcmp(digest, move->piece + STO_PARCEL_HEAD, sizeof digest) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "what came is not what was sent: the checksums differ");
    *ret_length = parcel.offset;
    return ATL_OK;
}

/* Is it what was announced? The file is whole here. */
static enum atl_code check_volume(struct sto_copy *copy, uint64_t length, struct atl_error *err)
{
    uint64_t announced = copy->size_bytes;
    if (ftruncate(copy->slot.fd, (off_t)length) < 0)
        return atl_fail(err, ATL_E_LIMIT, NULL, "cannot give the volume its size: %s", strerror(errno));
    struct sto_image image = {0};
    enum atl_code code = sto_read_image(copy->slot.fd, copy->slot.volume.format, &image, err);
    if (code == ATL_OK && image.foreign)
        code = atl_fail(err, ATL_E_INVALID, NULL, "the image that came rests on another file");
    uint64_t size = image.size_bytes != 0 ? image.size_bytes : length;
    if (code == ATL_OK && size != announced)
        code = atl_fail(err, ATL_E_INVALID, NULL,
                        "the volume that came has %" PRIu64 " bytes, %" PRIu64 " were announced", size,
                        announced);
    return code;
}

static enum atl_code receive_file(struct move *move, struct atl_error *err)
{
    struct sto_copy *copy = move->copy;
    uint64_t length = 0;
    move->sink = copy->slot.fd;
    enum atl_code code = receive_pieces(
        move, copy->slot.volume.format == STO_RAW ? copy->size_bytes : LENGTH_LIMIT, &length, err);
    return code == ATL_OK ? check_volume(copy, length, err) : code;
}

static enum atl_code receive_folder(struct move *move, struct atl_error *err)
{
    struct sto_archive *archive = NULL;
    struct atl_error why = {0};
    uint64_t length = 0;
    enum atl_code code =
        sto_archive_unpack(move->copy->slot.fd, &move->copy->cancel, &archive, &move->sink, err);
    if (code != ATL_OK)
        return code;
    code = receive_pieces(move, LENGTH_LIMIT, &length, err);
    enum atl_code ended = sto_archive_end(&archive, &why);
    if (ended != ATL_OK && (code == ATL_OK || code == ATL_E_IO)) {
        *err = why; /* tar's own words, when it was tar that took no more */
        code = ended;
    }
    return code;
}

static enum atl_code meet(struct move *move, struct atl_error *err)
{
    const struct atl_stream_wait wait = {.deadline = move->began + MEET_TIME, .stop = move->copy->stop};
    for (;;) {
        char channel[ATL_STREAM_CHANNEL_MAX + 1];
        enum atl_code code = atl_stream_accept_until(move->copy->server, &wait, &move->stream, channel, err);
        if (code != ATL_OK || strcmp(channel, CHANNEL) == 0)
            return code;
        atl_stream_close(&move->stream);
    }
}

static void tell(struct move *move, const char *text)
{
    atl_ns deadline = atl_clock_monotonic() + TELL_TIME;
    struct atl_error err = {0};
    /* Who does not hear it sees the connection end without it. */
    if (atl_stream_write(move->stream, text, strlen(text), deadline, &err) == ATL_OK &&
        atl_stream_finish(move->stream, deadline, &err) == ATL_OK) {
        uint8_t byte = 0;
        size_t got = 1;
        while (got > 0 && atl_stream_read(move->stream, &byte, 1, deadline, &got, &err) == ATL_OK)
            continue; /* so that our words are not lost with what is unread */
    }
}

static void receive_volume(struct sto_copy *copy)
{
    struct move *move = move_new(copy);
    enum atl_code code = meet(move, &copy->err);
    atl_stream_server_close(&copy->server);
    if (code == ATL_OK)
        code = copy->slot.volume.format == STO_SUBVOL ? receive_folder(move, &copy->err)
                                                      : receive_file(move, &copy->err);
    if (code == ATL_OK && atomic_load(&copy->cancel))
        code = atl_fail(&copy->err, ATL_E_CANCELLED, NULL, "the copy was stopped");
    if (code == ATL_OK)
        code = copy->driver->commit(copy->storage, &copy->slot, &copy->err);
    if (code != ATL_OK)
        copy->driver->drop(copy->storage, &copy->slot);
    if (move->stream != NULL)
        tell(move, code == ATL_OK ? "OK" : copy->err.text);
    move_free(move);
}

/* --- Receive --- */

struct receiving {
    struct sto_copy *copy;
    struct sto_wish wish;
    uint64_t used_bytes;
};

static enum atl_code reserve(struct sto_copy *copy, const struct sto_wish *wish, struct atl_error *err)
{
    struct sto_plan plan;
    enum atl_code code = sto_plan_alloc(copy->storage, wish, &plan, err);
    return code == ATL_OK ? copy->driver->reserve(copy->storage, &plan, &copy->slot, err) : code;
}

static void prepare_receive(struct sto_job *job)
{
    struct receiving *receiving = job->extra;
    struct sto_copy *copy = receiving->copy;
    struct sto_wish wish = receiving->wish;
    struct sto_fill fill = {0};
    job->code = copy->driver->activate(copy->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = copy->driver->fill(copy->storage, &fill, &job->err);
    if (job->code == ATL_OK && fill.avail_bytes < receiving->used_bytes)
        job->code =
            atl_fail(&job->err, ATL_E_LIMIT, "storage",
                     "storage '%s' has no room: the volume takes %" PRIu64 " bytes, %" PRIu64 " are free",
                     copy->storage->id, receiving->used_bytes, fill.avail_bytes);
    if (job->code == ATL_OK) {
        job->code = reserve(copy, &wish, &job->err);
        if (wish.name != NULL && (job->code == ATL_E_EXISTS || job->code == ATL_E_INVALID)) {
            wish.name = NULL; /* taken, or of another owner: any will do */
            job->err = (struct atl_error){0};
            job->code = reserve(copy, &wish, &job->err);
        }
    }
}

static void receive_prepared(struct sto_job *job)
{
    struct sto_copy *copy = ((struct receiving *)job->extra)->copy;
    struct atl_stream_offer offer = {0};
    if (job->code == ATL_OK)
        job->code = atl_stream_listen(sto_address(job->sto), &copy->server, &offer, &job->err);
    if (job->code == ATL_OK)
        job->code = sto_copy_start(copy, job->sto->move_pool, receive_volume, &job->err);
    if (job->code != ATL_OK) {
        sto_copy_abandon(copy);
        sto_job_fail(job);
        return;
    }
    Atoll__Storage__V1__ReceiveReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__ReceiveReply);
    atoll__storage__v1__receive_reply__init(reply);
    reply->job = copy->id;
    reply->volid = atl_arena_strdup(&job->arena, sto_volume_to_text(&copy->slot.volume, &job->arena));
    reply->path =
        atl_arena_strdup(&job->arena, sto_volume_path(copy->storage, &copy->slot.volume, &job->arena));
    reply->offer = atl_stream_offer_pack(&offer, &job->arena);
    job->output = &reply->base;
    sto_job_end(job);
}

/* A copy between nodes on the job's storage, if there are not too many. NULL: the job says why. */
static struct sto_copy *new_move(struct sto_job *job, const char *storage)
{
    struct sto_copy *copy = NULL;
    if (sto_copies_moving(job->sto->copies) >= MOVES_MAX)
        job->code = atl_fail(&job->err, ATL_E_LIMIT, NULL,
                             "%d volumes are on their way to and from other nodes already, try again later",
                             MOVES_MAX);
    if (job->code == ATL_OK) {
        copy = sto_copy_new(job->sto, storage, &job->err);
        job->code = copy != NULL ? ATL_OK : job->err.code;
    }
    if (copy != NULL)
        copy->is_moving = true;
    return copy;
}

void sto_rpc_receive(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__ReceiveRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    bool rootdir = strcmp(wanted->purpose, "rootdir") == 0;
    struct receiving *receiving = atl_arena_new(&job->arena, struct receiving);
    receiving->wish = (struct sto_wish){.vmid = wanted->vmid,
                                        .purpose = rootdir ? STO_FOR_ROOTDIR : STO_FOR_IMAGES,
                                        .format = wanted->format,
                                        .name = wanted->name,
                                        .size_bytes = wanted->size_bytes};
    receiving->used_bytes = wanted->used_bytes;
    if (sto_job_storage(job, wanted->storage, rootdir ? STO_ROOTDIR : STO_IMAGES) == ATL_OK)
        receiving->copy = new_move(job, wanted->storage);
    if (receiving->copy == NULL) {
        sto_job_fail(job);
        return;
    }
    receiving->copy->size_bytes = wanted->size_bytes;
    receiving->copy->unasked = true;
    job->extra = receiving;
    job->finish = receive_prepared;
    sto_job_go(job, prepare_receive);
}

/* --- Send --- */

static void prepare_send(struct sto_job *job)
{
    struct sto_copy *copy = job->extra;
    job->code = copy->driver->activate(copy->storage, &job->err);
    if (job->code == ATL_OK)
        job->code = copy->driver->open(copy->storage, &copy->slot.volume, &copy->source, &job->err);
    if (job->code == ATL_OK && copy->source_format != STO_SUBVOL)
        job->code = sto_copy_read_source(copy, copy->slot.volume.name, &job->err);
}

static void send_prepared(struct sto_job *job)
{
    struct sto_copy *copy = job->extra;
    if (job->code == ATL_OK)
        job->code = sto_copy_start(copy, job->sto->move_pool, send_volume, &job->err);
    if (job->code != ATL_OK) {
        sto_copy_abandon(copy);
        sto_job_fail(job);
        return;
    }
    Atoll__Storage__V1__SendReply *reply = atl_arena_new(&job->arena, Atoll__Storage__V1__SendReply);
    atoll__storage__v1__send_reply__init(reply);
    reply->job = copy->id;
    reply->size_bytes = copy->size_bytes;
    job->output = &reply->base;
    sto_job_end(job);
}

void sto_rpc_send(struct atl_request *request, const ProtobufCMessage *input, void *user)
{
    const Atoll__Storage__V1__SendRequest *wanted = (const void *)input;
    struct sto_job *job = sto_job_new(user, request, input, NULL);
    if (job == NULL)
        return;
    struct atl_stream_offer offer = {0};
    struct sto_copy *copy = NULL;
    job->code = atl_stream_offer_unpack(wanted->offer, &offer, &job->err);
    if (job->code == ATL_OK)
        job->code = sto_job_volume(job, NULL, wanted->volid, "volid");
    bool sendable =
        job->volume.format == STO_RAW || job->volume.format == STO_QCOW2 || job->volume.format == STO_SUBVOL;
    bool is_disk = job->volume.content == STO_IMAGES || job->volume.content == STO_ROOTDIR;
    if (job->code == ATL_OK && (!is_disk || !sendable))
        job->code = atl_fail(&job->err, ATL_E_INVALID, "volid",
                             "'%s' cannot be sent: only disks of the formats raw, qcow2 and subvol can",
                             wanted->volid);
    if (job->code == ATL_OK)
        copy = new_move(job, job->volume.storage);
    if (copy == NULL) {
        sto_job_fail(job);
        return;
    }
    copy->slot.volume = job->volume;
    copy->source_format = job->volume.format;
    copy->offer = offer;
    copy->limit_bytes_s = wanted->bwlimit_kib_s * 1024;
    job->extra = copy;
    job->finish = send_prepared;
    sto_job_go(job, prepare_send);
}
