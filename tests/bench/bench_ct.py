#!/usr/bin/python3
"""Container start through REST: against `lxc-start` of the same container, and against LXD's REST, in one run.

usage: bench_ct.py BUILD-DIR [ROUNDS]     Needs root; everything is in namespaces and folders of its own.

lxc-start: time until liblxc says that the container runs (REST: until the agent's file of the run is there, looked for
every 0.2 ms; lxc-start -d: until it returns), the same configuration and root file system. LXD: time until the task,
there the operation, is known to have ended, each asked over one open connection; a container of the same files on a
bridge. Ours and the other take turns, so that noise of the machine hits both.
"""
import os
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "services", "compute-agent", "tests"))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))

import component_ct as ct  # noqa: E402
import certs  # noqa: E402
import lxd  # noqa: E402
import rest  # noqa: E402
from measure import Client, end_in_order, middle, missed, say, undisturbed  # noqa: E402

BUDGET = 1.5
LXD_BUDGET = 0.25
BLOCK = 5


def until_gone(path):
    while os.path.exists(path):
        time.sleep(0.002)


class Bench:
    def __init__(self, world):
        self.world = world
        self.lxd = None
        self.run = os.path.join(world.run_dir, "lxc", "101")
        self.plain = os.path.join(world.top, "plain", "101")
        self.times = {"runs": [], "answered": [], "ended": [], "lxc-start": [], "lxd": []}
        certs.make(world.state, ct.NODE, [])
        world.up()
        world.spawn("api-gateway", "--listen", "127.0.0.1:8006")
        local = os.path.join(world.top, "local")
        world.api("create", "/storage", storage="local", type="dir", path=local, content="rootdir,vztmpl")
        os.makedirs(os.path.join(local, "template", "cache"), exist_ok=True)
        ct.sh("cp busybox.tar.zst local/template/cache/; chown -R atoll-storage: local", world.top)
        value = world.api("create", "/access/users/root@pam/token/bench", privsep=0)["value"]
        context = rest.Rest("https://127.0.0.1:8006", os.path.join(world.state, "ca.pem")).context
        self.client = Client("127.0.0.1", 8006, context, "root@pam!bench=" + value)

    def turn(self, verb):
        return self.client.call("POST", f"/nodes/{ct.NODE}/lxc/101/status/{verb}")

    def make(self):
        """Ours; then its settings for lxc-start: once started, copied, stopped."""
        self.world.task(self.world.api(
            "create", f"/nodes/{ct.NODE}/lxc", vmid=101, ostemplate="local:vztmpl/busybox.tar.zst", hostname="ct101",
            memory=64, swap=0, rootfs="local:0.03", net0="name=eth0,bridge=vmbr0,ip=10.66.1.5/24"))
        self.client.wait(ct.NODE, self.turn("start"))
        os.makedirs(os.path.join(self.plain, "rootfs"))
        os.chmod(os.path.dirname(self.plain), 0o755)
        with open(os.path.join(self.run, "config"), encoding="utf-8") as text:
            config = text.read()
        ct.sh(f"cp {self.run}/seccomp {self.plain}/", self.world.top)
        self.client.wait(ct.NODE, self.turn("stop"))
        with open(os.path.join(self.plain, "config"), "w", encoding="utf-8") as out:
            out.write(config.replace(self.run, self.plain).replace("monitor-101", "plain-monitor")
                      .replace("/101\n", "/plain\n"))

    def make_lxd(self):
        try:
            self.lxd = lxd.Lxd(os.path.join(self.world.top, "lxd"), os.path.join(self.world.top, "root"))
        except lxd.Absent as error:
            print(f"LXD was not measured: {error}")

    def round(self):
        """Ours, then lxc-start."""
        begin = time.perf_counter()
        upid = self.turn("start")
        self.times["answered"].append(time.perf_counter() - begin)
        while not os.path.exists(os.path.join(self.run, "run")):
            time.sleep(0.0002)
            if time.perf_counter() - begin > 10:
                self.client.wait(ct.NODE, upid)
                raise SystemExit("the container did not come up")
        self.times["runs"].append(time.perf_counter() - begin)
        self.client.wait(ct.NODE, upid)
        self.halt()
        self.round_plain()

    def start_ours(self):
        begin = time.perf_counter()
        took = self.client.wait(ct.NODE, self.turn("start")) - begin
        self.halt()
        return took

    def start_lxd(self):
        begin = time.perf_counter()
        self.lxd.turn("start")
        took = time.perf_counter() - begin
        self.lxd.turn("stop")
        return took

    def round_lxd(self):
        """A few of ours, then as many of LXD's. The kernel takes a container's network away after its end, so the
        first of each would pay for the other's last: it is not counted."""
        self.client.renew()
        self.times["ended"] += [self.start_ours() for _ in range(BLOCK + 1)][1:]
        self.times["lxd"] += [self.start_lxd() for _ in range(BLOCK + 1)][1:]

    def halt(self):
        self.client.wait(ct.NODE, self.turn("stop"))
        until_gone(os.path.join(self.run, "run"))

    def round_plain(self):
        folder = os.path.dirname(self.plain)
        ct.sh(f"mount -o loop local/images/101/vm-101-disk-0.raw {self.plain}/rootfs", self.world.top)
        begin = time.perf_counter()
        subprocess.run(["lxc-start", "-d", "-n", "101", "-P", folder], check=True)
        self.times["lxc-start"].append(time.perf_counter() - begin)
        subprocess.run(["lxc-stop", "-k", "-n", "101", "-P", folder], check=True)
        ct.sh(f"umount {self.plain}/rootfs; rmdir /sys/fs/cgroup/*/{self.world.cgroup_base()}/plain* 2>/dev/null || true",
              self.world.top)

    def report(self, rounds):
        ms = {name: middle(values) * 1000 for name, values in self.times.items() if values}
        print(f"container start, medians of {rounds}")
        say("lxc-start -d", ms["lxc-start"], "ms")
        say("REST, until the task's id", ms["answered"], "ms")
        say("REST, until it runs", ms["runs"], "ms")
        say("REST until it runs / lxc-start", ms["runs"] / ms["lxc-start"], "x", BUDGET)
        if "lxd" in ms:
            say("REST, until the task has ended", ms["ended"], "ms")
            say("LXD's REST, until the operation has ended", ms["lxd"], "ms")
            say("REST until the task has ended / LXD's", ms["ended"] / ms["lxd"], "x", LXD_BUDGET)


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    end_in_order()
    world = ct.World()
    bench = None
    try:
        bench = Bench(world)
        bench.make()
        for _ in range(rounds):
            bench.round()
        bench.make_lxd()
        for _ in range(rounds // BLOCK if bench.lxd is not None else 0):
            bench.round_lxd()
        bench.report(rounds)
        bench.client.renew()
        bench.client.wait(ct.NODE, bench.client.call("DELETE", f"/nodes/{ct.NODE}/lxc/101"))
    finally:
        undisturbed()
        if bench is not None and bench.lxd is not None:
            bench.lxd.stop()
        world.down()
    return 1 if missed else 0


if __name__ == "__main__":
    ct.isolate()
    sys.exit(main())
