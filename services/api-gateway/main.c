/* atoll-api-gateway: options in, parts built, loop run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cert.h"
#include "cluster.h"
#include "gw.h"
#include "io/log.h"
#include "io/service.h"

#define DRAIN_TIME (5 * ATL_SECOND) /* for requests in flight, when the gateway is told to end */

static const char *listen_at = "[::]:8006";
static const char *cert_file; /* default: STATE/gateway/cert.pem */
static const char *key_file;
static const char *openapi_file = "/usr/share/atoll/openapi.json";
static const char *connections = "8192";
static const char *per_address = "0";
static bool associate;

struct program {
    struct gw *gw;
    struct gw_http *http;
    struct gw_cluster *cluster;
    char *cert_file;
    char *key_file;
};

static void stop(void *self)
{
    struct program *program = self;
    if (program == NULL)
        return;
    if (program->http != NULL)
        gw_http_drain(program->http, DRAIN_TIME);
    gw_http_free(program->http);
    gw_free(program->gw);
    gw_cluster_close(&program->cluster);
    free(program->cert_file);
    free(program->key_file);
    free(program);
}

static enum atl_code number(const char *name, const char *text, size_t *ret_number, struct atl_error *err)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 6 || text[digits] != '\0')
        return atl_fail(err, ATL_E_INVALID, name, "--%s: '%s' is not a number up to 999999", name, text);
    *ret_number = strtoul(text, NULL, 10);
    return ATL_OK;
}

/* A first start has no certificate yet: one is made for the names that clients on this machine use. */
static enum atl_code settle_cert(struct program *program, const struct atl_program *base,
                                 struct atl_error *err)
{
    program->cert_file =
        cert_file != NULL ? atl_strdup(cert_file) : atl_format("%s/gateway/cert.pem", base->state_dir);
    program->key_file =
        key_file != NULL ? atl_strdup(key_file) : atl_format("%s/gateway/key.pem", base->state_dir);
    if (access(program->cert_file, F_OK) == 0 || access(program->key_file, F_OK) == 0)
        return ATL_OK;
    ATL_FREE_AT_EXIT char *names = atl_format("%s,localhost,127.0.0.1,::1", base->node);
    enum atl_code code = gw_cert_make(names, program->cert_file, program->key_file, err);
    if (code == ATL_OK)
        atl_log(ATL_NOTICE, "certificate-made", "made a self-signed certificate, '%s'", program->cert_file);
    return code;
}

static enum atl_code listen_all(struct gw_http *http, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *all = atl_strdup(listen_at);
    char *rest = all;
    for (const char *one = strsep(&rest, ","); one != NULL; one = strsep(&rest, ",")) {
        uint16_t port = 0;
        enum atl_code code = gw_http_listen(http, one, &port, err);
        if (code != ATL_OK)
            return code;
        atl_log(ATL_INFO, "listening", "listening at %s, port %u", one, port);
    }
    return ATL_OK;
}

static enum atl_code start(struct atl_program *base, void **ret_self, struct atl_error *err)
{
    struct program *program = atl_new0(struct program);
    *ret_self = program;
    struct gw_http_options options = {.loop = base->loop};
    enum atl_code code = number("connections", connections, &options.connections_max, err);
    if (code == ATL_OK)
        code = number("connections-per-address", per_address, &options.connections_per_address, err);
    if (code == ATL_OK)
        code = settle_cert(program, base, err);
    if (code != ATL_OK)
        return code;
    ATL_FREE_AT_EXIT char *dir = atl_format("%s/gateway", base->state_dir);
    program->cluster = gw_cluster_open(&(const struct gw_cluster_options){
        .bus = base->bus, .directory = base->directory, .dir = dir, .associate = associate});
    program->gw = gw_new(&(struct gw_options){.loop = base->loop,
                                              .bus = base->bus,
                                              .node = base->node,
                                              .directory = base->directory,
                                              .associate = associate,
                                              .openapi_file = openapi_file,
                                              .refusal_delay = 3 * ATL_SECOND},
                         atl_contract);
    options.cert_file = program->cert_file;
    options.key_file = program->key_file;
    options.handler = gw_handler(program->gw);
    code = gw_http_new(&options, &program->http, err);
    return code == ATL_OK ? listen_all(program->http, err) : code;
}

/* atoll-api-gateway --make-cert NAMES --cert FILE --key FILE */
static int make_cert(int argc, char **argv)
{
    struct atl_error err = {0};
    if (argc != 7 || strcmp(argv[3], "--cert") != 0 || strcmp(argv[5], "--key") != 0) {
        (void)fprintf(stderr, "usage: atoll-api-gateway --make-cert NAME[,NAME...] --cert FILE --key FILE\n");
        return 2;
    }
    if (gw_cert_make(argv[2], argv[4], argv[6], &err) == ATL_OK)
        return 0;
    (void)fprintf(stderr, "atoll-api-gateway: %s\n", err.text);
    return 1;
}

int main(int argc, char **argv)
{
    const struct atl_program_option options[] = {
        {"listen", "HOST:PORT,...", "where to listen (default [::]:8006)", &listen_at, NULL},
        {"cert", "FILE", "certificate chain, PEM (default STATE/gateway/cert.pem)", &cert_file, NULL},
        {"key", "FILE", "its key, PEM (default STATE/gateway/key.pem)", &key_file, NULL},
        {"openapi", "FILE", "description of the API, served as /openapi.json", &openapi_file, NULL},
        {"connections", "NUMBER", "most connections at a time (default 8192)", &connections, NULL},
        {"connections-per-address", "NUMBER", "most of one address (default: half of them)", &per_address,
         NULL},
        {"associate", NULL, "this host is no node: all is asked of the nodes of the cluster that admitted it",
         NULL, &associate},
    };
    if (argc > 1 && strcmp(argv[1], "--make-cert") == 0)
        return make_cert(argc, argv);
    return atl_program_main(&(const struct atl_program_spec){.name = "api-gateway",
                                                             .summary = "REST over HTTPS for a node",
                                                             .options = options,
                                                             .option_count = ATL_COUNT(options),
                                                             .start = start,
                                                             .stop = stop},
                            argc, argv);
}
