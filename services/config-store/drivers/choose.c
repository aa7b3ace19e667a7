/* Which engine the command line asks for. */
#include "drivers/choose.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static enum atl_code split_endpoints(const char *list, struct cfg_engine_chosen *chosen,
                                     struct atl_error *err)
{
    if (list == NULL || !atl_copy(chosen->text, sizeof chosen->text, list))
        return atl_fail(err, ATL_E_INVALID, "etcd", "the engine etcd needs the addresses of its members");
    char *rest = chosen->text;
    for (char *one = strsep(&rest, ","); one != NULL; one = strsep(&rest, ",")) {
        if (chosen->options.endpoint_count == ATL_GRPC_ENDPOINTS_MAX)
            return atl_fail(err, ATL_E_INVALID, "etcd", "at most %d members", ATL_GRPC_ENDPOINTS_MAX);
        chosen->endpoints[chosen->options.endpoint_count++] = one;
    }
    chosen->options.endpoints = chosen->endpoints;
    return ATL_OK;
}

static enum atl_code take_quota(const char *text, uint64_t *ret_bytes, struct atl_error *err)
{
    char *end = NULL;
    unsigned long long bytes = strtoull(text, &end, 10);
    if (text[0] < '1' || text[0] > '9' || *end != '\0' || bytes > (uint64_t)1 << 40)
        return atl_fail(err, ATL_E_INVALID, "etcd-quota", "'%s' is no number of bytes", text);
    *ret_bytes = bytes;
    return ATL_OK;
}

static enum atl_code choose_etcd(const struct cfg_engine_choice *choice, struct cfg_engine_chosen *chosen,
                                 struct atl_error *err)
{
    enum atl_code code = split_endpoints(choice->endpoints, chosen, err);
    if (code == ATL_OK && choice->quota != NULL)
        code = take_quota(choice->quota, &chosen->options.quota_bytes, err);
    if (code != ATL_OK)
        return code;
    bool pair = choice->cert_file != NULL && choice->key_file != NULL;
    if (choice->ca_file != NULL) {
        if (!pair)
            return atl_fail(err, ATL_E_INVALID, "etcd-cert", "certificate and key are needed for TLS");
        chosen->tls = (struct atl_grpc_tls){
            .ca_file = choice->ca_file, .cert_file = choice->cert_file, .key_file = choice->key_file};
        chosen->options.tls = &chosen->tls;
    }
    if (getrandom(&chosen->options.seed, sizeof chosen->options.seed, 0) < 0)
        chosen->options.seed = (uint64_t)atl_clock_monotonic(); /* only spreads reconnects */
    chosen->options.seal_key = choice->seal_key;
    chosen->options.home = choice->home;
    chosen->shared = &cfg_shared_etcd;
    return ATL_OK;
}

enum atl_code cfg_engine_choose(const struct cfg_engine_choice *choice, struct atl_loop *loop,
                                struct cfg_engine_chosen *ret_chosen, struct atl_error *err)
{
    *ret_chosen = (struct cfg_engine_chosen){.options = {.loop = loop}};
    if (strcmp(choice->kind, cfg_shared_etcd.kind) == 0)
        return choose_etcd(choice, ret_chosen, err);
    ret_chosen->driver = cfg_engine_find(choice->kind);
    if (ret_chosen->driver == NULL)
        return atl_fail(err, ATL_E_INVALID, "engine", "'%s' is no engine; there are sqlite, etcd and memory",
                        choice->kind);
    return ATL_OK;
}
