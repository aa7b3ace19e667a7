/*
 * Volumes between nodes: Send and Receive of a real storage-agent, which stands for both nodes; what breaks
 * off, lies, is stopped or has no room leaves nothing.
 */
#include "sto_bench.h"

#include <openssl/sha.h>
#include <poll.h>

#include "core/parcel.h"
#include "io/stream.h"

#define SOON (atl_clock_monotonic() + 20 * ATL_SECOND)

typedef Atoll__Storage__V1__ReceiveReply receive_reply;

static enum atl_code receive(struct bench *bench, Atoll__Storage__V1__ReceiveRequest *request,
                             const receive_reply **ret_reply)
{
    static char images[] = "images";
    static char rootdir[] = "rootdir";
    const ProtobufCMessage *output = NULL;
    request->storage = (char[]){"other"};
    request->purpose = strcmp(request->format, "subvol") == 0 ? rootdir : images;
    enum atl_code code = as_compute(bench, &atl_rpc_storage_v1_Volumes_Receive, &request->base, &output);
    *ret_reply = (const void *)output;
    return code;
}

#define RECEIVE(...)                                                                                         \
    (&(Atoll__Storage__V1__ReceiveRequest){                                                                  \
        .base = PROTOBUF_C_MESSAGE_INIT(&atoll__storage__v1__receive_request__descriptor),                   \
        .vmid = 100,                                                                                         \
        __VA_ARGS__})

static enum atl_code start_send(struct bench *bench, const char *volid, Atoll__Bus__V1__StreamOffer *offer,
                                uint64_t limit_kib_s, char **ret_job)
{
    Atoll__Storage__V1__SendRequest request = ATOLL__STORAGE__V1__SEND_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.volid = atl_arena_strdup(&bench->arena, volid);
    request.offer = offer;
    request.has_bwlimit_kib_s = limit_kib_s != 0;
    request.bwlimit_kib_s = limit_kib_s;
    enum atl_code code = as_compute(bench, &atl_rpc_storage_v1_Volumes_Send, &request.base, &output);
    *ret_job = code == ATL_OK ? ((const Atoll__Storage__V1__SendReply *)(const void *)output)->job : NULL;
    return code;
}

static const Atoll__Storage__V1__ImportWaitReply *wait_job(struct bench *bench, char *job)
{
    Atoll__Storage__V1__ImportWaitRequest wait = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    wait.job = job;
    wait.has_wait_ms = true;
    wait.wait_ms = 1000;
    for (int i = 0; i < 60; i++) {
        const ProtobufCMessage *output = NULL;
        assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportWait, &wait.base, &output),
                      &bench->err);
        const Atoll__Storage__V1__ImportWaitReply *reply = (const void *)output;
        if (strcmp(reply->state, "running") != 0)
            return reply;
    }
    fail_msg("job %s does not end", job);
    return NULL;
}

static struct atl_stream *come(struct bench *bench, const receive_reply *reply)
{
    struct atl_stream_offer offer;
    struct atl_stream *stream = NULL;
    assert_atl_ok(atl_stream_offer_unpack(reply->offer, &offer, &bench->err), &bench->err);
    assert_atl_ok(atl_stream_connect(&offer, "volume", SOON, &stream, &bench->err), &bench->err);
    return stream;
}

static int set_up_two(void **state)
{
    (void)set_up(state);
    struct bench *bench = *state;
    shell(bench, "mkdir other && chmod 777 other");
    make_storage(bench, "other", in(bench, "other"), NULL);
    shell(bench, "mkdir -p vz/images/100");
    return 0;
}

