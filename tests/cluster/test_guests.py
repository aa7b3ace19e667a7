#!/usr/bin/python3
"""Guests under faults: clients on all nodes create, change, start, move, stop and delete containers while nodes are cut off,
paused, switched off and their services killed. Afterwards every guest is as what was answered allows, exists once, and runs
on one node at most.

Each client has guests of its own, so what it was told says what may be: after an answer one thing, after none (a connection
that broke, a task whose end nobody saw) the state before or the one after. ATL_SEED repeats a run's choices."""
import collections
import os
import random
import re
import sys
import threading
import time
import unittest

from test_nemesis import Nemesis as Faults
from testbed import ApiError, guests, wait_until
from rest import TaskError

GUESTS_PER_CLIENT = 3
SETTLED_S = 3
# What a guest may be: where it is, its memory in MiB; ABSENT: it is not there.
State = collections.namedtuple("State", "node memory")
ABSENT = State(None, None)


class Unknown(Exception):
    """Nobody said whether it was done."""


class Client(threading.Thread):
    def __init__(self, testbed, which, number, seed):
        super().__init__(daemon=True)
        self.testbed, self.which = testbed, which
        self.random = random.Random(seed)
        self.may, self.active, self.next = {}, [], 1000 * number
        for _ in range(GUESTS_PER_CLIENT):
            self.take_id()
        self.ended = threading.Event()
        self.counts = collections.Counter()
        self.why = collections.Counter()  # of what was refused or failed

    def run(self):
        while not self.ended.is_set():
            vmid = self.random.choice(self.active)
            if self.may[vmid] == {ABSENT}:
                self.create(vmid)
            else:
                self.random.choice([self.change, self.start_it, self.move, self.move, self.remove])(vmid)
            if len(self.may[vmid]) > 1:  # what it is now is settled at the end
                self.active.remove(vmid)
                self.take_id()

    def take_id(self):
        self.next += 1
        self.may[self.next] = {ABSENT}
        self.active.append(self.next)

    def rest(self):
        rest = self.testbed.rest(self.which)
        rest.timeout = 15
        return rest

    def done(self, call):
        """True: done. False: it was refused, or failed as a task. Unknown: neither was said."""
        try:
            upid = call()
            if isinstance(upid, str) and upid.startswith("UPID:"):
                self.rest().wait(upid, 40)
            return True
        except TaskError as error:
            if error.exitstatus.startswith(("still runs", "ended without")):
                raise Unknown from error
            self.why[str(error).splitlines()[0][:160]] += 1
            return False
        except ApiError as error:
            if error.status in (595, 596) or "not known" in str(error) or "deadline" in str(error).lower():
                raise Unknown from error
            self.why[re.sub(r"\d{4,}", "ID", str(error))[:160]] += 1
            return False
        except (OSError, ValueError) as error:
            raise Unknown from error

    def attempt(self, what, vmid, call, after, failed=None):
        """failed: what may be when it failed half-way; None: what was before."""
        before = self.may[vmid]
        try:
            good = self.done(call)
            self.counts[what if good else what + " refused"] += 1
            self.may[vmid] = after if good else before | (failed or set())
        except Unknown:
            self.counts[what + " unknown"] += 1
            self.may[vmid] = before | after
            time.sleep(0.5)

    def create(self, vmid):
        node, memory = self.random.choice(("n1", "n2", "n3")), self.random.choice((32, 48, 64))
        template = f"local:vztmpl/{os.path.basename(guests.TEMPLATE)}"
        # A creation that fails takes away what it made; what it cannot take away goes later, and is locked until then.
        rootfs = self.random.choice(("local:0", "local:1"))  # a folder, an image
        self.attempt("create", vmid, lambda: self.rest().post(
            f"/nodes/{node}/lxc", vmid=vmid, hostname=f"ct{vmid}", memory=memory, swap=0, rootfs=rootfs, ostype="unmanaged",
            ostemplate=template), {State(node, memory)}, {State(node, memory)})

    def only(self, vmid):
        return next(iter(self.may[vmid]))

    def change(self, vmid):
        state = self.only(vmid)
        memory = self.random.choice((32, 48, 64, 80))
        self.attempt("change", vmid, lambda: self.rest().put(f"/nodes/{state.node}/lxc/{vmid}/config", memory=memory),
                     {state._replace(memory=memory)})

    def start_it(self, vmid):
        state = self.only(vmid)
        verb = self.random.choice(("start", "stop"))
        self.attempt(verb, vmid, lambda: self.rest().post(f"/nodes/{state.node}/lxc/{vmid}/status/{verb}"), {state})

    def move(self, vmid):
        state = self.only(vmid)
        target = self.random.choice([n for n in ("n1", "n2", "n3") if n != state.node])
        path = f"/nodes/{state.node}/lxc/{vmid}/migrate"
        self.attempt("move", vmid, lambda: self.rest().post(path, target=target, restart=1),
                     {state._replace(node=target)}, {state._replace(node=target)})

    def remove(self, vmid):
        state = self.only(vmid)
        self.attempt("remove", vmid, lambda: self.rest().delete(f"/nodes/{state.node}/lxc/{vmid}", force=1), {ABSENT})


