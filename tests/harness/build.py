"""Configures and builds presets with CMake and Ninja."""
import fcntl
import os

from report import TOP

JOBS = str(os.cpu_count() or 2)
done = {}  # build folder -> whether its whole build passed in this run
CCACHE = {"CCACHE_BASEDIR": TOP, "CCACHE_NOHASHDIR": "1"}


def build_dir(name):
    return os.path.join(TOP, "build", name)


def lock(name):
    """Only one run at a time builds and tests in a folder; the lock lives as long as the file is open."""
    os.makedirs(build_dir(name), exist_ok=True)
    handle = open(os.path.join(build_dir(name), ".tests-run.lock"), "w", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another ./tests/run works in build/{name}; waiting for it", flush=True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def build(report, preset, name=None, targets=(), timeout=1500, label=None):
    """One result: preset configured and built without a warning (warnings are errors in our flags)."""
    name = name or preset
    if not targets and name in done:
        return done[name]
    script = 'cmake --preset "$1" -B "$2" >/dev/null && shift && exec ninja -C "$@"'
    command = ["bash", "-c", script, "build", preset, build_dir(name), "-k", "20", "-j", JOBS, *targets]
    good = report.run(label or f"build/{name}", command, timeout, env=CCACHE)
    if not targets:
        done[name] = good
    return good
