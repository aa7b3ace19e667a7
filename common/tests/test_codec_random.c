/* Round trips of randomly made messages through every face. A failure prints the seed: ATL_SEED=n repeats it.
 */
#include "atl_test.h"

#include "atoll/lxc/v1/lxc.atl.h"
#include "atoll/qemu/v1/qemu.atl.h"
#include "atoll/storage/v1/storage.atl.h"
#include "atoll/test/v1/test.atl.h"
#include "pure/codec_fields.h"

enum { ROUNDS = 400, DEPTH = 3 };

/* What a face can carry. */
struct limits {
    bool one_line;    /* no line breaks, no blanks at the ends */
    bool no_secrets;  /* fields that answers leave out */
    bool in_property; /* no commas, no blanks at the ends */
};

struct maker {
    struct atl_arena *arena;
    uint64_t state;
    struct limits limits;
};

static uint64_t next(struct maker *maker)
{
    maker->state ^= maker->state << 13;
    maker->state ^= maker->state >> 7;
    maker->state ^= maker->state << 17;
    return maker->state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t below(struct maker *maker, uint64_t bound)
{
    return (next(maker) >> 11) % bound;
}

static char *random_text(struct maker *maker, bool in_list)
{
    static const char *const parts[] = {"a",
                                        "Z",
                                        "0",
                                        "=",
                                        "%",
                                        "&",
                                        "\"",
                                        "\\",
                                        "#",
                                        "/",
                                        ":",
                                        "+",
                                        "[",
                                        "]",
                                        "'",
                                        "\xc3\xa4",
                                        "\xe2\x82\xac",
                                        "\xf0\x9f\x92\xa9",
                                        "%2C",
                                        "<",
                                        "~",
                                        "-",
                                        "_",
                                        ".",
                                        "=1",
                                        " ",
                                        ",",
                                        ";",
                                        "\n",
                                        "\t",
                                        "\x01"};
    struct atl_buf text = {0};
    size_t length = below(maker, 12);
    bool trim = maker->limits.one_line || maker->limits.in_property;
    (void)atl_buf_reserve(&text, 0);
    for (size_t i = 0; i < length || (in_list && text.length == 0); i++) {
        const char *part = parts[below(maker, ATL_COUNT(parts))];
        char c = part[0];
        if ((in_list && codec_is_separator(c)) || (maker->limits.in_property && c == ',') ||
            (maker->limits.one_line && c == '\n') || (trim && codec_is_blank(c) && text.length == 0))
            continue;
        atl_buf_text(&text, part);
    }
    while (trim && text.length > 0 && codec_is_blank(text.data[text.length - 1]))
        text.length--;
    char *copy = atl_arena_strndup(maker->arena, text.data, text.length);
    atl_buf_done(&text);
    return copy;
}

static char *random_string(struct maker *maker, const struct atl_field *field)
{
    static const char *const trees[] = {"null", "[1,\"a\\\"b\",{}]", "{\"a\":[true,-1.50]}", "\"x\"", "7"};
    if ((field->flags & ATL_F_RAW_JSON) != 0)
        return atl_arena_strdup(maker->arena, trees[below(maker, ATL_COUNT(trees))]);
    size_t count = 0;
    while (field->values != NULL && field->values[count] != NULL)
        count++;
    if (count > 0 && below(maker, 8) != 0)
        return atl_arena_strdup(maker->arena, field->values[below(maker, count)]);
    return random_text(maker, codec_is_list(field) && field->separator != '\0');
}

static ProtobufCMessage *random_message(struct maker *maker, const struct atl_message *table, int depth);

static void random_value(struct maker *maker, const struct atl_field *field,
                         const ProtobufCFieldDescriptor *fd, void *place, int depth)
{
    bool small = codec_value_is_small(fd);
    uint64_t bits = below(maker, 3) == 0 ? next(maker) : below(maker, 200);
    switch (field->kind) {
    case ATL_KIND_BOOL:
        *(protobuf_c_boolean *)place = below(maker, 2) != 0;
        break;
    case ATL_KIND_INT:
    case ATL_KIND_UINT:
        if (small)
            *(uint32_t *)place = (uint32_t)bits;
        else
            *(uint64_t *)place = bits;
        break;
    case ATL_KIND_DOUBLE:
        *(double *)place = (double)(int64_t)(next(maker) >> 24) / (below(maker, 2) ? 1000 : 7);
        break;
    case ATL_KIND_STRING:
        *(char **)place = random_string(maker, field);
        break;
    case ATL_KIND_BYTES:
        *(ProtobufCBinaryData *)place =
            (ProtobufCBinaryData){.len = 3, .data = atl_arena_copy(maker->arena, &bits, 3)};
        break;
    default:
        *(ProtobufCMessage **)place = random_message(maker, field->sub, depth + 1);
        break;
    }
}

static void fill_slots(struct maker *maker, ProtobufCMessage *message, const struct atl_field *field,
                       int depth)
{
    for (uint32_t index = 0; index <= field->max_index && index < 40; index++) {
        if (below(maker, 8) != 0)
            continue;
        ProtobufCMessage *slot = codec_new(field->sub, maker->arena);
        const struct atl_field *value = codec_slot_value_field(field);
        *(uint32_t *)codec_add(slot, codec_slot_index_field(field), maker->arena) = index;
        random_value(maker, value, codec_fd(slot, value), codec_add(slot, value, maker->arena), depth);
        codec_slot_insert(message, field, slot, maker->arena);
    }
}

static void fill_map(struct maker *maker, ProtobufCMessage *message, const struct atl_field *field, int depth)
{
    uint64_t count = below(maker, 4);
    for (uint64_t i = 0; i < count; i++) {
        ProtobufCMessage *entry = codec_new(field->sub, maker->arena);
        for (uint32_t j = 0; j < 2; j++) {
            const struct atl_field *member = &field->sub->fields[j];
            void *place = codec_add(entry, member, maker->arena);
            if (strcmp(member->name, "key") == 0)
                *(char **)place = atl_arena_format(maker->arena, "/%s\"%" PRIu64, field->name, i);
            else
                random_value(maker, member, codec_fd(entry, member), place, depth);
        }
        *(ProtobufCMessage **)codec_add(message, field, maker->arena) = entry;
    }
}

static void fill_field(struct maker *maker, ProtobufCMessage *message, const struct atl_field *field,
                       int depth)
{
    const ProtobufCFieldDescriptor *fd = codec_fd(message, field);
    if (maker->limits.no_secrets && (field->flags & (ATL_F_SECRET | ATL_F_ONLY_IN)) != 0)
        return;
    if ((field->flags & ATL_F_NUMBERED) != 0) {
        fill_slots(maker, message, field, depth);
        return;
    }
    uint64_t count = (field->flags & ATL_F_REQUIRED) != 0 || below(maker, 2) != 0;
    if (codec_is_list(field))
        count = depth >= DEPTH ? 0 : below(maker, 4);
    else if (field->kind == ATL_KIND_MESSAGE && depth >= DEPTH)
        count = 0;
    for (uint64_t i = 0; i < count; i++)
        random_value(maker, field, fd, codec_add(message, field, maker->arena), depth);
}

static void fill(struct maker *maker, const struct atl_message *table, ProtobufCMessage *message, int depth)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        if (table->style == ATL_STYLE_LIST && maker->limits.no_secrets && field != codec_data_field(table))
            continue; /* what stands beside the data is not in it */
        if (table->style == ATL_STYLE_MAP)
            fill_map(maker, message, field, depth);
        else if ((field->flags & ATL_F_INLINE) != 0)
            fill(maker, field->sub, codec_inlined(message, field), depth);
        else
            fill_field(maker, message, field, depth);
    }
}

