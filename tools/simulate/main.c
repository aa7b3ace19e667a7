/* atoll-simulate: the cores of high availability in a simulated cluster. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "replay.h"
#include "sim.h"

static const char usage[] =
    "usage: atoll-simulate [--json] [--quiet] [--save FOLDER] SCENARIO...\n"
    "       atoll-simulate --seed SEED [--steps N] [--nemesis all|KIND,...]\n"
    "       atoll-simulate --batch FIRST COUNT [--steps N] [--nemesis all|KIND,...]\n"
    "       atoll-simulate --replay VIEW\n"
    "       atoll-simulate --from VIEW --fail NODE [--seconds N]\n"
    "\n"
    "Runs the manager and the local agents of high availability, the real ones, in a simulated cluster.\n"
    "\n"
    "  SCENARIO         a file (or - for standard input) with nodes, resources, what happens and what is "
    "expected\n"
    "  --json           the log and where everything is at the end, as one JSON object\n"
    "  --quiet          no log\n"
    "  --save FOLDER    keep the last view of each manager there, for --replay\n"
    "  --seed SEED      a cluster and faults by chance; with the same seed the same\n"
    "  --batch F COUNT  seeds F, F+1, ...; fails if none of them fenced, recovered, changed managers or was "
    "cut\n"
    "  --steps N        delivered events and faults of such a run (10000)\n"
    "  --nemesis KINDS  which faults: power network link partition pause kill service down disk etcd guest "
    "wish\n"
    "                   maintenance arm\n"
    "  --replay VIEW    the plan that a core makes of a view that its service has saved\n"
    "  --from VIEW      the cluster as its manager saw it; --fail NODE cuts that node's power and tells what "
    "happens\n"
    "  --seconds N      for so long (60)\n"
    "\n"
    "A run that breaks an invariant prints its seed and writes a scenario, failed-SEED.scenario, that "
    "repeats it.\n"
    "Exit code: 0 all held, 1 an invariant or an expectation did not, 2 the input is wrong.\n"
    "The language of scenarios: docs/SIMULATOR.md, or /usr/share/doc/atoll/SIMULATOR.md.\n";

struct arguments {
    struct sim_options options;
    const char *seed;
    const char *batch;
    const char *replay;
    const char *from;
    const char *fail;
    const char *kinds;
    uint64_t steps;
    double seconds;
};

static bool read_all(const char *path, struct atl_buf *text)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    if (file == NULL)
        return false;
    size_t got = 0;
    do {
        got = fread(atl_buf_reserve(text, 65536), 1, 65536, file);
        text->length += got;
    } while (got > 0);
    atl_buf_char(text, '\0');
    if (file != stdin)
        (void)fclose(file); /* it was only read */
    return true;
}

static int run_scenario(const struct arguments *arguments, const char *path)
{
    struct atl_buf text = {0};
    struct atl_error err = {0};
    if (!read_all(path, &text)) {
        (void)fprintf(stderr, "atoll-simulate: cannot read %s\n", path);
        return 2;
    }
    struct sim *sim = atl_new0(struct sim);
    sim_init(sim, &arguments->options, 1);
    enum atl_code code = sim_scenario(sim, text.data, &err);
    if (code == ATL_OK || code == ATL_E_STATE)
        sim_print_end(sim);
    int result = code == ATL_OK ? 0 : code == ATL_E_STATE ? 1 : 2;
    if (code != ATL_OK)
        (void)fprintf(stderr, "atoll-simulate: %s: %s\n", path, err.text);
    if (sim->failure[0] != '\0') {
        (void)fprintf(stderr, "atoll-simulate: %s: %s\n", path, sim->failure);
        result = 1;
    }
    sim_done(sim);
    free(sim);
    atl_buf_done(&text);
    return result;
}

static void keep_failure(const struct sim *sim)
{
    char path[64];
    (void)snprintf(path, sizeof path, "failed-%llu.scenario", (unsigned long long)sim->seed);
    FILE *file = fopen(path, "wbe");
    if (file != NULL) {
        (void)fprintf(file, "# %s\n%sat %.6f\n%s", sim->failure, sim->history.data,
                      (double)sim->now / SIM_SECOND, sim->faults_over ? "expect well\n" : "");
        (void)fclose(file); /* told below in any case */
    }
    (void)fprintf(stderr, "seed %llu: after %llu steps, at %.3f s: %s\nwritten to %s\n",
                  (unsigned long long)sim->seed, (unsigned long long)sim->counts.steps,
                  (double)sim->now / SIM_SECOND, sim->failure, path);
}

static void add_counts(struct sim_counts *sum, const struct sim_counts *counts)
{
    sum->steps += counts->steps;
    sum->resets += counts->resets;
    sum->fences += counts->fences;
    sum->recoveries += counts->recoveries;
    sum->managers += counts->managers;
    sum->partitions += counts->partitions;
    sum->starts += counts->starts;
    sum->migrations += counts->migrations;
    sum->faults += counts->faults;
}

static void print_counts(const struct sim_counts *sum)
{
    (void)printf(
        "%llu steps, %llu faults: %llu fences, %llu recoveries, %llu managers, %llu partitions, %llu resets, "
        "%llu starts, %llu migrations\n",
        (unsigned long long)sum->steps, (unsigned long long)sum->faults, (unsigned long long)sum->fences,
        (unsigned long long)sum->recoveries, (unsigned long long)sum->managers,
        (unsigned long long)sum->partitions, (unsigned long long)sum->resets, (unsigned long long)sum->starts,
        (unsigned long long)sum->migrations);
}

