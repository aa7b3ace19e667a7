/* Plans: what is missing is made, in order; what is right is left alone. */
#include "atl_test.h"

#include "core/plan.h"

static const char quickstart[] = "auto vmbr0\n"
                                 "iface vmbr0 inet static\n"
                                 "\taddress 10.99.0.1/24\n"
                                 "\tbridge-ports none\n"
                                 "\tbridge-stp off\n"
                                 "\tbridge-fd 0\n"
                                 "\tatoll-nat yes\n"
                                 "\tatoll-dhcp-range 10.99.0.50 10.99.0.150\n";

static const struct sdn_dhcp_paths paths = {.run = "/run/x", .state = "/var/x"};

struct bench {
    struct atl_arena arena;
    struct sdn_file file;
    struct sdn_wishes wishes;
    struct sdn_ports ports;
    struct sdn_link links[8];
    struct sdn_address address;
    int address_link;
    struct sdn_dhcp_state dhcp;
    const char *made[2];
    struct sdn_lone lone;
    struct sdn_state state;
    struct sdn_plan plan;
};

static int set_up(void **state)
{
    *state = atl_new0(struct bench);
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    atl_arena_done(&bench->arena);
    free(bench);
    return 0;
}

static void read_file(struct bench *bench, const char *text)
{
    struct atl_error err = {0};
    bench->file = (struct sdn_file){0};
    assert_atl_ok(sdn_interfaces_read(text, strlen(text), &bench->arena, &bench->file, &err), &err);
    sdn_wishes_read(&bench->file, &bench->arena, &bench->wishes);
}

/* All that the quickstart's file wants is there. */
static void all_is_right(struct bench *bench)
{
    read_file(bench, quickstart);
    bench->links[0] = (struct sdn_link){.name = "vmbr0", .index = 5, .up = true, .kind = "bridge"};
    bench->links[1] =
        (struct sdn_link){.name = "tap100i0", .index = 6, .master = 5, .up = true, .kind = "tun"};
    bench->made[0] = "vmbr0";
    assert_int_equal(sdn_address_parse("10.99.0.1/24", NULL, &bench->address, NULL), ATL_OK);
    bench->address_link = 5;
    (void)atl_copy(bench->dhcp.bridge, sizeof bench->dhcp.bridge, "vmbr0");
    bench->dhcp.conf = sdn_dhcp_text(&bench->wishes.wishes[0], 5, &paths, &bench->arena);
    static const char guest[] = "name: x\nnet0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n";
    sdn_ports_read(guest, sizeof guest - 1, 100, false, &bench->arena, &bench->ports);
    bench->state = (struct sdn_state){
        .links = {.links = bench->links, .count = 2},
        .lone = &bench->lone,
        .addresses = &bench->address,
        .address_links = &bench->address_link,
        .address_count = 1,
        .forwarding = true,
        .nat = sdn_nat_text(&bench->wishes, &bench->arena),
        .nat_present = true,
        .dhcp = &bench->dhcp,
        .dhcp_count = 1,
        .made = bench->made,
    };
}

static const char *planned(struct bench *bench)
{
    sdn_plan_make(&bench->wishes, &bench->ports, &bench->state, &paths, &bench->arena, &bench->plan);
    const char *text = "";
    for (size_t i = 0; i < bench->plan.count; i++) {
        const struct sdn_step *step = &bench->plan.steps[i];
        text = atl_arena_format(&bench->arena, "%s%s%s%s%s%s", text, sdn_step_to_text(step->kind),
                                step->name != NULL ? " " : "", step->name != NULL ? step->name : "",
                                step->bridge != NULL ? " to " : "", step->bridge != NULL ? step->bridge : "");
        text = atl_arena_format(&bench->arena, "%s\n", text);
    }
    return text;
}

static void on_an_empty_host_all_is_made_in_order(void **state)
{
    struct bench *bench = *state;
    read_file(bench, quickstart);
    assert_int_equal(bench->wishes.problem_count, 0);
    assert_string_equal(planned(bench),
                        "make-bridge vmbr0\nadd-address vmbr0\nlink-up vmbr0\nforward\nload-nat\n");
}

static void what_is_right_is_left_alone(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    assert_string_equal(planned(bench), "");
}

