/* Which raw lxc.* lines a container's file may hold. */
#include <string.h>

#include "core/lxc_config.h"

/* A name that ends in a dot stands for all keys that begin so. Not here: what Atoll itself decides (rootfs,
 * log, names, folders of cgroups) and what reads further files. */
static const char *const allowed[] = {
    "lxc.apparmor.profile",
    "lxc.apparmor.allow_incomplete",
    "lxc.apparmor.allow_nesting",
    "lxc.apparmor.raw",
    "lxc.selinux.context",
    "lxc.selinux.context.keyring",
    "lxc.idmap",
    "lxc.cap.drop",
    "lxc.cap.keep",
    "lxc.cgroup.",
    "lxc.cgroup2.",
    "lxc.mount.entry",
    "lxc.mount.auto",
    "lxc.environment",
    "lxc.init.cmd",
    "lxc.init.cwd",
    "lxc.init.uid",
    "lxc.init.gid",
    "lxc.signal.halt",
    "lxc.signal.reboot",
    "lxc.signal.stop",
    "lxc.prlimit.",
    "lxc.sysctl.",
    "lxc.proc.",
    "lxc.pty.max",
    "lxc.seccomp.profile",
    "lxc.seccomp.allow_nesting",
    "lxc.net.",
    "lxc.hook.",
    "lxc.namespace.clone",
    "lxc.namespace.keep",
    "lxc.no_new_privs",
    "lxc.keyring.session",
    "lxc.autodev",
    "lxc.autodev.tmpfs.size",
    "lxc.personality",
    "lxc.sched.core",
    "lxc.time.offset.boot",
    "lxc.time.offset.monotonic",
};

bool cmp_lxc_raw_allowed(const char *key)
{
    if (strncmp(key, "lxc.cgroup.dir", 14) == 0 || strcmp(key, "lxc.cgroup.relative") == 0 ||
        strcmp(key, "lxc.cgroup.use") == 0)
        return false;
    for (size_t i = 0; i < ATL_COUNT(allowed); i++) {
        size_t length = strlen(allowed[i]);
        bool family = allowed[i][length - 1] == '.';
        if (family ? strncmp(key, allowed[i], length) == 0 && key[length] != '\0'
                   : strcmp(key, allowed[i]) == 0)
            return true;
    }
    return false;
}
