#!/usr/bin/python3
"""Every node answers for all: guests of any node are made, seen, started and stopped through any other."""
import hashlib
import json
import os
import signal
import sys
import threading
import time
import unittest

from testbed import ApiError, Testbed, wait_until


class Masters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.testbed = Testbed(f"masters{os.getpid()}")
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3)
        cls.testbed.make_cluster()
        cls.testbed.give_images()

    @classmethod
    def rest(cls, which):
        return cls.testbed.rest(which)

    def rows(self, which):
        return {row["vmid"]: (row["node"], row["status"]) for row in self.rest(which).get("/cluster/resources?type=vm")}

    def shown_everywhere(self, vmid, wanted):
        """How long until every node shows it."""
        began = time.monotonic()
        for which in self.testbed.numbers():
            self.assertTrue(wait_until(10, lambda w=which: self.rows(w).get(vmid) == wanted, 0.02),
                            (which, vmid, wanted, self.rows(which)))
        return time.monotonic() - began

    def test_a_container_of_another_node(self):
        rest = self.rest(1)
        self.testbed.make_ct(2, 300, through=1)
        took = self.shown_everywhere(300, ("n2", "running"))
        print(f"a start is shown by all nodes {took:.2f} s after its task", file=sys.stderr)
        self.assertEqual(self.rest(3).get("/nodes/n2/lxc/300/status/current")["status"], "running")
        upid = self.rest(3).post("/nodes/n2/lxc/300/status/stop")
        self.assertEqual(self.rest(1).wait(upid), "OK")  # a task of n2, begun through n3, followed through n1
        self.shown_everywhere(300, ("n2", "stopped"))
        rest.put("/nodes/n2/lxc/300/config", memory=96)
        self.assertTrue(wait_until(5, lambda: self.rest(3).get("/nodes/n2/lxc/300/config")["memory"] == 96))
        rest.wait(rest.delete("/nodes/n2/lxc/300"))
        for which in self.testbed.numbers():
            self.assertTrue(wait_until(5, lambda w=which: 300 not in self.rows(w)))

    def command(self, which, *words, **options):
        return self.testbed.atoll(which, *words, "--output", "json", **options)

    def test_the_command_line_of_a_node_reaches_the_others(self):
        """As root of n1, over the bus and with no token: n2's guests, their tasks and logs, and a file for its storage."""
        self.command(1, "qemu", "create", "--vmid", "330", "--memory", "16", "--node", "n2")
        self.shown_everywhere(330, ("n2", "stopped"))
        self.assertEqual([row["vmid"] for row in json.loads(self.command(1, "qemu", "list", "--node", "n2").stdout)], [330])
        self.assertEqual([row["vmid"] for row in json.loads(self.command(2, "qemu", "list").stdout)], [330])
        self.assertEqual(json.loads(self.command(1, "qemu", "list").stdout), [])
        self.assertEqual(json.loads(self.command(3, "qemu", "config", "330").stdout)["memory"], "16")
        self.command(3, "qemu", "set", "330", "--name", "from-afar")
        self.assertTrue(wait_until(5, lambda: self.rest(1).get("/nodes/n2/qemu/330/config").get("name") == "from-afar"))
        path = self.file("command.iso", 8 << 20)
        self.command(1, "storage", "upload", "local", "--content", "iso", "--filename", path, "--node", "n2")
        self.assertEqual(self.volumes(2).get("local:iso/command.iso"), 8 << 20)
        self.assertNotIn("local:iso/command.iso", self.volumes(1))
        self.assertTrue(wait_until(10, lambda: ("n2", "imgcopy", "OK") in [
            (row["node"], row["type"], row.get("status")) for row in self.rest(3).get("/cluster/tasks")], 0.2))
        self.command(3, "qemu", "delete", "330")
        refused = self.command(1, "qemu", "list", "--node", "n9", check=False)
        self.assertEqual((refused.returncode, refused.stdout), (5, ""))
        self.assertIn("there is no node 'n9'", refused.stderr)

    def test_one_id_is_given_once(self):
        self.rest(1).wait(self.rest(1).post("/nodes/n1/qemu", vmid=310, memory=16))
        for which in (2, 3):
            with self.assertRaisesRegex(ApiError, "310 already exists|already exists"):
                self.rest(which).post(f"/nodes/n{which}/qemu", vmid=310, memory=16)
        self.assertEqual(self.rows(3)[310][0], "n1")
        self.rest(2).wait(self.rest(2).delete("/nodes/n1/qemu/310"))

    def test_rights_hold_on_every_node(self):
        self.rest(1).post("/access/users", userid="guest@pve")
        value = self.rest(2).post("/access/users/guest@pve/token/own", privsep=0)["value"]
        for which in self.testbed.numbers():
            rest = self.rest(which)
            weak = type(rest)(rest.url, self.testbed.facts["cacert"][str(which)], f"guest@pve!own={value}")
            wait_until(5, lambda r=weak: r.get("/version"))
            for other in self.testbed.numbers():
                with self.assertRaises(ApiError) as caught:
                    weak.post(f"/nodes/n{other}/qemu", vmid=320, memory=16)
                self.assertEqual(caught.exception.status, 403, (which, other, str(caught.exception)))
        self.rest(3).delete("/access/users/guest@pve")

    def test_an_unknown_and_a_lost_node_are_told_apart(self):
        with self.assertRaises(ApiError) as caught:
            self.rest(1).get("/nodes/n9/status")
        self.assertEqual(caught.exception.status, 595)
        self.testbed.pause(3)
        self.addCleanup(self.testbed.resume, 3)
        began = time.monotonic()
        with self.assertRaises(ApiError) as caught:
            self.rest(1).get("/nodes/n3/status")
        self.assertIn(caught.exception.status, (595, 596))
        self.assertLess(time.monotonic() - began, 15)  # within the heartbeat, and not after a deadline
        self.testbed.resume(3)
        self.assertTrue(wait_until(30, lambda: self.testbed.sees_all(1), 0.2))

    def volumes(self, which):
        return {row["volid"]: row["size"] for row in self.rest(which).get(f"/nodes/n{which}/storage/local/content")}

    def file(self, name, size):
        path = os.path.join(self.testbed.state_dir, name)
        with open(path, "wb") as out:
            out.write(os.urandom(1 << 20) * (size >> 20))
        return path

    def test_an_upload_for_another_node_streams_through(self):
        """Through n1 to n2: whole and at n2 alone. While n2's agent stands still n1 takes no more than buffers hold."""
        path, size, seen = self.file("upload.iso", 128 << 20), 128 << 20, []
        rest, agent = self.rest(1), self.testbed.service_pid(2, "storage-agent")

        def stand_still(sent, _):
            if sent > 16 << 20 and not seen:
                os.kill(agent, signal.SIGSTOP)
                seen.append(sent)
                threading.Timer(3, lambda: (seen.append(seen[-1]), os.kill(agent, signal.SIGCONT))).start()
            elif seen:
                seen.append(sent)
        self.assertEqual(rest.wait(rest.upload("n2", "local", "iso", path, stand_still)), "OK")
        held = next(a for a, b in zip(seen, seen[1:]) if a == b)  # what had gone when the agent went on
        self.assertLess(held, 64 << 20)
        self.assertEqual(self.volumes(2).get("local:iso/upload.iso"), size)
        self.assertNotIn("local:iso/upload.iso", self.volumes(1))
        there = self.testbed.exec(2, "sha256sum", "/srv/local/template/iso/upload.iso").stdout.split()[0]
        with open(path, "rb") as data:
            self.assertEqual(there, hashlib.file_digest(data, "sha256").hexdigest())

    @unittest.skipUnless(os.environ.get("ATL_FULL"), "waits half a minute for TCP: tests/run full, or ATL_FULL=1")
    def test_an_upload_for_another_node_that_breaks_leaves_nothing(self):
        """The link goes while bytes flow: an error as soon as that is seen, and nothing of it stays at n3."""
        cuts = []

        def cut(sent, total):
            if sent > total // 4 and not cuts:
                cuts.append(self.testbed.cut(1, 3))
        self.addCleanup(self.testbed.heal)
        began = time.monotonic()
        with self.assertRaises((ApiError, OSError)):
            self.rest(1).upload("n3", "local", "iso", self.file("cut.iso", 128 << 20), cut)
        self.assertLess(time.monotonic() - began, 60)
        self.testbed.heal()
        self.assertTrue(wait_until(40, lambda: "local:iso/cut.iso" not in self.volumes(3) and not self.testbed.exec(
            3, "find", "/srv/local", "-name", ".atoll-*").stdout, 0.5))
        self.assertTrue(wait_until(30, lambda: self.testbed.sees_all(1), 0.2))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