static bool run_seed(const struct arguments *arguments, uint64_t seed, bool loud, struct sim_counts *sum)
{
    struct sim *sim = atl_new0(struct sim);
    struct sim_options options = arguments->options;
    options.quiet |= !loud;
    sim_init(sim, &options, seed);
    sim_nemesis(sim, arguments->steps, arguments->kinds);
    bool well = sim->failure[0] == '\0';
    if (!well)
        keep_failure(sim);
    if (loud && !options.quiet)
        sim_print_end(sim);
    add_counts(sum, &sim->counts);
    sim_done(sim);
    free(sim);
    return well;
}

static int run_batch(const struct arguments *arguments, uint64_t first, uint64_t count)
{
    struct sim_counts sum = {0};
    struct timespec begin;
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin); /* for the line at the end only */
    uint64_t failed = 0;
    for (uint64_t i = 0; i < count && failed < 5; i++)
        failed += !run_seed(arguments, first + i, false, &sum);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    (void)printf("seeds %llu to %llu, %.1f s, %.0f steps a second\n", (unsigned long long)first,
                 (unsigned long long)(first + count - 1), seconds, (double)sum.steps / seconds);
    print_counts(&sum);
    if (failed == 0 &&
        (sum.fences == 0 || sum.recoveries == 0 || sum.managers <= count || sum.partitions == 0)) {
        (void)printf(
            "a batch without fences, recoveries, changes of the manager or partitions proves nothing\n");
        return 1;
    }
    return failed == 0 ? 0 : 1;
}

static int run_from(const struct arguments *arguments)
{
    struct sim *sim = atl_new0(struct sim);
    Atoll__Ha__V1__Saved *saved = NULL;
    struct atl_error err = {0};
    sim_init(sim, &arguments->options, 1);
    enum atl_code code = sim_from_saved(sim, arguments->from, &saved, &err);
    if (code == ATL_OK) {
        sim_run_until(sim, 30 * SIM_SECOND);
        char command[96];
        (void)snprintf(command, sizeof command, "power %s off",
                       arguments->fail != NULL ? arguments->fail : "");
        if (arguments->fail != NULL)
            code = sim_command(sim, command, &err);
        sim_run_until(sim, sim->now + (sim_us)(arguments->seconds * SIM_SECOND));
    }
    if (code == ATL_OK)
        sim_print_end(sim);
    else
        (void)fprintf(stderr, "atoll-simulate: %s\n", err.text);
    sim_done(sim);
    free(sim);
    if (saved != NULL)
        atoll__ha__v1__saved__free_unpacked(saved, NULL);
    return code == ATL_OK ? 0 : 2;
}

static int run_replay(const char *path)
{
    struct atl_error err = {0};
    if (sim_replay(path, stdout, &err) == ATL_OK)
        return 0;
    (void)fprintf(stderr, "atoll-simulate: %s\n", err.text);
    return 2;
}

static bool take_option(struct arguments *arguments, int option)
{
    switch (option) {
    case 'j':
        arguments->options.json = true;
        return true;
    case 'q':
        arguments->options.quiet = true;
        return true;
    case 'v':
        arguments->options.save = optarg;
        return true;
    case 's':
        arguments->seed = optarg;
        return true;
    case 'b':
        arguments->batch = optarg;
        return true;
    case 'n':
        arguments->steps = strtoull(optarg, NULL, 10);
        return true;
    case 'k':
        arguments->kinds = optarg;
        return true;
    case 'r':
        arguments->replay = optarg;
        return true;
    case 'f':
        arguments->from = optarg;
        return true;
    case 'x':
        arguments->fail = optarg;
        return true;
    case 't':
        arguments->seconds = strtod(optarg, NULL);
        return true;
    default:
        return false;
    }
}

static const struct option options[] = {
    {"json", no_argument, NULL, 'j'},
    {"quiet", no_argument, NULL, 'q'},
    {"save", required_argument, NULL, 'v'},
    {"seed", required_argument, NULL, 's'},
    {"batch", required_argument, NULL, 'b'},
    {"steps", required_argument, NULL, 'n'},
    {"nemesis", required_argument, NULL, 'k'},
    {"replay", required_argument, NULL, 'r'},
    {"from", required_argument, NULL, 'f'},
    {"fail", required_argument, NULL, 'x'},
    {"seconds", required_argument, NULL, 't'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

int main(int argc, char **argv)
{
    struct arguments arguments = {.options = {.out = stdout}, .kinds = "all", .steps = 10000, .seconds = 60};
    for (int option = 0; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (take_option(&arguments, option))
            continue;
        (void)fputs(usage, option == 'h' ? stdout : stderr);
        return option == 'h' ? 0 : 2;
    }
    if (arguments.replay != NULL)
        return run_replay(arguments.replay);
    if (arguments.from != NULL)
        return run_from(&arguments);
    if (arguments.batch != NULL && optind < argc)
        return run_batch(&arguments, strtoull(arguments.batch, NULL, 10), strtoull(argv[optind], NULL, 10));
    if (arguments.seed != NULL) {
        struct sim_counts sum = {0};
        bool well = run_seed(&arguments, strtoull(arguments.seed, NULL, 10), true, &sum);
        print_counts(&sum);
        return well ? 0 : 1;
    }
    int worst = optind < argc ? 0 : 2;
    if (worst != 0)
        (void)fputs(usage, stderr);
    for (int i = optind; i < argc; i++) {
        int result = run_scenario(&arguments, argv[i]);
        worst = result > worst ? result : worst;
    }
    return worst;
}
