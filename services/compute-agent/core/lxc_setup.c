/* Files inside a container: name, hosts, resolver, password, keys. */
#include "core/lxc_setup.h"

#include <string.h>

#include "pure/buf.h"

#define BEGIN "# --- BEGIN ATOLL ---\n"
#define END   "# --- END ATOLL ---\n"

static bool managed(const Atoll__Lxc__V1__Setup *setup)
{
    return strcmp(setup->ostype, "unmanaged") != 0;
}

static char *given(struct atl_arena *arena, struct atl_buf *text)
{
    char *copy = atl_arena_strdup(arena, text->data != NULL ? text->data : "");
    atl_buf_done(text);
    return copy;
}

/* The text without our section. */
static const char *without_section(const char *old, struct atl_arena *arena)
{
    const char *begin = old != NULL ? strstr(old, BEGIN) : NULL;
    const char *end = begin != NULL ? strstr(begin, END) : NULL;
    if (end == NULL)
        return old;
    return atl_arena_format(arena, "%.*s%s", (int)(begin - old), old, end + strlen(END));
}

/* Our section at the top; `rest` (without one) stays byte for byte. */
static const char *with_section(const char *rest, const char *section, struct atl_arena *arena)
{
    return atl_arena_format(arena, BEGIN "%s" END "%s", section, rest != NULL ? rest : "");
}

static const char *host_part(struct atl_arena *arena, const char *hostname)
{
    return atl_arena_strndup(arena, hostname, strcspn(hostname, "."));
}

/* The address that stands for the container's name: the first fixed one, else the loopback's. */
static const char *own_address(const Atoll__Lxc__V1__Setup *setup, struct atl_arena *arena)
{
    for (size_t i = 0; i < setup->n_net; i++) {
        const char *ip = setup->net[i]->ip;
        if (ip != NULL && ip[0] >= '0' && ip[0] <= '9')
            return atl_arena_strndup(arena, ip, strcspn(ip, "/"));
    }
    return "127.0.1.1";
}

