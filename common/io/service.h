/*
 * What main.c of every service stands on: options, log, loop, signals, bus, readiness, task workers.
 *
 *     int main(int argc, char **argv)
 *     {
 *         return atl_program_main(&(const struct atl_program_spec){
 *             .name = "sdn-agent", .summary = "networks of a node", .start = start, .stop = stop}, argc,
 * argv);
 *     }
 *
 * Rights are dropped by the launcher, before. The program is ready when `start` has returned: then systemd is
 * told (NOTIFY_SOCKET) and RUN/SERVICE.ready holds its pid. That file is locked for as long as the program
 * lives, so a second instance is refused.
 */
#ifndef ATL_IO_SERVICE_H
#define ATL_IO_SERVICE_H

#include "io/bus.h"
#include "io/loop.h"
#include "io/task.h"

/* One more option of the program: --name VALUE, or --name alone when value is NULL. */
struct atl_program_option {
    const char *name;
    const char *value; /* what stands for the value in --help ("ADDRESS:PORT"), or NULL: a switch */
    const char *help;
    const char **ret_text; /* of an option with a value; holds its default before */
    bool *ret_on;          /* of a switch */
};

struct atl_program {
    const char *name;      /* "compute-agent" */
    const char *node;      /* --node; default: the host's name up to its first dot */
    const char *run_dir;   /* --run-dir; default /run/atoll */
    const char *state_dir; /* --state-dir; default /var/lib/atoll */
    struct atl_loop *loop;
    struct atl_bus *bus;
    struct atl_directory
        *directory; /* of the cluster's nodes; empty until somebody feeds it (io/cluster.h) */
};

struct atl_program_spec {
    const char *name;
    const char *summary; /* first line of --help */
    const struct atl_program_option *options;
    size_t option_count;
    const struct atl_task_type *tasks; /* what `--task` may run; or NULL */
    size_t task_count;
    /* Builds the parts. Parts that are slow to come up go on in the loop. */
    enum atl_code (*start)(struct atl_program *program, void **ret_self, struct atl_error *err);
    void (*stop)(void *self); /* frees them; the bus is still open; also called with NULL */
};

/* Runs the whole program; returns its exit code: 0 after SIGTERM or SIGINT, 1 when it could not start, 2 for
 * wrong options. */
int atl_program_main(const struct atl_program_spec *spec, int argc, char **argv);

/* The version of Atoll, "0.1.0". */
const char *atl_version(void);

/* Tells systemd a state ("READY=1", "STOPPING=1", "STATUS=..."); nothing happens without NOTIFY_SOCKET. */
void atl_notify(const char *state);

#endif
