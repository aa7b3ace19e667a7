/*
 * Views by chance, also such as no cluster has: what every plan must keep. ATL_SEED=N begins elsewhere.
 */
#include "core/rules.h"
#include "ha/place.h"
#include "ha/times.h"
#include "world.h"

enum { VIEWS = 4000, NODES_MAX = 7, GUESTS_MAX = 30, RULES_MAX = 5, REQUESTS_MAX = 4 };

static uint64_t looking_at; /* seed of the view */

struct chance {
    uint64_t state;
    struct atl_arena *arena;
};

static uint32_t below(struct chance *chance, uint32_t limit)
{
    chance->state ^= chance->state << 13;
    chance->state ^= chance->state >> 7;
    chance->state ^= chance->state << 17;
    return (uint32_t)((chance->state >> 16) % limit);
}

static bool one_in(struct chance *chance, uint32_t many)
{
    return below(chance, many) == 0;
}

static char *one_of(struct chance *chance, const char *const *words)
{
    uint32_t count = 0;
    while (words[count] != NULL)
        count++;
    return atl_arena_strdup(chance->arena, words[below(chance, count)]);
}

static char *any_node(struct chance *chance)
{
    return atl_arena_format(chance->arena, "pve%u", below(chance, NODES_MAX + 1));
}

static Atoll__Bus__V1__Revision *any_revision(struct chance *chance)
{
    Atoll__Bus__V1__Revision *revision = atl_arena_new(chance->arena, Atoll__Bus__V1__Revision);
    atoll__bus__v1__revision__init(revision);
    revision->has_epoch = revision->has_number = 1;
    revision->epoch = 1;
    revision->number = 1 + below(chance, 1000000);
    return revision;
}

static Atoll__Ha__V1__NodeLock *any_lock(struct chance *chance, char *name)
{
    struct atl_ha_times times = atl_ha_times_of(one_in(chance, 3) ? ATL_HA_TICK_SLOW_MS : ATL_HA_TICK_MS);
    Atoll__Ha__V1__NodeLock *lock = atl_arena_new(chance->arena, Atoll__Ha__V1__NodeLock);
    atoll__ha__v1__node_lock__init(lock);
    lock->node = name;
    lock->has_fenced = 1;
    lock->fenced = one_in(chance, 5);
    lock->incarnation = 1 + below(chance, 3);
    lock->feed_horizon_ms = times.feed_horizon_ms;
    lock->watchdog_ms = times.watchdog_ms;
    lock->margin_ms = times.margin_ms;
    return lock;
}

static Atoll__Ha__V1__LrmReport *any_report(struct chance *chance)
{
    static const char *const modes[] = {"active",  "active",   "active", "maintenance",
                                        "restart", "shutdown", "reboot", NULL};
    static const char *const outcomes[] = {"done", "failed", "refused", "odd", NULL};
    Atoll__Ha__V1__LrmReport *report = atl_arena_new(chance->arena, Atoll__Ha__V1__LrmReport);
    atoll__ha__v1__lrm_report__init(report);
    report->incarnation = 1 + below(chance, 3);
    report->mode = one_of(chance, modes);
    report->result = atl_arena_array(chance->arena, Atoll__Ha__V1__JobResult *, GUESTS_MAX);
    for (uint32_t i = below(chance, GUESTS_MAX); i > 0; i--) {
        Atoll__Ha__V1__JobResult *result = atl_arena_new(chance->arena, Atoll__Ha__V1__JobResult);
        atoll__ha__v1__job_result__init(result);
        result->sid = atl_arena_format(chance->arena, "vm:%u", 100 + below(chance, GUESTS_MAX));
        result->command = below(chance, 3);
        result->outcome = one_of(chance, outcomes);
        report->result[report->n_result++] = result;
    }
    return report;
}

