#!/usr/bin/python3
"""A cluster is upgraded node by node: both versions work together, guests notice nothing. Tests run in the order of their
names."""
import os
import re
import sys
import threading
import time
import unittest

import newer
from testbed import ApiError, Testbed, wait_until


class Writer(threading.Thread):
    """Changes through one node that is not being upgraded; what failed is kept."""

    def __init__(self, rest):
        super().__init__(daemon=True)
        self.rest, self.failed, self.done, self.ended = rest, [], 0, threading.Event()

    def run(self):
        while not self.ended.is_set():
            try:
                self.rest.put("/pools/upgrade", comment=f"{self.done}")
                self.rest.get("/cluster/resources")
                self.done += 1
            except (ApiError, OSError) as error:
                self.failed.append(str(error))
            time.sleep(0.02)


class Upgrade(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.newer = newer.build()
        cls.testbed = Testbed(f"upgrade{os.getpid()}")
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3)
        cls.testbed.make_cluster()
        cls.testbed.give_images()
        cls.rest(1).post("/pools", poolid="upgrade")
        for which in cls.testbed.numbers():
            cls.testbed.make_ct(which, 200 + which)

    @classmethod
    def rest(cls, which):
        return cls.testbed.rest(which)

    def first_process(self, which):
        """Of the node's container, as the container's host sees it: it changes when the guest is started anew."""
        out = self.testbed.exec(which, "sh", "-c", "ps -eo pid,lstart,args | grep -F '[lxc monitor]' | grep -v grep").stdout
        return re.sub(r"\s+", " ", out).strip()

    def upgrade(self, which, build):
        """As the package does it: new programs, each service started anew. A client of another node goes on meanwhile."""
        before = {i: self.first_process(i) for i in self.testbed.numbers()}
        self.assertTrue(all(before.values()), before)
        writer = Writer(self.rest(which % 3 + 1))
        writer.start()
        self.testbed.change_build(which, build)
        self.assertTrue(wait_until(30, lambda: all(self.testbed.sees_all(i) for i in self.testbed.numbers()), 0.2))
        writer.ended.set()
        writer.join()
        self.assertEqual(writer.failed, [])
        self.assertGreater(writer.done, 10)
        self.assertEqual({i: self.first_process(i) for i in self.testbed.numbers()}, before)
        for asked in self.testbed.numbers():
            rows = {row["vmid"]: row["status"] for row in self.rest(asked).get("/cluster/resources?type=vm")}
            self.assertEqual(rows, {201: "running", 202: "running", 203: "running"}, f"as n{asked} shows it")

    def refused(self, call, status, text):
        with self.assertRaises(ApiError) as caught:
            call()
        self.assertEqual(caught.exception.status, status, str(caught.exception))
        self.assertIn(text, str(caught.exception))
        return caught.exception

    def version(self, asked, of):
        return self.rest(asked).get(f"/nodes/n{of}/version")["repoid"]

    def test_1_one_node_is_newer(self):
        old = self.version(1, 1)
        self.upgrade(1, self.newer)
        for asked in self.testbed.numbers():
            self.assertEqual([self.version(asked, of) for of in self.testbed.numbers()], [f"atoll-{newer.VERSION}", old, old])

    def test_2_a_method_that_only_one_has(self):
        self.assertEqual(self.rest(1).get("/nodes/n1/newer")["repoid"], f"atoll-{newer.VERSION}")
        self.refused(lambda: self.rest(1).get("/nodes/n2/newer"), 501, "is not implemented by compute-agent")
        self.refused(lambda: self.rest(2).get("/nodes/n1/newer"), 501, "not implemented")

    def test_3_a_parameter_that_only_one_knows(self):
        self.rest(1).put("/nodes/n1/lxc/201/config", newer="text")
        self.assertEqual(self.rest(1).get("/nodes/n1/lxc/201/config")["newer"], "text")
        self.assertNotIn("newer", self.rest(2).get("/nodes/n1/lxc/201/config"))
        error = self.refused(lambda: self.rest(1).put("/nodes/n2/lxc/202/config", newer="text", memory=80), 501,
                             "older version")
        self.assertIn("newer", error.errors)
        self.assertEqual(self.rest(1).get("/nodes/n2/lxc/202/config")["memory"], 64)
        self.refused(lambda: self.rest(2).put("/nodes/n1/lxc/201/config", newer="text"), 400, "newer")

    def test_4_a_step_back_loses_nothing(self):
        self.upgrade(1, self.testbed.build_dir)
        self.rest(3).put("/nodes/n1/lxc/201/config", memory=72)
        self.assertEqual(self.rest(1).get("/nodes/n1/lxc/201/config")["memory"], 72)
        self.upgrade(1, self.newer)
        self.assertEqual(self.rest(1).get("/nodes/n1/lxc/201/config")["newer"], "text")

    def test_5_all_are_newer(self):
        for which in (2, 3):
            self.upgrade(which, self.newer)
        self.rest(3).put("/nodes/n2/lxc/202/config", newer="text")
        self.assertEqual(self.rest(1).get("/nodes/n2/lxc/202/config")["newer"], "text")
        self.assertEqual(self.rest(2).get("/nodes/n3/newer")["repoid"], f"atoll-{newer.VERSION}")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
