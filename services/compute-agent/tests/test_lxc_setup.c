/* The guest's own files: recorded text for each kind of system; a second run changes nothing. */
#include "atl_test.h"

#include "atoll/lxc/v1/lxc.atl.h"
#include "core/lxc_doc.h"
#include "core/lxc_make.h"
#include "core/lxc_setup.h"

static const char *old_text(const char *path)
{
    if (strcmp(path, "/etc/hosts") == 0)
        return "127.0.0.1\tlocalhost\n10.9.9.9 other\n";
    if (strcmp(path, "/etc/network/interfaces") == 0)
        return "# by hand\nauto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n\tmetric 5\n\n"
               "auto wg0\niface wg0 inet static\n\taddress 10.8.0.1/24\n";
    if (strcmp(path, "/etc/shadow") == 0)
        return "bin:*:1:0:99999:7:::\nroot:*:19000:0:99999:7:::\n";
    if (strcmp(path, "/etc/passwd") == 0)
        return "root::0:0:root:/root:/bin/sh\n";
    if (strcmp(path, "/root/.ssh/authorized_keys") == 0)
        return "ssh-ed25519 OLD there";
    if (strcmp(path, "/etc/machine-id") == 0)
        return "0123456789abcdef0123456789abcdef\n";
    return NULL;
}

static void record(const char *name, const char *config_text, bool first)
{
    struct atl_arena arena = {0};
    struct atl_buf out = {0};
    struct cmp_lxc_doc doc;
    struct atl_error error = {0};
    char path[256];
    char hash[] = "$6$salt$hash";
    char keys[] = "ssh-ed25519 AAAA me\r\n";
    assert_atl_ok(cmp_lxc_doc_read(config_text, strlen(config_text), &arena, &doc, &error), &error);
    Atoll__Lxc__V1__Setup *setup =
        cmp_lxc_setup_make(doc.now->config, 101, "search host.example\nnameserver 192.0.2.53\n", &arena);
    if (first) {
        setup->has_first = setup->first = true;
        setup->password_hash = hash;
        setup->ssh_keys = keys;
        setup->password_day = 20000;
    }
    struct cmp_lxc_file files[CMP_LXC_FILES_MAX];
    size_t count = cmp_lxc_setup_files(setup, &arena, files);
    for (size_t i = 0; i < count; i++) {
        const char *text = cmp_lxc_setup_text(setup, files[i].path, old_text(files[i].path), &arena);
        atl_buf_printf(&out, "=== %s %o%s\n%s", files[i].path, files[i].mode,
                       files[i].only_existing ? " (if it is there)" : "",
                       text != NULL ? text : "(unchanged)\n");
        if (text != NULL && strcmp(files[i].path, "/root/.ssh/authorized_keys") != 0)
            assert_null(cmp_lxc_setup_text(setup, files[i].path, text, &arena)); /* a fixed point */
    }
    (void)snprintf(path, sizeof path, "tests/scenario/lxc-setup/%s.txt", name);
    atl_test_golden(path, out.data != NULL ? out.data : "");
    atl_buf_done(&out);
    atl_arena_done(&arena);
}

#define NETS                                                                                                 \
    "net0: name=eth0,bridge=vmbr0,ip=10.0.0.5/24,gw=10.0.0.1,ip6=fd00::5/64,gw6=fd00::1\n"                   \
    "net1: name=eth1,bridge=vmbr0,ip=dhcp,ip6=auto\n"                                                        \
    "net2: name=eth2,bridge=vmbr0,ip=192.0.2.5/32,gw=192.0.2.1\n"
#define ROOT "rootfs: local:101/vm-101-disk-0.raw\n"

static void files_of_each_kind_of_system_are_as_recorded(void **state)
{
    (void)state;
    record("debian", "hostname: web1.example.org\nostype: debian\n" NETS ROOT, false);
    record("debian-first",
           "hostname: web1\nostype: debian\nnameserver: 10.0.0.2\nsearchdomain: example.org\n" ROOT, true);
    record("alpine", "hostname: web1\nostype: alpine\nnet0: name=eth0,bridge=vmbr0,ip=dhcp\n" ROOT, false);
    record("archlinux", "hostname: web1\nostype: archlinux\n" NETS ROOT, false);
    record("centos", "hostname: web1\nostype: centos\n" NETS ROOT, false);
    record("gentoo", "hostname: web1\nostype: gentoo\n" NETS ROOT, false);
    record("unmanaged", "hostname: web1\nostype: unmanaged\n" NETS ROOT, false);
    record("unmanaged-first", "hostname: web1\nostype: unmanaged\n" NETS ROOT, true);
    record("no-hostname", "ostype: debian\n" ROOT, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(files_of_each_kind_of_system_are_as_recorded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
