"""Several corosync daemons on one machine: each in a network namespace of its own, a switch between them."""
import os
import shutil
import signal
import subprocess
import tempfile
import time

CONF = """totem {{
  version: 2
  config_version: {version}
  cluster_name: {name}
  transport: knet
  crypto_cipher: aes256
  crypto_hash: sha256
  keyfile: {dir}/authkey
  token: 1000
  token_coefficient: 0
  consensus: 300
}}
nodelist {{
{nodes}}}
quorum {{
  provider: corosync_votequorum
}}
system {{
  move_to_root_cgroup: no
  state_dir: {dir}/lib
}}
logging {{
  to_stderr: no
  to_syslog: no
  to_logfile: yes
  logfile: {dir}/corosync.log
  timestamp: hires
}}
"""


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout


class Corosyncs:
    """Nodes n1..nN at 10.77.0.1..N. Names carry our pid, so that several tests can run at a time."""

    def __init__(self, count):
        self.count = count
        self.dir = tempfile.mkdtemp(prefix="atcs")
        self.tag = f"cs{os.getpid()}"
        self.daemons = {}
        self.switch = f"{self.tag}sw"
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        for i in self.numbers():
            self.join_switch(i)
        run("corosync-keygen", "-k", f"{self.dir}/authkey")
        self.configure(self.numbers(), 1)

    def numbers(self):
        return range(1, self.count + 1)

    def space(self, i):
        return f"{self.tag}n{i}"

    def join_switch(self, i):
        run("ip", "netns", "add", self.space(i))
        run("ip", "-n", self.space(i), "link", "set", "lo", "up")
        run("ip", "-n", self.switch, "link", "add", f"p{i}", "type", "veth", "peer", "name", "eth0", "netns",
            self.space(i))
        run("ip", "-n", self.switch, "link", "set", f"p{i}", "master", "br0", "up")
        run("ip", "-n", self.space(i), "addr", "add", f"10.77.0.{i}/24", "dev", "eth0")
        run("ip", "-n", self.space(i), "link", "set", "eth0", "up")

    def configure(self, members, version):
        nodes = "".join(f"  node {{\n    ring0_addr: 10.77.0.{i}\n    nodeid: {i}\n    name: n{i}\n  }}\n"
                        for i in members)
        for i in self.numbers():
            folder = f"{self.dir}/{i}"
            os.makedirs(f"{folder}/lib", exist_ok=True)
            shutil.copy(f"{self.dir}/authkey", f"{folder}/authkey")
            with open(f"{folder}/corosync.conf", "w", encoding="utf-8") as out:
                out.write(CONF.format(name="atolltest", version=version, dir=folder, nodes=nodes))

    def start(self, i):
        script = f"mount -t tmpfs tmpfs /run && exec corosync -f -c {self.dir}/{i}/corosync.conf"
        with open(f"{self.dir}/{i}/out", "ab") as out:
            self.daemons[i] = subprocess.Popen(["ip", "netns", "exec", self.space(i), "sh", "-c", script],
                                               stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def send(self, i, how):
        self.daemons[i].send_signal(how)

    def kill(self, i, how=signal.SIGKILL):
        daemon = self.daemons.pop(i)
        daemon.send_signal(how)
        daemon.wait(20)
        for name in os.listdir("/dev/shm"):  # a killed corosync leaves its black box
            if name.startswith(f"qb-") and f"-{daemon.pid}-" in name:
                path = os.path.join("/dev/shm", name)
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)

    def cut(self, i):
        run("ip", "-n", self.switch, "link", "set", f"p{i}", "down")

    def heal(self, i):
        run("ip", "-n", self.switch, "link", "set", f"p{i}", "up")

    def command(self, i, *words):
        return ["ip", "netns", "exec", self.space(i), *words]

    def stop(self):
        for i in list(self.daemons):
            self.send(i, signal.SIGCONT)
            self.kill(i)
        for i in self.numbers():
            run("ip", "netns", "del", self.space(i), check=False)
        run("ip", "netns", "del", self.switch, check=False)
        for _ in range(20):
            shutil.rmtree(self.dir, ignore_errors=True)
            if not os.path.exists(self.dir):
                return
            time.sleep(0.1)