static Atoll__Ha__V1__NodeView *any_node_view(struct chance *chance, char *name)
{
    static const double odd[] = {0, -1, 1e300, 0.0 / 0.0, 8};
    Atoll__Ha__V1__NodeView *it = atl_arena_new(chance->arena, Atoll__Ha__V1__NodeView);
    atoll__ha__v1__node_view__init(it);
    it->name = name;
    it->has_member = 1;
    it->member = !one_in(chance, 4);
    it->lock = one_in(chance, 3) ? NULL : any_lock(chance, name);
    it->lock_revision = it->lock != NULL ? any_revision(chance) : NULL;
    if (it->lock != NULL && !one_in(chance, 8)) {
        it->beat = atl_arena_new(chance->arena, Atoll__Ha__V1__Beat);
        atoll__ha__v1__beat__init(it->beat);
        it->beat->incarnation = it->lock->incarnation;
        it->beat->has_armed = 1;
        it->beat->armed = !one_in(chance, 4);
        it->beat_revision = any_revision(chance);
    }
    it->has_unchanged_ms = !one_in(chance, 10);
    it->unchanged_ms = one_in(chance, 2) ? below(chance, 500) : 6900 + below(chance, 40000);
    it->report = one_in(chance, 6) ? NULL : any_report(chance);
    it->has_report_age_ms = 1;
    it->report_age_ms = below(chance, 20000);
    it->has_power_off = it->power_off = one_in(chance, 12);
    it->has_can_power_off = it->can_power_off = one_in(chance, 3);
    it->has_removed = it->removed = one_in(chance, 15);
    it->has_cpus = !one_in(chance, 4);
    it->cpus = one_in(chance, 4) ? odd[below(chance, ATL_COUNT(odd))] : 16;
    it->has_memory = !one_in(chance, 4);
    it->memory = one_in(chance, 8) ? 0 : 64ULL << 30;
    it->has_cpu_used = !one_in(chance, 4);
    it->cpu_used = one_in(chance, 8) ? odd[below(chance, ATL_COUNT(odd))] : below(chance, 16);
    it->has_pressure = one_in(chance, 2);
    it->pressure = odd[below(chance, ATL_COUNT(odd))];
    return it;
}

static Atoll__Ha__V1__Service *any_service(struct chance *chance, const char *at)
{
    static const char *const states[] = {"request_start", "request_start_balance",
                                         "started",       "started",
                                         "started",       "request_stop",
                                         "stopped",       "migrate",
                                         "relocate",      "freeze",
                                         "fence",         "recovery",
                                         "error",         "ignored",
                                         "of_next_year",  NULL};
    Atoll__Ha__V1__Service *service = atl_arena_new(chance->arena, Atoll__Ha__V1__Service);
    atoll__ha__v1__service__init(service);
    service->state = one_of(chance, states);
    service->node = one_in(chance, 8) ? any_node(chance) : atl_arena_strdup(chance->arena, at);
    service->target = one_in(chance, 3) ? any_node(chance) : NULL;
    service->command = below(chance, 3);
    service->has_loose = 1;
    service->loose = one_in(chance, 3);
    service->home = one_in(chance, 5) ? any_node(chance) : NULL;
    service->has_failed_starts = 1;
    service->failed_starts = below(chance, 3);
    return service;
}

