/* What the local agent does in each situation: a line of words in, a line of deeds out. */
#include "atl_test.h"

#include "core/lrm.h"

static char here[] = "pve1", elsewhere[] = "pve2", boot[] = "now", earlier[] = "earlier";
enum { NOW = 100000, RUN = 7, SERVICES = 8 };

/*
 * A situation in words; times are ms before now:
 * - quorate, maintenance, armed, nowatchdog, underway, lost, releasing, overdue, unsaid (the beat does not
 * tell of the watchdog)
 * - renewed=MS, attempted=MS, tick=MS, order=WORD, arm=STATE, policy=WORD
 * - lock=mine, run (an earlier run's), boot (of an earlier boot), fenced, taken (fenced, by our own number)
 * - report=MODE:STATE[:AGE], told=SID/COMMAND/OUTCOME (in the report)
 * - SID=STATE/COMMAND[/FLAG...] with the flags here, run, unknown, busy, elsewhere (its node is another one),
 *   to=NODE, done, failed, refused
 *
 * The deeds:
 * - feed+MS (until when, from now), arm, disarm, finished, acquire, renew, release
 * - ACTION SID [TARGET], report STATE MODE [SID/COMMAND/OUTCOME...]
 */
struct given {
    Atoll__Ha__V1__LrmView view;
    Atoll__Ha__V1__NodeLock lock;
    Atoll__Ha__V1__Beat beat;
    Atoll__Bus__V1__Revision revision;
    Atoll__Ha__V1__Arm arm;
    Atoll__Ha__V1__Settings settings;
    Atoll__Ha__V1__LrmReport report;
    Atoll__Ha__V1__JobResult told[SERVICES];
    Atoll__Ha__V1__JobResult *told_list[SERVICES];
    Atoll__Ha__V1__LocalService local[SERVICES];
    Atoll__Ha__V1__LocalService *list[SERVICES];
    Atoll__Ha__V1__Service service[SERVICES];
    Atoll__Ha__V1__JobResult result[SERVICES];
    char words[1024];
};

static char *cut(char **rest, char separator)
{
    char *word = *rest;
    char *end = strchr(word, separator);
    *rest = end == NULL ? word + strlen(word) : end + 1;
    if (end != NULL)
        *end = '\0';
    return word;
}

static void give_lock(struct given *given, const char *who)
{
    atoll__ha__v1__node_lock__init(&given->lock);
    atoll__ha__v1__beat__init(&given->beat);
    given->lock.node = here;
    given->lock.incarnation = strcmp(who, "mine") == 0 || strcmp(who, "taken") == 0 ? RUN : RUN - 1;
    given->lock.boot = strcmp(who, "boot") == 0 ? earlier : boot;
    given->lock.fenced = given->lock.has_fenced = strcmp(who, "fenced") == 0 || strcmp(who, "taken") == 0;
    given->lock.feed_horizon_ms = 2500;
    given->lock.watchdog_ms = 2000;
    given->lock.margin_ms = 500;
    given->beat.incarnation = given->lock.incarnation;
    given->beat.sequence = 41;
    given->beat.has_armed = given->beat.armed = strcmp(who, "mine") == 0;
    given->view.lock = &given->lock;
    given->view.beat = &given->beat;
}

static void give_outcome(Atoll__Ha__V1__JobResult *result, const char *sid, uint64_t command,
                         const char *outcome)
{
    atoll__ha__v1__job_result__init(result);
    result->sid = (char *)(uintptr_t)sid;
    result->command = command;
    result->outcome = (char *)(uintptr_t)outcome;
}

