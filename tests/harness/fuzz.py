"""Runs every fuzzer for its share of the time, with a printed seed. A crash keeps its input."""
import concurrent.futures
import os
import random
import time

from build import build, build_dir
from report import TOP, run_logged


def fuzzers():
    folder = os.path.join(build_dir("fuzz"), "fuzz")
    if not os.path.isdir(folder):
        return []
    return sorted(os.path.join(folder, f) for f in os.listdir(folder) if os.access(os.path.join(folder, f), os.X_OK))


def seed_corpora(name):
    """Recorded inputs in the tree: any folder corpus/NAME below a tests folder."""
    found = []
    for base in ("common", "services", "tests"):
        for folder, _, _ in os.walk(os.path.join(TOP, base)):
            if folder.endswith(os.path.join("corpus", name)):
                found.append(folder)
    return found


def run_one(report, program, seconds, seed):
    name = os.path.basename(program)
    corpus = os.path.join(TOP, "build", "fuzz-corpus", name)
    kept = os.path.join(report.log_dir, "fuzz-crashes", name)
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(kept, exist_ok=True)
    log = report.log_path(name)
    command = [program, f"-seed={seed}", f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048",
               "-print_final_stats=1", f"-artifact_prefix={kept}/", corpus, *seed_corpora(name)]
    begin = time.monotonic()
    code, why = run_logged(command, log, seconds + 90)
    return name, code, why, time.monotonic() - begin, log, kept


def run_level(report, total_s, seed=None):
    if not build(report, "fuzz"):
        return
    programs = fuzzers()
    if not programs:
        report.say("        0 tests")
        return
    seed = seed or random.randrange(1, 2**31)
    workers = 2
    share = max(2, int(total_s * workers / len(programs)))
    report.say(f"        {len(programs)} fuzzers, {share} s each, seed {seed} (again: tests/run fuzz --seed {seed})")
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for job in [pool.submit(run_one, report, p, share, seed) for p in programs]:
            name, code, why, seconds, log, kept = job.result()
            report.add(f"fuzz.{name}", code == 0, seconds, log,
                       why + f"; input kept in {os.path.relpath(kept, TOP)}" if code else "")
