"""A node: its folders, its first process, its services; up, down, and what runs."""
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess

import cleanup
import layout
import libvirtd
import slots
import supervisor
from supervisor import wait_until

NAMESPACES = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]


BRIDGE = """# Guests: a network of their own behind NAT, addresses by DHCP.
auto vmbr0
iface vmbr0 inet static
	address 10.10.10.1/24
	bridge-ports none
	bridge-stp off
	bridge-fd 0
	atoll-nat yes
	atoll-dhcp-range 10.10.10.100 10.10.10.199
"""


def host_has_bridge():
    try:
        with open("/etc/network/interfaces", encoding="utf-8") as text:
            return "vmbr0" in text.read()
    except OSError:
        return False


class NodeError(Exception):
    """Something failed: what, why, and what to do."""

    def __init__(self, what, why, advice=""):
        super().__init__(f"{what}: {why}")
        self.what, self.why, self.advice = what, why, advice


class Node:
    """What is known of a node; nothing happens before up()."""

    def __init__(self, build_dir, run_dir="/run/atoll", state_dir="/var/lib/atoll", name=None, **options):
        self.build_dir = build_dir
        self.bin_dir = os.path.join(build_dir, "bin")
        self.run_dir = run_dir
        self.state_dir = state_dir
        self.name = name or os.uname().nodename.split(".")[0]
        self.isolated = options.get("isolated", False)
        self.accel = options.get("accel", "auto")
        self.link = options.get("link", "atoll0")
        self.network = options.get("network", "10.254.77")
        self.host_number = options.get("host_number", 0)  # network.host_number is a /30: ours +1, the node +2
        self.cluster_address = options.get("cluster_address")  # where other nodes reach it; None: it has none yet
        self.cgroup_name = options.get("cgroup_name")
        self.extra = options.get("extra", {})  # service -> more options
        self.environment = options.get("environment", {})
        self.port = options.get("port", 8006)
        self.host_libvirt = options.get("host_libvirt")  # None: look
        self.libvirt_cache = options.get("libvirt_cache", os.path.join(state_dir, "libvirt-cache"))
        self.private = os.path.join(run_dir, "private")
        self.service_dir = os.path.join(run_dir, "sv")
        self.log_dir = os.path.join(state_dir, "log")
        self.pid_file = os.path.join(run_dir, "node.json")

    # --- what there is ---

    @property
    def address(self):
        return f"{self.network}.{self.host_number + 2}" if self.isolated else "127.0.0.1"

    @property
    def url(self):
        return f"https://{self.address}:{self.port}"

    @property
    def cgroup(self):
        return self.cgroup_name or "atoll-" + self.name

    def saved(self):
        try:
            with open(self.pid_file, encoding="utf-8") as text:
                return json.load(text)
        except (OSError, ValueError):
            return None

    def program(self, name):
        return os.path.join(self.bin_dir, name)

    def log_of(self, name):
        """Where a service's log is."""
        return os.path.join(self.log_dir, name, "current")

    def init_pid(self):
        """The pid of the node's first process, or None. Its start time tells it from another with the same pid."""
        saved = self.saved()
        if saved and cleanup.start_time(saved["pid"]) == saved["start"]:
            return saved["pid"]
        return None

    def running(self):
        return self.init_pid() is not None

    def enter(self, *command):
        """A command line that runs inside the node."""
        pid = self.init_pid()
        if pid is None:
            raise NodeError("enter the node", "it does not run", "start it with deploy/quickstart")
        spaces = ["--mount", "--net", "--uts", "--ipc", "--pid", "--cgroup"] if self.isolated else ["--mount"]
        return ["nsenter", "-t", str(pid), *spaces, "--root", "--wd", "--", *command]

    def services(self):
        """name, pid (as this side counts), health of each service, and of etcd and corosync when they are wanted."""
        rows = []
        pid_of = cleanup.outer_pids(self.init_pid()) if self.isolated and self.running() else {}
        for name in self.service_names():
            inner = supervisor.read_pid(self.service_dir, name) if self.running() else None
            service = name.removeprefix("atoll-")
            ready = supervisor.ready_pid(self.run_dir, service) == inner or not name.startswith("atoll-")
            health = "down" if inner is None else "ok" if ready else "starting"
            rows.append({"name": name, "pid": pid_of.get(inner, inner) if inner else None, "health": health})
        return rows

    def service_names(self):
        names = ["atoll-" + s.name for s in layout.SERVICES]
        if os.path.isdir(os.path.join(self.service_dir, "libvirtd")):
            names.append("libvirtd")
        return names + [name for name in slots.NAMES if supervisor.wanted(self.service_dir, name)]

    def options_of(self, service):
        options = list(self.extra.get(service, []))
        if service == "api-gateway":
            options += ["--listen", self.listen(), "--openapi", os.path.join(self.build_dir, "gen", "openapi.json")]
        if service == "sdn-agent":
            options += ["--interfaces", self.interfaces_file()]
        if service == "config-store":
            options += ["--pam-helper", layout.pam_helper(self.state_dir), "--supervisor", self.service_dir,
                        "--tasks-dir", self.state_dir]
        if service == "compute-agent" and "--driver" not in options:
            options += ["--accel", self.accel, "--libvirt-uri", self.libvirt_uri()]
        return options

    def listen(self):
        return f"[::]:{self.port}" if os.path.exists("/proc/net/if_inet6") else f"0.0.0.0:{self.port}"

    def libvirt_uri(self):
        return "qemu:///system"

    # --- up ---

    def prepare(self):
        missing = [s.name for s in layout.SERVICES if not os.access(self.program("atoll-" + s.name), os.X_OK)]
        if missing:
            raise NodeError("start the services", f"atoll-{missing[0]} is not in {self.bin_dir}", "build first")
        layout.make_users()
        layout.make_run_dir(self.run_dir)
        layout.make_state_dir(self.state_dir)
        os.makedirs(self.private, exist_ok=True)
        os.makedirs(self.service_dir, exist_ok=True)
        os.makedirs(self.log_dir, exist_ok=True)
        layout.install_pam_helper(self.bin_dir, self.state_dir)
        self.write_interfaces()
        supervisor.write_services(self)
        slots.write(self)
        if self.wants_own_libvirtd():
            libvirtd.write(self)

    def wants_own_libvirtd(self):
        if self.host_libvirt is not None:
            return not self.host_libvirt
        return self.isolated or not libvirtd.host_has_one()

    def write_env(self):
        """What inside.sh needs to know."""
        values = {"NODE_NAME": self.name, "NODE_ISOLATED": int(self.isolated), "NODE_PRIVATE": self.private,
                  "NODE_SERVICES": self.service_dir, "NODE_STATE": self.state_dir,
                  "NODE_CGROUP": self.cgroup, "NODE_ADDRESS": self.address,
                  "NODE_PEER": f"{self.network}.{self.host_number + 1}",
                  "NODE_LIBVIRT": "own" if self.wants_own_libvirtd() else "host"}
        path = os.path.join(self.private, "env")
        with open(path, "w", encoding="utf-8") as out:
            out.writelines(f"{key}={shlex.quote(str(value))}\n" for key, value in values.items())
        return path

    def write_interfaces(self):
        """The node's network: what the host's file says, and a bridge for guests unless the host has that."""
        path = self.interfaces_file()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.exists(path):
            return
        host = "" if self.isolated else "source /etc/network/interfaces\n\n"
        with open(path, "w", encoding="utf-8") as out:
            out.write(host + ("" if host and host_has_bridge() else BRIDGE))

    def interfaces_file(self):
        return os.path.join(self.state_dir, "interfaces")

    def up(self):
        """Starts the first process; a node that runs is left alone. Returns whether it was started."""
        if self.running():
            return False
        self.prepare()
        # Nothing of the node runs, so this is its boot: guests with `onboot` start, whatever the kernel's boot id says.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.state_dir, "compute-agent", "boot-id"))
        before = cleanup.snapshot(self)
        env = self.write_env()
        inside = os.path.join(layout.TOP, "deploy", "node", "inside.sh")
        spaces = NAMESPACES if self.isolated else ["--mount"]
        log = os.open(os.path.join(self.log_dir, "node.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
                      0o640)
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8",
                       **self.environment}
        child = subprocess.Popen(["unshare", *spaces, inside, env], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 start_new_session=True, cwd="/", env=environment)
        os.close(log)
        pid = self.first_process(child)
        before.update({"pid": pid, "start": cleanup.start_time(pid), "launcher": child.pid, "isolated": self.isolated,
                       "name": self.name, "build_dir": self.build_dir, "accel": self.accel, "network": self.network,
                       "link": self.link, "state_dir": self.state_dir, "port": self.port})
        with open(self.pid_file, "w", encoding="utf-8") as out:
            json.dump(before, out)
        os.chmod(self.pid_file, 0o600)
        if self.isolated:
            self.link_up(pid)
        return True

    def first_process(self, child):
        """With a pid namespace it is the child of unshare, else unshare itself becomes it."""
        if not self.isolated:
            return child.pid
        found = wait_until(5, lambda: cleanup.children(child.pid) or child.poll() is not None)
        if not found or found is True:
            raise NodeError("start the node", "it ended at once", f"see {self.log_dir}/node.log")
        return found[0]

    def link_up(self, pid):
        """A pair of links between this network and the node's."""
        subprocess.run(["ip", "link", "del", self.link], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
                       check=True)
        subprocess.run(["ip", "addr", "add", f"{self.network}.{self.host_number + 1}/30", "dev", self.link], check=True)
        subprocess.run(["ip", "link", "set", self.link, "up"], check=True)

    def wait_ready(self, seconds=30, names=None):
        """Until every service says it is ready; raises with the log of the first that is not."""
        names = names or self.service_names()

        def missing():
            return [r["name"] for r in self.services() if r["name"] in names and r["health"] != "ok"]

        wait_until(seconds, lambda: not missing() or not self.running())
        left = missing()
        if left:
            raise NodeError("start the services", f"{', '.join(left)} not ready within {seconds:.0f} s",
                            f"its log:\n{self.log_tail(left[0])}")

    def log_tail(self, name, lines=8):
        path = self.log_of(name)
        try:
            with open(path, encoding="utf-8", errors="replace") as text:
                return "".join("    " + line for line in text.readlines()[-lines:]) + f"    (all of it: {path})"
        except OSError:
            return f"    no log at {path}; see {self.log_dir}/node.log"

    def control(self, service, command):
        return supervisor.control(self.service_dir, service, command)

    def change_programs(self):
        """Starts each service anew from this build, one after the other, as an upgrade of packages does."""
        layout.install_pam_helper(self.bin_dir, self.state_dir)
        supervisor.write_services(self)
        for row in self.services():
            if row["name"].startswith("atoll-"):
                self.restart(row["name"], row["pid"])

    def restart(self, name, old):
        def is_new():
            row = next(r for r in self.services() if r["name"] == name)
            return row["pid"] not in (None, old) and row["health"] == "ok"
        self.control(name, "t")
        if not wait_until(30, is_new):
            raise NodeError(f"start {name} anew", "it is not ready within 30 s", f"its log:\n{self.log_tail(name)}")

    # --- down ---

    def down(self):
        """Ends everything the node started and undoes what it changed. Returns False when nothing was there."""
        saved = self.saved()
        if saved is None:
            return False
        self.isolated = saved["isolated"]
        pid = self.init_pid()
        if pid is not None:
            self.stop_processes(pid)
        cleanup.restore(self, saved)
        shutil.rmtree(self.run_dir, ignore_errors=True)
        return True

    def stop_processes(self, pid):
        """Services first, so that nothing starts anew what is ended; then what they left; then the first process."""
        for name in self.service_names():
            self.control(name, "d")
        wait_until(10, lambda: not any(r["pid"] for r in self.services()))
        if self.isolated:
            os.kill(pid, signal.SIGKILL)  # the kernel ends the whole pid namespace with it
        else:
            if os.path.exists(self.program("atoll-sdn-agent")):
                cleanup.tear_network_down(self.enter(self.program("atoll-sdn-agent")), self)
            cleanup.end_tree(pid)
        wait_until(10, lambda: not os.path.exists(f"/proc/{pid}") or cleanup.is_zombie(pid))
        cleanup.reap(pid, (self.saved() or {}).get("launcher"))

    def power_off(self):
        """An isolated node is gone at once, as by a power cut; what it wrote stays."""
        pid = self.init_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(10, lambda: not os.path.exists(f"/proc/{pid}") or cleanup.is_zombie(pid))
        saved = self.saved()
        cleanup.reap(pid, saved.get("launcher"))
        cleanup.restore(self, saved)
        shutil.rmtree(self.run_dir, ignore_errors=True)  # a machine that boots finds /run empty


def new_password():
    return secrets.token_urlsafe(15)
