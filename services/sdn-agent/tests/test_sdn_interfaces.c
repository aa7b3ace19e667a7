/* /etc/network/interfaces: golden cases, addresses, what the API shows. */
#include "atl_test.h"

#include "core/show.h"

static void dump_list(struct atl_buf *out, const char *name, char **items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        atl_buf_printf(out, "  %s[%zu]=%s\n", name, i, items[i]);
}

static void dump_text(struct atl_buf *out, const char *name, const char *text)
{
    if (text == NULL)
        return;
    atl_buf_printf(out, "  %s=", name);
    for (; *text != '\0'; text++)
        atl_buf_text(out, *text == '\n' ? "\\n" : (const char[]){*text, '\0'});
    atl_buf_char(out, '\n');
}

static void dump_number(struct atl_buf *out, const char *name, int has, int64_t number)
{
    if (has)
        atl_buf_printf(out, "  %s=%" PRId64 "\n", name, number);
}

static void dump(struct atl_buf *out, const Atoll__Network__V1__Interface *i)
{
    atl_buf_printf(out, "%s (%s)\n", i->iface, i->type);
    dump_number(out, "autostart", i->has_autostart, i->autostart);
    dump_number(out, "exists", i->has_exists, i->exists);
    dump_number(out, "active", i->has_active, i->active);
    dump_number(out, "priority", i->has_priority, i->priority);
    dump_text(out, "method", i->method);
    dump_text(out, "address", i->address);
    dump_text(out, "netmask", i->netmask);
    dump_text(out, "cidr", i->cidr);
    dump_text(out, "gateway", i->gateway);
    dump_text(out, "method6", i->method6);
    dump_text(out, "cidr6", i->cidr6);
    dump_text(out, "gateway6", i->gateway6);
    dump_number(out, "netmask6", i->has_netmask6, i->netmask6);
    dump_list(out, "families", i->families, i->n_families);
    dump_list(out, "options", i->options, i->n_options);
    dump_list(out, "options6", i->options6, i->n_options6);
    dump_text(out, "comments", i->comments);
    dump_text(out, "bridge_ports", i->bridge_ports);
    dump_text(out, "bridge_stp", i->bridge_stp);
    dump_text(out, "bridge_fd", i->bridge_fd);
    dump_text(out, "bridge_vids", i->bridge_vids);
    dump_number(out, "bridge_vlan_aware", i->has_bridge_vlan_aware, i->bridge_vlan_aware);
    dump_text(out, "slaves", i->slaves);
    dump_text(out, "bond_mode", i->bond_mode);
    dump_text(out, "vlan-raw-device", i->vlan_raw_device);
    dump_number(out, "vlan-id", i->has_vlan_id, i->vlan_id);
    dump_number(out, "mtu", i->has_mtu, i->mtu);
    dump_text(out, "ovs_ports", i->ovs_ports);
}

static const char *in_tree(const char *name)
{
    static char path[4096];
    const char *top = getenv("ATL_SOURCE_DIR");
    (void)snprintf(path, sizeof path, "%s/services/sdn-agent/tests/interfaces/%s", top != NULL ? top : ".",
                   name);
    return path;
}

static void a_host_with_every_kind_of_interface_is_shown_as_recorded(void **state)
{
    (void)state;
    struct atl_arena arena = {0};
    struct atl_buf text = {0};
    struct atl_buf out = {0};
    struct sdn_file file = {0};
    struct atl_error err = {0};
    assert_true(atl_test_read(in_tree("host.in"), &text));
    assert_atl_ok(sdn_interfaces_read(text.data, text.length, &arena, &file, &err), &err);
    struct sdn_link links[] = {{.name = "lo", .index = 1, .up = true},
                               {.name = "wlp2s0", .index = 2, .physical = true},
                               {.name = "eno1", .index = 3, .physical = true, .up = true},
                               {.name = "vmbr0", .index = 4, .kind = "bridge", .up = true},
                               {.name = "tap100i0", .index = 5, .kind = "tun", .up = true}};
    struct sdn_links all = {.links = links, .count = ATL_COUNT(links)};
    Atoll__Network__V1__Interface **list = NULL;
    size_t count = 0;
    sdn_show(&file, &all, &arena, &list, &count);
    for (size_t i = 0; i < count; i++)
        dump(&out, list[i]);
    for (size_t i = 0; i < file.source_count; i++)
        atl_buf_printf(&out, "source %s\n", file.sources[i]);
    for (size_t i = 0; i < file.unknown_count; i++)
        atl_buf_printf(&out, "kept %s\n", file.unknown[i]);
    atl_buf_printf(&out, "dropped %zu\n", file.dropped);
    atl_test_golden("services/sdn-agent/tests/interfaces/host.out", out.data);
    atl_buf_done(&out);
    atl_buf_done(&text);
    atl_arena_done(&arena);
}

