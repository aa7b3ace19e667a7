/* Lines of configuration text: the part that guest files and section files share. */
#include "pure/codec_text.h"

#include <string.h>

enum atl_code codec_text_begin(struct codec_text_reader *text, const struct atl_message *table,
                               const char *bytes, size_t length)
{
    text->table = table;
    text->at = length == 0 ? "" : bytes;
    text->end = text->at + length;
    if (length > CODEC_TEXT_MAX) {
        atl_errors_add(text->errors, "", "the file is longer than %d bytes", CODEC_TEXT_MAX);
        return ATL_E_LIMIT;
    }
    if (length > 0 && memchr(bytes, '\0', length) != NULL) {
        atl_errors_add(text->errors, "", "the file holds a NUL");
        return ATL_E_INVALID;
    }
    return ATL_OK;
}

char *codec_text_line(struct codec_text_reader *text)
{
    if (text->at >= text->end)
        return NULL;
    const char *start = text->at;
    const char *newline = memchr(start, '\n', (size_t)(text->end - start));
    const char *stop = newline == NULL ? text->end : newline;
    text->at = stop + 1;
    while (stop > start && codec_is_blank(stop[-1]))
        stop--;
    return atl_arena_strndup(text->arena, start, (size_t)(stop - start));
}

void codec_text_section(struct codec_text_reader *text, const char *name)
{
    text->sections =
        atl_arena_grow(text->arena, text->sections, text->count, &text->capacity, sizeof *text->sections);
    text->sections[text->count++] =
        (struct atl_section){.name = name, .message = codec_new(text->table, text->arena)};
    text->reader = (struct codec_reader){.arena = text->arena, .faults = {.errors = text->errors}};
    text->unknown_capacity = 0;
}

struct atl_section *codec_text_last(struct codec_text_reader *text)
{
    atl_assert(text->count > 0);
    return &text->sections[text->count - 1];
}

void codec_text_unknown(struct codec_text_reader *text, const char *key, const char *value)
{
    struct atl_section *section = codec_text_last(text);
    section->unknown = atl_arena_grow(text->arena, section->unknown, section->unknown_count,
                                      &text->unknown_capacity, sizeof *section->unknown);
    section->unknown[section->unknown_count++] = (struct atl_line){.key = key, .value = value};
}

bool codec_text_take(struct codec_text_reader *text, const char *key, const char *value)
{
    struct codec_place place;
    if (!codec_find(text->table, codec_text_last(text)->message, key, &place))
        return false;
    size_t faults = text->reader.faults.count;
    bool joined = codec_is_list(place.field) && place.field->separator != '\0';
    if (joined && codec_count(place.holder, place.field) > 0) {
        atl_errors_add(text->errors, key, "the line stands there twice; the second is kept as it is, unused");
        return false;
    }
    codec_take(&text->reader, &place, key, value);
    if (text->reader.faults.count == faults)
        return true;
    if (joined) /* the items before the one that is wrong */
        codec_clear(place.holder, place.field);
    return false;
}

/* --- writing ------------------------------------------------------------------------------------------ */

/* A line break in a value would start a line of its own. Validation refuses what is no text of one line; this
 * is the last door. */
static void keep_line_breaks_out(struct atl_buf *out, size_t from)
{
    for (size_t i = from; i < out->length; i++) {
        if (out->data[i] != '\n' && out->data[i] != '\r')
            continue;
        char escape[3] = {'%', '0', out->data[i] == '\n' ? 'A' : 'D'};
        (void)atl_buf_reserve(out, 2);
        memmove(out->data + i + 3, out->data + i + 1, out->length - i);
        memcpy(out->data + i, escape, 3);
        out->length += 2;
        i += 2;
    }
}

/* Blanks at the ends are lost when the line is read; so they are not written. */
static void trim_value(struct atl_buf *out, size_t from)
{
    size_t start = from;
    while (out->length > start && codec_is_blank(out->data[out->length - 1]))
        out->length--;
    while (start < out->length && codec_is_blank(out->data[start]))
        start++;
    memmove(out->data + from, out->data + start, out->length - start);
    out->length -= start - from;
    out->data[out->length] = '\0';
}

