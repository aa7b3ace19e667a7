/* A simulated cluster under the real cores of high availability: one seeded clock, one tree, machines that
 * fail. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdio.h>

#include "atoll/ha/v1/state.pb-c.h"
#include "ha/times.h"
#include "pure/arena.h"
#include "pure/buf.h"

enum {
    SIM_NODES = 16,
    SIM_GUESTS = 96,
    SIM_RULES = 32,
    SIM_NAME = 40,
    SIM_TEXT = 512,
};

typedef int64_t sim_us; /* true time since the simulation began, in microseconds; no program sees it */
#define SIM_MS      ((sim_us)1000)
#define SIM_SECOND  (1000 * SIM_MS)
#define SIM_FOREVER ((sim_us)1 << 60)

/* --- the tree --- */

enum sim_kind {
    SIM_FILE_MANAGER,
    SIM_FILE_MANAGER_BEAT,
    SIM_FILE_ARM,
    SIM_FILE_MOVES,
    SIM_FILE_LOCK, /* of a node, so the next three */
    SIM_FILE_BEAT,
    SIM_FILE_LRM,
    SIM_FILE_NODE,
    SIM_FILE_SERVICE, /* of a guest */
    SIM_FILE_GUEST,   /* of a guest on a node */
    SIM_FILE_REQUEST,
    SIM_FILE_OTHER,
};

struct sim_value {
    unsigned references;
    Atoll__Bus__V1__Revision revision;
    ProtobufCMessage *message; /* NULL: a guest's file, its content does not matter */
};

struct sim_key {
    char path[72];
    enum sim_kind kind;
    int node;                /* -1: none */
    int guest;               /* -1: none */
    struct sim_value *value; /* NULL: there is no such file */
    uint32_t next;           /* of the same hash */
};

struct sim_change {
    uint32_t key;
    struct sim_value *value; /* NULL: it is gone */
};

struct sim_tree {
    struct sim_key *keys;
    uint32_t key_count;
    uint32_t key_room;
    uint32_t hash[1024];
    struct sim_change *log;
    size_t log_count;
    size_t log_room;
    uint64_t number; /* of the last revision */
    uint64_t next_request;
    uint32_t requests[512]; /* keys of requests that ever were */
    size_t request_count;
};

/* The tree as one node's config-store has it. */
struct sim_copy {
    struct sim_value **files; /* by key; values are counted */
    uint32_t room;
    size_t applied;  /* changes of the log */
    uint64_t number; /* revision */
    bool news_crm;   /* something that asks for a round came since the last one */
    bool news_lrm;
    int place[SIM_GUESTS]; /* node where the guest's file lies, -1: nowhere */
};

/* --- calls --- */

struct sim_memory { /* of one round; lives as long as a call needs it */
    struct atl_arena arena;
    unsigned references;
    struct sim_memory *next; /* of those that are free */
};

enum sim_process { SIM_LRM, SIM_CRM, SIM_MUX, SIM_COMPUTE, SIM_PROCESSES };
enum sim_outcome { SIM_UNKNOWN, SIM_DONE, SIM_REFUSED };

struct sim_call {
    unsigned references;
    struct sim_memory *memory;
    const Atoll__Store__V1__TxnRequest *txn; /* in memory */
    int node;
    enum sim_process process;
    uint64_t run; /* of the process that sent it */
    uint64_t id;
    uint32_t term; /* of etcd's leader that took it */
    int job;       /* SIM_COMPUTE: which */
    enum sim_outcome outcome;
    uint64_t number;       /* revision after it */
    struct sim_call *next; /* of those that may be done by the next leader */
};

/* --- machines --- */

enum sim_power { SIM_OFF, SIM_BOOTING, SIM_UP };

struct sim_run { /* one process */
    bool alive;
    bool paused;
    bool wanted;  /* its supervisor starts it again */
    uint64_t run; /* incarnation */
};

struct sim_job {
    bool used;
    uint64_t id;
    int guest;
    uint64_t command;
    char action[12];
    int target;
    int phase;
    uint64_t target_boot;
    uint64_t revision; /* of the guest's file when it began */
    uint64_t call;     /* handing over */
};

enum { SIM_JOBS = 32 };

