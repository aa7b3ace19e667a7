/* Named formats, numbers, sizes, UTF-8, and the contract's own use of formats and patterns. */
#include "atl_test.h"

#include <math.h>

#include "pure/arena.h"
#include "pure/contract.h"
#include "pure/format.h"
#include "pure/number.h"
#include "pure/pattern.h"
#include "pure/utf8.h"

struct sample {
    const char *format;
    const char *good[8];
    const char *bad[12];
};

static const struct sample samples[] = {
    {"pve-node", {"a", "pve1", "a-b", "N0"}, {"", "-a", "a-", "a.b", "a_b", "ä"}},
    {"pve-vmid", {"100", "999999999"}, {"99", "0100", "1000000000", "1e3", "-100", ""}},
    {"pve-storage-id", {"local", "local-lvm", "a1", "A.b_c"}, {"", "a", "1a", "a-", "a b", "a/b", "a:b"}},
    {"pve-storage-id-list", {"local,nfs1", "local nfs1;x1", ""}, {"local,1"}},
    {"pve-volume-id",
     {"local:100/vm-100-disk-0.qcow2", "local:32", "local:iso/a b.iso"},
     {"local", "local:", ":x", "local: x", "a:x", "local:a\nb"}},
    {"pve-volume-id-or-qm-path", {"none", "cdrom", "/dev/sda", "local:1"}, {"x", "", "dev/sda"}},
    {"pve-volume-id-or-absolute-path", {"/a", "local:x"}, {"none", "a"}},
    {"pve-userid",
     {"root@pam", "a.b@x-y", "me@corp@ad"},
     {"root", "root@", "@pam", "a b@pam", "a:b@pam", "a@1"}},
    {"pve-tokenid", {"root@pam!mon"}, {"root@pam", "root@pam!", "!x", "root@pam!1"}},
    {"pve-realm", {"pam", "pve", "Corp.ad"}, {"", "p", "1x", "a b"}},
    {"pve-poolid", {"a", "a/b/c", "x_y.z"}, {"", "/a", "a/", "a//b", "a/b/c/d"}},
    {"pve-groupid", {"admins", "1"}, {"", "a b", "a/b"}},
    {"pve-roleid", {"PVEAdmin"}, {"a:b", ""}},
    {"pve-priv", {"VM.Audit", "VM.Config.CDROM", "Sys.PowerMgmt"}, {"VM", "vm.audit", "VM.", "VM.Audit.a.b"}},
    {"pve-priv-list", {"VM.Audit,Sys.Audit"}, {"VM.Audit,x"}},
    {"pve-configid", {"ab", "a_b-1"}, {"", "a", "1a", "a.b"}},
    {"pve-iface", {"vmbr0", "eth0.5", "bond0:1"}, {"v", "0a", "vmbr0.x", "a-b", "aaaaaaaaaaaaaaaaaaaaaaa"}},
    {"pve-bridge-id", {"vmbr0", "my_net", "1"}, {"", "a/b", "a b", "aaaaaaaaaaaaaaaa"}},
    {"mac-addr",
     {"BC:24:11:00:00:01", "02:00:00:ff:FF:0a"},
     {"01:00:00:00:00:00", "BC:24:11:00:00", "BC-24-11-00-00-01", ""}},
    {"mac-prefix", {"BC:24:11", "BC", "BC:24:11:"}, {"BD:24:11", "BC:2", "BC:24:11:00"}},
    {"ip", {"10.0.0.1", "::1", "fe80::1"}, {"10.0.0", "10.0.0.256", "::g", "", "10.0.0.1/8"}},
    {"ipv4", {"1.2.3.4"}, {"::1", "01.2.3.4", "1.2.3.4 "}},
    {"ipv6", {"::", "2001:db8::1"}, {"1.2.3.4", ":::"}},
    {"ipv4mask", {"255.255.255.0", "0.0.0.0", "255.255.255.255"}, {"255.0.255.0", "24", ""}},
    {"CIDR",
     {"10.0.0.0/8", "fd00::/64"},
     {"10.0.0.0", "10.0.0.0/33", "10.0.0.0/7", "10.0.0.0/", "10.0.0.0/08", "fd00::/129"}},
    {"CIDRv4", {"10.0.0.1/24"}, {"fd00::/64"}},
    {"CIDRv6", {"fd00::/64"}, {"10.0.0.0/24"}},
    {"FullRangeCIDR", {"0.0.0.0/0", "::/0"}, {"0.0.0.0"}},
    {"IPorCIDR", {"10.0.0.1", "10.0.0.0/24"}, {"host", ""}},
    {"address", {"10.0.0.1", "::1", "host.example"}, {"", "a_b", "-x", "a..b"}},
    {"dns-name", {"a", "a.b-c.d", "1.2.3.4"}, {"", ".", "a.", "a b", "a_b", "-a"}},
    {"dns-name-list", {"a.b, c"}, {"a,_"}},
    {"email", {"a@b", "a.b+c@d.e"}, {"a", "@b", "a@", "a@b..c", "a b@c"}},
    {"email-opt", {"", "a@b"}, {"a"}},
    {"email-list", {"a@b,c@d", ""}, {"a@b,c"}},
    {"disk-size", {"32G", "1.5T", "512", "4M", "8K"}, {"", "G", "1X", "1.G", "-1", "1 G", "32g"}},
    {"pve-startup-order",
     {"1", "order=1", "order=1,up=30,down=60", "up=5"},
     {"", "order=", "x=1", "order=1,"}},
    {"pve-tag", {"a", "_x", "a+b.c-d", "A"}, {"", "-a", "a b", "a;b"}},
    {"pve-tag-list", {"a;b", "a b,c"}, {"a;-b"}},
    {"urlencoded", {"", "a%20b", "ssh-rsa%20AA"}, {"a b", "a+b", "a/b", "ä"}},
    {"pve-ct-timezone", {"host", "Europe/Vienna", "Etc/GMT+1"}, {"", "../etc", "/etc", "a/../b"}},
    {"pve-cpuset", {"0", "0,5,8-11"}, {"", "a", "1-", "1,,2"}},
    {"pve-hotplug-features", {"0", "1", "network,disk,usb", "cpu;memory"}, {"", "2", "network,foo"}},
    {"pve-ipv4-config", {"dhcp", "manual", "10.0.0.2/24"}, {"10.0.0.2", "auto", "fd00::/64"}},
    {"pve-ipv6-config", {"auto", "dhcp", "fd00::2/64"}, {"fd00::2", "10.0.0.2/24"}},
    {"pve-storage-content", {"images", "iso", "import"}, {"", "image", "images,iso"}},
    {"pve-storage-content-list", {"images,iso"}, {"images,x"}},
    {"pve-storage-path", {"/", "/var/lib/vz", "/mnt/a.b_c"}, {"", "var", "/a/../b", "/..", "/a b", "/a\nb"}},
    {"pve-qm-bootdev", {"net0", "scsi12", "hostpci0"}, {"net", "efidisk0", "scsi0;net0"}},
    {"pve-qm-bootdev-list", {"scsi0;net0"}, {"scsi0;x"}},
    {"pve-qm-bootdisk", {"ide0", "virtio15"}, {"net0", "ide"}},
    {"pve-lxc-mp-string", {"/srv", "/a/b.c"}, {"srv", "/a/../b", "/a/./b", "/a/..", "/a,b"}},
    {"pve-lxc-dev-string", {"/dev/ttyUSB0", "/dev/dri/card0"}, {"/etc/x", "/dev/../etc", "/dev/"}},
    {"pve-phys-bits", {"host", "8", "64", "40"}, {"7", "65", "", "hos"}},
    {"pve-task-status-type-list", {"ok,error", "warning"}, {"bad"}},
    {"pve-dir-override-list", {"vztmpl=ct/cache", "iso=/iso,images=x"}, {"vztmpl", "iso=../x"}},
    {"storage-pair", {"1", "a1:b1", "local"}, {"", "a1:", ":b1", "a1:b1:c1"}},
    {"bridge-pair-list", {"vmbr0:vmbr1,vmbr2", "1"}, {"vmbr0:"}},
    {"lxc-ip-with-ll-iface", {"1.1.1.1", "fe80::1%eth0"}, {"fe80::1%", "2001:db8::1%eth0", "fe80::1%e/0"}},
    {"pve-storage-portal-dns",
     {"10.0.0.1:3260", "host", "[::1]:3260", "a.b:1"},
     {"host:", "host:99999a", "[::1]", ":1"}},
    {"pve-ha-resource-id", {"vm:100", "ct:101"}, {"vm:", "100"}},
    {"pve-replication-job-id", {"100-0"}, {"100", "100-"}},
};

