#!/usr/bin/python3
"""Nothing healthy is fenced: five nodes with resources under high availability and watchdogs outside of them, while etcd
elects, services are restarted and killed, and processors, disk and REST are loaded, all by chance. No watchdog may fire, no
manager may decide to fence, and every guest keeps its first process.

ATL_HOUR_MINUTES=N: how long (default 10; the proof is 60); ATL_SEED=N repeats the order of what is done
"""
import collections
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

from testbed import ApiError, NodeError, Testbed, guests, wait_until

MINUTES = float(os.environ.get("ATL_HOUR_MINUTES", "10"))
NODES = 5
VMS = {500: 1, 501: 2, 502: 3}  # guest: its node
CTS = {600: 4, 601: 5}
SERVICES = ("config-store", "ha-lrm", "ha-crm", "api-gateway", "compute-agent", "storage-agent", "sdn-agent", "watchdog")
ENGINES = ("corosync", "libvirtd")
# The nodes share this machine's one disk. That it stands still for all voters at once is another fault than a busy disk.
VOTERS_WITH_DISKS = (1, 2, 3)
LIMIT_S = 120  # for what takes a second on a machine at rest


class Load(threading.Thread):
    """Now this, now that: busy loops in the nodes' cgroups, storms of fsync on their disk, storms of requests."""

    def __init__(self, testbed, seed):
        super().__init__(daemon=True)
        self.testbed = testbed
        self.random = random.Random(seed)
        self.ended = threading.Event()
        self.seconds = collections.Counter()
        self.answers = os.path.join(testbed.state_dir, "answers")
        self.children = []

    def run(self):
        while not self.ended.is_set():
            kinds = self.random.sample(("busy", "disk", "rest"), self.random.randint(1, 3))
            began = time.monotonic()
            for kind in kinds:
                getattr(self, kind)()
            self.ended.wait(self.random.uniform(10, 40))
            self.stop()
            for kind in [*kinds, "any"]:
                self.seconds[kind] += time.monotonic() - began
            self.ended.wait(self.random.uniform(0, 8))

    def start_in(self, which, script, *words):
        """A shell in the node's cgroups: the kernel gives it what it gives the node."""
        enter = 'for procs in /sys/fs/cgroup/*/"$1"/cgroup.procs; do echo $$ >"$procs"; done; shift; '
        self.children.append(subprocess.Popen(["sh", "-c", enter + script, "sh", self.testbed.node(which).cgroup, *words],
                                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                              stderr=subprocess.DEVNULL, start_new_session=True))

    def some_nodes(self, least, most):
        return [self.random.choice(self.testbed.numbers()) for _ in range(self.random.randint(least, most))]

    def busy(self):
        for which in self.some_nodes(2, 8):
            self.start_in(which, "while :; do :; done")

    def disk(self):
        for count, which in enumerate(self.some_nodes(1, 3)):
            path = os.path.join(self.testbed.node(which).state_dir, f"storm{count}")
            self.start_in(which, 'while :; do dd if=/dev/zero of="$1" bs=16k count=256 oflag=dsync; done', path)

    def rest(self):
        """From outside, each with one connection a round."""
        for which in self.some_nodes(1, 4):
            paths = ["/cluster/resources", "/cluster/ha/status/current", "/cluster/ha/status/manager_status", "/nodes"]
            paths += [f"/nodes/n{i}/{kind}" for i in self.testbed.numbers() for kind in ("qemu", "lxc", "status")]
            url = self.testbed.node(which).url + "/api2/json"
            each = "".join(f'url = "{url}{path}"\noutput = "/dev/null"\n' for path in paths)
            config = os.path.join(self.testbed.state_dir, f"storm{which}.curl")
            with open(config, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as out:
                out.write(f'header = "Authorization: PVEAPIToken={self.testbed.facts["tokens"][str(which)]}"\n'
                          f'cacert = "{self.testbed.facts["cacert"][str(which)]}"\nsilent\nmax-time = 20\n'
                          f'write-out = "%{{http_code}}\\n"\n{each}')
            with open(self.answers, "a", encoding="utf-8") as out:
                self.children.append(subprocess.Popen(["sh", "-c", 'while :; do curl -K "$1"; done', "sh", config],
                                                      stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL,
                                                      start_new_session=True))

    def stop(self):
        for child in self.children:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self.children = []

    def end(self):
        self.ended.set()
        self.join()

    def answered(self):
        """How many requests had which status."""
        with open(self.answers, "a+", encoding="utf-8") as lines:
            lines.seek(0)
            return collections.Counter(line.strip() for line in lines)


def first_process_of(pid):
    """The guest whose first process this is, or None."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
            is_machine = comm.read().startswith("qemu-system")
        with open(f"/proc/{pid}/status", encoding="utf-8") as lines:
            inner = next(line for line in lines if line.startswith("NSpid:")).split()
        if is_machine:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as text:
                words = text.read()
            return next((vmid for vmid in VMS if f"vm-{vmid}-disk" in words), None)
        if inner[-1] != "1" or len(inner) < 4:  # here, in the node, in the container
            return None
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as text:
            folders = text.read().replace("\n", "/").split("/")
        return next((vmid for vmid in CTS if str(vmid) in folders), None)
    except (OSError, StopIteration):
        return None


class Healthy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.seed = int(os.environ.get("ATL_SEED", random.randrange(1 << 32)))
        print(f"seed {cls.seed} (again: ATL_SEED={cls.seed}), {MINUTES:g} minutes", file=sys.stderr, flush=True)
        cls.testbed = Testbed(f"healthy{os.getpid()}")
        cls.shared = f"/srv-healthy-{os.getpid()}"
        cls.addClassCleanup(shutil.rmtree, cls.shared, True)
        cls.addClassCleanup(cls.testbed.down)
        os.makedirs(cls.shared)
        cls.testbed.up(NODES)
        for which in VOTERS_WITH_DISKS:
            cls.give_disk(which)
        cls.testbed.make_cluster()
        guests.make_images(None, None)
        rest = cls.testbed.rest(1)
        rest.post("/storage", storage="pool", type="dir", path=cls.shared, shared=1, content="images,import,rootdir,vztmpl")
        rest.wait(rest.upload("n1", "pool", "import", guests.DISK, lambda *_: None))
        rest.wait(rest.upload("n1", "pool", "vztmpl", guests.TEMPLATE, lambda *_: None))
        for vmid, node in VMS.items():
            rest.wait(rest.post(f"/nodes/n{node}/qemu", vmid=vmid, memory=128, agent="1", machine="q35", ostype="l26",
                                serial0="socket", boot="order=virtio0", net0="virtio,bridge=vmbr0",
                                virtio0=f"pool:0,import-from=pool:import/{os.path.basename(guests.DISK)}"))
            rest.post("/cluster/ha/resources", sid=f"vm:{vmid}")
        for vmid, node in CTS.items():
            rest.wait(rest.post(f"/nodes/n{node}/lxc", vmid=vmid, hostname=f"ct{vmid}", memory=64, swap=0, rootfs="pool:1",
                                ostemplate=f"pool:vztmpl/{os.path.basename(guests.TEMPLATE)}", ostype="unmanaged",
                                net0="name=eth0,bridge=vmbr0,ip=dhcp"))
            rest.post("/cluster/ha/resources", sid=f"ct:{vmid}")

    @classmethod
    def give_disk(cls, which):
        """One of its own for etcd, in memory."""
        folder = os.path.join(cls.testbed.node(which).state_dir, "config-store", "etcd")
        cls.testbed.exec(which, "mount", "-t", "tmpfs", "-o", "size=1g,mode=0700,uid=atoll-config,gid=atoll-config", "tmpfs",
                         folder)

    def setUp(self):
        self.random = random.Random(self.seed)
        self.done = collections.Counter()

    # --- what there is ---

    def guests_now(self):
        """guest -> (node, its first process)"""
        found = {}
        for which in self.testbed.numbers():
            for pid in self.testbed.processes(which):
                vmid = first_process_of(pid)
                if vmid is not None:
                    found[vmid] = (which, pid)
        return found

    def all_well(self):
        """Every node online, every guest started where it was made."""
        try:
            rest = self.testbed.rest(1)
            nodes = rest.get("/cluster/ha/status/manager_status")["manager_status"]["node_status"]
            rows = {row["sid"]: (row["state"], row["node"]) for row in rest.get("/cluster/ha/status/current") if "sid" in row}
            wanted = {f"vm:{vmid}": ("started", f"n{node}") for vmid, node in VMS.items()}
            wanted |= {f"ct:{vmid}": ("started", f"n{node}") for vmid, node in CTS.items()}
            return rows == wanted and len(nodes) == NODES and all(node["state"] == "online" for node in nodes.values()) and \
                set(self.guests_now()) == set(VMS) | set(CTS) and all(self.testbed.sees_all(i) for i in self.testbed.numbers())
        except (ApiError, OSError, LookupError):
            return False

    def decided(self, text):
        """Lines of the managers' logs, the old ones too."""
        found = []
        for which in self.testbed.numbers():
            for path in sorted(glob.glob(os.path.join(self.testbed.node(which).log_dir, "atoll-ha-crm", "*"))):
                with open(path, encoding="utf-8", errors="replace") as lines:
                    found += [f"n{which}: {line.strip()}" for line in lines if f"decided: {text}" in line]
        return found

    def explain(self):
        text = f"\n(seed {self.seed}) {dict(self.done)}\n"
        for which in self.testbed.numbers():
            for service in ("atoll-ha-crm", "atoll-ha-lrm", "atoll-watchdog", "atoll-config-store", "etcd"):
                log = os.path.join(self.testbed.node(which).log_dir, service, "current")
                with open(log, encoding="utf-8", errors="replace") as lines:
                    text += f"--- n{which} {service}\n" + "".join(lines.readlines()[-12:])
        return text

    def assert_nothing_fenced(self, before):
        bad = [event for event in self.testbed.dog_events() if event["what"] in ("fired", "dead")]
        self.assertEqual(bad, [], f"a healthy node was reset {self.explain()}")
        now = self.guests_now()
        self.assertEqual(now, before, f"a guest was disturbed {self.explain()}")

    # --- etcd ---

    def etcdctl(self, which, endpoints, *words):
        folder = os.path.join(self.testbed.node(which).state_dir, "config-store", "etcd")
        return self.testbed.exec(which, "env", "ETCDCTL_API=3", "etcdctl", "--command-timeout=3s", "--endpoints",
                                 ",".join(f"{self.testbed.address(i)}:2379" for i in endpoints), "--cacert",
                                 f"{folder}/ca.pem", "--cert", f"{folder}/node.pem", "--key", f"{folder}/node.key", *words,
                                 check=False)

    def etcd_members(self):
        """(node -> member id, the leader's node, term), or None while not all agree on a leader."""
        done = self.etcdctl(1, self.testbed.numbers(), "endpoint", "status", "-w", "json")
        try:
            rows = json.loads(done.stdout) or []
        except ValueError:
            return None
        if any("leader" not in row["Status"] for row in rows):  # it is not said when there is none
            return None
        ids = {int(row["Endpoint"].split(":")[0].rpartition(".")[2]): row["Status"]["header"]["member_id"] for row in rows}
        leaders = {row["Status"]["leader"] for row in rows}
        leader = next((node for node, member in ids.items() if leaders == {member}), None)
        if len(ids) < NODES or leader is None:
            return None
        return ids, leader, max(row["Status"]["header"]["raft_term"] for row in rows)

    def whole_etcd(self):
        """Elections are of an etcd whose members are there: two of them at a time is another fault."""
        found = wait_until(LIMIT_S, self.etcd_members, 0.3)
        self.assertTrue(found, f"etcd has not come back within {LIMIT_S} s {self.explain()}")
        return found

    def move_leader(self):
        ids, leader, _ = self.whole_etcd()
        target = self.random.choice([i for i in ids if i != leader])
        done = self.etcdctl(leader, [leader], "move-leader", f"{ids[target]:x}")
        return "etcd's leader moved" if done.returncode == 0 else "etcd's leader not moved"

    def kill_leader(self):
        _, leader, _ = self.whole_etcd()
        self.testbed.kill(leader, "etcd")
        return "etcd's leader killed"

    def kill_follower(self):
        ids, leader, _ = self.whole_etcd()
        self.testbed.kill(self.random.choice([i for i in ids if i != leader]), "etcd")
        return "etcd's follower killed"

    def pause_etcd(self):
        ids, leader, _ = self.whole_etcd()
        which = self.random.choice([leader, self.random.choice(list(ids))])
        pid = self.testbed.kill(which, "etcd", signal.SIGSTOP)
        time.sleep(self.random.uniform(1, 2))
        os.kill(pid, signal.SIGCONT)
        return "etcd paused"

    # --- services ---

    def strike(self, service, sig):
        """False: it is just starting."""
        try:
            self.testbed.kill(self.random.choice(self.testbed.numbers()), service, sig)
            return True
        except (NodeError, ProcessLookupError):
            return False

    def kill_service(self):
        service = self.random.choice(SERVICES)
        return f"{service} killed" if self.strike(service, signal.SIGKILL) else "too early"

    def restart_service(self):
        service = self.random.choice(SERVICES)
        return f"{service} restarted" if self.strike(service, signal.SIGTERM) else "too early"

    def kill_engine(self):
        service = self.random.choice(ENGINES)
        return f"{service} killed" if self.strike(service, signal.SIGKILL) else "too early"

    # --- the test ---

    def strike_all_the_time(self, before):
        strokes = [self.move_leader, self.kill_leader, self.kill_follower, self.pause_etcd, self.kill_engine]
        strokes += 4 * [self.kill_service] + 3 * [self.restart_service]
        end = time.monotonic() + MINUTES * 60
        told = time.monotonic()
        while time.monotonic() < end:
            time.sleep(self.random.uniform(0.3, 4))
            self.done[self.random.choice(strokes)()] += 1
            self.assert_nothing_fenced(before)
            if time.monotonic() - told > 300:
                told = time.monotonic()
                print(f"{(end - told) / 60:.0f} minutes left: {dict(self.done)}", file=sys.stderr, flush=True)

    def tell(self, load, elections):
        self.testbed.stop_dogs()
        ends = [event for event in self.testbed.dog_events() if event["what"] == "end"]
        feeds = sum(event["feeds"] for event in ends)
        least = min(event["least"] for event in ends)
        answers = load.answered()
        loads = ", ".join(f"{kind} {seconds:.0f} s" for kind, seconds in load.seconds.items() if kind != "any")
        print("\n".join([f"{MINUTES:g} minutes, seed {self.seed}: {elections} terms of etcd, {sum(self.done.values())} strokes",
                         *(f"    {count:5d} {what}" for what, count in sorted(self.done.items())),
                         f"load in {load.seconds['any']:.0f} s ({loads}); {sum(answers.values())} requests, "
                         f"{answers['200']} answered with 200",
                         f"{feeds} feeds of {sum(1 for e in ends if e['feeds'])} watchdogs of 2 s; the least time that was "
                         f"left at one: {least:.2f} s"]), file=sys.stderr, flush=True)
        return feeds

    def test_nothing_healthy_is_fenced(self):
        self.assertTrue(wait_until(LIMIT_S, self.all_well, 0.3), f"the guests do not run {self.explain()}")
        before = self.guests_now()
        term = self.whole_etcd()[2]
        load = Load(self.testbed, self.seed + 1)
        load.start()
        try:
            self.strike_all_the_time(before)
        finally:
            load.end()
        self.assertTrue(wait_until(LIMIT_S, self.all_well, 0.3), f"not all is well in the end {self.explain()}")
        self.assert_nothing_fenced(before)
        self.assertEqual(self.decided("fence"), [])
        elections = self.whole_etcd()[2] - term
        feeds = self.tell(load, elections)
        self.assertGreater(elections, 0)
        self.assertGreater(feeds, NODES * MINUTES * 60 / 2, "the watchdogs were not fed all the time")
        self.assertLess(feeds, NODES * MINUTES * 60 * 20, "the watchdogs were fed without rest")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
