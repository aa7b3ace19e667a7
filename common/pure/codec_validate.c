/* Limits of the contract, checked on messages. */
#include <stdio.h>
#include <string.h>

#include "pure/codec_fields.h"
#include "pure/format.h"
#include "pure/number.h"
#include "pure/pattern.h"
#include "pure/utf8.h"

struct checker {
    struct codec_faults *faults;
    const struct atl_message *root;
    const ProtobufCMessage *message;
    size_t *unbuilt;
    bool in_property;
};

static void check_message(const struct checker *checker, const struct atl_message *table,
                          const ProtobufCMessage *message);

static void check_range(const struct checker *checker, const struct atl_field *field, const char *name,
                        double value)
{
    bool has_min = (field->flags & ATL_F_HAS_MIN) != 0;
    bool has_max = (field->flags & ATL_F_HAS_MAX) != 0;
    if ((!has_min || value >= field->min) && (!has_max || value <= field->max))
        return;
    char min[ATL_NUMBER_MAX];
    char max[ATL_NUMBER_MAX];
    char got[ATL_NUMBER_MAX];
    (void)atl_double_to_text(field->min, min);
    (void)atl_double_to_text(field->max, max);
    (void)atl_double_to_text(value, got);
    if ((field->flags & ATL_F_SECRET) != 0)
        (void)snprintf(got, sizeof got, "a secret value");
    if (has_min && has_max)
        codec_fault(checker->faults, name, "must be between %s and %s, got %s", min, max, got);
    else if (has_min)
        codec_fault(checker->faults, name, "value must have a minimum value of %s, got %s", min, got);
    else
        codec_fault(checker->faults, name, "value must have a maximum value of %s, got %s", max, got);
}

static void fault_set(const struct checker *checker, const struct atl_field *field, const char *name,
                      const char *value)
{
    char list[256] = "";
    size_t used = 0;
    for (const char *const *known = field->values; *known != NULL && used < sizeof list - 1; known++) {
        int length = snprintf(list + used, sizeof list - used, "%s%s", used == 0 ? "" : ", ", *known);
        used += length < 0 ? 0 : (size_t)length;
    }
    codec_fault(checker->faults, name, "value %s does not have a value in the enumeration '%s'",
                codec_quoted(field, value).text, list);
}

static void check_length(const struct checker *checker, const struct atl_field *field, const char *name,
                         const char *value, size_t bytes)
{
    if (field->min_length == 0 && (field->max_length == 0 || bytes <= field->max_length))
        return;
    size_t length = atl_utf8_length(value, bytes);
    if (length < field->min_length)
        codec_fault(checker->faults, name, "value must be at least %u characters long, got %zu",
                    field->min_length, length);
    else if (field->max_length != 0 && length > field->max_length)
        codec_fault(checker->faults, name, "value may only be %u characters long, got %zu", field->max_length,
                    length);
}

static bool holds_separator(const char *value)
{
    for (; *value != '\0'; value++)
        if (codec_is_separator(*value))
            return true;
    return false;
}

static void check_text(const struct checker *checker, const struct atl_field *field, const char *name,
                       const char *value)
{
    size_t length = strlen(value);
    const char *wants = NULL;
    if (length > CODEC_VALUE_MAX)
        codec_fault(checker->faults, name, "value is longer than %d bytes", CODEC_VALUE_MAX);
    else if (!atl_utf8_valid(value, length))
        codec_fault(checker->faults, name, "value is not valid UTF-8");
    else if (field->separator != '\0' && (length == 0 || holds_separator(value)))
        codec_fault(checker->faults, name,
                    "an item of this list may not be empty or hold ',', ';' or a blank");
    else if (checker->in_property && memchr(value, ',', length) != NULL)
        codec_fault(checker->faults, name, "a value in here may not hold ','");
    else if (field->values != NULL && !codec_in_set(field, value))
        fault_set(checker, field, name, value);
    else if (field->format != NULL && !atl_format_matches(field->format, value, length, &wants))
        codec_fault(checker->faults, name, "invalid format - value does not look like %s, got %s", wants,
                    codec_quoted(field, value).text);
    else if (field->pattern != NULL && !atl_pattern_matches(field->pattern, value, length))
        codec_fault(checker->faults, name, "value does not match the regex pattern '%.80s', got %s",
                    field->pattern, codec_quoted(field, value).text);
    else
        check_length(checker, field, name, value, length);
}

static void check_scalar(const struct checker *checker, const struct atl_field *field,
                         const ProtobufCFieldDescriptor *fd, const char *name, const void *value)
{
    switch (field->kind) {
    case ATL_KIND_INT:
        check_range(checker, field, name, (double)codec_as_int(fd, value));
        break;
    case ATL_KIND_UINT:
        check_range(checker, field, name, (double)codec_as_uint(fd, value));
        break;
    case ATL_KIND_DOUBLE:
        check_range(checker, field, name, codec_as_double(fd, value));
        break;
    case ATL_KIND_STRING:
        check_text(checker, field, name, *(char *const *)value);
        break;
    default:
        break;
    }
}

