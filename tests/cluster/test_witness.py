#!/usr/bin/python3
"""Two nodes and a witness: any one of the three may fail, and two halves never both go on. Tests run in the order of
their names."""
import json
import os
import shutil
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from testbed import Testbed, wait_until
from witness import Witness
from writes import Writes

from rest import ApiError

NAME = f"witness{os.getpid()}"
NO_QUORUM = "no quorum"
FULL = bool(os.environ.get("ATL_FULL"))
full = unittest.skipUnless(FULL, "takes a minute: tests/run full, or ATL_FULL=1")


class WitnessCase(Writes, unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.testbed = Testbed(NAME)
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3 if FULL else 2)
        cls.testbed.atoll(1, "cluster", "create", "demo", "--link0", cls.testbed.address(1))
        cls.testbed.atoll(2, "cluster", "join", cls.testbed.address(1), "--token", wait_until(20, cls.testbed.join_token, 0.2))
        cls.testbed.facts["tokens"]["2"] = cls.testbed.facts["tokens"]["1"]
        cls.witness = Witness(cls.testbed)
        cls.addClassCleanup(cls.witness.down)
        cls.witness.start()

    # --- helpers ---

    def rest(self, which):
        return self.testbed.rest(which)

    def cluster(self, which):
        try:
            return next(row for row in self.rest(which).get("/cluster/status") if row["type"] == "cluster")
        except (ApiError, OSError):
            return {"quorate": 0, "writable": 0, "secrets": "unknown"}

    def is_whole(self, which):
        """All three vote, as the node sees it."""
        try:
            shown = self.rest(which).get("/cluster/config/qdevice")
        except (ApiError, OSError):
            return False
        row = self.cluster(which)
        return bool(row["quorate"] and row["writable"] and row["secrets"] == "done" and shown.get("state") == "member"
                    and shown.get("votes") and shown.get("etcd") and len(self.members(which)) == 3)

    def wait_whole(self):
        for which in (1, 2):
            self.assertTrue(wait_until(60, lambda w=which: self.is_whole(w), 0.3),
                            (which, self.cluster(which), self.rest(which).get("/cluster/config/qdevice"), self.members(which)))

    def etcdctl(self, which, *words):
        """Asked on n1 when the witness (99) is to be asked."""
        on = 1 if which == 99 else which
        folder = f"{self.testbed.node(on).state_dir}/config-store/etcd"
        return self.testbed.exec(on, "env", "ETCDCTL_API=3", "etcdctl", "--command-timeout=3s", "--endpoints",
                                 f"10.77.0.{which}:2379", "--cacert", f"{folder}/ca.pem",
                                 "--cert", f"{folder}/node.pem", "--key", f"{folder}/node.key", *words, check=False).stdout

    def members(self, which):
        """etcd's, by name: is it a learner."""
        rows = [line.split(", ") for line in self.etcdctl(which, "member", "list").splitlines()]
        return {row[2]: row[5] == "true" for row in rows if len(row) > 5}

    def leader(self):
        """1, 2, or 99 for the witness; waits while there is an election."""
        return wait_until(10, self.leader_now, 0.2)

    def leader_now(self):
        folder = f"{self.testbed.node(1).state_dir}/config-store/etcd"
        done = self.testbed.exec(1, "env", "ETCDCTL_API=3", "etcdctl", "--endpoints",
                                 f"10.77.0.1:2379,10.77.0.2:2379,{self.witness.address}:2379", "--cacert", f"{folder}/ca.pem",
                                 "--cert", f"{folder}/node.pem", "--key", f"{folder}/node.key", "endpoint", "status",
                                 "--write-out", "json")
        for row in json.loads(done.stdout):
            if row["Status"]["header"]["member_id"] == row["Status"].get("leader"):
                return int(row["Endpoint"].split(":")[0].split(".")[3])
        return None

    def atoll(self, which, *words, check=True):
        return self.testbed.atoll(which, *words, check=check)

    def add(self, which=1):
        """The word may be refused for a moment when the nodes have just changed: etcd or corosync begins anew."""
        def word():
            done = self.atoll(which, "cluster", "witness", "add", self.witness.address, check=False)
            self.assertTrue(done.returncode == 0 or NO_QUORUM in done.stderr, done.stderr)
            return done.stdout
        return self.witness.join(json.loads(wait_until(10, word, 0.3)))

    # --- it comes ---

    def test_01_it_is_added(self):
        self.assertEqual(self.rest(1).get("/cluster/config/qdevice"), {})
        with self.assertRaisesRegex(ApiError, "address of 'n2'"):
            self.rest(1).post("/cluster/config/qdevice", address=self.testbed.address(2))
        refused = self.witness.join("10.77.0.1:8006/" + ":".join(["00"] * 32) + "/00000000.00", check=False)
        self.assertIn("another fingerprint", refused.stderr)
        began = time.monotonic()
        self.assertIn("witness of cluster", self.add().stdout)
        self.wait_whole()
        print(f"\na witness was added in {time.monotonic() - began:.1f} s", file=sys.stderr)
        self.assertEqual(self.members(1), {"n1": False, "n2": False, "_witness": False})
        self.assertEqual(self.cluster(1)["witness"], self.witness.address)
        self.assertLessEqual({"etcd", "corosync-qnetd"}, self.witness.programs())

    def test_02_its_word_opens_nothing_else(self):
        """A node cannot join with it, and no other machine be the witness."""
        word = self.rest(2).post("/cluster/config/qdevice", address=self.witness.address)
        secret = word.rsplit("/", 1)[1]
        with self.assertRaisesRegex(ApiError, "not valid"):
            self.rest(1).post("/cluster/config/admit/n9", secret=secret, csr="x", link0="10.77.0.9")
        node_word = self.testbed.join_token()
        with self.assertRaisesRegex(ApiError, "not valid"):
            self.rest(1).post("/cluster/config/admit-witness", secret=node_word.rsplit("/", 1)[1], csr="x")
        with self.assertRaisesRegex(ApiError, "is the witness"):
            self.rest(1).post("/cluster/config/qdevice", address="10.77.0.98")

    def test_03_it_reads_no_secret(self):
        """All that is on its disk: neither the nodes' keys nor what lies below priv/ in plain."""
        self.write_within(1, "seen-by-all", 10)
        self.assertIn("shadow", self.etcdctl(1, "get", "/atoll/t", "--prefix", "--keys-only"))
        held = b""
        for folder, _, names in os.walk(self.witness.state_dir):
            for name in names:
                if os.path.isfile(os.path.join(folder, name)):
                    with open(os.path.join(folder, name), "rb") as file:
                        held += file.read()
        self.assertIn(b"seen-by-all", held)  # it does have the rest
        base = os.path.join(self.testbed.node(1).state_dir, "config-store")
        for name in ("priv.key", "corosync/authkey", "ca.key", "etcd/node.key"):
            with open(os.path.join(base, name), "rb") as file:
                content = file.read()
            secret = content[80:112] if content.startswith(b"-----BEGIN") else content[:32]  # behind what all keys begin with
            self.assertEqual(len(secret), 32)
            self.assertNotIn(secret, held, name)
        self.assertNotIn(b"$argon2", held)

    # --- any one of the three fails ---

    def longest_gap(self, which, name, seconds, then):
        """The longest time without a write that was taken, from before `then` on."""
        self.write_within(which, name + "-before", 10)
        end = time.monotonic() + seconds
        last = time.monotonic()
        gap = 0
        then()
        for attempt in range(100000):
            if self.write(which, f"{name}-{attempt}") is None:
                gap = max(gap, time.monotonic() - last)
                last = time.monotonic()
            if time.monotonic() > end:
                break
        self.assertGreater(last, end - seconds / 2, f"n{which} takes no writes any more: {self.write(which, name)}")
        return gap

    def test_11_the_witness_is_lost(self):
        role = "etcd's leader" if self.leader() == 99 else "a follower"
        gap = self.longest_gap(1, "no-witness", 5, self.witness.kill)
        print(f"\nthe witness, {role}, lost: no write for {gap:.2f} s", file=sys.stderr)
        self.assertLess(gap, 10)  # 2 s is the mark
        self.write_within(2, "no-witness-either", 10)
        self.assertTrue(wait_until(15, lambda: not self.rest(1).get("/cluster/config/qdevice").get("votes"), 0.3))
        self.witness.start()
        self.wait_whole()

    def test_12_a_node_is_lost(self):
        for which in (1, 2):
            other = 3 - which
            role = "etcd's leader" if self.leader() == which else "a follower"
            gap = self.longest_gap(other, f"without-n{which}", 7, lambda w=which: self.testbed.power_off(w))
            print(f"\nn{which}, {role}, lost: no write for {gap:.2f} s", file=sys.stderr)
            self.assertLess(gap, 10)  # 2 s is the mark
            self.assertTrue(self.cluster(other)["quorate"])
            self.testbed.power_on(which)
            self.wait_whole()
            self.assertTrue(any(pool.startswith(f"without-n{which}-") for pool in self.pools(which)))

    def move_leader(self, which):
        rows = [line.split(", ") for line in self.etcdctl(1, "member", "list").splitlines()]
        member = next(row[0] for row in rows if row[2] == f"n{which}")

        def moved():  # it is refused while the other one is behind
            leader = self.leader()
            if leader not in (which, None):
                self.etcdctl(leader, "move-leader", member)
            return leader == which
        self.assertTrue(wait_until(30, moved, 0.5))

    def who_goes_on(self, name, seconds):
        """Which of the nodes take writes, tried at the same time until one did and the other refused."""
        end = time.monotonic() + seconds
        answers = {}
        attempt = 0
        while time.monotonic() < end:
            attempt += 1
            answers = {which: self.write(which, f"{name}-{which}-{attempt}") for which in (1, 2)}
            if sorted(answer is None for answer in answers.values()) == [False, True]:
                break
        return answers

    def test_13_the_nodes_lose_each_other(self):
        """Each still reaches the witness: exactly one side goes on, wherever etcd's leader is."""
        for attempt in range(2 if FULL else 1):
            self.move_leader(2 - attempt)
            self.testbed.cut(1, 2)
            began = time.monotonic()
            answers = self.who_goes_on(f"cut{attempt}", 30)
            print(f"\ncut in two: settled after {time.monotonic() - began:.1f} s: {answers}", file=sys.stderr)
            winner = next(which for which, answer in answers.items() if answer is None)
            self.assertIn(NO_QUORUM, answers[3 - winner])
            for again in range(20):  # and it stays so
                self.assertIsNone(self.write(winner, f"cut{attempt}-on-{again}"))
                self.assertIn(NO_QUORUM, self.write(3 - winner, f"cut{attempt}-never-{again}"))
            time.sleep(20 * attempt)  # long enough for all that was connected to have given up
            self.testbed.heal()
            self.time_back(3 - winner, attempt)
            self.wait_whole()
            for which in (1, 2):
                self.write_within(which, f"healed{attempt}-n{which}", 30)
                written = {f"cut{attempt}-on-{again}" for again in range(20)}  # its copy may come a moment after the votes
                wait_until(10, lambda w=which, names=written: names <= self.pools(w), 0.1)
                pools = self.pools(which)
                self.assertLessEqual(written, pools)
                self.assertFalse(any(pool.startswith(f"cut{attempt}-never") for pool in pools))

    def time_back(self, loser, attempt):
        """How long the node that was refused takes to be what it was, from when the two reach each other again."""
        began = time.monotonic()

        def took(there):
            return time.monotonic() - began if wait_until(40, there, 0.05) else None
        wanted = {  # etcd by itself: a read of now, which needs a leader
            "etcd": lambda: self.etcdctl(loser, "get", "/atoll/root", "--keys-only") != "",
            "corosync": lambda: self.cluster(loser)["quorate"],
            "reads": lambda: f"cut{attempt}-on-19" in self.pools(loser),
            "writes": lambda: self.write(loser, f"back{attempt}-{time.monotonic():.2f}") is None}
        with ThreadPoolExecutor(len(wanted)) as threads:
            times = dict(zip(wanted, threads.map(took, wanted.values())))
        self.assertNotIn(None, times.values(), times)
        print(f"\nn{loser} is back: " + ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in times.items()),
              file=sys.stderr)

    # --- it changes with the nodes ---

    def wait_secrets(self):
        self.assertTrue(wait_until(90, lambda: self.cluster(1)["secrets"] == "done", 0.3), self.cluster(1))

    def join_third(self, *more):
        self.atoll(3, "cluster", "join", self.testbed.address(1), "--token", self.testbed.join_token(), *more)

    def leave_third(self):
        """etcd lets nobody go while it thinks another one ill, as for some seconds after a start."""
        self.assertTrue(wait_until(30, lambda: self.atoll(3, "cluster", "leave", check=False).returncode == 0, 1))

    def certificate(self):
        with open(os.path.join(self.witness.state_dir, "etcd", "node.pem"), encoding="utf-8") as text:
            return text.read()

    def speaks_to_etcd(self, folder):
        """What works of reading and writing on either node, from the witness's machine, with these files."""
        worked = []
        for which in (1, 2):
            for words in (["get", "/atoll/root"], ["put", "/intruder", "x"], ["member", "list"]):
                done = self.witness.exec("env", "ETCDCTL_API=3", "etcdctl", "--command-timeout=2s", "--endpoints",
                                         f"{self.testbed.address(which)}:2379", "--cacert", f"{folder}/ca.pem", "--cert",
                                         f"{folder}/node.pem", "--key", f"{folder}/node.key", *words, check=False)
                if done.returncode == 0:
                    worked.append((which, words[0]))
        return worked

    def save(self):
        """A copy of its disk, as somebody might have made it."""
        kept = self.witness.state_dir + ".kept"
        shutil.copytree(os.path.join(self.witness.state_dir, "etcd"), kept, ignore=shutil.ignore_patterns("data"))
        self.addCleanup(shutil.rmtree, kept)
        return kept

    @full
    def test_20_its_certificates_change_with_those_of_the_nodes(self):
        kept = self.save()
        self.assertEqual(len(self.speaks_to_etcd(kept)), 6)
        self.join_third("--votes", "0")
        self.leave_third()
        self.wait_secrets()
        self.wait_whole()
        self.assertNotEqual(self.certificate(), open_text(kept, "node.pem"))
        self.assertEqual(self.speaks_to_etcd(kept), [])
        self.assertEqual(len(self.speaks_to_etcd(os.path.join(self.witness.state_dir, "etcd"))), 6)
        self.assertTrue(wait_until(60, lambda: self.is_alone(3), 0.5))

    def is_alone(self, which):
        done = self.atoll(which, "cluster", "status", "--output", "json", check=False)
        return done.returncode == 0 and not any(row["type"] == "cluster" for row in json.loads(done.stdout))

    @full
    def test_21_it_was_away_meanwhile(self):
        self.join_third("--votes", "0")
        self.witness.kill()
        self.leave_third()
        self.wait_secrets()
        self.witness.start()
        self.wait_whole()
        self.assertTrue(wait_until(60, lambda: self.is_alone(3), 0.5))

    @full
    def test_22_a_third_node_takes_its_place(self):
        kept = self.save()
        self.join_third()
        self.assertTrue(wait_until(60, lambda: self.members(1) == {"n1": False, "n2": False, "n3": False}, 0.3),
                        self.members(1))
        self.wait_secrets()
        self.assertEqual(self.rest(2).get("/cluster/config/qdevice"), {})
        self.assertEqual(self.speaks_to_etcd(kept), [])
        self.write_within(2, "three-nodes", 10)
        with self.assertRaisesRegex(ApiError, "even number of nodes"):
            self.rest(1).post("/cluster/config/qdevice", address=self.witness.address)

    @full
    def test_23_it_comes_again(self):
        self.leave_third()
        self.wait_secrets()
        self.add(2)
        self.wait_whole()

    def test_24_it_is_removed(self):
        kept = self.save()
        wait_until(30, lambda: len(self.speaks_to_etcd(kept)) == 6, 0.5)  # the nodes may just have found each other again
        self.assertEqual(len(self.speaks_to_etcd(kept)), 6)
        self.assertTrue(wait_until(30, lambda: self.atoll(2, "cluster", "witness", "remove", check=False).returncode == 0, 1))
        wait_until(10, lambda: self.rest(1).get("/cluster/config/qdevice") == {}, 0.1)  # n2 did it: a moment later here
        self.assertEqual(self.rest(1).get("/cluster/config/qdevice"), {})
        self.wait_secrets()
        self.assertEqual(self.members(1), {"n1": False, "n2": False})
        self.assertTrue(wait_until(30, lambda: not {"etcd", "corosync-qnetd"} & self.witness.programs(), 0.3))
        self.assertEqual(os.listdir(os.path.join(self.witness.state_dir, "etcd")), [])
        self.assertEqual(self.speaks_to_etcd(kept), [])
        self.write_within(1, "two-nodes", 10)


    @full
    def test_30_one_of_two_goes_and_it_with_him(self):
        self.add(1)
        self.wait_whole()
        self.testbed.power_off(2)
        self.assertTrue(wait_until(30, lambda: self.atoll(1, "cluster", "remove", "n2", check=False).returncode == 0, 1))
        self.assertTrue(wait_until(60, lambda: self.members(1) == {"n1": False}, 0.3), self.members(1))
        self.wait_secrets()
        self.assertTrue(wait_until(20, lambda: self.cluster(1)["quorate"], 0.3))
        self.assertEqual(self.rest(1).get("/cluster/config/qdevice"), {})
        self.write_within(1, "one-node", 10)


def open_text(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as text:
        return text.read()


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore", failfast=True)
