/* corosync.conf: blocks of "key: value" in braces, nested. */
#include "core/corosync_conf.h"

#include <string.h>

#include "pure/number.h"

enum { DEPTH_MAX = 3, LINE_MAX_BYTES = 256 };

/* --- reading ----------------------------------------------------------------------------------------------
 */

struct reader {
    struct cfg_corosync *conf;
    struct atl_arena *arena;
    struct atl_error *err;
    const char *blocks[DEPTH_MAX];
    unsigned int depth;
    unsigned int line;
};

static bool in_block(const struct reader *reader, const char *outer, const char *inner)
{
    bool first = reader->depth >= 1 && strcmp(reader->blocks[0], outer) == 0;
    if (inner == NULL)
        return first && reader->depth == 1;
    return first && reader->depth == 2 && strcmp(reader->blocks[1], inner) == 0;
}

static enum atl_code bad(const struct reader *reader, const char *why)
{
    return atl_fail(reader->err, ATL_E_INVALID, NULL, "corosync.conf, line %u: %s", reader->line, why);
}

static enum atl_code open_block(struct reader *reader, const char *name)
{
    struct cfg_corosync *conf = reader->conf;
    if (reader->depth == DEPTH_MAX)
        return bad(reader, "blocks are nested too deep");
    reader->blocks[reader->depth++] = name;
    if (!in_block(reader, "nodelist", "node"))
        return ATL_OK;
    if (conf->count == CFG_NODES_MAX)
        return bad(reader, "there are too many nodes");
    conf->nodes[conf->count++] = (struct cfg_corosync_node){.votes = 1};
    return ATL_OK;
}

static enum atl_code number(const struct reader *reader, const char *value, uint64_t max,
                            uint64_t *ret_number)
{
    if (!atl_uint_from_text(value, ret_number) || *ret_number > max)
        return bad(reader, "the number cannot be read");
    return ATL_OK;
}

static enum atl_code node_key(struct reader *reader, const char *key, const char *value)
{
    struct cfg_corosync_node *node = &reader->conf->nodes[reader->conf->count - 1];
    uint64_t figure = 0;
    enum atl_code code = ATL_OK;
    if (strcmp(key, "name") == 0)
        node->name = value;
    else if (strcmp(key, "ring0_addr") == 0)
        node->links[0] = value;
    else if (strcmp(key, "ring1_addr") == 0)
        node->links[1] = value;
    else if (strcmp(key, "nodeid") == 0 && (code = number(reader, value, UINT32_MAX, &figure)) == ATL_OK)
        node->id = (uint32_t)figure;
    else if (strcmp(key, "quorum_votes") == 0 && (code = number(reader, value, 255, &figure)) == ATL_OK)
        node->votes = (uint32_t)figure;
    return code;
}

static enum atl_code take_key(struct reader *reader, const char *key, const char *value)
{
    struct cfg_corosync *conf = reader->conf;
    uint64_t figure = 0;
    if (in_block(reader, "nodelist", "node"))
        return node_key(reader, key, value);
    if (reader->depth == 3 && strcmp(reader->blocks[2], "net") == 0 && strcmp(key, "host") == 0) {
        conf->qdevice_host = value;
        return ATL_OK;
    }
    if (!in_block(reader, "totem", NULL))
        return ATL_OK;
    if (strcmp(key, "cluster_name") == 0)
        conf->cluster = value;
    if (strcmp(key, "config_version") == 0)
        return number(reader, value, UINT64_MAX, &conf->version);
    if (strcmp(key, "token_coefficient") != 0)
        return ATL_OK;
    enum atl_code code = number(reader, value, 100000, &figure);
    conf->token_coefficient = (uint32_t)figure;
    return code;
}

/* A line without its blanks: empty, a comment, "name {", "}" or "key: value". */
static enum atl_code take_line(struct reader *reader, char *line, size_t length)
{
    if (length == 0 || line[0] == '#')
        return ATL_OK;
    if (strcmp(line, "}") == 0) {
        if (reader->depth == 0)
            return bad(reader, "a } too many");
        reader->depth--;
        return ATL_OK;
    }
    size_t word = strcspn(line, " \t:{");
    char *rest = line + word;
    rest += strspn(rest, " \t");
    char kind = *rest;
    line[word] = '\0';
    if (kind == '{' && rest[1] == '\0')
        return open_block(reader, line);
    if (kind != ':')
        return bad(reader, "this is no 'key: value'");
    rest++;
    rest += strspn(rest, " \t");
    return take_key(reader, line, rest);
}

static int by_id(const struct cfg_corosync_node *one, const struct cfg_corosync_node *other)
{
    return (one->id > other->id) - (one->id < other->id);
}

static void sort_nodes(struct cfg_corosync *conf)
{
    for (size_t i = 1; i < conf->count; i++)
        for (size_t k = i; k > 0 && by_id(&conf->nodes[k - 1], &conf->nodes[k]) > 0; k--) {
            struct cfg_corosync_node kept = conf->nodes[k];
            conf->nodes[k] = conf->nodes[k - 1];
            conf->nodes[k - 1] = kept;
        }
}