static void give_service(struct given *given, char *sid, char *rest)
{
    size_t at = given->view.n_service++;
    Atoll__Ha__V1__LocalService *local = &given->local[at];
    Atoll__Ha__V1__Service *service = &given->service[at];
    atoll__ha__v1__local_service__init(local);
    atoll__ha__v1__service__init(service);
    given->list[at] = local;
    local->sid = sid;
    local->service = service;
    local->has_known = local->known = 1;
    service->state = cut(&rest, '/');
    service->node = here;
    service->command = strtoull(cut(&rest, '/'), NULL, 10);
    while (*rest != '\0') {
        char *flag = cut(&rest, '/');
        if (strcmp(flag, "here") == 0)
            local->has_here = local->here = 1;
        else if (strcmp(flag, "run") == 0)
            local->has_here = local->here = local->has_running = local->running = 1;
        else if (strcmp(flag, "unknown") == 0)
            local->known = 0;
        else if (strcmp(flag, "busy") == 0)
            local->has_busy_command = 1;
        else if (strcmp(flag, "elsewhere") == 0)
            service->node = elsewhere;
        else if (strncmp(flag, "to=", 3) == 0)
            service->target = flag + 3;
        else {
            give_outcome(&given->result[at], sid, service->command, flag);
            local->result = &given->result[at];
        }
    }
    local->busy_command = service->command;
}

static void give_report(struct given *given, char *rest)
{
    atoll__ha__v1__lrm_report__init(&given->report);
    given->report.incarnation = RUN;
    given->report.mode = cut(&rest, ':');
    given->report.state = cut(&rest, ':');
    given->report.result = given->told_list;
    given->view.report = &given->report;
    given->view.has_report_age_ms = 1;
    given->view.report_age_ms = strtoull(rest, NULL, 10);
}

static void give_told(struct given *given, char *rest)
{
    size_t at = given->report.n_result++;
    char *sid = cut(&rest, '/');
    uint64_t command = strtoull(cut(&rest, '/'), NULL, 10);
    give_outcome(&given->told[at], sid, command, rest);
    given->told_list[at] = &given->told[at];
}

static void give_value(struct given *given, char *key, char *value)
{
    Atoll__Ha__V1__LrmView *view = &given->view;
    if (strcmp(key, "renewed") == 0) {
        view->has_renewed_ms = 1;
        view->renewed_ms = NOW - strtoull(value, NULL, 10);
    } else if (strcmp(key, "attempted") == 0) {
        view->has_attempted_ms = 1;
        view->attempted_ms = NOW - strtoull(value, NULL, 10);
    } else if (strcmp(key, "tick") == 0) {
        view->has_tick_ms = 1;
        view->tick_ms = (uint32_t)strtoul(value, NULL, 10);
    } else if (strcmp(key, "order") == 0) {
        view->order = value;
    } else if (strcmp(key, "arm") == 0) {
        atoll__ha__v1__arm__init(&given->arm);
        given->arm.state = value;
        view->arm = &given->arm;
    } else if (strcmp(key, "policy") == 0) {
        atoll__ha__v1__settings__init(&given->settings);
        given->settings.shutdown_policy = value;
        view->settings = &given->settings;
    } else if (strcmp(key, "lock") == 0) {
        give_lock(given, value);
    } else if (strcmp(key, "report") == 0) {
        give_report(given, value);
    } else if (strcmp(key, "told") == 0) {
        give_told(given, value);
    } else {
        give_service(given, key, value);
    }
}

static void give(struct given *given, const char *words)
{
    memset(given, 0, sizeof *given);
    Atoll__Ha__V1__LrmView *view = &given->view;
    atoll__ha__v1__lrm_view__init(view);
    atoll__bus__v1__revision__init(&given->revision);
    (void)snprintf(given->words, sizeof given->words, "%s", words);
    view->node = here;
    view->now_ms = NOW;
    view->incarnation = RUN;
    view->boot = boot;
    view->service = given->list;
    view->lock_revision = view->beat_revision = view->report_revision = &given->revision;
    char *rest = given->words;
    while (*rest != '\0') {
        char *word = cut(&rest, ' ');
        char *value = strchr(word, '=');
        if (value != NULL) {
            *value = '\0';
            give_value(given, word, value + 1);
        }
        view->quorate |= strcmp(word, "quorate") == 0;
        view->maintenance |= strcmp(word, "maintenance") == 0;
        view->armed |= strcmp(word, "armed") == 0;
        view->watchdog_down |= strcmp(word, "nowatchdog") == 0;
        view->in_flight |= strcmp(word, "underway") == 0;
        view->lost |= strcmp(word, "lost") == 0;
        view->overdue |= strcmp(word, "overdue") == 0;
        view->releasing |= strcmp(word, "releasing") == 0;
        given->beat.armed &= strcmp(word, "unsaid") != 0;
    }
}

