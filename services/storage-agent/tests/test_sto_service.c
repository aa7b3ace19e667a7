/*
 * The storage-agent over the bus, with a real config-store: volumes, imports, uploads, what it refuses, and
 * what a kill leaves behind.
 */
#include "sto_bench.h"

/* --- volumes --- */

static void volumes_are_made_found_grown_and_removed(void **state)
{
    struct bench *bench = *state;
    const Atoll__Storage__V1__AllocatedVolume *volume = NULL;
    const ProtobufCMessage *output = NULL;
    char images[] = "images";
    char rootdir[] = "rootdir";
    char cloudinit[] = "cloudinit";
    char qcow2[] = "qcow2";
    char subvol[] = "subvol";
    assert_atl_ok(
        alloc(bench, ALLOC(.vmid = 100, .purpose = images, .format = qcow2, .size_bytes = 1 << 30), &volume),
        &bench->err);
    assert_string_equal(volume->volid, "local:100/vm-100-disk-0.qcow2");
    assert_int_equal(volume->size_bytes, 1 << 30);
    assert_int_equal(access(volume->path, F_OK), 0);
    assert_atl_ok(alloc(bench, ALLOC(.vmid = 101, .purpose = rootdir, .format = subvol), &volume),
                  &bench->err);
    assert_string_equal(volume->volid, "local:101/subvol-101-disk-0.subvol");
    for (int i = 0; i < 2; i++) { /* twice: the second time it is there */
        assert_atl_ok(
            alloc(bench, ALLOC(.vmid = 100, .purpose = cloudinit, .has_keep = true, .keep = true), &volume),
            &bench->err);
        assert_string_equal(volume->volid, "local:100/vm-100-cloudinit.raw");
    }
    assert_int_equal(alloc(bench, ALLOC(.vmid = 100, .purpose = cloudinit), &volume), ATL_E_EXISTS);

    Atoll__Storage__V1__ListOfGuestRequest list = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
    list.vmid = 100;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_ListOfGuest, &list.base, &output),
                  &bench->err);
    assert_int_equal(((const Atoll__Storage__V1__ListOfGuestReply *)(const void *)output)->n_volume, 2);

    Atoll__Storage__V1__ResizeRequest resize = ATOLL__STORAGE__V1__RESIZE_REQUEST__INIT;
    resize.volid = (char[]){"local:100/vm-100-disk-0.qcow2"};
    resize.size_bytes = (uint64_t)2 << 30;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_Resize, &resize.base, NULL), &bench->err);
    resize.size_bytes = 1 << 30;
    assert_int_equal(as_compute(bench, &atl_rpc_storage_v1_Volumes_Resize, &resize.base, NULL),
                     ATL_E_INVALID);
    Atoll__Storage__V1__PathRequest path = ATOLL__STORAGE__V1__PATH_REQUEST__INIT;
    path.volid = resize.volid;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_Path, &path.base, &output), &bench->err);
    const Atoll__Storage__V1__VolumeInfo *info = (const void *)output;
    assert_int_equal(info->size_bytes, (uint64_t)2 << 30);
    assert_string_equal(info->content, "images");

    static const char *const volumes[] = {"local:100/vm-100-disk-0.qcow2", "local:100/vm-100-cloudinit.raw",
                                          "local:101/subvol-101-disk-0.subvol"};
    for (size_t i = 0; i < 2 * ATL_COUNT(volumes); i++) {
        Atoll__Storage__V1__FreeRequest gone = ATOLL__STORAGE__V1__FREE_REQUEST__INIT;
        gone.volid = atl_arena_strdup(&bench->arena, volumes[i / 2]);
        assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_Free, &gone.base, &output), &bench->err);
        assert_int_equal(((const Atoll__Storage__V1__FreeReply *)(const void *)output)->was_there,
                         i % 2 == 0);
    }
    assert_int_equal(as_compute(bench, &atl_rpc_storage_v1_Volumes_Path, &path.base, NULL), ATL_E_ABSENT);
    assert_int_equal(files_in(bench, "vz"), 0);
}

struct two {
    int answers;
    char volids[8][64];
};

