/* The codec, case by case: parameters, property strings, validation, JSON answers. */
#include "atl_test.h"

#include "atoll/test/v1/test.atl.h"
#include "pure/codec.h"
#include "pure/pattern.h"

struct fixture {
    struct atl_arena arena;
    struct atl_errors errors;
    struct atl_error err;
    struct atl_buf out;
    struct atl_buf beside;
};

static int begin(void **state)
{
    *state = atl_new0(struct fixture);
    return 0;
}

static int end(void **state)
{
    struct fixture *f = *state;
    atl_arena_done(&f->arena);
    atl_buf_done(&f->out);
    atl_buf_done(&f->beside);
    free(f);
    return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

static const char *error_of(const struct fixture *f, const char *field)
{
    for (size_t i = 0; i < f->errors.count; i++)
        if (strcmp(f->errors.items[i].field, field) == 0)
            return f->errors.items[i].text;
    return "(none)";
}

static void print_errors(const struct fixture *f)
{
    for (size_t i = 0; i < f->errors.count; i++)
        print_error("%s: %s\n", f->errors.items[i].field, f->errors.items[i].text);
}

/* Decodes a form; NULL when it is refused. */
static ProtobufCMessage *form(struct fixture *f, const struct atl_message *table, const char *text)
{
    struct atl_param *params = NULL;
    size_t count = 0;
    ProtobufCMessage *message = NULL;
    memset(&f->errors, 0, sizeof f->errors);
    assert_atl_ok(atl_form_params(text, strlen(text), &f->arena, &params, &count, &f->err), &f->err);
    enum atl_code code = atl_params_decode(table, params, count, &f->arena, &message, &f->errors);
    assert_int_equal(code == ATL_OK, message != NULL);
    assert_int_equal(code == ATL_OK, f->errors.count == 0);
    return message;
}

static ProtobufCMessage *good(struct fixture *f, const struct atl_message *table, const char *text)
{
    ProtobufCMessage *message = form(f, table, text);
    if (message == NULL || atl_validate(table, message, &f->errors) != ATL_OK) {
        print_errors(f);
        fail_msg("refused: %s", text);
    }
    return message;
}

/* Decodes and validates; everything that is wrong is in f->errors. */
static enum atl_code bad(struct fixture *f, const struct atl_message *table, const char *text)
{
    ProtobufCMessage *message = form(f, table, text);
    return message == NULL ? ATL_E_INVALID : atl_validate(table, message, &f->errors);
}

static const char *json(struct fixture *f, const struct atl_message *table, const ProtobufCMessage *message)
{
    atl_buf_reset(&f->out);
    atl_buf_reset(&f->beside);
    atl_json_encode(table, message, &f->out, &f->beside);
    return f->out.data;
}

static const char *config_json(struct fixture *f, const char *text)
{
    return json(f, &atl_msg_test_v1_Config, good(f, &atl_msg_test_v1_Config, text));
}

/* --- parameters --- */

static void given_and_not_given_differ_and_defaults_are_not_stored(void **state)
{
    struct fixture *f = *state;
    const Atoll__Test__V1__Config *config =
        (const Atoll__Test__V1__Config *)good(f, &atl_msg_test_v1_Config, "onboot=0&sshkeys=");
    assert_int_equal(config->has_onboot, 1);
    assert_int_equal(config->onboot, 0);
    assert_string_equal(config->sshkeys, "");
    assert_int_equal(config->has_cores, 0);
    assert_int_equal(config->has_memory, 0);
    assert_null(config->description);
}

static void booleans_have_eight_words_and_leave_as_1_and_0(void **state)
{
    struct fixture *f = *state;
    static const char *const words[][2] = {
        {"0", "1"}, {"no", "yes"}, {"off", "on"}, {"false", "true"}, {"No", "YES"}};
    for (size_t i = 0; i < ATL_COUNT(words); i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "onboot=%s", words[i][0]);
        assert_string_equal(config_json(f, text), "{\"onboot\":0}");
        (void)snprintf(text, sizeof text, "onboot=%s", words[i][1]);
        assert_string_equal(config_json(f, text), "{\"onboot\":1}");
    }
}

static void wrong_types_are_told_with_the_value(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "cores=abc&memory=1.5&cpulimit=1e&onboot=2&balloon=-1"),
                     ATL_E_INVALID);
    assert_string_equal(error_of(f, "cores"), "type check ('integer') failed - got 'abc'");
    assert_string_equal(error_of(f, "memory"), "type check ('integer') failed - got '1.5'");
    assert_string_equal(error_of(f, "cpulimit"), "type check ('number') failed - got '1e'");
    assert_string_equal(error_of(f, "onboot"), "type check ('boolean') failed - got '2'");
    assert_string_equal(error_of(f, "balloon"), "value must have a minimum value of 0 - got '-1'");
    assert_int_equal(f->errors.count, 5);
}