static ProtobufCMessage *random_message(struct maker *maker, const struct atl_message *table, int depth)
{
    struct limits outer = maker->limits;
    maker->limits.in_property |= table->style == ATL_STYLE_PROPERTY;
    ProtobufCMessage *message = codec_new(table, maker->arena);
    fill(maker, table, message, depth);
    maker->limits = outer;
    return message;
}

/* --- comparing --- */

static uint64_t seed_now;

static void assert_same(const struct atl_message *table, const ProtobufCMessage *a, const ProtobufCMessage *b,
                        const char *text)
{
    struct atl_buf packed[2] = {{0}, {0}};
    const ProtobufCMessage *messages[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        size_t size = protobuf_c_message_get_packed_size(messages[i]);
        packed[i].length = protobuf_c_message_pack(messages[i], (uint8_t *)atl_buf_reserve(&packed[i], size));
    }
    bool same = packed[0].length == packed[1].length &&
                (packed[0].length == 0 || memcmp(packed[0].data, packed[1].data, packed[0].length) == 0);
    atl_buf_done(&packed[0]);
    atl_buf_done(&packed[1]);
    if (!same)
        fail_msg("ATL_SEED=%" PRIu64 ": %s changed; its text is: %s", seed_now, table->name, text);
}

static void fail_with(const struct atl_message *table, const struct atl_errors *errors, const char *text)
{
    fail_msg("ATL_SEED=%" PRIu64 ": %s was refused (%s: %s): %s", seed_now, table->name,
             errors->items[0].field, errors->items[0].text, text);
}

