#!/usr/bin/python3
"""The testbed itself: what it says it does to nodes and links, and that nothing stays."""
import glob
import os
import subprocess
import sys
import unittest

from testbed import NodeError, Rest, Testbed, wait_until

NAME = f"tbtest{os.getpid()}"


def left_behind():
    """Everything on this machine that carries the testbed's name."""
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return [line for line in spaces.splitlines() if NAME in line] + glob.glob(f"/run/*{NAME}*") + \
        glob.glob(f"/var/lib/*{NAME}*") + glob.glob(f"/sys/fs/cgroup/*/*{NAME}*")


class TestbedCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.testbed = Testbed(NAME)
        cls.addClassCleanup(cls.end)
        cls.testbed.up(3)

    @classmethod
    def end(cls):
        cls.testbed.down()
        if left_behind():
            raise AssertionError(f"left behind: {left_behind()}")

    def reaches(self, one, other):
        done = self.testbed.exec(one, "ping", "-c", "1", "-W", "1", self.testbed.address(other), check=False)
        return done.returncode == 0

    def answers(self, which, seconds=1):
        node = self.testbed.node(which)
        try:
            return Rest(node.url, self.testbed.facts["cacert"][str(which)], timeout=seconds).get("/access/domains")
        except OSError:
            return None

    def test_nodes_reach_each_other_and_tokens_work(self):
        for one in self.testbed.numbers():
            self.assertEqual(self.testbed.exec(one, "hostname").stdout.strip(), f"n{one}")
            self.assertEqual([n["node"] for n in self.testbed.rest(one).get("/nodes")], [f"n{one}"])
            for other in self.testbed.numbers():
                self.assertTrue(self.reaches(one, other), (one, other))

    def test_cuts_and_healing(self):
        self.addCleanup(self.testbed.heal)
        self.testbed.cut(1, "n3")
        self.assertFalse(self.reaches(1, 3))
        self.assertTrue(self.reaches(1, 2) and self.reaches(2, 3))
        self.testbed.heal()
        self.assertTrue(wait_until(5, lambda: self.reaches(1, 3)))
        self.testbed.cut("n2")
        self.assertFalse(self.reaches(1, 2) or self.reaches(2, 3))
        self.assertTrue(self.reaches(1, 3))

    def test_a_cut_one_way(self):
        self.addCleanup(self.testbed.heal)
        self.assertTrue(self.reaches(2, 1))  # who is behind the address is known from now on
        self.testbed.cut(1, 2, one_way=True)
        self.assertFalse(self.reaches(2, 1))  # the question arrives, the answer does not
        before = self.echoes_seen(1)
        self.assertFalse(self.reaches(2, 1))
        self.assertEqual(self.echoes_seen(1), before + 1)

    def echoes_seen(self, which):
        lines = [line.split() for line in self.testbed.exec(which, "cat", "/proc/net/snmp").stdout.splitlines()]
        names, values = [line for line in lines if line[0] == "Icmp:"]
        return int(values[names.index("InEchos")])

    def test_pause_and_resume(self):
        self.testbed.pause(2)
        self.addCleanup(self.testbed.resume, 2)
        self.assertIsNone(self.answers(2))
        self.assertIsNotNone(self.answers(1, 5))
        self.testbed.resume(2)
        self.assertIsNotNone(self.answers(2, 10))

    def test_a_killed_service_comes_back(self):
        old = self.testbed.kill(3, "storage-agent")
        self.assertTrue(wait_until(10, lambda: self.runs_anew("storage-agent", old)))
        with self.assertRaises(NodeError):
            self.testbed.kill(3, "no-such-service")
        with self.assertRaises(NodeError):
            self.testbed.kill(4, "storage-agent")

    def runs_anew(self, service, old):
        try:
            return self.testbed.service_pid(3, service) != old
        except NodeError:
            return False

    def test_power_off_and_on_keeps_the_disk(self):
        self.testbed.rest(3).post("/pools", poolid="kept")
        self.testbed.power_off(3)
        self.assertIsNone(self.answers(3))
        self.assertFalse(self.reaches(1, 3))
        self.testbed.power_on(3)
        self.assertTrue(wait_until(5, lambda: self.reaches(1, 3)))
        self.assertEqual([p["poolid"] for p in self.testbed.rest(3).get("/pools")], ["kept"])


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
