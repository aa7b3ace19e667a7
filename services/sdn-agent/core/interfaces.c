/* Reading /etc/network/interfaces; see interfaces.h. */
#include "core/interfaces.h"

#include <arpa/inet.h>
#include <string.h>

struct reader {
    struct atl_arena *arena;
    struct sdn_file *file;
    struct sdn_stanza *stanza; /* the one that lines go into; NULL: none */
    size_t option_capacity;
    bool in_unknown; /* inside a stanza of another kind ("mapping") */
};

bool sdn_name_ok(const char *name, size_t length)
{
    if (length == 0 || length >= SDN_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c <= 0x20 || c >= 0x7f || strchr("/\\\"'`$;&|<>*?{}#", c) != NULL)
            return false;
    }
    return true;
}

bool sdn_word_is_yes(const char *word)
{
    static const char *const words[] = {"yes", "on", "true", "1"};
    for (size_t i = 0; i < ATL_COUNT(words); i++) {
        if (strcasecmp(word, words[i]) == 0)
            return true;
    }
    return false;
}

static struct sdn_iface *need_iface(struct reader *reader, const char *name, size_t length)
{
    struct sdn_file *file = reader->file;
    for (size_t i = 0; i < file->count; i++) {
        if (strlen(file->ifaces[i].name) == length && memcmp(file->ifaces[i].name, name, length) == 0)
            return &file->ifaces[i];
    }
    if (!sdn_name_ok(name, length) || file->count >= SDN_IFACES_MAX) {
        file->dropped++;
        return NULL;
    }
    file->ifaces =
        atl_arena_grow(reader->arena, file->ifaces, file->count, &file->iface_capacity, sizeof *file->ifaces);
    struct sdn_iface *iface = &file->ifaces[file->count++];
    *iface = (struct sdn_iface){.name = atl_arena_strndup(reader->arena, name, length)};
    return iface;
}

static size_t word_length(const char *text)
{
    return strcspn(text, " \t");
}

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

static void read_auto(struct reader *reader, const char *rest)
{
    for (const char *at = rest; *at != '\0'; at = skip_blanks(at + word_length(at))) {
        struct sdn_iface *iface = need_iface(reader, at, word_length(at));
        if (iface != NULL)
            iface->autostart = true;
    }
}

static void keep_unknown(struct reader *reader, const char *line)
{
    struct sdn_file *file = reader->file;
    if (file->unknown_count >= SDN_IFACES_MAX) {
        file->dropped++;
        return;
    }
    file->unknown = atl_arena_grow(reader->arena, file->unknown, file->unknown_count, &file->unknown_capacity,
                                   sizeof *file->unknown);
    file->unknown[file->unknown_count++] = line;
}

static void read_iface(struct reader *reader, const char *rest, const char *line)
{
    size_t name_length = word_length(rest);
    const char *family = skip_blanks(rest + name_length);
    const char *method = skip_blanks(family + word_length(family));
    size_t method_length = word_length(method);
    enum sdn_family which = SDN_INET;
    reader->stanza = NULL;
    if (strncmp(family, "inet6", word_length(family)) == 0 && word_length(family) == 5)
        which = SDN_INET6;
    else if (word_length(family) != 4 || strncmp(family, "inet", 4) != 0)
        which = SDN_FAMILIES;
    /* ifupdown2 takes `iface NAME` alone. */
    bool bare = *family == '\0';
    if (which == SDN_FAMILIES && !bare) {
        reader->in_unknown = true;
        keep_unknown(reader, line);
        return;
    }
    struct sdn_iface *iface = need_iface(reader, rest, name_length);
    if (iface == NULL)
        return;
    if (iface->stanza_count >= 64) {
        reader->file->dropped++;
        return;
    }
    /* Few stanzas: a new array each time keeps the old pointers of nobody. */
    struct sdn_stanza *grown = atl_arena_array(reader->arena, struct sdn_stanza, iface->stanza_count + 1);
    if (iface->stanza_count > 0)
        memcpy(grown, iface->stanzas, iface->stanza_count * sizeof *grown);
    iface->stanzas = grown;
    iface->described = true;
    reader->stanza = &grown[iface->stanza_count++];
    reader->option_capacity = 0;
    *reader->stanza = (struct sdn_stanza){
        .family = bare ? SDN_INET : which,
        .method = method_length > 0 ? atl_arena_strndup(reader->arena, method, method_length)
                                    : atl_arena_strdup(reader->arena, bare ? "manual" : "static"),
        .comments = "",
    };
}

