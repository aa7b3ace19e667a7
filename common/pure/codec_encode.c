/* JSON answers, written straight from messages. */
#include <string.h>

#include "pure/codec_fields.h"
#include "pure/number.h"
#include "pure/utf8.h"

/* 0: as it is; 'u': \u00XX; else the letter behind the backslash. Bytes from 0x80 on are looked at apart. */
static const char escapes[128] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b',         't',           'n',         'u',
    'f', 'r', 'u', 'u', 'u', 'u', 'u', 'u', 'u',         'u',           'u',         'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\', [127] = 'u',
};

static size_t plain_run(const unsigned char *bytes, size_t length)
{
    size_t run = 0;
    while (run < length && bytes[run] < 0x80 && escapes[bytes[run]] == 0)
        run++;
    return run;
}

static void add_escaped(struct atl_buf *out, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\', escapes[c], '0', '0', digits[c >> 4], digits[c & 15]};
    atl_buf_add(out, text, text[1] == 'u' ? 6 : 2);
}

static void add_text(struct atl_buf *out, const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t at = 0; at < length;) {
        size_t run = plain_run(bytes + at, length - at);
        if (run > 0) {
            atl_buf_add(out, text + at, run);
            at += run;
            continue;
        }
        if (bytes[at] < 0x80) {
            add_escaped(out, bytes[at++]);
            continue;
        }
        size_t step = atl_utf8_step(text + at, length - at);
        atl_buf_add(out, step == 0 ? "\xef\xbf\xbd" : text + at, step == 0 ? 3 : step);
        at += step == 0 ? 1 : step;
    }
}

void atl_json_string(struct atl_buf *out, const char *text, size_t length)
{
    if (plain_run((const unsigned char *)text, length) == length) { /* nearly always: one copy */
        char *end = atl_buf_reserve(out, length + 2);
        end[0] = '"';
        if (length > 0)
            memcpy(end + 1, text, length);
        end[length + 1] = '"';
        end[length + 2] = '\0';
        out->length += length + 2;
        return;
    }
    atl_buf_char(out, '"');
    add_text(out, text, length);
    atl_buf_char(out, '"');
}

/* Ends a string whose opening quote and raw text are there: escapes what stands from `from` on, in place. */
static void close_string(struct atl_buf *out, size_t from)
{
    size_t length = out->length - from;
    if (plain_run((const unsigned char *)out->data + from, length) < length) {
        (void)atl_buf_reserve(out, length * 6); /* so that the text does not move while it is read */
        add_text(out, out->data + from, length);
        size_t escaped = out->length - from - length;
        memmove(out->data + from, out->data + from + length, escaped);
        out->length = from + escaped;
    }
    atl_buf_char(out, '"');
}

static void encode_message(const struct atl_message *table, const ProtobufCMessage *message,
                           struct atl_buf *out, struct atl_buf *beside);

static void encode_property(const struct atl_message *table, const ProtobufCMessage *message,
                            struct atl_buf *out)
{
    atl_buf_char(out, '"');
    size_t from = out->length;
    codec_property_write(table, message, false, out);
    close_string(out, from);
}

static void encode_bool(const struct atl_field *field, bool value, struct atl_buf *out)
{
    if ((field->flags & ATL_F_JSON_BOOL) != 0)
        atl_buf_text(out, value ? "true" : "false");
    else
        atl_buf_char(out, value ? '1' : '0');
}

static void encode_value(const struct atl_field *field, const ProtobufCFieldDescriptor *fd, const void *value,
                         struct atl_buf *out)
{
    if (field->kind == ATL_KIND_MESSAGE) {
        encode_message(field->sub, *(ProtobufCMessage *const *)value, out, NULL);
        return;
    }
    if (field->kind == ATL_KIND_STRING && (field->flags & ATL_F_RAW_JSON) == 0) {
        const char *text = *(char *const *)value;
        atl_json_string(out, text, strlen(text));
        return;
    }
    bool quotes = (field->flags & ATL_F_AS_STRING) != 0 || field->kind == ATL_KIND_BYTES;
    if (quotes)
        atl_buf_char(out, '"');
    if (field->kind == ATL_KIND_BOOL)
        encode_bool(field, *(const protobuf_c_boolean *)value != 0, out);
    else
        codec_value_to_text(fd, value, out);
    if (quotes)
        atl_buf_char(out, '"');
}

static void encode_array(const ProtobufCMessage *message, const struct atl_field *field, struct atl_buf *out)
{
    size_t count = codec_count(message, field);
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    atl_buf_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            atl_buf_char(out, ',');
        encode_value(field, fd, codec_item(message, field, i), out);
    }
    atl_buf_char(out, ']');
}

static void encode_joined(const ProtobufCMessage *message, const struct atl_field *field, struct atl_buf *out)
{
    atl_buf_char(out, '"');
    size_t from = out->length;
    codec_field_to_text(message, field, out);
    close_string(out, from);
}

/* The value of a field that is given, in whichever form it has. */
static void encode_field_value(const ProtobufCMessage *message, const struct atl_field *field,
                               struct atl_buf *out)
{
    if (!codec_is_list(field))
        encode_value(field, codec_fd(message, field), codec_item(message, field, 0), out);
    else if (field->separator != '\0' && field->kind != ATL_KIND_MESSAGE)
        encode_joined(message, field, out);
    else
        encode_array(message, field, out);
}

/* As the start of the members: also the first one has a comma before it. */
#define ALWAYS_COMMA SIZE_MAX

