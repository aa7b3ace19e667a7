/* What the files of the running part know of each other. */
#ifndef CFG_CLUSTER_INTERNAL_H
#define CFG_CLUSTER_INTERNAL_H

#include "atoll/cluster/v1/config.atl.h"
#include "atoll/cluster/v1/work.pb-c.h"
#include "cluster/cluster.h"
#include "cluster/crash.h"
#include "cluster/secrets.h"
#include "etcd/etcd.h"
#include "io/process.h"
#include "io/task.h"

#define CFG_JOIN_FOLDER    ".state/join/"    /* tokens */
#define CFG_JOINING_FOLDER ".state/joining/" /* nodes whose etcd is a learner */
#define CFG_JOIN_DEADLINE  60                /* seconds until a learner is taken out again */

#define CFG_WITNESS_FILE   ".state/witness"
#define CFG_TOKEN_LIFETIME 900 /* seconds */
#define CFG_ROTATION       ".state/rotation"
#define CFG_ROTATED_FOLDER ".state/rotated/"

/* One question to another node for the secrets that all share. */
struct cfg_asking {
    struct atl_call *call; /* NULL: none is on its way */
    /* error, secrets: borrowed; secrets: with ATL_OK, empty but for their generation when there are no newer
     */
    void (*fn)(enum atl_code code, const struct atl_error *error, const struct cfg_secrets *secrets,
               void *user);
    void *user;
};

struct cfg_rotate; /* rotate.c */
struct cfg_voter;  /* voter.c */
struct cfg_report; /* report.c */

struct cfg_cluster {
    struct cfg *cfg;
    struct cfg_place place;
    struct cfg_cluster_conf conf;
    char user[64]; /* ours; corosync lets it ask */
    struct atl_tasks *tasks;
    struct cfg_report *report;
    struct atl_members *members; /* NULL: alone */
    struct atl_grpc *channel;    /* to etcd, for its members; NULL: alone */
    struct atl_timer *tick;
    struct atl_etcd_call *call; /* of the tick */
    struct atl_arena arena;     /* of the tick's call */
    struct atl_process *reload; /* of corosync */
    bool reload_again;
    struct cfg_rotate *rotate;
    struct cfg_voter *voter;
    enum cfg_slot_wish qdevice;      /* what was last wanted of it; CFG_SLOT_DOWN: nothing yet */
    struct atl_etcd_call *retiring;  /* of a witness */
    bool forgetting;                 /* the transaction after that */
    struct atl_arena retiring_arena; /* of one that nobody asked for */
    bool left;                       /* removed: config-store is to begin anew, alone */
    struct atl_request *leaving;     /* whoever wants that; NULL: nobody */
    struct atl_timer *ending;
    struct atl_process *expected; /* tells corosync how many votes to expect, for `expecting` */
    struct atl_request *expecting;
};

/* corosync.conf of the tree. Errors: ATL_E_STATE the node is alone; ATL_E_INVALID. */
ATL_MUST_CHECK enum atl_code cfg_cluster_conf(const struct cfg_cluster *cluster, struct atl_arena *arena,
                                              struct cfg_corosync *ret_conf, struct atl_error *err);
/* The operation that puts it into the tree. */
struct cfg_op cfg_cluster_conf_op(const struct cfg_corosync *conf, struct atl_arena *arena);
/* Compares that hold while the file is as it is in the tree now. */
struct cfg_compare cfg_cluster_unchanged(const struct cfg_cluster *cluster, const char *path);

/* admit.c: a node asks for admission. */
atl_handler_fn cfg_handle_add_node;
atl_handler_fn cfg_handle_admit_node;
atl_handler_fn cfg_handle_make_join_token;
/* token.c: what shows that one may come in. */
struct cfg_token {
    const char *name;
    const char *path;                      /* in the tree */
    Atoll__Cluster__V1__JoinToken *record; /* NULL: there is no such token */
};
struct cfg_token cfg_token_find(const struct cfg_cluster *cluster, struct atl_arena *arena, const char *name);
/* What a token is for: none of use for one is of use for another. */
enum cfg_token_kind { CFG_TOKEN_NODE, CFG_TOKEN_WITNESS, CFG_TOKEN_ASSOCIATE };
struct cfg_token_shown {
    const char *secret;
    const char *node; /* who shows it */
    enum cfg_token_kind kind;
};
/* Errors: ATL_E_DENIED. */
ATL_MUST_CHECK enum atl_code cfg_token_check(const struct cfg_cluster *cluster, struct atl_arena *arena,
                                             const struct cfg_token_shown *shown, struct cfg_token *ret_token,
                                             struct atl_error *err);