static void all_faults_are_told_at_once(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_CreateRequest,
                         "cores=abc&memory=8&bogus=1&net0=model%3Dfoo&name=a_b&cores=2&net99=virtio"),
                     ATL_E_INVALID);
    assert_string_equal(error_of(f, "cores"), "type check ('integer') failed - got 'abc'");
    assert_string_equal(error_of(f, "memory"), "must be between 16 and 4178944, got 8");
    assert_string_equal(
        error_of(f, "bogus"),
        "property is not defined in schema and the schema does not allow additional properties");
    assert_string_equal(
        error_of(f, "net99"),
        "property is not defined in schema and the schema does not allow additional properties");
    assert_string_equal(error_of(f, "net0"),
                        "invalid format - model: value 'foo' does not have a value in the "
                        "enumeration 'virtio, e1000'");
    assert_string_equal(error_of(f, "name"),
                        "invalid format - value does not look like a DNS name, got 'a_b'");
    assert_string_equal(error_of(f, "node"), "property is missing and it is not optional");
    assert_string_equal(error_of(f, "vmid"), "property is missing and it is not optional");
    assert_int_equal(f->errors.count, 8);
}

static void duplicates_are_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "cores=1&cores=1"), ATL_E_INVALID);
    assert_string_equal(error_of(f, "cores"), "duplicate parameter");
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "net1=virtio&net1=e1000"), ATL_E_INVALID);
    assert_string_equal(error_of(f, "net1"), "duplicate parameter");
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "Start-Date=now&startdate=now"), ATL_E_INVALID);
    assert_string_equal(error_of(f, "startdate"), "duplicate parameter");
    assert_int_equal(bad(f, &atl_msg_test_v1_CreateRequest, "node=a&vmid=100&vmid=100"), ATL_E_INVALID);
    assert_string_equal(error_of(f, "vmid"), "duplicate parameter");
}

static void lists_take_three_separators_and_repeated_keys(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(config_json(f, "tags=a,b%3Bc+d"), "{\"tags\":\"a;b;c;d\"}");
    assert_string_equal(config_json(f, "tags=a&tags=b,c"), "{\"tags\":\"a;b;c\"}");
    assert_string_equal(config_json(f, "tags="), "{}");
    const Atoll__Test__V1__CreateRequest *request = (const Atoll__Test__V1__CreateRequest *)good(
        f, &atl_msg_test_v1_CreateRequest, "node=n1&vmid=100&command=ls&command=-l+%2Ftmp&delete=net0,net1");
    assert_int_equal(request->n_command, 2);
    assert_string_equal(request->command[1], "-l /tmp");
    assert_int_equal(request->n_delete_, 2);
    assert_string_equal(request->delete_[1], "net1");
}

static void numbered_parameters_keep_their_holes(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(
        config_json(f, "net5=virtio&net0=e1000&serial2=socket&net31=virtio"),
        "{\"net0\":\"e1000\",\"net5\":\"virtio\",\"net31\":\"virtio\",\"serial2\":\"socket\"}");
    static const char *const wrong[] = {"net32", "net", "net00", "net01", "net-1", "net1x", "net4294967296"};
    for (size_t i = 0; i < ATL_COUNT(wrong); i++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s=virtio", wrong[i]);
        assert_int_equal(bad(f, &atl_msg_test_v1_Config, text), ATL_E_INVALID);
        assert_string_not_equal(error_of(f, wrong[i]), "(none)");
    }
}

static void names_may_have_hyphens_capitals_and_aliases(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(config_json(f, "startdate=2026-11-21"), "{\"Start-Date\":\"2026-11-21\"}");
    assert_string_equal(config_json(f, "Start-Date=now&net0=virtio,link-down%3D1"),
                        "{\"net0\":\"virtio,link-down=1\",\"Start-Date\":\"now\"}");
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "start_date=now"), ATL_E_INVALID);
}

static void json_bodies_give_the_same_parameters(void **state)
{
    struct fixture *f = *state;
    static const char body[] =
        "{\"node\":\"n1\",\"vmid\":\"100\",\"memory\":2048,\"cpulimit\":1.50,\"onboot\":true,"
        "\"tags\":[\"a\",\"b\"],\"name\":null,\"net0\":\"virtio,bridge=vmbr0\"}";
    struct atl_param *params = NULL;
    size_t count = 0;
    ProtobufCMessage *message = NULL;
    assert_atl_ok(atl_json_params(body, strlen(body), &f->arena, &params, &count, &f->err), &f->err);
    assert_int_equal(count, 9);
    assert_string_equal(params[3].value, "1.50");
    assert_null(params[7].value);
    assert_atl_ok(
        atl_params_decode(&atl_msg_test_v1_CreateRequest, params, count, &f->arena, &message, &f->errors),
        &f->err);
    assert_string_equal(json(f, &atl_msg_test_v1_CreateRequest, message),
                        "{\"node\":\"n1\",\"vmid\":100,\"memory\":2048,\"onboot\":1,\"cpulimit\":1.5,"
                        "\"net0\":\"virtio,bridge=vmbr0\",\"tags\":\"a;b\"}");
}

