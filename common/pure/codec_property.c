/* Property strings, written. */
#include <string.h>

#include "pure/codec_fields.h"

struct writer {
    struct atl_buf *out;
    const struct atl_message *root;
    const ProtobufCMessage *message;
    size_t start;
    bool secrets;
};

static void next_part(const struct writer *writer)
{
    if (writer->out->length > writer->start)
        atl_buf_char(writer->out, ',');
}

/* Commas end a part; a value that holds one was refused by validation, and must not become a part of its own.
 */
static void keep_commas_out(struct atl_buf *out, size_t from)
{
    size_t commas = 0;
    for (size_t i = from; i < out->length; i++)
        commas += out->data[i] == ',';
    if (commas == 0)
        return;
    (void)atl_buf_reserve(out, commas * 2);
    size_t to = out->length + commas * 2;
    for (size_t i = out->length; i > from; i--) {
        if (out->data[i - 1] == ',') {
            to -= 3;
            memcpy(out->data + to, "%2C", 3);
        } else {
            out->data[--to] = out->data[i - 1];
        }
    }
    out->length += commas * 2;
    out->data[out->length] = '\0';
}

static void write_value(const struct writer *writer, const ProtobufCMessage *message,
                        const struct atl_field *field)
{
    size_t from = writer->out->length;
    size_t count = codec_count(message, field);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            atl_buf_char(writer->out,
                         field->separator == ',' || field->separator == '\0' ? ';' : field->separator);
        codec_value_to_text(codec_fd(message, field), codec_item(message, field, i), writer->out);
    }
    keep_commas_out(writer->out, from);
}

static const char *string_of(const ProtobufCMessage *message, const struct atl_field *field)
{
    if (codec_fd(message, field)->type != PROTOBUF_C_TYPE_STRING || codec_is_list(field))
        return NULL;
    return *(char *const *)codec_item(message, field, 0);
}

/* The partner of a key alias, if both are given and the key can be told from a field's name when read again.
 */
static bool key_alias_partner(const struct writer *writer, const ProtobufCMessage *message,
                              const struct atl_field *field, struct codec_place *ret_partner)
{
    struct codec_place shadow;
    if (field->key_alias == NULL || codec_count(message, field) == 0)
        return false;
    const char *key = string_of(message, field);
    return key != NULL && codec_in_set(field, key) &&
           codec_find(writer->root, writer->message, field->key_alias, ret_partner) &&
           ret_partner->holder != NULL && codec_count(ret_partner->holder, ret_partner->field) > 0 &&
           !codec_find(writer->root, writer->message, key, &shadow);
}

static bool can_stand_bare(const char *text)
{
    return strchr(text, '=') == NULL && text[strspn(text, CODEC_BLANKS)] != '\0';
}

static void write_field(const struct writer *writer, const ProtobufCMessage *message,
                        const struct atl_field *field)
{
    struct codec_place partner;
    next_part(writer);
    size_t start = writer->out->length;
    if (key_alias_partner(writer, message, field, &partner)) {
        write_value(writer, message, field);
        atl_buf_char(writer->out, '=');
        write_value(writer, partner.holder, partner.field);
        return;
    }
    atl_buf_text(writer->out, field->name);
    atl_buf_char(writer->out, '=');
    size_t value = writer->out->length;
    write_value(writer, message, field);
    if ((field->flags & ATL_F_DEFAULT_KEY) != 0 && can_stand_bare(writer->out->data + value)) {
        size_t length = writer->out->length - value;
        memmove(writer->out->data + start, writer->out->data + value, length + 1);
        writer->out->length = start + length;
    }
}

/* Whether another field's key alias writes this one. */
static bool is_partner(const struct writer *writer, const struct atl_message *table,
                       const ProtobufCMessage *message, const struct atl_field *field)
{
    for (uint32_t i = 0; i < table->count; i++) {
        struct codec_place partner;
        if (key_alias_partner(writer, message, &table->fields[i], &partner) && partner.field == field)
            return true;
    }
    return false;
}

static void write_fields(const struct writer *writer, const struct atl_message *table,
                         const ProtobufCMessage *message, bool default_key)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if (codec_count(message, field) == 0)
            continue;
        if ((field->flags & ATL_F_INLINE) != 0) {
            write_fields(writer, field->sub, codec_inlined(message, field), default_key);
            continue;
        }
        bool first = (field->flags & ATL_F_DEFAULT_KEY) != 0;
        if (first != default_key || field->kind == ATL_KIND_MESSAGE ||
            (!writer->secrets && (field->flags & ATL_F_SECRET) != 0) ||
            is_partner(writer, table, message, field))
            continue;
        write_field(writer, message, field);
    }
}

void codec_property_write(const struct atl_message *table, const ProtobufCMessage *message, bool secrets,
                          struct atl_buf *out)
{
    struct writer writer = {
        .out = out, .root = table, .message = message, .start = out->length, .secrets = secrets};
    (void)atl_buf_reserve(out, 0);
    write_fields(&writer, table, message, true);
    write_fields(&writer, table, message, false);
    out->data[out->length] = '\0';
}

void atl_property_encode(const struct atl_message *table, const ProtobufCMessage *message,
                         struct atl_buf *out)
{
    codec_property_write(table, message, true, out);
}

void codec_field_to_text(const ProtobufCMessage *message, const struct atl_field *field, struct atl_buf *out)
{
    size_t count = codec_count(message, field);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            atl_buf_char(out, field->separator == '\0' ? ',' : field->separator);
        if (field->kind == ATL_KIND_MESSAGE)
            codec_property_write(field->sub, codec_sub(message, field, i), true, out);
        else
            codec_value_to_text(codec_fd(message, field), codec_item(message, field, i), out);
    }
}