/* --- faces --- */

typedef void round_fn(struct maker *maker, const struct atl_message *table);

static void through_form(struct maker *maker, const struct atl_message *table)
{
    ProtobufCMessage *message = random_message(maker, table, 0);
    struct atl_param *params = NULL;
    size_t count = 0;
    struct atl_buf text = {0};
    struct atl_error err = {0};
    struct atl_errors errors = {0};
    ProtobufCMessage *again = NULL;
    (void)atl_buf_reserve(&text, 0);
    atl_params_encode(table, message, maker->arena, &params, &count);
    atl_form_encode(params, count, &text);
    text.data[text.length] = '\0';
    assert_atl_ok(atl_form_params(text.data, text.length, maker->arena, &params, &count, &err), &err);
    if (atl_params_decode(table, params, count, maker->arena, &again, &errors) != ATL_OK)
        fail_with(table, &errors, text.data);
    assert_same(table, message, again, text.data);
    atl_buf_done(&text);
}

static void through_json(struct maker *maker, const struct atl_message *table)
{
    maker->limits.no_secrets = true;
    ProtobufCMessage *message = random_message(maker, table, 0);
    struct atl_buf text = {0};
    struct atl_error err = {0};
    ProtobufCMessage *again = NULL;
    atl_json_encode(table, message, &text, NULL);
    if (atl_json_decode(table, text.data, text.length, maker->arena, &again, &err) != ATL_OK)
        fail_msg("ATL_SEED=%" PRIu64 ": %s: %s: %s", seed_now, err.field, err.text, text.data);
    assert_same(table, message, again, text.data);
    atl_buf_done(&text);
}

static void through_property(struct maker *maker, const struct atl_message *table)
{
    ProtobufCMessage *message = random_message(maker, table, 0);
    struct atl_buf text = {0};
    struct atl_errors errors = {0};
    ProtobufCMessage *again = NULL;
    atl_property_encode(table, message, &text);
    if (atl_property_decode(table, text.data, "x", maker->arena, &again, &errors) != ATL_OK)
        fail_with(table, &errors, text.data);
    assert_same(table, message, again, text.data);
    atl_buf_done(&text);
}

static void through_guest(struct maker *maker, const struct atl_message *table)
{
    maker->limits.one_line = true;
    struct atl_section sections[2] = {{.name = ""}, {.name = "snap"}};
    struct atl_section *again = NULL;
    size_t count = 0;
    struct atl_buf text = {0};
    struct atl_errors errors = {0};
    sections[0].message = random_message(maker, table, 0);
    sections[1].message = random_message(maker, table, 0);
    atl_guest_encode(table, sections, 2, &text);
    if (atl_guest_decode(table, text.data, text.length, maker->arena, &again, &count, &errors) != ATL_OK ||
        errors.count > 0)
        fail_with(table, &errors, text.data);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_same(table, sections[i].message, again[i].message, text.data);
        assert_int_equal(again[i].unknown_count, 0);
    }
    atl_buf_done(&text);
}

static void set_text(struct maker *maker, const struct atl_message *table, ProtobufCMessage *message,
                     const char *name, const char *text)
{
    struct codec_place place;
    assert_true(codec_find(table, message, name, &place));
    *(char **)codec_add(place.holder, place.field, maker->arena) = atl_arena_strdup(maker->arena, text);
}

static void through_sections(struct maker *maker, const struct atl_message *table)
{
    maker->limits.one_line = true;
    struct atl_section sections[2] = {{.name = "a"}, {.name = "b"}};
    struct atl_section *again = NULL;
    size_t count = 0;
    struct atl_buf text = {0};
    struct atl_errors errors = {0};
    for (size_t i = 0; i < 2; i++) {
        sections[i].message = random_message(maker, table, 0);
        set_text(maker, table, sections[i].message, "type", "nfs");
        set_text(maker, table, sections[i].message, "storage", sections[i].name);
    }
    atl_sections_encode(table, "type", "storage", sections, 2, &text);
    if (atl_sections_decode(table, "type", "storage", text.data, text.length, maker->arena, &again, &count,
                            &errors) != ATL_OK ||
        errors.count > 0)
        fail_with(table, &errors, text.data);
    assert_int_equal(count, 2);
    for (size_t i = 0; i < 2; i++)
        assert_same(table, sections[i].message, again[i].message, text.data);
    atl_buf_done(&text);
}