static Atoll__Ha__V1__GuestView *any_guest(struct chance *chance, uint32_t vmid)
{
    static const char *const wishes[] = {"started",  "started", "started", "stopped",
                                         "disabled", "ignored", "enabled", NULL};
    Atoll__Ha__V1__GuestView *it = atl_arena_new(chance->arena, Atoll__Ha__V1__GuestView);
    atoll__ha__v1__guest_view__init(it);
    it->vmid = vmid;
    it->type = atl_arena_strdup(chance->arena, "vm");
    it->node = any_node(chance);
    it->revision = any_revision(chance);
    it->has_running = 1;
    it->running = one_in(chance, 2);
    it->has_memory = 1;
    it->memory = (uint64_t)below(chance, 64) << 30;
    it->has_bound = it->bound = one_in(chance, 8);
    it->has_locked = it->locked = one_in(chance, 8);
    if (!one_in(chance, 5)) {
        it->resource = atl_arena_new(chance->arena, Atoll__Ha__V1__Resource);
        atoll__ha__v1__resource__init(it->resource);
        it->resource->state = one_of(chance, wishes);
        it->resource->group = one_in(chance, 6) ? atl_arena_strdup(chance->arena, "some") : NULL;
    }
    it->service = one_in(chance, 5) ? NULL : any_service(chance, it->node);
    it->service_revision = it->service != NULL ? any_revision(chance) : NULL;
    return it;
}

static char *any_list(struct chance *chance, const char *prefix, uint32_t first, uint32_t limit)
{
    char *list = atl_arena_strdup(chance->arena, "");
    for (uint32_t i = 1 + below(chance, 4); i > 0; i--)
        list = atl_arena_format(chance->arena, "%s%s%s%u", list, list[0] != '\0' ? "," : "", prefix,
                                first + below(chance, limit));
    return list;
}

static Atoll__Ha__V1__Rule *any_rule(struct chance *chance, uint32_t index)
{
    Atoll__Ha__V1__Rule *rule = atl_arena_new(chance->arena, Atoll__Ha__V1__Rule);
    atoll__ha__v1__rule__init(rule);
    bool nodes = one_in(chance, 2);
    rule->rule = atl_arena_format(chance->arena, "r%u", index);
    rule->type = atl_arena_strdup(chance->arena, nodes ? "node-affinity" : "resource-affinity");
    rule->resources = any_list(chance, "vm:", 100, GUESTS_MAX);
    rule->nodes = nodes ? any_list(chance, "pve", 0, NODES_MAX) : NULL;
    rule->affinity =
        nodes ? NULL : atl_arena_strdup(chance->arena, one_in(chance, 2) ? "positive" : "negative");
    rule->has_strict = rule->strict = one_in(chance, 2);
    rule->has_disable = rule->disable = one_in(chance, 10);
    return rule;
}

static Atoll__Ha__V1__RequestView *any_request(struct chance *chance, uint32_t index)
{
    static const char *const kinds[] = {
        "migrate", "relocate", "stop", "maintenance-on", "maintenance-off", "arm", "disarm", "dance", NULL};
    Atoll__Ha__V1__RequestView *it = atl_arena_new(chance->arena, Atoll__Ha__V1__RequestView);
    atoll__ha__v1__request_view__init(it);
    it->request = atl_arena_new(chance->arena, Atoll__Ha__V1__Request);
    atoll__ha__v1__request__init(it->request);
    it->id = atl_arena_format(chance->arena, "r%u", index);
    it->revision = any_revision(chance);
    it->request->kind = one_of(chance, kinds);
    it->request->sid = one_in(chance, 5) ? NULL : any_list(chance, "vm:", 100, GUESTS_MAX);
    it->request->node = one_in(chance, 5) ? NULL : any_node(chance);
    return it;
}

static void fill_settings(struct chance *chance, Atoll__Ha__V1__ManagerView *view)
{
    static const char *const policies[] = {"freeze", "failover", "migrate", "conditional", NULL};
    static const char *const modes[] = {"off", "advise", "act", NULL};
    static const char *const arms[] = {"armed", "disarming", "disarmed", NULL};
    static const char *const resource_modes[] = {"freeze", "ignore", NULL};
    view->settings = atl_arena_new(chance->arena, Atoll__Ha__V1__Settings);
    atoll__ha__v1__settings__init(view->settings);
    view->settings->shutdown_policy = one_of(chance, policies);
    view->settings->rebalance = one_of(chance, modes);
    view->settings->has_rebalance_on_start = view->settings->rebalance_on_start = one_in(chance, 3);
    if (one_in(chance, 4)) {
        view->arm = atl_arena_new(chance->arena, Atoll__Ha__V1__Arm);
        atoll__ha__v1__arm__init(view->arm);
        view->arm->state = one_of(chance, arms);
        view->arm->resource_mode = one_of(chance, resource_modes);
        view->arm_revision = any_revision(chance);
    }
}