static void bad_json_bodies_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const bodies[] = {
        "",
        "[]",
        "1",
        "null",
        "{\"a\":1",
        "{\"a\":1}x",
        "{'a':1}",
        "{a:1}",
        "{\"a\":{}}",
        "{\"a\":[[]]}",
        "{\"a\":[null]}",
        "{\"a\":\"\\u0000\"}",
        "{\"\\u0000\":1}",
        "{\"a\":\"\xff\"}",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{\"a\":NaN}",
        "{\"a\":18446744073709551616}",
        "{\"a\":-9223372036854775809}",
    };
    for (size_t i = 0; i < ATL_COUNT(bodies); i++) {
        struct atl_param *params = NULL;
        size_t count = 0;
        if (atl_json_params(bodies[i], strlen(bodies[i]), &f->arena, &params, &count, &f->err) == ATL_OK)
            fail_msg("taken: %s", bodies[i]);
    }
    char deep[200] = "{\"a\":";
    memset(deep + 5, '[', 100);
    struct atl_param *params = NULL;
    size_t count = 0;
    assert_int_equal(atl_json_params(deep, 105, &f->arena, &params, &count, &f->err), ATL_E_INVALID);
}

static void duplicate_json_keys_are_kept_to_be_refused(void **state)
{
    struct fixture *f = *state;
    static const char body[] = "{\"cores\":1,\"name\":\"x:\\\"y\",\"c\\u006fres\":2}";
    struct atl_param *params = NULL;
    size_t count = 0;
    ProtobufCMessage *message = NULL;
    assert_atl_ok(atl_json_params(body, strlen(body), &f->arena, &params, &count, &f->err), &f->err);
    assert_int_equal(count, 3);
    assert_int_equal(
        atl_params_decode(&atl_msg_test_v1_Config, params, count, &f->arena, &message, &f->errors),
        ATL_E_INVALID);
    assert_null(message);
    assert_string_equal(error_of(f, "cores"), "duplicate parameter");
}

static void bad_forms_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"a=%", "a=%4", "a=%zz", "a=%00", "a=%ff", "%=1", "a=%c3"};
    struct atl_param *params = NULL;
    size_t count = 0;
    for (size_t i = 0; i < ATL_COUNT(texts); i++)
        assert_int_equal(atl_form_params(texts[i], strlen(texts[i]), &f->arena, &params, &count, &f->err),
                         ATL_E_INVALID);
    static const char split[] = "a=1;b=2&&c&d=%C3%A4+x%2b;";
    assert_atl_ok(atl_form_params(split, strlen(split), &f->arena, &params, &count, &f->err), &f->err);
    assert_int_equal(count, 4);
    assert_string_equal(params[1].name, "b");
    assert_string_equal(params[2].value, "");
    assert_string_equal(params[3].value, "\xc3\xa4 x+");
    struct atl_buf many = {0};
    for (int i = 0; i < 1025; i++)
        atl_buf_text(&many, "a=1&");
    assert_int_equal(atl_form_params(many.data, many.length - 4, &f->arena, &params, &count, &f->err),
                     ATL_OK);
    assert_int_equal(atl_form_params(many.data, many.length, &f->arena, &params, &count, &f->err),
                     ATL_E_LIMIT);
    atl_buf_done(&many);
}

static void values_past_512_kib_are_refused(void **state)
{
    struct fixture *f = *state;
    size_t length = (512 << 10) + 1;
    char *text = malloc(length + 13);
    memcpy(text, "description=", 12);
    memset(text + 12, 'x', length);
    text[12 + length] = '\0';
    struct atl_param *params = NULL;
    size_t count = 0;
    assert_int_equal(atl_form_params(text, length + 12, &f->arena, &params, &count, &f->err), ATL_E_LIMIT);
    assert_string_equal(f->err.field, "description");
    const struct atl_param param = {.name = "description", .value = text + 12};
    ProtobufCMessage *message = NULL;
    assert_int_equal(atl_params_decode(&atl_msg_test_v1_Config, &param, 1, &f->arena, &message, &f->errors),
                     ATL_E_INVALID);
    free(text);
}

/* --- property strings --- */

