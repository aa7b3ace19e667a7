#!/usr/bin/python3
"""Clusters of one, three and five nodes: a change through REST against a bare put into etcd, until all nodes show it, and
what clients notice of the loss of a node.

usage: bench_cluster.py [BUILD_FOLDER]     a release build (build/release); root; a testbed of its own

Prints a line a figure. Nothing but the testbed should run on the machine: all nodes share its processors.
"""
import os
import sys
import threading
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build", "release"))
os.environ["ATL_BUILD_DIR"] = BUILD
sys.path.insert(0, os.path.join(TOP, "tests", "cluster"))
from measure import Client, end_in_order, middle, say, undisturbed  # noqa: E402
from testbed import ApiError, Testbed  # noqa: E402

SIZES = [1, 3, 5]
WRITES = 200
SHOWN = 40
LOSSES = 5
QUIET_S = 12  # between two losses: all is well again


def down(testbed):
    undisturbed()
    testbed.down()
    end_in_order()


def client(testbed, which):
    rest = testbed.rest(which)
    return Client(rest.host, rest.port, rest.context, rest.token)


def bare(testbed):
    """Microseconds of a put into the first node's etcd, by the same client library, inside that node."""
    folder = os.path.join(testbed.node(1).state_dir, "config-store", "etcd")
    done = testbed.exec(1, os.path.join(BUILD, "bin", "bench_etcd_put"), f"{testbed.address(1)}:2379",
                        *[os.path.join(folder, name) for name in ("ca.pem", "node.pem", "node.key")], str(WRITES))
    return float(done.stdout)


def commits(size, testbed):
    first = client(testbed, 1)
    first.call("POST", "/pools?poolid=bench")
    raw, ours = [], []
    for turn in range(3):
        raw.append(bare(testbed) / 1000)
        for i in range(WRITES):
            begin = time.perf_counter()
            first.call("PUT", f"/pools/bench?comment=text{turn}.{i}")
            ours.append((time.perf_counter() - begin) * 1000)
    count = len(ours)
    raw, ours = middle(raw), middle(ours)
    say(f"{size} nodes: a put of 1 KiB into bare etcd, median", raw, "ms")
    say(f"{size} nodes: a pool changed through REST, median of {count}", ours, "ms")
    say(f"{size} nodes: ratio", ours / raw, "x")


def until_shown(size, testbed):
    """From the request on the first node until every node has answered with the new text; asked one after the other."""
    clients = [client(testbed, which) for which in testbed.numbers()]
    took = []
    for i in range(SHOWN):
        text = f"shown{i}"
        begin = time.perf_counter()
        clients[0].call("PUT", f"/pools/bench?comment={text}")
        for each in clients:
            while each.call("GET", "/pools/bench").get("comment") != text:
                pass
        took.append((time.perf_counter() - begin) * 1000)
    say(f"{size} nodes: a change until the last node showed it, median of {SHOWN}", middle(took), "ms")
    say(f"{size} nodes: the same, longest", max(took), "ms")


class Asker(threading.Thread):
    """Asks one node again and again; the longest time without an answer that was a success."""

    def __init__(self, testbed, which, ask):
        super().__init__(daemon=True)
        self.rest = testbed.rest(which)
        self.rest.timeout = 5
        self.ask, self.ended = ask, threading.Event()
        self.last, self.gap, self.number = time.monotonic(), 0, 0

    def run(self):
        while not self.ended.is_set():
            self.number += 1
            try:
                self.ask(self.rest, self.number)
            except (ApiError, OSError):
                time.sleep(0.01)
                continue
            now = time.monotonic()
            self.gap = max(self.gap, now - self.last)
            self.last = now
            time.sleep(0.005)


def lose(testbed, which):
    """Power off; the longest gaps of reads and of writes on the other nodes, in seconds."""
    others = [i for i in testbed.numbers() if i != which]
    reads = [Asker(testbed, i, lambda rest, _n: rest.get("/cluster/resources")) for i in others]
    writes = [Asker(testbed, i, lambda rest, n: rest.put("/pools/bench", comment=f"{n}")) for i in others]
    for asker in reads + writes:
        asker.start()
    time.sleep(2)
    for asker in reads + writes:
        asker.gap = 0
    testbed.power_off(which)
    time.sleep(8)
    for asker in reads + writes:
        asker.ended.set()
        asker.join()
    testbed.power_on(which)
    time.sleep(QUIET_S)
    return max(asker.gap for asker in reads), max(asker.gap for asker in writes)


def losses(testbed):
    gaps = [lose(testbed, 1 + turn % 3) for turn in range(LOSSES)]
    say(f"3 nodes, one lost: longest gap of reads on the others, median of {LOSSES}", middle(g[0] for g in gaps) * 1000, "ms")
    say("the same, longest", max(g[0] for g in gaps) * 1000, "ms")
    say(f"3 nodes, one lost: writes resume after, median of {LOSSES}", middle(g[1] for g in gaps) * 1000, "ms")
    say("the same, longest", max(g[1] for g in gaps) * 1000, "ms", 2000)


def bench(size):
    testbed = Testbed(f"benchc{os.getpid()}", BUILD)
    try:
        testbed.up(size)
        testbed.make_cluster()
        commits(size, testbed)
        until_shown(size, testbed)
        if size == 3:
            losses(testbed)
    finally:
        down(testbed)


def main():
    end_in_order()
    for size in SIZES:
        bench(size)


main()
