/* Parameters of a newer version; see newer.h. */
#include "pure/newer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 8 };

struct walk {
    uint32_t numbers[DEPTH_MAX + 1];
    size_t depth;
};

static bool find(const ProtobufCMessage *message, struct walk *walk);

static bool find_below(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                       struct walk *walk)
{
    const char *at = (const char *)message + field->offset;
    walk->numbers[walk->depth++] = field->id;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = *(const size_t *)(const void *)((const char *)message + field->quantifier_offset);
        const ProtobufCMessage *const *all = *(const ProtobufCMessage *const *const *)(const void *)at;
        for (size_t i = 0; i < count; i++)
            if (find(all[i], walk))
                return true;
    } else {
        const ProtobufCMessage *one = *(const ProtobufCMessage *const *)(const void *)at;
        if (one != NULL && find(one, walk))
            return true;
    }
    walk->depth--;
    return false;
}

static bool find(const ProtobufCMessage *message, struct walk *walk)
{
    if (message->n_unknown_fields > 0) {
        walk->numbers[walk->depth++] = message->unknown_fields[0].tag;
        return true;
    }
    for (unsigned int i = 0; walk->depth < DEPTH_MAX && i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && find_below(message, field, walk))
            return true;
    }
    return false;
}

bool atl_newer_find(const ProtobufCMessage *message, char ret_path[ATL_NEWER_MAX])
{
    struct walk walk = {.depth = 0};
    if (!find(message, &walk))
        return false;
    size_t used = 0;
    for (size_t i = 0; i < walk.depth && used < ATL_NEWER_MAX; i++) {
        int length =
            snprintf(ret_path + used, ATL_NEWER_MAX - used, "%c%u", i == 0 ? '#' : '.', walk.numbers[i]);
        used += length > 0 ? (size_t)length : 0;
    }
    return true;
}

static const struct atl_field *field_of(const struct atl_message *table, unsigned long number)
{
    for (uint32_t i = 0; i < table->count; i++)
        if (table->descriptor->fields[table->fields[i].index].id == number)
            return &table->fields[i];
    return NULL;
}

/* Inlined messages have no name of their own, nor has the value of a numbered parameter. */
static bool append(char name[ATL_NEWER_MAX], const struct atl_field *field, bool of_slot)
{
    bool numbered = (field->flags & ATL_F_NUMBERED) != 0;
    if (of_slot || ((field->flags & ATL_F_INLINE) != 0 && !numbered))
        return true;
    size_t used = strlen(name);
    int length = snprintf(name + used, ATL_NEWER_MAX - used, "%s%s%s", used > 0 ? "." : "", field->name,
                          numbered ? "[n]" : "");
    return length > 0 && used + (size_t)length < ATL_NEWER_MAX;
}

bool atl_newer_name(const struct atl_message *table, const char *path, char ret_name[ATL_NEWER_MAX])
{
    char name[ATL_NEWER_MAX] = "";
    bool of_slot = false;
    if (path[0] != '#')
        return false;
    for (const char *at = path; *at != '\0';) {
        char *end = NULL;
        unsigned long number = strtoul(at + 1, &end, 10);
        const struct atl_field *field = table != NULL && end != at + 1 ? field_of(table, number) : NULL;
        if (field == NULL || (*end != '.' && *end != '\0') || !append(name, field, of_slot))
            return false;
        of_slot = !of_slot && (field->flags & ATL_F_NUMBERED) != 0;
        table = field->sub;
        at = end;
    }
    if (name[0] == '\0')
        return false;
    memcpy(ret_name, name, strlen(name) + 1);
    return true;
}