static void run_rounds(round_fn *face, const struct atl_message *const *tables, uint64_t rounds)
{
    const char *given = getenv("ATL_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : 1;
    for (size_t i = 0; tables[i] != NULL; i++) {
        for (uint64_t round = 0; round < (given != NULL ? 1 : rounds); round++) {
            struct atl_arena arena = {0};
            seed_now = seed + round;
            struct maker maker = {.arena = &arena, .state = seed_now * UINT64_C(0x9e3779b97f4a7c15) + 1};
            face(&maker, tables[i]);
            atl_arena_done(&arena);
        }
    }
}

static void run(round_fn *face, const struct atl_message *const *tables)
{
    run_rounds(face, tables, ROUNDS);
}

static void forms_round_trip(void **state)
{
    (void)state;
    static const struct atl_message *const tables[] = {
        &atl_msg_test_v1_CreateRequest, &atl_msg_test_v1_Everything,       &atl_msg_qemu_v1_CreateRequest,
        &atl_msg_lxc_v1_CreateRequest,  &atl_msg_storage_v1_CreateRequest, NULL};
    run(through_form, tables);
}

static void answers_round_trip(void **state)
{
    (void)state;
    static const struct atl_message *const tables[] = {&atl_msg_test_v1_Row,
                                                       &atl_msg_test_v1_ConfigReply,
                                                       &atl_msg_test_v1_Everything,
                                                       &atl_msg_test_v1_Permissions,
                                                       &atl_msg_test_v1_Id,
                                                       &atl_msg_qemu_v1_GetConfigReply,
                                                       &atl_msg_qemu_v1_GetStatusReply,
                                                       NULL};
    run(through_json, tables);
}

static void property_strings_round_trip(void **state)
{
    (void)state;
    static const struct atl_message *const tables[] = {&atl_msg_test_v1_Nic,      &atl_msg_test_v1_Disk,
                                                       &atl_msg_test_v1_Agent,    &atl_msg_test_v1_Boot,
                                                       &atl_msg_test_v1_Features, &atl_msg_test_v1_IpConfig,
                                                       &atl_msg_qemu_v1_Net,      &atl_msg_qemu_v1_Drive,
                                                       &atl_msg_qemu_v1_Hostpci,  NULL};
    run(through_property, tables);
}

static void guest_files_round_trip(void **state)
{
    (void)state;
    static const struct atl_message *const tables[] = {&atl_msg_test_v1_Config, &atl_msg_qemu_v1_Config,
                                                       &atl_msg_lxc_v1_Config, NULL};
    run(through_guest, tables);
}

static void section_files_round_trip(void **state)
{
    (void)state;
    static const struct atl_message *const tables[] = {&atl_msg_test_v1_Store, NULL};
    run(through_sections, tables);
}

/* What no form can carry: objects in objects. */
static bool is_flat(const struct atl_message *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct atl_field *field = &table->fields[i];
        const struct atl_message *sub = field->sub;
        if (sub == NULL || sub->style == ATL_STYLE_PROPERTY)
            continue;
        bool slots = (field->flags & ATL_F_NUMBERED) != 0;
        if (!slots && ((field->flags & ATL_F_INLINE) == 0 || !is_flat(sub)))
            return false;
    }
    return true;
}

static void every_method_takes_its_parameters_as_a_form(void **state)
{
    (void)state;
    for (const struct atl_service *const *service = atl_contract; *service != NULL; service++) {
        for (uint32_t i = 0; i < (*service)->count; i++) {
            const struct atl_rpc *rpc = &(*service)->rpcs[i];
            const struct atl_message *const tables[] = {rpc->input, NULL};
            if (rpc->path == NULL)
                continue;
            if (!is_flat(rpc->input))
                fail_msg("%s: a parameter of %s is an object", rpc->name, rpc->input->name);
            run_rounds(through_form, tables, 20);
        }
    }
}

static void every_answer_of_a_method_can_be_read_back(void **state)
{
    (void)state;
    for (const struct atl_service *const *service = atl_contract; *service != NULL; service++) {
        for (uint32_t i = 0; i < (*service)->count; i++) {
            const struct atl_rpc *rpc = &(*service)->rpcs[i];
            const struct atl_message *const tables[] = {rpc->output, NULL};
            if (rpc->path != NULL)
                run_rounds(through_json, tables, 20);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms_round_trip),
        cmocka_unit_test(answers_round_trip),
        cmocka_unit_test(property_strings_round_trip),
        cmocka_unit_test(guest_files_round_trip),
        cmocka_unit_test(section_files_round_trip),
        cmocka_unit_test(every_method_takes_its_parameters_as_a_form),
        cmocka_unit_test(every_answer_of_a_method_can_be_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
