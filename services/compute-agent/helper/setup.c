/* Writing the guest's own files, from inside its root. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/lxc_setup.h"
#include "helper/helper.h"

static bool write_all(int fd, const char *text)
{
    for (size_t left = strlen(text); left > 0;) {
        ssize_t done = write(fd, text, left);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        text += done;
        left -= (size_t)done;
    }
    return true;
}

/* Puts the new text in place in one step; a link of that name is replaced, never followed. */
static bool replace(const struct cmp_lxc_file *file, const char *text)
{
    char temporary[256];
    (void)snprintf(temporary, sizeof temporary, "%s.atoll-new", file->path);
    struct stat old;
    bool exists = lstat(file->path, &old) == 0 && S_ISREG(old.st_mode);
    (void)unlink(temporary); /* of a run that was cut off */
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, text) && fchmod(fd, exists ? old.st_mode & 07777 : file->mode) == 0;
    if (ok && exists)
        ok = fchown(fd, old.st_uid, old.st_gid) == 0;
    ok = close(fd) == 0 && ok;
    ok = ok && rename(temporary, file->path) == 0;
    int why = errno;
    if (!ok)
        (void)unlink(temporary); /* best effort: the cause is reported */
    errno = why;
    return ok;
}

static bool apply_one(const Atoll__Lxc__V1__Setup *setup, const struct cmp_lxc_file *file,
                      struct atl_arena *arena)
{
    size_t size = 0;
    ATL_FREE_AT_EXIT char *old = ct_file_read(file->path, CMP_LXC_FILE_BYTES, &size);
    if (old == NULL && file->only_existing)
        return true;
    if (old != NULL && strlen(old) != size)
        return true; /* holds a NUL: no text that we know how to change */
    const char *text = cmp_lxc_setup_text(setup, file->path, old, arena);
    if (text == NULL)
        return true;
    if (file->folder != NULL)
        (void)mkdir(file->folder, file->secret ? 0700 : 0755); /* there already, or writing fails below */
    return replace(file, text);
}

enum atl_code ct_setup_apply(const Atoll__Lxc__V1__Setup *setup, struct atl_error *err)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct cmp_lxc_file files[CMP_LXC_FILES_MAX];
    size_t count = cmp_lxc_setup_files(setup, &arena, files);
    for (size_t i = 0; i < count; i++) {
        if (apply_one(setup, &files[i], &arena))
            continue;
        if (files[i].secret)
            return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s' in the container: %s", files[i].path,
                            strerror(errno));
        if (errno != ENOENT) /* a system without that folder has no use for the file */
            (void)fprintf(stderr, "<4>cannot write '%s' in the container: %s\n", files[i].path,
                          strerror(errno));
    }
    return ATL_OK;
}
