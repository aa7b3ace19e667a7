/*
 * Inside of the codec: fields of a message by table, their presence, their places in memory, single values
 * from and to text. Only codec*.c and contract.c include this.
 */
#ifndef ATL_PURE_CODEC_FIELDS_H
#define ATL_PURE_CODEC_FIELDS_H

#include "pure/codec.h"

enum {
    CODEC_PARAMS_MAX = 1024,
    CODEC_VALUE_MAX = 512 << 10,
    CODEC_TEXT_MAX = 1 << 20, /* a configuration file */
    CODEC_ANSWER_MAX = 16 << 20,
    CODEC_DEPTH_MAX = 32,
    CODEC_NAME_MAX = 128,
    CODEC_ITEMS_MAX = 16384, /* of one list */
    CODEC_PARTS_MAX = 512,   /* of one property string */
};

/* Where faults of one decoding or validation go. */
struct codec_faults {
    struct atl_errors *errors;
    const char *outer; /* the parameter that a nested value belongs to, or NULL */
    size_t count;
};

/* Names a parameter at fault; within a nested value the outer parameter, with `name` in the text. */
ATL_PRINTF(3, 4) void codec_fault(struct codec_faults *faults, const char *name, const char *format, ...);

/* What may be quoted in an error: at most 64 bytes, never a secret. */
struct codec_quote {
    char text[80];
};
struct codec_quote codec_quoted(const struct atl_field *field, const char *text);

/* --- memory ------------------------------------------------------------------------------------------ */

static inline const ProtobufCFieldDescriptor *codec_fd(const ProtobufCMessage *message,
                                                       const struct atl_field *field)
{
    return &message->descriptor->fields[field->index];
}

static inline void *codec_at(const ProtobufCMessage *message, unsigned offset)
{
    return (void *)((uintptr_t)message + offset);
}

static inline bool codec_is_list(const struct atl_field *field)
{
    return (field->flags & ATL_F_REPEATED) != 0;
}

/* A new message; inlined messages in it are there too, so that their fields can be set. */
ProtobufCMessage *codec_new(const struct atl_message *table, struct atl_arena *arena);

static inline bool codec_is_pointer(const ProtobufCFieldDescriptor *fd)
{
    return fd->type == PROTOBUF_C_TYPE_STRING || fd->type == PROTOBUF_C_TYPE_MESSAGE;
}

/* Bytes that one value takes in memory. */
static inline size_t codec_value_size(const ProtobufCFieldDescriptor *fd)
{
    switch (fd->type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

/* How many values the field has: 0 or 1, or the length of a repeated one. */
static inline size_t codec_count(const ProtobufCMessage *message, const struct atl_field *field)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    if (fd->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)codec_at(message, fd->quantifier_offset);
    if (codec_is_pointer(fd)) {
        const void *pointer = *(void *const *)codec_at(message, fd->offset);
        return pointer != NULL && pointer != fd->default_value;
    }
    if (fd->label == PROTOBUF_C_LABEL_REQUIRED)
        return 1;
    return *(const protobuf_c_boolean *)codec_at(message, fd->quantifier_offset) != 0;
}

/* The i-th value: a pointer to int32_t, char *, ProtobufCMessage *, ... */
static inline void *codec_item(const ProtobufCMessage *message, const struct atl_field *field, size_t i)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    void *member = codec_at(message, fd->offset);
    if (fd->label != PROTOBUF_C_LABEL_REPEATED)
        return member;
    return *(unsigned char **)member + i * codec_value_size(fd);
}

/* Room for one more value (repeated: appended), marked as given. The array was made by this codec. */
void *codec_add(ProtobufCMessage *message, const struct atl_field *field, struct atl_arena *arena);

/* Takes all values away. */
void codec_clear(ProtobufCMessage *message, const struct atl_field *field);

static inline ProtobufCMessage *codec_sub(const ProtobufCMessage *message, const struct atl_field *field,
                                          size_t i)
{
    return *(ProtobufCMessage *const *)codec_item(message, field, i);
}

/* The message of an inlined field, or NULL. */
static inline ProtobufCMessage *codec_inlined(const ProtobufCMessage *message, const struct atl_field *field)
{
    return codec_count(message, field) == 0 ? NULL : codec_sub(message, field, 0);
}

/* --- slots of numbered fields ------------------------------------------------------------------------ */