static bool matches(const char *format, const char *value)
{
    const char *wants = NULL;
    bool result = atl_format_matches(format, value, strlen(value), &wants);
    assert_true(result || (wants != NULL && wants[0] != '\0'));
    return result;
}

static void formats_take_what_is_right_and_refuse_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < ATL_COUNT(samples); i++) {
        const struct sample *sample = &samples[i];
        assert_true(atl_format_known(sample->format));
        for (size_t j = 0; j < ATL_COUNT(sample->good) && sample->good[j] != NULL; j++)
            if (!matches(sample->format, sample->good[j]))
                fail_msg("%s refuses '%s'", sample->format, sample->good[j]);
        for (size_t j = 0; j < ATL_COUNT(sample->bad) && sample->bad[j] != NULL; j++)
            if (matches(sample->format, sample->bad[j]))
                fail_msg("%s takes '%s'", sample->format, sample->bad[j]);
    }
}

static void lists_and_optional_values_exist_for_every_format(void **state)
{
    (void)state;
    assert_true(atl_format_known("pve-iface-list"));
    assert_true(atl_format_known("CIDR-list"));
    assert_true(atl_format_known("mac-addr-opt"));
    assert_false(atl_format_known("pve-iface-lists"));
    assert_false(atl_format_known("-list"));
    assert_false(atl_format_known(""));
    assert_false(atl_format_known("nonsense-list"));
}

