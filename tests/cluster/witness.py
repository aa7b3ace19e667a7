"""The third machine of a testbed: in namespaces of its own, with nothing of Atoll but atoll-witness."""
import os
import pwd
import re
import shutil
import signal
import subprocess
import time

from testbed import TOP, run, wait_until

import cleanup

USER = "atoll-config"  # any that is not root's
PORT = "pw"
REPORTS = re.compile(r"ERROR: AddressSanitizer|runtime error:|assertion failed:")
SUPERVISE = 'ip link set lo up; while true; do "$@"; sleep 0.5; done'


class Witness:
    def __init__(self, testbed):
        self.testbed = testbed
        self.address = "10.77.0.99"
        self.state_dir = os.path.join(testbed.state_dir, "witness")
        self.launcher = None

    def start(self):
        os.makedirs(self.state_dir, mode=0o700, exist_ok=True)
        os.chown(self.state_dir, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
        with open(self.state_dir + ".log", "ab") as log:
            self.launcher = subprocess.Popen(
                ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
                 SUPERVISE, "sh", *self.command("serve")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if not wait_until(5, self.pid):
            raise RuntimeError("the witness does not start")
        self.plug()

    def command(self, *words):
        return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--no-new-privs", "--inh-caps=-all",
                "--bounding-set=-all", "env", *[f"{name}={value}" for name, value in self.testbed.facts["environment"].items()],
                os.path.join(self.testbed.build_dir, "bin", "atoll-witness"), "--state-dir", self.state_dir,
                "--launcher", os.path.join(TOP, "deploy", "node", "qdevice.sh"), *words]

    def pid(self):
        children = cleanup.children(self.launcher.pid) if self.launcher else []
        return children[0] if children else None

    def plug(self):
        switch = self.testbed.switch
        run("ip", "-n", switch, "link", "del", PORT, check=False)
        run("ip", "-n", switch, "link", "add", PORT, "type", "veth", "peer", "name", "eth1", "netns", str(self.pid()))
        run("ip", "-n", switch, "link", "set", PORT, "master", "br0", "up")
        enter = ["nsenter", "-t", str(self.pid()), "--net", "ip"]
        run(*enter, "link", "set", "eth1", "address", "02:00:0a:4d:00:99")
        run(*enter, "addr", "add", f"{self.address}/24", "dev", "eth1")
        run(*enter, "link", "set", "eth1", "up")

    def exec(self, *command, check=True, timeout=150):
        return subprocess.run(["nsenter", "-t", str(self.pid()), "--net", "--mount", "--pid", "--", *command], check=check,
                              capture_output=True, text=True, timeout=timeout)

    def join(self, word, check=True):
        return self.exec(*self.command("join", word), check=check)

    def programs(self):
        """The names of what runs there."""
        done = self.exec("ps", "-eo", "comm=")
        return set(done.stdout.split())

    def kill(self):
        """The machine is gone at once; its disk stays."""
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
        self.launcher.wait(timeout=10)
        self.launcher = None

    def check_log(self):
        """It is started again when it has ended: that must not hide why."""
        with open(self.state_dir + ".log", encoding="utf-8", errors="replace") as log:
            text = log.read()
        found = REPORTS.search(text)
        if found:
            raise RuntimeError("the witness's log: " + text[found.start():found.start() + 2000])

    def down(self):
        if self.launcher:
            self.kill()
            self.check_log()
        for _ in range(50):
            shutil.rmtree(self.state_dir, ignore_errors=True)
            if not os.path.exists(self.state_dir):
                return
            time.sleep(0.1)
