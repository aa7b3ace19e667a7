#!/usr/bin/python3
"""High availability on machines with kernels of their own and an emulated hardware watchdog: a node whose services hang, or
whose network is cut, is reset by it, its guest runs again elsewhere, and the node comes back. A node that goes down in order
is no fault. Three machines; tests run in the order of their names."""
import os
import sys
import time
import unittest

from lab import TOP, UNITS, Lab, guests, wait_until
from machine import MachineError, Monitor

sys.path.insert(0, os.path.join(TOP, "tests", "cluster"))

from ha_look import Looking  # noqa: E402

CT = 300
SID = f"ct:{CT}"
TICK_MS = 3000  # emulated machines are slow: all times are six times the default ones
LEASE_S = 42
FAR_PAST_S = 240
UP_S = 600


class LabHa(Looking, unittest.TestCase):
    SID = SID
    FAR_PAST_S = FAR_PAST_S
    PERIOD_S = 0.5

    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(f"labha{os.getpid()}", os.environ.get("ATL_LAB_BUILD_DIR"))
        cls.addClassCleanup(cls.lab.down)
        began = time.monotonic()
        cls.lab.up(3, lambda text: print(text, file=sys.stderr, flush=True))
        cls.lab.make_cluster()
        cls.told(f"three machines are a cluster after {time.monotonic() - began:.0f} s")
        cls.monitors = {each.number: Monitor(each.path("qmp")) for each in cls.lab.machines()}
        for monitor in cls.monitors.values():
            cls.addClassCleanup(monitor.close)
        cls.policy("conditional")
        rest = cls.rest()
        rest.post("/storage", storage="pool", type="dir", path="/pool", shared=1, content="images,rootdir,vztmpl")
        rest.wait(rest.upload("l1", "pool", "vztmpl", guests.TEMPLATE))
        rest.wait(rest.post("/nodes/l1/lxc", vmid=CT, hostname="kept", memory=64, swap=0, rootfs="pool:0",
                            ostype="unmanaged", ostemplate=f"pool:vztmpl/{os.path.basename(guests.TEMPLATE)}",
                            unprivileged=1, net0="name=eth0,bridge=vmbr0,ip=dhcp"), 240)

    @staticmethod
    def told(text):
        print(f"    {text}", file=sys.stderr, flush=True)

    # --- what there is ---

    @classmethod
    def rest(cls, but=None):
        return cls.lab.rest(next(each for each in cls.lab.machines() if each.number != but))

    @classmethod
    def policy(cls, word):
        text = f"ha: tick={TICK_MS},shutdown_policy={word}\n".encode().hex()
        cls.lab.machine(1).run(f"atoll store txn --operation kind=put,path=datacenter.cfg,content={text}")

    def runs_on(self, each):
        """Is the container's first process there?"""
        return each.agent.run("for p in $(pgrep -f '^.[l]xc monitor'); do pgrep -P $p; done | grep -q .", timeout=20)[0] == 0

    def homes(self, but=None):
        """The machines on which the guest runs, of those that can be asked."""
        return [each.number for each in self.lab.machines() if each.number != but and self.runs_on(each)]

    def logs(self):
        for each in self.lab.machines():
            try:
                yield each.name, each.run(
                    "journalctl --no-pager -o short-monotonic -n 40 -u atoll-ha-lrm -u atoll-ha-crm -u atoll-watchdog "
                    "-u atoll-guests -u atoll-compute-agent", timeout=30)
            except (OSError, ValueError, MachineError) as error:
                yield each.name, str(error)

    def together(self):
        return all(self.lab.sees_all(each) for each in self.lab.machines())

    def settled(self):
        """The machine on which the guest runs, when nothing is under way any more."""
        self.all_nodes_well(3, UP_S)
        row = self.wait_state("started")
        homes = self.homes()
        self.assertEqual([f"l{number}" for number in homes], [row["node"]], self.explain())
        return self.lab.machine(homes[0])

    def wait_elsewhere(self, old):
        found = wait_until(FAR_PAST_S, lambda: self.homes(old.number), 0.2)
        self.assertTrue(found, f"the guest of {old.name} runs nowhere else: {self.explain(old.number)}")
        self.assertEqual(len(found), 1, "it runs twice")
        return found[0]

    def strike(self, what, do, mend=lambda each: None):
        """Does something to the guest's machine. Its watchdog resets it, the guest runs elsewhere, it comes back."""
        old = self.settled()
        before, monitor = old.boot_id(), self.monitors[old.number]
        resets = len(monitor.resets())
        began = time.monotonic()
        do(old)
        new = self.wait_elsewhere(old)
        elsewhere = time.monotonic() - began
        self.assertEqual(len(monitor.resets()) - resets, 1, f"{old.name} was not reset by its watchdog, once")
        reset = monitor.resets()[-1] - began
        self.assertLess(reset, elsewhere, "the guest ran elsewhere before its node was reset")
        self.assertEqual(self.wait_state("started", but=old.number)["node"], f"l{new}")
        mend(old)
        old.wait_boot(before, UP_S)
        self.all_nodes_well(3, UP_S)
        self.told(f"{what}: reset after {reset:.1f} s, the guest runs elsewhere after {elsewhere:.1f} s (lease {LEASE_S} s), "
                  f"the node is back after {time.monotonic() - began:.0f} s")
        self.assertEqual(sum(len(m.resets()) for m in self.monitors.values()), self.expected_resets())
        self.settled()

    resets_so_far = 0

    def expected_resets(self):
        type(self).resets_so_far += 1
        return self.resets_so_far

    @staticmethod
    def watched(each, what):
        """Of the emulated watchdog; the chip set has another one."""
        return each.run(f"cat $(dirname $(grep -l i6300ESB /sys/class/watchdog/*/identity))/{what}").strip()

    # --- tests, in this order ---

    def test_1_a_resource_arms_the_watchdog(self):
        first = self.lab.machine(1)
        self.assertEqual(self.watched(first, "state"), "inactive")
        self.rest().post("/cluster/ha/resources", sid=SID, max_relocate=3)
        self.assertEqual(self.settled().number, 1)
        self.assertEqual((self.watched(first, "state"), self.watched(first, "timeout")), ("active", str(4 * TICK_MS // 1000)))

    def test_2_services_hang(self):
        self.strike("services hang", lambda each: each.run(
            f"systemctl kill --kill-whom=main --signal=STOP {' '.join(UNITS)}"))

    def test_3_the_network_is_cut(self):
        def link(up):
            return lambda each: self.monitors[each.number].command("set_link", name="n1", up=up)
        self.strike("network cut", link(False), link(True))

    def goes_down(self, policy):
        """Reboots the guest's machine; (machine, seconds until the guest ran elsewhere or None, seconds until it was back)."""
        old = self.settled()
        self.policy(policy)
        before = old.boot_id()
        began = time.monotonic()
        old.agent.run("systemd-run --on-active=1 systemctl reboot")
        elsewhere = None
        if policy != "freeze":
            self.wait_elsewhere(old)
            elsewhere = time.monotonic() - began
        old.wait_boot(before, UP_S)
        self.all_nodes_well(3, UP_S)
        back = time.monotonic() - began
        self.assertEqual(sum(len(m.resets()) for m in self.monitors.values()), self.resets_so_far,
                         "a watchdog reset a node that went down in order")
        last = old.run("journalctl --no-pager -b -1 -u atoll-ha-lrm -u atoll-watchdog -u atoll-guests -o cat")
        self.assertIn("does not watch any more", last, "the watchdog was not let go")
        self.assertNotIn("ends while", last)
        self.told(f"reboot, policy {policy}: " + (f"the guest runs elsewhere after {elsewhere:.1f} s, " if elsewhere else "") +
                  f"the node is back after {back:.0f} s")
        return old

    def test_4_a_reboot_migrates(self):
        self.goes_down("migrate")
        self.settled()

    def test_5_a_reboot_fails_over(self):
        old = self.goes_down("failover")
        self.assertNotEqual(self.settled().number, old.number)

    def test_6_a_reboot_freezes(self):
        old = self.goes_down("freeze")
        self.assertEqual(self.settled().number, old.number)

    def test_7_services_end_in_order(self):
        """All of a node's: its guest runs on, nothing is fenced, and the watchdog is let go before atoll-watchdog ends."""
        home = self.settled()
        home.run("systemctl stop atoll.target")
        time.sleep(LEASE_S + 10)
        self.assertTrue(self.runs_on(home), "the guest was stopped")
        self.assertEqual(self.watched(home, "state"), "inactive")
        home.run("systemctl start atoll.target")
        self.assertEqual(self.settled().number, home.number)
        self.assertEqual(sum(len(m.resets()) for m in self.monitors.values()), self.resets_so_far)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
