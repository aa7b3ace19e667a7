"""A node for tests of virtual machines: config-store, storage-agent, compute-agent and a libvirtd of its own, all in
mount and network namespaces that the test made, with short paths (sockets) below /tmp."""
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))
import layout  # noqa: E402  pylint: disable=wrong-import-position

BIN = os.environ.get("ATL_BIN", os.path.join(TOP, "build", "dev", "bin"))
CACHE = os.path.join(TOP, "build", "libvirt-cache")
NODE = "vmnode"
REAPER = """
import ctypes, os, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: QEMU's orphans end here, and at once
child = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


def in_namespaces():
    """Runs this program again in mount and network namespaces of its own."""
    if os.environ.get("ATL_VM_NAMESPACE") != "1":
        if os.geteuid() != 0:
            print("needs root")
            sys.exit(77)
        os.environ["ATL_VM_NAMESPACE"] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--net", "--propagation", "private", sys.executable] + sys.argv)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # /sys shows the network of the namespace it was mounted in; control groups stay the machine's.
    subprocess.run("set -e; d=$(mktemp -d); mount --rbind /sys/fs/cgroup $d; mount -t sysfs sysfs /sys;"
                   "mount --rbind $d /sys/fs/cgroup; umount -l $d; rmdir $d", shell=True, check=True)


def wait_for(what, seconds, test, step=0.05):
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(step)


class ApiError(Exception):
    pass


class VmNode:
    def __init__(self, driver="libvirt", accel="tcg", options=()):
        self.dir = tempfile.mkdtemp(prefix="avm", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.run = os.path.join(self.dir, "r")
        self.state = os.path.join(self.dir, "s")
        self.driver = driver
        self.accel = accel
        self.options = list(options)
        self.processes = {}
        self.uri = "qemu+unix:///system?socket=" + os.path.join(self.dir, "lv", "sock", "libvirt-sock")
        layout.make_run_dir(self.run)
        layout.make_state_dir(self.state)
        self.environment = dict(os.environ, ASAN_OPTIONS="detect_leaks=0:abort_on_error=1", PATH=os.environ["PATH"])

    # --- processes

    def start_libvirtd(self):
        base = os.path.join(self.dir, "lv")
        for name in ("etc", "run", "lib", "log", "sock"):
            os.makedirs(os.path.join(base, name))
        os.makedirs(CACHE, exist_ok=True)
        subprocess.run(["cp", "-a", "/etc/libvirt/.", os.path.join(base, "etc")], check=True)
        with open(os.path.join(base, "etc", "libvirtd.conf"), "w", encoding="utf-8") as out:
            out.write(f'host_uuid = "{uuid.uuid4()}"\nunix_sock_dir = "{base}/sock"\nunix_sock_rw_perms = "0700"\n'
                      'auth_unix_ro = "none"\nauth_unix_rw = "none"\n'
                      f'log_outputs = "2:file:{base}/log/libvirtd.log"\n')
        with open(os.path.join(base, "etc", "qemu.conf"), "w", encoding="utf-8") as out:
            out.write('security_driver = "none"\nuser = "root"\ngroup = "root"\ndynamic_ownership = 0\n'
                      'remember_owner = 0\nnamespaces = [ ]\nstdio_handler = "file"\n')
        for name, place in (("etc", "/etc/libvirt"), ("run", "/run/libvirt"), ("lib", "/var/lib/libvirt"),
                            ("log", "/var/log/libvirt")):
            os.makedirs(place, exist_ok=True)
            subprocess.run(["mount", "--bind", os.path.join(base, name), place], check=True)
        os.makedirs("/var/cache/libvirt", exist_ok=True)
        subprocess.run(["mount", "--bind", CACHE, "/var/cache/libvirt"], check=True)
        self.processes["libvirtd"] = subprocess.Popen([sys.executable, "-c", REAPER, "/usr/sbin/libvirtd",
                                                       "-p", os.path.join(base, "libvirtd.pid")],
                                                      stdin=subprocess.DEVNULL)
        wait_for("libvirtd", 20, lambda: os.path.exists(os.path.join(base, "sock", "libvirt-sock")))

    def start(self, name, *options):
        ready = os.path.join(self.run, name + ".ready")
        with open(ready, "w", encoding="utf-8"):
            pass
        command = [os.path.join(BIN, "atoll-" + name), "--node", NODE, "--run-dir", self.run, "--state-dir", self.state]
        with open(os.path.join(self.dir, name + ".log"), "ab") as log:
            self.processes[name] = subprocess.Popen(command + list(options), stdin=subprocess.DEVNULL, stdout=log,
                                                    stderr=log, env=self.environment)
        wait_for(name, 20, lambda: self.is_ready(name, ready))

    def is_ready(self, name, ready):
        if self.processes[name].poll() is not None:
            raise AssertionError(f"{name} ended: " + self.log_of(name))
        with open(ready, encoding="utf-8") as text:
            return text.read().strip() != ""

    def log_of(self, name):
        with open(os.path.join(self.dir, name + ".log"), encoding="utf-8", errors="replace") as text:
            return text.read()

    def start_compute(self):
        self.start("compute-agent", "--driver", self.driver, "--accel", self.accel, "--libvirt-uri", self.uri,
                   "--qemu-user", "root", *self.options)

    def up(self):
        self.start("config-store")
        self.start("storage-agent")
        if self.driver == "libvirt":
            self.start_libvirtd()
        self.start_compute()

    def kill(self, name, how=signal.SIGKILL):
        process = self.processes.pop(name)
        process.send_signal(how)
        process.wait(20)

    def down(self):
        if self.driver == "libvirt" and "libvirtd" in self.processes:
            listing = subprocess.run(["virsh", "-q", "-c", self.uri, "list", "--name"], capture_output=True, text=True,
                                     check=False).stdout
            for name in listing.split():
                subprocess.run(["virsh", "-q", "-c", self.uri, "destroy", name], capture_output=True, check=False)
        for name in ("compute-agent", "storage-agent", "config-store", "libvirtd"):
            if name in self.processes:
                try:
                    self.kill(name, signal.SIGTERM)
                except subprocess.TimeoutExpired:
                    pass
        if os.environ.get("ATL_KEEP_LOGS"):
            for name in ("compute-agent", "storage-agent", "config-store"):
                shutil.copy(os.path.join(self.dir, name + ".log"), os.environ["ATL_KEEP_LOGS"])
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- the API, as root at the machine

    def api(self, verb, url, **params):
        command = [os.path.join(BIN, "atoll"), "--run-dir", self.run, "--output", "json", "--no-follow", "api", verb, url]
        for key, value in params.items():
            for one in value if isinstance(value, list) else [value]:
                command += ["--" + key.replace("__", "-"), str(one)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=self.environment, check=False)
        if done.returncode != 0:
            raise ApiError(done.stderr.strip() or done.stdout.strip())
        try:
            return json.loads(done.stdout) if done.stdout.strip() else None
        except ValueError:
            return done.stdout.strip()

    def store_put(self, path, text):
        """A file of the tree, past all who would check it."""
        subprocess.run([os.path.join(BIN, "atoll"), "--run-dir", self.run, "store", "txn", "--operation",
                        f"kind=put,path={path},content={text.encode().hex()}"], check=True, timeout=90, env=self.environment)

    def guest(self, vmid, rest=""):
        return f"/nodes/{NODE}/qemu/{vmid}{rest}"

    def wait_task(self, upid, seconds=60):
        def ended():
            status = self.api("get", f"/nodes/{NODE}/tasks/{upid}/status")
            return status if status["status"] == "stopped" else None
        return wait_for(upid, seconds, ended)

    def task_log(self, upid):
        return "\n".join(row["t"] for row in self.api("get", f"/nodes/{NODE}/tasks/{upid}/log", limit=500))

    def do(self, verb, url, **params):
        """A method that answers a task: waits for its good end."""
        upid = self.api(verb, url, **params)
        status = self.wait_task(upid)
        if not (status["exitstatus"] == "OK" or status["exitstatus"].startswith("WARNINGS")):
            raise AssertionError(f"{upid}: {status['exitstatus']}\n{self.task_log(upid)}")
        return upid

    def status(self, vmid):
        return self.api("get", self.guest(vmid, "/status/current"))