static void note_volid(const struct atl_reply *reply, void *user)
{
    struct two *two = user;
    if (reply->code == ATL_OK)
        (void)atl_copy(two->volids[two->answers], sizeof two->volids[0],
                       ((const Atoll__Storage__V1__AllocatedVolume *)(const void *)reply->output)->volid);
    two->answers++;
}

static void allocations_in_flight_together_get_different_names(void **state)
{
    struct bench *bench = *state;
    struct two two = {0};
    struct atl_call_options options = {0};
    char local[] = "local";
    char images[] = "images";
    for (int i = 0; i < 8; i++)
        (void)atl_bus_call(bench->compute, &atl_rpc_storage_v1_Volumes_Alloc,
                           &ALLOC(.storage = local, .vmid = 100, .purpose = images, .size_bytes = 4096)->base,
                           &options, note_volid, &two);
    for (int i = 0; i < 1000 && two.answers < 8; i++)
        atl_loop_step(bench->loop, 10 * ATL_MS);
    assert_int_equal(two.answers, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(strncmp(two.volids[i], "local:100/vm-100-disk-", 22), 0);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(two.volids[i], two.volids[k]);
    }
}

static void what_cannot_be_is_refused_with_the_parameters_name(void **state)
{
    struct bench *bench = *state;
    char images[] = "images";
    char none[] = "none-such";
    char escape[] = "vm-100-x/../../../etc/x.raw";
    assert_int_equal(
        alloc(bench, ALLOC(.storage = none, .vmid = 100, .purpose = images, .size_bytes = 4096), NULL),
        ATL_E_ABSENT);
    assert_string_equal(bench->err.text, "storage 'none-such' does not exist");
    assert_int_equal(
        alloc(bench, ALLOC(.vmid = 100, .purpose = images, .size_bytes = 1, .name = escape), NULL),
        ATL_E_INVALID);
    assert_string_equal(bench->err.field, "filename");
    assert_int_equal(alloc(bench, ALLOC(.vmid = 100, .purpose = images, .size_bytes = 0), NULL),
                     ATL_E_INVALID);
    assert_int_equal(files_in(bench, "vz"), 0);
    /* A user's assertion does not open what is for services. */
    char local[] = "local";
    Atoll__Storage__V1__AllocRequest *request =
        ALLOC(.storage = local, .vmid = 100, .purpose = images, .size_bytes = 4096);
    assert_int_equal(as_user(bench, &atl_rpc_storage_v1_Volumes_Alloc, &request->base, NULL), ATL_E_DENIED);
    /* And a service cannot do what is for users. */
    Atoll__Storage__V1__ListRequest list = ATOLL__STORAGE__V1__LIST_REQUEST__INIT;
    enum atl_code code = as_compute(bench, &atl_rpc_storage_v1_Storage_List, &list.base, NULL);
    assert_true(code == ATL_E_UNAUTHENTICATED || code == ATL_E_DENIED);
}

static void a_check_tells_why_a_storage_cannot_be_used(void **state)
{
    struct bench *bench = *state;
    const ProtobufCMessage *output = NULL;
    Atoll__Storage__V1__CheckRequest request = ATOLL__STORAGE__V1__CHECK_REQUEST__INIT;
    request.storage = (char[]){"local"};
    request.content = (char[]){"images"};
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_Check, &request.base, &output), &bench->err);
    const Atoll__Storage__V1__CheckReply *reply = (const void *)output;
    assert_true(reply->exists && reply->enabled && reply->on_node && reply->active && reply->takes_content);
    assert_null(reply->reason);
    assert_true(reply->avail_bytes > 0);
    assert_string_equal(reply->default_format, "raw");
    request.content = (char[]){"backup"};
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_Check, &request.base, &output), &bench->err);
    reply = (const void *)output;
    assert_false(reply->takes_content);
    assert_string_equal(reply->reason, "storage 'local' does not support content type 'backup'");
    request.storage = (char[]){"other"};
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_Check, &request.base, &output), &bench->err);
    reply = (const void *)output;
    assert_false(reply->exists);
    assert_string_equal(reply->reason, "storage 'other' does not exist");
}

