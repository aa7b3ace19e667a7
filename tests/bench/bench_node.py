#!/usr/bin/python3
"""A whole node, measured: memory of the services at rest, long lists through gateway, bus and config-store with the
guests of the fake engine, start of a virtual machine against `virsh create` of the same one.

usage: bench_node.py [BUILD_FOLDER]     a release build (build/release); root; namespaces of its own

Prints a line a figure, with its budget where there is one. Exit code 1 when one is not held.
"""
import os
import statistics
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build", "release"))
os.environ["ATL_BUILD_DIR"] = BUILD
sys.path.insert(0, os.path.join(TOP, "tests", "component"))
from node_env import Env, SERVICES, wait_for  # noqa: E402  (its folders come from the environment)

MIB = 1 << 20
MEMORY_BUDGET_MIB = 64
LISTS = [(1000, 5), (10000, 50)]
VM_BUDGET = 1.1
ROUNDS = 7
failed = []


def say(name, value, unit, budget=None):
    held = budget is None or value <= budget
    if not held:
        failed.append(name)
    bound = "" if budget is None else f"   budget {budget} {unit}: {'held' if held else 'NOT HELD'}"
    print(f"{name:58s} {value:9.2f} {unit}{bound}", flush=True)


def pss_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def memory(env):
    time.sleep(5)  # at rest: past the start's own work
    total = 0
    for service in SERVICES:
        used = pss_mib(env.pid(service))
        total += used
        say(f"memory at rest, {service} (PSS)", used, "MiB")
    say("memory at rest, the services that exist (PSS)", total, "MiB", MEMORY_BUDGET_MIB)


def list_time(env, path):
    """Milliseconds of one request on an open connection, median of many, by curl's own clock."""
    count = 41
    url = env.node.url + "/api2/json" + path
    done = env.run("curl", "-sS", "--http2", "--cacert", env.ca, "-H", f"Authorization: PVEAPIToken={env.token}",
                   "-w", "%{http_code} %{time_pretransfer} %{time_total}\n",
                   *[word for _ in range(count) for word in ("-o", "/dev/null", url)], timeout=120)
    rows = [line.split() for line in done.stdout.splitlines()]
    if any(row[0] != "200" for row in rows):
        raise SystemExit(f"{path} did not answer 200: {rows[:3]}")
    return statistics.median((float(row[2]) - float(row[1])) * 1000 for row in rows[1:])


def lists():
    for guests, budget_ms in LISTS:
        env = Env(f"bench{guests}", extra={"compute-agent": ["--driver", "fake", "--fake-guests", str(guests)]})
        try:
            wait_for("all guests in the list", 60, lambda n=guests: len(
                [r for r in env.rest.get("/cluster/resources", type="vm") if r.get("type") == "qemu"]) >= n)
            say(f"GET /cluster/resources, {guests} guests", list_time(env, "/cluster/resources"), "ms", budget_ms)
        finally:
            env.stop()


def virsh(env, *words):
    return env.run("virsh", "-q", "-c", "qemu:///system", *words, timeout=60)


def timed(deed):
    begin = time.monotonic()
    deed()
    return (time.monotonic() - begin) * 1000


def vm_start(env):
    """In turns: the task of a start through REST, and virsh create of the XML that it made."""
    env.storage()
    env.make_vm(100)
    domain = virsh(env, "list", "--name").stdout.split()[0]
    xml = os.path.join(env.folder, "vm.xml")
    with open(xml, "w", encoding="utf-8") as out:
        out.write(virsh(env, "dumpxml", "--inactive", domain).stdout)
    env.rest.wait(env.rest.post(env.path("qemu", 100, "status", "stop")))
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(timed(lambda: env.rest.wait(env.rest.post(env.path("qemu", 100, "status", "start")))))
        env.rest.wait(env.rest.post(env.path("qemu", 100, "status", "stop")))
        bare.append(timed(lambda: virsh(env, "create", xml)))
        virsh(env, "destroy", domain)
    say("start of a virtual machine through REST, until its task ended", statistics.median(ours), "ms")
    say("start of the same by virsh create", statistics.median(bare), "ms")
    say("ratio, medians", statistics.median(ours) / statistics.median(bare), "x", VM_BUDGET)


def main():
    env = Env("bench")
    try:
        memory(env)
        vm_start(env)
    finally:
        env.stop()
    lists()
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}: {error.stderr}")
