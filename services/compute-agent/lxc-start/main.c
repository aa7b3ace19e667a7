/*
 * atoll-lxc-start ORDER: starts one container and ends; its monitor lives on.
 *
 * liblxc's monitor is a fork of whoever starts a container, so this is a small program of its own: a monitor
 * then costs 3 MB and holds nothing of the agent's. Volumes are mounted in this process's mount namespace,
 * which the monitor inherits: when the container ends, or its start fails, they are gone without anybody's
 * help.
 *
 * As the worker of a task (`--task`, see common/io/task.h) it does the same for an order in the task's spec:
 * one program less between the call and the container.
 *
 * Writes FOLDER/run ("init PID START\nmonitor PID START\n") and prints the same. Exits 1 with one line on
 * stderr.
 */
#include <errno.h>
#include <fcntl.h>
#include <lxc/lxccontainer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helper/helper.h"
#include "lxc-start/start.h"

struct put_setup {
    const Atoll__Lxc__V1__Setup *setup;
};

static enum atl_code setup_inside(void *user, struct atl_error *err)
{
    const struct put_setup *order = user;
    return ct_setup_apply(order->setup, err);
}

static enum atl_code prepare(const Atoll__Lxc__V1__StartSpec *spec, struct atl_error *err)
{
    enum atl_code code = ct_mounts_isolate(err);
    if (code == ATL_OK)
        code = ct_mounts_make(spec->folder, spec->mount, spec->n_mount, spec->map, err);
    if (code != ATL_OK || spec->setup == NULL)
        return code;
    ATL_FREE_AT_EXIT char *root = atl_format("%s/rootfs", spec->folder);
    struct put_setup order = {.setup = spec->setup};
    return ct_sandbox_run(root, spec->map, -1, setup_inside, &order, err);
}

/* The last line of liblxc's log that says what went wrong, without its time and place. */
static void log_cause(const char *folder, char *text, size_t size)
{
    ATL_FREE_AT_EXIT char *path = atl_format("%s/log", folder);
    size_t length = 0;
    ATL_FREE_AT_EXIT char *log = ct_file_read(path, CT_SPEC_BYTES_MAX, &length);
    text[0] = '\0';
    if (log == NULL)
        return;
    char *rest = log;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        const char *error = strstr(line, "ERROR");
        const char *last = NULL;
        for (const char *dash = error; dash != NULL; dash = strstr(dash + 1, " - "))
            last = dash;
        if (last != NULL && last != error &&
            text[0] == '\0') /* the first: what follows are its consequences */
            (void)atl_copy(text, size, last + 3);
    }
}

static enum atl_code start(const Atoll__Lxc__V1__StartSpec *spec, pid_t *ret_init, struct atl_error *err)
{
    ATL_FREE_AT_EXIT char *log = atl_format("%s/log", spec->folder);
    (void)unlink(log); /* of the last run */
    struct lxc_container *container = lxc_container_new(spec->name, spec->lxc_path);
    if (container == NULL || !container->is_defined(container))
        return atl_fail(err, ATL_E_IO, NULL, "liblxc cannot read the settings below '%s'", spec->lxc_path);
    container->want_daemonize(container, true);
    container->want_close_all_fds(container, true);
    if (!container->start(container, 0, NULL)) {
        char cause[256];
        log_cause(spec->folder, cause, sizeof cause);
        (void)lxc_container_put(container); /* the program ends anyway */
        return atl_fail(err, ATL_E_STATE, NULL, "startup for container '%s' failed%s%s", spec->name,
                        cause[0] != '\0' ? ": " : "", cause);
    }
    *ret_init = container->init_pid(container);
    (void)lxc_container_put(container); /* the monitor has its own */
    if (*ret_init <= 0)
        return atl_fail(err, ATL_E_STATE, NULL, "container '%s' ended as it started", spec->name);
    return ATL_OK;
}

enum atl_code ct_start(const Atoll__Lxc__V1__StartSpec *spec, struct atl_error *err)
{
    pid_t init = 0;
    for (size_t i = 0; i < spec->n_cgroup; i++)
        ct_cgroup_remove(spec->cgroup[i]);
    enum atl_code code = prepare(spec, err);
    if (code == ATL_OK)
        code = start(spec, &init, err);
    if (code == ATL_OK)
        code = ct_run_file(spec->folder, init, err);
    for (size_t i = 0; code == ATL_OK && i < spec->n_link_down; i++)
        ct_link_down(spec->link_down[i]);
    return code;
}

static enum atl_code work(const char *path, struct atl_error *err)
{
    size_t size = 0;
    ATL_FREE_AT_EXIT uint8_t *bytes = ct_file_read(path, CT_SPEC_BYTES_MAX, &size);
    Atoll__Lxc__V1__StartSpec *spec =
        bytes != NULL ? atoll__lxc__v1__start_spec__unpack(NULL, size, bytes) : NULL;
    if (spec == NULL)
        return atl_fail(err, ATL_E_INVALID, NULL, "'%s' is no order to start a container", path);
    enum atl_code code = ct_start(spec, err);
    atoll__lxc__v1__start_spec__free_unpacked(spec, NULL);
    return code;
}

int main(int argc, char **argv)
{
    struct atl_error error = {0};
    (void)umask(022);
    if (atl_task_wanted(argc, argv))
        return atl_task_main(argc, argv, ct_task_types, CT_TASK_TYPES);
    if (argc != 2) {
        (void)fprintf(stderr, "usage: atoll-lxc-start ORDER\n");
        return 2;
    }
    if (work(argv[1], &error) == ATL_OK)
        return 0;
    (void)fprintf(stderr, "%s\n", error.text);
    return 1;
}
