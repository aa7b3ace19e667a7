#!/usr/bin/python3
"""A cluster under faults: clients on all nodes write and read registers while nodes are cut off, stopped and killed.
What they saw must have an order (linear.py), and every node must agree when all is whole again."""
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
import unittest

from linear import UNKNOWN, Op, check
from testbed import NodeError, Testbed, wait_until

SECONDS = float(os.environ.get("ATL_NEMESIS_SECONDS", "120" if os.environ.get("ATL_FULL") else "32"))
KEYS = [f".state/nemesis/{i}" for i in range(4)]
FULL_KEY = ".state/nemesis/full"
# Said before anything was sent: what was to be written must never be seen.
REFUSALS = ("has no quorum",)


class Client(threading.Thread):
    """One after the other, through the command line on one node."""

    def __init__(self, testbed, which, number, seed):
        super().__init__(daemon=True)
        self.testbed, self.which, self.name_ = testbed, which, f"c{number}"
        self.random = random.Random(seed)
        self.history, self.refused, self.ended = [], set(), threading.Event()
        self.answered = self.failed = 0

    def run(self):
        count = 0
        while not self.ended.is_set():
            key = self.random.choice(KEYS)
            count += 1
            if self.random.random() < 0.5:
                self.write(key, f"{self.name_}.{count}")
            else:
                self.read(key)

    def atoll(self, *words):
        """(answer or None, why not)"""
        node = self.testbed.node(self.which)
        try:
            command = node.enter(os.path.join(self.testbed.build_dir, "bin", "atoll"), *words, "--run-dir", node.run_dir)
            done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
        except (NodeError, subprocess.TimeoutExpired) as error:
            return None, str(error)
        if done.returncode != 0:
            return None, done.stderr
        return done.stdout, ""

    def write(self, key, value):
        begin = time.monotonic()
        answer, why = self.atoll("store", "txn", "--operation", f"kind=put,path={key},content={value.encode().hex()}")
        if answer is not None:
            self.history.append(Op(key, "write", begin, time.monotonic(), value=value, client=self.name_))
            self.answered += 1
        elif any(text in why for text in REFUSALS):
            self.refused.add(value)
            self.failed += 1
        else:
            self.history.append(Op(key, "write", begin, math.inf, value=value, outcome=UNKNOWN, client=self.name_))
            self.failed += 1

    def read(self, key):
        begin = time.monotonic()
        answer, why = self.atoll("store", "get", "--path", key, "--linearizable", "1", "--output", "json")
        value = None
        if answer is not None:
            value = bytes.fromhex(json.loads(answer)["file"]["content"]).decode()
        elif "does not exist" not in why and "no such" not in why:
            self.failed += 1
            return
        self.history.append(Op(key, "read", begin, time.monotonic(), result=value, client=self.name_))
        self.answered += 1