static void tell_report(const Atoll__Store__V1__TxnRequest *txn, struct atl_buf *out)
{
    const ProtobufCBinaryData *bytes = &txn->operation[0]->content;
    Atoll__Ha__V1__LrmReport *report = atoll__ha__v1__lrm_report__unpack(NULL, bytes->len, bytes->data);
    assert_non_null(report);
    atl_buf_printf(out, "report %s %s", report->state, report->mode);
    for (size_t i = 0; i < report->n_result; i++)
        atl_buf_printf(out, " %s/%llu/%s", report->result[i]->sid,
                       (unsigned long long)report->result[i]->command, report->result[i]->outcome);
    atl_buf_printf(out, "; ");
    atoll__ha__v1__lrm_report__free_unpacked(report, NULL);
}

/* The deeds without the report, unless `report`. */
static void tell(const Atoll__Ha__V1__LrmPlan *plan, bool report, struct atl_buf *out)
{
    if (plan->has_feed_until_ms)
        atl_buf_printf(out, "feed+%llu; ", (unsigned long long)(plan->feed_until_ms - NOW));
    if (plan->arm)
        atl_buf_printf(out, "arm; ");
    if (plan->disarm)
        atl_buf_printf(out, "disarm; ");
    if (plan->lock_action != NULL)
        atl_buf_printf(out, "%s; ", plan->lock_action);
    for (size_t i = 0; i < plan->n_job; i++)
        atl_buf_printf(out, "%s %s%s%s; ", plan->job[i]->action, plan->job[i]->sid,
                       plan->job[i]->target ? " " : "", plan->job[i]->target ? plan->job[i]->target : "");
    if (plan->finished)
        atl_buf_printf(out, "finished; ");
    if (report && plan->report_txn != NULL)
        tell_report(plan->report_txn, out);
}

struct row {
    const char *given;
    const char *then;
};

static void check(const struct row *rows, size_t count, bool report)
{
    for (size_t i = 0; i < count; i++) {
        struct given given;
        give(&given, rows[i].given);
        ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
        struct atl_buf out = {0};
        tell(lrm_round(&given.view, &arena), report, &out);
        char *end = out.length >= 2 ? out.data + out.length - 2 : NULL;
        if (end != NULL)
            *end = '\0';
        const char *got = out.data == NULL || out.length == 0 ? "" : out.data;
        if (strcmp(got, rows[i].then) != 0)
            fail_msg("given: %s\n  expected: %s\n  got:      %s", rows[i].given, rows[i].then, got);
        atl_buf_done(&out);
    }
}

#define HELD "quorate lock=mine armed renewed=300 attempted=300 "
#define DUE  "quorate lock=mine armed renewed=500 attempted=500 "