static void fill_view(struct chance *chance, Atoll__Ha__V1__ManagerView *view)
{
    atoll__ha__v1__manager_view__init(view);
    view->self = atl_arena_strdup(chance->arena, "pve0");
    view->incarnation = 7;
    view->has_quorate = 1;
    view->quorate = !one_in(chance, 10);
    view->has_ending = view->ending = one_in(chance, 20);
    view->has_wall = 1;
    view->wall = 1000;
    view->has_manager_unchanged_ms = 1;
    view->manager_unchanged_ms = below(chance, 4000);
    if (!one_in(chance, 20)) {
        view->manager = atl_arena_new(chance->arena, Atoll__Ha__V1__Manager);
        atoll__ha__v1__manager__init(view->manager);
        view->manager->node = any_node(chance);
        view->manager->incarnation = one_in(chance, 10) ? 8 : 7;
        view->manager_revision = any_revision(chance);
    }
    fill_settings(chance, view);
    view->node = atl_arena_array(chance->arena, Atoll__Ha__V1__NodeView *, NODES_MAX);
    view->guest = atl_arena_array(chance->arena, Atoll__Ha__V1__GuestView *, GUESTS_MAX);
    view->rule = atl_arena_array(chance->arena, Atoll__Ha__V1__Rule *, RULES_MAX);
    view->request = atl_arena_array(chance->arena, Atoll__Ha__V1__RequestView *, REQUESTS_MAX);
    for (uint32_t i = 0; i < NODES_MAX; i++)
        if (!one_in(chance, 6))
            view->node[view->n_node++] = any_node_view(chance, atl_arena_format(chance->arena, "pve%u", i));
    for (uint32_t i = 0; i < GUESTS_MAX; i++)
        if (!one_in(chance, 6))
            view->guest[view->n_guest++] = any_guest(chance, 100 + i);
    for (uint32_t i = below(chance, RULES_MAX); i > 0; i--)
        view->rule[view->n_rule++] = any_rule(chance, i);
    for (uint32_t i = below(chance, REQUESTS_MAX); i > 0; i--)
        view->request[view->n_request++] = any_request(chance, i);
}

/* --- what must hold --- */

static struct atl_buf packed(const Atoll__Ha__V1__ManagerPlan *plan)
{
    struct atl_buf buf = {0};
    size_t size = atoll__ha__v1__manager_plan__get_packed_size(plan);
    (void)atoll__ha__v1__manager_plan__pack(plan, (uint8_t *)atl_buf_reserve(&buf, size + 1));
    buf.length = size;
    return buf;
}

static void check_equal_bytes(const Atoll__Ha__V1__ManagerView *view, const Atoll__Ha__V1__ManagerPlan *plan)
{
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    struct atl_buf first = packed(plan);
    struct atl_buf again = packed(crm_round(view, &arena));
    assert_int_equal(first.length, again.length);
    assert_memory_equal(first.data, again.data, first.length);
    atl_buf_done(&first);
    atl_buf_done(&again);
}

static bool compares(const Atoll__Store__V1__TxnRequest *txn, const char *path,
                     const Atoll__Bus__V1__Revision *revision)
{
    for (size_t i = 0; i < txn->n_compare; i++) {
        const Atoll__Store__V1__Compare *compare = txn->compare[i];
        if (strcmp(compare->path, path) == 0)
            return revision == NULL
                       ? compare->absent
                       : compare->revision != NULL && compare->revision->number == revision->number;
    }
    return false;
}