enum atl_code cfg_corosync_read(const char *text, size_t size, struct atl_arena *arena,
                                struct cfg_corosync *ret_conf, struct atl_error *err)
{
    struct reader reader = {.conf = ret_conf, .arena = arena, .err = err};
    memset(ret_conf, 0, sizeof *ret_conf);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - (text + at)) : size - at;
        const char *start = text + at;
        at += length + 1;
        reader.line++;
        if (length > LINE_MAX_BYTES || memchr(start, '\0', length) != NULL)
            return bad(&reader, "the line is too long or no text");
        char *line = atl_arena_strndup(arena, start, length);
        line += strspn(line, " \t");
        length = strlen(line);
        while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL)
            line[--length] = '\0';
        enum atl_code code = take_line(&reader, line, length);
        if (code != ATL_OK)
            return code;
    }
    if (reader.depth > 0)
        return bad(&reader, "a } is missing");
    for (size_t i = 0; i < ret_conf->count; i++)
        if (ret_conf->nodes[i].id == 0 || ret_conf->nodes[i].name == NULL ||
            ret_conf->nodes[i].links[0] == NULL)
            return bad(&reader, "a node has no id, name or address");
    sort_nodes(ret_conf);
    return ATL_OK;
}

/* --- writing ----------------------------------------------------------------------------------------------
 */

static void write_node(const struct cfg_corosync_node *node, struct atl_buf *out)
{
    atl_buf_printf(out, "  node {\n    name: %s\n    nodeid: %u\n    quorum_votes: %u\n", node->name,
                   node->id, node->votes);
    for (unsigned int link = 0; link < CFG_LINKS_MAX; link++)
        if (node->links[link] != NULL)
            atl_buf_printf(out, "    ring%u_addr: %s\n", link, node->links[link]);
    atl_buf_text(out, "  }\n");
}

static void write_quorum(const struct cfg_corosync *conf, struct atl_buf *out)
{
    atl_buf_text(out, "quorum {\n  provider: corosync_votequorum\n");
    if (conf->qdevice_host != NULL)
        atl_buf_printf(
            out,
            "  device {\n    model: net\n    votes: 1\n    timeout: %d\n    sync_timeout: %d\n"
            "    net {\n      algorithm: ffsplit\n      host: %s\n      tls: required\n    }\n  }\n",
            CFG_QDEVICE_TIMEOUT_MS, CFG_QDEVICE_SYNC_TIMEOUT_MS, conf->qdevice_host);
    atl_buf_text(out, "}\n");
}

void cfg_corosync_write(const struct cfg_corosync *conf, const struct cfg_corosync_place *place,
                        struct atl_buf *out)
{
    bool two_links = conf->count > 0 && conf->nodes[0].links[1] != NULL;
    atl_buf_printf(out,
                   "totem {\n  version: 2\n  cluster_name: %s\n  config_version: %" PRIu64
                   "\n  transport: knet\n  crypto_cipher: aes256\n  crypto_hash: sha256\n  token: %d\n"
                   "  token_coefficient: %u\n",
                   conf->cluster, conf->version, CFG_TOKEN_MS, conf->token_coefficient);
    if (two_links) /* passive links lose the membership when the one in use is cut */
        atl_buf_text(out, "  link_mode: active\n");
    if (place->dir != NULL)
        atl_buf_printf(out, "  keyfile: %s/authkey\n", place->dir);
    atl_buf_text(out, "}\nnodelist {\n");
    for (size_t i = 0; i < conf->count; i++)
        write_node(&conf->nodes[i], out);
    atl_buf_text(out, "}\n");
    write_quorum(conf, out);
    if (place->dir == NULL)
        return;
    atl_buf_printf(out,
                   "system {\n  move_to_root_cgroup: no\n  state_dir: %s\n}\nuidgid {\n  uid: %s\n}\n"
                   "logging {\n  to_stderr: yes\n  to_syslog: no\n  to_logfile: no\n}\n",
                   place->dir, place->user);
}

/* --- changing ---------------------------------------------------------------------------------------------
 */

struct cfg_corosync_node *cfg_corosync_find(struct cfg_corosync *conf, const char *name)
{
    for (size_t i = 0; i < conf->count; i++)
        if (strcmp(conf->nodes[i].name, name) == 0)
            return &conf->nodes[i];
    return NULL;
}

static bool uses_address(const struct cfg_corosync_node *node, const char *address)
{
    for (unsigned int link = 0; link < CFG_LINKS_MAX; link++)
        if (node->links[link] != NULL && strcmp(node->links[link], address) == 0)
            return true;
    return false;
}