static void property_strings_are_read_and_written_canonically(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[][3] = {
        {"net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1", NULL},
        {"net0", "bridge=vmbr0,macaddr=BC:24:11:00:00:01,model=virtio,firewall=yes",
         "virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1"},
        {"net0", "model=virtio,bridge=vmbr0", "virtio,bridge=vmbr0"},
        {"net0", "macaddr=BC:24:11:00:00:01", NULL},
        {"net0", "e1000,trunks=1;2 3,rate=0.50", "e1000,trunks=1;2;3,rate=0.5"},
        {"scsi0", "local:32,discard=on,iothread=1", "local:32,iothread=1,discard=on"},
        {"scsi0", "file=local:32", "local:32"},
        {"scsi0", "volume=local:100/vm-100-disk-0.qcow2,size=32G", "local:100/vm-100-disk-0.qcow2,size=32G"},
        {"scsi0", "none,media=cdrom", NULL},
        {"scsi0", "iops_all=5,local:1,mbps=1.25", "local:1,iops=5,mbps=1.25"},
        {"scsi0", "file=local:iso/a=b.iso,media=cdrom", NULL},
        {"scsi0", "local:1,serial=%20a%2Cb", NULL},
        {"agent", "1", NULL},
        {"agent", "enabled=on,fstrim_cloned_disks=1", "1,fstrim_cloned_disks=1"},
        {"agent", "", NULL},
        {"boot", "order=scsi0;net0", NULL},
        {"boot", "cdn", NULL},
        {"ipconfig0", "ip=10.0.0.2/24,gw=10.0.0.1", NULL},
        {"features", "nesting=1,mount=nfs;cifs", NULL},
        {"features", "environment=A=B=C", NULL},
        {"features", "environment=", NULL},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        const struct atl_param param = {.name = cases[i][0], .value = cases[i][1]};
        ProtobufCMessage *message = NULL;
        memset(&f->errors, 0, sizeof f->errors);
        enum atl_code code =
            atl_params_decode(&atl_msg_test_v1_Config, &param, 1, &f->arena, &message, &f->errors);
        if (code == ATL_OK)
            code = atl_validate(&atl_msg_test_v1_Config, message, &f->errors);
        if (code != ATL_OK) {
            print_errors(f);
            fail_msg("refused: %s", param.value);
        }
        const char *text = atl_message_text(&atl_msg_test_v1_Config, message, param.name, &f->arena);
        assert_string_equal(text, cases[i][2] != NULL ? cases[i][2] : param.value);
    }
}

static void faults_in_property_strings_name_parameter_and_key(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[][3] = {
        {"net0", "virtio,tag=9999", "invalid format - tag: must be between 1 and 4094, got 9999"},
        {"net0", "virtio,tag=x", "invalid format - tag: type check ('integer') failed - got 'x'"},
        {"net0", "virtio,model=e1000", "invalid format - model: duplicate parameter"},
        {"net0", "virtio,e1000=BC:24:11:00:00:01", "invalid format - model: duplicate parameter"},
        {"net0", "virtio,foo=1",
         "invalid format - 'foo': property is not defined in schema and the schema does not "
         "allow additional properties"},
        {"net0", "virtio=zz",
         "invalid format - macaddr: invalid format - value does not look like a unicast MAC "
         "address, as BC:24:11:00:00:01, got 'zz'"},
        {"scsi0", "size=32G", "invalid format - file: property is missing and it is not optional"},
        {"scsi0", "local:1,size=32X",
         "invalid format - size: invalid format - value does not look like a size, as "
         "32G, got '32X'"},
        {"ipconfig0", "gw=10.0.0.1", "invalid format - ip: missing property - 'gw' requires this property"},
        {"features", "1", "invalid format - value without key, but schema does not define a default key"},
        {"boot", "xyz",
         "invalid format - legacy: value does not match the regex pattern '[acdn]{1,4}', got 'xyz'"},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        const struct atl_param param = {.name = cases[i][0], .value = cases[i][1]};
        ProtobufCMessage *message = NULL;
        memset(&f->errors, 0, sizeof f->errors);
        enum atl_code code =
            atl_params_decode(&atl_msg_test_v1_Config, &param, 1, &f->arena, &message, &f->errors);
        if (code == ATL_OK)
            code = atl_validate(&atl_msg_test_v1_Config, message, &f->errors);
        assert_int_equal(code, ATL_E_INVALID);
        assert_string_equal(error_of(f, cases[i][0]), cases[i][2]);
    }
}

static void property_strings_of_endless_parts_are_refused(void **state)
{
    struct fixture *f = *state;
    size_t size = 400000;
    char *text = malloc(size + 1);
    memset(text, ',', size);
    text[size] = '\0';
    ProtobufCMessage *message = NULL;
    assert_int_equal(atl_property_decode(&atl_msg_test_v1_Nic, text, "net0", &f->arena, &message, &f->errors),
                     ATL_E_INVALID);
    assert_string_equal(error_of(f, "net0"), "invalid format - there are more than 512 parts");
    for (size_t i = 0; i < size; i += 2)
        text[i] = 'a';
    const struct atl_param param = {.name = "tags", .value = text};
    memset(&f->errors, 0, sizeof f->errors);
    assert_int_equal(atl_params_decode(&atl_msg_test_v1_Config, &param, 1, &f->arena, &message, &f->errors),
                     ATL_E_INVALID);
    assert_string_equal(error_of(f, "tags"), "the list has more than 16384 items");
    free(text);
}