static void a_disk_that_its_guest_uses_is_not_deleted(void **state)
{
    struct bench *bench = *state;
    char images[] = "images";
    assert_atl_ok(alloc(bench, ALLOC(.vmid = 100, .purpose = images, .size_bytes = 4096), NULL), &bench->err);
    struct atl_txn txn;
    static const char guest[] = "scsi0: local:100/vm-100-disk-0.raw,size=4K\n";
    atl_txn_init(&txn);
    atl_txn_put(&txn, "nodes/n1/qemu-server/100.conf", guest, sizeof guest - 1);
    struct atl_revision revision;
    assert_atl_ok(atl_txn_send_wait(bench->compute, &txn, 0, &revision, &bench->err), &bench->err);
    atl_txn_done(&txn);
    Atoll__Storage__V1__DeleteVolumeRequest request = ATOLL__STORAGE__V1__DELETE_VOLUME_REQUEST__INIT;
    request.node = (char[]){"n1"};
    request.storage = (char[]){"local"};
    request.volume = (char[]){"local:100/vm-100-disk-0.raw"};
    struct atl_call_options options = {
        .assertion = bench->assertion, .assertion_size = bench->assertion_size, .min_revision = revision};
    const ProtobufCMessage *output = NULL;
    assert_int_equal(atl_bus_call_wait(bench->cli, &atl_rpc_storage_v1_Storage_DeleteVolume, &request.base,
                                       &options, &bench->arena, &output, &bench->err),
                     ATL_E_STATE);
    assert_int_equal(files_in(bench, "vz"), 1);
}

static void a_volume_is_deleted_by_a_task_that_may_be_waited_for(void **state)
{
    struct bench *bench = *state;
    const ProtobufCMessage *output = NULL;
    char images[] = "images";
    Atoll__Storage__V1__DeleteVolumeRequest request = ATOLL__STORAGE__V1__DELETE_VOLUME_REQUEST__INIT;
    request.node = (char[]){"n1"};
    request.storage = (char[]){"local"};
    request.volume = (char[]){"local:100/vm-100-disk-0.raw"};
    assert_atl_ok(alloc(bench, ALLOC(.vmid = 100, .purpose = images, .size_bytes = 4096), NULL), &bench->err);
    request.has_delay = true;
    request.delay = 20;
    assert_atl_ok(as_user(bench, &atl_rpc_storage_v1_Storage_DeleteVolume, &request.base, &output),
                  &bench->err);
    assert_null(((const Atoll__Task__V1__TaskRef *)(const void *)output)->upid);
    assert_int_equal(files_in(bench, "vz"), 0);
    request.has_delay = false;
    assert_atl_ok(as_user(bench, &atl_rpc_storage_v1_Storage_DeleteVolume, &request.base, &output),
                  &bench->err);
    const Atoll__Task__V1__TaskRef *ref = (const void *)output;
    assert_int_equal(strncmp(ref->upid, "UPID:n1:", 8), 0);
    assert_non_null(strstr(task_log(bench, output), "TASK OK")); /* gone already: as well */
}

/* --- imports --- */

static enum atl_code import(struct bench *bench, const char *source,
                            const Atoll__Storage__V1__ImportReply **ret_reply)
{
    Atoll__Storage__V1__ImportRequest request = ATOLL__STORAGE__V1__IMPORT_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.source = atl_arena_strdup(&bench->arena, source);
    request.storage = (char[]){"local"};
    request.vmid = 100;
    request.format = (char[]){"qcow2"};
    enum atl_code code = as_compute(bench, &atl_rpc_storage_v1_Volumes_Import, &request.base, &output);
    *ret_reply = (const void *)output;
    return code;
}

static const char *wait_import(struct bench *bench, char *job)
{
    Atoll__Storage__V1__ImportWaitRequest request = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.job = job;
    request.has_wait_ms = true;
    request.wait_ms = 20000;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportWait, &request.base, &output),
                  &bench->err);
    return ((const Atoll__Storage__V1__ImportWaitReply *)(const void *)output)->state;
}

