/* Container configuration -> settings for liblxc: identity, isolation, features, raw lines. */
#include "core/lxc_config.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/lxc_build.h"

void cmp_lxc_add(struct cmp_lxc_build *build, const char *key, const char *value)
{
    struct cmp_lxc_plan *plan = &build->plan;
    plan->items =
        atl_arena_grow(build->arena, plan->items, plan->count, &build->item_capacity, sizeof(*plan->items));
    plan->items[plan->count++] = (struct cmp_lxc_item){.key = key, .value = value};
}

void cmp_lxc_addf(struct cmp_lxc_build *build, const char *key, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    atl_assert(length >= 0);
    atl_assert((size_t)length < sizeof text);
    cmp_lxc_add(build, key, atl_arena_strdup(build->arena, text));
}

bool cmp_lxc_unmanaged(const Atoll__Lxc__V1__Config *config)
{
    return config->ostype == NULL || strcmp(config->ostype, "unmanaged") == 0;
}

char *cmp_lxc_veth(uint32_t vmid, uint32_t index, struct atl_arena *arena)
{
    return atl_arena_format(arena, "veth%" PRIu32 "i%" PRIu32, vmid, index);
}

/* The names liblxc knows our architectures by. */
static const char *arch_name(const char *arch)
{
    static const struct {
        const char *ours;
        const char *theirs;
    } names[] = {{"amd64", "x86_64"}, {"i386", "i686"},       {"arm64", "aarch64"},
                 {"armhf", "armv7l"}, {"riscv64", "riscv64"}, {"riscv32", "riscv32"}};
    for (size_t i = 0; arch != NULL && i < ATL_COUNT(names); i++)
        if (strcmp(arch, names[i].ours) == 0)
            return names[i].theirs;
    return "x86_64";
}

static void add_identity(struct cmp_lxc_build *build)
{
    const Atoll__Lxc__V1__Config *config = build->config;
    const struct cmp_lxc_facts *facts = build->facts;
    cmp_lxc_add(build, "lxc.arch", arch_name(config->arch));
    if (config->hostname != NULL)
        cmp_lxc_add(build, "lxc.uts.name", config->hostname);
    else
        cmp_lxc_addf(build, "lxc.uts.name", "CT%" PRIu32, facts->vmid);
    if (config->entrypoint != NULL)
        cmp_lxc_add(build, "lxc.init.cmd", config->entrypoint);
    bool console = !config->has_console || config->console;
    cmp_lxc_addf(build, "lxc.tty.max", "%d",
                 config->has_tty && config->tty >= 0 && config->tty <= 6 ? (int)config->tty : CMP_LXC_TTYS);
    cmp_lxc_add(build, "lxc.pty.max", "1024");
    if (!console)
        cmp_lxc_add(build, "lxc.console.path", "none");
    cmp_lxc_addf(build, "lxc.log.file", "%s/log", facts->run_dir);
    cmp_lxc_add(build, "lxc.log.level", "WARN");
    cmp_lxc_addf(build, "lxc.cgroup.dir.monitor", "%s/monitor-%" PRIu32, facts->cgroup_base, facts->vmid);
    cmp_lxc_addf(build, "lxc.cgroup.dir.monitor.pivot", "%s/pivot", facts->cgroup_base);
    cmp_lxc_addf(build, "lxc.cgroup.dir.container", "%s/%" PRIu32, facts->cgroup_base, facts->vmid);
    /* Limits sit one level above what the container can write to. */
    cmp_lxc_add(build, "lxc.cgroup.dir.container.inner", "ns");
}

/* Devices that a container whose root is the host's root may open; all else is denied. */
static void add_privileged(struct cmp_lxc_build *build)
{
    static const char *const allow[] = {
        "c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",   "c 1:8 rwm",
        "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 136:* rwm",
    };
    const char *prefix = build->facts->cgroup_version == 2 ? "lxc.cgroup2.devices" : "lxc.cgroup.devices";
    cmp_lxc_add(build, "lxc.cap.drop", "mac_admin mac_override sys_time sys_module sys_rawio");
    const char *key = atl_arena_format(build->arena, "%s.allow", prefix);
    cmp_lxc_add(build, atl_arena_format(build->arena, "%s.deny", prefix), "a");
    for (size_t i = 0; i < ATL_COUNT(allow); i++)
        cmp_lxc_add(build, key, allow[i]);
    const Atoll__Lxc__V1__Features *features = build->config->features;
    if (features != NULL && features->fuse)
        cmp_lxc_add(build, key, "c 10:229 rwm");
}

static void add_isolation(struct cmp_lxc_build *build)
{
    const Atoll__Lxc__V1__Features *features = build->config->features;
    const struct cmp_lxc_facts *facts = build->facts;
    bool rw_sys = features != NULL && features->force_rw_sys;
    if (build->plan.unprivileged) {
        cmp_lxc_addf(build, "lxc.idmap", "u 0 %" PRIu32 " %" PRIu32, facts->map_first, facts->map_count);
        cmp_lxc_addf(build, "lxc.idmap", "g 0 %" PRIu32 " %" PRIu32, facts->map_first, facts->map_count);
    } else {
        add_privileged(build);
    }
    cmp_lxc_addf(build, "lxc.mount.auto", "cgroup:mixed proc:mixed sys:%s", rw_sys ? "rw" : "mixed");
    cmp_lxc_addf(build, "lxc.seccomp.profile", "%s/seccomp", facts->run_dir);
}

