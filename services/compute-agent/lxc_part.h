/* Containers in the agent: who runs, and the methods of atoll.lxc.v1.Lxc. */
#ifndef CMP_LXC_PART_H
#define CMP_LXC_PART_H

#include "atoll/lxc/v1/helper.pb-c.h"
#include "cmp.h"
#include "core/lxc_doc.h"
#include "core/lxc_make.h"
#include "drivers/lxc_driver.h"
#include "facts.h"
#include "left.h"

/* A running container. */
struct lxc_guest {
    uint32_t vmid;
    struct cmp_ct_run run;
    int monitor_fd; /* its process descriptor: readable when the container has ended; -1: there is no process
                     */
    struct atl_watch *watch;
    struct lxc_part *part;
    uint64_t cpu_ns; /* at the last sample */
    atl_ns sampled_at;
    double cpu_cores; /* used between the last two samples, in cores */
};

enum { CMP_LXC_NETS = 32 };

struct lxc_part {
    struct cmp *cmp;
    const struct cmp_lxc_driver *driver;
    struct cmp_lxc_host host;
    struct cmp_facts_table *facts;
    struct lxc_guest **guests; /* those that run, sorted by vmid */
    size_t guest_count;
    size_t guest_room;
    struct lxc_starting *starting; /* with the node: being prepared */
    char start_program[320];
    struct cmp_left *left; /* clean-ups that are tried again */
    bool swept;            /* leftovers of creations and migrations were looked for */
};

/* Looks whether the container runs and remembers it. NULL: it does not. */
struct lxc_guest *lxc_part_look(struct lxc_part *part, uint32_t vmid);
struct lxc_guest *lxc_part_find(const struct lxc_part *part, uint32_t vmid);

/* Use of a running container; also takes a processor sample. nets: as in cmp_facts. */
void lxc_part_use(struct lxc_part *part, struct lxc_guest *guest, uint64_t nets, struct cmp_lxc_use *ret_use);

/* Reads a container's file from the copy of the tree.
 * Errors: ATL_E_ABSENT "Configuration file 'nodes/pve/lxc/101.conf' does not exist". */
ATL_MUST_CHECK enum atl_code lxc_part_doc(const struct lxc_part *part, uint32_t vmid, struct atl_arena *arena,
                                          struct cmp_lxc_doc *ret_doc, struct atl_error *err);

/* Processors it may use. */
double lxc_part_cpus(const struct lxc_part *part, const struct cmp_facts *facts);

/* "running" or "stopped" as clients know it; a frozen container runs. */
const char *lxc_part_state(const struct lxc_part *part, uint32_t vmid);

/* The methods. */
void lxc_list(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_get_config(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_get_pending(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_get_status(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_get_interfaces(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_create(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_delete(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_update_config(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_start(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_stop(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_shutdown(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_reboot(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_suspend(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_resume(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_resize(struct atl_request *request, const ProtobufCMessage *input, void *user);

/* Starts a task of this part for the request and answers with its id. */
void lxc_task(struct lxc_part *part, struct atl_request *request, const char *type,
              const Atoll__Lxc__V1__TaskSpec *spec);

/* Prepares a start and begins its task; the request is answered. The container is there and free. */
void lxc_begin(struct lxc_part *part, struct atl_request *request, const struct cmp_lxc_doc *doc,
               uint32_t vmid);
/* The same with the node, as root@pam. */
void lxc_begin_own(struct lxc_part *part, uint32_t vmid);
/* Is one that the agent itself begins being prepared? */
bool lxc_begins(const struct lxc_part *part, uint32_t vmid);
void lxc_begin_close(struct lxc_part *part);

/* Containers that move (lxc_moving.c): a task of one has changed; one that is found locked at the agent's
 * start. */
void lxc_moving_serve(struct lxc_part *part);
void lxc_moving_changed(struct lxc_part *part, const struct atl_task_info *info, uint32_t vmid);
void lxc_moving_sweep(struct lxc_part *part, uint32_t vmid);
/* Those that have no file here any more. */
void lxc_moving_sweep_rest(struct lxc_part *part);
void lxc_migrate(struct atl_request *request, const ProtobufCMessage *input, void *user);
void lxc_migrate_precondition(struct atl_request *request, const ProtobufCMessage *input, void *user);

/* May the caller put this configuration in place? Root-only settings, storages, bridges.
 * Errors: ATL_E_DENIED; ATL_E_INVALID no volume; ATL_E_UNIMPLEMENTED. */
ATL_MUST_CHECK enum atl_code lxc_may_set(struct lxc_part *part, struct atl_request *request, uint32_t vmid,
                                         const Atoll__Lxc__V1__Config *config, bool unprivileged,
                                         struct atl_error *err);
ATL_MUST_CHECK enum atl_code lxc_may_volume(struct lxc_part *part, struct atl_request *request, uint32_t vmid,
                                            const char *field, const char *volume, struct atl_error *err);

/* Is every bridge there that a start would join? Errors: ATL_E_STATE, names interface and bridge. */
ATL_MUST_CHECK enum atl_code lxc_bridges_there(const Atoll__Lxc__V1__Config *config, struct atl_error *err);

/* Facts that are good enough to check a configuration by; nothing is chosen by load. */
struct cmp_lxc_facts lxc_part_facts(const struct lxc_part *part, uint32_t vmid, struct atl_arena *arena);

/* Random bytes for MAC addresses, and their prefix (NULL: the usual one). */
ATL_MUST_CHECK bool lxc_part_random(uint8_t random[CMP_LXC_RANDOM]);
const char *lxc_part_mac_prefix(const struct lxc_part *part, struct atl_arena *arena);

#endif
