/* The frame of every service's program. */
#include "io/service.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/directory.h"
#include "io/log.h"
#include "pure/number.h"

enum { OPTIONS_MAX = 32, EXIT_USAGE = 2 };

/* A program that is being run: what outlives its parts. */
struct running {
    const struct atl_program_spec *spec;
    struct atl_program program;
    char host[65];
    enum atl_level level;
    char *ready_path;
    int ready_fd;
    struct atl_timer *watchdog; /* NULL: nobody watches */
    void *self;
};

const char *atl_version(void)
{
    return ATL_VERSION;
}

void atl_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || path[0] == '\0' || !atl_copy(address.sun_path, sizeof address.sun_path, path))
        return;
    size_t length = offsetof(struct sockaddr_un, sun_path) + strlen(path);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* an abstract socket */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                 (socklen_t)length);
    (void)close(fd);
}

/* --- options --- */

static void print_help(const struct atl_program_spec *spec)
{
    (void)printf("atoll-%s: %s\n\nusage: atoll-%s [OPTION]...\n\n", spec->name, spec->summary, spec->name);
    (void)printf("  %-26s %s\n", "--run-dir DIR", "sockets of the node (default /run/atoll)");
    (void)printf("  %-26s %s\n", "--state-dir DIR", "what outlives a restart (default /var/lib/atoll)");
    (void)printf("  %-26s %s\n", "--node NAME", "name of this node (default: of the host)");
    (void)printf("  %-26s %s\n", "--log-level LEVEL", "error, warning, notice, info or debug (default info)");
    for (size_t i = 0; i < spec->option_count; i++) {
        const struct atl_program_option *option = &spec->options[i];
        char left[64];
        (void)snprintf(left, sizeof left, "--%s%s%s", option->name, option->value != NULL ? " " : "",
                       option->value != NULL ? option->value : "");
        (void)printf("  %-26s %s\n", left, option->help);
    }
    (void)printf("  %-26s %s\n", "--help", "this text");
    (void)printf("  %-26s %s\n", "--version", "the version");
}

enum fixed { RUN_DIR, STATE_DIR, NODE, LOG_LEVEL, HELP, VERSION, FIXED_OPTIONS };

static int take_fixed(struct running *running, int which, const char *value)
{
    struct atl_program *program = &running->program;
    if (which == RUN_DIR)
        program->run_dir = value;
    else if (which == STATE_DIR)
        program->state_dir = value;
    else if (which == NODE)
        program->node = value;
    else if (which == LOG_LEVEL && !atl_level_from_text(value, &running->level)) {
        (void)fprintf(stderr, "atoll-%s: --log-level: '%s' is none of error, warning, notice, info, debug\n",
                      running->spec->name, value);
        return EXIT_USAGE;
    } else if (which == HELP) {
        print_help(running->spec);
        return 0;
    } else if (which == VERSION) {
        (void)printf("atoll-%s %s\n", running->spec->name, atl_version());
        return 0;
    }
    return -1;
}

/* Answers an exit code, or -1 to go on. */
static int parse(struct running *running, int argc, char **argv)
{
    const struct atl_program_spec *spec = running->spec;
    struct option options[OPTIONS_MAX + FIXED_OPTIONS + 1] = {
        [RUN_DIR] = {"run-dir", required_argument, NULL, RUN_DIR},
        [STATE_DIR] = {"state-dir", required_argument, NULL, STATE_DIR},
        [NODE] = {"node", required_argument, NULL, NODE},
        [LOG_LEVEL] = {"log-level", required_argument, NULL, LOG_LEVEL},
        [HELP] = {"help", no_argument, NULL, HELP},
        [VERSION] = {"version", no_argument, NULL, VERSION},
    };
    atl_assert(spec->option_count <= OPTIONS_MAX);
    for (size_t i = 0; i < spec->option_count; i++)
        options[FIXED_OPTIONS + i] = (struct option){.name = spec->options[i].name,
                                                     .has_arg = spec->options[i].value != NULL,
                                                     .val = (int)(FIXED_OPTIONS + i)};
    optind = 1;
    for (;;) {
        int found = getopt_long(argc, argv, "", options, NULL);
        if (found == -1)
            break;
        if (found == '?')
            return EXIT_USAGE; /* getopt has said what is wrong */
        if (found < FIXED_OPTIONS) {
            int rc = take_fixed(running, found, optarg);
            if (rc >= 0)
                return rc;
        } else if (spec->options[found - FIXED_OPTIONS].value != NULL) {
            *spec->options[found - FIXED_OPTIONS].ret_text = optarg;
        } else {
            *spec->options[found - FIXED_OPTIONS].ret_on = true;
        }
    }
    if (optind == argc)
        return -1;
    (void)fprintf(stderr, "atoll-%s: '%s' is no option; see --help\n", spec->name, argv[optind]);
    return EXIT_USAGE;
}

/* --- the file that says who runs --- */

