/*
 * The codec: one message, five faces. Parameters of REST (query, form, JSON body), protobuf (protobuf-c does
 * that), JSON answers, property strings, configuration text. Driven by the tables of contract.h; there is no
 * code per message. Everything decoded lives in the arena that is given; nothing here keeps state but the
 * cache of compiled patterns. Outside bytes are never asserted on: each fault is an entry in `errors` that
 * names the parameter, and all faults are found, not the first only.
 */
#ifndef ATL_PURE_CODEC_H
#define ATL_PURE_CODEC_H

#include "pure/arena.h"
#include "pure/buf.h"
#include "pure/contract.h"
#include "pure/error.h"

/* --- parameters -------------------------------------------------------------------------------------- */

struct atl_param {
    const char *name;
    const char *value; /* as text; a JSON number or boolean as it was written; JSON null: NULL, the parameter
                          is not given */
};

/* Splits application/x-www-form-urlencoded text (query or body) on & and ;, decoding %XX and +.
 * Errors: ATL_E_INVALID bad escape, NUL or bad UTF-8 in a value; ATL_E_LIMIT more than 1024 pairs. */
ATL_MUST_CHECK enum atl_code atl_form_params(const char *text, size_t length, struct atl_arena *arena,
                                             struct atl_param **ret_params, size_t *ret_count,
                                             struct atl_error *err);

/* Reads a JSON object into the same list: arrays become repeated names, nested objects are refused.
 * Depth, size and UTF-8 are checked; duplicate keys are kept, so that decoding can refuse them. */
ATL_MUST_CHECK enum atl_code atl_json_params(const char *text, size_t length, struct atl_arena *arena,
                                             struct atl_param **ret_params, size_t *ret_count,
                                             struct atl_error *err);

/*
 * Makes a message out of parameters: types, booleans (0 1 yes no on off true false), numbers, lists, numbered
 * names, aliases, inlined messages, property strings. Unknown and duplicate names are errors ("is not defined
 * in schema", "duplicate parameter"). Does not check limits: atl_validate() does. Errors: ATL_E_INVALID, with
 * every fault in errors; the message is then NULL.
 */
ATL_MUST_CHECK enum atl_code atl_params_decode(const struct atl_message *table,
                                               const struct atl_param *params, size_t count,
                                               struct atl_arena *arena, ProtobufCMessage **ret_message,
                                               struct atl_errors *errors);

/* The inverse, for clients: a message as parameters, canonical order, property strings as text. */
void atl_params_encode(const struct atl_message *table, const ProtobufCMessage *message,
                       struct atl_arena *arena, struct atl_param **ret_params, size_t *ret_count);

/* Appends name=value&... with the needed escapes. */
void atl_form_encode(const struct atl_param *params, size_t count, struct atl_buf *out);

/*
 * Checks required fields, limits, lengths, closed sets, patterns, formats, `requires`, numbered indexes and
 * fields that are not built yet, through all nested messages.
 * Errors: ATL_E_INVALID (errors filled); ATL_E_UNIMPLEMENTED when all there is to complain of is parameters
 * that are known and not built (errors names them).
 */
ATL_MUST_CHECK enum atl_code atl_validate(const struct atl_message *table, const ProtobufCMessage *message,
                                          struct atl_errors *errors);

/* --- JSON answers ------------------------------------------------------------------------------------ */

/*
 * Appends the JSON of an answer's `data` (objects, lists, bare values, null, maps; booleans as 1/0, property
 * strings as text, numbered fields flat, secrets and only_in fields left out). For a LIST with further fields
 * (total), those are appended to `beside`, each as `,"total":3`; beside may be NULL.
 */
void atl_json_encode(const struct atl_message *table, const ProtobufCMessage *message, struct atl_buf *out,
                     struct atl_buf *beside);

/* Appends a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void atl_json_string(struct atl_buf *out, const char *text, size_t length);

/* The inverse of atl_json_encode for clients (the command line): reads the data of an answer back. Unknown
 * keys are skipped. */
ATL_MUST_CHECK enum atl_code atl_json_decode(const struct atl_message *table, const char *text, size_t length,
                                             struct atl_arena *arena, ProtobufCMessage **ret_message,
                                             struct atl_error *err);