static void a_raw_volume_comes_whole_and_without_its_holes(void **state)
{
    struct bench *bench = *state;
    const receive_reply *reply = NULL;
    char *job = NULL;
    shell(bench, "truncate -s 128M vz/images/100/vm-100-disk-0.raw &&"
                 "for at in 0 100 127; do head -c 1048576 /dev/urandom | dd status=none bs=1M seek=$at "
                 "conv=notrunc of=vz/images/100/vm-100-disk-0.raw; done");
    assert_atl_ok(receive(bench,
                          RECEIVE(.format = (char[]){"raw"}, .size_bytes = 128 << 20,
                                  .name = (char[]){"vm-100-disk-0.raw"}),
                          &reply),
                  &bench->err);
    assert_string_equal(reply->volid, "other:100/vm-100-disk-0.raw"); /* its name was free there */
    assert_atl_ok(start_send(bench, "local:100/vm-100-disk-0.raw", reply->offer, 0, &job), &bench->err);
    assert_string_equal(wait_job(bench, job)->state, "done");
    assert_string_equal(wait_job(bench, reply->job)->state, "done");
    shell(bench, "cmp vz/images/100/vm-100-disk-0.raw other/images/100/vm-100-disk-0.raw &&"
                 "test $(du -k other/images/100/vm-100-disk-0.raw | cut -f1) -lt 5000");
    assert_int_equal(files_in(bench, "other"), 1);
}

static void a_qcow2_volume_brings_its_snapshots(void **state)
{
    struct bench *bench = *state;
    const receive_reply *reply = NULL;
    char *job = NULL;
    shell(bench, "cd vz/images/100 && qemu-img create -q -f qcow2 vm-100-disk-3.qcow2 64M &&"
                 "qemu-io -f qcow2 -c 'write -P 7 1M 2M' vm-100-disk-3.qcow2 >/dev/null &&"
                 "qemu-img snapshot -c before vm-100-disk-3.qcow2 &&"
                 "qemu-io -f qcow2 -c 'write -P 9 1M 2M' vm-100-disk-3.qcow2 >/dev/null");
    shell(bench, "mkdir -p other/images/100 && touch other/images/100/vm-100-disk-3.qcow2");
    assert_atl_ok(receive(bench,
                          RECEIVE(.format = (char[]){"qcow2"}, .size_bytes = 64 << 20,
                                  .name = (char[]){"vm-100-disk-3.qcow2"}),
                          &reply),
                  &bench->err);
    assert_string_equal(reply->volid, "other:100/vm-100-disk-0.qcow2"); /* the name it has is taken */
    assert_atl_ok(start_send(bench, "local:100/vm-100-disk-3.qcow2", reply->offer, 0, &job), &bench->err);
    assert_string_equal(wait_job(bench, job)->state, "done");
    shell(bench, "cmp vz/images/100/vm-100-disk-3.qcow2 other/images/100/vm-100-disk-0.qcow2 &&"
                 "qemu-img snapshot -l other/images/100/vm-100-disk-0.qcow2 | grep -q before");
}

static void a_folder_comes_with_owners_modes_links_and_attributes(void **state)
{
    struct bench *bench = *state;
    const receive_reply *reply = NULL;
    char *job = NULL;
    shell(bench, "mkdir -p vz/images/100/subvol-100-disk-0.subvol/etc/deep && cd vz/images/100/*.subvol &&"
                 "echo text >etc/file && ln etc/file etc/same && ln -s /nowhere etc/link && mkfifo pipe &&"
                 "head -c 300000 /dev/urandom >etc/deep/data && truncate -s 64M sparse &&"
                 "chown 100000:100005 etc/deep etc/deep/data && chown 0:100008 etc/file &&"
                 "chmod 4755 etc/deep/data && chmod 2750 etc/deep && chmod 2711 etc/file &&"
                 "setfattr -n user.note -v kept etc/deep && setfattr -n security.capability"
                 " -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= etc/same &&"
                 "touch -d @1000000000 etc/deep && chown 100000:100000 . && chmod 751 .");
    assert_atl_ok(receive(bench,
                          RECEIVE(.format = (char[]){"subvol"}, .name = (char[]){"subvol-100-disk-0.subvol"}),
                          &reply),
                  &bench->err);
    assert_string_equal(reply->volid, "other:100/subvol-100-disk-0.subvol");
    assert_atl_ok(start_send(bench, "local:100/subvol-100-disk-0.subvol", reply->offer, 0, &job),
                  &bench->err);
    const Atoll__Storage__V1__ImportWaitReply *end = wait_job(bench, job);
    if (strcmp(end->state, "done") != 0)
        fail_msg("%s", end->error);
    shell(bench,
          "list() { (cd $1/images/100/*.subvol && find . -printf '%p %y %m %U %G %n %s %l %T@\\n' | sort &&"
          " getfattr -R -d -h -m - . && find . -type f | sort | xargs sha256sum) ; };"
          "list vz >one; list other >two; grep -q security.capability one && diff one two &&"
          "test $(du -sk other | cut -f1) -lt 2000");
    /* what breaks off leaves nothing */
    shell(bench, "rm -r other/images/100");
    assert_atl_ok(receive(bench, RECEIVE(.format = (char[]){"subvol"}), &reply), &bench->err);
    struct atl_stream *stream = come(bench, reply);
    uint8_t bytes[STO_PARCEL_HEAD + 512] = {0};
    sto_parcel_pack(&(const struct sto_parcel){.offset = 0, .length = 512}, bytes);
    assert_atl_ok(atl_stream_write(stream, bytes, sizeof bytes, SOON, &bench->err), &bench->err);
    atl_stream_close(&stream);
    assert_string_equal(wait_job(bench, reply->job)->state, "failed");
    shell(bench, "test -z \"$(ls -A other/images/100)\"");
}

