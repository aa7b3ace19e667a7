#!/usr/bin/python3
"""What an installation puts on a machine: units systemd takes, folders as the launcher makes them, a Debian package."""
import glob
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))

import layout  # noqa: E402


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def places(base):
    """path below base -> (mode, owner, group) of all folders and files."""
    found = {}
    for folder, _, names in os.walk(base):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            info = os.lstat(path)
            found[os.path.relpath(path, base)] = (oct(stat.S_IMODE(info.st_mode)), info.st_uid, info.st_gid)
    return found


class Installation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="atoll-package-")
        cls.addClassCleanup(shutil.rmtree, cls.root, ignore_errors=True)
        run("cmake", "--install", BUILD, env={**os.environ, "DESTDIR": cls.root})

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def units(self):
        return sorted(glob.glob(self.path("usr/lib/systemd/system/atoll*")))

    def test_every_service_has_a_unit_of_its_own_user(self):
        names = [os.path.basename(unit) for unit in self.units()]
        for service in layout.SERVICES:
            self.assertIn(f"atoll-{service.name}.service", names)
            with open(self.path("usr/lib/systemd/system", f"atoll-{service.name}.service"), encoding="utf-8") as text:
                unit = text.read()
            self.assertIn("Type=notify", unit)
            self.assertIn("WatchdogSec=", unit)
            program = re.search(r"^ExecStart=(\S+)", unit, re.M)[1]
            self.assertTrue(os.access(self.root + program, os.X_OK), program)
            if service.user != "root":
                self.assertIn(f"User={service.user}\n", unit)
                self.assertIn("CapabilityBoundingSet=", unit)

    def test_systemd_takes_the_units(self):
        """Verified where they will be: programs are looked for in the same root."""
        for name in ("dbus.socket", "sysinit.target", "basic.target", "multi-user.target", "network.target",
                     "network-online.target", "shutdown.target", "libvirtd.service", "systemd-tmpfiles-setup.service"):
            path = self.path("usr/lib/systemd/system", name)
            if not os.path.exists(path):
                with open(path, "w", encoding="utf-8") as out:
                    out.write("[Unit]\nDescription=stands in for the machine's\nDefaultDependencies=no\n" +
                              ("[Service]\nType=oneshot\nExecStart=/usr/bin/atoll --version\n"
                               if name.endswith(".service") else "[Socket]\nListenStream=/run/x\nService=libvirtd.service\n"
                               if name.endswith(".socket") else ""))
        for program in ("usr/bin/etcd", "usr/sbin/corosync"):
            os.makedirs(os.path.dirname(self.path(program)), exist_ok=True)
            shutil.copy("/bin/true", self.path(program))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", f"--root={self.root}",
                               *(u.removeprefix(self.root) for u in self.units())],
                              capture_output=True, text=True, check=False)
        complaints = [line for line in done.stderr.splitlines() if "atoll" in line and "/etc/passwd" not in line]
        self.assertEqual(complaints, [])

    def test_users_are_those_of_the_launcher(self):
        with open(self.path("usr/lib/sysusers.d/atoll.conf"), encoding="utf-8") as text:
            users = {line.split()[1] for line in text if line.startswith("u ")}
        self.assertEqual(users, {s.user for s in layout.SERVICES if s.user != "root"})
        base = self.path("sysusers")
        os.makedirs(os.path.join(base, "etc"))
        run("systemd-sysusers", f"--root={base}", self.path("usr/lib/sysusers.d/atoll.conf"))
        with open(os.path.join(base, "etc", "group"), encoding="utf-8") as text:
            group = next(line for line in text if line.startswith(layout.EVENTS_GROUP + ":"))
        self.assertEqual(set(group.strip().split(":")[3].split(",")), users)

    def test_folders_are_those_of_the_launcher(self):
        layout.make_users()
        mine, theirs = self.path("mine"), self.path("theirs")
        for place in (mine, theirs):
            os.makedirs(place)
        layout.make_run_dir(os.path.join(mine, "run"))
        layout.make_state_dir(os.path.join(mine, "state"))
        with open(self.path("usr/lib/tmpfiles.d/atoll.conf"), encoding="utf-8") as text:
            lines = text.read().replace(" /run/atoll", f" {theirs}/run").replace(" /var/lib/atoll", f" {theirs}/state")
        lines = "\n".join(line for line in lines.splitlines() if not re.search("/config-store/(etcd|corosync|qdevice) ", line))
        with open(self.path("tmpfiles.conf"), "w", encoding="utf-8") as out:
            out.write(lines + "\n")
        run("systemd-tmpfiles", "--create", self.path("tmpfiles.conf"))
        self.assertEqual(places(theirs), places(mine))

    def test_manual_pages_are_clean(self):
        pages = glob.glob(self.path("usr/share/man/man1/*.1"))
        self.assertGreater(len(pages), 8)
        for page in pages:
            done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", page], capture_output=True, text=True, check=True)
            self.assertEqual(done.stderr, "", page)

    def test_the_packages_have_all_of_it(self):
        """One of a node, one of a witness, one of a gateway on a host that is no node; each for a machine of its own."""
        folder = self.path("deb")
        os.makedirs(folder)
        run("cpack", "-G", "DEB", "-B", folder, "--config", os.path.join(BUILD, "CPackConfig.cmake"), cwd=folder)
        wants = {"atoll": ("libvirt-daemon-system", "lxc", "qemu-system-x86", "libzmq5"),
                 "atoll-witness": ("etcd-server", "corosync-qnetd"), "atoll-associate": ("libzmq5",)}
        packed = set()
        for package, names in wants.items():
            fields = run("dpkg-deb", "-f", glob.glob(os.path.join(folder, f"{package}_*.deb"))[0])
            self.assertIn(f"Package: {package}\n", fields)
            for name in names:
                self.assertRegex(fields, rf"Depends:.*\b{name}\b")
            self.assertNotRegex(fields, r"Depends:.*\brunit\b")
            conflicts = re.search(r"^Conflicts: (.*)$", fields, re.M)[1].split(", ")
            self.assertEqual(set(conflicts), set(wants) - {package})
            unpacked = self.path(f"unpacked-{package}")
            run("dpkg-deb", "-R", glob.glob(os.path.join(folder, f"{package}_*.deb"))[0], unpacked)
            for script in ("postinst", "prerm", "postrm"):
                run("sh", "-n", os.path.join(unpacked, "DEBIAN", script))
            packed |= {line.split(maxsplit=1)[1].strip()
                       for line in open(os.path.join(unpacked, "DEBIAN", "md5sums"), encoding="utf-8")}
        there = glob.glob(self.path("usr/bin/atoll*")) + glob.glob(self.path("usr/libexec/atoll/*"))
        self.assertEqual({os.path.relpath(path, self.root) for path in there} - packed, set())
        self.assertIn("usr/bin/atoll", packed)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: owners of folders")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore")
