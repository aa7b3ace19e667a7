/* Inside of the codec: what guest files and section files have in common. */
#ifndef ATL_PURE_CODEC_TEXT_H
#define ATL_PURE_CODEC_TEXT_H

#include "pure/codec_fields.h"

struct codec_text_reader {
    const struct atl_message *table;
    struct atl_arena *arena;
    struct atl_errors *errors;
    struct codec_reader reader; /* of the section that is being read */
    struct atl_section *sections;
    size_t count;
    size_t capacity;
    size_t unknown_capacity; /* of the last section */
    const char *at;
    const char *end;
};

/* Refuses text that is too long or holds a NUL; else ready for the first line. */
enum atl_code codec_text_begin(struct codec_text_reader *text, const struct atl_message *table,
                               const char *bytes, size_t length);

/* The next line without its end and without blanks at its end, in the arena; NULL after the last. */
char *codec_text_line(struct codec_text_reader *text);

void codec_text_section(struct codec_text_reader *text, const char *name);
struct atl_section *codec_text_last(struct codec_text_reader *text);
void codec_text_unknown(struct codec_text_reader *text, const char *key, const char *value);

/* Gives a field its value; false, with a warning and the field as before, when it cannot be read. */
bool codec_text_take(struct codec_text_reader *text, const char *key, const char *value);

struct codec_text_writer {
    struct atl_buf *out;
    const char *before;  /* the key */
    const char *between; /* key and value */
    const char *skip[2]; /* fields that are written elsewhere, or NULL */
};

void codec_text_write_fields(const struct codec_text_writer *writer, const struct atl_message *table,
                             const ProtobufCMessage *message);
void codec_text_write_unknown(const struct codec_text_writer *writer, const struct atl_section *section);

#endif