/* --- the contract --- */

struct walk {
    const struct atl_message *seen[1024];
    size_t count;
    size_t faults;
};

static void check_field(struct walk *walk, const struct atl_message *message, const struct atl_field *field)
{
    size_t offset = 0;
    if (field->format != NULL && !atl_format_known(field->format)) {
        print_error("%s.%s: format '%s' is unknown\n", message->name, field->name, field->format);
        walk->faults++;
    }
    if (field->pattern != NULL && !atl_pattern_check(field->pattern, &offset)) {
        print_error("%s.%s: pattern '%s' is broken at %zu\n", message->name, field->name, field->pattern,
                    offset);
        walk->faults++;
    }
    if (field->needs != NULL && atl_message_field(message, field->needs) == NULL)
        print_message("%s.%s: requires '%s' of another message\n", message->name, field->name, field->needs);
    if (field->key_alias != NULL &&
        (atl_message_field(message, field->key_alias) == NULL || field->values == NULL)) {
        print_error("%s.%s: its key alias is no field, or it has no closed set\n", message->name,
                    field->name);
        walk->faults++;
    }
    if ((field->flags & ATL_F_NUMBERED) != 0 &&
        (field->sub == NULL || field->sub->style != ATL_STYLE_SLOT || (field->flags & ATL_F_REPEATED) == 0)) {
        print_error("%s.%s: a numbered field is a repeated slot\n", message->name, field->name);
        walk->faults++;
    }
}

static void check_message(struct walk *walk, const struct atl_message *message)
{
    for (size_t i = 0; i < walk->count; i++)
        if (walk->seen[i] == message)
            return;
    assert_true(walk->count < ATL_COUNT(walk->seen));
    walk->seen[walk->count++] = message;
    assert_int_equal(message->count, message->descriptor->n_fields);
    for (uint32_t i = 0; i < message->count; i++) {
        check_field(walk, message, &message->fields[i]);
        if (message->fields[i].sub != NULL)
            check_message(walk, message->fields[i].sub);
    }
}

static void every_format_of_the_contract_is_known_and_every_pattern_compiles(void **state)
{
    (void)state;
    struct walk *walk = calloc(1, sizeof *walk);
    size_t methods = 0;
    for (const struct atl_service *const *service = atl_contract; *service != NULL; service++) {
        for (uint32_t i = 0; i < (*service)->count; i++, methods++) {
            const struct atl_rpc *rpc = &(*service)->rpcs[i];
            check_message(walk, rpc->input);
            check_message(walk, rpc->output);
            assert_ptr_equal(atl_contract_rpc(rpc->name), rpc);
        }
    }
    print_message("%zu methods, %zu messages\n", methods, walk->count);
    assert_true(methods > 50);
    assert_int_equal(walk->faults, 0);
    assert_null(atl_contract_rpc("atoll.qemu.v1.Qemu"));
    assert_null(atl_contract_rpc("atoll.qemu.v1.Qemu.Nothing"));
    assert_null(atl_contract_rpc(""));
    free(walk);
}

/* --- numbers --- */