static void it_gets_and_keeps_the_lock(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"quorate", ""},
        {"quorate vm:1=request_start/1/here", "acquire"},
        {"vm:1=request_start/1/here", ""}, /* no quorum */
        {"quorate nowatchdog vm:1=request_start/1/here", ""},
        {"quorate underway vm:1=request_start/1/here", ""},
        {"quorate attempted=499 vm:1=request_start/1/here", ""},
        {"quorate attempted=500 vm:1=request_start/1/here", "acquire"},
        {"quorate vm:1=migrate/1/elsewhere/to=pve1", "acquire"}, /* one comes */
        {"quorate vm:1=migrate/1/elsewhere/to=pve3", ""},
        {"quorate vm:1=stopped/1/here", ""},
        {"quorate vm:1=stopped/1/run", "acquire"}, /* to stop it */
        {"quorate vm:1=freeze/1/run", ""},
        {"quorate vm:1=ignored/1/run", ""},
        {"quorate vm:1=error/1/run", ""},
        {"quorate vm:1=recovery/1/here", ""},
        {HELD "vm:1=started/1/run tick=3000", "feed+2200"}, /* the lock was taken with a tick of 500 */
        {DUE "vm:1=started/1/run tick=3000", "feed+2000; renew"},
        {"lock=run vm:1=started/1/run", "acquire"}, /* restarted: even without quorum */
        {"lock=run", "acquire"},
        {"lock=run armed nowatchdog vm:1=started/1/run", "acquire"},
        {"lock=boot vm:1=started/1/here", ""},
        {"quorate lock=boot vm:1=started/1/here", "acquire"},
        {"quorate lock=boot", "acquire"}, /* else somebody fences us for it */
        {"quorate lock=fenced vm:1=started/1/here", ""},
        {"quorate lock=mine renewed=499 attempted=499 armed vm:1=started/1/run", "feed+2001"},
        {"quorate lock=mine renewed=500 attempted=500 armed vm:1=started/1/run", "feed+2000; renew"},
        {"quorate lock=mine renewed=900 attempted=400 armed vm:1=started/1/run", "feed+1600"},
        {"lock=mine renewed=500 attempted=500 armed vm:1=started/1/run", "feed+2000; renew"},
        {"quorate lock=mine attempted=600 vm:1=started/1/run",
         "arm; renew"}, /* its acquisition's answer was lost */
        {"quorate lock=mine nowatchdog renewed=600 attempted=600 vm:1=request_start/1/here", "release"},
    };
    check(rows, ATL_COUNT(rows), false);
}

static void it_feeds_only_while_a_renewal_is_fresh(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"quorate lock=mine armed renewed=2499 attempted=100 vm:1=started/1/run", "feed+1"},
        {"quorate lock=mine armed renewed=2500 attempted=100 vm:1=started/1/run", ""},
        {"quorate lock=mine armed renewed=2500 attempted=500 vm:1=started/1/run", "renew"},
        {"quorate lock=mine armed renewed=300 lost attempted=300 vm:1=started/1/run",
         "feed+2200"}, /* of an older lock */
        {"quorate lock=fenced armed renewed=300 vm:1=started/1/run", ""},
        {"quorate lock=fenced lost armed renewed=300 vm:1=started/1/run", ""},
        {"quorate lock=run armed renewed=300 vm:1=started/1/run", ""}, /* another run has it */
        {"quorate lock=taken armed renewed=600 vm:1=started/1/run", ""},
        {"quorate lost armed renewed=300 vm:1=started/1/run", ""},
        {"quorate lost renewed=300 vm:1=request_start/1/here", "acquire"}, /* nothing ran under it */
        {"quorate armed vm:1=started/1/run", "acquire"},
        {"quorate lock=mine armed vm:1=started/1/run", "renew"},
    };
    check(rows, ATL_COUNT(rows), false);
}

