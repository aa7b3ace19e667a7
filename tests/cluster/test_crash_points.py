#!/usr/bin/python3
"""Create, join, removal and the change of secrets are cut off at each of their points (services/config-store/cluster/crash.h):
the same again leads to the same end. All points with ATL_FULL=1, else two at random (ATL_SEED=N repeats them)."""
import json
import os
import random
import re
import subprocess
import sys
import time
import unittest

from testbed import TOP, Testbed, wait_until
from witness import Witness

NAME = f"crash{os.getpid()}"
FILE = "crash-at"
ON_WITNESS = ("enter", "take", "renew", "quit")


def all_points():
    with open(os.path.join(TOP, "services", "config-store", "cluster", "crash.c"), encoding="utf-8") as source:
        return re.findall(r'\[CFG_CRASH_\w+\] = "([a-z-]+)"', source.read())


def chosen_points():
    points = all_points()
    if os.environ.get("ATL_FULL") or os.environ.get("ATL_POINTS"):
        return [p for p in points if re.search(os.environ.get("ATL_POINTS", ""), p)]
    seed = int(os.environ.get("ATL_SEED", time.time_ns() % 1000000))
    print(f"\nATL_SEED={seed}", file=sys.stderr)
    return random.Random(seed).sample(points, 2)


class CrashBed(Testbed):
    def start_node(self, which):
        self.facts["environment"]["ATOLL_CRASH_FILE"] = FILE
        super().start_node(which)


