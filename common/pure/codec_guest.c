/* Guest files: `key: value` lines in sections, the description as comments at the top. */
#include <string.h>

#include "pure/codec_text.h"
#include "pure/number.h"
#include "pure/utf8.h"

static const char description_name[] = "description";

/* What stands behind the #; a line that does not decode to text stays as it is. */
static const char *comment_text(const char *raw, struct atl_arena *arena)
{
    size_t length = strlen(raw);
    char *plain = atl_arena_alloc(arena, length + 1);
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        int high = raw[i] == '%' && length - i > 2 ? atl_hex_value(raw[i + 1]) : -1;
        int low = high >= 0 ? atl_hex_value(raw[i + 2]) : -1;
        plain[used] = raw[i];
        if (low >= 0) {
            plain[used] = (char)(high * 16 + low);
            i += 2;
        }
        if (plain[used++] == '\0')
            return raw;
    }
    plain[used] = '\0';
    return atl_utf8_valid(plain, used) ? plain : raw;
}

static void write_comment_line(const char *line, size_t length, struct atl_buf *out)
{
    static const char digits[] = "0123456789ABCDEF";
    atl_buf_char(out, '#');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)line[i];
        bool last_blank = c == ' ' && i == length - 1;
        if (c < 0x20 || c >= 0x7f || c == '%' || c == ':' || last_blank) {
            const char escaped[3] = {'%', digits[c >> 4], digits[c & 15]};
            atl_buf_add(out, escaped, sizeof escaped);
        } else {
            atl_buf_char(out, (char)c);
        }
    }
    atl_buf_char(out, '\n');
}

static void write_comment(const char *text, struct atl_buf *out)
{
    for (const char *line = text;;) {
        const char *end = strchrnul(line, '\n');
        write_comment_line(line, (size_t)(end - line), out);
        if (*end == '\0')
            return;
        line = end + 1;
    }
}

struct guest_reader {
    struct codec_text_reader text;
    struct atl_buf comment; /* of the section that is being read */
    bool has_comment;
};

static void finish_section(struct guest_reader *guest)
{
    struct codec_text_reader *text = &guest->text;
    struct codec_place place;
    if (!guest->has_comment)
        return;
    ProtobufCMessage *message = codec_text_last(text)->message;
    (void)atl_buf_reserve(&guest->comment, 0);
    guest->comment.data[guest->comment.length] = '\0';
    if (codec_find(text->table, message, description_name, &place))
        (void)codec_text_take(text, description_name, guest->comment.data);
    atl_buf_reset(&guest->comment);
    guest->has_comment = false;
}

static bool has_description(const struct guest_reader *guest)
{
    const struct atl_field *field = atl_message_field(guest->text.table, description_name);
    return field != NULL && field->kind == ATL_KIND_STRING;
}

static void add_comment(struct guest_reader *guest, const char *plain)
{
    if (guest->has_comment)
        atl_buf_char(&guest->comment, '\n');
    atl_buf_text(&guest->comment, plain);
    guest->has_comment = true;
}

static void take_comment(struct guest_reader *guest, const char *raw)
{
    const char *plain = comment_text(raw, guest->text.arena);
    if (!has_description(guest) || !atl_utf8_valid(plain, strlen(plain)))
        codec_text_unknown(&guest->text, "#", raw);
    else
        add_comment(guest, plain);
}

/* The end of the key, or NULL if the line has none. Raw container lines may have `=` in place of the colon.
 */
static char *key_end(char *line)
{
    char *end = line + strcspn(line, strncmp(line, "lxc.", 4) == 0 ? ":= \t" : ": \t");
    char *separator = end + strspn(end, " \t");
    if (end == line || *end == '\0')
        return NULL;
    if (*end == ':' || *end == '=')
        return end;
    return strncmp(line, "lxc.", 4) == 0 && (*separator == '=' || *separator == ':') ? end : NULL;
}