static enum atl_code lock_ready(struct running *running, struct atl_error *err)
{
    const struct atl_program *program = &running->program;
    running->ready_path = atl_format("%s/%s.ready", program->run_dir, program->name);
    running->ready_fd = open(running->ready_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (running->ready_fd < 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot make '%s': %s", running->ready_path,
                        strerror(errno));
    if (flock(running->ready_fd, LOCK_EX | LOCK_NB) != 0)
        return atl_fail(err, ATL_E_STATE, NULL, "atoll-%s already runs with --run-dir %s", program->name,
                        program->run_dir);
    if (ftruncate(running->ready_fd, 0) != 0)
        return atl_fail(err, ATL_E_IO, "run-dir", "cannot empty '%s': %s", running->ready_path,
                        strerror(errno));
    return ATL_OK;
}

static void say_ready(struct running *running)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (pwrite(running->ready_fd, text, (size_t)length, 0) != length)
        atl_log(ATL_WARNING, "ready-not-written", "cannot write %s: %s", running->ready_path,
                strerror(errno));
    atl_notify("READY=1");
    atl_log(ATL_INFO, "service-ready", "%s %s is ready", running->program.name, atl_version());
}

/* A loop that does not come round for half of systemd's patience is told of by its silence. */
static void beat(void *user)
{
    (void)user;
    atl_notify("WATCHDOG=1");
}

static void start_watchdog(struct running *running)
{
    const char *text = getenv("WATCHDOG_USEC");
    uint64_t patience = 0;
    if (text != NULL && atl_uint_from_text(text, &patience) && patience > 0 && patience < INT64_MAX / ATL_US)
        running->watchdog =
            atl_loop_timer(running->program.loop, 0, (atl_ns)patience * ATL_US / 2, beat, NULL);
}

/* Emptied, not removed: the folder may belong to root, and a file removed here could be the next instance's.
 */
static void drop_ready(struct running *running)
{
    if (running->ready_fd >= 0) {
        if (ftruncate(running->ready_fd, 0) != 0)
            atl_log(ATL_WARNING, "ready-not-emptied", "cannot empty %s: %s", running->ready_path,
                    strerror(errno));
        (void)close(running->ready_fd);
    }
    free(running->ready_path);
}

/* --- the run --- */

static enum atl_code run(struct running *running, struct atl_error *err)
{
    struct atl_program *program = &running->program;
    enum atl_code code = lock_ready(running, err);
    if (code != ATL_OK) {
        if (running->ready_fd >= 0)
            (void)close(running->ready_fd); /* the other instance's: not to be emptied */
        running->ready_fd = -1;
        return code;
    }
    const struct atl_bus_options options = {.loop = program->loop,
                                            .service = program->name,
                                            .node = program->node,
                                            .run_dir = program->run_dir,
                                            .version = atl_version()};
    code = atl_bus_open(&options, &program->bus, err);
    if (code != ATL_OK)
        return code;
    program->directory = atl_directory_new();
    atl_bus_set_starting(program->bus, true);
    code = running->spec->start(program, &running->self, err);
    atl_bus_set_starting(program->bus, false);
    if (code == ATL_OK) {
        say_ready(running);
        start_watchdog(running);
        atl_loop_run(program->loop);
        atl_timer_free(running->watchdog);
        atl_notify("STOPPING=1");
        atl_log(ATL_INFO, "service-stopped", "%s stops", program->name);
    }
    if (running->spec->stop != NULL)
        running->spec->stop(running->self);
    atl_bus_close(&program->bus);
    atl_directory_free(&program->directory);
    return code;
}

int atl_program_main(const struct atl_program_spec *spec, int argc, char **argv)
{
    atl_assert(spec->name != NULL && spec->start != NULL);
    if (atl_task_wanted(argc, argv))
        return atl_task_main(argc, argv, spec->tasks, spec->task_count);
    struct running running = {
        .spec = spec,
        .ready_fd = -1,
        .program = {.name = spec->name, .run_dir = "/run/atoll", .state_dir = "/var/lib/atoll"}};
    int rc = parse(&running, argc, argv);
    if (rc >= 0)
        return rc;
    if (running.program.node == NULL) {
        if (gethostname(running.host, sizeof running.host - 1) != 0)
            (void)atl_copy(running.host, sizeof running.host, "localhost");
        running.host[strcspn(running.host, ".")] = '\0';
        running.program.node = running.host;
    }
    ATL_FREE_AT_EXIT char *identifier = atl_format("atoll-%s", spec->name);
    atl_log_open(&(const struct atl_log_options){
        .identifier = identifier, .node = running.program.node, .level = running.level});
    running.program.loop = atl_loop_new();
    atl_loop_handle_signals(running.program.loop);
    struct atl_error err = {0};
    enum atl_code code = run(&running, &err);
    if (code != ATL_OK)
        atl_log(ATL_ERROR, "service-failed", "%s cannot start: %s", spec->name, err.text);
    drop_ready(&running);
    atl_loop_free(running.program.loop);
    atl_log_close();
    return code == ATL_OK ? 0 : 1;
}