class Nemesis(unittest.TestCase):
    small_disks = True  # etcd's, which are gone with a node that is switched off

    @classmethod
    def setUpClass(cls):
        cls.seed = int(os.environ.get("ATL_SEED", random.randrange(1 << 32)))
        print(f"seed {cls.seed} (again: ATL_SEED={cls.seed})", file=sys.stderr)
        cls.testbed = Testbed(f"nemesis{os.getpid()}")
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3)
        for which in cls.testbed.numbers() if cls.small_disks else ():
            cls.give_small_disk(which)
        cls.testbed.make_cluster()

    @classmethod
    def give_small_disk(cls, which):
        """A disk of its own for etcd, which can be filled without harm to this machine. (Its log takes 64 MB at once.)"""
        cls.testbed.exec(which, "mount", "-t", "tmpfs", "-o", "size=200m,mode=0700,uid=atoll-config,gid=atoll-config", "tmpfs",
                         cls.etcd_folder(which))

    @classmethod
    def etcd_folder(cls, which):
        return os.path.join(cls.testbed.node(which).state_dir, "config-store", "etcd")

    def fill_disk(self, which):
        self.testbed.exec(which, "dd", "if=/dev/zero", f"of={self.etcd_folder(which)}/full", "bs=64k", check=False)

    def free_disk(self, which):
        self.testbed.exec(which, "rm", "-f", f"{self.etcd_folder(which)}/full")

    def faults(self):
        """(what, how it is done, how it is undone)"""
        testbed = self.testbed
        found = []
        for which in (1, 2, 3):
            other = which % 3 + 1
            found += [(f"n{which} cut off", lambda w=which: testbed.cut(w), testbed.heal),
                      (f"n{which} cut from n{other}", lambda w=which, o=other: testbed.cut(w, o), testbed.heal),
                      (f"n{which} not heard by n{other}", lambda w=which, o=other: testbed.cut(w, o, True), testbed.heal),
                      (f"n{which} paused", lambda w=which: testbed.pause(w), lambda w=which: testbed.resume(w))]
            if self.small_disks:
                found.append((f"disk of n{which}'s etcd full", lambda w=which: self.fill_disk(w),
                              lambda w=which: self.free_disk(w)))
            for service in ("etcd", "corosync", "config-store"):
                found.append((f"{service} of n{which} killed", lambda w=which, s=service: self.kill(w, s), lambda: None))
        return found

    def kill(self, which, service):
        try:
            self.testbed.kill(which, service, signal.SIGKILL)
        except (NodeError, ProcessLookupError):
            pass  # it is starting again

    def agreed(self, key):
        """What every node reads, or None while they differ."""
        seen = set()
        for which in (1, 2, 3):
            answer, _ = Client(self.testbed, which, 0, 0).atoll("store", "get", "--path", key, "--output", "json")
            seen.add(json.loads(answer)["file"]["content"] if answer else f"nothing at n{which}")
        return seen.pop() if len(seen) == 1 else None

    def under_faults(self, make_client, rest_s, join_s):
        """Two clients on each node while one fault follows the other, after a rest of so many seconds (from, to). (The
        clients, what was done.)"""
        chooser = random.Random(self.seed)
        clients = [make_client(self.testbed, which, 10 * which + i, self.seed + 10 * which + i)
                   for which in (1, 2, 3) for i in (1, 2)]
        for client in clients:
            client.start()
        end, done = time.monotonic() + SECONDS, []
        faults = self.faults()
        chooser.shuffle(faults)
        while time.monotonic() < end and faults:
            what, begin, undo = faults.pop()
            time.sleep(chooser.uniform(*rest_s))
            begin()
            time.sleep(chooser.uniform(1, 5))
            undo()
            done.append(what)
        for client in clients:
            client.ended.set()
        for client in clients:
            client.join(join_s)
        return clients, done

    def etcd_says(self, which, text):
        with open(os.path.join(self.testbed.node(which).log_dir, "etcd", "current"), encoding="utf-8", errors="replace") as log:
            return text in log.read()

    @unittest.skipUnless(os.environ.get("ATL_FULL"), "takes a quarter of a minute: tests/run full, or ATL_FULL=1")
    def test_a_full_disk_of_etcd_is_the_loss_of_a_voter(self):
        """Its etcd ends, the node goes on through the others', and comes back when there is space."""
        client = Client(self.testbed, 1, 90, self.seed)
        self.fill_disk(1)
        end, count = time.monotonic() + 40, 0
        while not self.etcd_says(1, "no space left on device") and time.monotonic() < end:
            count += 1
            client.write(FULL_KEY, f"{count}." + "x" * 20000)
        self.assertTrue(self.etcd_says(1, "no space left on device"), f"after {count} writes etcd still has space")
        began = time.monotonic()
        self.assertTrue(wait_until(20, lambda: self.takes_a_write(client), 0.1))
        print(f"etcd of n1 had no space after {count} writes; written through others {time.monotonic() - began:.1f} s later",
              file=sys.stderr)
        self.free_disk(1)
        self.assertTrue(wait_until(60, lambda: self.agreed(FULL_KEY), 0.2))
        self.assertTrue(wait_until(30, lambda: self.own_etcd_serves(1), 0.5))

    def takes_a_write(self, client):
        before = client.answered
        client.write(FULL_KEY, "after-all")
        return client.answered > before

    def own_etcd_serves(self, which):
        folder = self.etcd_folder(which)
        done = self.testbed.exec(which, "env", "ETCDCTL_API=3", "etcdctl", "--command-timeout=2s", "--endpoints",
                                 f"{self.testbed.address(which)}:2379", "--cacert", f"{folder}/ca.pem", "--cert",
                                 f"{folder}/node.pem", "--key", f"{folder}/node.key", "get", "/atoll/root", check=False)
        return done.returncode == 0

    def test_what_clients_saw_has_an_order(self):
        clients, done = self.under_faults(Client, (0.5, 1.5), 90)
        for key in KEYS:
            self.assertTrue(wait_until(30, lambda k=key: self.agreed(k), 0.2), f"the nodes do not agree on {key}")
        history = [op for client in clients for op in client.history]
        last = [Op(key, "read", time.monotonic(), time.monotonic() + 1, result=bytes.fromhex(self.agreed(key)).decode())
                for key in KEYS]
        refused = set().union(*(client.refused for client in clients))
        seen = {op.result for op in history + last if op.kind == "read"}
        print(f"faults: {', '.join(done)}\n{len(history)} operations, {sum(c.answered for c in clients)} answered, "
              f"{len(refused)} writes refused", file=sys.stderr)
        self.assertEqual(seen & refused, set(), "a write that was refused is there")
        self.assertGreater(sum(c.answered for c in clients), 50)
        check(history + last)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
