/* Parameters of REST: forms, messages out of parameters and back. */
#include <stdio.h>
#include <string.h>

#include "pure/codec_fields.h"
#include "pure/number.h"
#include "pure/utf8.h"

/* --- forms ------------------------------------------------------------------------------------------- */

/* Decodes %XX and + into the arena; NULL when an escape is bad or gives a NUL. */
static char *unescape(const char *text, size_t length, struct atl_arena *arena, size_t *ret_length)
{
    char *plain = atl_arena_alloc(arena, length + 1);
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            int high = length - i > 2 ? atl_hex_value(text[i + 1]) : -1;
            int low = length - i > 2 ? atl_hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return NULL;
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0')
            return NULL;
        plain[used++] = c;
    }
    *ret_length = used;
    return plain;
}

static enum atl_code form_pair(const char *pair, size_t length, struct atl_arena *arena,
                               struct atl_param *ret_param, struct atl_error *err)
{
    const char *equals = memchr(pair, '=', length);
    size_t name_length = equals == NULL ? length : (size_t)(equals - pair);
    size_t value_length = equals == NULL ? 0 : length - name_length - 1;
    size_t plain_length = 0;
    char *name = unescape(pair, name_length, arena, &plain_length);
    if (name == NULL || !atl_utf8_valid(name, plain_length))
        return atl_fail(err, ATL_E_INVALID, NULL, "the name of a parameter is not properly encoded");
    char *value = unescape(equals == NULL ? pair : equals + 1, value_length, arena, &plain_length);
    if (value == NULL)
        return atl_fail(err, ATL_E_INVALID, name, "value is not properly URL-encoded, or holds a NUL");
    if (!atl_utf8_valid(value, plain_length))
        return atl_fail(err, ATL_E_INVALID, name, "value is not valid UTF-8");
    if (plain_length > CODEC_VALUE_MAX)
        return atl_fail(err, ATL_E_LIMIT, name, "value is longer than %d bytes", CODEC_VALUE_MAX);
    *ret_param = (struct atl_param){.name = name, .value = value};
    return ATL_OK;
}

enum atl_code atl_form_params(const char *text, size_t length, struct atl_arena *arena,
                              struct atl_param **ret_params, size_t *ret_count, struct atl_error *err)
{
    struct atl_param *params = NULL;
    size_t count = 0;
    size_t capacity = 0;
    const char *end = length == 0 ? text : text + length;
    for (const char *at = text; at < end;) {
        const char *pair = at;
        while (at < end && *at != '&' && *at != ';')
            at++;
        size_t pair_length = (size_t)(at - pair);
        at++;
        if (pair_length == 0)
            continue;
        if (count == CODEC_PARAMS_MAX)
            return atl_fail(err, ATL_E_LIMIT, NULL, "there are more than %d parameters", CODEC_PARAMS_MAX);
        params = atl_arena_grow(arena, params, count, &capacity, sizeof *params);
        enum atl_code code = form_pair(pair, pair_length, arena, &params[count], err);
        if (code != ATL_OK)
            return code;
        count++;
    }
    *ret_params = params;
    *ret_count = count;
    return ATL_OK;
}

static void escape(const char *text, struct atl_buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     strchr("-_.~:/", (char)c) != NULL;
        if (plain) {
            atl_buf_char(out, (char)c);
        } else {
            const char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
            atl_buf_add(out, escaped, sizeof escaped);
        }
    }
}

void atl_form_encode(const struct atl_param *params, size_t count, struct atl_buf *out)
{
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        if (params[i].value == NULL)
            continue;
        if (!first)
            atl_buf_char(out, '&');
        first = false;
        escape(params[i].name, out);
        atl_buf_char(out, '=');
        escape(params[i].value, out);
    }
}

/* --- an index of names, made per call: some tables have two hundred fields
 * ---------------------------------- */

enum { INDEX_FROM = 6 }; /* fewer parameters are found quicker by walking the table */

struct entry {
    const char *name;
    const struct atl_field *field;
    ProtobufCMessage *holder;
    uint32_t hash;
    bool numbered;
};

struct name_index {
    struct entry *entries;
    size_t mask;
};

static uint32_t hash_name(const char *name, size_t length)
{
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619U;
    return hash ^ (hash >> 15);
}

static size_t count_names(const struct atl_message *table)
{
    size_t count = 0;
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_INLINE) != 0)
            count += count_names(field->sub);
        for (const char *const *alias = field->aliases; alias != NULL && *alias != NULL; alias++)
            count++;
        count++;
    }
    return count;
}

static void index_name(struct name_index *index, const char *name, const struct atl_field *field,
                       ProtobufCMessage *holder)
{
    uint32_t hash = hash_name(name, strlen(name));
    size_t at = hash & index->mask;
    while (index->entries[at].field != NULL)
        at = (at + 1) & index->mask;
    index->entries[at] = (struct entry){
        .name = name,
        .field = field,
        .holder = holder,
        .hash = hash,
        .numbered = (field->flags & ATL_F_NUMBERED) != 0,
    };
}

static void index_table(struct name_index *index, const struct atl_message *table, ProtobufCMessage *message)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_INLINE) != 0) {
            index_table(index, field->sub, codec_inlined(message, field));
            continue;
        }
        index_name(index, field->name, field, message);
        for (const char *const *alias = field->aliases; alias != NULL && *alias != NULL; alias++)
            index_name(index, *alias, field, message);
    }
}

static struct name_index index_new(const struct atl_message *table, ProtobufCMessage *message,
                                   struct atl_arena *arena)
{
    size_t size = 16;
    while (size < 2 * count_names(table))
        size *= 2;
    struct name_index index = {.entries = atl_arena_array(arena, struct entry, size), .mask = size - 1};
    index_table(&index, table, message);
    return index;
}

