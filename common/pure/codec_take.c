/* Text into fields: what parameters, property strings and configuration text have in common. */
#include <string.h>

#include "pure/codec_fields.h"

static const char *const not_defined =
    "property is not defined in schema and the schema does not allow additional properties";

/* A required number or boolean has no sign of presence in memory. */
static bool needs_mark(const ProtobufCMessage *message, const struct atl_field *field)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    return fd->label == PROTOBUF_C_LABEL_REQUIRED && fd->type != PROTOBUF_C_TYPE_STRING &&
           fd->type != PROTOBUF_C_TYPE_MESSAGE;
}

static bool is_marked(const struct codec_reader *reader, const ProtobufCMessage *message,
                      const struct atl_field *field)
{
    for (size_t i = reader->seen_count; i > 0; i--)
        if (reader->seen[i - 1].field == field && reader->seen[i - 1].message == message)
            return true;
    return false;
}

static bool is_given(const struct codec_reader *reader, const ProtobufCMessage *message,
                     const struct atl_field *field)
{
    return needs_mark(message, field) ? is_marked(reader, message, field) : codec_count(message, field) > 0;
}

static void mark(struct codec_reader *reader, const ProtobufCMessage *message, const struct atl_field *field)
{
    reader->seen = atl_arena_grow(reader->arena, reader->seen, reader->seen_count, &reader->seen_capacity,
                                  sizeof *reader->seen);
    reader->seen[reader->seen_count++] = (struct codec_seen){.message = message, .field = field};
}

static ProtobufCMessage *take_property(struct codec_reader *reader, const struct atl_field *field,
                                       const char *name, const char *text)
{
    struct codec_reader inner = {
        .arena = reader->arena,
        .faults = {.errors = reader->faults.errors,
                   .outer = reader->faults.outer == NULL ? name : reader->faults.outer},
        .in_property = true,
    };
    ProtobufCMessage *message = codec_property_read(&inner, field->sub, text);
    reader->faults.count += inner.faults.count;
    return inner.faults.count == 0 ? message : NULL;
}

static void take_value(struct codec_reader *reader, ProtobufCMessage *message, const struct atl_field *field,
                       const char *name, const char *text)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    if (field->sub != NULL && field->sub->style == ATL_STYLE_PROPERTY) {
        ProtobufCMessage *value = take_property(reader, field, name, text);
        if (value != NULL)
            *(ProtobufCMessage **)codec_add(message, field, reader->arena) = value;
        return;
    }
    union {
        int64_t whole;
        double number;
        char *text;
        ProtobufCBinaryData bytes;
    } value;
    const char *wrong = codec_value_from_text(fd, text, reader->arena, &value);
    if (wrong != NULL) {
        codec_fault(&reader->faults, name, "%s - got %s", wrong, codec_quoted(field, text).text);
        return;
    }
    size_t size = fd->type == PROTOBUF_C_TYPE_BYTES ? sizeof value.bytes : 8;
    void *place = codec_add(message, field, reader->arena);
    if (codec_value_is_small(fd))
        size = 4;
    memcpy(place, &value, size);
    if (needs_mark(message, field))
        mark(reader, message, field);
}

static void take_list(struct codec_reader *reader, ProtobufCMessage *message, const struct atl_field *field,
                      const char *name, const char *text)
{
    char *copy = atl_arena_strdup(reader->arena, text);
    for (char *at = copy; *at != '\0';) {
        if (codec_count(message, field) == CODEC_ITEMS_MAX) {
            codec_fault(&reader->faults, name, "the list has more than %d items", CODEC_ITEMS_MAX);
            return;
        }
        char *item = at;
        while (*at != '\0' && !codec_is_separator(*at))
            at++;
        bool more = *at != '\0';
        *at = '\0';
        if (at > item)
            take_value(reader, message, field, name, item);
        at += more;
    }
}

static void take_slot(struct codec_reader *reader, const struct codec_place *place, const char *name,
                      const char *text)
{
    const struct atl_field *numbered = place->field;
    if (codec_slot_find(place->holder, numbered, place->slot) != NULL) {
        codec_fault(&reader->faults, name, "duplicate parameter");
        return;
    }
    ProtobufCMessage *slot = codec_new(numbered->sub, reader->arena);
    const struct atl_field *index = codec_slot_index_field(numbered);
    void *number = codec_add(slot, index, reader->arena);
    if (codec_value_is_small(codec_fd(slot, index)))
        *(uint32_t *)number = place->slot;
    else
        *(uint64_t *)number = place->slot;
    size_t faults = reader->faults.count;
    take_value(reader, slot, codec_slot_value_field(numbered), name, text);
    if (reader->faults.count == faults)
        codec_slot_insert(place->holder, numbered, slot, reader->arena);
}