struct cfg_token_wish {  /* texts live with the request */
    const char *address; /* of the gateway that admits, ADDRESS:PORT; NULL: found out */
    uint32_t lifetime_s;
    enum cfg_token_kind kind;
    const char *whom; /* address of the witness, name of the associate; NULL: any node */
};
/* Makes one and answers the request with it. */
void cfg_token_make(struct cfg *cfg, struct atl_request *request, const struct cfg_token_wish *wish);
/* Of the gateway of a node; borrowed. NULL: not known. */
const char *cfg_fingerprint_of(struct cfg *cfg, const char *node);
/* associate.c */
atl_handler_fn cfg_handle_list_associates;
atl_handler_fn cfg_handle_add_associate;
atl_handler_fn cfg_handle_admit_associate;
atl_handler_fn cfg_handle_remove_associate;
/* Is that the name of an associate? */
bool cfg_is_associate(const struct cfg_cluster *cluster, const char *name);
/* witness.c */
atl_handler_fn cfg_handle_get_qdevice;
atl_handler_fn cfg_handle_add_witness;
atl_handler_fn cfg_handle_remove_witness;
atl_handler_fn cfg_handle_sync_witness;
atl_handler_fn cfg_handle_admit_witness; /* admit.c */
/* Errors: ATL_E_INVALID "address"; ATL_E_STATE it is of no use; ATL_E_EXISTS there is another one. */
ATL_MUST_CHECK enum atl_code cfg_witness_may_come(const struct cfg_corosync *conf, const char *address,
                                                  struct atl_error *err);
/* NULL: there is none. */
Atoll__Cluster__V1__Witness *cfg_witness_read(const struct cfg_cluster *cluster, struct atl_arena *arena);
/* Where nodes are asked, as texts "ADDRESS:PORT/FINGERPRINT" in the arena; how many. */
size_t cfg_witness_gateways(struct cfg *cfg, const struct cfg_corosync *conf, struct atl_arena *arena,
                            char ***ret_gateways);
/* A witness that is of no use any more goes. */
void cfg_witness_tick(struct cfg_cluster *cluster);
/* remove.c */
atl_handler_fn cfg_handle_remove_node;
atl_handler_fn cfg_handle_take_out;
/* report.c: our tasks in /cluster/tasks of all nodes. */
struct cfg_report *cfg_report_new(struct cfg *cfg);
void cfg_report_free(struct cfg_report **report);
void cfg_report_task(struct cfg_report *report, const struct atl_task_info *info);
/* expected.c */
atl_handler_fn cfg_handle_expected;
/* leave.c */
atl_handler_fn cfg_handle_leave;
/* The node is alone from now on; config-store begins anew. why: "... cluster", its name follows. */
void cfg_cluster_leave(struct cfg_cluster *cluster, const char *why);
/* peers.c */
void cfg_serve_peers(struct cfg *cfg);
struct cfg_asked {
    const char *node;
    uint64_t generation; /* 0: those that are used there */
    bool newer;          /* only if they are newer than ours */
};
/* asking->fn is called once. Errors: ATL_E_IO our key. */
ATL_MUST_CHECK enum atl_code cfg_ask_secrets(struct cfg_asking *asking, struct cfg_cluster *cluster,
                                             const struct cfg_asked *asked, struct atl_error *err);

/* rotate.c: replaces the secrets that all share; renews certificates. */
struct cfg_rotate *cfg_rotate_new(struct cfg_cluster *cluster);
void cfg_rotate_free(struct cfg_rotate **rotate);
void cfg_rotate_tick(struct cfg_rotate *rotate, bool writable);
/* How far the cluster is; texts in the arena. */
void cfg_rotation_read(const struct cfg_cluster *cluster, struct atl_arena *arena,
                       struct cfg_rotation *ret_rotation);
/* The same, and who has done what of it; false: nobody knows who is a member. */
bool cfg_rotation_view_read(const struct cfg_cluster *cluster, struct atl_arena *arena,
                            struct cfg_rotation_view *view);
/* The witness has shown that it lives. */
void cfg_rotation_saw_witness(struct cfg_cluster *cluster);
/* The operation that begins another generation, made by this node. */
struct cfg_op cfg_rotation_begin_op(const struct cfg_cluster *cluster, struct atl_arena *arena);
/* voter.c: our etcd becomes a member when our vote came later than we. */
struct cfg_voter *cfg_voter_new(struct cfg_cluster *cluster);
void cfg_voter_free(struct cfg_voter **voter);
void cfg_voter_tick(struct cfg_voter *voter);
/* admit.c: "n1=https://...,n2=...", with the new one's name, which etcd does not know yet. */
void cfg_members_text(const Etcd__MemberAddResponse *added, const char *node, struct atl_buf *out);
/* Runs corosync's reload, now or after the one that runs. */
void cfg_cluster_reload(struct cfg_cluster *cluster);

/* joining.c: promotes learners, or takes them out again. */
void cfg_joining_tick(struct cfg_cluster *cluster);

/* The address of each link, in the arena; errors name the link. */
ATL_MUST_CHECK enum atl_code cfg_links_read(Atoll__Cluster__V1__LinkSlot *const *slots, size_t count,
                                            const char *ret_links[CFG_LINKS_MAX], struct atl_error *err);
/* Packs a message into the arena as an operation on a file. */
struct cfg_op cfg_put_message(struct atl_arena *arena, const char *path, const ProtobufCMessage *message);

#endif
