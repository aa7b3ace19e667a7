/*
 * What cloud-init in the guest reads at its start, as texts of files: user, network and identity. Two forms:
 * NoCloud (a volume "cidata") and the config drive of OpenStack ("config-2"), which Windows guests take.
 */
#ifndef CMP_CORE_CLOUDINIT_H
#define CMP_CORE_CLOUDINIT_H

#include "atoll/qemu/v1/qemu.pb-c.h"
#include "pure/arena.h"

enum { CMP_CLOUDINIT_FILES = 4 };

struct cmp_cloudinit_facts {
    uint32_t vmid;
    const char *nameserver;   /* of the host, for guests that name none; NULL: none */
    const char *searchdomain; /* the same */
};

struct cmp_cloudinit {
    const char *label; /* of the volume */
    struct {
        const char *path; /* "user-data", "openstack/latest/user_data" */
        const char *text;
    } files[CMP_CLOUDINIT_FILES];
    size_t count;
};

/* Everything lives in the arena. The password in the configuration is a hash already. The identity changes
 * with the rest, so that cloud-init runs again after each change. */
void cmp_cloudinit_build(const Atoll__Qemu__V1__Config *config, const struct cmp_cloudinit_facts *facts,
                         struct atl_arena *arena, struct cmp_cloudinit *ret_cloudinit);

/* Is it a hash that crypt(3) would take, and not a password? */
bool cmp_is_password_hash(const char *text);

#endif
