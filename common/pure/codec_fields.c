/* Fields of messages by table: presence, memory, lookup, single values. */
#include "pure/codec_fields.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pure/number.h"
#include "pure/utf8.h"

/* Whether a further error of that parameter would be dropped: then its text need not be made. */
static bool is_told(struct atl_errors *errors, const char *field)
{
    if (errors == NULL)
        return true;
    for (size_t i = 0; i < errors->count; i++)
        if (strncmp(errors->items[i].field, field, ATL_FIELD_MAX - 1) == 0)
            return true;
    if (errors->count < ATL_ERRORS_MAX)
        return false;
    errors->dropped++;
    return true;
}

void codec_fault(struct codec_faults *faults, const char *name, const char *format, ...)
{
    char text[ATL_TEXT_MAX];
    faults->count++;
    if (is_told(faults->errors, faults->outer == NULL ? name : faults->outer))
        return;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (faults->outer == NULL)
        atl_errors_add(faults->errors, name, "%s", text);
    else if (name[0] == '\0')
        atl_errors_add(faults->errors, faults->outer, "invalid format - %s", text);
    else
        atl_errors_add(faults->errors, faults->outer, "invalid format - %s: %s", name, text);
}

struct codec_quote codec_quoted(const struct atl_field *field, const char *text)
{
    struct codec_quote quote;
    if (field != NULL && (field->flags & ATL_F_SECRET) != 0)
        (void)snprintf(quote.text, sizeof quote.text, "a value that is secret");
    else if (strlen(text) > 64)
        (void)snprintf(quote.text, sizeof quote.text, "'%.60s...'", text);
    else
        (void)snprintf(quote.text, sizeof quote.text, "'%s'", text);
    return quote;
}

/* --- memory ------------------------------------------------------------------------------------------ */

ProtobufCMessage *codec_new(const struct atl_message *table, struct atl_arena *arena)
{
    ProtobufCMessage *message = atl_arena_alloc(arena, table->descriptor->sizeof_message);
    protobuf_c_message_init(table->descriptor, message);
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_INLINE) != 0 && !codec_is_list(field))
            *(ProtobufCMessage **)codec_at(message, codec_fd(message, field)->offset) =
                codec_new(field->sub, arena);
    }
    return message;
}

/* Arrays of this codec have room for 4, 8, 16 ... values, so the length alone says when one is full. */
static bool is_full(size_t count)
{
    return count == 0 || (count >= 4 && (count & (count - 1)) == 0);
}

void *codec_add(ProtobufCMessage *message, const struct atl_field *field, struct atl_arena *arena)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    void *member = codec_at(message, fd->offset);
    if (fd->label != PROTOBUF_C_LABEL_REPEATED) {
        if (fd->label == PROTOBUF_C_LABEL_OPTIONAL && !codec_is_pointer(fd))
            *(protobuf_c_boolean *)codec_at(message, fd->quantifier_offset) = 1;
        return member;
    }
    size_t *count = codec_at(message, fd->quantifier_offset);
    size_t size = codec_value_size(fd);
    unsigned char **array = member;
    if (is_full(*count)) {
        unsigned char *larger = atl_arena_alloc(arena, (*count == 0 ? 4 : *count * 2) * size);
        if (*count > 0)
            memcpy(larger, *array, *count * size);
        *array = larger;
    }
    return *array + (*count)++ * size;
}

void codec_clear(ProtobufCMessage *message, const struct atl_field *field)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    void *member = codec_at(message, fd->offset);
    if (fd->label == PROTOBUF_C_LABEL_REPEATED) {
        *(size_t *)codec_at(message, fd->quantifier_offset) = 0;
        *(void **)member = NULL;
        return;
    }
    memset(member, 0, codec_value_size(fd));
    if (fd->label == PROTOBUF_C_LABEL_OPTIONAL && !codec_is_pointer(fd))
        *(protobuf_c_boolean *)codec_at(message, fd->quantifier_offset) = 0;
}

/* --- slots ------------------------------------------------------------------------------------------- */

static const struct atl_field *slot_field(const struct atl_field *numbered, const char *name)
{
    const struct atl_field *found = NULL;
    for (uint32_t i = 0; i < numbered->sub->count; i++)
        if (strcmp(numbered->sub->fields[i].name, name) == 0)
            found = &numbered->sub->fields[i];
    atl_assert(found != NULL);
    return found;
}

const struct atl_field *codec_slot_index_field(const struct atl_field *numbered)
{
    return slot_field(numbered, "index");
}

const struct atl_field *codec_slot_value_field(const struct atl_field *numbered)
{
    return slot_field(numbered, "value");
}

uint64_t codec_slot_index(const struct atl_field *numbered, const ProtobufCMessage *slot)
{
    const struct atl_field *field = codec_slot_index_field(numbered);
    return codec_as_uint(codec_fd(slot, field), codec_item(slot, field, 0));
}

