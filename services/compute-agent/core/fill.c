/* What a new virtual machine gets beside what was asked for: addresses, ids, boot order. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "core/config.h"
#include "core/domxml.h"

void cmp_uuid(const uint8_t random[16], char uuid[CMP_UUID_SIZE])
{
    uint8_t b[16];
    memcpy(b, random, sizeof b);
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    (void)snprintf(uuid, CMP_UUID_SIZE,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
                   b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

/* The prefix may have one to five bytes; what is missing is random. */
static const char *mac_make(const char *prefix, const uint8_t random[3], struct atl_arena *arena)
{
    unsigned int bytes[6] = {0xbc, 0x24, 0x11, random[0], random[1], random[2]};
    if (prefix != NULL)
        (void)sscanf(prefix, "%2x:%2x:%2x:%2x:%2x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4]);
    bytes[0] &= 0xfeU; /* an address of one machine, not of a group */
    return atl_arena_format(arena, "%02X:%02X:%02X:%02X:%02X:%02X", bytes[0], bytes[1], bytes[2], bytes[3],
                            bytes[4], bytes[5]);
}

void cmp_fill_macs(Atoll__Qemu__V1__Config *config, const uint8_t *random, const char *mac_prefix,
                   struct atl_arena *arena)
{
    for (size_t i = 0; i < config->n_net; i++) {
        Atoll__Qemu__V1__NetSlot *slot = config->net[i];
        if (slot->value == NULL)
            continue;
        if (slot->value->macaddr == NULL) {
            const char *mac = mac_make(mac_prefix, random + 3 * (size_t)(slot->index % 32), arena);
            slot->value->macaddr = atl_arena_strdup(arena, mac);
        }
        for (char *at = slot->value->macaddr; *at != '\0'; at++)
            *at = (char)toupper((unsigned char)*at);
    }
}

static void fill_smbios(Atoll__Qemu__V1__Config *config, const uint8_t *random, struct atl_arena *arena)
{
    if (config->smbios1 == NULL) {
        config->smbios1 = atl_arena_new(arena, Atoll__Qemu__V1__Smbios1);
        atoll__qemu__v1__smbios1__init(config->smbios1);
    }
    if (config->smbios1->uuid == NULL) {
        char uuid[CMP_UUID_SIZE];
        cmp_uuid(random, uuid);
        config->smbios1->uuid = atl_arena_strdup(arena, uuid);
    }
}

void cmp_fill_birth(struct cmp_file *file, const struct cmp_birth *birth)
{
    atl_assert(birth->random != NULL);
    Atoll__Qemu__V1__Config *config = file->main->config;
    struct atl_arena *arena = file->arena;
    cmp_fill_macs(config, birth->random, birth->mac_prefix, arena);
    fill_smbios(config, birth->random + 96, arena);
    if (config->vmgenid == NULL || strcmp(config->vmgenid, "1") == 0) {
        char uuid[CMP_UUID_SIZE];
        cmp_uuid(birth->random + 112, uuid);
        config->vmgenid = atl_arena_strdup(arena, uuid);
    }
    if (config->boot == NULL) {
        config->boot = atl_arena_new(arena, Atoll__Qemu__V1__Boot);
        atoll__qemu__v1__boot__init(config->boot);
        config->boot->order = atl_arena_strdup(arena, cmp_boot_default(config, arena));
    }
    Atoll__Qemu__V1__MetaProperty *meta = atl_arena_new(arena, Atoll__Qemu__V1__MetaProperty);
    atoll__qemu__v1__meta_property__init(meta);
    meta->creation_qemu = atl_arena_strdup(arena, birth->qemu_version);
    meta->has_ctime = true;
    meta->ctime = birth->now;
    file->main->state->meta = meta;
}
