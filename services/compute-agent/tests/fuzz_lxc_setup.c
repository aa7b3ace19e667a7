/* A hostile guest's own files: whatever stands in them, the new text is made without a fault. */
#include <string.h>

#include "core/lxc_make.h"
#include "core/lxc_setup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char ostypes[][12] = {"debian", "alpine", "archlinux", "centos", "unmanaged"};
    static char name[] = "ct1";
    static char eth[] = "eth0";
    static char address[] = "10.0.0.5/24";
    static char gateway[] = "10.0.0.1";
    static char hash[] = "$6$x";
    static char keys[] = "ssh-ed25519 A";
    struct atl_arena arena = {0};
    Atoll__Lxc__V1__Setup setup = ATOLL__LXC__V1__SETUP__INIT;
    Atoll__Lxc__V1__SetupNet net = ATOLL__LXC__V1__SETUP_NET__INIT;
    Atoll__Lxc__V1__SetupNet *nets[] = {&net};
    if (size < 1 || size > 65536)
        return 0;
    char *old = atl_arena_strndup(&arena, (const char *)data + 1, strnlen((const char *)data + 1, size - 1));
    net.name = eth;
    net.ip = address;
    net.gw = gateway;
    setup.ostype = ostypes[data[0] % ATL_COUNT(ostypes)];
    setup.hostname = name;
    setup.net = nets;
    setup.n_net = 1;
    setup.has_first = setup.first = true;
    setup.password_hash = hash;
    setup.ssh_keys = keys;
    struct cmp_lxc_file files[CMP_LXC_FILES_MAX];
    size_t count = cmp_lxc_setup_files(&setup, &arena, files);
    for (size_t i = 0; i < count; i++)
        (void)cmp_lxc_setup_text(&setup, files[i].path, old, &arena);
    (void)cmp_lxc_ostype(old);
    atl_arena_done(&arena);
    return 0;
}
