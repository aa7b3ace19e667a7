/* The agent's work: look, plan, act; see sdn.h. */
#include "sdn.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/log.h"

#define LOOK_PERIOD (2 * ATL_SECOND)
#define LOOK_SOON   (20 * ATL_MS)
enum { SOURCES_DEPTH = 3 };

/* --- the file --- */

static enum atl_code read_one(const char *path, struct atl_arena *arena, struct sdn_file *file,
                              struct atl_error *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return errno == ENOENT ? ATL_OK
                               : atl_fail(err, ATL_E_IO, NULL, "cannot read '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return ATL_OK;
    char *text = sdn_read_file(path, NULL);
    if (text == NULL)
        return atl_fail(err, ATL_E_LIMIT, NULL, "'%s' cannot be read, or is longer than %d bytes", path,
                        SDN_TEXT_MAX);
    enum atl_code code = sdn_interfaces_read(text, strlen(text), arena, file, err);
    free(text);
    return code;
}

static enum atl_code read_sources(const char *base, size_t first, int depth, struct atl_arena *arena,
                                  struct sdn_file *file, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    size_t end = file->source_count;
    for (size_t i = first; i < end && code == ATL_OK; i++) {
        const char *slash = strrchr(base, '/');
        const char *pattern = file->sources[i];
        glob_t found = {0};
        if (pattern[0] != '/' && slash != NULL)
            pattern = atl_arena_format(arena, "%.*s/%s", (int)(slash - base), base, pattern);
        if (glob(pattern, 0, NULL, &found) == 0) {
            for (size_t k = 0; k < found.gl_pathc && k < 256 && code == ATL_OK; k++)
                code = read_one(found.gl_pathv[k], arena, file, err);
        }
        globfree(&found);
    }
    if (code == ATL_OK && file->source_count > end && depth < SOURCES_DEPTH)
        code = read_sources(base, end, depth + 1, arena, file, err);
    return code;
}

enum atl_code sdn_read_interfaces(const char *path, struct atl_arena *arena, struct sdn_file *file,
                                  struct atl_error *err)
{
    enum atl_code code = read_one(path, arena, file, err);
    return code != ATL_OK ? code : read_sources(path, 0, 1, arena, file, err);
}

/* --- looking --- */

static uint64_t hash_text(uint64_t hash, const char *text)
{
    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * UINT64_C(1099511628211);
    return hash;
}

/* What does not change is said once. */
static void log_problems(struct sdn *sdn, const struct sdn_wishes *wishes)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < wishes->problem_count; i++)
        hash = hash_text(hash, wishes->problems[i]);
    if (hash == sdn->problems_seen)
        return;
    sdn->problems_seen = hash;
    for (size_t i = 0; i < wishes->problem_count; i++)
        atl_log(ATL_WARNING, "interfaces-problem", "ignoring in %s: %s", sdn->options->interfaces,
                wishes->problems[i]);
}

static void log_failure(struct sdn *sdn, const char *what, const struct atl_error *err)
{
    uint64_t hash = hash_text(hash_text(UINT64_C(14695981039346656037), what), err->text);
    if (hash != sdn->failure_seen)
        atl_log(ATL_WARNING, "network-step-failed", "%s, retrying every 2 s: %s", what, err->text);
    sdn->failure_seen = hash;
}

struct guest_walk {
    struct atl_arena *arena;
    struct sdn_ports *ports;
};

static void read_guest(const char *path, const struct atl_file *file, void *user)
{
    struct guest_walk *walk = user;
    const char *slash = strrchr(path, '/');
    unsigned int vmid = 0;
    int used = 0;
    if (file == NULL || slash == NULL || sscanf(slash, "/%9u.conf%n", &vmid, &used) != 1 || used == 0 ||
        slash[used] != '\0')
        return;
    bool container = slash - path > 4 && strncmp(slash - 4, "/lxc", 4) == 0;
    sdn_ports_read(file->bytes, file->size, vmid, container, walk->arena, walk->ports);
}

