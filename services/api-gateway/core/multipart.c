/*
 * The multipart reader. A delimiter begins with CR, which occurs nowhere else in it: after a mismatch the
 * bytes that had matched are data, and the search goes on at the byte that did not match.
 */
#include "core/multipart.h"

#include <string.h>
#include <strings.h>

enum state {
    AT_BODY, /* between delimiters: a field, a file, or the (empty) preamble */
    BEHIND,  /* a delimiter was seen: CR LF or "--" must follow */
    BEHIND_DASH,
    BEHIND_CR,
    IN_HEAD,
    FINISHED,
};

static const struct gw_fault no_boundary = {400, "multipart boundary is missing or wrong"};
static const struct gw_fault preamble = {400, "multipart body does not begin with its boundary"};
static const struct gw_fault bad_delimiter = {400, "garbage behind a multipart boundary"};
static const struct gw_fault bad_head = {400, "bad multipart header"};
static const struct gw_fault no_name = {400, "multipart part without a name"};
static const struct gw_fault no_filename = {400, "multipart file without a name"};
static const struct gw_fault field_too_large = {400, "multipart field is too large"};
static const struct gw_fault two_files = {400, "more than one file in a multipart body"};
static const struct gw_fault too_many_parts = {400, "too many multipart parts"};

const struct gw_fault *gw_multipart_init(struct gw_multipart *reader, const char *content_type)
{
    memset(reader, 0, offsetof(struct gw_multipart, head));
    const char *at = content_type;
    while (at != NULL && strncasecmp(at, "boundary=", 9) != 0) {
        at = strchr(at, ';');
        if (at != NULL)
            at += 1 + strspn(at + 1, " \t");
    }
    if (at == NULL)
        return &no_boundary;
    at += 9;
    bool quoted = *at == '"';
    at += quoted ? 1 : 0;
    size_t length = strcspn(at, quoted ? "\"" : "; \t");
    if (length == 0 || length > GW_BOUNDARY_MAX || (quoted && at[length] != '"'))
        return &no_boundary;
    for (size_t i = 0; i < length; i++) {
        if (at[i] < ' ' || at[i] > '~')
            return &no_boundary;
    }
    memcpy(reader->delimiter, "\r\n--", 4);
    memcpy(reader->delimiter + 4, at, length);
    reader->delimiter_size = length + 4;
    reader->matched = 2; /* the first boundary needs no CR LF before it */
    reader->state = AT_BODY;
    return NULL;
}

static struct gw_part fault(struct gw_multipart *reader, const struct gw_fault *why)
{
    reader->state = FINISHED;
    return (struct gw_part){.kind = GW_PART_FAULT, .fault = why};
}

/* One parameter of a header line: NAME=VALUE or NAME="VALUE". */
struct parameter {
    const char *name;
    size_t name_size;
    const char *value; /* NULL: it has none */
    size_t value_size; /* as it stands there, without the quotes */
    bool quoted;
};

/* Reads the parameter behind a semicolon; what follows it, or NULL when a quote is not closed. */
static const char *read_parameter(const char *at, struct parameter *ret)
{
    *ret = (struct parameter){.name = at + strspn(at, " \t")};
    ret->name_size = strcspn(ret->name, "=;");
    at = ret->name + ret->name_size;
    if (*at != '=')
        return at;
    ret->quoted = at[1] == '"';
    ret->value = at + (ret->quoted ? 2 : 1);
    at = ret->value;
    while (*at != '\0' && *at != (ret->quoted ? '"' : ';')) {
        bool escaped = ret->quoted && *at == '\\' && (at[1] == '"' || at[1] == '\\');
        at += escaped ? 2 : 1;
    }
    ret->value_size = (size_t)(at - ret->value);
    if (ret->quoted && *at != '"')
        return NULL;
    return at + strcspn(at, ";");
}

/* Undoes the escapes of a quoted value; false when there is no room. */
static bool copy_value(const struct parameter *from, char *to, size_t room)
{
    size_t size = 0;
    for (size_t i = 0; i < from->value_size; i++) {
        bool escaped = from->quoted && from->value[i] == '\\' && i + 1 < from->value_size &&
                       (from->value[i + 1] == '"' || from->value[i + 1] == '\\');
        if (escaped)
            i++;
        if (size + 1 >= room)
            return false;
        to[size++] = from->value[i];
    }
    to[size] = '\0';
    return true;
}

/* Copies a parameter's value ("name", "filename") out of a Content-Disposition; -1 broken, 0 absent, 1 there.
 */
static int disposition(const char *line, const char *name, char *to, size_t room)
{
    size_t wanted = strlen(name);
    const char *at = strchr(line, ';');
    while (at != NULL && *at == ';') {
        struct parameter parameter;
        at = read_parameter(at + 1, &parameter);
        if (at == NULL)
            return -1;
        if (parameter.value == NULL || parameter.name_size != wanted ||
            strncasecmp(parameter.name, name, wanted) != 0)
            continue;
        return copy_value(&parameter, to, room) ? 1 : -1;
    }
    return 0;
}

