/* Small texts of a cluster. */
#include "core/cluster_conf.h"

#include <string.h>

#include "core/options.h"
#include "pure/format.h"

enum { QUOTA_BYTES_GIB = 2, SNAPSHOT_COUNT = 10000 };

static const char *const states[CFG_CLUSTER_STATES] = {
    [CFG_ALONE] = "alone", [CFG_MOVING] = "moving", [CFG_JOINING] = "joining", [CFG_MEMBER] = "member"};

const char *cfg_cluster_state_to_text(enum cfg_cluster_state state)
{
    atl_assert(state < CFG_CLUSTER_STATES);
    return states[state];
}

/* --- cluster.conf --- */

enum atl_code cfg_cluster_conf_read(const char *text, struct cfg_cluster_conf *ret_conf,
                                    struct atl_error *err)
{
    struct cfg_cluster_conf conf = {.state = CFG_CLUSTER_STATES};
    char state[32] = "";
    bool whole = cfg_line_value(text, "state", state, sizeof state) &&
                 cfg_line_value(text, "cluster", conf.cluster, sizeof conf.cluster) &&
                 cfg_line_value(text, "address", conf.address, sizeof conf.address) &&
                 cfg_line_value(text, "endpoints", conf.endpoints, sizeof conf.endpoints);
    for (enum cfg_cluster_state i = CFG_MOVING; i < CFG_CLUSTER_STATES; i++)
        if (strcmp(state, states[i]) == 0)
            conf.state = i;
    if (!whole || conf.state == CFG_CLUSTER_STATES || conf.endpoints[0] == '\0')
        return atl_fail(err, ATL_E_INVALID, NULL, "cluster.conf has no state, cluster, address or endpoints");
    *ret_conf = conf;
    return ATL_OK;
}

void cfg_cluster_conf_write(const struct cfg_cluster_conf *conf, struct atl_buf *out)
{
    atl_assert(conf->state != CFG_ALONE);
    atl_buf_printf(out, "state: %s\ncluster: %s\naddress: %s\nendpoints: %s\n", states[conf->state],
                   conf->cluster, conf->address, conf->endpoints);
}

/* --- addresses --- */

void cfg_endpoint_write(const char *address, unsigned int port, struct atl_buf *out)
{
    bool six = strchr(address, ':') != NULL;
    atl_buf_printf(out, six ? "[%s]:%u" : "%s:%u", address, port);
}

void cfg_etcd_peer_url(const char *address, struct atl_buf *out)
{
    atl_buf_text(out, "https://");
    cfg_endpoint_write(address, CFG_ETCD_PEER_PORT, out);
}

void cfg_cluster_endpoints(const struct cfg_corosync *corosync, const char *node, struct atl_buf *out)
{
    for (unsigned int others = 0; others < 2; others++)
        for (size_t i = 0; i < corosync->count; i++) {
            const struct cfg_corosync_node *one = &corosync->nodes[i];
            if (one->votes == 0 || (strcmp(one->name, node) != 0) != (others == 1))
                continue;
            if (out->length > 0)
                atl_buf_char(out, ',');
            cfg_endpoint_write(one->links[0], CFG_ETCD_CLIENT_PORT, out);
        }
    if (corosync->qdevice_host == NULL)
        return;
    if (out->length > 0)
        atl_buf_char(out, ',');
    cfg_endpoint_write(corosync->qdevice_host, CFG_ETCD_CLIENT_PORT, out);
}

bool cfg_address_valid(const char *address)
{
    if (strlen(address) >= CFG_ADDRESS_SIZE || strncmp(address, "127.", 4) == 0 ||
        strcmp(address, "::1") == 0)
        return false;
    return atl_format_ip(address, strlen(address));
}

/* --- etcd.yml --- */

