/* The settings of high availability. */
#include "ha/settings.h"

#include <string.h>

#include "atoll/ha/v1/ha.atl.h"
#include "ha/times.h"
#include "pure/codec.h"

/* The value of the next line `name: value`, and its size; NULL: there is none. *at goes behind that line. */
static const char *next_value(const char **at, const char *name, size_t *ret_size)
{
    size_t length = strlen(name);
    while (**at != '\0') {
        const char *line = *at;
        size_t size = strcspn(line, "\n");
        *at += size + (line[size] == '\n');
        if (size > length && strncmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1 + strspn(line + length + 1, " \t");
            *ret_size = (size_t)(line + size - value);
            return value;
        }
    }
    return NULL;
}

/* A property string behind `name:` in datacenter.cfg, or NULL. */
static const ProtobufCMessage *option(const char *text, const char *name, const struct atl_message *table,
                                      struct atl_arena *arena)
{
    const char *value = NULL;
    size_t size = 0;
    while ((value = next_value(&text, name, &size)) != NULL) {
        struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
        ProtobufCMessage *message = NULL;
        enum atl_code code =
            atl_property_decode(table, atl_arena_strndup(arena, value, size), name, arena, &message, errors);
        if (code == ATL_OK)
            code = atl_validate(table, message, errors);
        if (code == ATL_OK || code == ATL_E_UNIMPLEMENTED) /* the rest of the line still counts */
            return message;
    }
    return NULL;
}

/* Is the first line with that name `name: wanted`? */
static bool says(const char *text, const char *name, const char *wanted)
{
    size_t size = 0;
    const char *value = next_value(&text, name, &size);
    return value != NULL && size == strlen(wanted) && strncmp(value, wanted, size) == 0;
}

Atoll__Ha__V1__Settings *atl_ha_settings(const char *file, struct atl_arena *arena)
{
    const char *text = file != NULL ? file : "";
    const Atoll__Ha__V1__HaOptions *ha = (const void *)option(text, "ha", &atl_msg_ha_v1_HaOptions, arena);
    const Atoll__Ha__V1__CrsOptions *crs =
        (const void *)option(text, "crs", &atl_msg_ha_v1_CrsOptions, arena);
    Atoll__Ha__V1__Settings *settings = atl_arena_new(arena, Atoll__Ha__V1__Settings);
    atoll__ha__v1__settings__init(settings);
    settings->has_tick_ms = true;
    settings->tick_ms = ha != NULL && ha->has_tick ? ha->tick : ATL_HA_TICK_MS;
    settings->shutdown_policy = atl_arena_strdup(
        arena, ha != NULL && ha->shutdown_policy != NULL ? ha->shutdown_policy : "conditional");
    settings->rebalance = atl_arena_strdup(arena, "off");
    settings->has_watchdogs_alone = settings->watchdogs_alone = says(text, "fencing", "watchdog");
    if (crs == NULL)
        return settings;
    settings->has_rebalance_on_start = crs->has_ha_rebalance_on_start;
    settings->rebalance_on_start = crs->ha_rebalance_on_start;
    if (crs->rebalance != NULL)
        settings->rebalance = crs->rebalance;
    else if (crs->ha_auto_rebalance)
        settings->rebalance = atl_arena_strdup(arena, "act");
    settings->has_moves_per_hour = crs->has_moves_per_hour;
    settings->moves_per_hour = crs->moves_per_hour;
    return settings;
}