struct sim_lrm {
    const char *order;
    uint64_t call; /* in flight, 0: none */
    char call_action[8];
    uint64_t call_began_ms;
    uint64_t call_sequence;
    bool call_armed;
    bool disarms; /* the multiplexer was told to, and has not answered */
    uint64_t see; /* revision that the copy must have before the call is over */
    bool see_check;
    bool see_acquired;
    uint64_t report_call;
    Atoll__Ha__V1__Beat beat; /* as the last answer has it, while our copy is older */
    Atoll__Bus__V1__Revision beat_revision;
    bool has_renewed;
    uint64_t renewed_ms;
    bool has_attempted;
    uint64_t attempted_ms;
    bool lost;
    bool releasing;
    bool round_due;
    uint64_t report_number; /* of the tree's report, and since when we know it */
    uint64_t report_seen_ms;
    char last[SIM_TEXT]; /* decisions that were logged last */
    bool has_result[SIM_GUESTS];
    uint64_t result_command[SIM_GUESTS];
    char result_outcome[SIM_GUESTS][8];
    char result_action[SIM_GUESTS][12];
};

struct sim_crm {
    bool ending;
    bool plan_ends; /* the plan under way is the last */
    uint64_t call;
    struct sim_memory *memory; /* of the plan under way */
    const Atoll__Ha__V1__ManagerPlan *plan;
    size_t next_txn;
    uint64_t see;
    bool round_due;
    bool master;
    uint64_t manager_number[2]; /* lock, beat: last seen, and since when */
    uint64_t manager_seen_ms;
    uint64_t lock_number[SIM_NODES][2];
    uint64_t lock_seen_ms[SIM_NODES];
    uint64_t report_number[SIM_NODES];
    uint64_t report_seen_ms[SIM_NODES];
    uint64_t balance_ms;
    bool power_asked[SIM_NODES];
    uint64_t power_lock[SIM_NODES]; /* of what lock's revision the node was confirmed off */
    char last[8 * SIM_TEXT];        /* decisions of the last round */
};

struct sim_node {
    char name[SIM_NAME];
    int index;
    double cpus;
    uint64_t memory;
    bool voter;   /* of etcd, and a vote in corosync */
    bool witness; /* a vote and nothing else */
    bool can_power_off;
    int drift_ppm; /* of its clock */
    sim_us boot_takes;

    enum sim_power power;
    uint64_t boot; /* counts */
    char boot_id[SIM_NAME + 12];
    sim_us booted;
    bool stopped; /* all of the machine stands still; its watchdog does not */
    bool disk_hangs;
    unsigned lose_percent; /* answers that are lost */
    sim_us watch_delay;
    bool watch_due;
    bool going;      /* down, in order */
    bool comes_back; /* after that */

    struct sim_run runs[SIM_PROCESSES];
    struct sim_lrm lrm;
    struct sim_crm crm;
    struct sim_job jobs[SIM_JOBS];
    struct sim_copy copy;
    uint64_t compute_number; /* revision of the tree that compute-agent has written or read last */

    bool armed;
    sim_us watchdog_at; /* it resets the machine then */
    bool watchdog_due;

    uint32_t members; /* as corosync says, a bit each */
    bool quorate;
    bool record_maintenance;

    sim_us excused_until; /* a fault touched it: it may be reset */
};

struct sim_guest {
    char sid[SIM_NAME];
    char type[4];
    uint32_t vmid;
    double cpus;
    uint64_t memory;
    double cpu_used;
    uint64_t memory_used;
    bool bound;
    bool there;                       /* it exists */
    bool managed;                     /* resource is a resource */
    Atoll__Ha__V1__Resource resource; /* its texts belong to the simulation */
    uint32_t running;                 /* the truth: on which nodes its process is, a bit each */
    uint32_t held;                    /* likewise, paused for a migration */
    unsigned fail_starts;
    unsigned failures;      /* starts, stops and moves that went wrong */
    unsigned refuse_starts; /* nodes on which it can never start, a bit each */
    sim_us start_takes;
    sim_us move_takes;
    sim_us runs_since;
    uint32_t key_file[SIM_NODES];
    uint32_t key_service;
};

/* --- events --- */

enum sim_event_kind {
    SIM_TICK_LRM,
    SIM_TICK_CRM,
    SIM_ROUND_LRM,
    SIM_ROUND_CRM,
    SIM_TIMEOUT,
    SIM_WATCHDOG,
    SIM_BOOT,
    SIM_RESTART,
    SIM_RESUME,
    SIM_GONE, /* the machine is down at last */
    SIM_FAULT,
    SIM_LAST_SILENT = SIM_FAULT, /* those before and this are clocks, not steps; a fault counts itself */
    SIM_REQUEST,
    SIM_COMMIT,
    SIM_REPLY,
    SIM_WATCH,
    SIM_ELECT,
    SIM_MEMBER,
    SIM_FEED,
    SIM_DEED,
    SIM_ARM,
    SIM_DISARM,
    SIM_JOB,
    SIM_POWERED, /* the fence agent's answer */
    SIM_GUEST_DIES,
};

struct sim_event {
    sim_us at;
    uint64_t order;
    enum sim_event_kind kind;
    int node;
    uint64_t guard; /* boot, run, or what it is about */
    uint64_t value;
    struct sim_call *call; /* counted */
};