static void write_tls(const char *dir, const char *section, struct atl_buf *out)
{
    atl_buf_printf(out,
                   "%s:\n  client-cert-auth: true\n  trusted-ca-file: '%s/ca.pem'\n  cert-file: "
                   "'%s/node.pem'\n  key-file: '%s/node.key'\n",
                   section, dir, dir, dir);
}

void cfg_etcd_yml_write(const struct cfg_etcd_place *place, struct atl_buf *out)
{
    struct atl_buf peer ATL_BUF_AT_EXIT = {0};
    struct atl_buf client ATL_BUF_AT_EXIT = {0};
    cfg_etcd_peer_url(place->address, &peer);
    atl_buf_text(&client, "https://");
    cfg_endpoint_write(place->address, CFG_ETCD_CLIENT_PORT, &client);
    atl_buf_printf(out, "name: '%s'\ndata-dir: '%s/data'\n", place->node, place->dir);
    atl_buf_printf(out, "listen-peer-urls: '%s'\ninitial-advertise-peer-urls: '%s'\n", peer.data, peer.data);
    atl_buf_printf(out, "listen-client-urls: '%s'\nadvertise-client-urls: '%s'\n", client.data, client.data);
    atl_buf_printf(out, "initial-cluster-token: 'atoll-%s'\n", place->cluster);
    if (place->members != NULL)
        atl_buf_printf(out, "initial-cluster: '%s'\ninitial-cluster-state: 'existing'\n", place->members);
    else
        atl_buf_printf(out, "initial-cluster: '%s=%s'\ninitial-cluster-state: 'new'\n", place->node,
                       peer.data);
    atl_buf_printf(
        out,
        "heartbeat-interval: %d\nelection-timeout: %d\npre-vote: true\nstrict-reconfig-check: true\n"
        "max-txn-ops: 1024\nmax-request-bytes: 8388608\nquota-backend-bytes: %" PRIu64
        "\nsnapshot-count: %d\nenable-v2: false\nlogger: zap\nlog-outputs: [stderr]\n",
        CFG_ETCD_HEARTBEAT_MS, CFG_ETCD_ELECTION_MS, (uint64_t)QUOTA_BYTES_GIB << 30, SNAPSHOT_COUNT);
    write_tls(place->dir, "client-transport-security", out);
    write_tls(place->dir, "peer-transport-security", out);
}

/* --- the join token --- */

/* The next part up to `end`, into a fixed array. */
static bool take_part(const char **text, char end, char *ret_part, size_t size)
{
    const char *stop = end != '\0' ? strchr(*text, end) : *text + strlen(*text);
    if (stop == NULL || stop == *text || (size_t)(stop - *text) >= size)
        return false;
    memcpy(ret_part, *text, (size_t)(stop - *text));
    ret_part[stop - *text] = '\0';
    *text = end != '\0' ? stop + 1 : stop;
    return true;
}

enum atl_code cfg_join_token_read(const char *text, struct cfg_join_token *ret_token, struct atl_error *err)
{
    struct cfg_join_token token = {.endpoint = ""};
    const char *at = text;
    if (!take_part(&at, '/', token.endpoint, sizeof token.endpoint) ||
        !take_part(&at, '/', token.fingerprint, sizeof token.fingerprint) ||
        !take_part(&at, '\0', token.secret, sizeof token.secret) || strchr(token.endpoint, ':') == NULL ||
        strlen(token.fingerprint) != CFG_FINGERPRINT_SIZE - 1 || strlen(token.secret) < CFG_JOIN_ID + 2 ||
        token.secret[CFG_JOIN_ID] != '.')
        return atl_fail(err, ATL_E_INVALID, "token",
                        "this is no join token: ADDRESS:PORT/FINGERPRINT/SECRET");
    *ret_token = token;
    return ATL_OK;
}

void cfg_join_token_write(const struct cfg_join_token *token, struct atl_buf *out)
{
    atl_buf_printf(out, "%s/%s/%s", token->endpoint, token->fingerprint, token->secret);
}