static enum atl_code add_mount_types(struct cmp_lxc_build *build, const char *list)
{
    static const char *const known[] = {"nfs", "nfs4",  "cifs",  "fuse",   "ext4",
                                        "xfs", "btrfs", "tmpfs", "overlay"};
    for (const char *at = list; *at != '\0';) {
        size_t length = strcspn(at, "; ");
        char name[32];
        bool ok = false;
        if (length < sizeof name) {
            memcpy(name, at, length);
            name[length] = '\0';
            for (size_t i = 0; i < ATL_COUNT(known); i++)
                ok = ok || strcmp(name, known[i]) == 0;
        }
        if (!ok && length > 0)
            return atl_fail(build->err, ATL_E_INVALID, "features",
                            "mount: '%.*s' is no file system a container may mount", (int)length, at);
        if (length > 0 && build->facts->apparmor != NULL)
            cmp_lxc_addf(build, "lxc.apparmor.raw", "mount fstype=%s,", name);
        at += length + (at[length] != '\0' ? 1 : 0);
    }
    return ATL_OK;
}

static enum atl_code add_features(struct cmp_lxc_build *build)
{
    const Atoll__Lxc__V1__Features *features = build->config->features;
    bool nesting = features != NULL && features->nesting;
    const char *apparmor = build->facts->apparmor;
    cmp_lxc_add(build, "lxc.apparmor.profile", apparmor != NULL ? apparmor : "unconfined");
    if (apparmor != NULL && nesting)
        cmp_lxc_add(build, "lxc.apparmor.allow_nesting", "1");
    if (nesting) {
        cmp_lxc_add(build, "lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0");
        cmp_lxc_add(build, "lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0");
    }
    if (features != NULL && features->fuse) {
        cmp_lxc_add(build, "lxc.mount.entry", "/dev/fuse dev/fuse none bind,create=file,optional 0 0");
        cmp_lxc_add(build, "lxc.mount.entry",
                    "/sys/fs/fuse/connections sys/fs/fuse/connections none bind,optional 0 0");
    }
    if (features != NULL && features->mount != NULL) {
        if (build->plan.unprivileged)
            return atl_fail(build->err, ATL_E_INVALID, "features",
                            "mount: an unprivileged container cannot mount file systems of its own");
        return add_mount_types(build, features->mount);
    }
    return ATL_OK;
}

/* Calls that reach behind the container's isolation. keyctl says "not there": systemd then does without. */
static const char *seccomp_text(const struct cmp_lxc_build *build)
{
    const Atoll__Lxc__V1__Features *features = build->config->features;
    bool keyctl = features != NULL && features->keyctl;
    return atl_arena_format(build->arena,
                            "2\ndenylist\nreject_force_umount\n[all]\nkexec_load errno 1\n"
                            "open_by_handle_at errno 1\ninit_module errno 1\nfinit_module errno 1\n"
                            "delete_module errno 1\n%s",
                            build->plan.unprivileged && !keyctl ? "keyctl errno 38\n" : "");
}

static enum atl_code add_raw(struct cmp_lxc_build *build, const struct atl_line *raw, size_t raw_count)
{
    bool own_map = false;
    for (size_t i = 0; i < raw_count; i++) {
        if (!cmp_lxc_raw_allowed(raw[i].key))
            return atl_fail(build->err, ATL_E_INVALID, raw[i].key,
                            "the raw setting '%s' is not allowed in the file of a container", raw[i].key);
        own_map = own_map || strcmp(raw[i].key, "lxc.idmap") == 0;
    }
    if (own_map) { /* a map in the file replaces ours */
        size_t kept = 0;
        for (size_t i = 0; i < build->plan.count; i++)
            if (strcmp(build->plan.items[i].key, "lxc.idmap") != 0)
                build->plan.items[kept++] = build->plan.items[i];
        build->plan.count = kept;
    }
    for (size_t i = 0; i < raw_count; i++)
        cmp_lxc_add(build, raw[i].key, raw[i].value);
    return ATL_OK;
}

enum atl_code cmp_lxc_compile(const Atoll__Lxc__V1__Config *config, const struct atl_line *raw,
                              size_t raw_count, const struct cmp_lxc_facts *facts, struct atl_arena *arena,
                              struct cmp_lxc_plan *ret_plan, struct atl_error *err)
{
    atl_assert(facts->cgroup_version == 1 || facts->cgroup_version == 2);
    atl_assert(facts->run_dir[0] == '/');
    struct cmp_lxc_build build = {.arena = arena, .config = config, .facts = facts, .err = err};
    build.plan.unprivileged = config->has_unprivileged && config->unprivileged;
    if (config->rootfs == NULL || config->rootfs->volume == NULL)
        return atl_fail(err, ATL_E_INVALID, "rootfs", "the container has no root volume");
    add_identity(&build);
    add_isolation(&build);
    enum atl_code code = add_features(&build);
    if (code == ATL_OK)
        code = cmp_lxc_build_mounts(&build);
    if (code == ATL_OK)
        code = cmp_lxc_build_net(&build);
    if (code != ATL_OK)
        return code;
    cmp_lxc_build_limits(&build);
    code = add_raw(&build, raw, raw_count);
    if (code != ATL_OK)
        return code;
    build.plan.seccomp = seccomp_text(&build);
    *ret_plan = build.plan;
    return ATL_OK;
}

void cmp_lxc_plan_text(const struct cmp_lxc_plan *plan, struct atl_buf *out)
{
    for (size_t i = 0; i < plan->count; i++)
        atl_buf_printf(out, "%s = %s\n", plan->items[i].key,
                       plan->items[i].value != NULL ? plan->items[i].value : "");
}