/* Begins a part whose header lines are complete. */
static struct gw_part begin_part(struct gw_multipart *reader)
{
    if (++reader->parts > GW_PARTS_MAX)
        return fault(reader, &too_many_parts);
    int named = 0;
    int file = 0;
    reader->head[reader->head_size] = '\0';
    for (char *line = reader->head; *line != '\0';) {
        char *end = strstr(line, "\r\n");
        if (end == NULL)
            return fault(reader, &bad_head);
        *end = '\0';
        if (strncasecmp(line, "content-disposition:", 20) == 0) {
            named = disposition(line, "name", reader->name, sizeof reader->name);
            file = disposition(line, "filename", reader->filename, sizeof reader->filename);
        }
        line = end + 2;
    }
    if (named < 0 || file < 0)
        return fault(reader, &bad_head);
    if (named == 0)
        return fault(reader, &no_name);
    reader->state = AT_BODY;
    reader->value_size = 0;
    if (file == 0)
        return (struct gw_part){.kind = GW_PART_MORE};
    if (reader->in_file)
        return fault(reader, &two_files);
    if (reader->filename[0] == '\0')
        return fault(reader, &no_filename);
    reader->in_file = true;
    return (struct gw_part){.kind = GW_PART_FILE, .name = reader->name, .filename = reader->filename};
}

/* Takes one byte of a part's header lines; the part begins at the empty line. */
static struct gw_part head_byte(struct gw_multipart *reader, char c)
{
    if (c == '\0' || reader->head_size == GW_PART_HEAD_MAX)
        return fault(reader, &bad_head);
    reader->head[reader->head_size++] = c;
    size_t size = reader->head_size;
    bool empty = size == 2 && memcmp(reader->head, "\r\n", 2) == 0;
    if (empty || (size >= 4 && memcmp(reader->head + size - 4, "\r\n\r\n", 4) == 0)) {
        reader->head_size -= 2;
        return begin_part(reader);
    }
    return (struct gw_part){.kind = GW_PART_MORE};
}

static bool reading_file(const struct gw_multipart *reader)
{
    return reader->in_file && reader->filename[0] != '\0';
}

/* A delimiter is complete: what was before it ends. */
static struct gw_part end_part(struct gw_multipart *reader)
{
    bool was_file = reading_file(reader);
    reader->state = BEHIND;
    reader->matched = 0;
    reader->value[reader->value_size] = '\0';
    if (reader->parts == 0)
        return (struct gw_part){.kind = GW_PART_MORE};
    if (was_file) {
        reader->filename[0] = '\0'; /* in_file stays: there may be one file only */
        return (struct gw_part){.kind = GW_PART_FILE_END};
    }
    return (struct gw_part){
        .kind = GW_PART_FIELD, .name = reader->name, .value = reader->value, .size = reader->value_size};
}

/* Bytes that belong to the part that is being read. */
static struct gw_part body_bytes(struct gw_multipart *reader, const char *bytes, size_t size)
{
    if (reader->parts == 0)
        return fault(reader, &preamble);
    if (reading_file(reader))
        return (struct gw_part){.kind = GW_PART_DATA, .data = bytes, .size = size};
    if (size > GW_FIELD_MAX - reader->value_size)
        return fault(reader, &field_too_large);
    memcpy(reader->value + reader->value_size, bytes, size);
    reader->value_size += size;
    return (struct gw_part){.kind = GW_PART_MORE};
}

/* Reads on inside a part: to the end of a delimiter, or of the bytes that surely are data. */
static struct gw_part body_next(struct gw_multipart *reader, const char *bytes, size_t size, size_t *ret_used)
{
    size_t at = 0;
    if (reader->matched == 0) { /* everything up to the next CR is data */
        const char *end = memchr(bytes, '\r', size);
        at = end == NULL ? size : (size_t)(end - bytes);
        if (at > 0) {
            *ret_used = at;
            return body_bytes(reader, bytes, at);
        }
    }
    while (at < size && reader->matched < reader->delimiter_size &&
           bytes[at] == reader->delimiter[reader->matched]) {
        reader->matched++;
        at++;
    }
    *ret_used = at;
    if (reader->matched == reader->delimiter_size)
        return end_part(reader);
    if (at == size)
        return (struct gw_part){.kind = GW_PART_MORE};
    size_t held = reader->matched;
    reader->matched = 0;
    return body_bytes(reader, reader->delimiter, held); /* never the first delimiter: parts == 0 is a fault */
}

static struct gw_part behind_byte(struct gw_multipart *reader, char c)
{
    int state = reader->state;
    if (state == BEHIND && c == '-')
        reader->state = BEHIND_DASH;
    else if (state == BEHIND && c == '\r')
        reader->state = BEHIND_CR;
    else if (state == BEHIND && (c == ' ' || c == '\t'))
        reader->state = BEHIND; /* blanks that a transport added */
    else if (state == BEHIND_CR && c == '\n') {
        reader->state = IN_HEAD;
        reader->head_size = 0;
    } else if (state == BEHIND_DASH && c == '-') {
        reader->state = FINISHED;
        return (struct gw_part){.kind = GW_PART_END};
    } else {
        return fault(reader, &bad_delimiter);
    }
    return (struct gw_part){.kind = GW_PART_MORE};
}

struct gw_part gw_multipart_next(struct gw_multipart *reader, const char *bytes, size_t size,
                                 size_t *ret_used)
{
    size_t used = 0;
    struct gw_part part = {.kind = GW_PART_MORE};
    while (used < size && part.kind == GW_PART_MORE) {
        size_t step = 1;
        if (reader->state == AT_BODY)
            part = body_next(reader, bytes + used, size - used, &step);
        else if (reader->state == IN_HEAD)
            part = head_byte(reader, bytes[used]);
        else if (reader->state == FINISHED)
            step = size - used;
        else
            part = behind_byte(reader, bytes[used]);
        used += step;
    }
    *ret_used = used;
    return part;
}