static void read_option(struct reader *reader, const char *line)
{
    struct sdn_stanza *stanza = reader->stanza;
    size_t key_length = word_length(line);
    if (stanza->option_count >= SDN_OPTIONS_MAX) {
        reader->file->dropped++;
        return;
    }
    stanza->options = atl_arena_grow(reader->arena, stanza->options, stanza->option_count,
                                     &reader->option_capacity, sizeof *stanza->options);
    stanza->options[stanza->option_count++] =
        (struct sdn_option){.key = atl_arena_strndup(reader->arena, line, key_length),
                            .value = atl_arena_strdup(reader->arena, skip_blanks(line + key_length))};
}

static void read_source(struct reader *reader, const char *pattern, bool directory)
{
    struct sdn_file *file = reader->file;
    if (*pattern == '\0' || file->source_count >= 64) {
        file->dropped++;
        return;
    }
    file->sources = atl_arena_grow(reader->arena, file->sources, file->source_count, &file->source_capacity,
                                   sizeof *file->sources);
    file->sources[file->source_count++] =
        atl_arena_format(reader->arena, "%s%s", pattern, directory ? "/*" : "");
}

static bool first_word_is(const char *line, const char *word)
{
    size_t length = strlen(word);
    return strncmp(line, word, length) == 0 &&
           (line[length] == ' ' || line[length] == '\t' || line[length] == '\0');
}

static const char *behind_word(const char *line)
{
    return skip_blanks(line + word_length(line));
}

static void read_comment(struct reader *reader, const char *line)
{
    struct sdn_stanza *stanza = reader->stanza;
    if (stanza == NULL || strlen(stanza->comments) > 65536)
        keep_unknown(reader, line);
    else
        stanza->comments = atl_arena_format(reader->arena, "%s%s\n", stanza->comments, line + 1);
}

static void read_line(struct reader *reader, const char *line)
{
    if (line[0] == '\0')
        return;
    if (line[0] == '#') {
        read_comment(reader, line);
    } else if (first_word_is(line, "auto") || first_word_is(line, "allow-auto") ||
               first_word_is(line, "allow-hotplug")) {
        reader->stanza = NULL;
        reader->in_unknown = false;
        read_auto(reader, behind_word(line));
    } else if (first_word_is(line, "iface")) {
        reader->in_unknown = false;
        read_iface(reader, behind_word(line), line);
    } else if (first_word_is(line, "source") || first_word_is(line, "source-directory")) {
        reader->stanza = NULL;
        reader->in_unknown = false;
        read_source(reader, behind_word(line), first_word_is(line, "source-directory"));
    } else if (first_word_is(line, "mapping") || strncmp(line, "allow-", 6) == 0 ||
               strncmp(line, "no-", 3) == 0) {
        reader->stanza = NULL;
        reader->in_unknown = first_word_is(line, "mapping");
        keep_unknown(reader, line);
    } else if (reader->stanza != NULL) {
        read_option(reader, line);
    } else {
        keep_unknown(reader, line);
    }
}

/* One line without its newline, with continued lines joined and outer blanks gone; returns what is behind it.
 */
static const char *take_line(const char *text, const char *end, struct atl_arena *arena,
                             const char **ret_line)
{
    char *line = atl_arena_alloc(arena, (size_t)(end - text) < 4096 ? (size_t)(end - text) + 1 : 4097);
    size_t length = 0;
    const char *at = text;
    for (; at < end && *at != '\n'; at++) {
        bool joined = *at == '\\' && at + 1 < end && at[1] == '\n';
        if (length < 4096)
            line[length++] = joined ? ' ' : *at;
        if (joined)
            at++;
    }
    while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL)
        length--;
    line[length] = '\0';
    *ret_line = line + strspn(line, " \t");
    return at < end ? at + 1 : end;
}

