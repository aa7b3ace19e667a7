/* JSON read with json-c: parameters, and answers back into messages. */
#include <json-c/json.h>
#include <string.h>

#include "pure/codec_fields.h"
#include "pure/utf8.h"

static void put_json(json_object **object)
{
    (void)json_object_put(*object);
}

#define PUT_AT_EXIT ATL_CLEANUP(put_json)

/* --- a walk over the tokens, before json-c sees the text and where it keeps too little ---------------- */

struct token_walk {
    const char *at;
    const char *end;
    const char *key; /* the last string, with its quotes */
    size_t key_length;
    int depth;
    const char *wrong; /* what JSON does not have, though json-c takes it */
};

static void walk_string(struct token_walk *walk)
{
    const char *start = walk->at++;
    while (walk->at < walk->end && *walk->at != '"') {
        size_t left = (size_t)(walk->end - walk->at);
        if (left >= 6 && memcmp(walk->at, "\\u0000", 6) == 0)
            walk->wrong = "a text holds a NUL";
        walk->at += *walk->at == '\\' && left >= 2 ? 2 : 1;
    }
    walk->at += walk->at < walk->end;
    walk->key = start;
    walk->key_length = (size_t)(walk->at - start);
}

/* Moves behind the next key of the outermost object. */
static bool next_key(struct token_walk *walk)
{
    while (walk->at < walk->end) {
        char c = *walk->at;
        if (c == '"') {
            walk_string(walk);
            continue;
        }
        walk->at++;
        if (c == '{' || c == '[')
            walk->depth++;
        else if (c == '}' || c == ']')
            walk->depth--;
        else if (c == ':' && walk->depth == 1)
            return true;
        else if (strchr(":, \t\r\n0123456789+-.eEtrufalsn", c) == NULL)
            walk->wrong = "unexpected character"; /* single quotes, comments, NaN */
    }
    return false;
}

/* One whole JSON text; NULL on success, else what is wrong with it. */
static const char *parse(const char *text, size_t length, json_object **ret_object)
{
    if (length > CODEC_ANSWER_MAX)
        return "the JSON text is too long";
    if (memchr(text, '\0', length) != NULL)
        return "the JSON text holds a NUL";
    if (!atl_utf8_valid(text, length))
        return "the JSON text is not valid UTF-8";
    struct token_walk walk = {.at = text, .end = text + length};
    while (next_key(&walk)) { /* to its end: it looks at everything */
    }
    if (walk.wrong != NULL)
        return walk.wrong;
    struct json_tokener *tokener = json_tokener_new_ex(CODEC_DEPTH_MAX);
    atl_assert(tokener != NULL);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    json_object *object = json_tokener_parse_ex(tokener, text, (int)length);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    if (error == json_tokener_continue) { /* a bare number ends only where the text does */
        object = json_tokener_parse_ex(tokener, "\0", 1);
        error = json_tokener_get_error(tokener);
    }
    json_tokener_free(tokener);
    if (error != json_tokener_success) {
        (void)json_object_put(object);
        return json_tokener_error_desc(error);
    }
    *ret_object = object;
    return NULL;
}

/* --- parameters -------------------------------------------------------------------------------------- */

struct collector {
    struct atl_arena *arena;
    struct atl_param *params;
    size_t count;
    size_t capacity;
    struct atl_error *err;
};

/* json-c puts the greatest number it has in place of a greater one. */
static bool is_saturated(const json_object *value)
{
    return json_object_get_uint64(value) == UINT64_MAX || json_object_get_int64(value) == INT64_MIN;
}

static enum atl_code collect(struct collector *to, const char *name, json_object *value)
{
    const char *text = NULL;
    if (to->count == CODEC_PARAMS_MAX)
        return atl_fail(to->err, ATL_E_LIMIT, NULL, "there are more than %d parameters", CODEC_PARAMS_MAX);
    if (value != NULL) {
        bool is_string = json_object_is_type(value, json_type_string);
        if (json_object_is_type(value, json_type_int) && is_saturated(value))
            return atl_fail(to->err, ATL_E_INVALID, name, "the number is too large");
        text = is_string ? json_object_get_string(value) : json_object_to_json_string(value);
        if (strlen(text) > CODEC_VALUE_MAX)
            return atl_fail(to->err, ATL_E_LIMIT, name, "value is longer than %d bytes", CODEC_VALUE_MAX);
        text = atl_arena_strdup(to->arena, text);
    }
    to->params = atl_arena_grow(to->arena, to->params, to->count, &to->capacity, sizeof *to->params);
    to->params[to->count++] = (struct atl_param){.name = atl_arena_strdup(to->arena, name), .value = text};
    return ATL_OK;
}