static void an_image_is_copied_into_a_new_volume(void **state)
{
    struct bench *bench = *state;
    const Atoll__Storage__V1__ImportReply *reply = NULL;
    shell(bench, "head -c 3000000 /dev/urandom >source.raw && truncate -s 32M source.raw && "
                 "qemu-img convert -f raw -O qcow2 source.raw vz/import/source.qcow2");
    assert_atl_ok(import(bench, "local:import/source.qcow2", &reply), &bench->err);
    assert_string_equal(reply->volid, "local:100/vm-100-disk-0.qcow2");
    assert_int_equal(reply->size_bytes, 32 << 20);
    assert_string_equal(wait_import(bench, reply->job), "done");
    shell(bench, "qemu-img compare -q -f raw -F qcow2 source.raw vz/images/100/vm-100-disk-0.qcow2");
    assert_atl_ok(import(bench, in(bench, "source.raw"), &reply), &bench->err);
    assert_string_equal(reply->volid, "local:100/vm-100-disk-1.qcow2");
    assert_string_equal(wait_import(bench, reply->job), "done");
    shell(bench, "qemu-img compare -q -f raw -F qcow2 source.raw vz/images/100/vm-100-disk-1.qcow2");
    assert_int_equal(files_in(bench, "vz/images"), 2);
}

/* More than run at once at most, and more than are remembered. */
static void many_images_are_copied_one_after_the_other(void **state)
{
    struct bench *bench = *state;
    const Atoll__Storage__V1__ImportReply *reply = NULL;
    char *first = NULL;
    shell(bench, "truncate -s 64K small.raw");
    for (int i = 0; i < 140; i++) {
        assert_atl_ok(import(bench, in(bench, "small.raw"), &reply), &bench->err);
        assert_string_equal(wait_import(bench, reply->job), "done");
        if (first == NULL)
            first = reply->job;
    }
    Atoll__Storage__V1__ImportWaitRequest wait = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    wait.job = first;
    assert_int_equal(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportWait, &wait.base, NULL),
                     ATL_E_ABSENT);
}

static void an_image_that_reaches_into_other_files_is_refused(void **state)
{
    struct bench *bench = *state;
    const Atoll__Storage__V1__ImportReply *reply = NULL;
    shell(bench, "echo secret >secret.raw && truncate -s 1M secret.raw && "
                 "qemu-img create -q -f qcow2 -b \"$PWD/secret.raw\" -F raw vz/import/evil.qcow2");
    assert_int_equal(import(bench, "local:import/evil.qcow2", &reply), ATL_E_INVALID);
    assert_string_equal(bench->err.field, "source");
    shell(bench, "echo text >vz/import/no.qcow2");
    assert_int_equal(import(bench, "local:import/no.qcow2", &reply), ATL_E_INVALID);
    assert_int_equal(import(bench, "local:import/absent.qcow2", &reply), ATL_E_ABSENT);
    assert_int_equal(import(bench, "/etc", &reply), ATL_E_INVALID);
    assert_int_equal(files_in(bench, "vz/images"), 0);
}

static void a_stopped_or_unknown_import_leaves_nothing(void **state)
{
    struct bench *bench = *state;
    const Atoll__Storage__V1__ImportReply *reply = NULL;
    shell(bench, "head -c 300000000 /dev/urandom >source.raw");
    assert_atl_ok(import(bench, in(bench, "source.raw"), &reply), &bench->err);
    Atoll__Storage__V1__ImportCancelRequest cancel = ATOLL__STORAGE__V1__IMPORT_CANCEL_REQUEST__INIT;
    cancel.job = reply->job;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportCancel, &cancel.base, NULL),
                  &bench->err);
    assert_string_equal(wait_import(bench, reply->job), "failed");
    assert_int_equal(files_in(bench, "vz/images"), 0);
    Atoll__Storage__V1__ImportWaitRequest wait = ATOLL__STORAGE__V1__IMPORT_WAIT_REQUEST__INIT;
    wait.job = (char[]){"0123"};
    assert_int_equal(as_compute(bench, &atl_rpc_storage_v1_Volumes_ImportWait, &wait.base, NULL),
                     ATL_E_ABSENT);
}

