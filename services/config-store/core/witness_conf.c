/* witness.conf of a witness. */
#include "core/witness_conf.h"

#include <string.h>

#include "core/options.h"
#include "pure/number.h"

enum { LINE_SIZE = 32 };

enum atl_code cfg_witness_conf_read(const char *text, struct cfg_witness_conf *ret_conf,
                                    struct atl_error *err)
{
    struct cfg_witness_conf conf = {.phase = CFG_ROTATION_DONE};
    char generation[LINE_SIZE] = "";
    char phase[LINE_SIZE] = "";
    bool whole = cfg_line_value(text, "cluster", conf.cluster, sizeof conf.cluster) &&
                 cfg_line_value(text, "address", conf.address, sizeof conf.address) &&
                 cfg_line_value(text, "generation", generation, sizeof generation) &&
                 cfg_line_value(text, "phase", phase, sizeof phase) &&
                 cfg_line_value(text, "gateways", conf.gateways, sizeof conf.gateways) &&
                 atl_uint_from_text(generation, &conf.generation);
    (void)cfg_line_value(text, "word", conf.word, sizeof conf.word); /* of later than the rest */
    for (enum cfg_rotation_phase i = CFG_ROTATION_SPREAD; i < CFG_ROTATION_PHASES; i++)
        if (strcmp(phase, cfg_rotation_phase_to_text(i)) == 0)
            conf.phase = i;
    if (!whole || conf.phase == CFG_ROTATION_DONE || conf.cluster[0] == '\0' ||
        !cfg_address_valid(conf.address))
        return atl_fail(err, ATL_E_INVALID, NULL,
                        "witness.conf has no cluster, address, generation, phase or gateways");
    *ret_conf = conf;
    return ATL_OK;
}

void cfg_witness_conf_write(const struct cfg_witness_conf *conf, struct atl_buf *out)
{
    atl_assert(conf->phase != CFG_ROTATION_DONE);
    atl_buf_printf(out, "cluster: %s\naddress: %s\ngeneration: %" PRIu64 "\nphase: %s\ngateways: %s\n",
                   conf->cluster, conf->address, conf->generation, cfg_rotation_phase_to_text(conf->phase),
                   conf->gateways);
    if (conf->word[0] != '\0')
        atl_buf_printf(out, "word: %s\n", conf->word);
}

enum atl_code cfg_witness_gateway(const struct cfg_witness_conf *conf, size_t i,
                                  struct cfg_gateway *ret_gateway, struct atl_error *err)
{
    struct cfg_gateway gateway;
    size_t count = 1;
    const char *at = conf->gateways;
    for (const char *comma = strchr(at, ','); comma != NULL; comma = strchr(comma + 1, ','))
        count++;
    for (i %= count; i > 0; i--)
        at = strchr(at, ',') + 1;
    size_t length = strcspn(at, ",");
    const char *slash = memchr(at, '/', length);
    size_t endpoint = slash != NULL ? (size_t)(slash - at) : length;
    size_t fingerprint = slash != NULL ? length - endpoint - 1 : 0;
    if (endpoint == 0 || endpoint >= sizeof gateway.endpoint || fingerprint != sizeof gateway.fingerprint - 1)
        return atl_fail(err, ATL_E_INVALID, NULL, "witness.conf names no gateway");
    memcpy(gateway.endpoint, at, endpoint);
    gateway.endpoint[endpoint] = '\0';
    memcpy(gateway.fingerprint, slash + 1, fingerprint);
    gateway.fingerprint[fingerprint] = '\0';
    *ret_gateway = gateway;
    return ATL_OK;
}