static void whole_numbers_are_read_to_their_limits(void **state)
{
    (void)state;
    int64_t whole = 0;
    uint64_t natural = 0;
    assert_true(atl_int_from_text("-9223372036854775808", &whole) && whole == INT64_MIN);
    assert_true(atl_int_from_text("+7", &whole) && whole == 7);
    assert_true(atl_uint_from_text("18446744073709551615", &natural) && natural == UINT64_MAX);
    assert_true(atl_uint_from_text("-0", &natural) && natural == 0);
    static const char *const bad[] = {"",   "-", "+", "1 ", " 1", "0x1", "1.0", "--1", "9223372036854775808",
                                      "1e3"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        assert_false(atl_int_from_text(bad[i], &whole));
    assert_false(atl_uint_from_text("18446744073709551616", &natural));
    assert_false(atl_uint_from_text("-1", &natural));
}

static void numbers_are_written_shortly_and_read_back_exactly(void **state)
{
    (void)state;
    static const double values[] = {0,          1,       -1,
                                    0.1,        0.5,     1.5,
                                    123456.789, 1e15,    1e22,
                                    1e-7,       5e-324,  1.7976931348623157e308,
                                    0.1 + 0.2,  1.0 / 3, 9007199254740993.0,
                                    -2.5e-5,    4178944};
    static const char *const texts[] = {"0", "1", "-1", "0.1", "0.5", "1.5", "123456.789"};
    char text[ATL_NUMBER_MAX];
    for (size_t i = 0; i < ATL_COUNT(values); i++) {
        double again = 0;
        size_t length = atl_double_to_text(values[i], text);
        assert_int_equal(length, strlen(text));
        assert_true(atl_double_from_text(text, &again));
        assert_true(again == values[i]);
        if (i < ATL_COUNT(texts))
            assert_string_equal(text, texts[i]);
    }
    (void)atl_double_to_text(NAN, text);
    assert_string_equal(text, "0");
    double value = 0;
    static const char *const bad[] = {"",      ".",  "1.e", "nan", "inf", "0x1p3",
                                      "1e999", " 1", "1 ",  "1,5", "e5"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        assert_false(atl_double_from_text(bad[i], &value));
}

static void random_numbers_are_read_back_exactly(void **state)
{
    (void)state;
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < 100000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        double value = 0;
        memcpy(&value, &seed, sizeof value);
        if (i % 2 == 0)
            value = (double)(int64_t)(seed >> 20) / 1000;
        if (!isfinite(value))
            continue;
        char text[ATL_NUMBER_MAX];
        double again = 0;
        (void)atl_double_to_text(value, text);
        assert_true(atl_double_from_text(text, &again));
        assert_true(again == value);
    }
}

static void sizes_have_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t bytes;
        const char *again;
    } cases[] = {
        {"32G", UINT64_C(32) << 30, "32G"},
        {"512M", 512 << 20, "512M"},
        {"1.5T", UINT64_C(1536) << 30, "1536G"},
        {"528K", 528 << 10, "528K"},
        {"1000", 1000, "1000"},
        {"0", 0, "0"},
        {"1073741824", 1 << 30, "1G"},
        {"0.5K", 512, "512"},
        {"2P", UINT64_C(2) << 50, "2P"},
        {"8191P", UINT64_C(8191) << 50, "8191P"},
    };
    char text[ATL_NUMBER_MAX];
    uint64_t bytes = 0;
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        assert_true(atl_size_from_text(cases[i].text, &bytes));
        assert_true(bytes == cases[i].bytes);
        assert_int_equal(atl_size_to_text(bytes, text), strlen(cases[i].again));
        assert_string_equal(text, cases[i].again);
    }
    static const char *const bad[] = {"",
                                      "G",
                                      "1g",
                                      "1GB",
                                      ".5G",
                                      "1.G",
                                      "-1G",
                                      "8192P",
                                      "99999999999999999999",
                                      "9999999.9P",
                                      "1.00000000000000000000000000000000000000G"};
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        assert_false(atl_size_from_text(bad[i], &bytes));
}

static void utf8_is_checked_strictly(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "abc",
                                       "\xc3\xa4",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x92\xa9",
                                       "0123456789\xc3\xa4",
                                       "\xed\x9f\xbf",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\x80",
                                      "\xe0\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xe2\x82",
                                      "01234567\xff",
                                      "\xf0\x80\x80\x80"};
    for (size_t i = 0; i < ATL_COUNT(good); i++)
        assert_true(atl_utf8_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < ATL_COUNT(bad); i++)
        assert_false(atl_utf8_valid(bad[i], strlen(bad[i])));
    assert_int_equal(atl_utf8_length("a\xc3\xa4\xff", 4), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_take_what_is_right_and_refuse_the_rest),
        cmocka_unit_test(lists_and_optional_values_exist_for_every_format),
        cmocka_unit_test(every_format_of_the_contract_is_known_and_every_pattern_compiles),
        cmocka_unit_test(whole_numbers_are_read_to_their_limits),
        cmocka_unit_test(numbers_are_written_shortly_and_read_back_exactly),
        cmocka_unit_test(random_numbers_are_read_back_exactly),
        cmocka_unit_test(sizes_have_units),
        cmocka_unit_test(utf8_is_checked_strictly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