class CrashPoints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.testbed = CrashBed(NAME)
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3)

    # --- helpers ---

    def atoll(self, which, *words, check=True, timeout=180):
        node = self.testbed.node(which)
        return self.testbed.exec(which, os.path.join(self.testbed.build_dir, "bin", "atoll"), *words, "--run-dir", node.run_dir,
                                 check=check, timeout=timeout)

    def path(self, which):
        """which: a node's number, or "witness"."""
        if which == "witness":
            return os.path.join(self.witness.state_dir, FILE)
        return os.path.join(self.testbed.node(which).state_dir, "config-store", FILE)

    def arm(self, which, point):
        with open(self.path(which), "w", encoding="utf-8") as file:
            file.write(point + "\n")
        subprocess.run(["chown", "atoll-config:", self.path(which)], check=True)

    def fired(self, which):
        return not os.path.exists(self.path(which))

    def status(self, which):
        """The cluster's row and who is online, as root at the machine sees it; None: alone, or no answer now."""
        done = self.atoll(which, "cluster", "status", "--output", "json", check=False)
        if done.returncode != 0:
            return None, set()
        rows = json.loads(done.stdout)
        cluster = next((row for row in rows if row["type"] == "cluster"), None)
        return cluster, {row["name"] for row in rows if row["type"] == "node" and row["online"]}

    def is_whole(self, which, online):
        cluster, nodes = self.status(which)
        return bool(cluster and cluster["quorate"] and cluster["writable"] and cluster["secrets"] == "done"
                    and nodes == set(online))

    def wait_whole(self, online, seconds=90):
        for name in online:
            self.assertTrue(wait_until(seconds, lambda n=name: self.is_whole(n, online), 0.3), (name, self.status(name)))

    def until_it_works(self, which, *words, done, seconds=150):
        """The command again and again, until what it is for is there."""
        end = time.monotonic() + seconds
        said = None
        while time.monotonic() < end:
            if wait_until(3, done, 0.3):
                return
            said = self.atoll(which, *words, check=False)
        self.fail(f"{words[1]} on n{which} does not come to an end: {said.stderr if said else 'it was not tried'}")

    def token(self):
        return wait_until(30, lambda: self.atoll(1, "cluster", "token", check=False).stdout.strip().strip('"'), 0.3)

    def create(self):
        self.until_it_works(1, "cluster", "create", "demo", "--link0", self.testbed.address(1),
                            done=lambda: self.is_whole(1, {"n1"}))

    def join(self, which, online, token=None):
        self.until_it_works(which, "cluster", "join", self.testbed.address(1), "--token", token or self.token(),
                            done=lambda: self.is_whole(which, online))
        self.wait_whole(online)

    def go_alone(self, which):
        """True when it is; a node that is in a cluster is told to leave it."""
        done = self.atoll(which, "cluster", "status", check=False)
        if done.returncode == 0 and '"cluster"' in done.stdout:
            self.atoll(which, "cluster", "leave", "--force", "1", check=False)
        return done.returncode == 0 and '"cluster"' not in done.stdout

    def make_alone(self):
        """All nodes alone again, whatever they are."""
        for which in self.testbed.numbers():
            self.assertTrue(wait_until(60, lambda w=which: self.go_alone(w), 0.5), which)

    # --- one point each ---

    def cut_create(self, point):
        self.arm(1, point)
        self.atoll(1, "cluster", "create", "demo", "--link0", self.testbed.address(1), check=False)
        self.assertTrue(wait_until(20, lambda: self.fired(1), 0.1), f"nothing passed '{point}'")
        self.create()

    def cut_join(self, point, armed):
        self.create()
        self.arm(armed, point)
        token = self.token()
        self.atoll(2, "cluster", "join", self.testbed.address(1), "--token", token, check=False)
        self.assertTrue(wait_until(30, lambda: self.fired(armed), 0.1), f"nothing passed '{point}'")
        self.join(2, {"n1", "n2"}, token)

    def cut_removal(self, point, armed):
        self.create()
        self.join(2, {"n1", "n2"})
        self.join(3, {"n1", "n2", "n3"})
        self.testbed.power_off(3)
        self.assertTrue(wait_until(30, lambda: self.status(1)[1] == {"n1", "n2"}, 0.2))
        self.arm(armed, point)
        self.atoll(1, "cluster", "remove", "n3", check=False)
        self.assertTrue(wait_until(60, lambda: self.fired(armed), 0.1), f"nothing passed '{point}'")
        self.until_it_works(1, "cluster", "remove", "n3", done=lambda: self.is_whole(1, {"n1", "n2"}) and "n3" not in
                            self.atoll(1, "cluster", "members", check=False).stdout)
        self.wait_whole({"n1", "n2"})
        self.testbed.power_on(3)

    def has_witness(self):
        done = self.atoll(1, "cluster", "witness", "status", "--output", "json", check=False)
        shown = json.loads(done.stdout) if done.returncode == 0 else {}
        return bool(shown.get("votes") and shown.get("etcd")) and self.is_whole(1, {"n1", "n2"})

    def add_witness(self):
        """As an operator does it: a word, and join there with it."""
        word = self.atoll(1, "cluster", "witness", "add", self.witness.address, check=False).stdout.strip().strip('"')
        if word:
            self.witness.join(word, check=False)

    def witness_comes(self):
        def comes():
            if not wait_until(10, self.has_witness, 0.3):
                self.add_witness()
            return self.has_witness()
        self.assertTrue(wait_until(120, comes, 0.5), self.atoll(1, "cluster", "witness", "status", check=False).stdout)

    def witness_goes(self):
        self.until_it_works(1, "cluster", "witness", "remove", done=lambda: self.is_whole(1, {"n1", "n2"}) and json.loads(
            self.atoll(1, "cluster", "witness", "status", "--output", "json").stdout) == {})

    def start_witness(self):
        """The machine that will be it, and two nodes."""
        if not self.is_whole(1, {"n1", "n2"}):
            self.create()
            self.join(2, {"n1", "n2"})
        self.witness = Witness(self.testbed)
        self.addCleanup(self.witness.down)
        self.witness.start()

    def cut_witness(self, point):
        self.start_witness()
        if point in ("witness-removed", "witness-forgotten"):
            self.witness_comes()
            self.arm(1, point)
            self.until_it_works(1, "cluster", "witness", "remove", done=lambda: self.fired(1))
            self.witness_goes()
        else:
            self.arm(1, point)
            self.add_witness()
            self.assertTrue(wait_until(30, lambda: self.fired(1), 0.1), f"nothing passed '{point}'")
            self.witness_comes()
            self.witness_goes()
        self.wait_whole({"n1", "n2"})
        self.witness.down()

    # --- the same on the witness's own machine ---

    def witness_word(self):
        return wait_until(30, lambda: self.atoll(1, "cluster", "witness", "add", self.witness.address,
                                                 check=False).stdout.strip().strip('"'), 0.3)

    def witness_is_bare(self):
        """Nothing of a cluster is left there, and nothing runs."""
        base = self.witness.state_dir
        left = [name for folder in ("etcd", "qnetd", "next") for name in os.listdir(os.path.join(base, folder))]
        return not left and not os.path.exists(os.path.join(base, "witness.conf")) and \
            not {"etcd", "corosync-qnetd"} & self.witness.programs()

    def cut_enter(self, point, another=False):
        """The same word works again, and so does another one."""
        word = self.witness_word()
        self.arm("witness", point)
        self.assertNotEqual(self.witness.join(word, check=False).returncode, 0)
        self.assertTrue(self.fired("witness"), f"nothing passed '{point}'")
        done = self.witness.join(self.witness_word() if another else word, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def cut_take(self, point):
        """Nobody does anything: it is started again."""
        self.arm("witness", point)
        done = self.witness.join(self.witness_word(), check=False)
        self.assertTrue(self.fired("witness"), f"nothing passed '{point}': {done.stderr}")
        self.assertEqual(done.returncode, 0, done.stderr)

    def cut_renewal(self, point):
        """A node without a vote comes and leaves, and with it go the secrets that it knew."""
        self.witness.join(self.witness_word())
        self.assertTrue(wait_until(60, self.has_witness, 0.3))
        self.until_it_works(3, "cluster", "join", self.testbed.address(1), "--token", self.token(), "--votes", "0",
                            done=lambda: self.is_whole(3, {"n1", "n2", "n3"}))
        self.arm("witness", point)
        self.until_it_works(3, "cluster", "leave", done=lambda: self.fired("witness"))

    def cut_quit(self, point):
        self.witness.join(self.witness_word())
        self.assertTrue(wait_until(60, self.has_witness, 0.3))
        self.arm("witness", point)
        self.witness_goes()
        self.assertTrue(wait_until(30, lambda: self.fired("witness"), 0.2), f"nothing passed '{point}'")
        self.assertTrue(wait_until(30, self.witness_is_bare, 0.3), os.listdir(self.witness.state_dir))
        self.witness.join(self.witness_word())

    def cut_on_witness(self, point):
        self.start_witness()
        kind = point.split("-")[0]
        for another in (False, True) if kind == "enter" else (False,):
            if kind == "enter":
                self.cut_enter(point, another)
            else:
                {"take": self.cut_take, "renew": self.cut_renewal, "quit": self.cut_quit}[kind](point)
            self.assertTrue(wait_until(90, self.has_witness, 0.3),
                            self.atoll(1, "cluster", "witness", "status", check=False).stdout)
            self.assertTrue(wait_until(10, lambda: os.listdir(os.path.join(self.witness.state_dir, "next")) == [], 0.2))
            self.witness_goes()
            self.assertTrue(wait_until(30, self.witness_is_bare, 0.3), os.listdir(self.witness.state_dir))
        self.wait_whole({"n1", "n2"})
        self.witness.down()

    def test_points(self):
        points = chosen_points()
        for point, following in zip(points, points[1:] + [""]):
            began = time.monotonic()
            with self.subTest(point=point):
                kind = point.split("-")[0]
                if kind in ("create", "move"):
                    self.cut_create(point)
                elif kind in ("join", "bring"):
                    self.cut_join(point, 2)
                elif kind == "witness":
                    self.cut_witness(point)
                elif kind in ON_WITNESS:
                    self.cut_on_witness(point)
                elif kind == "admit":
                    self.cut_join(point, 1)
                else:
                    self.cut_removal(point, 1)
            if kind not in ON_WITNESS or following.split("-")[0] not in ON_WITNESS:  # those can share their two nodes
                self.make_alone()
            print(f"{point}: {time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore", failfast=True)
