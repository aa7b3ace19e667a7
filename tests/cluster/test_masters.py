#!/usr/bin/python3
"""Every node answers for all: guests of any node are made, seen, started and stopped through any other."""
import os
import sys
import time
import unittest

from testbed import ApiError, Testbed, guests, wait_until


class Masters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.testbed = Testbed(f"masters{os.getpid()}")
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3)
        cls.testbed.make_cluster()
        guests.make_images(None, None)
        cls.rest(1).post("/storage", storage="local", type="dir", path="/srv/local", content="images,rootdir,vztmpl,import")
        for which in cls.testbed.numbers():
            rest = cls.rest(which)
            rest.wait(rest.upload(f"n{which}", "local", "vztmpl", guests.TEMPLATE, lambda *_: None))

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
        self.assertLess(time.monotonic() - began, 5)
        self.testbed.resume(3)
        self.assertTrue(wait_until(30, lambda: self.testbed.sees_all(1), 0.2))

    def test_an_upload_for_another_node_says_where_to_go(self):
        with self.assertRaises(ApiError) as caught:
            self.rest(1).upload("n2", "local", "vztmpl", guests.TEMPLATE, lambda *_: None)
        self.assertEqual(caught.exception.status, 501)
        self.assertIn("'n2'", str(caught.exception))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
