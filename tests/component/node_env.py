"""A whole node for tests: in namespaces and folders of its own, with the programs of this build."""
import atexit
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))
warnings.simplefilter("ignore", ResourceWarning)

import certs  # noqa: E402
import cleanup  # noqa: E402
import guests  # noqa: E402
import layout  # noqa: E402
from node import Node, NodeError, new_password  # noqa: E402
from rest import ApiError, Rest, TaskError  # noqa: E402,F401

ADMIN = "admin@pve"
SERVICES = ["config-store", "compute-agent", "storage-agent", "sdn-agent", "api-gateway"]
ALL_SERVICES = [service.name for service in layout.SERVICES]  # those of high availability, too
# What a sanitizer or a failed assertion leaves in a log.
REPORTS = re.compile(r"ERROR: AddressSanitizer|runtime error:|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|"
                     r"assertion .*failed|SUMMARY: UndefinedBehavior")
MACHINE = {"memory": 128, "cores": 1, "agent": "1", "ostype": "l26", "machine": "q35", "serial0": "socket"}


def skip(why):
    """Ends the program as skipped, where the machine truly lacks something."""
    print(why)
    sys.exit(77)


def wait_for(what, seconds, test, step=0.05):
    """The first true answer of test; AssertionError when the time is over. Errors count as "not yet"."""
    end = time.monotonic() + seconds
    last = None
    while time.monotonic() < end:
        try:
            value = test()
            if value:
                return value
        except (OSError, ApiError, KeyError) as error:
            last = error
        time.sleep(step)
    raise AssertionError(f"{what}: not within {seconds} s" + (f" (last: {last})" if last else ""))


