/*
 * The shell of sdn-agent: looks at the host, asks the core for a plan, runs its steps, and answers requests.
 *
 * It looks again every two seconds, and soon after the kernel, the interfaces file or a guest's configuration
 * changed. A plan holds only what is missing, so a restart of the agent changes nothing.
 */
#ifndef SDN_SDN_H
#define SDN_SDN_H

#include "dhcp.h"
#include "drivers/driver.h"
#include "io/cluster.h"
#include "io/guard.h"
#include "io/mirror.h"
#include "io/service.h"
#include "record.h"

struct sdn_options {
    const char *interfaces; /* the host's file; default /etc/network/interfaces */
};

struct sdn {
    const struct sdn_options *options;
    struct atl_program *program;
    const char *node;
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_mirror *mirror; /* nodes/NODE/, user.cfg, .state/key/ */
    struct atl_keeper *keeper;
    struct atl_cluster *cluster;
    const struct sdn_driver *driver;
    void *host; /* of the driver */
    struct sdn_record record;
    struct sdn_dhcp *dhcp;
    char *state_folder; /* STATE/sdn-agent */
    struct sdn_dhcp_paths paths;
    struct atl_watch *events;
    struct atl_timer *period;
    struct atl_timer *soon;
    struct sdn_lone lone;
    uint64_t problems_seen; /* hash of the problems that were logged last */
    uint64_t failure_seen;  /* the same of the last step that failed */
};

/* Reads the interfaces file and those it names into `file`; a file that is missing is empty. Errors:
 * ATL_E_LIMIT, ATL_E_INVALID, ATL_E_IO. */
ATL_MUST_CHECK enum atl_code sdn_read_interfaces(const char *path, struct atl_arena *arena,
                                                 struct sdn_file *file, struct atl_error *err);

/* One look and the steps that follow from it. */
void sdn_look(struct sdn *sdn);

/* rpc.c */
void sdn_serve(struct sdn *sdn);

enum atl_code sdn_start(struct atl_program *program, const struct sdn_options *options, void **ret_self,
                        struct atl_error *err);
void sdn_stop(void *self);

/* Takes down all that an agent with these folders made; returns the exit code of the program. */
int sdn_teardown(const char *run_dir, const char *state_dir);

#endif
