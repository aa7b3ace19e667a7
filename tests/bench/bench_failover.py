#!/usr/bin/python3
"""How long a guest is gone when its node dies: from the power cut to the start of its process on another node, and to its
first reply. A testbed with watchdogs outside of the nodes, a virtual machine on a shared storage.

ATL_FAILOVERS=N: how often (default 30); ATL_NODES=N: nodes (default 5)
"""
import datetime
import os
import shutil
import statistics
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.realpath(os.path.join(HERE, "..", ".."))
sys.path[:0] = [HERE, os.path.join(TOP, "tests", "cluster")]

from measure import end_in_order, say, undisturbed  # noqa: E402
from testbed import ApiError, Testbed, guests, wait_until  # noqa: E402

BUILD = sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build", "release")
RUNS = int(os.environ.get("ATL_FAILOVERS", "30"))
NODES = int(os.environ.get("ATL_NODES", "5"))
VM = 500
SID = f"vm:{VM}"
LIMIT_S = 60


def has_machine(testbed, which):
    for pid in testbed.processes(which):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
                if comm.read().startswith("qemu-system"):
                    return True
        except OSError:
            pass
    return False


def well(testbed):
    try:
        rest = testbed.rest(1)
        nodes = rest.get("/cluster/ha/status/manager_status")["manager_status"]["node_status"]
        rows = [row for row in rest.get("/cluster/ha/status/current") if row.get("sid") == SID]
        return len(nodes) == NODES and all(node["state"] == "online" for node in nodes.values()) and \
            rows[0]["state"] == "started" and all(testbed.sees_all(i) for i in testbed.numbers())
    except (ApiError, OSError, LookupError):
        return False


def answers(testbed, which):
    try:
        testbed.rest(which).post(f"/nodes/n{which}/qemu/{VM}/agent/ping")
        return True
    except (ApiError, OSError):
        return False


def logged(testbed, service, text, since):
    """Seconds from `since` (wall clock) to the first line of any node's service that has the text."""
    found = []
    for i in testbed.numbers():
        path = os.path.join(testbed.node(i).log_dir, service, "current")
        with open(path, encoding="utf-8", errors="replace") as log:
            for line in log:
                stamp, _, rest = line.partition(" ")
                if text not in rest:
                    continue
                when = datetime.datetime.strptime(stamp, "%Y-%m-%d_%H:%M:%S.%f").replace(tzinfo=datetime.timezone.utc)
                if when.timestamp() >= since:
                    found.append(when.timestamp() - since)
    return min(found) if found else None


def once(testbed):
    """The moments of one failover, in seconds after the power cut."""
    old = next(i for i in testbed.numbers() if has_machine(testbed, i))
    since, began = time.time(), time.monotonic()
    testbed.power_off(old)
    new = wait_until(LIMIT_S, lambda: next((i for i in testbed.numbers() if i != old and has_machine(testbed, i)), None), 0.02)
    if new is None:
        raise SystemExit(f"the guest of n{old} does not run elsewhere after {LIMIT_S} s")
    started = time.monotonic() - began
    if not wait_until(LIMIT_S * 3, lambda: answers(testbed, new), 0.1):
        raise SystemExit(f"the guest does not answer on n{new}")
    replied = time.monotonic() - began
    gone = f"members: quorate, {NODES - 1} of {NODES} votes"
    moments = {"detected": logged(testbed, "atoll-config-store", gone, since),
               "fenced": logged(testbed, "atoll-ha-crm", "decided: fence", since),
               "ordered": logged(testbed, "atoll-ha-lrm", f"decided: start {SID}", since),
               "started": started, "replied": replied}
    testbed.power_on(old)
    if not wait_until(120, lambda: well(testbed), 0.3):
        raise SystemExit("the nodes do not find together again")
    return moments


def set_up(testbed, shared):
    os.makedirs(shared)
    testbed.up(NODES)
    testbed.make_cluster()
    guests.make_images(None, None)
    rest = testbed.rest(1)
    rest.post("/storage", storage="pool", type="dir", path=shared, shared=1, content="images,import")
    rest.wait(rest.upload("n1", "pool", "import", guests.DISK, lambda *_: None))
    rest.wait(rest.post("/nodes/n1/qemu", vmid=VM, memory=128, agent="1", machine="q35", ostype="l26", serial0="socket",
                        boot="order=virtio0", net0="virtio,bridge=vmbr0",
                        virtio0=f"pool:0,import-from=pool:import/{os.path.basename(guests.DISK)}"))
    rest.post("/cluster/ha/resources", sid=SID, max_relocate=5)
    if not wait_until(90, lambda: well(testbed), 0.3):
        raise SystemExit("the guest does not start under high availability")


NAMES = {"detected": "another node knows that it is gone", "fenced": "the lock is taken over, the guest is recovered",
         "ordered": "its new node is to start it", "started": "its process runs on the new node", "replied": "it replies"}


def tell(runs, who="failover", budget_s=10, names=None):
    for key, name in (names or NAMES).items():
        values = sorted(run[key] for run in runs if run[key] is not None)
        if not values:
            continue
        budget = budget_s if key == "started" else None
        say(f"{who}, {name}: median of {len(values)}", statistics.median(values), "s", budget)
        say(f"{who}, {name}: 90 of 100 within", values[min(len(values) - 1, int(len(values) * 0.9))], "s")
        say(f"{who}, {name}: longest", values[-1], "s")
    first = [run["started"] for run in runs]
    print("until the process, all runs: " + " ".join(f"{value:.1f}" for value in first), flush=True)


def main():
    end_in_order()
    testbed = Testbed(f"benchf{os.getpid()}", BUILD)
    shared = f"/srv-benchf-{os.getpid()}"
    try:
        set_up(testbed, shared)
        tell([once(testbed) for _ in range(RUNS)])
    finally:
        undisturbed()
        testbed.down()
        shutil.rmtree(shared, ignore_errors=True)


if __name__ == "__main__":
    main()