const struct atl_field *codec_slot_index_field(const struct atl_field *numbered);
const struct atl_field *codec_slot_value_field(const struct atl_field *numbered);
uint64_t codec_slot_index(const struct atl_field *numbered, const ProtobufCMessage *slot);

/* The slot of that index, or NULL. */
ProtobufCMessage *codec_slot_find(const ProtobufCMessage *message, const struct atl_field *numbered,
                                  uint64_t index);
/* Puts a slot in its place by index; the array is copied into the arena. */
void codec_slot_insert(ProtobufCMessage *message, const struct atl_field *numbered, ProtobufCMessage *slot,
                       struct atl_arena *arena);

/* --- lookup ------------------------------------------------------------------------------------------ */

struct codec_place {
    const struct atl_field *field;
    ProtobufCMessage *holder; /* the message or an inlined one; NULL if that is not there */
    uint32_t slot;            /* index of a numbered field */
};

/* Finds a field by external name or alias ("net0" for a numbered one); false if there is none. message may be
 * NULL. */
bool codec_find(const struct atl_message *table, const ProtobufCMessage *message, const char *name,
                struct codec_place *ret_place);

bool codec_field_is_called(const struct atl_field *field, const char *name, size_t length);

/* Splits "net12" into the length of its base and 12; false when there is no canonical number at the end. */
bool codec_split_number(const char *name, size_t *ret_base_length, uint32_t *ret_number);

/* Whether value is one of the field's closed set. */
bool codec_in_set(const struct atl_field *field, const char *value);

/* --- single values ----------------------------------------------------------------------------------- */

/* Reads one value into the place codec_add() gave. NULL on success, else what is wrong ("type check
 * ('integer') failed"), to be followed by "got ...". Never for messages. */
const char *codec_value_from_text(const ProtobufCFieldDescriptor *fd, const char *text,
                                  struct atl_arena *arena, void *ret_value);

/* Appends one value as text: numbers decimal, booleans 1 or 0. */
void codec_value_to_text(const ProtobufCFieldDescriptor *fd, const void *value, struct atl_buf *out);

int64_t codec_as_int(const ProtobufCFieldDescriptor *fd, const void *value);
uint64_t codec_as_uint(const ProtobufCFieldDescriptor *fd, const void *value);
double codec_as_double(const ProtobufCFieldDescriptor *fd, const void *value);

/* Whether the value takes 4 bytes in memory. */
static inline bool codec_value_is_small(const ProtobufCFieldDescriptor *fd)
{
    return codec_value_size(fd) == 4;
}

/* Between the items of a list: comma, semicolon, blank. */
bool codec_is_separator(char c);

#define CODEC_BLANKS " \t\n\v\f\r"

static inline bool codec_is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The whole field as one text: a list joined, a property string, a number; as it stands in configuration
 * text. */
void codec_field_to_text(const ProtobufCMessage *message, const struct atl_field *field, struct atl_buf *out);

/* --- decoding shared by parameters, property strings and configuration text
 * --------------------------------- */

struct codec_seen {
    const ProtobufCMessage *message;
    const struct atl_field *field;
};

struct codec_reader {
    struct atl_arena *arena;
    struct codec_faults faults;
    /* Required fields whose C type cannot tell whether they were given, each with its message. */
    struct codec_seen *seen;
    size_t seen_count;
    size_t seen_capacity;
    bool in_property;
};

/* Gives the field one text: adds items, fills a slot, reads a property string. Names faults after `name`. */
void codec_take(struct codec_reader *reader, const struct codec_place *place, const char *name,
                const char *text);

/* Names all required fields of the table that are missing. */
void codec_check_required(struct codec_reader *reader, const struct atl_message *table,
                          const ProtobufCMessage *message);

/* Reads a property string; the message may be half-filled when faults were found. */
ProtobufCMessage *codec_property_read(struct codec_reader *reader, const struct atl_message *table,
                                      const char *text);

/* Checks values; counts faults; *ret_unbuilt counts parameters that are known and not built. */
void codec_validate(const struct atl_message *table, const ProtobufCMessage *message,
                    struct codec_faults *faults, size_t *ret_unbuilt);

/* The field that is the data of a LIST (its repeated one) or of a VALUE (its first one). */
const struct atl_field *codec_data_field(const struct atl_message *table);

/* A property string, with or without its secrets. */
void codec_property_write(const struct atl_message *table, const ProtobufCMessage *message, bool secrets,
                          struct atl_buf *out);

#endif
