"""clang-tidy over the clang build's compile commands, in parallel; a file is looked at again only when it, a header
it includes, or the settings changed."""
import concurrent.futures
import hashlib
import json
import os
import subprocess

from report import TOP


def dependencies(folder):
    """What each object file was made from, as Ninja recorded it."""
    listing = subprocess.run(["ninja", "-C", folder, "-t", "deps"], capture_output=True, text=True).stdout
    found, target = {}, None
    for line in listing.splitlines():
        if line.startswith("    "):
            found[target].append(os.path.join(folder, line.strip()))
        elif ":" in line:
            target = line.split(":")[0]
            found[target] = []
    return found


def file_digest(path, known):
    if path not in known:
        try:
            with open(path, "rb") as data:
                known[path] = hashlib.sha256(data.read()).hexdigest()
        except OSError:
            known[path] = "absent"
    return known[path]


def work_list(folder):
    """(source, key) of each of our own sources in the build."""
    with open(os.path.join(folder, "compile_commands.json"), encoding="utf-8") as data:
        commands = json.load(data)
    made_from = dependencies(folder)
    known = {}
    settings = file_digest(os.path.join(TOP, ".clang-tidy"), known)
    for entry in commands:
        source = entry["file"]
        if not source.startswith(TOP + "/") or source.startswith(TOP + "/build/"):
            continue
        inputs = sorted(p for p in made_from.get(entry.get("output", ""), [source]) if not p.startswith("/usr/"))
        text = settings + entry["command"] + "".join(file_digest(p, known) for p in inputs)
        yield source, hashlib.sha256(text.encode()).hexdigest()


def look_at(folder, source):
    command = ["clang-tidy", "-p", folder, "--quiet", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "PLEASE submit a bug report" in done.stderr:  # clang-tidy 14 crashed in its path analysis: all the rest, then
        print(f"{os.path.relpath(source, TOP)}: clang-tidy crashed, looked at again without clang-analyzer")
        done = subprocess.run([*command, "--checks=-clang-analyzer-*"], capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    return done.returncode, "\n".join(lines) or done.stderr


def main(folder):
    cache = os.path.join(TOP, "build", "tidy-cache")
    os.makedirs(cache, exist_ok=True)
    wanted = {}
    for source, key in work_list(folder):
        wanted.setdefault(source, key)
    todo = [(s, k) for s, k in sorted(wanted.items()) if not os.path.exists(os.path.join(cache, k))]
    print(f"{len(wanted)} sources, {len(todo)} to look at")
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        for (source, key), (code, text) in zip(todo, pool.map(lambda job: look_at(folder, job[0]), todo)):
            if code == 0:
                with open(os.path.join(cache, key), "w", encoding="utf-8"):
                    pass
            else:
                bad += 1
                print(f"{os.path.relpath(source, TOP)}:\n{text}")
    print(f"{bad} sources with findings")
    return 1 if bad else 0


if __name__ == "__main__":
    import sys
    sys.exit(main(sys.argv[1]))
