/* Names in the tree. */
#include "core/path.h"

#include <string.h>

static bool part_valid(const char *part, size_t length)
{
    if (length == 0 || length > CFG_PART_MAX)
        return false;
    if (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.')))
        return false;
    for (size_t i = 0; i < length; i++)
        if (part[i] < 0x20 || part[i] > 0x7e)
            return false;
    return true;
}

static bool in_guest_folder(const char *path)
{
    return cfg_path_below(path, "nodes/*/qemu-server/") || cfg_path_below(path, "nodes/*/lxc/");
}

enum atl_code cfg_path_check(const char *path, struct atl_error *err)
{
    if (strlen(path) > CFG_PATH_MAX)
        return atl_fail(err, ATL_E_INVALID, "path", "a path may have %d bytes at most", CFG_PATH_MAX);
    const char *part = path;
    for (;;) {
        size_t length = strcspn(part, "/");
        if (!part_valid(part, length))
            return atl_fail(err, ATL_E_INVALID, "path",
                            "'%s' has a part that is empty, too long, '..' or unprintable", path);
        if (part[length] == '\0')
            break;
        part += length + 1;
    }
    if (in_guest_folder(path) && cfg_guest_path(path).type == CFG_NO_GUEST)
        return atl_fail(err, ATL_E_INVALID, "path",
                        "'%s' is no guest's file: its name must be ID.conf, ID from %d to %d", path,
                        CFG_VMID_MIN, CFG_VMID_MAX);
    return ATL_OK;
}

/* Steps over `word` and the slash behind it. */
static const char *after_part(const char *path, const char *word)
{
    size_t length = strlen(word);
    return strncmp(path, word, length) == 0 && path[length] == '/' ? path + length + 1 : NULL;
}

static uint32_t read_vmid(const char *text)
{
    uint32_t vmid = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits < 3 || digits > 9 || text[0] == '0' || strcmp(text + digits, ".conf") != 0)
        return 0;
    for (size_t i = 0; i < digits; i++)
        vmid = vmid * 10 + (uint32_t)(text[i] - '0');
    return vmid;
}

struct cfg_guest_path cfg_guest_path(const char *path)
{
    struct cfg_guest_path guest = {.type = CFG_NO_GUEST};
    const char *node = after_part(path, "nodes");
    const char *kind = node != NULL ? strchr(node, '/') : NULL;
    if (kind == NULL || kind == node || kind - node > CFG_NODE_MAX)
        return guest;
    kind++;
    const char *qemu = after_part(kind, "qemu-server");
    const char *file = qemu != NULL ? qemu : after_part(kind, "lxc");
    uint32_t vmid = file != NULL ? read_vmid(file) : 0;
    if (vmid < CFG_VMID_MIN)
        return guest;
    guest.type = qemu != NULL ? CFG_QEMU : CFG_LXC;
    guest.vmid = vmid;
    memcpy(guest.node, node, (size_t)(kind - 1 - node));
    return guest;
}

bool cfg_path_below(const char *path, const char *prefix)
{
    char last = '/';
    while (*prefix != '\0') {
        if (*prefix == '*') {
            size_t length = strcspn(path, "/");
            if (length == 0)
                return false;
            path += length;
            last = *prefix++;
            continue;
        }
        if (*path != *prefix)
            return false;
        path++;
        last = *prefix++;
    }
    return last == '/' || *path == '\0'; /* "user.cfg" must not open "user.cfg.old" */
}

/* --- who may touch what
 * ------------------------------------------------------------------------------------- */

enum { PATTERNS_MAX = 10 };

struct rights {
    const char *service;
    const char *read[PATTERNS_MAX];   /* folders end in '/', "" is everything */
    const char *hidden[PATTERNS_MAX]; /* taken out of what may be read */
    const char *write[PATTERNS_MAX];
};

/* Locks (.state/lock/) are written through Lock, Unlock and RenewLock alone. The gateway has no line: it may
 * nothing. */
static const struct rights table[] = {
    {"backup-agent", {""}, {"priv/"}, {"jobs.cfg", "replication.cfg", ".state/backup/"}},
    {"cli", {""}, {NULL}, {""}},
    {"compute-agent",
     {""},
     {"priv/"},
     {"nodes/*/qemu-server/", "nodes/*/lxc/", "mapping/", ".state/compute/"}},
    {"config-store", {""}, {NULL}, {""}},
    {"ha-crm",
     {"", "priv/ha/"},
     {"priv/"},
     {"ha/", "priv/ha/", ".state/ha/", "nodes/*/qemu-server/", "nodes/*/lxc/"}},
    {"ha-lrm", {""}, {"priv/"}, {".state/ha/"}},
    {"sdn-agent", {""}, {"priv/"}, {"sdn/", "firewall/", "nodes/*/host.fw", ".state/sdn/"}},
    {"storage-agent",
     {"", "priv/storage/", "priv/ceph/"},
     {"priv/"},
     {"storage.cfg", "priv/storage/", ".state/storage/"}},
};

static bool any_matches(const char *const *patterns, const char *path)
{
    for (size_t i = 0; i < PATTERNS_MAX && patterns[i] != NULL; i++)
        if (cfg_path_below(path, patterns[i]))
            return true;
    return false;
}

static const struct rights *find_rights(const char *service)
{
    for (size_t i = 0; i < ATL_COUNT(table); i++)
        if (strcmp(table[i].service, service) == 0)
            return &table[i];
    return NULL;
}

bool cfg_may_read(const char *service, const char *path)
{
    const struct rights *rights = find_rights(service);
    if (rights == NULL)
        return false;
    /* A pattern that is named beside "" opens what `hidden` would close. */
    for (size_t i = 1; i < PATTERNS_MAX && rights->read[i] != NULL; i++)
        if (cfg_path_below(path, rights->read[i]))
            return true;
    return any_matches(rights->read, path) && !any_matches(rights->hidden, path);
}

bool cfg_may_write(const char *service, const char *path)
{
    const struct rights *rights = find_rights(service);
    return rights != NULL && any_matches(rights->write, path);
}