static enum atl_code check_link(const struct cfg_corosync_node *other, const struct cfg_corosync_node *node,
                                unsigned int link, struct atl_error *err)
{
    const char *field = link == 0 ? "link0" : "link1";
    if ((other->links[link] == NULL) != (node->links[link] == NULL))
        return atl_fail(err, ATL_E_INVALID, field, "every node needs the same links, and '%s' %s link%u",
                        other->name, other->links[link] == NULL ? "has no" : "has a", link);
    if (node->links[link] != NULL && uses_address(other, node->links[link]))
        return atl_fail(err, ATL_E_EXISTS, field, "%s is an address of '%s'", node->links[link], other->name);
    return ATL_OK;
}

/* Can both be in one cluster? */
static enum atl_code check_other(const struct cfg_corosync_node *other, const struct cfg_corosync_node *node,
                                 struct atl_error *err)
{
    if (strcmp(other->name, node->name) == 0)
        return atl_fail(err, ATL_E_EXISTS, "node", "a node named '%s' is in the cluster", node->name);
    if (node->id != 0 && other->id == node->id)
        return atl_fail(err, ATL_E_EXISTS, "nodeid", "node id %u is that of '%s'", node->id, other->name);
    enum atl_code code = ATL_OK;
    for (unsigned int link = 0; link < CFG_LINKS_MAX && code == ATL_OK; link++)
        code = check_link(other, node, link, err);
    return code;
}

static enum atl_code check_new(const struct cfg_corosync *conf, const struct cfg_corosync_node *node,
                               struct atl_error *err)
{
    if (conf->count == CFG_NODES_MAX)
        return atl_fail(err, ATL_E_LIMIT, "node", "the cluster has %d nodes, which is the most",
                        CFG_NODES_MAX);
    if (node->links[0] == NULL)
        return atl_fail(err, ATL_E_INVALID, "link0", "an address for link0 is needed");
    enum atl_code code = ATL_OK;
    for (size_t i = 0; i < conf->count && code == ATL_OK; i++)
        code = check_other(&conf->nodes[i], node, err);
    return code;
}

static uint32_t free_id(const struct cfg_corosync *conf)
{
    uint32_t id = 1;
    for (size_t i = 0; i < conf->count; i++)
        if (conf->nodes[i].id == id) /* they are sorted */
            id++;
    return id;
}

static size_t voters(const struct cfg_corosync *conf)
{
    size_t count = 0;
    for (size_t i = 0; i < conf->count; i++)
        count += conf->nodes[i].votes > 0;
    return count;
}

enum atl_code cfg_corosync_add(struct cfg_corosync *conf, const struct cfg_corosync_node *node,
                               struct atl_error *err)
{
    enum atl_code code = check_new(conf, node, err);
    if (code != ATL_OK)
        return code;
    struct cfg_corosync_node *added = &conf->nodes[conf->count];
    *added = *node;
    if (node->id == 0)
        added->id = free_id(conf);
    if (node->votes == UINT32_MAX)
        added->votes = voters(conf) < CFG_VOTERS_MAX ? 1 : 0;
    else if (node->votes > 0 && voters(conf) >= CFG_VOTERS_MAX)
        return atl_fail(err, ATL_E_LIMIT, "votes", "%d nodes have a vote, which is the most", CFG_VOTERS_MAX);
    conf->count++;
    conf->version++;
    sort_nodes(conf);
    return ATL_OK;
}

enum atl_code cfg_corosync_remove(struct cfg_corosync *conf, const char *name, struct atl_error *err)
{
    struct cfg_corosync_node *node = cfg_corosync_find(conf, name);
    if (node == NULL)
        return atl_fail(err, ATL_E_ABSENT, "node", "no node '%s' is in the cluster", name);
    if (conf->count == 1)
        return atl_fail(err, ATL_E_STATE, "node", "'%s' is the last node of the cluster", name);
    bool voted = node->votes > 0;
    size_t at = (size_t)(node - conf->nodes);
    memmove(node, node + 1, (conf->count - at - 1) * sizeof *node);
    conf->count--;
    for (size_t i = 0; voted && i < conf->count; i++)
        if (conf->nodes[i].votes == 0) {
            conf->nodes[i].votes = 1;
            break;
        }
    conf->version++;
    return ATL_OK;
}

bool cfg_corosync_fits_witness(const struct cfg_corosync *conf)
{
    size_t count = voters(conf);
    for (size_t i = 0; i < conf->count; i++)
        if (conf->nodes[i].votes > 1)
            return false;
    return count >= 2 && count % 2 == 0 && count < CFG_VOTERS_MAX;
}

void cfg_corosync_set_witness(struct cfg_corosync *conf, const char *address)
{
    conf->qdevice_host = address;
    conf->version++;
}

uint32_t cfg_corosync_detection_ms(const struct cfg_corosync *conf)
{
    uint32_t more = conf->count > 2 ? (uint32_t)(conf->count - 2) : 0;
    uint32_t token = CFG_TOKEN_MS + more * conf->token_coefficient;
    return token + token * 12 / 10;
}
