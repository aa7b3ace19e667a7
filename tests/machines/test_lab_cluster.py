#!/usr/bin/python3
"""A cluster of machines with systemd, as packages make it: guests move between kernels, a node is removed and all secrets
change, the machine that is free then is a witness, and after it the host of a gateway.
Tests run in the order of their names."""
import json
import os
import sys
import time
import unittest

from lab import UNITS, ApiError, Lab, TaskError, guests, wait_until
from machine import Monitor

VM, CT = 400, 401
UP_S = 300
CLUSTER_UNITS = ["atoll-etcd", "atoll-corosync"]


class LabCluster(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(f"labc{os.getpid()}", os.environ.get("ATL_LAB_BUILD_DIR"))
        cls.addClassCleanup(cls.lab.down)
        cls.lab.up(3, cls.told)
        cls.one, cls.two, cls.three = cls.lab.machines()
        for each in cls.lab.machines():  # KVM below TCG is too slow for the boot probe: the administrator says so
            each.run("echo COMPUTE_AGENT_OPTIONS=--accel kvm >>/etc/default/atoll; systemctl restart atoll-compute-agent")
        cls.lab.make_cluster()

    @staticmethod
    def told(text):
        print(f"    {text}", file=sys.stderr, flush=True)

    def rest(self, each):
        return self.lab.rest(each)

    def active(self, each, *units):
        return each.agent.run(f"systemctl is-active --quiet {' '.join(units)}")[0] == 0

    def row(self, each):
        """The cluster's, as the machine shows it; None when it does not answer."""
        try:
            return next(row for row in self.rest(each).get("/cluster/status") if row["type"] == "cluster")
        except (ApiError, OSError):
            return None

    def is_whole(self, each):
        row = self.row(each)
        return bool(row and row["quorate"] and row["writable"] and row["secrets"] == "done" and
                    self.active(each, *UNITS, *CLUSTER_UNITS))

    def wait_whole(self, *machines):
        for each in machines:
            self.assertTrue(wait_until(UP_S, lambda e=each: self.is_whole(e), 1), (each.name, self.row(each)))

    def wait_running(self, vmid, node):
        def there():
            rows = self.rest(self.one).get("/cluster/resources", type="vm")
            return any(row["vmid"] == vmid and row["node"] == node and row["status"] == "running" for row in rows)
        self.assertTrue(wait_until(60, there, 0.5), f"{vmid} does not run on {node}")

    def guest_says(self, node, *command):
        """What a command in the virtual machine prints; None when its agent does not answer."""
        rest = self.rest(self.one)
        base = f"/nodes/{node}/qemu/{VM}/agent"
        try:
            pid = rest.post(f"{base}/exec", command=list(command))["pid"]
            shown = wait_until(30, lambda: (lambda s: s if s.get("exited") else None)(
                rest.get(f"{base}/exec-status", pid=pid)), 0.5)
            return shown["out-data"].strip() if shown else None
        except ApiError:
            return None

    def move(self, path, **params):
        """Again where nothing was begun: three seconds may be too short for an emulated machine that is busy."""
        rest = self.rest(self.one)
        for left in reversed(range(5)):
            try:
                rest.wait(rest.post(path, **params), 600)
                return
            except (ApiError, TaskError) as error:
                if "cannot be reached" not in str(error) or not left:
                    raise

    # --- tests, in this order ---

    def test_1_debian_s_own_units_are_out_of_the_way(self):
        for each in self.lab.machines():
            self.wait_whole(each)
            for unit in ("etcd", "corosync", "corosync-qdevice"):
                self.assertFalse(self.active(each, unit), unit)
                self.assertEqual(each.agent.run(f"systemctl is-enabled {unit}")[1].strip(), "masked")
            self.assertEqual(each.run("systemctl list-units --failed --no-legend --plain 'atoll*'").strip(), "")

    def test_2_guests_move_between_machines(self):
        monitor = Monitor(self.three.path("qmp"))
        self.addCleanup(monitor.close)
        monitor.command("stop")  # two machines have enough to do
        self.addCleanup(monitor.command, "cont")
        rest = self.rest(self.one)
        rest.post("/storage", storage="local", type="dir", path="/srv/local", content="images,rootdir,vztmpl,import")
        rest.post("/storage", storage="pool", type="dir", path="/pool", shared=1, content="images,rootdir,vztmpl")
        rest.wait(rest.upload("l1", "local", "import", guests.DISK))
        rest.wait(rest.upload("l1", "pool", "vztmpl", guests.TEMPLATE))
        rest.wait(rest.post("/nodes/l1/lxc", vmid=CT, hostname="ct", memory=64, swap=0, rootfs="pool:0", ostype="unmanaged",
                            ostemplate=f"pool:vztmpl/{os.path.basename(guests.TEMPLATE)}", unprivileged=1,
                            net0="name=eth0,bridge=vmbr0,ip=dhcp"), 240)
        rest.wait(rest.post("/nodes/l1/qemu", vmid=VM, memory=128, agent="1", machine="q35", serial0="socket", ostype="l26",
                            boot="order=virtio0", net0="virtio,bridge=vmbr0",
                            virtio0=f"local:0,import-from=local:import/{os.path.basename(guests.DISK)}"), 240)
        rest.wait(rest.post(f"/nodes/l1/lxc/{CT}/status/start"), 120)
        rest.wait(rest.post(f"/nodes/l1/qemu/{VM}/status/start"), 240)
        boot = wait_until(600, lambda: self.guest_says("l1", "cat", "/proc/sys/kernel/random/boot_id"), 1)
        self.assertTrue(boot, "the guest's agent does not answer")
        began = time.monotonic()
        self.move(f"/nodes/l1/qemu/{VM}/migrate", target="l2", online=1, **{"with-local-disks": 1})
        self.told(f"a virtual machine with its local disk moved, running, in {time.monotonic() - began:.0f} s")
        self.wait_running(VM, "l2")
        self.assertEqual(wait_until(180, lambda: self.guest_says("l2", "cat", "/proc/sys/kernel/random/boot_id"), 1), boot,
                         "it is not the boot that was moved")
        self.assertEqual(self.one.agent.run("pgrep -f '[q]emu-system-x86_64.*guest='")[0], 1, "it is left on l1")
        began = time.monotonic()
        self.move(f"/nodes/l1/lxc/{CT}/migrate", target="l2", restart=1)
        self.told(f"a container on a shared storage moved by restart in {time.monotonic() - began:.0f} s")
        self.wait_running(CT, "l2")

    def test_3_a_node_is_removed_and_all_secrets_change(self):
        self.three.run("systemctl stop atoll.target atoll-etcd atoll-corosync")
        self.assertTrue(wait_until(60, lambda: any(row["node"] == "l3" and row["status"] == "offline"
                                                   for row in self.rest(self.one).get("/nodes")), 1))
        began = time.monotonic()
        self.one.run("atoll cluster remove l3", timeout=240)
        self.wait_whole(self.one, self.two)
        self.told(f"removed, and all secrets changed, after {time.monotonic() - began:.0f} s")
        self.assertEqual([row["node"] for row in self.rest(self.two).get("/nodes")], ["l1", "l2"])
        self.wait_running(VM, "l2")
        self.wait_running(CT, "l2")

    def test_4_the_free_machine_is_a_witness(self):
        self.three.run("dpkg -P atoll && dpkg -i /share/atoll-witness.deb", timeout=240)
        self.assertTrue(wait_until(60, lambda: self.active(self.three, "atoll-witness"), 1))
        for unit in ("etcd", "corosync-qnetd"):
            self.assertFalse(self.active(self.three, unit), unit)
        word = json.loads(self.one.run(f"atoll cluster witness add {self.three.address}"))
        self.three.run(f"runuser -u atoll-witness -- atoll-witness join {word}", timeout=300)

        def votes(each):
            shown = self.rest(each).get("/cluster/config/qdevice")
            return shown.get("state") == "member" and shown.get("votes") and shown.get("etcd")
        for each in (self.one, self.two):
            self.assertTrue(wait_until(UP_S, lambda e=each: votes(e), 1), self.rest(each).get("/cluster/config/qdevice"))
            self.assertTrue(self.active(each, "atoll-qdevice"))
        self.wait_whole(self.one, self.two)
        self.two.link(False)  # two of three votes are left: l1's and the witness's
        self.assertTrue(wait_until(120, lambda: any(row["node"] == "l2" and row["status"] == "offline"
                                                    for row in self.rest(self.one).get("/nodes")), 0.5))
        self.assertTrue(wait_until(60, lambda: self.can_write("without-l2"), 0.5), self.row(self.one))
        self.two.link(True)
        self.wait_whole(self.one, self.two)
        self.assertTrue(wait_until(60, lambda: "without-l2" in {row["poolid"] for row in self.rest(self.two).get("/pools")}, 1))
        self.one.run("atoll cluster witness remove", timeout=240)
        self.wait_whole(self.one, self.two)
        self.assertEqual(self.rest(self.one).get("/cluster/config/qdevice"), {})
        self.assertTrue(wait_until(60, lambda: not self.active(self.two, "atoll-qdevice"), 1))

    def can_write(self, pool):
        try:
            self.rest(self.one).post("/pools", poolid=pool)
            return True
        except (ApiError, OSError):
            return False

    def test_5_and_then_the_host_of_a_gateway(self):
        self.three.run("dpkg -P atoll-witness && dpkg -i /share/atoll-associate.deb", timeout=240)
        word = json.loads(self.one.run("atoll cluster associate add l3"))
        self.three.run(f"runuser -u atoll-gateway -- atoll-associate join {word}\nsystemctl restart atoll-associate")

        def serves():
            try:
                return {row["node"] for row in self.rest(self.three).get("/nodes")} == {"l1", "l2"}
            except (ApiError, OSError):
                return False
        self.lab.facts["tokens"]["l3"] = self.lab.facts["tokens"]["l1"]
        self.assertTrue(wait_until(60, serves, 1), self.three.run("journalctl --no-pager -n 30 -u atoll-associate"))
        self.assertEqual(self.rest(self.three).get(f"/nodes/l2/lxc/{CT}/status/current")["status"], "running")
        self.assertEqual(self.three.run("ps -eo comm= | grep ^atoll-").split(), ["atoll-api-gatew"])
        self.one.run("atoll cluster associate remove l3")
        self.assertTrue(wait_until(30, lambda: not serves(), 0.5))


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore", failfast=True)