static const struct entry *index_find(const struct name_index *index, const char *name, size_t length,
                                      bool numbered)
{
    uint32_t hash = hash_name(name, length);
    for (size_t at = hash & index->mask; index->entries[at].field != NULL; at = (at + 1) & index->mask) {
        const struct entry *entry = &index->entries[at];
        if (entry->hash == hash && entry->numbered == numbered && strncmp(entry->name, name, length) == 0 &&
            entry->name[length] == '\0')
            return entry;
    }
    return NULL;
}

static bool index_place(const struct name_index *index, const char *name, struct codec_place *ret_place)
{
    size_t base = 0;
    uint32_t number = 0;
    const struct entry *entry = index_find(index, name, strlen(name), false);
    if (entry == NULL && codec_split_number(name, &base, &number)) {
        entry = index_find(index, name, base, true);
        if (entry != NULL && number > entry->field->max_index)
            entry = NULL;
    }
    if (entry == NULL)
        return false;
    *ret_place = (struct codec_place){.field = entry->field, .holder = entry->holder, .slot = number};
    return true;
}

/* --- messages ---------------------------------------------------------------------------------------- */

static void take_params(struct codec_reader *reader, const struct atl_message *table,
                        ProtobufCMessage *message, const struct atl_param *params, size_t count)
{
    struct name_index index = {0};
    if (count >= INDEX_FROM)
        index = index_new(table, message, reader->arena);
    for (size_t i = 0; i < count; i++) {
        const char *name = params[i].name;
        struct codec_place place;
        if (params[i].value == NULL)
            continue;
        bool known = index.entries != NULL ? index_place(&index, name, &place)
                                           : codec_find(table, message, name, &place);
        if (!known)
            codec_fault(
                &reader->faults, name,
                "property is not defined in schema and the schema does not allow additional properties");
        else if (strnlen(params[i].value, CODEC_VALUE_MAX + 1) > CODEC_VALUE_MAX)
            codec_fault(&reader->faults, name, "value is longer than %d bytes", CODEC_VALUE_MAX);
        else
            codec_take(reader, &place, name, params[i].value);
    }
}

enum atl_code atl_params_decode(const struct atl_message *table, const struct atl_param *params, size_t count,
                                struct atl_arena *arena, ProtobufCMessage **ret_message,
                                struct atl_errors *errors)
{
    struct codec_reader reader = {.arena = arena, .faults = {.errors = errors}};
    ProtobufCMessage *message = codec_new(table, arena);
    *ret_message = NULL;
    if (count > CODEC_PARAMS_MAX)
        codec_fault(&reader.faults, "", "there are more than %d parameters", CODEC_PARAMS_MAX);
    else
        take_params(&reader, table, message, params, count);
    codec_check_required(&reader, table, message);
    if (reader.faults.count > 0) {
        size_t unbuilt = 0;
        codec_validate(table, message, &reader.faults, &unbuilt); /* so that all is told that is wrong */
        return ATL_E_INVALID;
    }
    *ret_message = message;
    return ATL_OK;
}

struct encoder {
    struct atl_arena *arena;
    struct atl_param *params;
    size_t count;
    size_t capacity;
    struct atl_buf text;
};

static void add_param(struct encoder *encoder, const char *name)
{
    encoder->params = atl_arena_grow(encoder->arena, encoder->params, encoder->count, &encoder->capacity,
                                     sizeof *encoder->params);
    (void)atl_buf_reserve(&encoder->text, 0);
    encoder->params[encoder->count++] = (struct atl_param){
        .name = name, .value = atl_arena_strndup(encoder->arena, encoder->text.data, encoder->text.length)};
    atl_buf_reset(&encoder->text);
}

static void encode_item(struct encoder *encoder, const ProtobufCMessage *message,
                        const struct atl_field *field, size_t i)
{
    if (field->kind == ATL_KIND_MESSAGE)
        atl_property_encode(field->sub, codec_sub(message, field, i), &encoder->text);
    else
        codec_value_to_text(codec_fd(message, field), codec_item(message, field, i), &encoder->text);
}

static void encode_slots(struct encoder *encoder, const ProtobufCMessage *message,
                         const struct atl_field *field)
{
    size_t count = codec_count(message, field);
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessage *slot = codec_sub(message, field, i);
        const struct atl_field *value = codec_slot_value_field(field);
        if (codec_count(slot, value) == 0)
            continue;
        encode_item(encoder, slot, value, 0);
        add_param(encoder,
                  atl_arena_format(encoder->arena, "%s%" PRIu64, field->name, codec_slot_index(field, slot)));
    }
}

static void encode_fields(struct encoder *encoder, const struct atl_message *table,
                          const ProtobufCMessage *message)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        size_t count = codec_count(message, field);
        if (count == 0)
            continue;
        if ((field->flags & ATL_F_INLINE) != 0 && !codec_is_list(field)) {
            encode_fields(encoder, field->sub, codec_inlined(message, field));
        } else if ((field->flags & ATL_F_NUMBERED) != 0) {
            encode_slots(encoder, message, field);
        } else if (field->separator != '\0') {
            codec_field_to_text(message, field, &encoder->text);
            add_param(encoder, field->name);
        } else {
            for (size_t item = 0; item < count; item++) {
                encode_item(encoder, message, field, item);
                add_param(encoder, field->name);
            }
        }
    }
}

void atl_params_encode(const struct atl_message *table, const ProtobufCMessage *message,
                       struct atl_arena *arena, struct atl_param **ret_params, size_t *ret_count)
{
    struct encoder encoder = {.arena = arena};
    encode_fields(&encoder, table, message);
    atl_buf_done(&encoder.text);
    *ret_params = encoder.params;
    *ret_count = encoder.count;
}
