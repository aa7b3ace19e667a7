"""A node on a machine that systemd runs: Atoll's package, made from the build and installed, and its units."""
import glob
import hashlib
import json
import os
import shutil
import subprocess

import cleanup
import layout
import slots
from node import Node, NodeError
from supervisor import wait_until

SETTINGS = "/etc/default/atoll"
OURS = "# Written by deploy/quickstart."
UNITS = ["atoll-" + service.name for service in layout.SERVICES]
# What the package starts besides, and what an orderly end takes away again when it did not run before.
LIBVIRT = ["libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "virtlogd.service",
           "virtlogd.socket", "virtlockd.socket", "virtlockd-admin.socket", "virtlogd-admin.socket"]


def runs():
    return os.path.isdir("/run/systemd/system")


def systemctl(*words, check=False):
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise NodeError(f"systemctl {words[0]}", (done.stderr or done.stdout).strip(), "journalctl -xe tells more")
    return done.stdout


def active(units):
    """Those of the units that run."""
    states = systemctl("is-active", *units).split()
    return [unit for unit, state in zip(units, states) if state in ("active", "activating", "reloading")]


def installed():
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", "atoll"], capture_output=True, text=True,
                          check=False)
    return done.stdout.strip() == "installed"


def digest(path):
    with open(path, "rb") as data:
        return hashlib.sha256(data.read()).hexdigest()


