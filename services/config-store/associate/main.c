/*
 * atoll-associate: a host that is no node becomes one that may have a gateway. It makes the gateway's key,
 * shows the word that a node made, and keeps where the nodes are; from then on the gateway finds its way by
 * itself.
 */
#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cluster/address.h"
#include "cluster/peer.h"
#include "io/bus.h"
#include "io/directory.h"

static const char usage[] = "usage: atoll-associate [--state-dir DIR] [--node NAME] join WORD\n"
                            "\n"
                            "Makes this host an associate of the cluster that made WORD with 'atoll cluster "
                            "associate add NAME'. Run it\n"
                            "as the user of the gateway, then start atoll-api-gateway --associate.\n"
                            "\n"
                            "  --state-dir DIR    of the gateway (default: /var/lib/atoll)\n"
                            "  --node NAME        name of this host (default: what the host says)\n";

struct joining {
    const char *state_dir;
    const char *name;
    struct cfg_join_token word;
    char address[CFG_ADDRESS_SIZE];
    char key[2 * ATL_BUS_KEY_SIZE + 1];
};

static enum atl_code make_key(struct joining *joining, struct atl_error *err)
{
    uint8_t key[ATL_BUS_KEY_SIZE];
    char *dir ATL_FREE_AT_EXIT = atl_format("%s/gateway", joining->state_dir);
    char *path ATL_FREE_AT_EXIT = atl_format("%s/bus.key", dir);
    if (mkdir(dir, 0750) != 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, NULL, "cannot make '%s': %s", dir, strerror(errno));
    enum atl_code code = atl_bus_key(path, key, err);
    for (size_t i = 0; i < sizeof key && code == ATL_OK; i++)
        (void)snprintf(joining->key + 2 * i, 3, "%02x", key[i]);
    return code;
}

static enum atl_code ask(const struct joining *joining, struct json_object **ret_data, struct atl_error *err)
{
    struct cfg_peer *peer = cfg_peer_new(joining->word.endpoint, joining->word.fingerprint);
    cfg_peer_param(peer, "hostname", joining->name);
    cfg_peer_param(peer, "secret", joining->word.secret);
    cfg_peer_param(peer, "key", joining->key);
    cfg_peer_param(peer, "address", joining->address);
    enum atl_code code = cfg_peer_post(peer, "/cluster/config/admit-associate", ret_data, err);
    cfg_peer_free(&peer);
    return code;
}

/* "NODE:BASE64" */
static bool feed(struct atl_directory *directory, const char *text)
{
    uint8_t bytes[ATL_DIRECTORY_RECORD];
    char name[64];
    const char *colon = strchr(text, ':');
    size_t length = colon != NULL ? strlen(colon + 1) : 0;
    if (colon == NULL || (size_t)(colon - text) >= sizeof name || length == 0 || length % 4 != 0 ||
        length / 4 * 3 > sizeof bytes)
        return false;
    memcpy(name, text, (size_t)(colon - text));
    name[colon - text] = '\0';
    int size = EVP_DecodeBlock(bytes, (const unsigned char *)colon + 1, (int)length);
    size_t padding = (size_t)(text[strlen(text) - 1] == '=') + (size_t)(text[strlen(text) - 2] == '=');
    if (size < (int)padding)
        return false;
    atl_directory_feed(directory, name, bytes, (size_t)size - padding);
    return true;
}

/* The gateway begins with this copy, and follows the nodes from then on. */
static enum atl_code keep(const struct joining *joining, struct json_object *data, struct atl_error *err)
{
    struct json_object *list = NULL;
    char *path ATL_FREE_AT_EXIT = atl_format("%s/gateway/directory", joining->state_dir);
    if (!json_object_object_get_ex(data, "record", &list) || !json_object_is_type(list, json_type_array))
        return atl_fail(err, ATL_E_STATE, NULL, "the answer has no records: does Atoll run there?");
    if (unlink(path) != 0 && errno != ENOENT)
        return atl_fail(err, ATL_E_IO, NULL, "cannot replace '%s': %s", path, strerror(errno));
    struct atl_directory *directory = atl_directory_new();
    atl_directory_keep(directory, path);
    bool good = true;
    size_t stores = 0;
    for (size_t i = 0; i < json_object_array_length(list) && good; i++) {
        const char *text = json_object_get_string(json_object_array_get_idx(list, i));
        good = text != NULL && feed(directory, text);
    }
    for (size_t i = 0; i < atl_directory_count(directory); i++)
        stores += atl_directory_key(directory, "config-store", atl_directory_at(directory, i)->node) != NULL;
    bool has_us = atl_directory_node(directory, joining->name) != NULL;
    atl_directory_free(&directory);
    if (!good || stores == 0 || !has_us)
        return atl_fail(err, ATL_E_STATE, NULL, "the answer names no node that could be asked");
    if (access(path, R_OK) != 0)
        return atl_fail(err, ATL_E_IO, NULL, "cannot write '%s'", path);
    (void)printf("'%s' is an associate; it knows %zu config-store%s\n", joining->name, stores,
                 stores == 1 ? "" : "s");
    return ATL_OK;
}

static enum atl_code join(struct joining *joining, const char *word, struct atl_error *err)
{
    struct json_object *data = NULL;
    enum atl_code code = cfg_join_token_read(word, &joining->word, err);
    if (code == ATL_OK && !cfg_address_towards(joining->word.endpoint, joining->address))
        code = atl_fail(err, ATL_E_UNAVAILABLE, NULL, "there is no way to %s", joining->word.endpoint);
    if (code == ATL_OK)
        code = make_key(joining, err);
    if (code == ATL_OK)
        code = ask(joining, &data, err);
    if (code == ATL_OK)
        code = keep(joining, data, err);
    json_object_put(data);
    return code;
}

static int refuse(void)
{
    (void)fputs(usage, stderr);
    return 2;
}

int main(int argc, char **argv)
{
    char host[HOST_NAME_MAX + 1] = "";
    struct joining joining = {.state_dir = "/var/lib/atoll", .name = host};
    struct atl_error error = {0};
    int at = 1;
    (void)gethostname(host, sizeof host - 1); /* "" is refused by the node */
    host[strcspn(host, ".")] = '\0';
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        if (strcmp(argv[at], "--state-dir") == 0)
            joining.state_dir = argv[at + 1];
        else if (strcmp(argv[at], "--node") == 0)
            joining.name = argv[at + 1];
        else
            return refuse();
    }
    if (at + 1 == argc && strcmp(argv[at], "--help") == 0)
        return fputs(usage, stdout) == EOF;
    if (at + 2 != argc || strcmp(argv[at], "join") != 0)
        return refuse();
    if (join(&joining, argv[at + 1], &error) == ATL_OK)
        return 0;
    (void)fprintf(stderr, "atoll-associate: %s\n", error.text);
    return 1;
}