static bool is_scalar(const json_object *value)
{
    return !json_object_is_type(value, json_type_object) && !json_object_is_type(value, json_type_array);
}

static enum atl_code collect_member(struct collector *to, const char *name, json_object *value)
{
    if (json_object_is_type(value, json_type_object))
        return atl_fail(to->err, ATL_E_INVALID, name,
                        "value is a JSON object, expected a text, number or list");
    if (!json_object_is_type(value, json_type_array))
        return collect(to, name, value);
    size_t count = json_object_array_length(value);
    for (size_t i = 0; i < count; i++) {
        json_object *item = json_object_array_get_idx(value, i);
        if (item == NULL || !is_scalar(item))
            return atl_fail(to->err, ATL_E_INVALID, name,
                            "the list holds something else than texts and numbers");
        enum atl_code code = collect(to, name, item);
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}

/* json-c keeps the last of two members of the same name; here both are told, so that they can be refused. */
static enum atl_code collect_twice(struct collector *to, const char *text, size_t length, json_object *object)
{
    struct token_walk walk = {.at = text, .end = text + length};
    while (next_key(&walk)) {
        PUT_AT_EXIT json_object *key = NULL;
        json_object *value = NULL;
        if (parse(walk.key, walk.key_length, &key) != NULL || key == NULL)
            return atl_fail(to->err, ATL_E_INVALID, NULL, "the JSON text has a broken key");
        const char *name = json_object_get_string(key);
        if (!json_object_object_get_ex(object, name, &value))
            return atl_fail(to->err, ATL_E_INVALID, NULL, "the JSON text has a broken key");
        enum atl_code code = collect_member(to, name, value);
        if (code != ATL_OK)
            return code;
    }
    return ATL_OK;
}

enum atl_code atl_json_params(const char *text, size_t length, struct atl_arena *arena,
                              struct atl_param **ret_params, size_t *ret_count, struct atl_error *err)
{
    PUT_AT_EXIT json_object *object = NULL;
    struct collector to = {.arena = arena, .err = err};
    enum atl_code code = ATL_OK;
    const char *wrong = parse(text, length, &object);
    if (wrong != NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "cannot read the JSON body: %s", wrong);
    if (!json_object_is_type(object, json_type_object))
        return atl_fail(err, ATL_E_INVALID, NULL, "the JSON body is not an object");
    struct token_walk walk = {.at = text, .end = text + length};
    size_t keys = 0;
    while (next_key(&walk))
        keys++;
    if (keys == (size_t)json_object_object_length(object)) {
        json_object_object_foreach(object, name, value)
        {
            if (code == ATL_OK)
                code = collect_member(&to, name, value);
        }
    } else {
        code = collect_twice(&to, text, length, object);
    }
    if (code != ATL_OK)
        return code;
    *ret_params = to.params;
    *ret_count = to.count;
    return ATL_OK;
}

/* --- answers ----------------------------------------------------------------------------------------- */

static ProtobufCMessage *read_message(struct codec_reader *reader, const struct atl_message *table,
                                      json_object *json, const char *name);

static const char *text_of(const struct atl_field *field, json_object *json)
{
    if ((field->flags & ATL_F_RAW_JSON) == 0 && json_object_is_type(json, json_type_string))
        return json_object_get_string(json);
    return json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static void read_value(struct codec_reader *reader, ProtobufCMessage *message, const struct atl_field *field,
                       json_object *json, const char *name)
{
    if (field->kind == ATL_KIND_MESSAGE) {
        ProtobufCMessage *value = read_message(reader, field->sub, json, name);
        if (value != NULL)
            *(ProtobufCMessage **)codec_add(message, field, reader->arena) = value;
        return;
    }
    if ((field->flags & ATL_F_RAW_JSON) == 0 && (json == NULL || !is_scalar(json))) {
        codec_fault(&reader->faults, name,
                    "the answer holds an object, a list or null, expected a plain value");
        return;
    }
    struct codec_place place = {.field = field, .holder = message};
    codec_take(reader, &place, name, text_of(field, json));
}

static void read_list(struct codec_reader *reader, ProtobufCMessage *message, const struct atl_field *field,
                      json_object *json, const char *name)
{
    if (!json_object_is_type(json, json_type_array)) {
        if (field->separator != '\0' && json != NULL && is_scalar(json))
            read_value(reader, message, field, json, name);
        else
            codec_fault(&reader->faults, name, "the answer holds no list");
        return;
    }
    size_t count = json_object_array_length(json);
    for (size_t i = 0; i < count; i++)
        read_value(reader, message, field, json_object_array_get_idx(json, i), name);
}

static void read_slot(struct codec_reader *reader, const struct codec_place *place, json_object *json,
                      const char *name)
{
    if (codec_slot_find(place->holder, place->field, place->slot) != NULL)
        return; /* its canonical name or an alias came before */
    ProtobufCMessage *slot = codec_new(place->field->sub, reader->arena);
    const struct atl_field *index = codec_slot_index_field(place->field);
    void *number = codec_add(slot, index, reader->arena);
    if (codec_value_is_small(codec_fd(slot, index)))
        *(uint32_t *)number = place->slot;
    else
        *(uint64_t *)number = place->slot;
    read_value(reader, slot, codec_slot_value_field(place->field), json, name);
    codec_slot_insert(place->holder, place->field, slot, reader->arena);
}

static void read_place(struct codec_reader *reader, const struct codec_place *place, json_object *json,
                       const char *name)
{
    const struct atl_field *field = place->field;
    if (json == NULL && (field->flags & ATL_F_RAW_JSON) == 0)
        return;
    if ((field->flags & ATL_F_NUMBERED) != 0)
        read_slot(reader, place, json, name);
    else if (codec_is_list(field))
        read_list(reader, place->holder, field, json, name);
    else if (codec_count(place->holder, field) == 0 ||
             codec_fd(place->holder, field)->label == PROTOBUF_C_LABEL_REQUIRED)
        read_value(reader, place->holder, field, json, name);
}

static void read_entry(struct codec_reader *reader, const struct atl_message *table,
                       ProtobufCMessage *message, const char *name, json_object *json)
{
    const struct atl_field *entries = &table->fields[0];
    ProtobufCMessage *entry = codec_new(entries->sub, reader->arena);
    struct codec_place key;
    struct codec_place value;
    if (!codec_find(entries->sub, entry, "key", &key) || !codec_find(entries->sub, entry, "value", &value))
        return;
    codec_take(reader, &key, name, name);
    read_place(reader, &value, json, name);
    *(ProtobufCMessage **)codec_add(message, entries, reader->arena) = entry;
}

/* The inlined map that takes members no field is named after, or NULL. */
static const struct atl_field *inlined_map(const struct atl_message *table)
{
    for (uint32_t i = 0; i < table->count; i++)
        if ((table->fields[i].flags & ATL_F_INLINE) != 0 && table->fields[i].sub->style == ATL_STYLE_MAP)
            return &table->fields[i];
    return NULL;
}

static void read_members(struct codec_reader *reader, const struct atl_message *table,
                         ProtobufCMessage *message, json_object *json, const char *name)
{
    if (!json_object_is_type(json, json_type_object)) {
        codec_fault(&reader->faults, name, "the answer holds no object");
        return;
    }
    const struct atl_field *map = inlined_map(table);
    json_object_object_foreach(json, member, value)
    {
        struct codec_place place;
        if (table->style == ATL_STYLE_MAP)
            read_entry(reader, table, message, member, value);
        else if (codec_find(table, message, member, &place))
            read_place(reader, &place, value, member);
        else if (map != NULL)
            read_entry(reader, map->sub, codec_inlined(message, map), member, value);
    }
}

static ProtobufCMessage *read_message(struct codec_reader *reader, const struct atl_message *table,
                                      json_object *json, const char *name)
{
    ProtobufCMessage *message = codec_new(table, reader->arena);
    struct codec_place data = {.holder = message};
    switch (table->style) {
    case ATL_STYLE_NOTHING:
        break;
    case ATL_STYLE_PROPERTY:
        if (!json_object_is_type(json, json_type_string)) {
            codec_fault(&reader->faults, name, "the answer holds no property string");
            return NULL;
        }
        return codec_property_read(reader, table, json_object_get_string(json));
    case ATL_STYLE_VALUE:
    case ATL_STYLE_LIST:
        data.field = codec_data_field(table);
        read_place(reader, &data, json, name);
        break;
    default:
        read_members(reader, table, message, json, name);
        break;
    }
    return message;
}

enum atl_code atl_json_decode(const struct atl_message *table, const char *text, size_t length,
                              struct atl_arena *arena, ProtobufCMessage **ret_message, struct atl_error *err)
{
    PUT_AT_EXIT json_object *json = NULL;
    const char *wrong = parse(text, length, &json);
    if (wrong != NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "cannot read the JSON answer: %s", wrong);
    struct atl_errors errors = {0};
    struct codec_reader reader = {.arena = arena, .faults = {.errors = &errors}};
    ProtobufCMessage *message = read_message(&reader, table, json, "data");
    if (reader.faults.count > 0)
        return atl_fail(err, ATL_E_INVALID, errors.items[0].field, "%s", errors.items[0].text);
    *ret_message = message;
    return ATL_OK;
}