static void only_what_is_missing_is_made_again(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    bench->state.address_count = 0;
    assert_string_equal(planned(bench), "add-address vmbr0\n");
    all_is_right(bench);
    bench->state.nat = NULL;
    assert_string_equal(planned(bench), "load-nat\n");
    all_is_right(bench);
    bench->state.dhcp_count = 0;
    assert_string_equal(planned(bench), "start-dhcp vmbr0\n");
    all_is_right(bench);
    bench->state.forwarding = false;
    assert_string_equal(planned(bench), "forward\n");
}

static void a_port_that_lost_its_bridge_is_attached_after_the_bridge_is_made(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    bench->links[0] = bench->links[1];
    bench->links[0].master = 0;
    bench->state.links.count = 1;
    assert_string_equal(planned(bench), "make-bridge vmbr0\nadd-address vmbr0\nlink-up vmbr0\n"
                                        "attach tap100i0 to vmbr0\nstop-dhcp vmbr0\n");
}

static void a_new_port_is_left_to_who_made_it(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    bench->links[1].master = 0;
    bench->state.now = 100 * ATL_SECOND;
    sdn_lone_note(&bench->lone, &bench->state.links, bench->state.now);
    assert_string_equal(planned(bench), "");
    bench->state.now += SDN_LONE_TIME / 2;
    sdn_lone_note(&bench->lone, &bench->state.links, bench->state.now);
    assert_string_equal(planned(bench), "");
    bench->state.now += SDN_LONE_TIME / 2;
    sdn_lone_note(&bench->lone, &bench->state.links, bench->state.now);
    assert_string_equal(planned(bench), "attach tap100i0 to vmbr0\n");
    bench->links[1].master = bench->links[0].index; /* it was attached, and lost its bridge again */
    sdn_lone_note(&bench->lone, &bench->state.links, bench->state.now);
    bench->links[1].master = 0;
    sdn_lone_note(&bench->lone, &bench->state.links, bench->state.now);
    assert_string_equal(planned(bench), "");
}

static void a_port_on_another_bridge_stays_there(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    bench->links[1].master = 99;
    assert_string_equal(planned(bench), "");
}

static void link_down_is_applied_and_taken_back(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    bench->ports.ports[0].link_down = true;
    assert_string_equal(planned(bench), "link-down tap100i0\n");
    bench->links[1].up = false;
    assert_string_equal(planned(bench), "");
    bench->ports.ports[0].link_down = false;
    assert_string_equal(planned(bench), "link-up tap100i0\n");
}

static void a_bridge_with_ports_of_the_machine_or_of_somebody_else_is_only_used(void **state)
{
    struct bench *bench = *state;
    read_file(bench, "auto vmbr0\niface vmbr0 inet static\n address 10.0.0.1/24\n bridge-ports eth0\n");
    assert_string_equal(planned(bench), "");
    read_file(bench, "iface vmbr0 inet static\n address 10.0.0.1/24\n bridge-ports none\n");
    assert_string_equal(planned(bench), ""); /* not `auto` */
    all_is_right(bench);
    bench->state.made = NULL;
    bench->state.address_count = 0;
    assert_string_equal(planned(bench), "");
}

static void what_the_file_wants_no_more_goes_unless_guests_are_on_it(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    read_file(bench, "");
    assert_string_equal(planned(bench), "stop-dhcp vmbr0\ndrop-nat\n");
    bench->state.links.count = 1;
    assert_string_equal(planned(bench), "stop-dhcp vmbr0\nremove-bridge vmbr0\ndrop-nat\n");
}

static void a_changed_dhcp_range_restarts_the_server(void **state)
{
    struct bench *bench = *state;
    all_is_right(bench);
    bench->dhcp.conf = "another";
    assert_string_equal(planned(bench), "stop-dhcp vmbr0\nstart-dhcp vmbr0\n");
    all_is_right(bench);
    bench->links[0].index = 7; /* somebody made the bridge anew */
    bench->address_link = 7;
    bench->links[1].master = 7;
    assert_string_equal(planned(bench), "stop-dhcp vmbr0\nstart-dhcp vmbr0\n");
}

