/* Guests that do not exist: files in a folder, and made-up ones beside them. */
#include "drivers/fake_guests.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 128, FAULTS = 4096 };

/* The text of a small file; false: it is not there. */
static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t got = read(fd, text, size - 1);
    (void)close(fd); /* only read from */
    text[got > 0 ? got : 0] = '\0';
    return true;
}

/* Whole or not at all: others read it meanwhile. */
static enum atl_code write_text(const char *path, const char *text, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *part = atl_format("%s.%d", path, (int)getpid());
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int reason = errno;
    if (fd >= 0)
        (void)close(fd); /* nothing that must last */
    if (done && rename(part, path) == 0)
        return ATL_OK;
    reason = done ? errno : reason;
    (void)unlink(part); /* perhaps never made */
    return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(reason));
}

static char *guest_path(const struct cmp_fakes *fakes, uint32_t vmid)
{
    return atl_format("%s/%" PRIu32, fakes->folder, vmid);
}

enum atl_code cmp_fakes_make(const char *folder, uint32_t first, uint32_t count, struct cmp_fakes *ret_fakes,
                             struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/made-up", folder);
    ATL_FREE_AT_EXIT char *text =
        atl_format("%" PRIu32 " %" PRIu32 " %" PRId64 "\n", first, count, (int64_t)time(NULL));
    if (mkdir(folder, 0750) != 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", folder, strerror(errno));
    enum atl_code code = write_text(path, text, err);
    return code == ATL_OK ? cmp_fakes_open(folder, ret_fakes, err) : code;
}

enum atl_code cmp_fakes_open(const char *folder, struct cmp_fakes *ret_fakes, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/made-up", folder);
    char text[LINE];
    struct cmp_fakes fakes = {0};
    if (!read_text(path, text, sizeof text) ||
        sscanf(text, "%" SCNu32 " %" SCNu32 " %" SCNd64, &fakes.first, &fakes.count, &fakes.begun) != 3)
        return atl_fail(err, ATL_E_IO, NULL, "'%s' does not tell which guests are made up", path);
    fakes.folder = atl_strdup(folder);
    *ret_fakes = fakes;
    return ATL_OK;
}

void cmp_fakes_done(struct cmp_fakes *fakes)
{
    free(fakes->folder);
    fakes->folder = NULL;
}

static bool is_made_up(const struct cmp_fakes *fakes, uint32_t vmid)
{
    return vmid >= fakes->first && vmid - fakes->first < fakes->count;
}

static struct cmp_fake made_up(const struct cmp_fakes *fakes, uint32_t vmid)
{
    return (struct cmp_fake){.vmid = vmid, .state = CMP_RUNNING, .started = fakes->begun};
}

static struct cmp_fake from_text(uint32_t vmid, const char *text)
{
    char word[16] = "";
    struct cmp_fake fake = {.vmid = vmid};
    (void)sscanf(text, "%15s %" SCNd64 " %" SCNu64, word, &fake.started, &fake.memory); /* rest: as it was */
    for (enum cmp_state state = CMP_STOPPED; state < CMP_STATES; state++)
        if (strcmp(word, cmp_state_to_text(state)) == 0)
            fake.state = state;
    return fake;
}

struct cmp_fake cmp_fakes_get(const struct cmp_fakes *fakes, uint32_t vmid)
{
    ATL_FREE_AT_EXIT char *path = guest_path(fakes, vmid);
    char text[LINE];
    if (read_text(path, text, sizeof text))
        return from_text(vmid, text);
    if (is_made_up(fakes, vmid))
        return made_up(fakes, vmid);
    return (struct cmp_fake){.vmid = vmid, .state = CMP_STOPPED};
}

enum atl_code cmp_fakes_put(const struct cmp_fakes *fakes, const struct cmp_fake *fake, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = guest_path(fakes, fake->vmid);
    if (fake->state == CMP_STOPPED && !is_made_up(fakes, fake->vmid)) {
        if (unlink(path) != 0 && errno != ENOENT)
            return atl_fail(err, ATL_E_IO, NULL, "cannot remove '%s': %s", path, strerror(errno));
        return ATL_OK;
    }
    ATL_FREE_AT_EXIT char *text = atl_format("%s %" PRId64 " %" PRIu64 "\n", cmp_state_to_text(fake->state),
                                             fake->started, fake->memory);
    return write_text(path, text, err);
}

enum atl_code cmp_fakes_fault(const struct cmp_fakes *fakes, const char *deed, uint32_t vmid,
                              struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/faults", fakes->folder);
    char text[FAULTS];
    char id[16];
    if (!read_text(path, text, sizeof text))
        return ATL_OK;
    (void)snprintf(id, sizeof id, "%" PRIu32, vmid);
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        const char *word = strsep(&line, " ");
        const char *whom = line != NULL ? strsep(&line, " ") : NULL;
        if (line != NULL && strcmp(word, deed) == 0 && (strcmp(whom, "*") == 0 || strcmp(whom, id) == 0))
            return atl_fail(err, ATL_E_STATE, NULL, "%s", line);
    }
    return ATL_OK;
}

static int by_vmid(const void *a, const void *b)
{
    const struct cmp_fake *left = a;
    const struct cmp_fake *right = b;
    return left->vmid < right->vmid ? -1 : left->vmid > right->vmid;
}

/* The guests that have a file, also those that it says are stopped. */
static enum atl_code list_files(const struct cmp_fakes *fakes, struct atl_arena *arena,
                                struct cmp_fake **ret_rows, size_t *ret_count, struct atl_error *err)
{
    struct cmp_fake *rows = NULL;
    size_t count = 0;
    size_t room = 0;
    DIR *folder = opendir(fakes->folder);
    if (folder == NULL)
        return atl_fail(err, ATL_E_IO, NULL, "cannot read '%s': %s", fakes->folder, strerror(errno));
    for (const struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char *end = NULL;
        unsigned long vmid = strtoul(entry->d_name, &end, 10);
        if (vmid == 0 || vmid > UINT32_MAX || *end != '\0')
            continue;
        rows = atl_arena_grow(arena, rows, count, &room, sizeof *rows);
        rows[count++] = cmp_fakes_get(fakes, (uint32_t)vmid);
    }
    (void)closedir(folder); /* only read from */
    if (count > 1)
        qsort(rows, count, sizeof *rows, by_vmid);
    *ret_rows = rows;
    *ret_count = count;
    return ATL_OK;
}

enum atl_code cmp_fakes_list(const struct cmp_fakes *fakes, struct atl_arena *arena,
                             struct cmp_fake **ret_rows, size_t *ret_count, struct atl_error *err)
{
    struct cmp_fake *files = NULL;
    size_t file_count = 0;
    enum atl_code code = list_files(fakes, arena, &files, &file_count, err);
    if (code != ATL_OK)
        return code;
    struct cmp_fake *rows = atl_arena_array(arena, struct cmp_fake, file_count + fakes->count + 1);
    size_t count = 0;
    size_t at = 0;
    uint32_t next = fakes->first;
    while (at < file_count || next - fakes->first < fakes->count) { /* both are sorted; a file goes first */
        bool more = next - fakes->first < fakes->count;
        bool file = at < file_count && (!more || files[at].vmid <= next);
        struct cmp_fake row = file ? files[at++] : made_up(fakes, next);
        if (more && row.vmid == next)
            next++;
        if (row.state != CMP_STOPPED)
            rows[count++] = row;
    }
    *ret_rows = rows;
    *ret_count = count;
    return ATL_OK;
}
