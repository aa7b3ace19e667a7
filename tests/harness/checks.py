"""The checks: what must hold of the tree without running Atoll."""
import os
import subprocess
import sys

from build import build, build_dir
from ctests import run_label
from report import TOP

HERE = os.path.dirname(os.path.realpath(__file__))


def tracked(*patterns):
    """Files of the tree that git knows and that are there."""
    listing = subprocess.run(["git", "-C", TOP, "ls-files", "-z", *patterns], capture_output=True, check=True).stdout
    names = [n for n in listing.decode().split("\0") if n]
    return [n for n in names if os.path.exists(os.path.join(TOP, n))]


def first_line(name):
    with open(os.path.join(TOP, name), "rb") as data:
        return data.readline(200)


def scripts(language):
    """Tracked scripts by their ending or first line."""
    found = []
    for name in tracked():
        ending = os.path.splitext(name)[1]
        if ending in (".sh", ".bash") and language == "sh" or ending == ".py" and language == "python":
            found.append(name)
        elif ending == "" and os.path.isfile(os.path.join(TOP, name)):
            line = first_line(name)
            if line.startswith(b"#!") and (b"python" in line if language == "python" else b"sh\n" in line):
                found.append(name)
    return found


def batch(report, name, command, files, timeout=300):
    if files:
        report.run(f"checks/{name}", [*command, *files], timeout)
    else:
        report.say(f"        {name}: no files")


def run_static(report):
    c_files = tracked("*.c", "*.h")
    batch(report, "clang-format", ["clang-format", "--dry-run", "-Werror"], c_files)
    batch(report, "shellcheck", ["shellcheck", "-x", "-P", "SCRIPTDIR"], scripts("sh"))
    batch(report, "python-syntax", [sys.executable, os.path.join(HERE, "syntax.py")], scripts("python"))
    batch(report, "codespell", ["codespell", "-I", "tools/codespell-words.txt"],
          [n for n in tracked() if n not in ("LICENSE", "tools/codespell-words.txt")])
    report.run("checks/tree", ["tools/check-tree"], 120)
    report.run("checks/cppcheck", cppcheck(), 900)


def cppcheck():
    cache = os.path.join(TOP, "build", "cppcheck")
    os.makedirs(cache, exist_ok=True)
    return ["cppcheck", "--quiet", "-j", str(os.cpu_count() or 2), "--library=posix",
            "--library=tools/cppcheck/atl.cfg",
            "--std=c11", "--enable=warning,performance,portability", "--inline-suppr", "--error-exitcode=1",
            "--suppressions-list=tools/cppcheck/suppressions.txt", f"--cppcheck-build-dir={cache}",
            "-I", "common", "-I", ".", "-D_GNU_SOURCE", "-D__linux__", "-D__x86_64__",
            *tracked("common/*.c", "services/*.c", "tools/*.c", "tests/*.c")]


def configured_twice():
    """A second configuration must change no command: whoever builds again would compile everything anew."""
    script = ('set -e; rm -rf "$1"; for turn in 1 2; do cmake --preset release -B "$1" >/dev/null; '
              'grep -E "^  [A-Z_]*(FLAGS|INCLUDES|DEFINES|COMMAND|LIBRARIES) =" "$1/build.ninja" > "$1/turn.$turn"; done; '
              'diff "$1/turn.1" "$1/turn.2"; rm -rf "$1"')
    return ["bash", "-c", script, "configure", build_dir("configured-twice")]


def run_level(report, full=False):
    run_static(report)
    report.run("checks/configured-twice", configured_twice(), 300)
    dev = build(report, "dev", label="checks/gcc-dev")
    clang = build(report, "clang", label="checks/clang")
    build(report, "release", label="checks/gcc-release")
    if clang:
        report.run("checks/clang-tidy", [sys.executable, os.path.join(HERE, "tidy.py"), build_dir("clang")], 1500)
    if dev:
        run_label(report, "dev", "purity", 120)
    if full:
        build(report, "analyze", label="checks/gcc-fanalyzer", timeout=3600)