struct sim_counts {
    uint64_t steps;
    uint64_t resets;     /* machines reset by their watchdogs */
    uint64_t fences;     /* locks taken over */
    uint64_t recoveries; /* guests moved off a fenced node */
    uint64_t managers;   /* changes of the manager */
    uint64_t partitions; /* networks cut */
    uint64_t starts;
    uint64_t migrations;
    uint64_t faults;
};

enum { SIM_NETS = 2 };
enum sim_net { SIM_NET_COROSYNC, SIM_NET_ETCD };

struct sim_options {
    bool quiet; /* no log */
    bool json;
    FILE *out;
    const char *save; /* folder for the last views, or NULL */
};

struct sim {
    struct sim_options options;
    struct atl_arena arena; /* names, resources, rules */
    uint64_t seed;
    uint64_t random;  /* state of the world's dice */
    uint64_t nemesis; /* state of the faults' dice */
    sim_us now;
    struct sim_event *heap;
    size_t heap_count;
    size_t heap_room;
    uint64_t heap_order;
    struct sim_event *parked; /* for processes that stand still */
    size_t parked_count;
    size_t parked_room;
    struct sim_memory *free_memory;
    uint64_t next_id; /* calls, jobs, runs */

    struct sim_node nodes[SIM_NODES];
    int node_count;
    struct sim_guest guests[SIM_GUESTS];
    int guest_count;
    bool cut[SIM_NETS][SIM_NODES][SIM_NODES]; /* from, to */
    Atoll__Ha__V1__Rule *rules[SIM_RULES];
    size_t rule_count;
    Atoll__Ha__V1__Group *groups[SIM_RULES];
    size_t group_count;
    Atoll__Ha__V1__Settings settings;
    uint32_t tick_ms;

    struct sim_tree tree;
    uint32_t key_lock[SIM_NODES], key_beat[SIM_NODES], key_lrm[SIM_NODES], key_node[SIM_NODES];
    uint32_t key_manager, key_manager_beat, key_arm, key_moves;
    int leader; /* of etcd, -1: none */
    uint32_t term;
    sim_us leaderless_since;
    sim_us etcd_well_since; /* there is a leader without a longer gap since then */
    struct sim_call *survivors;

    struct sim_counts counts;
    char failure[SIM_TEXT]; /* the invariant that broke, or empty */
    struct atl_buf log;     /* lines, when they are not printed at once */
    struct atl_buf history; /* the faults as a scenario */
    bool faults_over;
};

/* world.c: time and chance */
void sim_push(struct sim *sim, sim_us delay, struct sim_event event);
void sim_run_until(struct sim *sim, sim_us until);
bool sim_step(struct sim *sim, sim_us until); /* one event; false: none before that */
uint64_t sim_random(uint64_t *state);
uint64_t sim_dice(struct sim *sim, uint64_t below);
sim_us sim_between(struct sim *sim, sim_us least, sim_us most);
struct sim_memory *sim_memory_take(struct sim *sim);
void sim_memory_give(struct sim *sim, struct sim_memory *memory);
void sim_unpark(struct sim *sim);

/* setup.c */
void sim_init(struct sim *sim, const struct sim_options *options, uint64_t seed);
void sim_done(struct sim *sim);
struct sim_node *sim_node_add(struct sim *sim, const char *name);
struct sim_node *sim_node_find(struct sim *sim, const char *name);
struct sim_guest *sim_guest_add(struct sim *sim, const char *sid, int node);
struct sim_guest *sim_guest_find(struct sim *sim, const char *sid);
void sim_begin(struct sim *sim); /* all nodes are up, everything starts */

/* tree.c */
void sim_tree_init(struct sim *sim);
void sim_tree_done(struct sim *sim);
uint32_t sim_key(struct sim *sim, const char *path);
enum sim_outcome sim_txn(struct sim *sim, const Atoll__Store__V1__TxnRequest *txn);
void sim_copy_apply(struct sim *sim, struct sim_node *node);
void sim_copy_clear(struct sim_copy *copy);
const struct sim_value *sim_file(const struct sim_node *node, uint32_t key);
bool sim_tree_put(struct sim *sim, const char *path, const ProtobufCMessage *message); /* false: no quorum */
void sim_tree_delete(struct sim *sim, const char *path);

/* etcd.c, corosync.c */
bool sim_linked(const struct sim *sim, enum sim_net net, int a, int b);
void sim_links_changed(struct sim *sim);
struct sim_call *sim_call_send(struct sim *sim, struct sim_node *node, enum sim_process process,
                               struct sim_memory *memory, const Atoll__Store__V1__TxnRequest *txn);
