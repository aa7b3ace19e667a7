/* Files that say what we made; see record.h. */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pure/buf.h"

enum { FILE_MAX = 1 << 20 };

char *sdn_read_file(const char *folder, const char *name)
{
    char *path = name != NULL ? atl_format("%s/%s", folder, name) : atl_strdup(folder);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    free(path);
    if (fd < 0)
        return NULL;
    struct atl_buf buf = {0};
    ssize_t got = 0;
    do {
        char *end = atl_buf_reserve(&buf, 65536);
        got = read(fd, end, 65536);
        buf.length += got > 0 ? (size_t)got : 0;
    } while (got > 0 && buf.length <= FILE_MAX);
    (void)close(fd);
    if (got < 0 || buf.length > FILE_MAX) {
        atl_buf_done(&buf);
        return NULL;
    }
    (void)atl_buf_reserve(&buf, 1);
    buf.data[buf.length] = '\0';
    return atl_buf_steal(&buf);
}

enum atl_code sdn_write_file(const char *folder, const char *name, const char *text, struct atl_error *err)
{
    char *path = atl_format("%s/%s", folder, name);
    char *temporary = atl_format("%s/.%s.new", folder, name);
    bool good = true;
    if (text == NULL) {
        good = unlink(path) == 0 || errno == ENOENT;
    } else {
        int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
        size_t length = strlen(text);
        good = fd >= 0 && write(fd, text, length) == (ssize_t)length;
        if (fd >= 0 && close(fd) < 0)
            good = false;
        good = good && rename(temporary, path) == 0;
    }
    enum atl_code code =
        good ? ATL_OK : atl_fail(err, ATL_E_IO, NULL, "cannot write '%s': %s", path, strerror(errno));
    free(path);
    free(temporary);
    return code;
}

static void read_bridges(struct sdn_record *record)
{
    char *text = sdn_read_file(record->folder, "bridges");
    char *save = NULL;
    for (char *line = text != NULL ? strtok_r(text, "\n", &save) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char name[SDN_NAME_MAX];
        int index = 0;
        if (sscanf(line, "%15s %9d", name, &index) != 2 || record->bridge_count == SDN_WISHES_MAX)
            continue;
        (void)atl_copy(record->bridges[record->bridge_count].name, SDN_NAME_MAX, name);
        record->bridges[record->bridge_count++].index = index;
    }
    free(text);
}

enum atl_code sdn_record_open(const char *run_dir, struct sdn_record *ret_record, struct atl_error *err)
{
    struct sdn_record record = {.folder = atl_format("%s/sdn-agent", run_dir)};
    if (mkdir(record.folder, 0755) < 0 && errno != EEXIST) {
        enum atl_code code =
            atl_fail(err, ATL_E_IO, "run-dir", "cannot make '%s': %s", record.folder, strerror(errno));
        free(record.folder);
        return code;
    }
    read_bridges(&record);
    char *forwarding = sdn_read_file(record.folder, "forwarding");
    record.forwarding = forwarding != NULL;
    free(forwarding);
    record.nat_text = sdn_read_file(record.folder, "nat.text");
    record.nat_listing = sdn_read_file(record.folder, "nat.listing");
    *ret_record = record;
    return ATL_OK;
}

void sdn_record_done(struct sdn_record *record)
{
    free(record->folder);
    free(record->nat_text);
    free(record->nat_listing);
    *record = (struct sdn_record){0};
}

static enum atl_code write_bridges(const struct sdn_record *record, struct atl_error *err)
{
    struct atl_buf text = {0};
    for (size_t i = 0; i < record->bridge_count; i++)
        atl_buf_printf(&text, "%s %d\n", record->bridges[i].name, record->bridges[i].index);
    enum atl_code code = sdn_write_file(record->folder, "bridges", text.length > 0 ? text.data : NULL, err);
    atl_buf_done(&text);
    return code;
}

enum atl_code sdn_record_bridge(struct sdn_record *record, const char *name, int index, struct atl_error *err)
{
    size_t at = 0;
    while (at < record->bridge_count && strcmp(record->bridges[at].name, name) != 0)
        at++;
    if (at == SDN_WISHES_MAX)
        return atl_fail(err, ATL_E_LIMIT, NULL, "there are %d bridges of ours already", SDN_WISHES_MAX);
    if (at == record->bridge_count)
        record->bridge_count++;
    (void)atl_copy(record->bridges[at].name, SDN_NAME_MAX, name);
    record->bridges[at].index = index;
    return write_bridges(record, err);
}

enum atl_code sdn_record_forget(struct sdn_record *record, const char *name, struct atl_error *err)
{
    for (size_t i = 0; i < record->bridge_count; i++) {
        if (strcmp(record->bridges[i].name, name) != 0)
            continue;
        record->bridges[i] = record->bridges[--record->bridge_count];
        break;
    }
    return write_bridges(record, err);
}

enum atl_code sdn_record_forwarding(struct sdn_record *record, bool on, struct atl_error *err)
{
    record->forwarding = on;
    return sdn_write_file(record->folder, "forwarding", on ? "0\n" : NULL, err);
}

enum atl_code sdn_record_nat(struct sdn_record *record, const char *text, const char *listing,
                             struct atl_error *err)
{
    free(record->nat_text);
    free(record->nat_listing);
    record->nat_text = text != NULL ? atl_strdup(text) : NULL;
    record->nat_listing = listing != NULL ? atl_strdup(listing) : NULL;
    enum atl_code code = sdn_write_file(record->folder, "nat.text", text, err);
    return code != ATL_OK ? code : sdn_write_file(record->folder, "nat.listing", listing, err);
}

const char *const *sdn_record_made(const struct sdn_record *record, const struct sdn_links *links,
                                   struct atl_arena *arena)
{
    const char **made = atl_arena_array(arena, const char *, record->bridge_count + 1);
    size_t count = 0;
    for (size_t i = 0; i < record->bridge_count; i++) {
        const struct sdn_link *link = sdn_links_find(links, record->bridges[i].name);
        bool same = link != NULL && strcmp(link->kind, "bridge") == 0 &&
                    (record->bridges[i].index == 0 || record->bridges[i].index == link->index);
        if (same)
            made[count++] = record->bridges[i].name;
    }
    return made;
}