static uint32_t stop_imports(struct bench *bench, uint32_t vmid)
{
    Atoll__Storage__V1__StopImportsRequest request = ATOLL__STORAGE__V1__STOP_IMPORTS_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.vmid = vmid;
    assert_atl_ok(as_compute(bench, &atl_rpc_storage_v1_Volumes_StopImports, &request.base, &output),
                  &bench->err);
    return ((const Atoll__Storage__V1__StopImportsReply *)(const void *)output)->running;
}

static void the_imports_of_a_dead_task_are_stopped(void **state)
{
    struct bench *bench = *state;
    const Atoll__Storage__V1__ImportReply *reply = NULL;
    shell(bench, "head -c 300000000 /dev/urandom >source.raw");
    assert_atl_ok(import(bench, in(bench, "source.raw"), &reply), &bench->err);
    assert_int_equal(stop_imports(bench, 101), 0); /* another guest's go on */
    assert_int_equal(stop_imports(bench, 100), 1);
    for (int i = 0; i < 200 && stop_imports(bench, 100) > 0; i++)
        (void)usleep(50000);
    assert_int_equal(stop_imports(bench, 100), 0);
    assert_string_equal(wait_import(bench, reply->job), "failed");
    assert_int_equal(files_in(bench, "vz/images"), 0);
}

/* --- uploads --- */

static const Atoll__Storage__V1__UploadOffer *offer(struct bench *bench, const char *storage,
                                                    uint64_t max_size)
{
    Atoll__Storage__V1__UploadOpenRequest request = ATOLL__STORAGE__V1__UPLOAD_OPEN_REQUEST__INIT;
    const ProtobufCMessage *output = NULL;
    request.node = (char[]){"n1"};
    request.storage = atl_arena_strdup(&bench->arena, storage);
    request.has_max_size = true;
    request.max_size = max_size;
    assert_atl_ok(as_user(bench, &atl_rpc_storage_v1_UploadStream_Open, &request.base, &output), &bench->err);
    return (const void *)output;
}

static int connect_to(const Atoll__Storage__V1__UploadOffer *offered)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(atl_copy(address.sun_path, sizeof address.sun_path, offered->socket));
    assert_int_equal(connect(fd, (const void *)&address, sizeof address), 0);
    return fd;
}

static void send_all(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t put = send(fd, at, size, MSG_NOSIGNAL);
        if (put < 0)
            return; /* the agent gave up: its line tells why */
        at += put;
        size -= (size_t)put;
    }
}

static const char *line_of(struct bench *bench, int fd)
{
    char line[600] = "";
    ssize_t got = recv(fd, line, sizeof line - 1, MSG_WAITALL);
    (void)close(fd);
    return atl_arena_strndup(&bench->arena, line, got > 0 ? (size_t)got : 0);
}

static enum atl_code upload(struct bench *bench, const char *handle, const char *filename, const char *sha256,
                            const ProtobufCMessage **ret_output)
{
    Atoll__Storage__V1__UploadRequest request = ATOLL__STORAGE__V1__UPLOAD_REQUEST__INIT;
    request.node = (char[]){"n1"};
    request.storage = (char[]){"local"};
    request.content = (char[]){"iso"};
    request.filename = atl_arena_strdup(&bench->arena, filename);
    request.tmpfilename = atl_arena_strdup(&bench->arena, handle);
    char algorithm[] = "sha256";
    if (sha256 != NULL) {
        request.checksum = atl_arena_strdup(&bench->arena, sha256);
        request.checksum_algorithm = algorithm;
    }
    return as_user(bench, &atl_rpc_storage_v1_Storage_Upload, &request.base, ret_output);
}

static const Atoll__Storage__V1__UploadOffer *stream(struct bench *bench, const char *bytes, size_t size)
{
    const Atoll__Storage__V1__UploadOffer *offered = offer(bench, "local", size + 1000);
    int fd = connect_to(offered);
    send_all(fd, offered->token.data, offered->token.len);
    send_all(fd, bytes, size);
    (void)shutdown(fd, SHUT_WR);
    assert_string_equal(line_of(bench, fd), atl_arena_format(&bench->arena, "OK %zu\n", size));
    return offered;
}