static void read_ports(const struct sdn *sdn, struct atl_arena *arena, struct sdn_ports *ports)
{
    struct guest_walk walk = {.arena = arena, .ports = ports};
    if (sdn->mirror == NULL || !atl_mirror_ready(sdn->mirror))
        return;
    atl_mirror_each(sdn->mirror, atl_arena_format(arena, "nodes/%s/", sdn->node), read_guest, &walk);
}

static enum atl_code observe(struct sdn *sdn, bool wants_nat, struct atl_arena *arena,
                             struct sdn_state *state, struct atl_error *err)
{
    enum atl_code code = sdn->driver->observe(sdn->host, arena, state, err);
    if (code == ATL_OK && wants_nat)
        code = sdn->driver->get_forwarding(sdn->host, &state->forwarding, err);
    if (code != ATL_OK)
        return code;
    state->now = atl_loop_now(sdn->loop);
    sdn_lone_note(&sdn->lone, &state->links, state->now);
    state->lone = &sdn->lone;
    state->made = sdn_record_made(&sdn->record, &state->links, arena);
    state->dhcp = sdn_dhcp_states(sdn->dhcp, arena, &state->dhcp_count);
    if (!wants_nat && sdn->record.nat_text == NULL)
        return ATL_OK;
    char *listing = sdn->driver->list_nat(sdn->host);
    state->nat_present = listing != NULL;
    if (listing != NULL && sdn->record.nat_listing != NULL && strcmp(listing, sdn->record.nat_listing) == 0)
        state->nat = sdn->record.nat_text;
    free(listing);
    return ATL_OK;
}

/* --- acting --- */

static enum atl_code make_bridge(struct sdn *sdn, const struct sdn_step *step, struct atl_error *err)
{
    int index = 0;
    enum atl_code code = sdn_record_bridge(&sdn->record, step->name, 0, err);
    if (code == ATL_OK)
        code = sdn->driver->make_bridge(sdn->host, step->name, step->mtu, &index, err);
    if (code == ATL_OK)
        return sdn_record_bridge(&sdn->record, step->name, index, err);
    (void)!sdn_record_forget(&sdn->record, step->name, NULL); /* the first failure is the one to tell */
    return code;
}

static enum atl_code load_nat(struct sdn *sdn, const char *text, struct atl_error *err)
{
    char *listing = NULL;
    enum atl_code code = text != NULL ? sdn_record_nat(&sdn->record, text, NULL, err) : ATL_OK;
    if (code == ATL_OK)
        code = sdn->driver->load_nat(sdn->host, text, &listing, err);
    if (code == ATL_OK)
        code = sdn_record_nat(&sdn->record, text, listing, err);
    free(listing);
    return code;
}

static enum atl_code forward(struct sdn *sdn, struct atl_error *err)
{
    enum atl_code code = sdn_record_forwarding(&sdn->record, true, err);
    return code != ATL_OK ? code : sdn->driver->set_forwarding(sdn->host, true, err);
}

static enum atl_code run_step(struct sdn *sdn, const struct sdn_step *step, struct atl_error *err)
{
    enum atl_code code = ATL_OK;
    switch (step->kind) {
    case SDN_MAKE_BRIDGE:
        return make_bridge(sdn, step, err);
    case SDN_ADD_ADDRESS:
        return sdn->driver->add_address(sdn->host, step->name, step->address, err);
    case SDN_LINK_UP:
    case SDN_LINK_DOWN:
        return sdn->driver->set_up(sdn->host, step->name, step->kind == SDN_LINK_UP, err);
    case SDN_ATTACH:
        return sdn->driver->attach(sdn->host, step->name, step->bridge, err);
    case SDN_FORWARD:
        return forward(sdn, err);
    case SDN_LOAD_NAT:
        return load_nat(sdn, step->text, err);
    case SDN_DROP_NAT:
        return load_nat(sdn, NULL, err);
    case SDN_STOP_DHCP:
        sdn_dhcp_stop(sdn->dhcp, step->name);
        return ATL_OK;
    case SDN_START_DHCP:
        return sdn_dhcp_start(sdn->dhcp, step->name, step->text, err);
    case SDN_REMOVE_BRIDGE:
        code = sdn->driver->remove_link(sdn->host, step->name, err);
        return code != ATL_OK ? code : sdn_record_forget(&sdn->record, step->name, err);
    case SDN_STEP_KINDS:
        break;
    }
    return atl_fail(err, ATL_E_INTERNAL, NULL, "an unknown step");
}

