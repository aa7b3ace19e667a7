#!/usr/bin/python3
"""Virtual machines move between nodes: stopped and running, and each runs exactly once whatever is killed meanwhile."""
import os
import random
import re
import shutil
import signal
import sys
import time
import unittest

from testbed import TOP, ApiError, NodeError, Testbed, guests, wait_until

VM = 500
FILE = "crash-at"
FULL = bool(os.environ.get("ATL_FULL"))


def all_points():
    with open(os.path.join(TOP, "services", "compute-agent", "crash.c"), encoding="utf-8") as source:
        return re.findall(r'\[CMP_CRASH_VM_\w+\] = "vm-([a-z-]+)"', source.read())


def chosen(points, count):
    if FULL or os.environ.get("ATL_POINTS"):
        return [p for p in points if re.search(os.environ.get("ATL_POINTS", ""), p)]
    seed = int(os.environ.get("ATL_SEED", time.time_ns() % 1000000))
    print(f"\nATL_SEED={seed}", file=sys.stderr)
    return random.Random(seed).sample(points, count)


class Migration(unittest.TestCase):
    """One testbed of two nodes and a shared folder; the machine 500 goes there and back."""

    @classmethod
    def setUpClass(cls):
        cls.testbed = Testbed(f"migr{os.getpid()}")
        cls.shared = f"/srv-shared-{os.getpid()}"
        cls.addClassCleanup(shutil.rmtree, cls.shared, True)
        cls.addClassCleanup(cls.testbed.down)
        os.makedirs(cls.shared)
        cls.testbed.up(2)
        cls.testbed.make_cluster()
        guests.make_images(None, None)
        rest = cls.rest(1)
        rest.post("/storage", storage="local", type="dir", path="/srv/local", content="images,rootdir,iso,import")
        rest.post("/storage", storage="pool", type="dir", path=cls.shared, shared=1, content="images,import")
        rest.wait(rest.upload("n1", "pool", "import", guests.DISK, lambda *_: None))
        cls.make_vm("pool")

    @classmethod
    def rest(cls, which=1):
        return cls.testbed.rest(which)

    @classmethod
    def make_vm(cls, storage, **options):
        rest = cls.rest()
        rest.wait(rest.post("/nodes/n1/qemu", **options, vmid=VM, name="mover", memory=128, agent="1", machine="q35",
                            ostype="l26", serial0="socket", boot="order=virtio0", net0="virtio,bridge=vmbr0",
                            virtio0=f"{storage}:0,import-from=pool:import/{os.path.basename(guests.DISK)}"))

    # --- what is there ---

    def home(self):
        """The node that has the guest's file: exactly one."""
        found = [i for i in self.testbed.numbers() if self.has(i)]
        return found[0] if len(found) == 1 else found

    def final_home(self):
        """Where it is when all that was under way has come to an end."""
        def at_rest():
            home = self.home()
            return isinstance(home, int) and not self.busy(1) and not self.busy(2) and "lock" not in self.config(home)
        self.assertTrue(wait_until(60, at_rest), self.where())
        return self.home()

    def row(self):
        rows = [r for r in self.rest().get("/cluster/resources?type=vm") if r["vmid"] == VM]
        return (rows[0]["node"], rows[0]["status"]) if len(rows) == 1 else rows

    def config(self, which):
        return self.rest(which).get(f"/nodes/n{which}/qemu/{VM}/config")

    def has(self, which):
        try:
            return bool(self.config(which))
        except ApiError:
            return False

    def machines(self, which):
        """Processes of QEMU on the node that are the guest's."""
        init = self.testbed.node(which).init_pid()
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as text:
                    words = text.read().decode(errors="replace")
                if f"guest=atoll-{VM}," in words and os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{init}/ns/net"):
                    found.append(int(pid))
            except OSError:
                continue
        return found

    def status(self, which):
        return self.rest(which).get(f"/nodes/n{which}/qemu/{VM}/status/current")

    def volumes(self, which, storage):
        rows = self.rest(which).get(f"/nodes/n{which}/storage/{storage}/content", content="images")
        return sorted(row["volid"] for row in rows if row.get("vmid") == VM)

    def inside(self, which, *command):
        """Runs it in the guest: what it said; None: the agent does not answer now, or it failed."""
        rest = self.rest(which)
        try:
            done = rest.post(f"/nodes/n{which}/qemu/{VM}/agent/exec", command=list(command))
            for _ in range(200):
                state = rest.get(f"/nodes/n{which}/qemu/{VM}/agent/exec-status", pid=done["pid"])
                if state["exited"]:
                    return state.get("out-data", "") if state["exitcode"] == 0 else None
                time.sleep(0.1)
        except ApiError:
            return None
        return None

    def boot_id(self, which):
        """Of the guest's kernel: the same as long as it was not started anew."""
        found = wait_until(60, lambda: self.inside(which, "cat", "/proc/sys/kernel/random/boot_id"), 0.2)
        self.assertTrue(found, "the guest agent does not answer")
        return found.strip()

    def settled(self, which, running):
        """The guest is on that node alone, unlocked, once."""
        other = 3 - which
        self.assertTrue(wait_until(30, lambda: self.has(which) and "lock" not in self.config(which)), self.where())
        self.assertTrue(wait_until(30, lambda: not self.machines(other)), self.where())
        self.assertFalse(self.has(other), self.where())
        self.assertEqual(len(self.machines(which)), 1 if running else 0, self.where())
        if running:
            self.assertTrue(wait_until(10, lambda: self.status(which)["qmpstatus"] == "running"), self.where())
        self.assertTrue(wait_until(10, lambda: self.row() == (f"n{which}", "running" if running else "stopped")), self.row())
        for node in (1, 2):
            self.assertTrue(wait_until(30, lambda n=node: not self.busy(n)), (node, self.busy(node)))

    def where(self):
        return {i: (self.has(i), self.machines(i)) for i in (1, 2)}

    def busy(self, which):
        try:
            rows = self.rest(which).get(f"/nodes/n{which}/tasks", source="active")
        except ApiError as error:
            return [str(error)]
        return [row["upid"] for row in rows if row["type"] in ("qmigrate", "qmreceive")]

    # --- what is done ---

    def migrate(self, source, target, **options):
        return self.rest(source).post(f"/nodes/n{source}/qemu/{VM}/migrate", target=f"n{target}", **options)

    def log(self, which, upid):
        return [line["t"] for line in self.rest(which).get(f"/nodes/n{which}/tasks/{upid}/log", limit=500)]

    def move(self, source, target, **options):
        began = time.monotonic()
        upid = self.migrate(source, target, **options)
        try:
            self.rest(source).wait(upid, 120)
        except Exception as error:
            raise AssertionError((str(error), self.log(source, upid), self.tail(target))) from error
        took = time.monotonic() - began
        return took, self.log(source, upid)

    def tail(self, which):
        rows = self.rest(which).get(f"/nodes/n{which}/tasks", vmid=VM, limit=2)
        return [(row["upid"], self.log(which, row["upid"])) for row in rows]

    def ensure(self, which, running):
        here = next(i for i in (1, 2) if self.has(i))
        if here != which:
            self.move(here, which, **{"online": 1, "with-local-disks": 1})
        if running and not self.machines(which):
            self.rest(which).wait(self.rest(which).post(f"/nodes/n{which}/qemu/{VM}/status/start"), 120)
        if not running and self.machines(which):
            self.rest(which).wait(self.rest(which).post(f"/nodes/n{which}/qemu/{VM}/status/stop"), 60)

    def arm(self, which, point):
        with open(self.crash_file(which), "w", encoding="utf-8") as file:
            file.write(f"vm-{point}\n")

    def crash_file(self, which):
        return os.path.join(self.testbed.node(which).state_dir, "compute-agent", FILE)

    def ended(self, which, upid, seconds=60):
        """How the task ended; an agent that is starting does not answer."""
        def ask():
            try:
                return self.rest(which).get(f"/nodes/n{which}/tasks/{upid}/status").get("exitstatus")
            except ApiError:
                return None
        return wait_until(seconds, ask)

    # --- tests ---

    def test_1_a_stopped_guest(self):
        self.ensure(1, running=False)
        found = self.rest().get(f"/nodes/n1/qemu/{VM}/migrate")
        self.assertEqual((found["running"], found["allowed_nodes"], found["local_disks"]), (0, ["n2"], []))
        before = self.volumes(1, "pool")
        took, log = self.move(1, 2)
        print(f"a stopped guest on a shared storage: {took:.2f} s", file=sys.stderr)
        self.settled(2, running=False)
        self.assertEqual(self.volumes(2, "pool"), before, log)

    def test_2_a_running_guest(self):
        self.ensure(1, running=True)
        boot = self.boot_id(1)
        for source, target in ((1, 2), (2, 1)):
            took, log = self.move(source, target, online=1)
            still = [line for line in log if "stood still" in line]
            print(f"a running guest on a shared storage: {took:.2f} s, {still}", file=sys.stderr)
            self.settled(target, running=True)
            self.assertEqual(self.boot_id(target), boot)
            self.assertTrue(still, log)

    def test_a_paused_guest(self):
        self.ensure(1, running=True)
        boot = self.boot_id(1)
        self.rest(1).wait(self.rest(1).post(f"/nodes/n1/qemu/{VM}/status/suspend"))
        for source, target in ((1, 2), (2, 1)):
            self.move(source, target, **{"online": 1, "with-local-disks": 1})
            self.assertTrue(wait_until(10, lambda t=target: self.status(t)["qmpstatus"] == "paused"))
            self.assertEqual((len(self.machines(target)), self.awake()), (1, []))
        self.rest(1).wait(self.rest(1).post(f"/nodes/n1/qemu/{VM}/status/resume"))
        self.settled(1, running=True)
        self.assertEqual(self.boot_id(1), boot)

    def cut_off(self, point, running, local=0):
        """The worker is killed there; afterwards the guest is somewhere, once, and moves on as if nothing had been."""
        source = next(i for i in (1, 2) if self.has(i))
        target = 3 - source
        boot = self.boot_id(source) if running else None
        self.arm(source if point.startswith("source") else target, point)
        if point in ("source-taken-back", "source-goes-on"):
            self.arm(target, "target-waiting")  # for these it has to fail first
        upid = self.migrate(source, target, **{"online": int(running), "with-local-disks": local})
        self.assertTrue(self.ended(source, upid), self.log(source, upid))
        killed = source if point.startswith("source") else target
        self.assertFalse(os.path.exists(self.crash_file(killed)), (point, self.log(source, upid)))
        home = self.final_home()
        self.settled(home, running)
        if running:
            self.assertEqual(self.boot_id(home), boot, (point, self.log(source, upid)))
        self.assertEqual([len(self.volumes(i, "local")) for i in (1, 2)], [2 * local * (i == home) for i in (1, 2)])
        return "stays" if home == source else "has moved"

    def local_vm(self, running):
        """The guest with its disk on the storage that each node has for itself."""
        self.ensure(1, running=False)
        rest = self.rest(1)
        rest.wait(rest.delete(f"/nodes/n1/qemu/{VM}"))
        self.make_vm("local", ide2="local:cloudinit", ciuser="somebody")
        if running:
            rest.wait(rest.post(f"/nodes/n1/qemu/{VM}/status/start"), 120)

    def test_6_a_stopped_guest_with_a_local_disk(self):
        self.local_vm(running=False)
        path = f"{self.testbed.node(1).state_dir}/srv/local/images/{VM}"
        name = next(name for name in os.listdir(path) if "disk" in name)
        with open(os.path.join(path, name), "rb") as file:
            before = file.read()
        took, log = self.move(1, 2)
        print(f"a stopped guest with a local disk: {took:.2f} s", file=sys.stderr)
        self.settled(2, running=False)
        self.assertEqual((self.volumes(1, "local"), len(self.volumes(2, "local"))), ([], 2), log)
        with open(os.path.join(path.replace("/n1/", "/n2/"), name), "rb") as file:
            self.assertTrue(file.read() == before)

    def test_7_a_running_guest_with_a_local_disk(self):
        self.local_vm(running=True)
        boot = self.boot_id(1)
        upid = self.migrate(1, 2, online=1)
        self.assertRegex(self.ended(1, upid), "with-local-disks")
        self.assertIsNotNone(self.inside(1, "sh", "-c", "dd if=/dev/urandom of=/data bs=1M count=6 && sync && "
                                         "sha256sum /data >/data.sum && sync"))
        self.assertIsNotNone(self.inside(1, "sh", "-c", "(while :; do dd if=/dev/urandom of=/busy bs=64k count=16; sync; "
                                         "done) >/dev/null 2>&1 &"))
        took, log = self.move(1, 2, **{"online": 1, "with-local-disks": 1, "migration_network": "10.77.0.0/24"})
        self.assertIsNotNone(self.inside(2, "sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum -c /data.sum"))
        still = [line for line in log if "stood still" in line]
        print(f"a running guest with a local disk: {took:.2f} s, {still}", file=sys.stderr)
        self.settled(2, running=True)
        self.assertEqual(self.boot_id(2), boot)
        self.assertEqual((self.volumes(1, "local"), len(self.volumes(2, "local"))), ([], 2), log)

    def test_8_workers_are_killed_while_a_local_disk_moves(self):
        self.local_vm(running=True)
        for point in chosen(all_points(), 1):
            print(f"{point}: the guest {self.cut_off(point, True, 1)}", file=sys.stderr)

    def test_3_workers_are_killed_at_every_step(self):
        self.ensure(1, running=True)
        for point in chosen(all_points(), 2):
            print(f"{point}: the guest {self.cut_off(point, running=True)}", file=sys.stderr)

    # --- held in the middle ---

    def worker(self, which, kind):
        """Process of the task that runs there, as the node numbers it, and the task."""
        upid = wait_until(10, lambda: next((u for u in self.busy(which) if f":{kind}:" in u), None))
        path = os.path.join(self.testbed.node(which).state_dir, "tasks", "compute-agent", upid, "status")
        with open(path, encoding="utf-8") as text:
            return re.search(r"^pid[ :=]+(\d+)", text.read(), re.M).group(1), upid

    def hold(self, point):
        """Begins a migration from n1 to n2 whose worker stands still at the point; returns how it goes on."""
        which = 1 if point.startswith("source") else 2
        self.arm(which, point + " hold")
        upid = self.migrate(1, 2, **{"online": 1, "with-local-disks": 1})
        self.assertTrue(wait_until(60, lambda: not os.path.exists(self.crash_file(which))), self.log(1, upid))
        pid, _ = self.worker(which, "qmigrate" if which == 1 else "qmreceive")
        return upid, lambda check=True: self.go_on(which, pid, check)

    def go_on(self, which, pid, check):
        """The worker that was held goes on; without `check` its node may have lost power."""
        try:
            self.testbed.exec(which, "kill", "-CONT", pid, check=check)
        except (OSError, NodeError):
            self.assertFalse(check)

    def awake(self):
        """Nodes where a process of the guest runs and is not paused, as libvirt there says."""
        found = []
        for which in (1, 2):
            done = self.testbed.exec(which, "virsh", "-q", "-c", "qemu:///system", "domstate", f"atoll-{VM}", check=False)
            if done.stdout.strip() == "running":
                found.append(which)
        return found

    def test_9_what_else_may_happen_in_the_middle(self):
        self.ensure(1, running=True)
        cases = [(point, deed) for point in ("source-prepared", "source-sent", "target-whole", "target-owned")
                 for deed in (self.agents_die, self.libvirt_dies, self.link_is_cut, self.link_is_cut_and_workers_die)]
        cases += [("source-sent", self.source_loses_power), ("target-owned", self.source_loses_power),
                  ("source-sent", self.target_loses_power), ("target-whole", self.target_loses_power)]
        wanted = os.environ.get("ATL_DEEDS", "")
        cases = [case for case in cases if re.search(wanted, f"{case[0]} {case[1].__name__}")]
        for point, deed in cases if FULL else random.sample(cases, 1):
            self.ensure(1, running=True)
            boot = self.boot_id(1)
            upid, go_on = self.hold(point)
            self.assertLessEqual(len(self.awake()), 1)
            deed(go_on)
            self.assertTrue(self.ended(1, upid, 120), self.log(1, upid))
            home = self.final_home()
            lost = deed == self.source_loses_power and home == 1
            self.settled(home, running=not lost)
            if not lost:
                self.assertEqual(self.boot_id(home), boot, (point, deed.__name__, self.log(1, upid)))
            print(f"{point}, {deed.__name__}: the guest is on n{home}", file=sys.stderr)

    def source_loses_power(self, go_on):
        self.testbed.power_off(1)
        go_on(check=False)
        self.power_on(1)

    def target_loses_power(self, go_on):
        self.testbed.power_off(2)
        go_on(check=False)
        self.power_on(2)

    def power_on(self, which):
        self.testbed.power_on(which)
        self.assertTrue(wait_until(60, lambda: self.testbed.sees_all(1) and self.testbed.sees_all(2), 0.3))

    def agents_die(self, go_on):
        for which in (1, 2):
            self.testbed.kill(which, "compute-agent")
        go_on()

    def libvirt_dies(self, go_on):
        for which in (1, 2):
            self.testbed.kill(which, "libvirtd")
        go_on()

    def link_is_cut(self, go_on):
        self.testbed.cut(1, 2)
        try:
            go_on()
            for _ in range(30):  # neither side has a quorum: whatever each does, at most one runs
                self.assertLessEqual(len(self.awake()), 1)
                time.sleep(0.1)
        finally:
            self.testbed.heal()

    def link_is_cut_and_workers_die(self, go_on):
        workers = [(1, self.worker(1, "qmigrate")[0]), (2, self.worker(2, "qmreceive")[0])]
        self.testbed.cut(1, 2)
        try:
            go_on()
            time.sleep(1)
            for which, pid in workers:
                self.testbed.exec(which, "kill", "-KILL", pid, check=False)
            for _ in range(20):
                self.assertLessEqual(len(self.awake()), 1)
                time.sleep(0.1)
        finally:
            self.testbed.heal()

    def test_4_a_stop_at_any_time_does_no_harm(self):
        self.ensure(1, running=True)
        boot = self.boot_id(1)
        upid = self.migrate(1, 2, online=1, bwlimit=2048)
        self.assertTrue(wait_until(30, lambda: any("memory:" in line for line in self.log(1, upid))), self.log(1, upid))
        self.rest(1).delete(f"/nodes/n1/tasks/{upid}")
        self.assertNotEqual(self.ended(1, upid), "OK")
        self.settled(1, running=True)
        self.assertEqual(self.boot_id(1), boot)

    @unittest.skipUnless(FULL or len(sys.argv) > 1, "takes half a minute: tests/run full, or ATL_FULL=1")
    def test_b_the_limit_of_the_cluster_holds(self):
        """Where the request says none; what a request says comes first."""
        mib_s = 4
        self.ensure(1, running=True)
        rest = self.rest(1)
        rest.put("/cluster/options", bwlimit=f"migration={mib_s * 1024}")
        self.addCleanup(rest.put, "/cluster/options", delete="bwlimit")
        slow, log = self.move(1, 2, **{"online": 1, "with-local-disks": 1})
        sent = max(int(mib) for mib in re.findall(r"memory: (\d+) MiB sent", "\n".join(log)))
        print(f"{sent} MiB of memory at {mib_s} MiB/s at the most: {slow:.1f} s", file=sys.stderr)
        self.assertGreater(sent, mib_s)
        self.assertGreater(slow, 0.8 * sent / mib_s)
        fast, log = self.move(2, 1, **{"online": 1, "with-local-disks": 1, "bwlimit": 0})
        self.assertLess(fast, 0.5 * slow, log)
        self.settled(1, running=True)

    def test_5_nothing_is_touched_when_a_check_fails(self):
        self.ensure(1, running=True)
        rest = self.rest(1)
        before = self.config(1)["digest"]
        with self.assertRaisesRegex(ApiError, "target is local node"):
            self.migrate(1, 1)
        with self.assertRaisesRegex(ApiError, "no such cluster node 'n9'"):
            self.migrate(1, 9)
        with self.assertRaisesRegex(ApiError, "can't migrate running VM without --online"):
            self.migrate(1, 2)
        with self.assertRaises(ApiError) as caught:
            self.migrate(1, 2, online=1, migration_type="insecure")
        self.assertEqual(caught.exception.status, 501)
        self.testbed.exec(1, "ip", "link", "add", "vmbr9", "type", "bridge")
        self.addCleanup(self.testbed.exec, 1, "ip", "link", "del", "vmbr9")
        rest.put(f"/nodes/n1/qemu/{VM}/config", net1="virtio,bridge=vmbr9", net2="virtio,bridge=vmbr9")
        upid = self.migrate(1, 2, online=1)
        self.assertRegex(self.ended(1, upid), "net1: bridge 'vmbr9' does not exist on the target")
        self.assertTrue(any(line.startswith("net2: ") for line in self.log(1, upid)), self.log(1, upid))
        rest.put(f"/nodes/n1/qemu/{VM}/config", delete="net1,net2")
        self.settled(1, running=True)
        self.assertEqual(self.config(1)["digest"], before)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