static void wait_files(struct bench *bench, int wanted)
{
    int seen = -1;
    for (int i = 0; i < 300 && (seen = files_in(bench, "vz")) != wanted; i++)
        (void)usleep(50000);
    assert_int_equal(seen, wanted);
}

static void an_uploaded_file_is_stored_whole_after_its_checksum_holds(void **state)
{
    struct bench *bench = *state;
    static char bytes[5 << 20];
    const ProtobufCMessage *reply = NULL;
    /* head -c 5242880 /dev/zero | tr '\0' x | sha256sum */
    static const char sum[] = "dba67a476fa78973aabb087f214a1010f3bebca053674e0af50dfe5a582112be";
    memset(bytes, 'x', sizeof bytes);
    const Atoll__Storage__V1__UploadOffer *offered = stream(bench, bytes, sizeof bytes);
    assert_atl_ok(upload(bench, offered->handle, "x.iso",
                         "0000000000000000000000000000000000000000000000000000000000000000", &reply),
                  &bench->err);
    assert_non_null(strstr(task_log(bench, reply), "TASK ERROR: checksum mismatch"));
    wait_files(bench, 0);
    offered = stream(bench, bytes, sizeof bytes);
    assert_atl_ok(upload(bench, offered->handle, "x.iso", sum, &reply), &bench->err);
    assert_non_null(strstr(task_log(bench, reply), "TASK OK"));
    struct stat st;
    assert_int_equal(stat(in(bench, "vz/template/iso/x.iso"), &st), 0);
    assert_int_equal(st.st_size, sizeof bytes);
    wait_files(bench, 1);
    /* A handle is good once. */
    assert_int_equal(upload(bench, offered->handle, "y.iso", NULL, NULL), ATL_E_INVALID);
}

static void an_upload_that_breaks_leaves_nothing(void **state)
{
    struct bench *bench = *state;
    static char bytes[1 << 20];
    /* More than was announced. */
    const Atoll__Storage__V1__UploadOffer *offered = offer(bench, "local", 1000);
    int fd = connect_to(offered);
    send_all(fd, offered->token.data, offered->token.len);
    send_all(fd, bytes, sizeof bytes);
    assert_int_equal(strncmp(line_of(bench, fd), "ERROR more than", 15), 0);
    wait_files(bench, 0);
    /* A wrong token, and a token that was used. */
    offered = offer(bench, "local", 1000);
    fd = connect_to(offered);
    send_all(fd, bytes, 32);
    assert_int_equal(strncmp(line_of(bench, fd), "ERROR the token", 15), 0);
    fd = connect_to(offered);
    send_all(fd, offered->token.data, offered->token.len);
    (void)shutdown(fd, SHUT_WR);
    assert_string_equal(line_of(bench, fd), "OK 0\n");
    fd = connect_to(offered);
    send_all(fd, offered->token.data, offered->token.len);
    assert_int_equal(strncmp(line_of(bench, fd), "ERROR the token", 15), 0);
    /* A name that is none: the file goes with the refusal. */
    assert_int_equal(upload(bench, offered->handle, "../x.iso", NULL, NULL), ATL_E_INVALID);
    assert_string_equal(bench->err.field, "filename");
    wait_files(bench, 0);
}

static void without_an_assertion_nothing_is_uploaded(void **state)
{
    struct bench *bench = *state;
    Atoll__Storage__V1__UploadOpenRequest request = ATOLL__STORAGE__V1__UPLOAD_OPEN_REQUEST__INIT;
    struct atl_call_options options = {0};
    const ProtobufCMessage *output = NULL;
    request.node = (char[]){"n1"};
    request.storage = (char[]){"local"};
    request.has_max_size = true;
    request.max_size = 10;
    struct atl_bus *gateway = open_bus(bench, "api-gateway");
    enum atl_code code = atl_bus_call_wait(gateway, &atl_rpc_storage_v1_UploadStream_Open, &request.base,
                                           &options, &bench->arena, &output, &bench->err);
    assert_true(code == ATL_E_UNAUTHENTICATED || code == ATL_E_DENIED);
    atl_bus_close(&gateway);
    assert_int_equal(files_in(bench, "vz"), 0);
}