static void addresses_take_a_prefix_or_a_netmask(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        const char *netmask;
        const char *text; /* NULL: refused */
        int prefix;
    } cases[] = {
        {"10.0.0.1/24", NULL, "10.0.0.1", 24},
        {"10.0.0.1", "255.255.255.0", "10.0.0.1", 24},
        {"10.0.0.1", "24", "10.0.0.1", 24},
        {"10.0.0.1", "255.255.255.255", "10.0.0.1", 32},
        {"10.0.0.1", "0.0.0.0", "10.0.0.1", 0},
        {"10.0.0.1", NULL, "10.0.0.1", 32},
        {"fd00::1/64", NULL, "fd00::1", 64},
        {"FD00:0::1", "48", "fd00::1", 48},
        {"10.0.0.1/33", NULL, NULL, 0},
        {"10.0.0.1/", NULL, NULL, 0},
        {"10.0.0.1/2a", NULL, NULL, 0},
        {"10.0.0.1", "255.0.255.0", NULL, 0},
        {"10.0.0.256", NULL, NULL, 0},
        {"fd00::1/129", NULL, NULL, 0},
        {"", NULL, NULL, 0},
        {"host", NULL, NULL, 0},
    };
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        struct sdn_address address;
        enum atl_code code = sdn_address_parse(cases[i].address, cases[i].netmask, &address, NULL);
        if (cases[i].text == NULL) {
            assert_int_equal(code, ATL_E_INVALID);
            continue;
        }
        assert_int_equal(code, ATL_OK);
        assert_string_equal(address.text, cases[i].text);
        assert_int_equal(address.prefix, cases[i].prefix);
    }
}

static void the_type_filter_passes_what_it_names(void **state)
{
    (void)state;
    Atoll__Network__V1__Interface bridge = ATOLL__NETWORK__V1__INTERFACE__INIT;
    char word[] = "bridge";
    bridge.type = word;
    assert_true(sdn_show_passes(&bridge, NULL));
    assert_true(sdn_show_passes(&bridge, "bridge"));
    assert_true(sdn_show_passes(&bridge, "any_bridge"));
    assert_true(sdn_show_passes(&bridge, "any_local_bridge"));
    assert_true(sdn_show_passes(&bridge, "include_sdn"));
    assert_false(sdn_show_passes(&bridge, "eth"));
    assert_false(sdn_show_passes(&bridge, "OVSBridge"));
}

static void text_that_is_none_or_too_long_is_refused(void **state)
{
    (void)state;
    struct atl_arena arena = {0};
    struct sdn_file file = {0};
    char *large = atl_alloc0(SDN_TEXT_MAX + 2);
    memset(large, 'a', SDN_TEXT_MAX + 1);
    assert_int_equal(sdn_interfaces_read("auto \0lo", 8, &arena, &file, NULL), ATL_E_INVALID);
    assert_int_equal(sdn_interfaces_read(large, SDN_TEXT_MAX + 1, &arena, &file, NULL), ATL_E_LIMIT);
    assert_int_equal(sdn_interfaces_read(large, SDN_TEXT_MAX, &arena, &file, NULL), ATL_OK);
    free(large);
    atl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_with_every_kind_of_interface_is_shown_as_recorded),
        cmocka_unit_test(addresses_take_a_prefix_or_a_netmask),
        cmocka_unit_test(the_type_filter_passes_what_it_names),
        cmocka_unit_test(text_that_is_none_or_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