enum atl_code sdn_interfaces_read(const char *text, size_t length, struct atl_arena *arena,
                                  struct sdn_file *file, struct atl_error *err)
{
    if (length > SDN_TEXT_MAX)
        return atl_fail(err, ATL_E_LIMIT, NULL, "the file has %zu bytes, at most %d are read", length,
                        SDN_TEXT_MAX);
    if (memchr(text, '\0', length) != NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "the file holds a NUL byte, it is no text");
    struct reader reader = {.arena = arena, .file = file};
    const char *end = text + length;
    for (const char *at = text; at < end;) {
        const char *line = NULL;
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        /* Only as much as this line needs is given to take_line(), continued lines excepted. */
        const char *limit = stop == NULL ? end : stop + 1;
        while (stop != NULL && stop > at && stop[-1] == '\\' && limit < end) {
            stop = memchr(limit, '\n', (size_t)(end - limit));
            limit = stop == NULL ? end : stop + 1;
        }
        at = take_line(at, limit, arena, &line);
        read_line(&reader, line);
    }
    return ATL_OK;
}

const struct sdn_iface *sdn_file_find(const struct sdn_file *file, const char *name)
{
    for (size_t i = 0; i < file->count; i++) {
        if (strcmp(file->ifaces[i].name, name) == 0)
            return &file->ifaces[i];
    }
    return NULL;
}

static bool same_key(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++) {
        char left = *a == '_' ? '-' : *a;
        char right = *b == '_' ? '-' : *b;
        if (left != right)
            return false;
    }
    return *a == *b;
}

const char *sdn_stanza_get(const struct sdn_stanza *stanza, const char *key)
{
    for (size_t i = 0; i < stanza->option_count; i++) {
        if (same_key(stanza->options[i].key, key))
            return stanza->options[i].value;
    }
    return NULL;
}

const char *sdn_iface_get(const struct sdn_iface *iface, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < iface->stanza_count && value == NULL; i++)
        value = sdn_stanza_get(&iface->stanzas[i], key);
    return value;
}

const struct sdn_stanza *sdn_iface_stanza(const struct sdn_iface *iface, enum sdn_family family)
{
    for (size_t i = 0; i < iface->stanza_count; i++) {
        if (iface->stanzas[i].family == family)
            return &iface->stanzas[i];
    }
    return NULL;
}

/* "24" or "255.255.255.0"; -1: neither. */
static int prefix_of(const char *text, enum sdn_family family)
{
    uint8_t mask[4];
    int bits = 0;
    if (strchr(text, '.') != NULL && family == SDN_INET && inet_pton(AF_INET, text, mask) == 1) {
        uint32_t value = (uint32_t)mask[0] << 24 | (uint32_t)mask[1] << 16 | (uint32_t)mask[2] << 8 | mask[3];
        while (bits < 32 && (value & 0x80000000U >> bits) != 0)
            bits++;
        return bits == 32 || value << bits == 0 ? bits : -1;
    }
    for (const char *at = text; *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || bits > 128)
            return -1;
        bits = bits * 10 + (*at - '0');
    }
    return *text != '\0' && bits <= (family == SDN_INET ? 32 : 128) ? bits : -1;
}

enum atl_code sdn_address_parse(const char *address, const char *netmask, struct sdn_address *ret_address,
                                struct atl_error *err)
{
    struct sdn_address out = {.family = strchr(address, ':') != NULL ? SDN_INET6 : SDN_INET};
    char host[64];
    size_t length = strcspn(address, "/");
    const char *mask = address[length] == '/' ? address + length + 1 : netmask;
    int prefix = out.family == SDN_INET ? 32 : 128;
    if (mask != NULL)
        prefix = prefix_of(mask, out.family);
    bool fits = length < sizeof host;
    if (fits) {
        memcpy(host, address, length);
        host[length] = '\0';
    }
    int domain = out.family == SDN_INET ? AF_INET : AF_INET6;
    if (!fits || prefix < 0 || inet_pton(domain, host, out.bytes) != 1)
        return atl_fail(err, ATL_E_INVALID, "address", "'%s' is no address with a prefix, as 10.0.0.1/24",
                        address);
    out.prefix = (uint8_t)prefix;
    const char *text = inet_ntop(domain, out.bytes, out.text, sizeof out.text);
    atl_assert(text != NULL);
    *ret_address = out;
    return ATL_OK;
}