static const Atoll__Ha__V1__NodeView *find_node(const Atoll__Ha__V1__ManagerView *view, const char *name)
{
    for (size_t i = 0; i < view->n_node; i++)
        if (strcmp(view->node[i]->name, name) == 0)
            return view->node[i];
    return NULL;
}

static Atoll__Ha__V1__GuestView *find_guest(const Atoll__Ha__V1__ManagerView *view, uint32_t vmid)
{
    for (size_t i = 0; i < view->n_guest; i++)
        if (view->guest[i]->vmid == vmid)
            return view->guest[i];
    return NULL;
}

/* A guest is taken off a node only with its lock in the manager's hands, or where nothing can run. */
static void check_rename(struct atl_arena *arena, const Atoll__Ha__V1__ManagerView *view,
                         const Atoll__Store__V1__TxnRequest *txn,
                         const Atoll__Store__V1__Operation *operation)
{
    uint32_t vmid = (uint32_t)strtoul(strrchr(operation->path, '/') + 1, NULL, 10);
    const Atoll__Ha__V1__GuestView *it = find_guest(view, vmid);
    const Atoll__Ha__V1__NodeView *from = find_node(view, it->node);
    assert_non_null(from);
    assert_false(it->bound);
    assert_true(compares(txn, operation->path, it->revision));
    assert_true(compares(txn, atl_arena_format(arena, "%s%s", ATL_HA_LOCK, from->name),
                         from->lock != NULL ? from->lock_revision : NULL));
    bool off = from->removed || (from->power_off && !from->member);
    const char *was = it->service->state;
    bool rests =
        strcmp(was, "stopped") == 0 || strcmp(was, "request_stop") == 0; /* as ha-lrm may have said */
    bool elsewhere = strcmp(it->service->node, it->node) != 0;
    bool loose = (it->service->loose && !rests) || elsewhere || strcmp(was, "freeze") == 0;
    if (from->lock == NULL && loose && !off)
        fail_msg("seed %llu: vm:%u may run on %s", (unsigned long long)looking_at, vmid, from->name);
}

static void check_lock(const Atoll__Ha__V1__ManagerView *view, const Atoll__Store__V1__TxnRequest *txn,
                       const Atoll__Store__V1__Operation *operation)
{
    const Atoll__Ha__V1__NodeView *of = find_node(view, operation->path + strlen(ATL_HA_LOCK));
    assert_non_null(of);
    assert_true(compares(txn, operation->path, of->lock_revision));
    if (strcmp(operation->kind, "delete") == 0) {
        assert_true(of->lock->fenced);
        return;
    }
    uint64_t wait = atl_ha_lease_wait(of->lock->feed_horizon_ms, of->lock->watchdog_ms, of->lock->margin_ms);
    assert_false(of->lock->fenced);
    assert_true(of->power_off ||
                (of->has_unchanged_ms && of->unchanged_ms >= wait && of->unchanged_ms >= 7000));
    char beat[64];
    (void)snprintf(beat, sizeof beat, "%s%s", ATL_HA_BEAT, of->name);
    assert_true(compares(txn, beat, of->beat != NULL ? of->beat_revision : NULL));
}

/* What is decided of each guest in this plan. */
struct decided {
    Atoll__Ha__V1__Service *service[GUESTS_MAX]; /* by id, from 100 on */
    bool renamed[GUESTS_MAX];
};

static void note_service(const Atoll__Ha__V1__ManagerView *view, const Atoll__Store__V1__Operation *operation,
                         struct decided *decided)
{
    uint32_t vmid = (uint32_t)strtoul(strrchr(operation->path, ':') + 1, NULL, 10);
    Atoll__Ha__V1__Service **slot = &decided->service[vmid - 100];
    assert_null(*slot); /* once in a plan */
    assert_non_null(find_guest(view, vmid)->resource);
    *slot = atoll__ha__v1__service__unpack(NULL, operation->content.len, operation->content.data);
    assert_non_null(*slot);
}

