/* Section files: `type: id`, then indented `key value` lines. */
#include <string.h>

#include "pure/codec_text.h"

struct sections_reader {
    struct codec_text_reader text;
    const char *type_field;
    const char *id_field;
    struct atl_line *early; /* lines before the first section: they go into it */
    size_t early_count;
    size_t early_capacity;
};

static void keep_line(struct sections_reader *file, const char *key, const char *value)
{
    if (file->text.count > 0) {
        codec_text_unknown(&file->text, key, value);
        return;
    }
    file->early = atl_arena_grow(file->text.arena, file->early, file->early_count, &file->early_capacity,
                                 sizeof *file->early);
    file->early[file->early_count++] = (struct atl_line){.key = key, .value = value};
}

/* `type: id`, the id without blanks. */
static bool split_header(char *line, char **ret_id)
{
    size_t type = strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    if (type == 0 || line[type] != ':')
        return false;
    char *id = line + type + 1;
    id += strspn(id, " \t");
    if (*id == '\0' || strpbrk(id, " \t") != NULL)
        return false;
    line[type] = '\0';
    *ret_id = id;
    return true;
}

static void take_header(struct sections_reader *file, const char *type, const char *id)
{
    const struct codec_text_reader before = file->text;
    codec_text_section(&file->text, id);
    if (!codec_text_take(&file->text, file->type_field, type) ||
        !codec_text_take(&file->text, file->id_field, id)) {
        file->text = before; /* its fields cannot hold them: the caller keeps the line */
        return;
    }
    for (size_t i = 0; i < file->early_count; i++)
        codec_text_unknown(&file->text, file->early[i].key, file->early[i].value);
    file->early_count = 0;
}

static void take_property(struct sections_reader *file, char *line)
{
    char *end = line + strcspn(line, CODEC_BLANKS);
    const char *value = end + strspn(end, CODEC_BLANKS);
    *end = '\0';
    if (file->text.count == 0) { /* it must not become a property of the section that follows */
        keep_line(file, "#",
                  atl_arena_format(file->text.arena, " %s%s%s", line, *value == '\0' ? "" : " ", value));
        return;
    }
    const struct atl_field *field = atl_message_field(file->text.table, line);
    if (*value == '\0' && field != NULL && field->kind == ATL_KIND_BOOL)
        value = "1"; /* a flag stands alone */
    if (!codec_text_take(&file->text, line, value))
        codec_text_unknown(&file->text, line, value);
}

static void take_line(struct sections_reader *file, char *line)
{
    char *word = line + strspn(line, CODEC_BLANKS);
    char *id = NULL;
    if (*word == '\0')
        return;
    if (*word == '#') {
        keep_line(file, "#", word + 1);
        return;
    }
    if (word > line) {
        take_property(file, word);
        return;
    }
    const char *whole = atl_arena_strdup(file->text.arena, line);
    size_t count = file->text.count;
    if (split_header(line, &id))
        take_header(file, line, id);
    if (file->text.count > count)
        return;
    atl_errors_add(file->text.errors, "", "this line is not understood and kept as it is: %.80s", whole);
    keep_line(file, "", whole);
}

/* NOLINTNEXTLINE(readability-function-size): what it reads and what it gives are of nine kinds */
enum atl_code atl_sections_decode(const struct atl_message *table, const char *type_field,
                                  const char *id_field, const char *text, size_t length,
                                  struct atl_arena *arena, struct atl_section **ret_sections,
                                  size_t *ret_count, struct atl_errors *errors)
{
    struct sections_reader file = {
        .text = {.arena = arena, .errors = errors}, .type_field = type_field, .id_field = id_field};
    enum atl_code code = codec_text_begin(&file.text, table, text, length);
    if (code != ATL_OK)
        return code;
    for (char *line = codec_text_line(&file.text); line != NULL; line = codec_text_line(&file.text))
        take_line(&file, line);
    *ret_sections = file.text.sections;
    *ret_count = file.text.count;
    return ATL_OK;
}

/* The text of a field that stands in the header; it cannot hold blanks. */
static void write_word(const struct atl_message *table, const ProtobufCMessage *message, const char *name,
                       struct atl_buf *out)
{
    struct codec_place place;
    bool known = codec_find(table, message, name, &place);
    atl_assert(known);
    atl_assert(place.holder != NULL);
    atl_assert(codec_count(place.holder, place.field) > 0);
    size_t from = out->length;
    codec_field_to_text(place.holder, place.field, out);
    for (size_t i = from; i < out->length; i++)
        if (strchr(CODEC_BLANKS, out->data[i]) != NULL)
            out->data[i] = '_';
}

void atl_sections_encode(const struct atl_message *table, const char *type_field, const char *id_field,
                         const struct atl_section *sections, size_t count, struct atl_buf *out)
{
    const struct codec_text_writer writer = {
        .out = out, .before = "\t", .between = " ", .skip = {type_field, id_field}};
    (void)atl_buf_reserve(out, 0);
    for (size_t i = 0; i < count; i++) {
        if (out->length > 0)
            atl_buf_char(out, '\n');
        write_word(table, sections[i].message, type_field, out);
        atl_buf_text(out, ": ");
        write_word(table, sections[i].message, id_field, out);
        atl_buf_char(out, '\n');
        codec_text_write_fields(&writer, table, sections[i].message);
        codec_text_write_unknown(&writer, &sections[i]);
    }
    out->data[out->length] = '\0';
}
