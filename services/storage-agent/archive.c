/* Folders as archives; see archive.h. */
#include "archive.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "run.h"

struct sto_archive {
    pthread_t thread;
    const char *const *argv;
    int folder;
    int far; /* tar's end of the pipe, closed when it has ended */
    int near;
    const atomic_bool *cancel;
    struct atl_error err;
};

#define BOTH                                                                                                 \
    "--file=/proc/self/fd/3", "--directory=/proc/self/fd/4", "--numeric-owner", "--acls", "--xattrs",        \
        "--xattrs-include=*"

static const char *const pack[] = {"tar",      "--create",          BOTH, "--format=posix",
                                   "--sparse", "--one-file-system", ".",  NULL};
static const char *const unpack[] = {
    "tar", "--extract", BOTH, "--same-owner", "--same-permissions", "--delay-directory-restore", NULL};

static void *run(void *user)
{
    struct sto_archive *archive = user;
    const int fds[] = {archive->far, archive->folder};
    const struct sto_run tar = {
        .argv = archive->argv, .fds = fds, .fd_count = ATL_COUNT(fds), .cancel = archive->cancel};
    enum atl_code code = sto_run(&tar, &archive->err);
    atl_assert((code == ATL_OK) == (archive->err.code == ATL_OK));
    (void)close(archive->far); /* the caller sees the end */
    return NULL;
}

static enum atl_code start(struct sto_archive *archive, struct sto_archive **ret_archive, int *ret_fd,
                           struct atl_error *err)
{
    int error = pthread_create(&archive->thread, NULL, run, archive);
    if (error != 0) {
        (void)close(archive->far);
        (void)close(archive->near);
        free(archive);
        return atl_fail(err, ATL_E_LIMIT, NULL, "no thread for an archive: %s", strerror(error));
    }
    *ret_fd = archive->near;
    *ret_archive = archive;
    return ATL_OK;
}

static struct sto_archive *archive_new(int folder, const atomic_bool *cancel, const char *const *argv)
{
    struct sto_archive *archive = atl_new0(struct sto_archive);
    archive->folder = folder;
    archive->cancel = cancel;
    archive->argv = argv;
    return archive;
}

static enum atl_code no_pipe(struct atl_error *err)
{
    return atl_fail(err, ATL_E_LIMIT, NULL, "no pipe for an archive: %s", strerror(errno));
}

enum atl_code sto_archive_pack(int folder, const atomic_bool *cancel, struct sto_archive **ret_archive,
                               int *ret_fd, struct atl_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return no_pipe(err);
    struct sto_archive *archive = archive_new(folder, cancel, pack);
    archive->near = ends[0];
    archive->far = ends[1];
    return start(archive, ret_archive, ret_fd, err);
}

enum atl_code sto_archive_unpack(int folder, const atomic_bool *cancel, struct sto_archive **ret_archive,
                                 int *ret_fd, struct atl_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return no_pipe(err);
    struct sto_archive *archive = archive_new(folder, cancel, unpack);
    archive->near = ends[1];
    archive->far = ends[0];
    return start(archive, ret_archive, ret_fd, err);
}

enum atl_code sto_archive_end(struct sto_archive **pointer, struct atl_error *err)
{
    struct sto_archive *archive = *pointer;
    *pointer = NULL;
    (void)close(archive->near); /* tar sees the end, or that nobody reads any more */
    int error = pthread_join(archive->thread, NULL);
    atl_assert(error == 0);
    enum atl_code code = archive->err.code;
    if (code != ATL_OK && err != NULL)
        *err = archive->err;
    free(archive);
    return code;
}