static void write_value(const struct codec_text_writer *writer, const ProtobufCMessage *message,
                        const struct atl_field *field, size_t i)
{
    size_t from = writer->out->length;
    if (field->separator != '\0' && codec_is_list(field))
        codec_field_to_text(message, field, writer->out);
    else if (field->kind == ATL_KIND_MESSAGE)
        atl_property_encode(field->sub, codec_sub(message, field, i), writer->out);
    else
        codec_value_to_text(codec_fd(message, field), codec_item(message, field, i), writer->out);
    keep_line_breaks_out(writer->out, from);
    trim_value(writer->out, from);
    size_t between = strlen(writer->between);
    if (writer->out->length == from && writer->between[between - 1] == ' ')
        writer->out->length--; /* no blank at the end of a line */
    atl_buf_char(writer->out, '\n');
}

static void write_slots(const struct codec_text_writer *writer, const ProtobufCMessage *message,
                        const struct atl_field *field)
{
    size_t count = codec_count(message, field);
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessage *slot = codec_sub(message, field, i);
        const struct atl_field *value = codec_slot_value_field(field);
        if (codec_count(slot, value) == 0)
            continue;
        atl_buf_text(writer->out, writer->before);
        atl_buf_text(writer->out, field->name);
        atl_buf_uint(writer->out, codec_slot_index(field, slot));
        atl_buf_text(writer->out, writer->between);
        write_value(writer, slot, value, 0);
    }
}

static bool is_skipped(const struct codec_text_writer *writer, const struct atl_field *field)
{
    for (size_t i = 0; i < ATL_COUNT(writer->skip); i++)
        if (writer->skip[i] != NULL && strcmp(writer->skip[i], field->name) == 0)
            return true;
    return false;
}

static void write_field(const struct codec_text_writer *writer, const ProtobufCMessage *message,
                        const struct atl_field *field)
{
    size_t count = codec_count(message, field);
    if (field->separator != '\0' && codec_is_list(field))
        count = count > 0;
    for (size_t i = 0; i < count; i++) {
        atl_buf_text(writer->out, writer->before);
        atl_buf_text(writer->out, field->name);
        atl_buf_text(writer->out, writer->between);
        write_value(writer, message, field, i);
    }
}

void codec_text_write_fields(const struct codec_text_writer *writer, const struct atl_message *table,
                             const ProtobufCMessage *message)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if (codec_count(message, field) == 0 || is_skipped(writer, field))
            continue;
        if ((field->flags & ATL_F_INLINE) != 0 && !codec_is_list(field))
            codec_text_write_fields(writer, field->sub, codec_inlined(message, field));
        else if ((field->flags & ATL_F_NUMBERED) != 0)
            write_slots(writer, message, field);
        else if (field->sub == NULL || field->sub->style == ATL_STYLE_PROPERTY)
            write_field(writer, message, field);
    }
}

void codec_text_write_unknown(const struct codec_text_writer *writer, const struct atl_section *section)
{
    for (size_t i = 0; i < section->unknown_count; i++) {
        const struct atl_line *line = &section->unknown[i];
        size_t from = writer->out->length;
        if (line->key[0] == '\0' || strcmp(line->key, "#") == 0) {
            atl_buf_text(writer->out, line->key);
            atl_buf_text(writer->out, line->value);
        } else {
            atl_buf_text(writer->out, writer->before);
            atl_buf_text(writer->out, line->key);
            atl_buf_text(writer->out, writer->between);
            atl_buf_text(writer->out, line->value);
            if (line->value[0] == '\0' && writer->out->data[writer->out->length - 1] == ' ')
                writer->out->length--;
        }
        keep_line_breaks_out(writer->out, from);
        atl_buf_char(writer->out, '\n');
    }
}