/* --- property strings -------------------------------------------------------------------------------- */

/* `key=value,key=value` with a default key, aliases and key aliases. `field` names the parameter in errors.
 */
ATL_MUST_CHECK enum atl_code atl_property_decode(const struct atl_message *table, const char *text,
                                                 const char *field, struct atl_arena *arena,
                                                 ProtobufCMessage **ret_message, struct atl_errors *errors);
/* Canonical: the default key first and bare, then the order of the proto. */
void atl_property_encode(const struct atl_message *table, const ProtobufCMessage *message,
                         struct atl_buf *out);

/* --- configuration text ------------------------------------------------------------------------------ */

/*
 * One section of a guest file: lines `key: value`, leading `#` lines are the field `description`. Lines that
 * the table does not know are kept, in order, in `unknown`; raw `lxc.*` lines too. Never fails on a single
 * line: a line whose value cannot be read goes to `unknown` and is named in errors (may be NULL) as a
 * warning.
 */
struct atl_line {
    const char *key;
    const char *value;
};
struct atl_section {
    const char *name; /* "" for the first, "PENDING", "special:cloudinit", a snapshot's name */
    ProtobufCMessage *message;
    struct atl_line *unknown;
    size_t unknown_count;
};

ATL_MUST_CHECK enum atl_code atl_guest_decode(const struct atl_message *table, const char *text,
                                              size_t length, struct atl_arena *arena,
                                              struct atl_section **ret_sections, size_t *ret_count,
                                              struct atl_errors *errors);
void atl_guest_encode(const struct atl_message *table, const struct atl_section *sections, size_t count,
                      struct atl_buf *out);
/* Takes the last line of that key out of the unknown ones; its value, or NULL. */
const char *atl_section_take(struct atl_section *section, const char *key);
/* Puts a line before the unknown ones, in memory of the arena; key and value are borrowed. */
void atl_section_add(struct atl_section *section, const char *key, const char *value,
                     struct atl_arena *arena);

/*
 * A section file (storage.cfg, jobs.cfg): `type: id`, then indented `key value` lines. One table serves all
 * types; the type and id are the fields named `type_field` and `id_field` of the message.
 */
ATL_MUST_CHECK enum atl_code atl_sections_decode(const struct atl_message *table, const char *type_field,
                                                 const char *id_field, const char *text, size_t length,
                                                 struct atl_arena *arena, struct atl_section **ret_sections,
                                                 size_t *ret_count, struct atl_errors *errors);
void atl_sections_encode(const struct atl_message *table, const char *type_field, const char *id_field,
                         const struct atl_section *sections, size_t count, struct atl_buf *out);

/* --- fields by name, for pure code that walks messages ----------------------------------------------- */

/* Is the parameter given? Numbered: `net0`, or `net` for any of them. */
bool atl_message_given(const struct atl_message *table, const ProtobufCMessage *message, const char *name);
/* Does a list of settings ("delete", "revert": format pve-configid-list) name it? `net0`, or `net` for any.
 */
bool atl_message_lists(const struct atl_message *table, const ProtobufCMessage *message, const char *name);

/* The parameter as text ("100", "pve1", a property string), or NULL if it is not given. */
const char *atl_message_text(const struct atl_message *table, const ProtobufCMessage *message,
                             const char *name, struct atl_arena *arena);

/* Takes a field out (delete=net0): false if it was not given or is unknown. */
bool atl_message_clear(const struct atl_message *table, ProtobufCMessage *message, const char *name);

/* Copies every given field of `from` over `to` (same table), numbered ones slot by slot. Shallow: both must
 * live in arenas of the same life. */
void atl_message_merge(const struct atl_message *table, ProtobufCMessage *to, const ProtobufCMessage *from,
                       struct atl_arena *arena);

/* An allocator for protobuf_c_message_unpack() that takes from the arena and never frees. */
ProtobufCAllocator atl_arena_allocator(struct atl_arena *arena);

/* Unpacks from the arena; NULL when the bytes are no such message. */
ProtobufCMessage *atl_unpack(const struct atl_message *table, const void *bytes, size_t size,
                             struct atl_arena *arena);

#endif