static void a_property_string_in_json_is_escaped(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(config_json(f, "features=environment%3D%22%5C%09%C3%A4&tags=a,b"),
                        "{\"features\":\"environment=\\\"\\\\\\t\xc3\xa4\",\"tags\":\"a;b\"}");
}

static void a_comma_in_a_value_never_becomes_a_part(void **state)
{
    struct fixture *f = *state;
    Atoll__Test__V1__Nic nic = ATOLL__TEST__V1__NIC__INIT;
    nic.bridge = (char *)(uintptr_t) "a,firewall=0";
    atl_property_encode(&atl_msg_test_v1_Nic, &nic.base, &f->out);
    assert_string_equal(f->out.data, "bridge=a%2Cfirewall=0");
    assert_int_equal(atl_validate(&atl_msg_test_v1_Nic, &nic.base, &f->errors), ATL_E_INVALID);
}

/* --- validation --- */

static void limits_name_what_was_expected_and_got(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_Config,
                         "memory=8&cpulimit=-1&shift=-11&tags=a,-b&cipassword=abc&ostype=dos&serial0=x&"
                         "scsi0=local:1,iops%3D0&scsi1=local:1,serial%3Daaaaaaaaaaaaaaaaaaaaa"),
                     ATL_E_INVALID);
    assert_string_equal(error_of(f, "memory"), "must be between 16 and 4178944, got 8");
    assert_string_equal(error_of(f, "cpulimit"), "must be between 0 and 128, got -1");
    assert_string_equal(error_of(f, "shift"), "value must have a minimum value of -10, got -11");
    assert_string_equal(error_of(f, "tags"),
                        "invalid format - value does not look like a tag (letters, digits, "
                        "'_', '-', '+' and '.'), got '-b'");
    assert_string_equal(error_of(f, "cipassword"), "value must be at least 5 characters long, got 3");
    assert_string_equal(error_of(f, "ostype"),
                        "value 'dos' does not have a value in the enumeration 'l26, win11, other'");
    assert_string_equal(error_of(f, "serial0"),
                        "value does not match the regex pattern '(/dev/[^,]+|socket)', got 'x'");
    assert_string_equal(error_of(f, "scsi0"),
                        "invalid format - iops: value must have a minimum value of 1, got 0");
    assert_string_equal(error_of(f, "scsi1"),
                        "invalid format - serial: value may only be 20 characters long, got 21");
}

static void required_partners_are_demanded(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_CreateRequest, "node=n&vmid=100&force=1"), ATL_E_INVALID);
    assert_string_equal(error_of(f, "delete"), "missing property - 'force' requires this property");
    (void)good(f, &atl_msg_test_v1_CreateRequest, "node=n&vmid=100&force=1&delete=net0");
}

static void known_but_unbuilt_parameters_are_unimplemented_unless_default(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "numa=0&cores=1"), ATL_OK);
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "numa=1&hookscript=local:snippets/a&usb1=spice"),
                     ATL_E_UNIMPLEMENTED);
    assert_string_equal(error_of(f, "numa"), "this parameter is known but not implemented");
    assert_string_equal(error_of(f, "hookscript"), "this parameter is known but not implemented");
    assert_string_equal(error_of(f, "usb1"), "this parameter is known but not implemented");
    assert_int_equal(f->errors.count, 3);
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "numa=1&cores=0"), ATL_E_INVALID);
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "usb1=foo"), ATL_E_INVALID);
}

static void secrets_are_in_no_error_and_no_answer(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_Config, "cipassword=abc"), ATL_E_INVALID);
    assert_null(strstr(error_of(f, "cipassword"), "abc"));
    assert_string_equal(config_json(f, "cipassword=geheim&history=x&features=nesting%3D1,token%3Dgeheim"),
                        "{\"features\":\"nesting=1\"}");
}

static void messages_from_the_bus_are_checked_too(void **state)
{
    struct fixture *f = *state;
    Atoll__Test__V1__Config config = ATOLL__TEST__V1__CONFIG__INIT;
    Atoll__Test__V1__Nic nic = ATOLL__TEST__V1__NIC__INIT;
    Atoll__Test__V1__NicSlot slots[2] = {ATOLL__TEST__V1__NIC_SLOT__INIT, ATOLL__TEST__V1__NIC_SLOT__INIT};
    Atoll__Test__V1__NicSlot *list[3] = {&slots[0], &slots[1], &slots[1]};
    char bad_utf8[] = "a\xff";
    char joined[] = "a b";
    char *tags[] = {joined};
    config.description = bad_utf8;
    config.n_tags = 1;
    config.tags = tags;
    config.n_net = 3;
    config.net = list;
    slots[0].index = 32;
    slots[0].value = &nic;
    slots[1].index = 1;
    assert_int_equal(atl_validate(&atl_msg_test_v1_Config, &config.base, &f->errors), ATL_E_INVALID);
    assert_string_equal(error_of(f, "description"), "value is not valid UTF-8");
    assert_string_equal(error_of(f, "net32"), "the number must be between 0 and 31");
    assert_string_equal(error_of(f, "net1"), "property is missing and it is not optional");
    assert_string_equal(error_of(f, "tags"),
                        "an item of this list may not be empty or hold ',', ';' or a blank");
}

