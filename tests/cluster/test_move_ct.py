#!/usr/bin/python3
"""Containers move to another node: stopped and by restart, whole, with a limit; refused before anything is touched;
stopped, cut off and killed at each point (services/compute-agent/crash.c) without harm: afterwards the container is on
exactly one node, runs there if it ran, and nothing else of it is left anywhere."""
import os
import random
import re
import signal
import sys
import threading
import time
import unittest

from testbed import TOP, ApiError, NodeError, Testbed, guests, wait_until
from rest import TaskError  # found through testbed

NAME = f"movect{os.getpid()}"
WAY_BACK = ("ct-taken-back", "ct-up-again")


def crash_points():
    """All of them in a full run; else two, and who wants the same again sets ATL_SEED."""
    with open(os.path.join(TOP, "services", "compute-agent", "crash.c"), encoding="utf-8") as source:
        points = re.findall(r'\[CMP_CRASH_CT_\w+\] = "([a-z-]+)"', source.read())
    assert len(points) > 7, points
    if os.environ.get("ATL_FULL"):
        return points
    seed = int(os.environ.get("ATL_SEED", time.time_ns() % 1000000))
    print(f"\nATL_SEED={seed}", file=sys.stderr)
    return random.Random(seed).sample(points, 2)


class MoveContainers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.testbed = Testbed(NAME)
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3)
        cls.testbed.make_cluster()
        guests.make_images(None, None)
        cls.rest(1).post("/storage", storage="local", type="dir", path="/srv/local", content="images,rootdir,vztmpl")
        cls.rest(1).post("/storage", storage="other", type="dir", path="/srv/other", content="images,rootdir")
        cls.rest(1).post("/storage", storage="only1", type="dir", path="/srv/only1", content="rootdir", nodes="n1")
        for which in (1, 2):
            rest = cls.rest(which)
            rest.wait(rest.upload(f"n{which}", "local", "vztmpl", guests.TEMPLATE, lambda *_: None))

    @classmethod
    def rest(cls, which):
        return cls.testbed.rest(which)

    # --- guests ---

    def make(self, vmid, node=1, rootfs="local:1", start=1, **more):
        rest = self.rest(node)
        rest.wait(rest.post(f"/nodes/n{node}/lxc", vmid=vmid, hostname=f"ct{vmid}", memory=64, swap=0, rootfs=rootfs,
                            ostemplate=f"local:vztmpl/{os.path.basename(guests.TEMPLATE)}", ostype="unmanaged",
                            net0="name=eth0,bridge=vmbr0,ip=dhcp", start=start, **more))
        self.addCleanup(self.remove, vmid)

    def home(self, vmid):
        rows = [row for row in self.rest(3).get("/cluster/resources?type=vm") if row["vmid"] == vmid]
        return int(rows[0]["node"].removeprefix("n")) if rows else None

    def state_of(self, vmid):
        return next(((row["node"], row["status"]) for row in self.rest(3).get("/cluster/resources?type=vm")
                     if row["vmid"] == vmid), None)

    def remove(self, vmid, kind="lxc"):
        node = self.home(vmid)
        if node is None:
            return
        rest = self.rest(node)
        rest.wait(rest.post(f"/nodes/n{node}/{kind}/{vmid}/status/stop"))
        rest.wait(rest.delete(f"/nodes/n{node}/{kind}/{vmid}"))

    def move(self, vmid, node, target, **more):
        rest = self.rest(node)
        return rest.post(f"/nodes/n{node}/lxc/{vmid}/migrate", target=f"n{target}", **more)

    def monitors(self, vmid):
        """On which nodes it runs, by their processes."""
        found = []
        for which in self.testbed.numbers():
            done = self.testbed.exec(which, "sh", "-c", f"grep -ls '/{vmid}\\(/\\|$\\)' /proc/[0-9]*/cgroup", check=False)
            found += [which] if done.stdout.strip() else []
        return found

    def volumes(self, vmid):
        """(node, path) of all files with the guest's id."""
        found = []
        for which in self.testbed.numbers():
            done = self.testbed.exec(which, "find", "/srv", "-path", f"*/images/{vmid}/*")
            found += [(which, path) for path in done.stdout.split()]
        return found

    def config(self, vmid, node):
        return self.rest(node).get(f"/nodes/n{node}/lxc/{vmid}/config")

    def settled(self, vmid, running):
        """The one node that has it, with everything as it should be there; None while it is not so (yet)."""
        try:
            node = self.home(vmid)
            config = self.config(vmid, node)
            state = self.rest(node).get(f"/nodes/n{node}/lxc/{vmid}/status/current")["status"]
        except (ApiError, OSError, TypeError):
            return None
        volumes = self.volumes(vmid)
        whole = "lock" not in config and (state == "running") == running and len(volumes) == 1 and \
            volumes[0][0] == node and volumes[0][1].endswith(config["rootfs"].split(",")[0].split("/")[-1])
        return node if whole and self.monitors(vmid) == ([node] if running else []) else None

    def assert_settles(self, vmid, running, where=None, seconds=60):
        self.assertTrue(wait_until(seconds, lambda: self.settled(vmid, running) is not None, 0.3),
                        (vmid, self.home(vmid), self.monitors(vmid), self.volumes(vmid)))
        if where is not None:
            self.assertEqual(self.settled(vmid, running), where)

    # --- it works ---

    def test_by_restart_there_and_back(self):
        self.make(300)
        rest = self.rest(3)
        answer = rest.get("/nodes/n1/lxc/300/migrate")
        self.assertEqual((answer["running"], sorted(answer["allowed-nodes"])), (1, ["n2", "n3"]))
        before = self.config(300, 1)
        began = time.monotonic()
        self.assertEqual(rest.wait(rest.post("/nodes/n1/lxc/300/migrate", target="n2", restart=1), 120), "OK")
        print(f"a container moved by restart in {time.monotonic() - began:.1f} s", file=sys.stderr)
        self.assert_settles(300, True, 2)
        after = self.config(300, 2)
        for key in ("hostname", "net0", "memory"):
            self.assertEqual(before[key], after[key])
        self.testbed.atoll(2, "ct", "migrate", "300", "--target", "n1", "--restart", "1")
        self.assert_settles(300, True, 1)

    def test_stopped_to_another_storage_with_its_data(self):
        self.make(301, start=0)
        image = self.volumes(301)[0][1]
        self.testbed.exec(1, "sh", "-c", f"echo 'write {TOP}/README.md kept' | debugfs -w -f - {image} 2>/dev/null")
        kept = self.testbed.exec(1, "debugfs", "-R", "cat kept", image).stdout
        self.assertIn("Atoll", kept)
        upid = self.move(301, 1, 2, **{"target-storage": "local:other", "bwlimit": 8192})
        self.assertEqual(self.rest(1).wait(upid, 120), "OK")
        self.assert_settles(301, False, 2)
        self.assertTrue(self.config(301, 2)["rootfs"].startswith("other:301/vm-301-disk-0.raw"))
        self.assertEqual(self.testbed.exec(2, "debugfs", "-R", "cat kept", self.volumes(301)[0][1]).stdout, kept)

    def test_all_guests_of_a_node(self):
        for vmid, start in ((310, 1), (311, 1), (312, 0)):
            self.make(vmid, start=start, onboot=0 if start else 1)
        vms = "310,311,312,320"
        rest = self.rest(1)
        rest.wait(rest.post("/nodes/n1/qemu", vmid=320, memory=16))
        rest.wait(rest.post("/nodes/n1/qemu/320/status/start"))
        self.addCleanup(self.remove, 320, "qemu")
        with self.assertRaisesRegex(ApiError, "already"):
            rest.post("/nodes/n1/migrateall", target="n1", vms=vms)
        upid = rest.post("/nodes/n1/migrateall", target="n2", vms=vms, maxworkers=2)
        self.assertEqual(rest.wait(upid, 120), "OK")
        for vmid in (310, 311, 312):
            self.assert_settles(vmid, vmid != 312, 2)
        self.assertTrue(wait_until(10, lambda: self.state_of(320) == ("n2", "running")), self.state_of(320))
        self.assertEqual(rest.wait(rest.post("/nodes/n2/stopall", vms=vms, timeout=5), 120), "OK")
        self.assertEqual(rest.wait(rest.post("/nodes/n2/startall", vms=vms), 120), "OK")
        for vmid in (310, 311, 312):
            self.assert_settles(vmid, vmid == 312, 2)
        self.assertEqual(rest.wait(rest.post("/nodes/n2/startall", vms=vms, force=1), 120), "OK")
        with self.assertRaisesRegex(NodeError, "there is no node 'n9'"):
            self.testbed.atoll(1, "node", "drain", "n9")
        done = self.testbed.atoll(1, "node", "drain", "n2", "--target", "n1,n3", "--max-workers", "3")  # from another one
        self.assertIn("CT 310", done.stdout + done.stderr)
        for vmid in (310, 311, 312):
            self.assert_settles(vmid, True)
            self.assertNotEqual(self.home(vmid), 2)
        self.assertTrue(wait_until(10, lambda: self.state_of(320)[0] in ("n1", "n3")), self.state_of(320))
        self.assertEqual(self.state_of(320)[1], "running")
        self.make(313, rootfs="only1:1", start=0)
        with self.assertRaisesRegex(TaskError, "only1.*not available"):  # it stays, and the task says why
            rest.wait(rest.post("/nodes/n1/drain", vms="313"), 60)

    @unittest.skipUnless(os.environ.get("ATL_FULL"), "takes half a minute: tests/run full, or ATL_FULL=1")
    def test_as_many_at_once_as_the_cluster_says(self):
        for vmid in (314, 315, 316):
            self.make(vmid)
        rest = self.rest(1)
        rest.put("/cluster/options", max_workers=1, bwlimit="migration=512")  # tasks know only whole seconds
        self.addCleanup(rest.put, "/cluster/options", delete="max_workers,bwlimit")
        self.assertEqual(rest.wait(rest.post("/nodes/n1/migrateall", target="n2", vms="314,315,316"), 120), "OK")
        one = self.spans(1, "vzmigrate", (314, 315, 316))
        self.assertTrue(all(began + 1 < ended for began, ended in one), one)
        self.assertTrue(all(before[1] <= after[0] for before, after in zip(one, one[1:])), one)
        rest.wait(rest.post("/nodes/n2/migrateall", target="n1", vms="314,315,316", maxworkers=3), 120)
        three = self.spans(2, "vzmigrate", (314, 315, 316))
        self.assertTrue(any(before[1] > after[0] for before, after in zip(three, three[1:])), three)

    def spans(self, which, kind, vmids):
        """When tasks of these guests began and ended, in the order of their beginnings."""
        rows = self.rest(which).get(f"/nodes/n{which}/tasks", limit=50)
        found = [(row["starttime"], row["endtime"]) for row in rows if row["type"] == kind and int(row["id"]) in vmids]
        self.assertEqual(len(found), len(vmids), rows)
        return sorted(found)

    def test_a_folder_goes_as_it_is(self):
        self.make(303, rootfs="local:0")
        before = self.listing(303, 1)
        self.assertIn("100000", before)  # the container's root is another's here
        self.assertEqual(self.rest(1).wait(self.move(303, 1, 2, restart=1), 120), "OK")
        self.assertTrue(wait_until(30, lambda: self.monitors(303) == [2], 0.3))
        self.assertEqual(self.testbed.exec(1, "find", "/srv", "-path", "*/images/303*").stdout, "")
        self.assertEqual(self.listing(303, 2), before)

    def listing(self, vmid, node):
        """All but what a start writes anew."""
        folder = f"/srv/local/images/{vmid}/subvol-{vmid}-disk-0.subvol"
        rows = self.testbed.exec(node, "find", folder, "-not", "-path", "*/etc*", "-not", "-path", "*/run/*", "-not", "-path",
                                 "*/tmp*", "-not", "-path", "*/var/*", "-printf", "%P %y %m %U %G %l\\n").stdout
        return "\n".join(sorted(rows.splitlines()))

    # --- it is refused ---

    def refused(self, pattern, *args, **more):
        """By the method, or by its task before anything is touched."""
        with self.assertRaisesRegex((ApiError, TaskError), pattern):
            self.rest(1).wait(self.move(*args, **more), 60)

    def test_what_cannot_be_is_found_before_anything_is_touched(self):
        self.make(302)
        self.make(304, rootfs="only1:1", start=0)
        self.refused("by a restart", 302, 1, 2)
        self.refused("no such cluster node", 302, 1, 9, restart=1)
        self.refused("already", 302, 1, 1, restart=1)
        self.refused("not available on node 'n2'", 304, 1, 2)
        self.refused("mapped twice", 304, 1, 2, **{"target-storage": "only1:local,only1:other"})
        self.rest(1).put("/nodes/n1/lxc/302/config", net1="name=eth1,bridge=vmbr0")
        self.testbed.exec(1, "sh", "-c", "ip link add vmbr9 type bridge && ip link set vmbr9 up")
        self.rest(1).put("/nodes/n1/lxc/304/config", net1="name=eth1,bridge=vmbr9")
        self.refused("net1.*no bridge 'vmbr9'", 304, 1, 2, **{"target-storage": "local"})
        for vmid, running in ((302, True), (304, False)):
            self.assert_settles(vmid, running, 1)
        self.testbed.pause(2)
        self.addCleanup(self.testbed.resume, 2)
        self.refused("n2", 302, 1, 2, restart=1)
        self.testbed.resume(2)
        self.assert_settles(302, True, 1)

    # --- it breaks ---

    def test_stopped_in_the_middle_it_stays(self):
        self.make(305)
        self.fill(305)
        upid = self.move(305, 1, 2, restart=1, bwlimit=2048)
        self.assertTrue(wait_until(30, lambda: any(node == 2 for node, _ in self.volumes(305)), 0.1))
        self.rest(1).delete(f"/nodes/n1/tasks/{upid}")
        self.assert_settles(305, True, 1)

    def fill(self, vmid):
        """Some megabytes that are no hole."""
        image = self.volumes(vmid)[0][1]
        self.testbed.exec(1, "sh", "-c", f"head -c 20000000 /dev/urandom > /srv/fill && "
                          f"echo 'write /srv/fill fill' | debugfs -w -f - {image} 2>/dev/null; rm /srv/fill; sync")

    @unittest.skipUnless(os.environ.get("ATL_FULL"), "takes half a minute: tests/run full, or ATL_FULL=1")
    def test_a_link_that_is_cut_leaves_it_here(self):
        self.make(306, start=0)
        self.fill(306)
        upid = self.move(306, 1, 2, bwlimit=2048)
        self.assertTrue(wait_until(30, lambda: any(node == 2 for node, _ in self.volumes(306)), 0.1))
        self.addCleanup(self.testbed.heal)
        self.testbed.cut(1, 2)
        threading.Timer(8, self.testbed.heal).start()
        try:
            self.rest(3).wait(upid, 120)
        except TaskError as err:  # the task's own words: it may also ride it out
            print(f"cut for 8 s: {err}", file=sys.stderr)
        self.assert_settles(306, False, seconds=90)

    def arm(self, *points):
        path = os.path.join(self.testbed.node(1).state_dir, "compute-agent", "crash-at")
        with open(path, "w", encoding="utf-8") as out:
            out.write("\n".join(points))
        return lambda: not os.path.exists(path)

    def crash(self, vmid, point):
        """Points of the way back need something that begins it."""
        fired = self.arm(*(["ct-sent"] if point in WAY_BACK else []), point)
        try:
            self.rest(1).wait(self.move(vmid, 1, 2, restart=1), 60)
        except TaskError:  # the task was killed, which is what is wanted
            pass
        self.assertTrue(wait_until(30, fired, 0.1), f"{point} was not reached")
        handed_over = point in ("ct-handed-over", "ct-awake", "ct-freed")
        self.assert_settles(vmid, True, 2 if handed_over else 1)
        if handed_over:
            self.assertEqual(self.rest(2).wait(self.move(vmid, 2, 1, restart=1), 120), "OK")
            self.assert_settles(vmid, True, 1)

    def test_a_worker_that_is_killed_at_any_point(self):
        self.make(307)
        for point in crash_points():
            with self.subTest(point):
                self.crash(307, point)

    @unittest.skipUnless(os.environ.get("ATL_FULL"), "takes a minute: tests/run full, or ATL_FULL=1")
    def test_the_agent_is_killed_with_its_worker(self):
        self.make(308)
        for point in ("ct-stopped", "ct-sent", "ct-handed-over"):
            with self.subTest(point):
                fired = self.arm(point)
                self.move(308, 1, 2, restart=1)
                self.testbed.kill(1, "compute-agent", signal.SIGSTOP)  # so that it does not hear of its worker's end
                self.assertTrue(wait_until(30, fired, 0.02))
                self.testbed.kill(1, "compute-agent")
                self.assert_settles(308, True, 2 if point == "ct-handed-over" else 1, seconds=90)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