static void check_txn(struct atl_arena *arena, const Atoll__Ha__V1__ManagerView *view,
                      const Atoll__Store__V1__TxnRequest *txn, struct decided *decided)
{
    assert_true(txn->n_operation > 0 && txn->n_operation <= 100 && txn->n_compare <= 100);
    assert_true(compares(txn, ATL_HA_MANAGER, view->manager != NULL ? view->manager_revision : NULL));
    for (size_t i = 0; i < txn->n_operation; i++) {
        const Atoll__Store__V1__Operation *operation = txn->operation[i];
        if (strcmp(operation->kind, "rename") == 0) {
            uint32_t vmid = (uint32_t)strtoul(strrchr(operation->path, '/') + 1, NULL, 10);
            assert_false(decided->renamed[vmid - 100]);
            decided->renamed[vmid - 100] = true;
            check_rename(arena, view, txn, operation);
        } else if (strncmp(operation->path, ATL_HA_LOCK, strlen(ATL_HA_LOCK)) == 0) {
            check_lock(view, txn, operation);
        } else if (strncmp(operation->path, ATL_HA_SERVICE, strlen(ATL_HA_SERVICE)) == 0 &&
                   strcmp(operation->kind, "put") == 0) {
            note_service(view, operation, decided);
        }
    }
}

/* The node that was chosen for it in this plan, or NULL. */
static const char *chosen(const Atoll__Ha__V1__GuestView *it, const struct decided *decided)
{
    const Atoll__Ha__V1__Service *service = decided->service[it->vmid - 100];
    if (service == NULL)
        return NULL;
    if (decided->renamed[it->vmid - 100])
        return service->node;
    bool news = service->target != NULL && (it->service == NULL || it->service->target == NULL ||
                                            strcmp(it->service->target, service->target) != 0);
    return news ? service->target : NULL;
}

/* Where it runs or will by then; NULL: nowhere, or who knows. */
static const char *aim(const Atoll__Ha__V1__GuestView *it, const struct decided *decided)
{
    static const char *const runs[] = {"request_start", "request_start_balance", "started", "migrate",
                                       "relocate"};
    const Atoll__Ha__V1__Service *service = decided->service[it->vmid - 100];
    service = service != NULL ? service : it->service;
    for (size_t i = 0; service != NULL && i < ATL_COUNT(runs); i++)
        if (strcmp(service->state, runs[i]) == 0)
            return service->target != NULL && i != 0 && i != 2 ? service->target : service->node;
    return NULL;
}

struct seeking {
    const Atoll__Ha__V1__ManagerView *view;
    const struct decided *decided;
    struct atl_arena *arena;
    const Atoll__Ha__V1__Rule *rule;
    const Atoll__Ha__V1__GuestView *it;
    bool allowed;
};

static void allow(const char *word, void *user)
{
    struct seeking *seeking = user;
    int priority = 0;
    const char *name = crm_node_word(word, seeking->arena, &priority);
    seeking->allowed = seeking->allowed || strcmp(name, chosen(seeking->it, seeking->decided)) == 0;
}

static void check_apart(const char *word, void *user)
{
    struct seeking *seeking = user;
    const Atoll__Ha__V1__GuestView *other = find_guest(seeking->view, (uint32_t)strtoul(word + 3, NULL, 10));
    if (other == NULL || other == seeking->it || other->resource == NULL ||
        find_node(seeking->view, other->node) == NULL)
        return;
    const char *there = aim(other, seeking->decided);
    if (there != NULL && strcmp(there, chosen(seeking->it, seeking->decided)) == 0)
        fail_msg("seed %llu: vm:%u was sent to %s, where vm:%u is, from which rule %s keeps it apart",
                 (unsigned long long)looking_at, seeking->it->vmid, there, other->vmid, seeking->rule->rule);
}