static void patterns_that_run_away_are_cut_off(void **state)
{
    struct fixture *f = *state;
    (void)f;
    static const char pattern[] = "(a+)+b";
    char value[64];
    memset(value, 'a', sizeof value);
    assert_false(atl_pattern_matches(pattern, value, sizeof value));
    assert_true(atl_pattern_matches(pattern, "aab", 3));
    assert_false(atl_pattern_matches(pattern, "aabx", 4));
    assert_false(atl_pattern_matches("a|ab", "abc", 3));
    assert_true(atl_pattern_matches("(?^u:^x$)", "x", 1));
    assert_false(atl_pattern_matches("^x$", "x\n", 2));
}

/* --- answers --- */

static void answers_have_every_shape(void **state)
{
    struct fixture *f = *state;
    Atoll__Test__V1__Id id = ATOLL__TEST__V1__ID__INIT;
    assert_string_equal(json(f, &atl_msg_test_v1_Id, &id.base), "null");
    id.has_vmid = 1;
    id.vmid = 100;
    assert_string_equal(json(f, &atl_msg_test_v1_Id, &id.base), "\"100\"");
    Atoll__Test__V1__Nothing nothing = ATOLL__TEST__V1__NOTHING__INIT;
    assert_string_equal(json(f, &atl_msg_test_v1_Nothing, &nothing.base), "null");
    Atoll__Test__V1__Raw raw = ATOLL__TEST__V1__RAW__INIT;
    char tree[] = "{\"a\":[1,true,null]}";
    raw.json = tree;
    assert_string_equal(json(f, &atl_msg_test_v1_Raw, &raw.base), tree);
    Atoll__Test__V1__Rows rows = ATOLL__TEST__V1__ROWS__INIT;
    assert_string_equal(json(f, &atl_msg_test_v1_Rows, &rows.base), "[]");
    Atoll__Test__V1__Row row = ATOLL__TEST__V1__ROW__INIT;
    Atoll__Test__V1__Row other = ATOLL__TEST__V1__ROW__INIT;
    Atoll__Test__V1__Row *list[] = {&row, &other};
    char name[] = "a\"\\\n\x01\x7f\xc3\xa4\xff/";
    row.has_vmid = row.has_cpu = row.has_template_ = row.has_quorate = 1;
    row.vmid = 7;
    row.cpu = 0.25;
    row.quorate = 1;
    row.name = name;
    row.result = tree;
    rows.n_entry = 2;
    rows.entry = list;
    rows.has_total = 1;
    rows.total = 3;
    rows.changes = tree;
    assert_string_equal(
        json(f, &atl_msg_test_v1_Rows, &rows.base),
        "[{\"vmid\":\"7\",\"name\":\"a\\\"\\\\\\n\\u0001\\u007f\xc3\xa4\xef\xbf\xbd/\",\"cpu\":0.25,"
        "\"template\":0,\"quorate\":true,\"members\":[],\"result\":{\"a\":[1,true,null]}},"
        "{\"members\":[]}]");
    assert_string_equal(f->beside.data, ",\"total\":3,\"changes\":\"{\\\"a\\\":[1,true,null]}\"");
}

static void maps_have_free_keys_also_beside_other_fields(void **state)
{
    struct fixture *f = *state;
    char audit[] = "VM.Audit";
    char path[] = "/vms/\"100";
    Atoll__Test__V1__Flag flag = ATOLL__TEST__V1__FLAG__INIT;
    Atoll__Test__V1__Flag *flags[] = {&flag};
    flag.key = audit;
    flag.has_value = flag.value = 1;
    Atoll__Test__V1__Map map = ATOLL__TEST__V1__MAP__INIT;
    map.n_entry = 1;
    map.entry = flags;
    Atoll__Test__V1__PathEntry entry = ATOLL__TEST__V1__PATH_ENTRY__INIT;
    Atoll__Test__V1__PathEntry *entries[] = {&entry};
    entry.key = path;
    entry.value = &map;
    Atoll__Test__V1__Permissions permissions = ATOLL__TEST__V1__PERMISSIONS__INIT;
    assert_string_equal(json(f, &atl_msg_test_v1_Permissions, &permissions.base), "{}");
    permissions.n_entry = 1;
    permissions.entry = entries;
    assert_string_equal(json(f, &atl_msg_test_v1_Permissions, &permissions.base),
                        "{\"/vms/\\\"100\":{\"VM.Audit\":1}}");
    Atoll__Test__V1__Row row = ATOLL__TEST__V1__ROW__INIT;
    row.extra = &map;
    row.cap = &map;
    assert_string_equal(json(f, &atl_msg_test_v1_Row, &row.base),
                        "{\"members\":[],\"VM.Audit\":1,\"cap\":{\"VM.Audit\":1}}");
}

