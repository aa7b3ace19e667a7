/* The realms that users log in with. */
#include "core/realms.h"

#include <string.h>

#include "atoll/access/v1/access.atl.h"
#include "pure/codec.h"

static const struct {
    const char *name; /* and type */
    const char *comment;
} builtin[CFG_REALMS] = {{"pam", "Linux PAM standard authentication"},
                         {"pve", "Atoll authentication server"}};

static Atoll__Access__V1__DomainsRow *new_row(size_t which, struct atl_arena *arena)
{
    Atoll__Access__V1__DomainsRow *row = atl_arena_new(arena, Atoll__Access__V1__DomainsRow);
    atoll__access__v1__domains_row__init(row);
    row->realm = atl_arena_strdup(arena, builtin[which].name);
    row->type = atl_arena_strdup(arena, builtin[which].name);
    row->comment = atl_arena_strdup(arena, builtin[which].comment);
    return row;
}

static enum atl_code take_section(const Atoll__Access__V1__DomainsRow *section,
                                  Atoll__Access__V1__DomainsRow *rows[CFG_REALMS], struct atl_error *err)
{
    for (size_t i = 0; i < CFG_REALMS; i++) {
        bool type = section->type != NULL && strcmp(section->type, builtin[i].name) == 0;
        bool name = section->realm != NULL && strcmp(section->realm, builtin[i].name) == 0;
        if (type != name)
            return atl_fail(
                err, ATL_E_INVALID, NULL, "domains.cfg cannot be read: realm '%s' cannot be of type '%s'",
                section->realm != NULL ? section->realm : "", section->type != NULL ? section->type : "");
        if (!type)
            continue;
        if (section->comment != NULL)
            rows[i]->comment = section->comment;
        rows[i]->tfa = section->tfa;
        rows[i]->has_default_ = section->has_default_;
        rows[i]->default_ = section->default_;
    }
    return ATL_OK;
}

enum atl_code cfg_realms_read(const char *text, size_t length, struct atl_arena *arena,
                              Atoll__Access__V1__DomainsRow *ret_rows[CFG_REALMS], struct atl_error *err)
{
    struct atl_errors *errors = atl_arena_new(arena, struct atl_errors);
    struct atl_section *sections = NULL;
    size_t count = 0;
    enum atl_code code = ATL_OK;
    Atoll__Access__V1__DomainsRow *rows[CFG_REALMS];
    for (size_t i = 0; i < CFG_REALMS; i++)
        rows[i] = new_row(i, arena);
    if (length > 0)
        code = atl_sections_decode(&atl_msg_access_v1_DomainsRow, "type", "realm", text, length, arena,
                                   &sections, &count, errors);
    if (code != ATL_OK || errors->count > 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "domains.cfg cannot be read: %s%s%s",
                        errors->count > 0 ? errors->items[0].field : "", errors->count > 0 ? ": " : "",
                        errors->count > 0 ? errors->items[0].text : "it is no section file");
    for (size_t i = 0; i < count && code == ATL_OK; i++)
        code = take_section((const void *)sections[i].message, rows, err);
    if (code == ATL_OK)
        memcpy(ret_rows, rows, sizeof rows);
    return code;
}