static void it_arms_before_the_first_start(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"quorate lock=mine renewed=300 attempted=300 vm:1=request_start/1/here", "arm"},
        {HELD "vm:1=request_start/1/here", "feed+2200; start vm:1"},
        {"lock=mine armed renewed=300 attempted=300 vm:1=request_start/1/here", "feed+2200"},
        {"quorate lock=mine armed renewed=2500 attempted=300 vm:1=request_start/1/here", ""},
        {"quorate lock=mine armed attempted=300 vm:1=request_start/1/here", ""},
        {"quorate lock=run armed attempted=300 vm:1=request_start/1/here", ""},
        {HELD "unsaid vm:1=request_start/1/here", "feed+2200; renew; start vm:1"},
        {HELD "unsaid underway vm:1=request_start/1/here", "feed+2200; start vm:1"},
        {HELD "releasing vm:1=request_start/1/here", "feed+2200"},
        {HELD "releasing vm:1=stopped/1/run", "feed+2200; stop vm:1"},
        {HELD "vm:1=request_start/1", "feed+2200"},                /* its file is elsewhere */
        {HELD "vm:1=request_start/1/here/elsewhere", "feed+2200"}, /* not ours */
        {HELD "vm:1=request_start/1/here/unknown", "feed+2200"},
        {HELD "vm:1=request_start/1/here/busy", "feed+2200"},
        {HELD "vm:1=request_start/1/here/failed", "feed+2200"},
        {HELD "vm:1=request_start/1/here/refused", "feed+2200"},
        {HELD "vm:1=request_start/1/run", "feed+2200"},
    };
    check(rows, ATL_COUNT(rows), false);
}

static void it_does_what_the_manager_wants(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {HELD "vm:1=started/1/here", "feed+2200; start vm:1"},
        {HELD "vm:1=started/1/here/done", "feed+2200; start vm:1"},
        {HELD "vm:1=started/1/here/failed", "feed+2200"},
        {HELD "vm:1=request_stop/1/run", "feed+2200; stop vm:1"},
        {HELD "vm:1=request_stop/1/run/failed", "feed+2200"},
        {HELD "vm:1=request_stop/1/here", "feed+2200"},
        {HELD "vm:1=stopped/1/run", "feed+2200; stop vm:1"},
        {"lock=mine armed renewed=300 attempted=300 vm:1=request_stop/1/run", "feed+2200; stop vm:1"},
        {HELD "vm:1=migrate/1/run/to=pve2", "feed+2200; migrate vm:1 pve2"},
        {HELD "vm:1=migrate/1/run/to=pve2/failed", "feed+2200"},
        {HELD "vm:1=migrate/1/run", "feed+2200"},
        {HELD "vm:1=migrate/1/to=pve2", "feed+2200"},
        {"lock=mine armed renewed=300 attempted=300 vm:1=migrate/1/run/to=pve2", "feed+2200"},
        {HELD "vm:1=relocate/1/here/to=pve2", "feed+2200; relocate vm:1 pve2"},
        {HELD "vm:1=request_start_balance/1/here/to=pve2", "feed+2200; relocate vm:1 pve2"},
        {HELD "vm:1=freeze/1/run vm:2=started/1/run", "feed+2200"},
        {HELD "vm:1=error/1/run vm:2=started/1/run", "feed+2200"},
        {HELD "vm:1=ignored/1/here vm:2=started/1/run", "feed+2200"},
        {HELD "vm:1=novelty/1/here", "feed+2200"},
    };
    check(rows, ATL_COUNT(rows), false);
}

static void it_lets_go_of_what_nobody_needs(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"quorate lock=mine armed renewed=500 attempted=500", "feed+2000; release"},
        {"quorate lock=mine armed renewed=500 attempted=500 vm:1=stopped/1/here", "feed+2000; release"},
        {"quorate lock=mine armed renewed=500 attempted=500 vm:1=stopped/1/here/unknown", "feed+2000; renew"},
        {"quorate lock=mine armed renewed=500 attempted=500 vm:1=stopped/1/here/busy", "feed+2000; renew"},
        {"quorate armed renewed=500 attempted=100", "feed+2000; disarm"},
        {"quorate armed renewed=500 underway", "feed+2000"},
        {"quorate armed renewed=500 attempted=500 vm:1=request_start/1/here", "feed+2000; acquire"},
        {"quorate armed renewed=2500 attempted=500", "acquire"}, /* not sure any more: hold it first */
        {"quorate armed", "acquire"},                            /* an earlier run released it and died */
    };
    check(rows, ATL_COUNT(rows), false);
}