def free_number():
    """A number that no other test node of this machine has now, and the lock that says so."""
    for number in range(100):
        lock = open(f"/run/lock/atoll-test-{number}", "w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number, lock
        except BlockingIOError:
            lock.close()
    raise AssertionError("a hundred test nodes run already")


class Quiet:
    """Stands in for the quickstart's progress display."""

    def progress(self, _detail):
        pass


class Env:
    """Brings the node up; stop() takes it down and fails when a service left a sanitizer report."""

    def __init__(self, name="node1", **options):
        if os.geteuid() != 0:
            skip("needs root: namespaces, libvirt, containers")
        self.folder = tempfile.mkdtemp(prefix="atoll-test-")
        os.chmod(self.folder, 0o755)
        environment = {"UBSAN_OPTIONS": "print_stacktrace=1", "ASAN_OPTIONS": "abort_on_error=0",
                       **options.pop("environment", {})}
        self.number, self.number_lock = free_number()
        options = {"isolated": True, "accel": "tcg", "link": f"atltest{self.number}",
                   "network": f"10.254.{100 + self.number}", "libvirt_cache": os.path.join(TOP, "build", "libvirt-cache"),
                   "environment": environment, **options}
        name += f"-{self.number}" if self.number else ""
        self.node = Node(BUILD, os.path.join(self.folder, "run"), os.path.join(self.folder, "state"), name, **options)
        self.name = name
        self.quiet = Quiet()
        self.stopped = False
        atexit.register(self.stop, False)
        cleanup.when_asked_to_end(lambda: self.stop(False))
        self.start()

    def start(self):
        begin = time.monotonic()
        self.node.prepare()
        self.ca = certs.make(self.node.state_dir, self.name, [self.node.address])
        self.node.up()
        self.node.wait_ready(60)
        self.rest = Rest(self.node.url, self.ca)
        wait_for("the gateway to answer", 30, lambda: self.rest.get("/access/domains"))
        self.password = new_password()
        self.set_password(ADMIN, self.password)
        self.rest.login(ADMIN, self.password)
        value = self.rest.post(f"/access/users/{ADMIN}/token/test", privsep=0)["value"]
        self.token = f"{ADMIN}!test={value}"
        self.rest = Rest(self.node.url, self.ca, self.token)
        print(f"node up after {time.monotonic() - begin:.1f} s", flush=True)

    # --- commands inside the node ---

    def run(self, *command, check=True, timeout=60, text_in=None):
        """As subprocess.run(); when the time is over, what nsenter started ends too, else it would hold the pipes."""
        words = self.node.enter(*command)
        with subprocess.Popen(words, stdin=subprocess.PIPE if text_in is not None else subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
            try:
                out, errors = child.communicate(text_in, timeout)
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
        done = subprocess.CompletedProcess(words, child.returncode, out, errors)
        if check:
            done.check_returncode()
        return done

    def atoll(self, *words, **options):
        return self.run(os.path.join(BUILD, "bin", "atoll"), *words, "--run-dir", self.node.run_dir, **options)

    def set_password(self, user, password, administrator=1):
        self.atoll("identity", "set-password", "--userid", user, "--password", "-", "--create", "1", "--administrator",
                   str(administrator), text_in=password + "\n")

    # --- paths ---

    def path(self, *parts):
        return f"/nodes/{self.name}" + "".join("/" + str(p) for p in parts)

    def storage(self):
        guests.make_images(self.node, self.quiet)
        guests.make_storage(self.rest, self.node, self.quiet)
        guests.upload_disk(self.rest, self.node, self.quiet)
        guests.upload_template(self.rest, self.node, self.quiet)

    def make_vm(self, vmid=100, start=True, **more):
        params = {**MACHINE, "vmid": vmid, "name": f"vm{vmid}", "boot": "order=virtio0",
                  "virtio0": f"local:0,import-from=local:import/{os.path.basename(guests.DISK)}",
                  "net0": "virtio,bridge=vmbr0", **more}
        self.rest.wait(self.rest.post(self.path("qemu"), **params))
        if start:
            self.rest.wait(self.rest.post(self.path("qemu", vmid, "status", "start")))

    def make_ct(self, vmid=101, start=True, **more):
        params = {"vmid": vmid, "hostname": f"ct{vmid}", "memory": 64, "swap": 0, "unprivileged": 1, "rootfs": "local:0",
                  "ostemplate": f"local:vztmpl/{os.path.basename(guests.TEMPLATE)}", "ostype": "unmanaged",
                  "net0": "name=eth0,bridge=vmbr0,ip=dhcp", **more}
        self.rest.wait(self.rest.post(self.path("lxc"), **params))
        if start:
            self.rest.wait(self.rest.post(self.path("lxc", vmid, "status", "start")))

    def agent_up(self, vmid=100, seconds=120):
        wait_for(f"the guest agent of {vmid}", seconds,
                 lambda: self.rest.post(self.path("qemu", vmid, "agent", "ping")) is not None)

    def vm_address(self, vmid=100):
        found = self.rest.get(self.path("qemu", vmid, "agent", "network-get-interfaces"))["result"]
        return guests.first_address(found, "name", lambda i: [a.get("ip-address") for a in i.get("ip-addresses", [])])

    def ct_address(self, vmid=101):
        return guests.first_address(self.rest.get(self.path("lxc", vmid, "interfaces")), "name",
                                    lambda i: [i.get("inet")])

    # --- processes, as this side counts them ---

    def pid(self, service):
        return next(r["pid"] for r in self.node.services() if r["name"] == "atoll-" + service)

    def kill(self, *services):
        """kill -9; returns the pids that were killed."""
        pids = {service: self.pid(service) for service in services}
        for pid in pids.values():
            os.kill(pid, 9)
        return pids

    def back(self, old_pids, seconds=10):
        """Until each killed service runs anew and says it is ready."""
        def all_new():
            rows = {r["name"].removeprefix("atoll-"): r for r in self.node.services()}
            return all(rows[s]["health"] == "ok" and rows[s]["pid"] != pid for s, pid in old_pids.items())
        wait_for("killed services to be back", seconds, all_new, 0.02)

    def qemu_pids(self):
        return sorted(int(p) for p in self.run("pgrep", "-x", "qemu-system-x86", check=False).stdout.split())

    def ct_pids(self):
        """pids of containers' first processes inside the node: those whose parent is a container's monitor."""
        rows = [line.split(None, 2) for line in self.run("ps", "-eo", "pid=,ppid=,args=").stdout.splitlines()]
        monitors = {row[0] for row in rows if row[2].startswith("[lxc monitor]")}
        return sorted(int(row[0]) for row in rows if row[1] in monitors)

    # --- the end ---

    def log_text(self, service):
        try:
            with open(os.path.join(self.node.log_dir, "atoll-" + service, "current"), encoding="utf-8",
                      errors="replace") as text:
                return text.read()
        except OSError:
            return ""

    def reports(self):
        found = []
        for service in ALL_SERVICES:
            text = self.log_text(service)
            match = REPORTS.search(text)
            if match:
                found.append(f"atoll-{service}:\n" + text[max(0, match.start() - 500):match.start() + 3000])
        return found

    def stop(self, check=True):
        if self.stopped:
            return
        self.stopped = True
        self.node.down()
        found = self.reports()
        if check and found:
            raise AssertionError("a service left a report:\n" + "\n".join(found))
        self.number_lock.close()
        if os.environ.get("ATL_KEEP"):
            print("kept", self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


class Ping(threading.Thread):
    """Pings an address from inside the node, ten times a second; stop() answers (sent, received). What was sent in the last
    moment and would have been answered had the process gone on is not counted: an emulated guest takes its time."""

    ON_THE_WAY = 10  # packets: one second

    def __init__(self, env, address):
        super().__init__(daemon=True)
        self.process = subprocess.Popen(env.node.enter("ping", "-n", "-i", "0.1", "-W", "2", address),
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.output = ""
        self.start()

    def run(self):
        self.output = self.process.stdout.read()

    def stop(self):
        time.sleep(0.3)
        for pid in [*cleanup.children(self.process.pid), self.process.pid]:
            cleanup.send(pid, signal.SIGINT)
        self.process.wait(timeout=10)
        self.join(timeout=5)
        self.process.stdout.close()
        match = re.search(r"(\d+) packets transmitted", self.output)
        if not match:
            raise AssertionError("ping said: " + self.output)
        answered = {int(number) for number in re.findall(r"icmp_seq=(\d+) ttl=", self.output)}
        sent, last = int(match.group(1)), max(answered, default=0)
        return last if sent - last <= self.ON_THE_WAY else sent, len(answered)