static void check_member(const char *word, void *user)
{
    struct seeking *seeking = user;
    seeking->it = find_guest(seeking->view, (uint32_t)strtoul(word + 3, NULL, 10));
    if (seeking->it == NULL || seeking->it->resource == NULL || chosen(seeking->it, seeking->decided) == NULL)
        return;
    seeking->allowed = false;
    if (seeking->rule->nodes != NULL && seeking->rule->strict) {
        crm_each_word(seeking->rule->nodes, seeking->arena, allow, seeking);
        if (!seeking->allowed)
            fail_msg("seed %llu: vm:%u was sent to %s against rule %s", (unsigned long long)looking_at,
                     seeking->it->vmid, chosen(seeking->it, seeking->decided), seeking->rule->rule);
    } else if (seeking->rule->affinity != NULL && strcmp(seeking->rule->affinity, "negative") == 0) {
        crm_each_word(seeking->rule->resources, seeking->arena, check_apart, seeking);
    }
}

static void check_rules(struct atl_arena *arena, const Atoll__Ha__V1__ManagerView *view,
                        const struct decided *decided)
{
    const char *nodes[NODES_MAX];
    const char *sids[GUESTS_MAX];
    struct crm_rules_input input = {
        .rule = view->rule, .rule_count = view->n_rule, .node = nodes, .sid = sids};
    for (size_t i = 0; i < view->n_node; i++)
        if (!view->node[i]->removed)
            nodes[input.node_count++] = view->node[i]->name;
    for (size_t i = 0; i < view->n_guest; i++)
        if (view->guest[i]->resource != NULL)
            sids[input.sid_count++] = atl_arena_format(arena, "vm:%u", view->guest[i]->vmid);
    const char **errors = crm_rules_check(&input, arena);
    for (size_t i = 0; i < view->n_rule; i++) {
        struct seeking seeking = {.view = view, .decided = decided, .arena = arena, .rule = view->rule[i]};
        if (errors[i] == NULL && !view->rule[i]->disable)
            crm_each_word(view->rule[i]->resources, arena, check_member, &seeking);
    }
}

static void check_plan(struct atl_arena *arena, const Atoll__Ha__V1__ManagerView *view,
                       const Atoll__Ha__V1__ManagerPlan *plan)
{
    struct decided decided = {0};
    bool ours = view->manager != NULL && view->manager->incarnation == view->incarnation;
    if (!ours || !view->quorate || view->ending) {
        assert_true(plan->n_txn <= 1);
        if (!ours && view->manager != NULL && view->manager_unchanged_ms < 2000)
            assert_int_equal(plan->n_txn, 0);
        if (!ours && !view->quorate)
            assert_int_equal(plan->n_txn, 0);
        return;
    }
    for (size_t i = 0; i < plan->n_txn; i++)
        check_txn(arena, view, plan->txn[i], &decided);
    check_rules(arena, view, &decided);
    for (int i = 0; i < GUESTS_MAX; i++)
        if (decided.service[i] != NULL)
            atoll__ha__v1__service__free_unpacked(decided.service[i], NULL);
}

static void every_plan_is_sound(void **state)
{
    (void)state;
    const char *given_seed = getenv("ATL_SEED");
    uint64_t seed = given_seed != NULL ? strtoull(given_seed, NULL, 10) : 1;
    size_t transactions = 0;
    for (uint64_t i = seed; i < seed + VIEWS; i++) {
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        struct chance chance = {.state = i * 0x9E3779B97F4A7C15ULL + 1, .arena = &arena};
        Atoll__Ha__V1__ManagerView view;
        fill_view(&chance, &view);
        const Atoll__Ha__V1__ManagerPlan *plan = crm_round(&view, &arena);
        looking_at = i;
        transactions += plan->n_txn;
        check_equal_bytes(&view, plan);
        check_plan(&arena, &view, plan);
    }
    assert_true(transactions > VIEWS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_plan_is_sound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