static void an_inlined_config_with_digest_is_flat(void **state)
{
    struct fixture *f = *state;
    Atoll__Test__V1__ConfigReply reply = ATOLL__TEST__V1__CONFIG_REPLY__INIT;
    char digest[] = "ab";
    reply.digest = digest;
    reply.config = (Atoll__Test__V1__Config *)good(f, &atl_msg_test_v1_Config, "net3=virtio&memory=512");
    assert_string_equal(json(f, &atl_msg_test_v1_ConfigReply, &reply.base),
                        "{\"memory\":512,\"net3\":\"virtio\",\"digest\":\"ab\"}");
}

static void answers_are_read_back(void **state)
{
    struct fixture *f = *state;
    static const char *const cases[] = {
        "[{\"vmid\":\"7\",\"name\":\"x\",\"cpu\":0.1,\"template\":1,\"quorate\":true,\"groups\":[\"a\",\"b\"]"
        ","
        "\"list\":\"c,d\",\"members\":[{\"members\":[]}],\"result\":{\"a\":[1.50,\"/"
        "\"]},\"nic\":\"virtio,tag=3\","
        "\"free\":0,\"cap\":{\"VM.Audit\":1,\"VM.Config\":0}}]",
        "[]",
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        ProtobufCMessage *message = NULL;
        assert_atl_ok(
            atl_json_decode(&atl_msg_test_v1_Rows, cases[i], strlen(cases[i]), &f->arena, &message, &f->err),
            &f->err);
        assert_string_equal(json(f, &atl_msg_test_v1_Rows, message), cases[i]);
    }
    ProtobufCMessage *message = NULL;
    static const char loose[] =
        "{\"memory\":\"512\",\"unknown\":{\"x\":[]},\"net2\":\"e1000\",\"digest\":null}";
    assert_atl_ok(
        atl_json_decode(&atl_msg_test_v1_ConfigReply, loose, strlen(loose), &f->arena, &message, &f->err),
        &f->err);
    assert_string_equal(json(f, &atl_msg_test_v1_ConfigReply, message),
                        "{\"memory\":512,\"net2\":\"e1000\"}");
    assert_int_equal(atl_json_decode(&atl_msg_test_v1_Rows, "{}", 2, &f->arena, &message, &f->err),
                     ATL_E_INVALID);
    assert_atl_ok(atl_json_decode(&atl_msg_test_v1_Id, "\"100\"", 5, &f->arena, &message, &f->err), &f->err);
    assert_atl_ok(atl_json_decode(&atl_msg_test_v1_Id, "100", 3, &f->arena, &message, &f->err), &f->err);
    assert_string_equal(json(f, &atl_msg_test_v1_Id, message), "\"100\"");
    assert_atl_ok(atl_json_decode(&atl_msg_test_v1_Nothing, "null", 4, &f->arena, &message, &f->err),
                  &f->err);
}

/* --- fields by name --- */

static void fields_can_be_asked_cleared_and_merged_by_name(void **state)
{
    struct fixture *f = *state;
    const struct atl_message *table = &atl_msg_test_v1_CreateRequest;
    ProtobufCMessage *to = good(f, table, "node=n1&vmid=100&net0=virtio&net5=virtio&memory=512&tags=a,b");
    ProtobufCMessage *from = good(f, table, "node=n1&vmid=100&net0=e1000&net1=e1000&memory=1024&onboot=0");
    assert_string_equal(atl_message_text(table, to, "vmid", &f->arena), "100");
    assert_string_equal(atl_message_text(table, to, "tags", &f->arena), "a;b");
    assert_string_equal(atl_message_text(table, to, "net5", &f->arena), "virtio");
    assert_null(atl_message_text(table, to, "net1", &f->arena));
    assert_null(atl_message_text(table, to, "onboot", &f->arena));
    assert_null(atl_message_text(table, to, "bogus", &f->arena));
    assert_true(atl_message_given(table, to, "net"));
    assert_true(atl_message_given(table, to, "net0"));
    assert_false(atl_message_given(table, to, "net1"));
    assert_false(atl_message_given(table, to, "scsi"));
    atl_message_merge(table, to, from, &f->arena);
    assert_true(atl_message_clear(table, to, "net5"));
    assert_false(atl_message_clear(table, to, "net5"));
    assert_true(atl_message_clear(table, to, "tags"));
    assert_false(atl_message_clear(table, to, "bogus"));
    assert_string_equal(json(f, table, to), "{\"node\":\"n1\",\"vmid\":100,\"memory\":1024,\"onboot\":0,"
                                            "\"net0\":\"e1000\",\"net1\":\"e1000\"}");
    assert_true(atl_message_clear(table, to, "memory"));
    assert_false(atl_message_given(table, to, "memory"));
    assert_string_equal(atl_message_field(table, "startdate")->name, "Start-Date");
    assert_string_equal(atl_message_field(table, "net")->name, "net");
    assert_string_equal(atl_message_field(table, "net7")->name, "net");
    assert_null(atl_message_field(table, "net77"));
}

