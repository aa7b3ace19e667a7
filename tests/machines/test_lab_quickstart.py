#!/usr/bin/python3
"""The quickstart on a machine that systemd runs: it installs the package, and units hold the node. Up twice, status, down, and
nothing is left; up once more, and all is there again. One machine; tests run in the order of their names."""
import json
import os
import shutil
import sys
import unittest

from lab import UNITS, Lab, guests
from image import TOP

TREE = "/root/atoll"
# What a node changes on its machine; --down undoes it. lxc-containers is Debian's, and ends by itself after the boot.
HOST = """ip -br link | awk '{print $1}'; ip route; nft list ruleset; findmnt -rno TARGET | grep -v /run/user
sysctl -a 2>/dev/null | grep -E 'forwarding|rp_filter|bridge-nf'; ls /sys/fs/cgroup | grep -E 'atoll|lxc'
systemctl list-units --plain --no-legend --state=active '*virt*' 'atoll*' | awk '{print $1}'
ps -eo comm= | grep -E 'atoll|qemu-system|dnsmasq|libvirtd|lxc' | grep -v lxc-containers | sort; ls /etc/default/atoll"""


class Bare(Lab):
    """A lab without the package, whose machine finds a clone with a finished build."""

    def install(self, each):
        each.run(f"mkdir -p {TREE} && cp -a /share/atoll/. {TREE}")

    def make_admin(self, each):
        pass

    def write_env(self):
        pass

    def prepare(self):
        super().prepare()
        clone = os.path.join(self.share, "atoll")
        for name in ("deploy", "tools", "build/guest"):
            shutil.copytree(os.path.join(TOP, name), os.path.join(clone, name),
                            ignore=shutil.ignore_patterns("deb", "__pycache__"))
        build = os.path.join(clone, "build", "release")
        os.makedirs(os.path.join(build, "bin"))
        shutil.copy2(os.path.join(self.build_dir, "bin", "atoll"), os.path.join(build, "bin"))
        shutil.move(os.path.join(self.share, "atoll.deb"), os.path.join(build, "atoll_0_amd64.deb"))
        os.utime(os.path.join(build, "atoll_0_amd64.deb"))


class Quickstart(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.lab = Bare(f"labq{os.getpid()}", os.environ.get("ATL_LAB_BUILD_DIR"))
        cls.addClassCleanup(cls.lab.down)
        cls.lab.up(1, lambda text: print(text, file=sys.stderr, flush=True))
        cls.machine = cls.lab.machine(1)
        cls.before = cls.machine.agent.run(HOST)[1]

    def quickstart(self, *words):
        code, out, err = self.machine.agent.run(
            f"cd {TREE} && ./deploy/quickstart --build-dir build/release --accel kvm {' '.join(words)}", timeout=900)
        self.assertEqual(code, 0, out + err)
        return out

    def pids(self):
        return self.machine.run(f"systemctl show -p MainPID {' '.join(UNITS)}; pgrep qemu-system")

    def test_1_up(self):
        out = self.quickstart()
        print(out, file=sys.stderr)
        self.assertRegex(out, rf"{guests.VM} +qemu +demo-vm +running +10\.")
        self.assertRegex(out, rf"{guests.CT} +lxc +demo-ct +running +10\.")
        self.machine.run(f"systemctl is-active {' '.join(UNITS)} atoll-guests")

    def test_2_status(self):
        shown = json.loads(self.quickstart("--status", "--json"))
        self.assertTrue(shown["running"] and shown["healthy"], shown)
        self.assertEqual({row["name"] for row in shown["services"]}, set(UNITS))

    def test_3_again(self):
        before = self.pids()
        out = self.quickstart()
        self.assertIn("runs already", out)
        self.assertEqual(self.pids(), before)

    def test_4_what_it_prints_to_try(self):
        self.machine.run(f"cd {TREE} && set -a && . build/quickstart.env && set +a && atoll cluster resources && "
                         f"atoll vm agent-network-get-interfaces {guests.VM} && "
                         "curl -fsS --cacert \"$ATOLL_CACERT\" -H \"Authorization: PVEAPIToken=$ATOLL_TOKEN\" "
                         "\"$ATOLL_URL/api2/json/nodes\"")

    def test_5_down(self):
        self.quickstart("--down")
        self.assertEqual(self.machine.agent.run(HOST)[1], self.before)
        self.assertNotEqual(self.machine.agent.run("dpkg -s atoll | grep '^Status: install ok installed'")[0], 0)
        self.assertIn("does not run", self.machine.agent.run(f"cd {TREE} && ./deploy/quickstart --status")[1])

    def test_6_up_once_more(self):
        out = self.quickstart()
        self.assertRegex(out, rf"{guests.VM} +qemu +demo-vm +running +10\.")


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