static void a_copy_keeps_to_its_limit_and_can_be_stopped(void **state)
{
    struct bench *bench = *state;
    const receive_reply *reply = NULL;
    char *job = NULL;
    shell(bench, "head -c 16777216 /dev/urandom >vz/images/100/vm-100-disk-0.raw");
    assert_atl_ok(receive(bench, RECEIVE(.format = (char[]){"raw"}, .size_bytes = 16 << 20), &reply),
                  &bench->err);
    assert_atl_ok(start_send(bench, "local:100/vm-100-disk-0.raw", reply->offer, 1024, &job), &bench->err);
    (void)poll(NULL, 0, 1500);
    Atoll__Storage__V1__ImportWaitRequest look = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    look.job = job;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportWait, &look.base, &output),
                  &bench->err);
    const Atoll__Storage__V1__ImportWaitReply *part = (const void *)output;
    assert_string_equal(part->state, "running"); /* 16 MiB at 1 MiB/s */
    assert_true(part->done_percent > 0);
    Atoll__Storage__V1__ImportCancelRequest cancel = ATOLL__STORAGE__V1__IMPORT_CANCEL_REQUEST__INIT;
    cancel.job = job;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportCancel, &cancel.base, NULL),
                  &bench->err);
    assert_string_equal(wait_job(bench, job)->state, "failed");
    assert_string_equal(wait_job(bench, reply->job)->state, "failed");
    assert_int_equal(files_in(bench, "other"), 0);
    assert_int_equal(files_in(bench, "vz"), 1);
}

/* Plays a node that sends these bytes and then ends in order, or not; nothing of it may stay. */
static void send_badly(struct bench *bench, const uint8_t *bytes, size_t size, bool in_order)
{
    const receive_reply *reply = NULL;
    assert_atl_ok(receive(bench, RECEIVE(.format = (char[]){"raw"}, .size_bytes = 1 << 20), &reply),
                  &bench->err);
    struct atl_stream *stream = come(bench, reply);
    assert_atl_ok(atl_stream_write(stream, bytes, size, SOON, &bench->err), &bench->err);
    if (in_order) {
        char answer[600] = "";
        size_t got = 0;
        assert_atl_ok(atl_stream_finish(stream, SOON, &bench->err), &bench->err);
        assert_atl_ok(atl_stream_read(stream, answer, sizeof answer - 1, SOON, &got, &bench->err),
                      &bench->err);
        assert_true(got > 10); /* a sentence, not "OK" */
    }
    atl_stream_close(&stream);
    assert_string_equal(wait_job(bench, reply->job)->state, "failed");
    assert_int_equal(files_in(bench, "other"), 0);
}