/* The nested message is a world of its own: its `requires` look there, its faults are told under our name. */
static void check_nested(const struct checker *checker, const struct atl_field *field,
                         const ProtobufCMessage *value, const char *name)
{
    struct codec_faults faults = {
        .errors = checker->faults->errors,
        .outer = checker->faults->outer == NULL ? name : checker->faults->outer,
    };
    struct checker inner = {
        .faults = &faults,
        .root = field->sub,
        .message = value,
        .unbuilt = checker->unbuilt,
        .in_property = checker->in_property || field->sub->style == ATL_STYLE_PROPERTY,
    };
    check_message(&inner, field->sub, value);
    checker->faults->count += faults.count;
}

/* What holds for the list or the numbered field as a whole holds for each value of it. */
static void check_value(const struct checker *checker, const struct atl_field *field,
                        const ProtobufCMessage *message, size_t i, const char *name)
{
    if (field->kind == ATL_KIND_MESSAGE)
        check_nested(checker, field, codec_sub(message, field, i), name);
    else
        check_scalar(checker, field, codec_fd(message, field), name, codec_item(message, field, i));
}

static void check_built(const struct checker *checker, const struct atl_field *field,
                        const ProtobufCMessage *message, const char *name)
{
    if ((field->flags & ATL_F_UNBUILT) == 0)
        return;
    struct atl_buf text = {0};
    (void)atl_buf_reserve(&text, 0);
    if ((field->flags & ATL_F_NUMBERED) == 0)
        codec_field_to_text(message, field, &text);
    text.data[text.length] = '\0';
    bool truth = false;
    bool same = field->fallback != NULL && strcmp(text.data, field->fallback) == 0;
    if (field->kind == ATL_KIND_BOOL && field->fallback != NULL &&
        atl_bool_from_text(field->fallback, &truth))
        same = text.data[0] == (truth ? '1' : '0');
    atl_buf_done(&text);
    if (same)
        return;
    (*checker->unbuilt)++;
    size_t count = checker->faults->count;
    codec_fault(checker->faults, name, "this parameter is known but not implemented");
    checker->faults->count = count; /* it is counted apart */
}

static void check_slots(const struct checker *checker, const struct atl_field *field,
                        const ProtobufCMessage *message)
{
    size_t count = codec_count(message, field);
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessage *slot = codec_sub(message, field, i);
        const struct atl_field *value = codec_slot_value_field(field);
        uint64_t index = codec_slot_index(field, slot);
        char name[CODEC_NAME_MAX];
        (void)snprintf(name, sizeof name, "%.100s%" PRIu64, field->name, index);
        if (index > field->max_index)
            codec_fault(checker->faults, name, "the number must be between 0 and %u", field->max_index);
        else if (codec_slot_find(message, field, index) != slot)
            codec_fault(checker->faults, name, "duplicate parameter");
        else if (codec_count(slot, value) == 0)
            codec_fault(checker->faults, name, "property is missing and it is not optional");
        else {
            check_built(checker, field, message, name);
            check_value(checker, value, slot, 0, name);
            if (value->kind != ATL_KIND_MESSAGE) {
                struct atl_field limits =
                    *field; /* what is said of the numbered field holds for its values */
                limits.kind = value->kind;
                check_scalar(checker, &limits, codec_fd(slot, value), name, codec_item(slot, value, 0));
            }
        }
    }
}

static void check_needs(const struct checker *checker, const struct atl_field *field)
{
    struct codec_place other;
    if (field->needs == NULL || !codec_find(checker->root, checker->message, field->needs, &other))
        return;
    if (other.holder == NULL || codec_count(other.holder, other.field) == 0)
        codec_fault(checker->faults, field->needs, "missing property - '%s' requires this property",
                    field->name);
}

static void check_field(const struct checker *checker, const struct atl_field *field,
                        const ProtobufCMessage *message)
{
    size_t count = codec_count(message, field);
    if (count == 0) {
        if ((field->flags & ATL_F_REQUIRED) != 0)
            codec_fault(checker->faults, field->name, "property is missing and it is not optional");
        return;
    }
    check_needs(checker, field);
    if ((field->flags & ATL_F_NUMBERED) != 0) {
        check_slots(checker, field, message);
        return;
    }
    check_built(checker, field, message, field->name);
    for (size_t i = 0; i < count; i++)
        check_value(checker, field, message, i, field->name);
}

static void check_message(const struct checker *checker, const struct atl_message *table,
                          const ProtobufCMessage *message)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_INLINE) == 0 || codec_is_list(field))
            check_field(checker, field, message);
        else if (codec_inlined(message, field) != NULL)
            check_message(checker, field->sub, codec_inlined(message, field));
    }
}

void codec_validate(const struct atl_message *table, const ProtobufCMessage *message,
                    struct codec_faults *faults, size_t *ret_unbuilt)
{
    struct checker checker = {
        .faults = faults,
        .root = table,
        .message = message,
        .unbuilt = ret_unbuilt,
        .in_property = table->style == ATL_STYLE_PROPERTY,
    };
    check_message(&checker, table, message);
}

enum atl_code atl_validate(const struct atl_message *table, const ProtobufCMessage *message,
                           struct atl_errors *errors)
{
    struct codec_faults faults = {.errors = errors};
    size_t unbuilt = 0;
    codec_validate(table, message, &faults, &unbuilt);
    if (faults.count > 0)
        return ATL_E_INVALID;
    return unbuilt > 0 ? ATL_E_UNIMPLEMENTED : ATL_OK;
}
