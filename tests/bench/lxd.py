"""LXD from Debian, started in folders of the caller's own, and its REST API over its socket. The caller is in mount
and network namespaces of its own, with control groups at /sys/fs/cgroup and a bridge vmbr0."""
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time

NAME = "atoll-bench"


class Absent(Exception):
    """LXD cannot be started here: the reason."""


class Link(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("lxd", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Lxd:
    """One container of the root file system given, stopped; stop() leaves nothing."""

    def __init__(self, folder, root):
        if shutil.which("lxd") is None:
            raise Absent("it is not installed (package lxd)")
        self.folder = folder
        os.makedirs(folder)
        self.groups = set(self.cgroups())
        self.log = open(os.path.join(folder, "lxd.log"), "wb")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen(["lxd"], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={**os.environ, "LXD_DIR": folder}, start_new_session=True)
        self.link = Link(os.path.join(folder, "unix.socket"))
        try:
            self.wait_ready(30)
            self.make(root)
        except BaseException as error:
            self.stop()
            if isinstance(error, (OSError, subprocess.CalledProcessError)):
                raise Absent(str(error)) from error
            raise

    def wait_ready(self, seconds):
        end = time.monotonic() + seconds
        while True:
            try:
                return self.call("GET", "/1.0")
            except OSError as error:
                self.link.close()
                if self.process.poll() is not None or time.monotonic() > end:
                    raise Absent(f"its daemon does not come up: {self.last_words() or error}") from error
            time.sleep(0.05)

    @staticmethod
    def cgroups():
        """What it may leave: its own control groups and the one that liblxc moves itself to."""
        return [path for name in (f"lxc.monitor.{NAME}*", f"lxc.payload.{NAME}*", "lxc.pivot")
                for base in ("/sys/fs/cgroup/*/", "/sys/fs/cgroup/") for path in glob.glob(base + name)]

    def last_words(self):
        with open(os.path.join(self.folder, "lxd.log"), encoding="utf-8", errors="replace") as text:
            lines = text.read().strip().splitlines()
        return lines[-1] if lines else ""

    def call(self, method, path, body=None, kind="application/json"):
        """The answer's metadata; of an operation that goes on: once it has ended."""
        data = json.dumps(body) if isinstance(body, dict) else body
        self.link.request(method, path, body=data, headers={"Content-Type": kind})
        answer = json.loads(self.link.getresponse().read())
        if answer["type"] == "error":
            raise Absent(f"{method} {path}: {answer['error']}")
        if answer["type"] != "async":
            return answer["metadata"]
        done = self.call("GET", answer["operation"] + "/wait")
        if done["status_code"] != 200:
            raise Absent(f"{method} {path}: {done['err']}")
        return done["metadata"]

    def make(self, root):
        self.call("POST", "/1.0/storage-pools", {"name": "default", "driver": "dir"})
        self.call("PUT", "/1.0/profiles/default", {"config": {}, "devices": {
            "root": {"type": "disk", "path": "/", "pool": "default"},
            "eth0": {"type": "nic", "name": "eth0", "nictype": "bridged", "parent": "vmbr0"}}})
        image = os.path.join(self.folder, "image")
        os.makedirs(image)
        with open(os.path.join(image, "metadata.yaml"), "w", encoding="ascii") as out:
            out.write("architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: busybox, description: busybox}\n")
        subprocess.run(["cp", "-a", root, os.path.join(image, "rootfs")], check=True)
        subprocess.run(["tar", "-C", image, "-czf", image + ".tar.gz", "metadata.yaml", "rootfs"], check=True)
        with open(image + ".tar.gz", "rb") as data:
            made = self.call("POST", "/1.0/images", data.read(), "application/octet-stream")
        self.call("POST", "/1.0/instances", {"name": NAME, "source": {"type": "image", "fingerprint": made["fingerprint"]},
                                             "config": {"limits.memory": "64MB"}})

    def turn(self, action):
        """start or stop; ends when LXD says that it is done."""
        self.call("PUT", f"/1.0/instances/{NAME}/state", {"action": action, "force": True, "timeout": 30})

    def stop(self):
        if self.process.poll() is None:
            try:
                self.turn("stop")
            except (Absent, OSError, KeyError, http.client.HTTPException):
                pass  # it was stopped, or never made
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.link.close()
        self.log.close()
        for left in set(self.cgroups()) - self.groups:
            subprocess.run(["find", left, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"], check=False,
                           stderr=subprocess.DEVNULL)
