/* Fields by name, merging, unpacking into an arena. */
#include <string.h>

#include "pure/codec_fields.h"

const char *atl_message_text(const struct atl_message *table, const ProtobufCMessage *message,
                             const char *name, struct atl_arena *arena)
{
    struct codec_place place;
    if (!codec_find(table, message, name, &place) || place.holder == NULL)
        return NULL;
    const ProtobufCMessage *holder = place.holder;
    const struct atl_field *field = place.field;
    if ((field->flags & ATL_F_NUMBERED) != 0) {
        holder = codec_slot_find(holder, field, place.slot);
        field = codec_slot_value_field(field);
    }
    if (holder == NULL || codec_count(holder, field) == 0)
        return NULL;
    struct atl_buf text = {0};
    (void)atl_buf_reserve(&text, 0);
    codec_field_to_text(holder, field, &text);
    const char *copy = atl_arena_strndup(arena, text.data, text.length);
    atl_buf_done(&text);
    return copy;
}

bool atl_message_given(const struct atl_message *table, const ProtobufCMessage *message, const char *name)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if ((field->flags & ATL_F_NUMBERED) != 0 && codec_field_is_called(field, name, strlen(name)) &&
            codec_count(message, field) > 0)
            return true;
        if ((field->flags & ATL_F_INLINE) != 0 && !codec_is_list(field) &&
            codec_inlined(message, field) != NULL &&
            atl_message_given(field->sub, codec_inlined(message, field), name))
            return true;
    }
    struct codec_place place;
    if (!codec_find(table, message, name, &place) || place.holder == NULL)
        return false;
    if ((place.field->flags & ATL_F_NUMBERED) != 0)
        return codec_slot_find(place.holder, place.field, place.slot) != NULL;
    return codec_count(place.holder, place.field) > 0;
}

/* Is the word of a list the name, or the name with a number ("net" is meant by "net0")? */
static bool word_is(const char *word, size_t length, const char *name)
{
    size_t base = strlen(name);
    if (length < base || strncmp(word, name, base) != 0)
        return false;
    return strspn(word + base, "0123456789") >= length - base;
}

bool atl_message_lists(const struct atl_message *table, const ProtobufCMessage *message, const char *name)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if (field->kind != ATL_KIND_STRING || codec_is_list(field) || field->format == NULL ||
            strcmp(field->format, "pve-configid-list") != 0 || codec_count(message, field) == 0)
            continue;
        const char *text = *(char *const *)codec_item(message, field, 0);
        while (*text != '\0') {
            size_t length = strcspn(text, ",; \t");
            if (length > 0 && word_is(text, length, name))
                return true;
            text += length;
            text += strspn(text, ",; \t");
        }
    }
    return false;
}

static bool remove_slot(ProtobufCMessage *message, const struct atl_field *numbered, uint32_t index)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, numbered);
    size_t *count = codec_at(message, fd->quantifier_offset);
    ProtobufCMessage **slots = *(ProtobufCMessage ***)codec_at(message, fd->offset);
    for (size_t i = 0; i < *count; i++) {
        if (codec_slot_index(numbered, slots[i]) != index)
            continue;
        memmove(slots + i, slots + i + 1, (*count - i - 1) * sizeof *slots);
        (*count)--;
        return true;
    }
    return false;
}

bool atl_message_clear(const struct atl_message *table, ProtobufCMessage *message, const char *name)
{
    struct codec_place place;
    if (!codec_find(table, message, name, &place) || place.holder == NULL)
        return false;
    if ((place.field->flags & ATL_F_NUMBERED) != 0)
        return remove_slot(place.holder, place.field, place.slot);
    if (codec_count(place.holder, place.field) == 0)
        return false;
    codec_clear(place.holder, place.field);
    return true;
}

static void merge_slots(const struct atl_field *field, ProtobufCMessage *to, const ProtobufCMessage *from,
                        struct atl_arena *arena)
{
    size_t count = codec_count(from, field);
    for (size_t i = 0; i < count; i++) {
        ProtobufCMessage *slot = codec_sub(from, field, i);
        (void)remove_slot(to, field, (uint32_t)codec_slot_index(field, slot));
        codec_slot_insert(to, field, slot, arena);
    }
}

/* Shallow: the value, or the array's pointer, as it is. */
static void copy_field(const struct atl_field *field, ProtobufCMessage *to, const ProtobufCMessage *from,
                       struct atl_arena *arena)
{
    if (codec_is_list(field)) {
        const ProtobufCFieldDescriptor *fd = codec_fd(to, field);
        *(size_t *)codec_at(to, fd->quantifier_offset) = codec_count(from, field);
        *(void **)codec_at(to, fd->offset) = *(void **)codec_at(from, fd->offset);
        return;
    }
    void *place = codec_add(to, field, arena);
    const void *value = codec_item(from, field, 0);
    if (codec_fd(from, field)->type == PROTOBUF_C_TYPE_BYTES)
        memcpy(place, value, sizeof(ProtobufCBinaryData));
    else
        memcpy(place, value, codec_value_is_small(codec_fd(from, field)) ? 4 : 8);
}

void atl_message_merge(const struct atl_message *table, ProtobufCMessage *to, const ProtobufCMessage *from,
                       struct atl_arena *arena)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if (codec_count(from, field) == 0)
            continue;
        ProtobufCMessage *inner = NULL;
        if ((field->flags & ATL_F_INLINE) != 0 && !codec_is_list(field))
            inner = codec_inlined(to, field);
        if (inner != NULL)
            atl_message_merge(field->sub, inner, codec_inlined(from, field), arena);
        else if ((field->flags & ATL_F_NUMBERED) != 0)
            merge_slots(field, to, from, arena);
        else
            copy_field(field, to, from, arena);
    }
}

static void *allocate(void *arena, size_t size)
{
    return atl_arena_alloc(arena, size);
}

static void keep(void *arena, void *memory)
{
    (void)arena;
    (void)memory;
}

ProtobufCAllocator atl_arena_allocator(struct atl_arena *arena)
{
    return (ProtobufCAllocator){.alloc = allocate, .free = keep, .allocator_data = arena};
}

ProtobufCMessage *atl_unpack(const struct atl_message *table, const void *bytes, size_t size,
                             struct atl_arena *arena)
{
    ProtobufCAllocator allocator = atl_arena_allocator(arena);
    return protobuf_c_message_unpack(table->descriptor, &allocator, size, bytes);
}