static const char *hosts_text(const Atoll__Lxc__V1__Setup *setup, const char *old, struct atl_arena *arena)
{
    struct atl_buf section = {0};
    const char *name = setup->hostname;
    const char *host = host_part(arena, name);
    const char *domain =
        setup->searchdomain != NULL && setup->searchdomain[0] != '\0'
            ? atl_arena_strndup(arena, setup->searchdomain, strcspn(setup->searchdomain, " ,;"))
            : NULL;
    const char *rest = without_section(old, arena);
    if (rest == NULL || strstr(rest, "localhost") == NULL)
        atl_buf_text(&section, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    atl_buf_printf(&section, "%s ", own_address(setup, arena));
    if (strcmp(host, name) != 0)
        atl_buf_printf(&section, "%s ", name);
    else if (domain != NULL)
        atl_buf_printf(&section, "%s.%s ", host, domain);
    atl_buf_printf(&section, "%s\n", host);
    return with_section(rest, given(arena, &section), arena);
}

static const char *resolv_text(const Atoll__Lxc__V1__Setup *setup, const char *old, struct atl_arena *arena)
{
    struct atl_buf section = {0};
    if (setup->searchdomain != NULL && setup->searchdomain[0] != '\0')
        atl_buf_printf(&section, "search %s\n", setup->searchdomain);
    for (size_t i = 0; i < setup->n_nameserver; i++)
        atl_buf_printf(&section, "nameserver %s\n", setup->nameserver[i]);
    if (section.length == 0) {
        atl_buf_done(&section);
        return NULL;
    }
    /* The template's resolver goes; lines that somebody put beside our section stay. */
    bool own = old != NULL && strstr(old, BEGIN) != NULL;
    return with_section(own ? without_section(old, arena) : NULL, given(arena, &section), arena);
}

/* Sets one field of root's line of passwd or shadow; a file without root gets the whole line. */
static const char *root_line(const char *old, unsigned int field, const char *value, const char *whole,
                             struct atl_arena *arena)
{
    struct atl_buf text = {0};
    bool found = false;
    for (const char *line = old != NULL ? old : ""; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        if (!found && strncmp(line, "root:", 5) == 0) {
            found = true;
            unsigned int at = 0;
            const char *rest = line;
            while (at < field && rest < line + length) {
                size_t part = strcspn(rest, ":\n");
                atl_buf_add(&text, rest, part);
                atl_buf_char(&text, ':');
                rest += part + (rest[part] == ':' ? 1 : 0);
                at++;
            }
            atl_buf_text(&text, value);
            rest += strcspn(rest, ":\n");
            atl_buf_add(&text, rest, (size_t)(line + length - rest));
        } else {
            atl_buf_add(&text, line, length);
        }
        atl_buf_char(&text, '\n');
        line += length + (line[length] == '\n' ? 1 : 0);
    }
    if (!found)
        atl_buf_printf(&text, "%s\n", whole);
    return given(arena, &text);
}

static const char *shadow_text(const Atoll__Lxc__V1__Setup *setup, const char *old, struct atl_arena *arena)
{
    const char *day = atl_arena_format(arena, "%" PRIu32, setup->password_day);
    const char *whole = atl_arena_format(arena, "root:%s:%s:0:99999:7:::", setup->password_hash, day);
    const char *text = root_line(old, 1, setup->password_hash, whole, arena);
    return root_line(text, 2, day, whole, arena);
}

static const char *keys_text(const Atoll__Lxc__V1__Setup *setup, const char *old, struct atl_arena *arena)
{
    struct atl_buf text = {0};
    const char *keys = setup->ssh_keys;
    size_t length = strlen(keys);
    while (length > 0 && (keys[length - 1] == '\n' || keys[length - 1] == '\r'))
        length--;
    if (old != NULL) {
        atl_buf_text(&text, old);
        if (text.length > 0 && text.data[text.length - 1] != '\n')
            atl_buf_char(&text, '\n');
    }
    for (size_t i = 0; i < length; i++)
        if (keys[i] != '\r')
            atl_buf_char(&text, keys[i]);
    atl_buf_char(&text, '\n');
    return given(arena, &text);
}

static void file(struct cmp_lxc_file *files, size_t *count, struct cmp_lxc_file value)
{
    atl_assert(*count < CMP_LXC_FILES_MAX);
    files[(*count)++] = value;
}

static bool has_password(const Atoll__Lxc__V1__Setup *setup)
{
    return setup->has_first && setup->first && setup->password_hash != NULL;
}

size_t cmp_lxc_setup_files(const Atoll__Lxc__V1__Setup *setup, struct atl_arena *arena,
                           struct cmp_lxc_file *files)
{
    size_t count = 0;
    bool first = setup->has_first && setup->first;
    if (managed(setup) && setup->hostname != NULL) {
        file(files, &count, (struct cmp_lxc_file){.path = "/etc/hostname", .mode = 0644});
        file(files, &count, (struct cmp_lxc_file){.path = "/etc/hosts", .mode = 0644});
    }
    if (managed(setup) && (setup->n_nameserver > 0 || setup->searchdomain != NULL))
        file(files, &count, (struct cmp_lxc_file){.path = "/etc/resolv.conf", .mode = 0644});
    if (managed(setup))
        count += cmp_lxc_setup_net_files(setup, arena, files + count, CMP_LXC_FILES_MAX - 8 - count);
    if (managed(setup) && first)
        file(files, &count,
             (struct cmp_lxc_file){.path = "/etc/machine-id", .mode = 0444, .only_existing = true});
    if (has_password(setup)) { /* asked for by name, so also where nothing else is touched */
        file(files, &count, (struct cmp_lxc_file){.path = "/etc/shadow", .mode = 0640, .secret = true});
        file(files, &count,
             (struct cmp_lxc_file){.path = "/etc/passwd", .mode = 0644, .only_existing = true});
    }
    if (first && setup->ssh_keys != NULL && setup->ssh_keys[0] != '\0')
        file(files, &count,
             (struct cmp_lxc_file){
                 .path = "/root/.ssh/authorized_keys", .folder = "/root/.ssh", .mode = 0600, .secret = true});
    return count;
}

static const char *changed(const char *old, const char *text)
{
    return text == NULL || (old != NULL && strcmp(old, text) == 0) ? NULL : text;
}

const char *cmp_lxc_setup_text(const Atoll__Lxc__V1__Setup *setup, const char *path, const char *old,
                               struct atl_arena *arena)
{
    if (strcmp(path, "/etc/hostname") == 0)
        return changed(old, atl_arena_format(arena, "%s\n", host_part(arena, setup->hostname)));
    if (strcmp(path, "/etc/hosts") == 0)
        return changed(old, hosts_text(setup, old, arena));
    if (strcmp(path, "/etc/resolv.conf") == 0)
        return changed(old, resolv_text(setup, old, arena));
    if (strcmp(path, "/etc/machine-id") == 0)
        return changed(old, "uninitialized\n"); /* systemd makes one of its own */
    if (strcmp(path, "/etc/shadow") == 0)
        return changed(old, shadow_text(setup, old, arena));
    if (strcmp(path, "/etc/passwd") == 0)
        return changed(old, root_line(old, 1, "x", "root:x:0:0:root:/root:/bin/sh", arena));
    if (strcmp(path, "/root/.ssh/authorized_keys") == 0)
        return changed(old, keys_text(setup, old, arena));
    return changed(old, cmp_lxc_setup_net_text(setup, path, old, arena));
}