class SystemdNode(Node):
    """The package knows its places: nothing but a mark in the state folder, the settings and the network is written here."""

    def __init__(self, build_dir, *places, **options):
        super().__init__(build_dir, *places, **options)
        self.mark_file = os.path.join(self.state_dir, "quickstart.json")
        self.log_dir = "the journal (journalctl -u 'atoll-*')"

    def program(self, name):
        return os.path.join("/usr/bin", name)

    def log_of(self, name):
        return f"journalctl -u {name}"

    def saved(self):
        """What the machine was like before the quickstart put Atoll on it."""
        try:
            with open(self.mark_file, encoding="utf-8") as text:
                return json.load(text)
        except (OSError, ValueError):
            return None

    def init_pid(self):
        """The units have no first process."""
        return None

    def save(self, mark):
        with open(self.mark_file, "w", encoding="utf-8") as out:
            json.dump(mark, out)
        os.chmod(self.mark_file, 0o600)

    def running(self):
        return bool(active(["atoll.target"]))

    def enter(self, *command):
        return list(command)

    def services(self):
        shown = systemctl("show", *self.service_names(), "-p", "Id,MainPID,ActiveState")
        rows = []
        for block in shown.strip().split("\n\n"):
            facts = dict(line.split("=", 1) for line in block.splitlines())
            state, pid = facts["ActiveState"], int(facts["MainPID"])
            health = {"active": "ok", "activating": "starting", "reloading": "starting"}.get(state, "down")
            rows.append({"name": facts["Id"].removesuffix(".service"), "pid": pid or None, "health": health})
        return rows

    def service_names(self):
        return UNITS + active(["atoll-" + name for name in slots.NAMES])

    def log_tail(self, name, lines=8):
        done = subprocess.run(["journalctl", "-u", name, "-n", str(lines), "--no-pager", "-o", "cat"], capture_output=True,
                              text=True, check=False)
        return "".join(f"    {line}\n" for line in done.stdout.splitlines()) + f"    (all of it: {self.log_of(name)})"

    # --- up ---

    def prepare(self):
        """Users, folders, settings: what must be there before the units start."""
        if installed() and self.saved() is None:
            raise NodeError("start the node", "the package atoll is installed here, and not by the quickstart",
                            "use what runs (atoll --help), or take it away first: apt purge atoll")
        layout.make_users()
        layout.make_state_dir(self.state_dir)
        if self.saved() is None:
            self.save({**cleanup.snapshot(self), "units": active(LIBVIRT), "package": ""})
        self.write_interfaces()

    def write_settings(self):
        """True when they are others than before; those of an administrator stay."""
        text = "\n".join([OURS, f"SDN_AGENT_OPTIONS=--interfaces {self.interfaces_file()}",
                          f"COMPUTE_AGENT_OPTIONS=--accel {self.accel}", f"API_GATEWAY_OPTIONS=--listen {self.listen()}", ""])
        try:
            with open(SETTINGS, encoding="utf-8") as old:
                there = old.read()
        except OSError:
            there = OURS
        if there == text or not there.startswith(OURS):
            return False
        with open(SETTINGS, "w", encoding="utf-8") as out:
            out.write(text)
        return True

    def package(self):
        """Made anew when a program is younger."""
        found = glob.glob(os.path.join(self.build_dir, "atoll_*.deb"))
        made = max(map(os.path.getmtime, found), default=0)
        bins = glob.glob(os.path.join(self.build_dir, "bin", "atoll*"))
        if not bins:
            raise NodeError("make the package", f"there are no programs in {self.build_dir}/bin", "build first")
        if made > max(map(os.path.getmtime, bins)):
            return max(found, key=os.path.getmtime)
        for path in found:
            os.unlink(path)
        done = subprocess.run(["cpack", "-G", "DEB"], cwd=self.build_dir, capture_output=True, text=True, check=False)
        found = glob.glob(os.path.join(self.build_dir, "atoll_*.deb"))
        if done.returncode != 0 or not found:
            raise NodeError("make the package", (done.stderr or done.stdout).strip()[-1500:],
                            "fix what it says and run this again")
        return found[0]

    def install(self, package):
        mark = self.saved()
        made_of = digest(package)
        if installed() and mark["package"] == made_of:
            return False
        done = subprocess.run(["apt-get", "-y", "-q", "--no-install-recommends", "--reinstall", "--allow-downgrades",
                               "-o", "DPkg::Lock::Timeout=600", "install", os.path.realpath(package)], capture_output=True,
                              text=True, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode != 0:
            raise NodeError("install the package", (done.stderr or done.stdout).strip()[-1500:],
                            "apt-get --fix-broken install may help; then run this again")
        self.save({**mark, "package": made_of})
        return True

    def up(self):
        """Installs what is new, starts the units. Returns whether something was started."""
        ran = self.running()
        changed = self.write_settings()
        if self.install(self.package()):
            changed = False  # the installation has started them all
        elif not ran:
            boot = os.path.join(self.state_dir, "compute-agent", "boot-id")
            if os.path.exists(boot):  # nothing ran, so this is the node's boot: guests with `onboot` start
                os.unlink(boot)
        systemctl("enable", "--quiet", "--now", "atoll.target", *UNITS, "atoll-guests", check=True)
        if changed and ran:
            systemctl("restart", "atoll.target", check=True)
        return not ran

    # --- down ---

    def down(self):
        mark = self.saved()
        if mark is None:
            return False
        systemctl("disable", "--quiet", "atoll-guests")
        systemctl("disable", "--quiet", "--now", "atoll.target", *UNITS)
        systemctl("stop", *("atoll-" + name for name in slots.NAMES))
        teardown = "/usr/libexec/atoll/atoll-sdn-agent"
        if os.path.exists(teardown):
            cleanup.tear_network_down([teardown], self)
        for unit in UNITS:  # what a service left behind: monitors, dnsmasq
            systemctl("kill", "--kill-whom=all", "--signal=KILL", unit)
        systemctl("stop", "atoll-guests")
        subprocess.run(["dpkg", "--remove", "atoll"], capture_output=True, check=False)
        wait_until(10, lambda: not any(row["pid"] for row in self.services()))
        late = [unit for unit in active(LIBVIRT) if unit not in mark["units"]]
        if late:
            systemctl("stop", *late)
        cleanup.restore(self, mark)
        self.forget(mark)
        return True

    def forget(self, mark):
        try:
            with open(SETTINGS, encoding="utf-8") as text:
                ours = text.read().startswith(OURS)
        except OSError:
            ours = False
        if ours:
            os.unlink(SETTINGS)
        os.unlink(self.mark_file)
        shutil.rmtree(self.run_dir, ignore_errors=True)