static void it_ends_in_order(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {DUE "order=stop vm:1=started/1/run", "feed+2000; renew"}, /* waits to be frozen */
        {DUE "order=stop vm:1=freeze/1/run", "feed+2000; release"},
        {DUE "order=stop vm:1=freeze/1/run/busy", "feed+2000; renew"},
        {DUE "order=stop vm:1=request_start/1/here", "feed+2000; renew"},
        {"quorate armed renewed=500 order=stop vm:1=freeze/1/run", "feed+2000; disarm"},
        {"quorate armed renewed=500 attempted=500 order=stop vm:1=started/1/run", "feed+2000; acquire"},
        {"quorate renewed=500 order=stop vm:1=freeze/1/run", ""}, /* has not said so yet */
        {"quorate order=stop report=restart:wait_for_agent_lock vm:1=freeze/1/run", "finished"},
        {"order=stop", "finished"},
        {"quorate order=stop vm:1=request_start/1/here report=restart:wait_for_agent_lock", "finished"},
        {"quorate order=stop vm:1=freeze/1/run/busy report=restart:wait_for_agent_lock", ""},
        {DUE "order=shutdown policy=failover vm:1=started/1/run", "feed+2000; renew; stop vm:1"},
        {DUE "order=shutdown policy=failover vm:1=started/1/here", "feed+2000; release"},
        {DUE "order=shutdown vm:1=started/1/here", "feed+2000; release"}, /* conditional */
        {DUE "order=reboot vm:1=started/1/here", "feed+2000; renew"},
        {DUE "order=reboot vm:1=freeze/1/run", "feed+2000; renew; stop vm:1"},
        {DUE "order=reboot vm:1=freeze/1/here", "feed+2000; release"},
        {DUE "order=reboot policy=failover vm:1=started/1/here", "feed+2000; release"},
        {DUE "order=shutdown policy=freeze vm:1=started/1/run", "feed+2000; renew; stop vm:1"},
        {DUE "order=shutdown policy=freeze vm:1=started/1/here", "feed+2000; renew"},
        {DUE "order=shutdown policy=migrate vm:1=started/1/run", "feed+2000; renew"},
        {DUE "order=shutdown policy=migrate vm:1=migrate/1/run/to=pve2",
         "feed+2000; renew; migrate vm:1 pve2"},
        {DUE "order=shutdown policy=migrate vm:1=started/1/elsewhere", "feed+2000; release"},
        {DUE "order=reboot policy=migrate overdue vm:1=started/1/run", "feed+2000; renew; stop vm:1"},
        {DUE "order=reboot policy=migrate overdue vm:1=started/1/here", "feed+2000; release"},
        {DUE "order=shutdown vm:1=ignored/1/run", "feed+2000; release"},
        {DUE "order=shutdown vm:1=error/1/run", "feed+2000; renew; stop vm:1"},
        {DUE "arm=disarming vm:1=started/1/run", "feed+2000; renew"},
        {DUE "arm=disarming vm:1=freeze/1/run", "feed+2000; release"},
        {"quorate armed renewed=500 arm=disarming vm:1=ignored/1/run", "feed+2000; disarm"},
        {"quorate order=shutdown vm:1=error/1/run", "stop vm:1"}, /* runs without a lock */
        {"quorate order=shutdown vm:1=error/1/run/busy report=shutdown:wait_for_agent_lock", ""},
        {"quorate order=shutdown vm:1=ignored/1/run report=shutdown:wait_for_agent_lock", "finished"},
        {"quorate order=reboot arm=disarmed policy=migrate vm:1=freeze/1/run", "stop vm:1"},
        {"quorate order=reboot arm=disarmed vm:1=ignored/1/run", "stop vm:1"},
        {"quorate order=stop arm=disarmed vm:1=freeze/1/run report=restart:wait_for_agent_lock", "finished"},
        {"quorate arm=disarmed vm:1=request_start/1/here", ""},
        {"quorate arm=armed vm:1=request_start/1/here", "acquire"},
        {"quorate order=run vm:1=request_start/1/here", "acquire"},
    };
    check(rows, ATL_COUNT(rows), false);
}