static void run_plan(struct sdn *sdn, const struct sdn_plan *plan)
{
    bool failed = false;
    for (size_t i = 0; i < plan->count; i++) {
        const struct sdn_step *step = &plan->steps[i];
        const char *name = step->name != NULL ? step->name : "";
        struct atl_error err = {0};
        char what[64];
        (void)snprintf(what, sizeof what, "%s %s", sdn_step_to_text(step->kind), name);
        if (run_step(sdn, step, &err) == ATL_OK) {
            if (step->kind != SDN_START_DHCP)
                atl_log(ATL_INFO, "network-step", "%s", what);
            continue;
        }
        /* A guest's port may go at any time between the look and the step. */
        if (err.code == ATL_E_ABSENT)
            continue;
        log_failure(sdn, what, &err);
        failed = true;
    }
    if (!failed)
        sdn->failure_seen = 0;
}

void sdn_look(struct sdn *sdn)
{
    static struct sdn_wishes wishes;
    static struct sdn_plan plan;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct sdn_file file = {0};
    struct sdn_ports ports = {0};
    struct sdn_state state = {0};
    struct atl_error err = {0};
    enum atl_code code = sdn_read_interfaces(sdn->options->interfaces, &arena, &file, &err);
    if (code != ATL_OK) {
        log_failure(sdn, "reading the interfaces", &err); /* what is there stays as it is */
        return;
    }
    sdn_wishes_read(&file, &arena, &wishes);
    log_problems(sdn, &wishes);
    read_ports(sdn, &arena, &ports);
    code = observe(sdn, sdn_nat_text(&wishes, &arena) != NULL, &arena, &state, &err);
    if (code != ATL_OK) {
        log_failure(sdn, "looking at the network", &err);
        return;
    }
    sdn_plan_make(&wishes, &ports, &state, &sdn->paths, &arena, &plan);
    run_plan(sdn, &plan);
}

static void look_period(void *user)
{
    sdn_look(user);
}

static void look_now(void *user)
{
    struct sdn *sdn = user;
    sdn->soon = NULL;
    sdn_look(sdn);
}

static void look_soon(struct sdn *sdn)
{
    if (sdn->soon == NULL)
        sdn->soon = atl_loop_timer(sdn->loop, LOOK_SOON, 0, look_now, sdn);
}

static void kernel_changed(void *user, unsigned int events)
{
    struct sdn *sdn = user;
    (void)events;
    sdn->driver->events_drain(sdn->host);
    look_soon(sdn);
}

static void tree_changed(void *user)
{
    look_soon(user);
}

/* --- start and end --- */

static enum atl_code open_host(struct sdn *sdn, const char *run_dir, const char *state_dir,
                               struct atl_error *err)
{
    sdn->driver = &sdn_driver_linux;
    sdn->state_folder = atl_format("%s/sdn-agent", state_dir);
    if (mkdir(sdn->state_folder, 0755) < 0 && errno != EEXIST)
        return atl_fail(err, ATL_E_IO, "state-dir", "cannot make '%s': %s", sdn->state_folder,
                        strerror(errno));
    enum atl_code code = sdn_record_open(run_dir, &sdn->record, err);
    if (code == ATL_OK)
        code = sdn_linux_open(&sdn->host, err);
    if (code != ATL_OK)
        return code;
    sdn->paths = (struct sdn_dhcp_paths){.run = sdn->record.folder, .state = sdn->state_folder};
    sdn->dhcp = sdn_dhcp_open(sdn->loop, &sdn->paths);
    return ATL_OK;
}

