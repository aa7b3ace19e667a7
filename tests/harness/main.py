"""tests/run: which levels there are, what each runs and how long it may take."""
import argparse
import os
import subprocess
import sys
import time

import checks
import fuzz
from build import build, lock
from ctests import run_label
from report import TOP, Report

# Minutes per level in "ci"; a level that needs longer says so, one that needs half as long again fails.
BUDGET_MIN = {"checks": 10, "build": 6, "unit": 3, "purity": 1, "scenario": 1, "sim": 2, "fuzz": 3, "component": 8,
              "bus": 2, "api": 2, "clients": 4, "docs": 3, "testbed": 10, "lab": 6, "bench": 5}
LEVELS = list(BUDGET_MIN)
BENCHES = ["bus", "codec", "store", "store-etcd", "http", "container", "node", "cluster",
           "migration", "scale"]  # as tests/bench/run knows them
BENCHES_IN_CI = ["bus", "codec", "store"]
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
Without a level, all run. Logs are in build/logs."""


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
        serial = level in ("component", "bus", "api", "clients", "docs", "testbed", "lab")
        run_label(report, name, level, budget_s, "1" if serial else str(os.cpu_count() or 2))


def write_results(report, seconds):
    """The last result of "full", with the commit it belongs to."""
    commit = subprocess.run(["git", "-C", TOP, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    command = " ".join(["./tests/run", *sys.argv[1:]])
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    lines = ["# Results of the last full test run", "",
             f"`{command}` at commit {commit or 'unknown'}, {when} UTC, {seconds / 60:.0f} minutes:",
             f"**{report.passed} passed, {len(report.failed)} failed, {len(report.skipped)} skipped**", "",
             "| test | result | seconds |", "| --- | --- | --- |"]
    lines += [f"| {name} | {result} | {took:.1f} |" for name, result, took in report.rows]
    with open(os.path.join(TOP, "docs", "RESULTS.md"), "w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")


def parse():
    parser = argparse.ArgumentParser(prog="tests/run", epilog=HELP,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("level", nargs="*", help="levels to run, or ci, or full")
    parser.add_argument("--build", default="dev", metavar="NAME", help="build folder below build/ (default: dev)")
    parser.add_argument("--seed", type=int, help="seed of the fuzzers")
    parser.add_argument("--seconds", type=int, help="time of all fuzzers together")
    options = parser.parse_args()
    options.ci = options.level == ["ci"]
    options.full = options.level == ["full"]
    if options.full:
        os.environ.setdefault("ATL_CRASH_ROUNDS", "1000")
        os.environ.setdefault("ATL_FULL", "1")
    if not options.level or options.ci or options.full:
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
        start = time.monotonic()
        minutes = BUDGET_MIN[level] if options.ci else 24 * 60
        run_level(report, level, options, minutes * 90)
        took = time.monotonic() - start
        report.say(f"   {level}: {took:.0f} s" + (f" of {minutes * 60} s" if options.ci else ""))
        if options.ci and took > minutes * 60:
            report.say(f"   {level} is over its budget")
    took = time.monotonic() - begin
    report.say(f"All together {took / 60:.1f} minutes.")
    held.close()
    if options.full:
        write_results(report, took)
    return report.summary()


if __name__ == "__main__":
    sys.exit(main())
