/* A real config-store in folders of its own, and clients of it: for component tests, crash tests, benchmarks.
 */
#ifndef CFG_FIXTURE_H
#define CFG_FIXTURE_H

#include <sys/types.h>

#include "io/bus.h"
#include "io/loop.h"
#include "pure/arena.h"

enum { CFG_FIXTURE_OPTIONS = 11 };

struct cfg_fixture {
    char dir[64];                            /* with run/ and state/ */
    pid_t pid;                               /* 0: not running */
    const char *engine[CFG_FIXTURE_OPTIONS]; /* options that say which engine; NULL behind them; borrowed */
    const char *node;                        /* its name; borrowed */
    struct atl_loop *loop;
    struct atl_bus *cli;
    struct atl_bus *gateway;
    struct atl_bus *compute;
    struct atl_bus *storage;
    struct atl_arena arena; /* of replies; reset as the test likes */
};

/* Makes the folders and the clients; the service is not started. */
void cfg_fixture_init(struct cfg_fixture *fixture);
/* One of several nodes. */
void cfg_fixture_init_node(struct cfg_fixture *fixture, const char *node);
/* Starts it and waits until it answers; aborts after 20 s. */
void cfg_fixture_start(struct cfg_fixture *fixture);
/* Sends the signal (SIGTERM, SIGKILL) and waits for its end; returns the wait status. */
int cfg_fixture_stop(struct cfg_fixture *fixture, int signal);
/* Stops it, if it runs, and removes the folders. */
void cfg_fixture_done(struct cfg_fixture *fixture);

/* One call; assertion may be NULL. The output lives in the fixture's arena. */
ATL_MUST_CHECK enum atl_code cfg_fixture_call(struct cfg_fixture *fixture, struct atl_bus *from,
                                              const struct atl_rpc *rpc, const void *input,
                                              const struct atl_call_options *options, const void **ret_output,
                                              struct atl_error *err);

#endif