static void it_tells_the_manager(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"quorate", "report wait_for_agent_lock active"},
        {"quorate report=active:wait_for_agent_lock", ""},
        {"quorate report=active:wait_for_agent_lock:4999", ""},
        {"quorate report=active:wait_for_agent_lock:5000", "report wait_for_agent_lock active"},
        {"quorate report=active:active", "report wait_for_agent_lock active"},
        {HELD "vm:1=request_start/3/run", "feed+2200; report active active vm:1/3/done"},
        {HELD "vm:1=request_start/3/here/busy", "feed+2200; report active active"},
        {HELD "vm:1=request_start/3/here/failed", "feed+2200; report active active vm:1/3/failed"},
        {"quorate lock=mine renewed=300 attempted=300 vm:1=request_start/3/run", "arm; report active active"},
        {HELD "vm:1=request_stop/3/here", "feed+2200; report active active vm:1/3/done"},
        {HELD "vm:1=migrate/3/to=pve2", "feed+2200; report active active vm:1/3/done"},
        {HELD "vm:1=migrate/3/run/to=pve2/refused", "feed+2200; report active active vm:1/3/refused"},
        {HELD "vm:1=freeze/3/run vm:2=started/2/run", "feed+2200; report active active vm:2/2/done"},
        /* an earlier run of ours said it, and the order is the same */
        {HELD "report=active:active told=vm:1/3/failed vm:1=request_start/3/here", "feed+2200"},
        {HELD "report=active:active told=vm:1/2/failed vm:1=request_start/3/here",
         "feed+2200; start vm:1; report active active"},
        {"quorate lock=fenced armed renewed=300", "report lost_agent_lock active"},
        {"quorate maintenance", "report maintenance maintenance"},
        {HELD "maintenance vm:1=started/1/run/done", "feed+2200; report maintenance maintenance vm:1/1/done"},
        {"quorate order=stop", "report wait_for_agent_lock restart"},
        {"quorate order=reboot", "report wait_for_agent_lock reboot"},
        {"quorate order=shutdown maintenance", "report maintenance shutdown"},
    };
    check(rows, ATL_COUNT(rows), true);
}

static bool compares(const Atoll__Store__V1__TxnRequest *txn, const char *path, bool absent)
{
    for (size_t i = 0; i < txn->n_compare; i++)
        if (strcmp(txn->compare[i]->path, path) == 0)
            return absent ? txn->compare[i]->absent : txn->compare[i]->revision != NULL;
    return false;
}

static void every_write_compares(void **state)
{
    (void)state;
    struct given given;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    give(&given, "quorate vm:1=started/1/here");
    Atoll__Ha__V1__LrmPlan *plan = lrm_round(&given.view, &arena);
    assert_true(compares(plan->lock_txn, ".state/ha/lock/pve1", true));
    assert_true(compares(plan->lock_txn, ".state/ha/beat/node/pve1", true));
    assert_true(compares(plan->report_txn, ".state/ha/lrm/pve1", true));
    static const char *const held[] = {"quorate lock=run vm:1=started/1/here", DUE "vm:1=started/1/run",
                                       DUE "report=active:active"};
    for (size_t i = 0; i < ATL_COUNT(held); i++) {
        give(&given, held[i]);
        plan = lrm_round(&given.view, &arena);
        assert_true(compares(plan->lock_txn, ".state/ha/lock/pve1", false));
        assert_true(compares(plan->lock_txn, ".state/ha/beat/node/pve1", false));
    }
    give(&given, DUE "vm:1=started/1/run");
    plan = lrm_round(&given.view, &arena);
    assert_true(compares(plan->report_txn, ".state/ha/lock/pve1", false));
}