static void open_member(struct atl_buf *out, size_t start, const char *name, size_t length)
{
    char *end = atl_buf_reserve(out, length + 4);
    size_t comma = out->length != start;
    end[0] = ',';
    end += comma;
    end[0] = '"';
    memcpy(end + 1, name, length);
    end[length + 1] = '"';
    end[length + 2] = ':';
    end[length + 3] = '\0';
    out->length += length + 3 + comma;
}

static void encode_slots(const ProtobufCMessage *message, const struct atl_field *field, size_t start,
                         struct atl_buf *out)
{
    size_t count = codec_count(message, field);
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessage *slot = codec_sub(message, field, i);
        const struct atl_field *value = codec_slot_value_field(field);
        if (codec_count(slot, value) == 0 || (value->flags & (ATL_F_SECRET | ATL_F_ONLY_IN)) != 0)
            continue;
        open_member(out, start, field->name, strlen(field->name));
        out->length -= 2; /* the number goes before the closing quote */
        atl_buf_uint(out, codec_slot_index(field, slot));
        atl_buf_add(out, "\":", 2);
        encode_field_value(slot, value, out);
    }
}

/* {key, value} entries as members with free names. */
static void encode_entries(const struct atl_message *table, const ProtobufCMessage *message, size_t start,
                           struct atl_buf *out)
{
    atl_assert(table->count >= 1);
    const struct atl_field *entries = &table->fields[0];
    size_t count = codec_count(message, entries);
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessage *entry = codec_sub(message, entries, i);
        struct codec_place key;
        struct codec_place value;
        if (!codec_find(entries->sub, entry, "key", &key) ||
            !codec_find(entries->sub, entry, "value", &value) || codec_count(entry, key.field) == 0)
            continue;
        if (out->length != start)
            atl_buf_char(out, ',');
        const char *name = *(char *const *)codec_item(entry, key.field, 0);
        atl_json_string(out, name, strlen(name));
        atl_buf_char(out, ':');
        if (codec_count(entry, value.field) == 0 && !codec_is_list(value.field))
            atl_buf_text(out, "null");
        else
            encode_field_value(entry, value.field, out);
    }
}

static void encode_member(const ProtobufCMessage *message, const struct atl_field *field, size_t start,
                          struct atl_buf *out);

static void encode_members(const struct atl_message *table, const ProtobufCMessage *message, size_t start,
                           struct atl_buf *out)
{
    if (table->style == ATL_STYLE_MAP) {
        encode_entries(table, message, start, out);
        return;
    }
    for (uint32_t i = 0; i < table->count; i++)
        encode_member(message, &table->fields[i], start, out);
}

static void encode_member(const ProtobufCMessage *message, const struct atl_field *field, size_t start,
                          struct atl_buf *out)
{
    if ((field->flags & (ATL_F_SECRET | ATL_F_ONLY_IN)) != 0)
        return;
    size_t count = codec_count(message, field);
    /* a required list is shown even when it is empty */
    if (count == 0 && !(codec_is_list(field) && (field->flags & ATL_F_REQUIRED) != 0))
        return;
    if ((field->flags & ATL_F_INLINE) != 0 && !codec_is_list(field)) {
        encode_members(field->sub, codec_inlined(message, field), start, out);
    } else if ((field->flags & ATL_F_NUMBERED) != 0) {
        encode_slots(message, field, start, out);
    } else {
        open_member(out, start, field->name, strlen(field->name));
        encode_field_value(message, field, out);
    }
}

/* The field that is the data of a LIST (its repeated one) or of a VALUE (its first one). */
const struct atl_field *codec_data_field(const struct atl_message *table)
{
    const struct atl_field *data = NULL;
    for (uint32_t i = 0; i < table->count && data == NULL; i++)
        if (table->style != ATL_STYLE_LIST || codec_is_list(&table->fields[i]))
            data = &table->fields[i];
    atl_assert(data != NULL);
    return data;
}

static void encode_beside(const struct atl_message *table, const ProtobufCMessage *message,
                          const struct atl_field *data, struct atl_buf *beside)
{
    for (uint32_t i = 0; beside != NULL && i < table->count; i++)
        if (&table->fields[i] != data)
            encode_member(message, &table->fields[i], ALWAYS_COMMA, beside);
}

static void encode_message(const struct atl_message *table, const ProtobufCMessage *message,
                           struct atl_buf *out, struct atl_buf *beside)
{
    const struct atl_field *data = NULL;
    switch (table->style) {
    case ATL_STYLE_NOTHING:
        atl_buf_text(out, "null");
        break;
    case ATL_STYLE_PROPERTY:
        encode_property(table, message, out);
        break;
    case ATL_STYLE_VALUE:
        data = codec_data_field(table);
        if (codec_count(message, data) == 0 && !codec_is_list(data))
            atl_buf_text(out, "null");
        else
            encode_field_value(message, data, out);
        break;
    case ATL_STYLE_LIST:
        data = codec_data_field(table);
        encode_array(message, data, out);
        encode_beside(table, message, data, beside);
        break;
    default:
        atl_buf_char(out, '{');
        encode_members(table, message, out->length, out);
        atl_buf_char(out, '}');
        break;
    }
}

void atl_json_encode(const struct atl_message *table, const ProtobufCMessage *message, struct atl_buf *out,
                     struct atl_buf *beside)
{
    encode_message(table, message, out, beside);
}