ProtobufCMessage *codec_slot_find(const ProtobufCMessage *message, const struct atl_field *numbered,
                                  uint64_t index)
{
    size_t count = codec_count(message, numbered);
    for (size_t i = 0; i < count; i++) {
        ProtobufCMessage *slot = codec_sub(message, numbered, i);
        if (codec_slot_index(numbered, slot) == index)
            return slot;
    }
    return NULL;
}

void codec_slot_insert(ProtobufCMessage *message, const struct atl_field *numbered, ProtobufCMessage *slot,
                       struct atl_arena *arena)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, numbered);
    size_t *count = codec_at(message, fd->quantifier_offset);
    ProtobufCMessage ***array = codec_at(message, fd->offset);
    uint64_t index = codec_slot_index(numbered, slot);
    ProtobufCMessage **larger = atl_arena_array(arena, ProtobufCMessage *, *count + 1);
    size_t at = 0;
    while (at < *count && codec_slot_index(numbered, (*array)[at]) < index)
        at++;
    for (size_t i = 0; i < *count; i++)
        larger[i + (i >= at)] = (*array)[i];
    larger[at] = slot;
    *array = larger;
    (*count)++;
}

/* --- lookup ------------------------------------------------------------------------------------------ */

static bool same_name(const char *known, const char *name, size_t length)
{
    return known[0] == name[0] && strncmp(known, name, length) == 0 && known[length] == '\0';
}

bool codec_field_is_called(const struct atl_field *field, const char *name, size_t length)
{
    if (length == 0)
        return false;
    if (same_name(field->name, name, length))
        return true;
    for (const char *const *alias = field->aliases; alias != NULL && *alias != NULL; alias++)
        if (same_name(*alias, name, length))
            return true;
    return false;
}

bool codec_split_number(const char *name, size_t *ret_base_length, uint32_t *ret_number)
{
    size_t length = strlen(name);
    size_t base = length;
    while (base > 0 && name[base - 1] >= '0' && name[base - 1] <= '9')
        base--;
    size_t digits = length - base;
    if (base == 0 || digits == 0 || digits > 6 || (digits > 1 && name[base] == '0'))
        return false;
    *ret_base_length = base;
    *ret_number = (uint32_t)strtoul(name + base, NULL, 10);
    return true;
}

struct lookup {
    const char *name;
    size_t length;
    size_t base_length; /* 0: no number at the end */
    uint32_t number;
};

static bool is_meant(const struct atl_field *field, const struct lookup *lookup)
{
    if ((field->flags & ATL_F_NUMBERED) == 0)
        return codec_field_is_called(field, lookup->name, lookup->length);
    return lookup->base_length > 0 && lookup->number <= field->max_index &&
           codec_field_is_called(field, lookup->name, lookup->base_length);
}

static bool find_in(const struct atl_message *table, const ProtobufCMessage *message,
                    const struct lookup *lookup, struct codec_place *ret_place)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_INLINE) != 0) {
            const ProtobufCMessage *inner = message == NULL ? NULL : codec_inlined(message, field);
            if (find_in(field->sub, inner, lookup, ret_place))
                return true;
        } else if (is_meant(field, lookup)) {
            *ret_place =
                (struct codec_place){.field = field, .holder = codec_at(message, 0), .slot = lookup->number};
            return true;
        }
    }
    return false;
}

bool codec_find(const struct atl_message *table, const ProtobufCMessage *message, const char *name,
                struct codec_place *ret_place)
{
    struct lookup lookup = {.name = name, .length = strlen(name)};
    (void)codec_split_number(name, &lookup.base_length, &lookup.number);
    return find_in(table, message, &lookup, ret_place);
}

const struct atl_field *atl_message_field(const struct atl_message *message, const char *name)
{
    size_t length = strlen(name);
    struct codec_place place;
    for (uint32_t i = 0; i < message->count; i++) {
        const struct atl_field *field = &message->fields[i];
        if ((field->flags & ATL_F_INLINE) != 0) {
            const struct atl_field *inner = atl_message_field(field->sub, name);
            if (inner != NULL)
                return inner;
        } else if (codec_field_is_called(field, name, length)) {
            return field;
        }
    }
    return codec_find(message, NULL, name, &place) ? place.field : NULL;
}

/* --- single values ----------------------------------------------------------------------------------- */

int64_t codec_as_int(const ProtobufCFieldDescriptor *fd, const void *value)
{
    switch (fd->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return *(const int64_t *)value;
    default:
        return *(const int32_t *)value;
    }
}

uint64_t codec_as_uint(const ProtobufCFieldDescriptor *fd, const void *value)
{
    switch (fd->type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return *(const uint64_t *)value;
    default:
        return *(const uint32_t *)value;
    }
}

