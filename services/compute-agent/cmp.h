/*
 * The shell of compute-agent: what its parts (virtual machines, containers, the node itself) share.
 *
 * A part is one const table. main.c opens the shared things, then each part; a part serves its own methods
 * with atl_bus_serve() in open(). All functions run in the loop's thread, except task workers, which are
 * processes of their own (the same program, started by common/io/task.h) and never touch struct cmp.
 */
#ifndef CMP_H
#define CMP_H

#include "atoll/store/v1/status.pb-c.h"
#include "atoll/task/v1/common.pb-c.h"
#include "io/bus.h"
#include "io/cluster.h"
#include "io/guard.h"
#include "io/mirror.h"
#include "io/service.h"
#include "io/task.h"

struct cmp_options {
    const char *node;
    const char *run_dir;     /* "/run/atoll" */
    const char *state_dir;   /* "/var/lib/atoll" */
    const char *driver;      /* engine of virtual machines: "libvirt" or "fake" */
    const char *libvirt_uri; /* "qemu:///system" */
    const char *accel;       /* "auto", "kvm", "tcg" */
    const char *qemu_user;   /* who QEMU runs as: owns the folders of its sockets */
    const char *lxc_path;    /* folder of liblxc's own files; NULL: below state_dir */
    uint32_t fake_guests;    /* guests the fake driver makes up at start */
    uint32_t fake_first;     /* the id of the first of them */
    const char *lxc_driver;  /* engine of containers: "lxc" or "fake" */
    uint32_t fake_containers;
};

struct cmp_part;

enum { CMP_PARTS_MAX = 4 };

struct cmp {
    struct cmp_options options;
    struct atl_program *program;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_mirror *mirror; /* user.cfg, storage.cfg, datacenter.cfg, nodes/NODE/, .state/key/ */
    struct atl_keeper *keeper;
    struct atl_cluster *cluster;
    struct atl_tasks *tasks; /* the spool; see common/io/task.h */
    const struct cmp_part *parts[CMP_PARTS_MAX];
    void *selves[CMP_PARTS_MAX];
    size_t part_count;
    struct atl_task_reader *reader;
    struct cmp_push *push;
    struct cmp_boot *boot;
};

/*
 * Starts a task for the user of a request and answers the request with its id (or the error). For methods
 * that answer atoll.task.v1.TaskRef.
 */
void cmp_task_reply(struct cmp *cmp, struct atl_request *request, const char *type, const char *id,
                    const ProtobufCMessage *spec);

/* The same without the answer, for methods that do more with the task. */
ATL_MUST_CHECK enum atl_code cmp_task_begin(struct cmp *cmp, struct atl_request *request, const char *type,
                                            const char *id, const ProtobufCMessage *spec,
                                            char ret_upid[ATL_UPID_MAX], struct atl_error *err);

/* The same for work nobody asked for by a request (onboot), as root@pam; ret_upid may be NULL. */
ATL_MUST_CHECK enum atl_code cmp_task_own(struct cmp *cmp, const char *type, const char *id,
                                          const ProtobufCMessage *spec, char ret_upid[ATL_UPID_MAX],
                                          struct atl_error *err);

/* The newest task of this type for the guest; false: there is none. */
bool cmp_task_newest(const struct cmp *cmp, const char *type, uint32_t vmid, struct atl_task_info *ret_info);

/* The specification of a task, in the arena; NULL: it left none that can be read. */
const ProtobufCMessage *cmp_task_spec(const struct cmp *cmp, const char *upid, const struct atl_message *type,
                                      struct atl_arena *arena);

/* root@pam himself, or a service that acts on its own; a token of root is neither. */
bool cmp_is_root(const struct atl_request *request);
/* May the caller connect a guest to this bridge (with this VLAN; 0: none)? Errors: ATL_E_DENIED. */
ATL_MUST_CHECK enum atl_code cmp_need_bridge(struct cmp *cmp, struct atl_request *request, const char *bridge,
                                             int64_t tag, struct atl_error *err);
/* May the caller make a guest in this pool (NULL: in none)? Errors: ATL_E_DENIED. */
ATL_MUST_CHECK enum atl_code cmp_need_pool(struct cmp *cmp, struct atl_request *request, const char *pool,
                                           struct atl_error *err);

/* What datacenter.cfg says (`name: value`), in the arena; NULL: nothing. */
const char *cmp_datacenter(const struct cmp *cmp, const char *name, struct atl_arena *arena);
/* All of it, borrowed until the mirror moves, or NULL. */
const char *cmp_datacenter_text(const struct cmp *cmp);

/* What a part adds to one push of the status view. Messages and texts live in the arena. */
struct cmp_status {
    struct atl_arena *arena;
    Atoll__Store__V1__GuestStatus **guests; /* of this part; sorted by vmid */
    size_t guest_count;
    Atoll__Store__V1__NodeStatus *node; /* the part that knows it sets it; else NULL */
};

/* A guest that starts with the node. */
struct cmp_boot_guest {
    uint32_t vmid;
    char startup[128]; /* "order=1,up=30", or empty */
    bool running;
};

struct cmp_part {
    const char *name; /* "qemu", "lxc", "node" */
    /* Serves the methods and begins to watch. The mirror may still be empty. */
    enum atl_code (*open)(struct cmp *cmp, void **ret_self, struct atl_error *err);
    void (*close)(void *self);
    /* Called every few seconds; must not block. NULL: nothing to tell. */
    void (*status)(void *self, struct cmp_status *status);
    /* Guests with `onboot`, after the first copy of the tree is complete and the engine has told what runs;
     * returns how many were written. false in *ret_known: not known yet, ask again. NULL: none. */
    size_t (*boot_guests)(void *self, struct cmp_boot_guest *guests, size_t room, bool *ret_known);
    /* Starts a task that starts the guest, as root@pam. */
    void (*boot_start)(void *self, uint32_t vmid);
    /* What task workers of this part run, by task type ("qmstart"); see common/io/task.h. A worker knows
     * nothing of struct cmp: what it needs of the options is in its spec. */
    const struct atl_task_type *tasks;
    size_t task_count;
    /* A task of this agent (of any part) has started or ended, or was found ended at the agent's start; NULL:
     * not wanted. The place to put right what a killed worker left. */
    void (*task_changed)(void *self, const struct atl_task_info *info);
    /* The program that runs tasks of this type of the part, or NULL: this one. NULL: always this one. */
    const char *(*program)(const char *type, void *self);
};

extern const struct cmp_part cmp_qemu_part;
extern const struct cmp_part cmp_ha_part; /* ha.c */
#ifdef CMP_HAVE_LXC
extern const struct cmp_part cmp_lxc_part; /* lxc.c */
#endif
#ifdef CMP_HAVE_NODE
extern const struct cmp_part cmp_node_part; /* node.c */
#endif

/* Opens everything; *ret_cmp may be half open on failure, for cmp_close(). */
ATL_MUST_CHECK enum atl_code cmp_open(struct atl_program *program, const struct cmp_options *options,
                                      struct cmp **ret_cmp, struct atl_error *err);
void cmp_close(struct cmp **cmp);
/* The task types of all parts, in one static table. */
const struct atl_task_type *cmp_task_types(size_t *ret_count);

/* The text of a guest's configuration in the mirror, or NULL. type: "qemu-server" or "lxc". */
const struct atl_file *cmp_config_file(const struct cmp *cmp, const char *type, uint32_t vmid);

#endif
