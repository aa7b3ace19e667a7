#!/usr/bin/python3
"""Atoll on a machine with systemd, cgroup v2 and AppArmor, installed from its package: units, guests, restarts, an upgrade, a
reboot. One machine; tests run in the order of their names."""
import os
import sys
import time
import unittest

import lab as labs
from lab import UNITS, Lab, guests, wait_until

VM, CT = 100, 101


class Smoke(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lab = Lab(f"lab{os.getpid()}", os.environ.get("ATL_LAB_BUILD_DIR"))
        cls.addClassCleanup(cls.lab.down)
        began = time.monotonic()
        cls.lab.up(1, lambda text: print(text, file=sys.stderr, flush=True))
        print(f"a machine with its package is up after {time.monotonic() - began:.0f} s", file=sys.stderr)
        cls.machine = cls.lab.machine(1)
        cls.rest = cls.lab.rest(cls.machine)

    def shell(self, command, **options):
        return self.machine.run(command, **options).strip()

    def guest_pids(self):
        """Of QEMU and of the container's first process."""
        return (self.shell("pgrep -f '[q]emu-system-x86_64.*guest=' | sort | xargs"),
                self.shell("for p in $(pgrep -f '^.[l]xc monitor'); do pgrep -P $p; done | sort | xargs"))

    def running(self):
        return {row["vmid"]: row["status"] for row in self.rest.get("/cluster/resources", type="vm")}

    def units_are_well(self):
        def active():
            return self.machine.agent.run(f"systemctl is-active --quiet {' '.join(UNITS)}")[0] == 0
        self.assertTrue(wait_until(90, active, 0.5),
                        self.machine.agent.run(f"systemctl --no-pager status {' '.join(UNITS)}")[1])
        self.assertEqual(self.shell("systemctl list-units --failed --no-legend --plain 'atoll*'"), "")

    def answers_again(self):
        def there():
            try:
                return self.rest.get("/cluster/resources") is not None
            except (OSError, labs.ApiError):
                return False
        self.assertTrue(wait_until(60, there, 0.5), "the API does not answer")

    def test_1_units(self):
        self.units_are_well()
        users = dict(line.split() for line in self.shell("ps -eo comm:20,user:20 --no-headers | grep ^atoll-").splitlines())
        as_root = {name for name, user in users.items() if user == "root"}
        self.assertEqual(as_root, {"atoll-compute-a", "atoll-watchdog"}, users)
        for unit in UNITS:
            shown = dict(line.split("=", 1) for line in self.shell(
                f"systemctl show {unit} -p WatchdogUSec -p Type -p NRestarts -p UnitFileState").splitlines())
            self.assertEqual(shown, {"WatchdogUSec": "30s", "Type": "notify", "NRestarts": "0", "UnitFileState": "enabled"},
                             unit)

    def test_2_guests(self):
        rest = self.rest
        rest.post("/storage", storage="local", type="dir", path="/srv/local", content="images,rootdir,vztmpl,import")
        for content, path in (("vztmpl", guests.TEMPLATE), ("import", guests.DISK)):
            rest.wait(rest.upload("l1", "local", content, path))
        rest.wait(rest.post("/nodes/l1/lxc", vmid=CT, hostname="ct", memory=64, swap=0, rootfs="local:0", ostype="unmanaged",
                            ostemplate=f"local:vztmpl/{os.path.basename(guests.TEMPLATE)}", unprivileged=1, onboot=1,
                            startup="order=1", net0="name=eth0,bridge=vmbr0,ip=dhcp"), 240)
        rest.wait(rest.post("/nodes/l1/qemu", vmid=VM, memory=128, agent="1", machine="q35", serial0="socket", ostype="l26",
                            boot="order=virtio0", net0="virtio,bridge=vmbr0", onboot=1, startup="order=2,up=2",
                            virtio0=f"local:0,import-from=local:import/{os.path.basename(guests.DISK)}"), 240)
        rest.wait(rest.post(f"/nodes/l1/lxc/{CT}/status/start"), 120)
        rest.wait(rest.post(f"/nodes/l1/qemu/{VM}/status/start"), 240)
        self.assertEqual(self.running(), {VM: "running", CT: "running"})

    def limited_to(self, mib):
        """Has a cgroup of the container that limit of memory?"""
        files = f"$(find /sys/fs/cgroup -path '*{CT}*' -name memory.max)"
        return self.machine.agent.run(f"grep -lx {mib << 20} {files}")[0] == 0

    def test_3_cgroup_v2_holds_the_container(self):
        self.assertEqual(self.shell("stat -fc %T /sys/fs/cgroup"), "cgroup2fs")
        self.assertTrue(self.limited_to(64), "no cgroup of the container has its limit of memory")
        before = self.guest_pids()
        self.rest.put(f"/nodes/l1/lxc/{CT}/config", memory=80, cores=1)
        self.assertTrue(wait_until(20, lambda: self.limited_to(80), 0.5), "a live change is not there")
        self.assertEqual(self.guest_pids(), before)
        self.rest.put(f"/nodes/l1/lxc/{CT}/config", memory=64)

    def test_4_apparmor_holds_the_guests(self):
        vm, ct = self.guest_pids()
        self.assertEqual(self.shell("cat /sys/module/apparmor/parameters/enabled"), "Y")
        self.assertRegex(self.shell(f"cat /proc/{vm}/attr/current"), r"^libvirt-[0-9a-f-]+ \(enforce\)$")
        self.assertRegex(self.shell(f"cat /proc/{ct.split()[0]}/attr/current"), r"lxc.*\(enforce\)")

    def test_5_a_virtual_machine_runs_under_kvm_and_answers(self):
        """KVM below TCG is too slow for the boot probe: the administrator says so."""
        self.shell("echo COMPUTE_AGENT_OPTIONS=--accel kvm >>/etc/default/atoll; systemctl restart atoll-compute-agent")
        self.answers_again()
        self.rest.wait(self.rest.post(f"/nodes/l1/qemu/{VM}/status/stop"), 120)
        self.rest.wait(self.rest.post(f"/nodes/l1/qemu/{VM}/status/start"), 240)
        vm, _ = self.guest_pids()
        self.assertIn(" -accel kvm ", self.shell(f"tr '\\0' ' ' </proc/{vm}/cmdline"))

        def answers():
            try:
                return self.rest.post(f"/nodes/l1/qemu/{VM}/agent/ping") is not None
            except labs.ApiError:
                return False
        self.assertTrue(wait_until(180, answers, 1), "the guest's agent does not answer")

    def test_6_no_restart_is_noticed_by_guests(self):
        before = self.guest_pids()
        for unit in UNITS:
            self.shell(f"systemctl restart {unit}")
        self.shell("systemctl restart atoll.target")
        self.units_are_well()
        self.answers_again()
        self.assertEqual(self.guest_pids(), before)

    def test_7_nor_is_an_upgrade(self):
        before = self.guest_pids()
        starts = self.shell(f"systemctl show {' '.join(UNITS)} -p ExecMainStartTimestampMonotonic")
        self.shell("dpkg -i /share/atoll.deb", timeout=240)
        self.units_are_well()
        self.answers_again()
        self.assertEqual(self.guest_pids(), before)
        now = self.shell(f"systemctl show {' '.join(UNITS)} -p ExecMainStartTimestampMonotonic")
        profile = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
        self.assertEqual(self.shell(f"grep -c /run/atoll/qemu/ {profile}"), "1")
        self.assertFalse(set(starts.splitlines()) & set(now.splitlines()) - {""}, "a unit runs the old programs")
        self.assertTrue(wait_until(30, lambda: self.running() == {VM: "running", CT: "running"}, 0.5), self.running())

    def test_8_a_reboot_starts_units_and_guests_in_order(self):
        self.machine.reboot()
        self.units_are_well()
        self.answers_again()
        self.assertTrue(wait_until(180, lambda: self.running() == {VM: "running", CT: "running"}, 1), self.running())
        tasks = {row["type"]: row for row in reversed(self.rest.get("/nodes/l1/tasks", limit=50, source="all"))}
        self.assertLessEqual(tasks["vzstart"]["starttime"], tasks["qmstart"]["starttime"], tasks)
        self.assertEqual(tasks["stopall"]["status"], "OK", tasks)
        self.assertLessEqual(tasks["stopall"]["starttime"], tasks["vzstart"]["starttime"], tasks)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