static bool says_armed(const char *words)
{
    struct given given;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    give(&given, words);
    const Atoll__Store__V1__TxnRequest *txn = lrm_round(&given.view, &arena)->lock_txn;
    const ProtobufCBinaryData *bytes = &txn->operation[txn->n_operation - 1]->content;
    Atoll__Ha__V1__Beat *beat = atoll__ha__v1__beat__unpack(NULL, bytes->len, bytes->data);
    bool armed = beat->armed;
    atoll__ha__v1__beat__free_unpacked(beat, NULL);
    return armed;
}

static void a_beat_says_whether_the_watchdog_runs(void **state)
{
    (void)state;
    assert_true(says_armed("quorate lock=mine unsaid armed renewed=500 vm:1=started/1/run"));
    assert_false(says_armed("quorate lock=mine unsaid renewed=500 vm:1=started/1/run"));
    assert_true(says_armed("quorate lock=mine nowatchdog renewed=500 vm:1=started/1/run")); /* said before */
    assert_false(says_armed("quorate vm:1=started/1/run"));
    assert_false(says_armed("quorate armed vm:1=started/1/run")); /* it may be on its way to be let go */
    assert_true(says_armed("quorate armed lock=run vm:1=started/1/run"));
    assert_false(says_armed("quorate armed lock=boot vm:1=started/1/run"));
}

static void a_promise_is_never_made_smaller_while_the_watchdog_runs(void **state)
{
    (void)state;
    struct given given;
    ATL_ARENA_AT_EXIT struct atl_arena arena = {0};
    give(&given, "quorate lock=run vm:1=started/1/run");
    given.lock.feed_horizon_ms = 15000;
    given.lock.watchdog_ms = 12000;
    Atoll__Ha__V1__LrmPlan *plan = lrm_round(&given.view, &arena);
    const ProtobufCBinaryData *bytes = &plan->lock_txn->operation[0]->content;
    Atoll__Ha__V1__NodeLock *lock = atoll__ha__v1__node_lock__unpack(NULL, bytes->len, bytes->data);
    assert_int_equal(lock->incarnation, RUN);
    assert_int_equal(lock->feed_horizon_ms, 15000);
    assert_int_equal(lock->watchdog_ms, 12000);
    assert_int_equal(lock->margin_ms, 500);
    atoll__ha__v1__node_lock__free_unpacked(lock, NULL);
    /* and a horizon of new settings that is longer than what was promised is not used */
    give(&given, "quorate lock=mine armed renewed=2500 attempted=300 vm:1=started/1/run");
    given.view.has_tick_ms = 1;
    given.view.tick_ms = 3000;
    assert_false(lrm_round(&given.view, &arena)->has_feed_until_ms);
    /* nor that of the shortest tick, 500 ms, of a lock that promises even less */
    give(&given, "quorate lock=mine armed renewed=450 attempted=300 vm:1=started/1/run");
    given.lock.feed_horizon_ms = 400;
    assert_false(lrm_round(&given.view, &arena)->has_feed_until_ms);
    give(&given, "quorate lock=mine armed renewed=300 attempted=300 vm:1=started/1/run");
    given.lock.feed_horizon_ms = 400;
    assert_int_equal(lrm_round(&given.view, &arena)->feed_until_ms, NOW - 300 + 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_gets_and_keeps_the_lock),
        cmocka_unit_test(it_feeds_only_while_a_renewal_is_fresh),
        cmocka_unit_test(it_arms_before_the_first_start),
        cmocka_unit_test(it_does_what_the_manager_wants),
        cmocka_unit_test(it_lets_go_of_what_nobody_needs),
        cmocka_unit_test(it_ends_in_order),
        cmocka_unit_test(it_tells_the_manager),
        cmocka_unit_test(every_write_compares),
        cmocka_unit_test(a_beat_says_whether_the_watchdog_runs),
        cmocka_unit_test(a_promise_is_never_made_smaller_while_the_watchdog_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