static void what_breaks_off_or_is_not_what_it_says_leaves_nothing(void **state)
{
    struct bench *bench = *state;
    uint8_t bytes[2 * STO_PARCEL_HEAD + 512 + STO_PARCEL_DIGEST];
    uint8_t *end = bytes + STO_PARCEL_HEAD + 512;
    memset(bytes, 'x', sizeof bytes);
    sto_parcel_pack(&(const struct sto_parcel){.offset = 0, .length = 512}, bytes);
    send_badly(bench, bytes, STO_PARCEL_HEAD + 100, false); /* cut in a piece */
    send_badly(bench, bytes, STO_PARCEL_HEAD + 512, true);  /* no end */
    sto_parcel_pack(&(const struct sto_parcel){.end = true, .offset = 1 << 20, .length = STO_PARCEL_DIGEST},
                    end);
    send_badly(bench, bytes, sizeof bytes, true); /* the digest is another's */
    (void)SHA256(bytes, STO_PARCEL_HEAD + 512, end + STO_PARCEL_HEAD);
    sto_parcel_pack(&(const struct sto_parcel){.end = true, .offset = 4096, .length = STO_PARCEL_DIGEST},
                    end);
    send_badly(bench, bytes, sizeof bytes, true); /* shorter than announced */
    memset(bytes, 'x', STO_PARCEL_HEAD);
    send_badly(bench, bytes, 512, true); /* nothing we know */
}

static void what_cannot_go_is_refused_before_anything_is_made(void **state)
{
    struct bench *bench = *state;
    const receive_reply *reply = NULL;
    char *job = NULL;
    assert_int_equal(receive(bench,
                             RECEIVE(.format = (char[]){"raw"}, .size_bytes = 1 << 20, .has_used_bytes = true,
                                     .used_bytes = (uint64_t)1 << 49),
                             &reply),
                     ATL_E_LIMIT);
    assert_int_equal(files_in(bench, "other"), 0);
    shell(bench, "qemu-img create -q -f qcow2 vz/images/100/base.qcow2 1M && cd vz/images/100 &&"
                 "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 vm-100-disk-0.qcow2");
    assert_atl_ok(receive(bench, RECEIVE(.format = (char[]){"qcow2"}, .size_bytes = 1 << 20), &reply),
                  &bench->err);
    assert_int_equal(start_send(bench, "local:100/vm-100-disk-0.qcow2", reply->offer, 0, &job),
                     ATL_E_INVALID); /* it rests on another */
    assert_int_equal(start_send(bench, "local:100/vm-100-disk-7.raw", reply->offer, 0, &job), ATL_E_ABSENT);
    assert_int_equal(start_send(bench, "local:100/subvol-100-disk-0.subvol", reply->offer, 0, &job),
                     ATL_E_ABSENT);
    Atoll__Storage__V1__ImportCancelRequest cancel = ATOLL__STORAGE__V1__IMPORT_CANCEL_REQUEST__INIT;
    cancel.job = reply->job;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportCancel, &cancel.base, NULL),
                  &bench->err);
    assert_string_equal(wait_job(bench, reply->job)->state, "failed");
    assert_int_equal(files_in(bench, "other"), 0);
}

static void what_a_killed_agent_was_receiving_goes_at_its_next_start(void **state)
{
    struct bench *bench = *state;
    const receive_reply *reply = NULL;
    uint8_t head[STO_PARCEL_HEAD + 64] = {0};
    assert_atl_ok(receive(bench, RECEIVE(.format = (char[]){"raw"}, .size_bytes = 1 << 20), &reply),
                  &bench->err);
    struct atl_stream *stream = come(bench, reply);
    sto_parcel_pack(&(const struct sto_parcel){.offset = 0, .length = 64}, head);
    assert_atl_ok(atl_stream_write(stream, head, sizeof head, SOON, &bench->err), &bench->err);
    assert_int_equal(files_in(bench, "other"), 2); /* the name, and the bytes under another */
    end(&bench->agent, SIGKILL);
    bench->agent = start(bench, "storage-agent", "state");
    for (int i = 0; i < 200 && files_in(bench, "other") > 0; i++)
        (void)usleep(50000);
    assert_int_equal(files_in(bench, "other"), 0);
    atl_stream_close(&stream);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_two, tear_down)

int main(void)
{
    if (geteuid() != 0) {
        (void)printf("needs root: the folders of the bus\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        TEST(a_raw_volume_comes_whole_and_without_its_holes),
        TEST(a_qcow2_volume_brings_its_snapshots),
        TEST(a_folder_comes_with_owners_modes_links_and_attributes),
        TEST(a_copy_keeps_to_its_limit_and_can_be_stopped),
        TEST(what_breaks_off_or_is_not_what_it_says_leaves_nothing),
        TEST(what_cannot_go_is_refused_before_anything_is_made),
        TEST(what_a_killed_agent_was_receiving_goes_at_its_next_start),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