enum atl_code sdn_start(struct atl_program *program, const struct sdn_options *options, void **ret_self,
                        struct atl_error *err)
{
    struct sdn *sdn = atl_new0(struct sdn);
    *ret_self = sdn;
    sdn->options = options;
    sdn->program = program;
    sdn->node = program->node;
    sdn->loop = program->loop;
    sdn->bus = program->bus;
    enum atl_code code = open_host(sdn, program->run_dir, program->state_dir, err);
    if (code != ATL_OK)
        return code;
    char *own = atl_format("nodes/%s/", sdn->node);
    sdn->mirror = atl_mirror_open(sdn->bus, (const char *const[]){ATL_KEEPER_PREFIXES, own, NULL});
    free(own);
    sdn->keeper = atl_keeper_new(sdn->bus, sdn->mirror);
    sdn->cluster = atl_cluster_open(&(const struct atl_cluster_options){
        .bus = sdn->bus, .mirror = sdn->mirror, .directory = program->directory, .dir = sdn->state_folder});
    atl_mirror_on_batch(sdn->mirror, tree_changed, sdn);
    sdn_serve(sdn);
    /* The network does not wait for config-store: guests need it also while that is away. */
    sdn_look(sdn);
    sdn->period = atl_loop_timer(sdn->loop, LOOK_PERIOD, LOOK_PERIOD, look_period, sdn);
    sdn->events = atl_loop_fd(sdn->loop, sdn->driver->events_fd(sdn->host), ATL_READ, kernel_changed, sdn);
    return ATL_OK;
}

static void close_host(struct sdn *sdn)
{
    sdn_dhcp_free(&sdn->dhcp);
    if (sdn->host != NULL)
        sdn->driver->close(sdn->host);
    sdn_record_done(&sdn->record);
    free(sdn->state_folder);
}

void sdn_stop(void *self)
{
    struct sdn *sdn = self;
    if (sdn == NULL)
        return;
    atl_watch_free(sdn->events);
    atl_timer_free(sdn->period);
    atl_timer_free(sdn->soon);
    atl_keeper_free(&sdn->keeper);
    atl_cluster_close(&sdn->cluster);
    if (sdn->mirror != NULL)
        atl_mirror_close(&sdn->mirror);
    close_host(sdn);
    free(sdn);
}

static bool say(enum atl_code code, const struct atl_error *err)
{
    if (code != ATL_OK)
        (void)fprintf(stderr, "atoll-sdn-agent: %s\n", err->text);
    return code == ATL_OK;
}

static bool undo(struct sdn *sdn)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct sdn_state state = {0};
    struct atl_error err = {0};
    const char *folder = atl_arena_strdup(&arena, sdn->record.folder);
    bool good = true;
    sdn_dhcp_stop_all(sdn->dhcp);
    if (sdn->record.nat_text != NULL)
        good = say(load_nat(sdn, NULL, &err), &err) && good;
    if (sdn->record.forwarding) {
        good = say(sdn->driver->set_forwarding(sdn->host, false, &err), &err) && good;
        good = say(sdn_record_forwarding(&sdn->record, false, &err), &err) && good;
    }
    good = say(sdn->driver->observe(sdn->host, &arena, &state, &err), &err) && good;
    const char *const *made = sdn_record_made(&sdn->record, &state.links, &arena);
    for (; *made != NULL; made++) {
        const char *name = atl_arena_strdup(&arena, *made);
        good = say(sdn->driver->remove_link(sdn->host, name, &err), &err) && good;
    }
    while (good && sdn->record.bridge_count > 0)
        good = say(sdn_record_forget(&sdn->record, sdn->record.bridges[0].name, &err), &err);
    if (good && folder != NULL)
        (void)rmdir(folder); /* only if nothing else is in it */
    return good;
}

/* An agent that runs would make everything again at once. Its frame keeps this file locked (io/service.h). */
static bool agent_runs(const char *run_dir)
{
    char *path = atl_format("%s/sdn-agent.ready", run_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    bool runs = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0;
    if (fd >= 0)
        (void)close(fd);
    return runs;
}

int sdn_teardown(const char *run_dir, const char *state_dir)
{
    struct sdn sdn = {0};
    struct atl_error err = {0};
    if (access(run_dir, F_OK) < 0)
        return 0; /* nothing was ever made */
    if (agent_runs(run_dir)) {
        (void)fprintf(stderr, "atoll-sdn-agent: the agent with --run-dir %s runs, stop it first\n", run_dir);
        return 1;
    }
    bool good = say(open_host(&sdn, run_dir, state_dir, &err), &err) && undo(&sdn);
    close_host(&sdn);
    return good ? 0 : 1;
}
