"""A testbed whose nodes run Debian's Pacemaker in the place of Atoll: the same namespaces, network, libvirtd and power cut."""
import os
import shutil
import socketserver
import sys
import threading
import time
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.realpath(__file__))
TOP = os.path.realpath(os.path.join(HERE, "..", ".."))
sys.path[:0] = [os.path.join(TOP, "tests", "cluster")]

from testbed import Node, Testbed, first_free_slot, wait_until  # noqa: E402
import libvirtd  # noqa: E402  found through testbed
import supervisor  # noqa: E402

SWITCH = "power.sock"
# Pacemaker's fixed folders become the node's own, for its processes alone; /usr/sbin is where it looks for fence agents.
PRIVATE = """
mkdir -p "$1/run/libvirt" "$1/run/crm" "$1/run/resource-agents"
mount --bind "$1" "$1"
mount --bind /run/libvirt "$1/run/libvirt"
mount -t overlay -o "lowerdir=$1/sbin:/usr/sbin" overlay /usr/sbin
mount --bind "$1/lib" /var/lib/pacemaker
mount --bind "$1/log" /var/log/pacemaker
mount --rbind "$1/run" /run
exec pacemakerd -f
"""
COROSYNC = """totem {{
  version: 2
  cluster_name: peer
  transport: knet
  crypto_cipher: aes256
  crypto_hash: sha256
  keyfile: {folder}/authkey
{timings}}}
nodelist {{
{nodes}}}
quorum {{
  provider: corosync_votequorum
}}
system {{
  move_to_root_cgroup: no
  state_dir: {folder}
}}
logging {{
  to_stderr: yes
  to_syslog: no
  to_logfile: no
}}
"""


class PeerNode(Node):
    """libvirtd, corosync and Pacemaker, supervised as Atoll's services are."""

    def service_names(self):
        return ["libvirtd", "corosync", "pacemaker"]

    def prepare(self):
        for folder in (self.private, self.service_dir, self.log_dir, os.path.join(self.run_dir, "qemu")):
            os.makedirs(folder, exist_ok=True)
        base = os.path.join(self.state_dir, "pacemaker")
        if not os.path.isdir(base):
            for folder in ("lib/cib", "lib/pengine", "lib/cores", "lib/blackbox", "log", "run", "sbin"):
                os.makedirs(os.path.join(base, folder))
            for folder in ("lib", "lib/cib", "lib/pengine", "lib/cores", "lib/blackbox", "log"):
                shutil.chown(os.path.join(base, folder), "hacluster", "haclient")
            shutil.copy(os.path.join(HERE, "fence_testbed"), os.path.join(base, "sbin"))
        shutil.rmtree(os.path.join(base, "run"))  # a machine that boots finds it empty
        os.makedirs(os.path.join(base, "run"))
        libvirtd.write(self)
        there = "until ip -o addr show eth1 2>/dev/null | grep -q 'inet '; do sleep 0.1; done; "
        self.write("corosync", "mount -t tmpfs tmpfs /run; exec corosync -f -c \"$1\"/corosync.conf", there)
        self.write("pacemaker", PRIVATE, there + "ip link add vmbr0 type bridge 2>/dev/null; ip link set vmbr0 up; "
                   f"export PCMK_logfile={self.log_dir}/pacemaker.log PCMK_logfacility=none; ")

    def write(self, name, script, before):
        folder = os.path.join(self.state_dir, name)
        os.makedirs(folder, exist_ok=True)
        command = ["sh", "-c", before + 'exec unshare --mount sh -ec "$0" sh "$1"', script, folder]
        supervisor.write_service(os.path.join(self.service_dir, name), "a part of the peer", command,
                                 os.path.join(self.log_dir, name))


class Power(socketserver.ThreadingUnixStreamServer):
    """The switch that fences: outside of all nodes, and what it confirms is so."""

    def __init__(self, testbed, delay_s=0):
        self.testbed = testbed
        self.delay_s = delay_s  # before it confirms
        self.confirmed = []  # (node, time.monotonic())
        path = os.path.join(testbed.state_dir, SWITCH)
        super().__init__(path, Request)
        os.chmod(path, 0o666)  # ha-crm is not root
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    def switch_off(self, name):
        which = int(name.removeprefix("n"))
        if self.testbed.node(which).running():
            self.testbed.power_off(which)
        time.sleep(self.delay_s)
        self.confirmed.append((name, time.monotonic()))


class Request(socketserver.StreamRequestHandler):
    def handle(self):
        action, _, name = self.rfile.readline().decode().strip().partition(" ")
        self.wfile.write(self.answer(action, name).encode() + b"\n")

    def answer(self, action, name):
        if action == "monitor":
            return "ok"
        if action == "off":
            self.server.switch_off(name)
        return "on" if self.server.testbed.node(name).running() else "off"


class SwitchedTestbed(Testbed):
    """Atoll's nodes, which find the switch's fence agent."""

    def node(self, which):
        node = super().node(which)
        node.extra["ha-crm"] = ["--fence-agents", HERE]
        return node


class PeerTestbed(Testbed):
    node_class = PeerNode

    def __init__(self, name, timings):
        super().__init__(name, "none")
        self.timings = timings  # of totem, as lines of corosync.conf

    def up(self, count):
        self.facts = {"nodes": count, "slot": first_free_slot(), "cuts": []}
        self.save()
        self.make_switch()
        key = os.urandom(256)
        for i in self.numbers():
            self.write_corosync(i, key)
            self.start_node(i)
        if not wait_until(90, self.all_online, 0.3):
            raise SystemExit(f"Pacemaker's nodes do not find together: see {self.state_dir}/n*/log")

    def write_corosync(self, which, key):
        folder = os.path.join(self.node(which).state_dir, "corosync")
        os.makedirs(folder)
        with open(os.path.join(folder, "authkey"), "wb", opener=lambda path, flags: os.open(path, flags, 0o400)) as out:
            out.write(key)
        nodes = "".join(f"  node {{\n    name: n{i}\n    nodeid: {i}\n    ring0_addr: {self.address(i)}\n  }}\n"
                        for i in self.numbers())
        with open(os.path.join(folder, "corosync.conf"), "w", encoding="utf-8") as out:
            out.write(COROSYNC.format(folder=folder, timings=self.timings, nodes=nodes))

    def start_node(self, which):
        self.node(which).up()
        self.plug(which)

    def power_on(self, which):
        self.start_node(which)
        self.node(which).wait_ready(60)

    # --- what Pacemaker says ---

    def status(self):
        """The answer of the first node that runs, or None."""
        for i in self.numbers():
            if self.node(i).running():
                done = self.exec(i, "crm_mon", "-1", "--output-as=xml", check=False, timeout=20)
                if done.returncode == 0:
                    return xml.etree.ElementTree.fromstring(done.stdout)
        return None

    def all_online(self):
        status = self.status()
        nodes = status.findall("nodes/node") if status is not None else []
        return len(nodes) == self.facts["nodes"] and all(
            (node.get("online"), node.get("unclean"), node.get("pending")) == ("true", "false", "false") for node in nodes)

    def runs(self, resource):
        status = self.status()
        return status is not None and any(found.get("role") == "Started" and found.get("failed") == "false"
                                          for found in status.findall(f".//resource[@id='{resource}']"))
