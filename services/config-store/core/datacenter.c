/* datacenter.cfg as the API shows and changes it. */
#include "core/datacenter.h"

#include <string.h>

#include "atoll/cluster/v1/options.atl.h"
#include "pure/digest.h"

static const struct atl_message *const table = &atl_msg_cluster_v1_Datacenter;

/* Never fails: what cannot be read is kept as a line. */
static struct atl_section *read_file(const char *text, size_t size, struct atl_arena *arena)
{
    struct atl_section *sections = NULL;
    size_t count = 0;
    enum atl_code code = atl_guest_decode(table, text, size, arena, &sections, &count, NULL);
    if (code != ATL_OK || count == 0) {
        sections = atl_arena_new(arena, struct atl_section);
        *sections = (struct atl_section){.name = ""};
    }
    if (sections->message == NULL) {
        Atoll__Cluster__V1__Datacenter *none = atl_arena_new(arena, Atoll__Cluster__V1__Datacenter);
        atoll__cluster__v1__datacenter__init(none);
        sections->message = &none->base;
    }
    return sections;
}

Atoll__Cluster__V1__Datacenter *cfg_datacenter_read(const char *text, size_t size, struct atl_arena *arena)
{
    return (Atoll__Cluster__V1__Datacenter *)read_file(text, size, arena)->message;
}

void cfg_datacenter_reduce(Atoll__Cluster__V1__Datacenter *options)
{
    Atoll__Cluster__V1__Datacenter seen = ATOLL__CLUSTER__V1__DATACENTER__INIT;
    seen.console = options->console;
    seen.consent_text = options->consent_text;
    seen.tag_style = options->tag_style;
    seen.user_tag_access = options->user_tag_access;
    seen.registered_tags = options->registered_tags;
    *options = seen;
}

/* Each that is named by `delete`, comma or blank between them. */
static void take_away(struct atl_section *section, const char *list, struct atl_arena *arena,
                      struct atl_errors *errors)
{
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ",; ");
        size_t length = strcspn(at, ",; ");
        const char *name = atl_arena_strndup(arena, at, length);
        at += length;
        if (length == 0)
            continue;
        bool unread = atl_section_take(section, name) != NULL;
        if (!unread && atl_message_field(table, name) == NULL)
            atl_errors_add(errors, "delete", "unknown option '%s'", name);
        else
            (void)atl_message_clear(table, section->message, name);
    }
}

/* What can be told by more than one parameter. */
static void check(const Atoll__Cluster__V1__Datacenter *options, struct atl_errors *errors)
{
    static const Atoll__Cluster__V1__NextIdOptions all = ATOLL__CLUSTER__V1__NEXT_ID_OPTIONS__INIT;
    const Atoll__Cluster__V1__NextIdOptions *range = options->next_id != NULL ? options->next_id : &all;
    uint32_t lower = range->has_lower ? range->lower : 100;
    uint32_t upper = range->has_upper ? range->upper : 1000000;
    if (lower >= upper)
        atl_errors_add(errors, "next-id", "lower=%u is not below upper=%u", lower, upper);
}

/* A line that could not be read is replaced by what is given for it. */
static void forget_unread(struct atl_section *section, const ProtobufCMessage *given)
{
    for (size_t i = section->unknown_count; i-- > 0;)
        if (atl_message_given(table, given, section->unknown[i].key))
            (void)atl_section_take(section, section->unknown[i].key);
}

enum atl_code cfg_datacenter_change(const char *text, size_t size,
                                    const Atoll__Cluster__V1__SetOptionsRequest *wish,
                                    struct atl_arena *arena, struct atl_buf *out, struct atl_errors *errors,
                                    struct atl_error *err)
{
    char digest[ATL_DIGEST_SIZE];
    atl_digest(text, size, digest);
    enum atl_code code = atl_digest_check(digest, wish->digest, err);
    if (code != ATL_OK)
        return code;
    struct atl_section *section = read_file(text, size, arena);
    const Atoll__Cluster__V1__Datacenter *given = wish->options;
    if (given != NULL && given->fencing != NULL && strcmp(given->fencing, "hardware") == 0)
        return atl_fail(err, ATL_E_UNIMPLEMENTED, "fencing", "fencing without watchdogs is not built");
    if (wish->delete_ != NULL)
        take_away(section, wish->delete_, arena, errors);
    if (given != NULL) {
        forget_unread(section, &given->base);
        atl_message_merge(table, section->message, &given->base, arena);
    }
    check((const Atoll__Cluster__V1__Datacenter *)section->message, errors);
    if (errors->count > 0)
        return atl_fail(err, ATL_E_INVALID, NULL, "%s", errors->items[0].text);
    atl_guest_encode(table, section, 1, out);
    return ATL_OK;
}