void sim_call_drop(struct sim *sim, struct sim_call *call);
void sim_on_request(struct sim *sim, const struct sim_event *event);
void sim_on_commit(struct sim *sim, const struct sim_event *event);
void sim_on_reply(struct sim *sim, const struct sim_event *event);
void sim_on_watch(struct sim *sim, const struct sim_event *event);
void sim_on_elect(struct sim *sim);
void sim_on_member(struct sim *sim, const struct sim_event *event);
void sim_leader_lose(struct sim *sim);
bool sim_reaches_etcd(const struct sim *sim, int node);

/* machine.c */
uint64_t sim_local_ms(const struct sim *sim, const struct sim_node *node);
sim_us sim_local_span(const struct sim_node *node, uint64_t ms);
void sim_power_off(struct sim *sim, struct sim_node *node);
void sim_power_on(struct sim *sim, struct sim_node *node);
void sim_boot_name(struct sim_node *node);
void sim_go_down(struct sim *sim, struct sim_node *node, bool comes_back);
void sim_process_start(struct sim *sim, struct sim_node *node, enum sim_process process);
void sim_process_kill(struct sim *sim, struct sim_node *node, enum sim_process process);
void sim_process_end(struct sim *sim, struct sim_node *node, enum sim_process process);
void sim_pause(struct sim *sim, struct sim_node *node, int process, sim_us time); /* process < 0: all of it */
void sim_on_machine(struct sim *sim, const struct sim_event *event);
bool sim_answers(const struct sim_node *node); /* the machine runs */

/* lrm.c, crm.c: the shells */
void sim_lrm_round(struct sim *sim, struct sim_node *node);
void sim_lrm_wake(struct sim *sim, struct sim_node *node);
void sim_lrm_reply(struct sim *sim, struct sim_node *node, const struct sim_call *call);
void sim_lrm_timeout(struct sim *sim, struct sim_node *node, uint64_t call);
void sim_lrm_seen(struct sim *sim, struct sim_node *node);
void sim_lrm_result(struct sim *sim, struct sim_node *node, const struct sim_job *job, const char *outcome);
void sim_crm_round(struct sim *sim, struct sim_node *node);
void sim_crm_wake(struct sim *sim, struct sim_node *node);
void sim_crm_reply(struct sim *sim, struct sim_node *node, const struct sim_call *call);
void sim_crm_timeout(struct sim *sim, struct sim_node *node, uint64_t call);
void sim_crm_forget(struct sim *sim, struct sim_node *node);

/* jobs.c: what compute-agent does */
void sim_job_begin(struct sim *sim, struct sim_node *node, const Atoll__Ha__V1__Job *job);
void sim_on_job(struct sim *sim, const struct sim_event *event);
void sim_job_reply(struct sim *sim, struct sim_node *node, const struct sim_call *call);
const struct sim_job *sim_job_of(const struct sim_node *node, int guest);
void sim_guest_die(struct sim *sim, struct sim_guest *guest, int node);
void sim_guests_gone(struct sim *sim, struct sim_node *node);

/* check.c */
void sim_fail(struct sim *sim, const char *format, ...) ATL_PRINTF(2, 3);
void sim_check_txn(struct sim *sim, const struct sim_call *call);
void sim_check_running(struct sim *sim);
void sim_check_reset(struct sim *sim, const struct sim_node *node);
void sim_check_start(struct sim *sim, const struct sim_node *node, const struct sim_job *job);
void sim_check_spawn(struct sim *sim, const struct sim_node *node, const struct sim_guest *guest);
void sim_check_leave(struct sim *sim, int node, int guest);
void sim_check_end(struct sim *sim);
void sim_excuse(struct sim *sim, struct sim_node *node, sim_us time);

/* commands.c, scenario.c: the language */
ATL_MUST_CHECK enum atl_code sim_command(struct sim *sim, char *line, struct atl_error *err);
ATL_MUST_CHECK enum atl_code sim_scenario(struct sim *sim, const char *text, struct atl_error *err);
ATL_MUST_CHECK enum atl_code sim_declare(struct sim *sim, char **words, size_t count, bool *ret_known,
                                         struct atl_error *err);
ATL_MUST_CHECK enum atl_code sim_expect(struct sim *sim, char **words, size_t count, struct atl_error *err);
size_t sim_words(char *line, char **words, size_t room);

/* nemesis.c: faults by chance. 0: all went well. */
void sim_nemesis(struct sim *sim, uint64_t steps, const char *kinds);

/* output.c */
void sim_log(struct sim *sim, const char *node, const char *who, const char *format, ...) ATL_PRINTF(4, 5);
void sim_print_end(struct sim *sim);

#endif