static void merging_into_a_message_without_its_inlined_part_works(void **state)
{
    struct fixture *f = *state;
    Atoll__Test__V1__ConfigReply reply = ATOLL__TEST__V1__CONFIG_REPLY__INIT;
    ProtobufCMessage *from = NULL;
    assert_atl_ok(
        atl_json_decode(&atl_msg_test_v1_ConfigReply, "{\"memory\":64}", 13, &f->arena, &from, &f->err),
        &f->err);
    assert_null(atl_message_text(&atl_msg_test_v1_ConfigReply, &reply.base, "memory", &f->arena));
    assert_false(atl_message_clear(&atl_msg_test_v1_ConfigReply, &reply.base, "memory"));
    atl_message_merge(&atl_msg_test_v1_ConfigReply, &reply.base, from, &f->arena);
    assert_string_equal(atl_message_text(&atl_msg_test_v1_ConfigReply, &reply.base, "memory", &f->arena),
                        "64");
}

static void required_scalars_and_bytes_are_carried(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(bad(f, &atl_msg_test_v1_Everything, "d=x"), ATL_E_INVALID);
    assert_int_equal(f->errors.count, 3);
    assert_string_equal(
        json(f, &atl_msg_test_v1_Everything,
             good(f, &atl_msg_test_v1_Everything, "a=-5&b=0&c=1e-7&d=&e=00ff10&F-f=-9223372036854775808")),
        "{\"a\":-5,\"b\":0,\"c\":0.0000001,\"d\":\"\",\"e\":\"00ff10\",\"F-f\":-9223372036854775808}");
    assert_int_equal(bad(f, &atl_msg_test_v1_Everything, "a=2147483648&b=1&c=1&d=x"), ATL_E_INVALID);
    assert_string_equal(error_of(f, "a"),
                        "value must be between -2147483648 and 2147483647 - got '2147483648'");
}

static void a_message_survives_the_wire_and_the_arena(void **state)
{
    struct fixture *f = *state;
    const struct atl_message *table = &atl_msg_test_v1_CreateRequest;
    ProtobufCMessage *message = good(f, table, "node=n1&vmid=100&net0=virtio,tag%3D3&scsi1=local:1&tags=a");
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = atl_arena_alloc(&f->arena, size);
    assert_int_equal(protobuf_c_message_pack(message, bytes), size);
    ProtobufCMessage *again = atl_unpack(table, bytes, size, &f->arena);
    assert_non_null(again);
    assert_string_equal(json(f, table, again), "{\"node\":\"n1\",\"vmid\":100,\"net0\":\"virtio,tag=3\","
                                               "\"scsi1\":\"local:1\",\"tags\":\"a\"}");
    assert_null(atl_unpack(table, "\xff\xff", 2, &f->arena));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(given_and_not_given_differ_and_defaults_are_not_stored),
        CASE(booleans_have_eight_words_and_leave_as_1_and_0),
        CASE(wrong_types_are_told_with_the_value),
        CASE(all_faults_are_told_at_once),
        CASE(duplicates_are_refused),
        CASE(lists_take_three_separators_and_repeated_keys),
        CASE(numbered_parameters_keep_their_holes),
        CASE(names_may_have_hyphens_capitals_and_aliases),
        CASE(json_bodies_give_the_same_parameters),
        CASE(bad_json_bodies_are_refused),
        CASE(duplicate_json_keys_are_kept_to_be_refused),
        CASE(bad_forms_are_refused),
        CASE(values_past_512_kib_are_refused),
        CASE(property_strings_are_read_and_written_canonically),
        CASE(faults_in_property_strings_name_parameter_and_key),
        CASE(property_strings_of_endless_parts_are_refused),
        CASE(a_property_string_in_json_is_escaped),
        CASE(a_comma_in_a_value_never_becomes_a_part),
        CASE(limits_name_what_was_expected_and_got),
        CASE(required_partners_are_demanded),
        CASE(known_but_unbuilt_parameters_are_unimplemented_unless_default),
        CASE(secrets_are_in_no_error_and_no_answer),
        CASE(messages_from_the_bus_are_checked_too),
        CASE(patterns_that_run_away_are_cut_off),
        CASE(answers_have_every_shape),
        CASE(maps_have_free_keys_also_beside_other_fields),
        CASE(an_inlined_config_with_digest_is_flat),
        CASE(answers_are_read_back),
        CASE(fields_can_be_asked_cleared_and_merged_by_name),
        CASE(merging_into_a_message_without_its_inlined_part_works),
        CASE(required_scalars_and_bytes_are_carried),
        CASE(a_message_survives_the_wire_and_the_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