double codec_as_double(const ProtobufCFieldDescriptor *fd, const void *value)
{
    if (fd->type == PROTOBUF_C_TYPE_FLOAT)
        return (double)*(const float *)value;
    return *(const double *)value;
}

static const char *const not_integer = "type check ('integer') failed";

static const char *int_from_text(const ProtobufCFieldDescriptor *fd, const char *text, void *ret_value)
{
    int64_t value = 0;
    if (!atl_int_from_text(text, &value))
        return not_integer;
    if (codec_value_size(fd) == 8)
        *(int64_t *)ret_value = value;
    else if (value < INT32_MIN || value > INT32_MAX)
        return "value must be between -2147483648 and 2147483647";
    else
        *(int32_t *)ret_value = (int32_t)value;
    return NULL;
}

static const char *uint_from_text(const ProtobufCFieldDescriptor *fd, const char *text, void *ret_value)
{
    uint64_t value = 0;
    int64_t negative = 0;
    if (!atl_uint_from_text(text, &value))
        return atl_int_from_text(text, &negative) ? "value must have a minimum value of 0" : not_integer;
    if (codec_value_size(fd) == 8)
        *(uint64_t *)ret_value = value;
    else if (value > UINT32_MAX)
        return "value must have a maximum value of 4294967295";
    else
        *(uint32_t *)ret_value = (uint32_t)value;
    return NULL;
}

static const char *double_from_text(const ProtobufCFieldDescriptor *fd, const char *text, void *ret_value)
{
    double value = 0;
    if (!atl_double_from_text(text, &value))
        return "type check ('number') failed";
    if (fd->type == PROTOBUF_C_TYPE_FLOAT)
        *(float *)ret_value = (float)value;
    else
        *(double *)ret_value = value;
    return NULL;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* Bytes have no face of their own outside; hexadecimal serves where one is needed. */
static const char *bytes_from_text(const char *text, struct atl_arena *arena, ProtobufCBinaryData *ret_value)
{
    size_t length = strlen(text);
    if (length % 2 != 0)
        return "type check ('hexadecimal bytes') failed";
    unsigned char *bytes = atl_arena_alloc(arena, length / 2 + 1);
    for (size_t i = 0; i < length; i += 2) {
        int high = hex_digit(text[i]);
        int low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0)
            return "type check ('hexadecimal bytes') failed";
        bytes[i / 2] = (unsigned char)(high * 16 + low);
    }
    *ret_value = (ProtobufCBinaryData){.len = length / 2, .data = bytes};
    return NULL;
}

const char *codec_value_from_text(const ProtobufCFieldDescriptor *fd, const char *text,
                                  struct atl_arena *arena, void *ret_value)
{
    bool truth = false;
    switch (fd->type) {
    case PROTOBUF_C_TYPE_BOOL:
        if (!atl_bool_from_text(text, &truth))
            return "type check ('boolean') failed";
        *(protobuf_c_boolean *)ret_value = truth;
        return NULL;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return int_from_text(fd, text, ret_value);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return uint_from_text(fd, text, ret_value);
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        return double_from_text(fd, text, ret_value);
    case PROTOBUF_C_TYPE_STRING:
        if (!atl_utf8_valid(text, strlen(text)))
            return "value is not valid UTF-8";
        *(char **)ret_value = atl_arena_strdup(arena, text);
        return NULL;
    case PROTOBUF_C_TYPE_BYTES:
        return bytes_from_text(text, arena, ret_value);
    default:
        return "this parameter is an object and takes no text";
    }
}

static void bytes_to_text(const ProtobufCBinaryData *value, struct atl_buf *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < value->len; i++) {
        atl_buf_char(out, digits[value->data[i] >> 4]);
        atl_buf_char(out, digits[value->data[i] & 15]);
    }
}

static void add_int(struct atl_buf *out, int64_t value)
{
    char number[ATL_NUMBER_MAX];
    if (value < 0)
        atl_buf_char(out, '-');
    atl_buf_add(out, number, atl_uint_to_text(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, number));
}

void codec_value_to_text(const ProtobufCFieldDescriptor *fd, const void *value, struct atl_buf *out)
{
    char number[ATL_NUMBER_MAX];
    switch (fd->type) {
    case PROTOBUF_C_TYPE_BOOL:
        atl_buf_char(out, *(const protobuf_c_boolean *)value ? '1' : '0');
        break;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        add_int(out, codec_as_int(fd, value));
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        atl_buf_add(out, number, atl_uint_to_text(codec_as_uint(fd, value), number));
        break;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        atl_buf_add(out, number, atl_double_to_text(codec_as_double(fd, value), number));
        break;
    case PROTOBUF_C_TYPE_STRING:
        atl_buf_text(out, *(char *const *)value);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        bytes_to_text(value, out);
        break;
    default:
        break;
    }
}

bool codec_is_separator(char c)
{
    return c == ',' || c == ';' || codec_is_blank(c);
}
