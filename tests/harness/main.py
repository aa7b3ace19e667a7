"""tests/run: which levels there are, what each runs and how long it may take."""
import argparse
import os
import random
import sys
import time

import checks
import fuzz
import results
from build import build, lock
from ctests import run_label
from report import TOP, Report

# Minutes per level in "ci"; a level that needs longer says so, one that needs half as long again fails.
BUDGET_MIN = {"checks": 10, "build": 6, "unit": 3, "purity": 1, "scenario": 1, "sim": 2, "fuzz": 3, "component": 8,
              "bus": 2, "api": 2, "clients": 4, "docs": 3, "testbed": 10, "lab": 6, "bench": 5}
LEVELS = list(BUDGET_MIN)
BENCHES = ["bus", "codec", "store", "store-etcd", "http", "container", "node", "cluster",
           "migration", "ha", "failover", "pacemaker", "scale"]  # as tests/bench/run knows them
BENCHES_IN_CI = ["bus", "codec", "store"]
TURNS = [["upgrade", "witness", "crash_points"], ["nemesis", "guests"]]  # one of each runs in "ci"
LONG = {"lab": ["lab_cluster", "lab_ha", "lab_quickstart"], "testbed": ["healthy"]}  # run by "full" alone, or with ATL_FULL=1
HELP = """levels:
  checks     compilers without warnings, formatting, static analysis, spelling, sizes, layering
  build      the daily build (Debug with ASan and UBSan)
  unit       unit tests           purity     which symbols pure code needs
  scenario   recorded cases       sim        simulated clusters
  fuzz       every fuzzer for a while, with a printed seed
  component  real services with real engines on one node in namespaces (root)
  bus, api   several real services together
  clients    real API clients against the gateway (root)
  docs       command blocks of the documents, run against a quickstart node (root)
  testbed    several nodes on one machine     lab   nodes as virtual machines
  bench      ratios against raw engines and peers
  ci         all levels within their budgets  full  all levels without a limit, written to docs/RESULTS.md
  full LEVEL...  these levels without a limit; docs/RESULTS.md keeps what it says of the others
Without a level, all run. Logs are in build/logs."""


def left_out(report, level, options):
    """What only "full" runs; and of the longest campaigns with several nodes "ci" runs a part, by chance."""
    left = [] if os.environ.get("ATL_FULL") == "1" else list(LONG.get(level, []))
    if left:
        report.say("   without " + ", ".join(f"{level}.{name}" for name in left) + ": with ATL_FULL=1")
    if level == "testbed" and options.ci:
        seed = options.seed or int(os.environ.get("ATL_SEED", time.time_ns() % 1000000))
        chooser = random.Random(seed)
        for names in TURNS:
            turn = chooser.choice(names)
            left += [name for name in names if name != turn]
            report.say(f"   of {', '.join(names)} it is the turn of testbed.{turn} (--seed {seed})")
    return left


def run_level(report, level, options, budget_s):
    report.say(f"== {level}")
    name = options.build
    if level == "checks":
        checks.run_level(report, full=options.full)
    elif level == "build":
        build(report, "dev", name)
    elif level == "fuzz":
        seconds = options.seconds or (1800 if options.full else 100)
        fuzz.run_level(report, seconds, options.seed)
    elif level == "bench":
        for bench in BENCHES if options.full or not options.ci else BENCHES_IN_CI:
            report.run(f"bench.{bench}", ["tests/bench/run", bench], 1800)
    elif build(report, "dev", name):
        leave = left_out(report, level, options)
        serial = level in ("bus", "api", "clients", "docs", "testbed", "lab")  # scripts of component run alone anyway
        run_label(report, name, level, budget_s, "1" if serial else str(os.cpu_count() or 2), leave)


def parse():
    parser = argparse.ArgumentParser(prog="tests/run", epilog=HELP,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("level", nargs="*", help="levels to run, or ci, or full, or full and some levels")
    parser.add_argument("--build", default="dev", metavar="NAME", help="build folder below build/ (default: dev)")
    parser.add_argument("--seed", type=int, help="seed of the fuzzers")
    parser.add_argument("--seconds", type=int, help="time of all fuzzers together")
    options = parser.parse_args()
    options.ci = options.level == ["ci"]
    options.full = options.level[:1] == ["full"]
    if options.full:
        os.environ.setdefault("ATL_CRASH_ROUNDS", "1000")
        os.environ.setdefault("ATL_FULL", "1")
        options.level = options.level[1:]
    if not options.level or options.ci:
        options.level = LEVELS
    unknown = [level for level in options.level if level not in LEVELS]
    if unknown:
        parser.error(f"no level '{unknown[0]}'; there are: {', '.join(LEVELS)}, ci, full")
    return options


def main():
    options = parse()
    report = Report(os.path.join(TOP, "build", "logs"))
    held = lock(options.build)
    begin = time.monotonic()
    for level in options.level:
        start, before = time.monotonic(), report.counts()
        minutes = BUDGET_MIN[level] if options.ci else 24 * 60
        run_level(report, level, options, minutes * 90)
        took = time.monotonic() - start
        report.say(f"   {level}: {took:.0f} s" + (f" of {minutes * 60} s" if options.ci else ""))
        if options.ci and took > minutes * 60:
            report.say(f"   {level} is over its budget")
        if options.full:
            results.write(level, LEVELS, report, before, took)
    took = time.monotonic() - begin
    report.say(f"All together {took / 60:.1f} minutes.")
    held.close()
    return report.summary()


if __name__ == "__main__":
    sys.exit(main())
