#!/usr/bin/python3
"""A running virtual machine moves to another node and back: through REST, and by `virsh migrate` of the same machine on the
same pair of nodes, in turns. Time in all, and how long the guest stood still (as QEMU and libvirt tell).

usage: bench_migrate.py BUILD-DIR [ROUNDS]     a release build; root; a testbed of two nodes and a shared folder
"""
import os
import re
import shutil
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build", "release"))
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
os.environ["ATL_BUILD_DIR"] = BUILD
sys.path.insert(0, os.path.join(TOP, "tests", "cluster"))
from measure import Client, end_in_order, middle, missed, say, undisturbed  # noqa: E402
from testbed import Testbed, guests, wait_until  # noqa: E402

BUDGET = 1.15
VM, OTHER = 500, 501


class Bench:
    def __init__(self, testbed, shared):
        self.testbed = testbed
        rest = testbed.rest(1)
        guests.make_images(None, None)
        rest.post("/storage", storage="pool", type="dir", path=shared, shared=1, content="images,import")
        rest.wait(rest.upload("n1", "pool", "import", guests.DISK, lambda *_: None))
        for vmid in (VM, OTHER):
            rest.wait(rest.post("/nodes/n1/qemu", vmid=vmid, memory=128, machine="q35", ostype="l26", agent="1",
                                boot="order=virtio0", net0="virtio,bridge=vmbr0",
                                virtio0=f"pool:0,import-from=pool:import/{os.path.basename(guests.DISK)}"))
            rest.wait(rest.post(f"/nodes/n1/qemu/{vmid}/status/start"), 120)
        for vmid in (VM, OTHER):
            wait_until(90, lambda v=vmid: self.answers(v), 0.5)
        self.prepare_for_virsh()
        self.clients = {}
        for which in (1, 2):
            one = testbed.rest(which)
            self.clients[which] = Client(one.host, one.port, one.context, one.token)

    def answers(self, vmid):
        done = self.virsh(1, "qemu-agent-command", f"atoll-{vmid}", '{"execute":"guest-ping"}', check=False)
        return done.returncode == 0

    def virsh(self, which, *words, **options):
        return self.testbed.exec(which, "virsh", "-q", "-c", "qemu:///system", *words, **options)

    def prepare_for_virsh(self):
        """virsh wants the folder of the machine's sockets to be there on the other node, and moves what is on this one."""
        folders = [os.path.join(self.testbed.node(i).run_dir, "qemu") for i in (1, 2)]
        os.makedirs(folders[1], exist_ok=True)

    # --- one way ---

    def ours(self, source, target):
        rest, client = self.testbed.rest(source), self.clients[source]
        client.renew()
        begin = time.perf_counter()
        upid = client.call("POST", f"/nodes/n{source}/qemu/{VM}/migrate?target=n{target}&online=1")
        took = client.wait(f"n{source}", upid, 0.01) - begin
        text = " ".join(line["t"] for line in rest.get(f"/nodes/n{source}/tasks/{upid}/log", limit=200))
        still = re.search(r"stood still for (\d+) ms", text)
        if still is None:
            raise SystemExit(f"the migration failed: {text}")
        return took * 1000, float(still.group(1))

    def theirs(self, source, target):
        there = os.path.join(self.testbed.node(target).private, "libvirt", "run", "libvirt", "libvirt-sock")
        begin = time.perf_counter()
        self.virsh(source, "migrate", "--live", "--unsafe", f"atoll-{OTHER}", f"qemu+unix:///system?socket={there}",
                   "--migrateuri", f"tcp://{self.testbed.address(target)}")
        took = time.perf_counter() - begin
        info = self.virsh(target, "domjobinfo", f"atoll-{OTHER}", "--completed").stdout
        return took * 1000, float(re.search(r"Total downtime:\s+(\d+)", info).group(1))

    def run(self):
        ours, theirs = [], []
        for turn in range(2 * ROUNDS + 2):  # the first way there and back warms up
            source, target = (1, 2) if turn % 2 == 0 else (2, 1)
            one, other = self.ours(source, target), self.theirs(source, target)
            if turn > 1:
                ours.append(one)
                theirs.append(other)
        return ours, theirs


def main():
    testbed = Testbed(f"bmigr{os.getpid()}", BUILD)
    shared = f"/srv-shared-{os.getpid()}"
    os.makedirs(shared)
    end_in_order()
    try:
        testbed.up(2)
        testbed.make_cluster()
        ours, theirs = Bench(testbed, shared).run()
    finally:
        undisturbed()
        testbed.down()
        shutil.rmtree(shared, ignore_errors=True)
    names = ("time", "stands still")
    for i, name in enumerate(names):
        say(f"migration through REST, {name} (median of {len(ours)})", middle([row[i] for row in ours]), "ms")
        say(f"virsh migrate, {name}", middle([row[i] for row in theirs]), "ms")
    say("migration, time against virsh migrate", middle([a[0] / b[0] for a, b in zip(ours, theirs)]), "x", BUDGET)
    say("migration, stands still longer than with virsh migrate by",
        middle([a[1] - b[1] for a, b in zip(ours, theirs)]), "ms")
    return 1 if missed else 0


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("needs root: namespaces")
    sys.exit(main())