void codec_take(struct codec_reader *reader, const struct codec_place *place, const char *name,
                const char *text)
{
    const struct atl_field *field = place->field;
    atl_assert(place->holder != NULL);
    if ((field->flags & ATL_F_NUMBERED) != 0)
        take_slot(reader, place, name, text);
    else if (!codec_is_list(field) && is_given(reader, place->holder, field))
        codec_fault(&reader->faults, name, "duplicate parameter");
    else if (codec_is_list(field) && field->separator != '\0')
        take_list(reader, place->holder, field, name, text);
    else
        take_value(reader, place->holder, field, name, text);
}

void codec_check_required(struct codec_reader *reader, const struct atl_message *table,
                          const ProtobufCMessage *message)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_INLINE) != 0 && !codec_is_list(field)) {
            const ProtobufCMessage *inner = codec_inlined(message, field);
            if (inner != NULL)
                codec_check_required(reader, field->sub, inner);
        } else if ((field->flags & ATL_F_REQUIRED) != 0 && !is_given(reader, message, field)) {
            codec_fault(&reader->faults, field->name, "property is missing and it is not optional");
        }
    }
}

/* --- property strings -------------------------------------------------------------------------------- */

static bool find_default_key(const struct atl_message *table, const ProtobufCMessage *message,
                             struct codec_place *ret_place)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_INLINE) != 0) {
            const ProtobufCMessage *inner = codec_inlined(message, field);
            if (inner != NULL && find_default_key(field->sub, inner, ret_place))
                return true;
        } else if ((field->flags & ATL_F_DEFAULT_KEY) != 0) {
            *ret_place = (struct codec_place){.field = field, .holder = codec_at(message, 0)};
            return true;
        }
    }
    return false;
}

bool codec_in_set(const struct atl_field *field, const char *value)
{
    for (const char *const *known = field->values; known != NULL && *known != NULL; known++)
        if (strcmp(*known, value) == 0)
            return true;
    return false;
}

/* `virtio=BC:24:11:00:00:01`: the key is a value of one field, the value belongs to another. */
static bool take_key_alias(struct codec_reader *reader, const struct atl_message *table,
                           const ProtobufCMessage *message, const char *key, const char *value)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        struct codec_place other;
        if (field->key_alias == NULL || !codec_in_set(field, key) ||
            !codec_find(table, message, field->key_alias, &other))
            continue;
        struct codec_place place = {.field = field, .holder = codec_at(message, 0)};
        codec_take(reader, &place, field->name, key);
        codec_take(reader, &other, other.field->name, value);
        return true;
    }
    return false;
}

/* Blanks at the ends of a part or a value carry nothing, and would be lost at the end of a line. */
static char *trimmed(char *text)
{
    text += strspn(text, CODEC_BLANKS);
    size_t length = strlen(text);
    while (length > 0 && codec_is_blank(text[length - 1]))
        length--;
    text[length] = '\0';
    return text;
}

static void take_part(struct codec_reader *reader, const struct atl_message *table,
                      const ProtobufCMessage *message, char *part)
{
    struct codec_place place;
    char *equals = strchr(part, '=');
    if (equals != NULL) {
        *equals = '\0';
        part = trimmed(part);
        const char *value = trimmed(equals + 1);
        if (codec_find(table, message, part, &place))
            codec_take(reader, &place, part, value);
        else if (!take_key_alias(reader, table, message, part, value))
            codec_fault(&reader->faults, codec_quoted(NULL, part).text, "%s", not_defined);
    } else if (find_default_key(table, message, &place)) {
        codec_take(reader, &place, place.field->name, part);
    } else {
        codec_fault(&reader->faults, "", "value without key, but schema does not define a default key");
    }
}

ProtobufCMessage *codec_property_read(struct codec_reader *reader, const struct atl_message *table,
                                      const char *text)
{
    ProtobufCMessage *message = codec_new(table, reader->arena);
    char *part = atl_arena_strdup(reader->arena, text);
    for (size_t parts = 0; part != NULL; parts++) {
        if (parts == CODEC_PARTS_MAX) {
            codec_fault(&reader->faults, "", "there are more than %d parts", CODEC_PARTS_MAX);
            break;
        }
        char *comma = strchr(part, ',');
        if (comma != NULL)
            *comma = '\0';
        part = trimmed(part);
        if (part[0] != '\0')
            take_part(reader, table, message, part);
        part = comma == NULL ? NULL : comma + 1;
    }
    codec_check_required(reader, table, message);
    return message;
}

enum atl_code atl_property_decode(const struct atl_message *table, const char *text, const char *field,
                                  struct atl_arena *arena, ProtobufCMessage **ret_message,
                                  struct atl_errors *errors)
{
    struct codec_reader reader = {
        .arena = arena, .faults = {.errors = errors, .outer = field}, .in_property = true};
    ProtobufCMessage *message = codec_property_read(&reader, table, text);
    if (reader.faults.count > 0)
        return ATL_E_INVALID;
    *ret_message = message;
    return ATL_OK;
}