static void settings_that_cannot_be_followed_are_named(void **state)
{
    static const char *const cases[] = {
        "atoll-dhcp-range 10.99.0.50",
        "atoll-dhcp-range 10.99.0.150 10.99.0.50",
        "atoll-dhcp-range 10.98.0.50 10.98.0.60",
        "atoll-dhcp-range 10.99.0.1 10.99.0.60",
        "atoll-dhcp-range 10.99.0.50 10.99.0.255",
        "atoll-dhcp-range fd00::1 fd00::2",
        "atoll-dhcp-range 10.99.0.50/24 10.99.0.60/24",
        "mtu 5",
    };
    struct bench *bench = *state;
    for (size_t i = 0; i < ATL_COUNT(cases); i++) {
        read_file(bench, atl_arena_format(&bench->arena,
                                          "auto vmbr0\niface vmbr0 inet static\n address 10.99.0.1/24\n"
                                          " bridge-ports none\n %s\n",
                                          cases[i]));
        assert_int_equal(bench->wishes.problem_count, 1);
        assert_false(bench->wishes.wishes[0].dhcp);
        assert_string_equal(planned(bench), "make-bridge vmbr0\nadd-address vmbr0\nlink-up vmbr0\n");
    }
    read_file(bench, "auto b\niface b inet manual\n bridge-ports none\n atoll-nat yes\n");
    assert_int_equal(bench->wishes.problem_count, 1);
}

static void ports_of_a_guest_are_read_from_its_current_settings_only(void **state)
{
    struct bench *bench = *state;
    static const char text[] = "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1\n"
                               "network: no\n"
                               "net12: name=eth0,bridge=vmbr1,link_down=1\n"
                               "net2: virtio=BC:24:11:00:00:02\n"
                               "net3: virtio=BC:24:11:00:00:03,bridge=a/b\n"
                               "[snap]\n"
                               "net5: virtio=BC:24:11:00:00:01,bridge=vmbr0\n";
    sdn_ports_read(text, sizeof text - 1, 101, true, &bench->arena, &bench->ports);
    assert_int_equal(bench->ports.count, 2);
    assert_string_equal(bench->ports.ports[0].name, "veth101i0");
    assert_string_equal(bench->ports.ports[1].name, "veth101i12");
    assert_string_equal(bench->ports.ports[1].bridge, "vmbr1");
    assert_true(bench->ports.ports[1].link_down);
}

static void the_nat_table_masquerades_each_network(void **state)
{
    struct bench *bench = *state;
    read_file(bench, quickstart);
    assert_string_equal(sdn_nat_text(&bench->wishes, &bench->arena),
                        "table ip atoll_nat {\n\tchain postrouting {\n"
                        "\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
                        "\t\tip saddr 10.99.0.0/24 oifname != \"vmbr0\" masquerade\n\t}\n}\n");
}

static void leases_are_read_sorted_and_without_those_that_ran_out(void **state)
{
    struct bench *bench = *state;
    static const char text[] = "1000 bc:24:11:00:00:02 10.99.0.100 guest2 01:bc:24:11:00:00:02\n"
                               "2000 BC:24:11:00:00:01 10.99.0.60 * *\n"
                               "duid 00:01:00\n"
                               "500 bc:24:11:00:00:03 10.99.0.61 old *\n"
                               "0 bc:24:11:00:00:04 10.99.0.9 for-ever *\n"
                               "900 no-mac 10.99.0.9 x *\n";
    struct sdn_lease *leases = NULL;
    size_t count = 0;
    sdn_leases_read(text, sizeof text - 1, 600, &bench->arena, &leases, &count);
    assert_int_equal(count, 3);
    assert_string_equal(leases[0].address, "10.99.0.9");
    assert_string_equal(leases[1].address, "10.99.0.60");
    assert_string_equal(leases[1].mac, "bc:24:11:00:00:01");
    assert_string_equal(leases[1].hostname, "");
    assert_string_equal(leases[2].hostname, "guest2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(on_an_empty_host_all_is_made_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_right_is_left_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_what_is_missing_is_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_port_is_left_to_who_made_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_port_that_lost_its_bridge_is_attached_after_the_bridge_is_made,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_port_on_another_bridge_stays_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(link_down_is_applied_and_taken_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_bridge_with_ports_of_the_machine_or_of_somebody_else_is_only_used,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_file_wants_no_more_goes_unless_guests_are_on_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_changed_dhcp_range_restarts_the_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(settings_that_cannot_be_followed_are_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ports_of_a_guest_are_read_from_its_current_settings_only, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_nat_table_masquerades_each_network, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leases_are_read_sorted_and_without_those_that_ran_out, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