static void take_line(struct guest_reader *guest, char *line)
{
    struct codec_text_reader *text = &guest->text;
    char *end = key_end(line);
    if (end == NULL) {
        codec_text_unknown(text, "", line);
        return;
    }
    const char *value = end + strspn(end, " \t");
    if (*value == ':' || *value == '=')
        value++;
    value += strspn(value, CODEC_BLANKS);
    *end = '\0';
    if (strcmp(line, description_name) == 0 && has_description(guest) && atl_utf8_valid(value, strlen(value)))
        add_comment(guest, value); /* an old way to write it */
    else if (!codec_text_take(text, line, value))
        codec_text_unknown(text, line, value);
}

static bool is_section_header(const char *line, size_t length)
{
    return length > 2 && line[0] == '[' && line[length - 1] == ']' && strcspn(line + 1, "[]") == length - 2;
}

enum atl_code atl_guest_decode(const struct atl_message *table, const char *text, size_t length,
                               struct atl_arena *arena, struct atl_section **ret_sections, size_t *ret_count,
                               struct atl_errors *errors)
{
    struct guest_reader guest = {.text = {.arena = arena, .errors = errors}};
    enum atl_code code = codec_text_begin(&guest.text, table, text, length);
    if (code != ATL_OK)
        return code;
    codec_text_section(&guest.text, "");
    for (char *line = codec_text_line(&guest.text); line != NULL; line = codec_text_line(&guest.text)) {
        line += strspn(line, CODEC_BLANKS);
        size_t line_length = strlen(line);
        if (line[0] == '#') {
            take_comment(&guest, line + 1);
        } else if (is_section_header(line, line_length)) {
            finish_section(&guest);
            codec_text_section(&guest.text, atl_arena_strndup(arena, line + 1, line_length - 2));
        } else if (line_length > 0) {
            take_line(&guest, line);
        }
    }
    finish_section(&guest);
    atl_buf_done(&guest.comment);
    *ret_sections = guest.text.sections;
    *ret_count = guest.text.count;
    return ATL_OK;
}

void atl_guest_encode(const struct atl_message *table, const struct atl_section *sections, size_t count,
                      struct atl_buf *out)
{
    const struct codec_text_writer writer = {
        .out = out, .before = "", .between = ": ", .skip = {description_name}};
    (void)atl_buf_reserve(out, 0);
    for (size_t i = 0; i < count; i++) {
        struct codec_place place;
        if (sections[i].name[0] != '\0') {
            if (out->length > 0)
                atl_buf_char(out, '\n');
            atl_buf_printf(out, "[%s]\n", sections[i].name);
        }
        if (codec_find(table, sections[i].message, description_name, &place) && place.holder != NULL &&
            place.field->kind == ATL_KIND_STRING && codec_count(place.holder, place.field) > 0)
            write_comment(*(char *const *)codec_item(place.holder, place.field, 0), out);
        codec_text_write_fields(&writer, table, sections[i].message);
        codec_text_write_unknown(&writer, &sections[i]);
    }
    out->data[out->length] = '\0';
}

const char *atl_section_take(struct atl_section *section, const char *key)
{
    const char *value = NULL;
    size_t kept = 0;
    for (size_t i = 0; i < section->unknown_count; i++) {
        if (strcmp(section->unknown[i].key, key) == 0)
            value = section->unknown[i].value;
        else
            section->unknown[kept++] = section->unknown[i];
    }
    section->unknown_count = kept;
    return value;
}

void atl_section_add(struct atl_section *section, const char *key, const char *value, struct atl_arena *arena)
{
    struct atl_line *lines = atl_arena_array(arena, struct atl_line, section->unknown_count + 1);
    lines[0] = (struct atl_line){.key = key, .value = value};
    for (size_t i = 0; i < section->unknown_count; i++)
        lines[i + 1] = section->unknown[i];
    section->unknown = lines;
    section->unknown_count++;
}