/* --- no space, and a kill --- */

static void a_full_storage_is_said_clearly_and_left_clean(void **state)
{
    struct bench *bench = *state;
    char *small = in(bench, "small");
    char *id = (char[]){"small"};
    char images[] = "images";
    assert_int_equal(mkdir(small, 0755), 0);
    if (mount("tmpfs", small, "tmpfs", 0, "size=8m") != 0) {
        print_message("cannot mount a tmpfs: %s\n", strerror(errno));
        skip();
    }
    make_storage(bench, "small", small, "full");
    enum atl_code code =
        alloc(bench, ALLOC(.storage = id, .vmid = 100, .purpose = images, .size_bytes = 64 << 20), NULL);
    int left = files_in(bench, "small");
    Atoll__Storage__V1__UploadOpenRequest request = ATOLL__STORAGE__V1__UPLOAD_OPEN_REQUEST__INIT;
    request.node = (char[]){"n1"};
    request.storage = id;
    request.has_max_size = true;
    request.max_size = 64 << 20;
    char text[ATL_TEXT_MAX];
    (void)atl_copy(text, sizeof text, bench->err.text);
    enum atl_code upload_code = as_user(bench, &atl_rpc_storage_v1_UploadStream_Open, &request.base, NULL);
    assert_int_equal(umount2(small, MNT_DETACH), 0);
    assert_int_equal(code, ATL_E_LIMIT);
    assert_non_null(strstr(text, "No space left on device"));
    assert_int_equal(left, 0);
    assert_int_equal(upload_code, ATL_E_LIMIT);
}

static void after_a_kill_the_agent_sweeps_and_answers_again(void **state)
{
    struct bench *bench = *state;
    const Atoll__Storage__V1__ImportReply *reply = NULL;
    shell(bench, "head -c 300000000 /dev/urandom >source.raw");
    const Atoll__Storage__V1__UploadOffer *offered = offer(bench, "local", 1 << 20);
    int fd = connect_to(offered);
    send_all(fd, offered->token.data, offered->token.len);
    send_all(fd, "half", 4);
    assert_atl_ok(import(bench, in(bench, "source.raw"), &reply), &bench->err);
    assert_true(files_in(bench, "vz") >= 2);
    end(&bench->agent, SIGKILL);
    (void)close(fd);
    bench->agent = start(bench, "storage-agent", "state");
    wait_files(bench, 0);
    Atoll__Storage__V1__ListOfGuestRequest list = ATOLL__STORAGE__V1__LIST_OF_GUEST_REQUEST__INIT;
    list.vmid = 100;
    enum atl_code code = ATL_E_UNAVAILABLE;
    for (int i = 0; i < 100 && code == ATL_E_UNAVAILABLE; i++) {
        code = as_compute(bench, &atl_rpc_storage_v1_Volumes_ListOfGuest, &list.base, NULL);
        if (code != ATL_OK)
            (void)usleep(50000);
    }
    assert_atl_ok(code, &bench->err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    if (geteuid() != 0) {
        (void)printf("needs root: the folders of the bus\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        TEST(volumes_are_made_found_grown_and_removed),
        TEST(allocations_in_flight_together_get_different_names),
        TEST(what_cannot_be_is_refused_with_the_parameters_name),
        TEST(a_check_tells_why_a_storage_cannot_be_used),
        TEST(a_disk_that_its_guest_uses_is_not_deleted),
        TEST(a_volume_is_deleted_by_a_task_that_may_be_waited_for),
        TEST(an_image_is_copied_into_a_new_volume),
        TEST(many_images_are_copied_one_after_the_other),
        TEST(an_image_that_reaches_into_other_files_is_refused),
        TEST(a_stopped_or_unknown_import_leaves_nothing),
        TEST(the_imports_of_a_dead_task_are_stopped),
        TEST(an_uploaded_file_is_stored_whole_after_its_checksum_holds),
        TEST(an_upload_that_breaks_leaves_nothing),
        TEST(without_an_assertion_nothing_is_uploaded),
        TEST(a_full_storage_is_said_clearly_and_left_clean),
        TEST(after_a_kill_the_agent_sweeps_and_answers_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
