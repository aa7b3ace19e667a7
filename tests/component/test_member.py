#!/usr/bin/python3
"""Membership and quorum from three real corosync daemons: deaths, cuts, a daemon that hangs, a new configuration."""
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

from corosync_env import Corosyncs

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))


class Probe:
    """The library inside the namespace of a node; its last line is what it knows."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, stdin=subprocess.DEVNULL,
                                        text=True)
        self.lines = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append({**json.loads(line), "seen": time.monotonic()})

    def wait(self, what, test, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.lines and test(self.lines[-1]):
                return self.lines[-1]
            time.sleep(0.01)
        raise AssertionError(f"{what}: not within {seconds} s; last {self.lines[-1:]}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def online(line):
    return [name for name, member in line["members"].items() if member[1]]


class Membership(unittest.TestCase):
    def setUp(self):
        self.cluster = Corosyncs(3)
        self.addCleanup(self.cluster.stop)
        self.probes = {}
        for i in (1, 3):
            self.probes[i] = Probe(self.cluster.command(i, os.path.join(BUILD, "bin", "atl_member_probe")))
        for i in (1, 2, 3):
            self.cluster.start(i)
        for probe in self.probes.values():
            probe.wait("three members", lambda line: line["quorate"] and len(online(line)) == 3)

    def tearDown(self):
        for probe in self.probes.values():
            self.assertEqual(probe.stop(), 0)

    def test_members_and_votes(self):
        line = self.probes[1].lines[-1]
        self.assertEqual(line["votes"], [3, 2, 3])
        self.assertEqual(line["cluster"], "atolltest")
        self.assertEqual({n: m[0] for n, m in line["members"].items()}, {"n1": 1, "n2": 2, "n3": 3})
        self.assertEqual([n for n, m in line["members"].items() if m[2]], ["n1"])
        self.assertEqual(line["members"]["n2"][3], "10.77.0.2")

    def test_a_node_that_dies_and_comes_back(self):
        began = time.monotonic()
        self.cluster.kill(2)
        line = self.probes[1].wait("n2 to be gone", lambda line: online(line) == ["n1", "n3"])
        self.assertTrue(line["quorate"])
        self.assertGreaterEqual(line["at"], began * 1e9)
        self.assertLess(line["seen"] - line["at"] / 1e9, 5)  # some ms are meant
        print(f"death seen after {line['seen'] - began:.2f} s")
        self.cluster.start(2)
        again = self.probes[1].wait("n2 to be back", lambda line: len(online(line)) == 3)
        self.assertGreater(again["ring"], line["ring"])

    def test_a_node_that_is_cut_off_loses_the_quorum(self):
        self.cluster.cut(3)
        lost = self.probes[3].wait("n3 to lose the quorum", lambda line: not line["quorate"])
        self.assertTrue(lost["connected"])
        self.probes[1].wait("n3 to be gone", lambda line: line["quorate"] and online(line) == ["n1", "n2"])
        self.cluster.heal(3)
        self.probes[3].wait("n3 to be quorate", lambda line: line["quorate"] and len(online(line)) == 3)

    def test_the_death_of_corosync_is_no_quorum(self):
        self.cluster.kill(1)
        self.probes[1].wait("no quorum", lambda line: not line["quorate"] and not line["connected"], 3)
        self.cluster.start(1)
        self.probes[1].wait("quorum again", lambda line: line["quorate"] and len(online(line)) == 3)

    def test_a_corosync_that_hangs_is_no_quorum(self):
        self.cluster.send(1, signal.SIGSTOP)
        self.probes[1].wait("no quorum", lambda line: not line["quorate"], 6)
        self.cluster.send(1, signal.SIGCONT)
        self.probes[1].wait("quorum again", lambda line: line["quorate"] and len(online(line)) == 3)

    def test_a_stop_while_corosync_hangs(self):
        self.cluster.send(1, signal.SIGSTOP)
        self.probes[1].wait("no quorum", lambda line: not line["quorate"], 6)
        began = time.monotonic()
        self.assertEqual(self.probes.pop(1).stop(), 0)
        self.assertLess(time.monotonic() - began, 5)

    def test_a_new_configuration_is_seen(self):
        self.cluster.configure((1, 2), 2)
        subprocess.run(self.cluster.command(1, "corosync-cfgtool", "-R"), check=True, capture_output=True)
        line = self.probes[1].wait("two members", lambda line: list(line["members"]) == ["n1", "n2"])
        self.assertEqual(line["config"], 2)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: network namespaces")
        sys.exit(77)
    if shutil.which("corosync") is None:
        sys.exit("corosync is missing: tools/install-packages.sh test")
    unittest.main(verbosity=2, warnings="ignore")