class Guests(Faults):
    """The same faults as for the registers, and nodes that lose power."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.testbed.give_images()

    def faults(self):
        found = super().faults()
        for which in (1, 2, 3):
            found.append((f"n{which} switched off", lambda w=which: self.testbed.power_off(w),
                          lambda w=which: self.testbed.power_on(w)))
            for service in ("compute-agent", "storage-agent", "api-gateway"):
                found.append((f"{service} of n{which} killed", lambda w=which, s=service: self.kill(w, s), lambda: None))
        return found

    def shown(self, which):
        """vmid -> State, as the node shows it; None when it does not answer, or while work holds a guest."""
        try:
            rest, found = self.testbed.rest(which), {}
            for row in rest.get("/cluster/resources?type=vm"):
                if row["type"] == "lxc":
                    config = rest.get(f"/nodes/{row['node']}/lxc/{row['vmid']}/config")
                    self.why_not = f"n{which} shows {row['vmid']} at {row['node']}: lock {config.get('lock')}"
                    if config.get("lock") not in (None, "destroyed"):  # that removal was cut off: to be asked for again
                        return None
                    found[row["vmid"]] = State(row["node"], config["memory"])
            return found
        except (ApiError, OSError) as error:
            self.why_not = f"n{which}: {error}"
            return None

    def files(self):
        """Of guests in the tree: [(vmid, node)]."""
        found = []
        for node in ("n1", "n2", "n3"):
            out = self.testbed.atoll(1, "store", "list", "--prefix", f"nodes/{node}/lxc/", "--output", "json").stdout
            found += [(int(word), node) for word in re.findall(r"/lxc/(\d+)\.conf", out)]
        return found

    def monitors(self):
        """vmid -> nodes where it runs."""
        running = collections.defaultdict(list)
        for which in (1, 2, 3):
            out = self.testbed.exec(which, "sh", "-c", "ps -eo args | grep '^.lxc monitor. ' || true").stdout
            for line in out.splitlines():
                running[int(line.split()[-1])].append(f"n{which}")
        return running

    def allowed(self, clients, shown):
        """What stands against what was answered."""
        wrong = []
        for client in clients:
            for vmid, may in client.may.items():
                if shown.get(vmid, ABSENT) not in may:
                    wrong.append(f"{vmid}: {shown.get(vmid, ABSENT)} is none of {sorted(may, key=str)}")
        return wrong

    small_disks = False
    test_what_clients_saw_has_an_order = None  # these are test_nemesis.py's
    test_a_full_disk_of_etcd_is_the_loss_of_a_voter = None

    def test_guests_are_as_was_answered(self):
        clients, done = self.under_faults(Client, (1, 2.5), 120)
        counts = sum((client.counts for client in clients), collections.Counter())
        print(f"faults: {', '.join(done)}\n{dict(sorted(counts.items()))}", file=sys.stderr)
        for why, count in sum((client.why for client in clients), collections.Counter()).most_common(8):
            print(f"  {count} x {why}", file=sys.stderr)
        began = time.monotonic()

        def agreed():
            views = [self.shown(which) for which in (1, 2, 3)]
            if None not in views:
                self.why_not = views
            return views[0] if views[0] is not None and all(view == views[0] for view in views) else None

        def settled():
            """What nobody answered may still be under way: twice the same, some time apart."""
            before = agreed()
            time.sleep(SETTLED_S)
            return before if before is not None and agreed() == before else None
        shown = wait_until(90, settled, 0.5)
        self.assertIsNotNone(shown, f"the nodes do not agree: {self.why_not}")
        print(f"all agree {time.monotonic() - began:.1f} s after the last client ended: {len(shown)} guests", file=sys.stderr)
        twice = [vmid for vmid, count in collections.Counter(vmid for vmid, _ in self.files()).items() if count > 1]
        self.assertEqual(twice, [], "ids that exist twice")
        self.assertEqual(self.allowed(clients, shown), [])
        for vmid, where in self.monitors().items():
            self.assertEqual(where, [shown.get(vmid, ABSENT).node], f"{vmid} runs elsewhere than it is")
        self.assertGreater(counts["create"], 5)
        self.assertGreater(counts["move"], 0)


del Faults

if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
