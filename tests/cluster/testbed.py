"""Several nodes on one machine: each in namespaces of its own, with all its services, a switch between them."""
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))

import certs  # noqa: E402
import cleanup  # noqa: E402
import envfile  # noqa: E402
import guests  # noqa: E402
from node import Node, NodeError, new_password  # noqa: E402
from rest import ApiError, Rest  # noqa: E402
from supervisor import wait_until  # noqa: E402

BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))
ADMIN = "admin@pve"
FREEZER = "/sys/fs/cgroup/freezer"


def run(*command, check=True, text_in=None):
    return subprocess.run(command, check=check, capture_output=True, text=True, input=text_in).stdout


def first_free_slot():
    """Links and networks of a second testbed must have other numbers."""
    taken = cleanup.links()
    return next(slot for slot in range(16) if f"tb{slot}n1" not in taken)


@contextlib.contextmanager
def one_at_a_time():
    """From looking for a free slot until the links say that it is taken, on the whole machine."""
    folder = os.open("/run", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


class Testbed:
    """Nodes n1..nN. Each has eth0 to this machine (10.253.SLOT.4i+2) and eth1 on the switch (10.77.0.i)."""

    node_class = Node

    def __init__(self, name="testbed", build_dir=BUILD, stays=False):
        """stays: it is there for longer than this program."""
        self.name = name
        self.stays = stays
        self.build_dir = build_dir
        self.run_dir = f"/run/atoll-{name}"
        self.state_dir = f"/var/lib/atoll-{name}"
        self.env_file = os.path.join(TOP, "build", f"{name}.env")
        self.switch = f"{name}-switch"
        self.file = os.path.join(self.state_dir, "testbed.json")
        self.facts = self.load()

    def load(self):
        try:
            with open(self.file, encoding="utf-8") as text:
                return json.load(text)
        except (OSError, ValueError):
            return {"nodes": 0, "slot": 0}

    def save(self):
        os.makedirs(self.state_dir, exist_ok=True)
        with open(self.file, "w", encoding="utf-8") as out:
            json.dump(self.facts, out)
        os.chmod(self.file, 0o600)

    # --- nodes ---

    def numbers(self):
        return range(1, self.facts["nodes"] + 1)

    def node(self, which):
        """A node by number or name ("n2")."""
        i = int(str(which).removeprefix("n"))
        if i not in self.numbers():
            raise NodeError(f"find node {which}", f"the testbed has n1 to n{self.facts['nodes']}", "see tests/testbed status")
        slot = self.facts["slot"]
        build_dir = self.facts.get("builds", {}).get(str(i), self.build_dir)
        return self.node_class(build_dir, os.path.join(self.run_dir, f"n{i}"), os.path.join(self.state_dir, f"n{i}"), f"n{i}",
                               isolated=True, accel="tcg", link=f"tb{slot}n{i}", network=f"10.253.{slot}",
                               host_number=4 * i, cluster_address=self.address(i),
                               libvirt_cache=os.path.join(TOP, "build", "libvirt-cache"),
                               cgroup_name=f"atoll-{self.name}-n{i}", environment=self.facts.get("environment", {}),
                               extra={"watchdog": ["--device", "unix:" + os.path.join(self.state_dir, f"n{i}.dog")]})

    def address(self, which):
        return f"10.77.0.{int(str(which).removeprefix('n'))}"

    def rest(self, which):
        i = str(which).removeprefix("n")
        return Rest(self.node(i).url, self.facts["cacert"][i], self.facts["tokens"][i])

    # --- up ---

    def start_dogs(self):
        """The nodes' watchdogs, in a process outside of them: dogs.py."""
        self.dog_log = os.path.join(self.state_dir, "dogs.log")
        program = os.path.join(os.path.dirname(os.path.realpath(__file__)), "dogs.py")
        with open(os.path.join(self.state_dir, "dogs.err"), "w", encoding="utf-8") as errors:
            child = subprocess.Popen([program, self.name, self.dog_log, str(self.facts["nodes"])], stdin=subprocess.DEVNULL,
                                     stdout=errors, stderr=errors, start_new_session=True)
        self.facts["dogs"] = child.pid
        self.save()
        last = os.path.join(self.state_dir, f"n{self.facts['nodes']}.dog")
        if not wait_until(10, lambda: os.path.exists(last)):
            raise NodeError("start the watchdogs", "they are not there within 10 s", f"see {self.state_dir}/dogs.err")

    def dog_events(self):
        """What the watchdogs did: {"node", "what", "time" (CLOCK_MONOTONIC)}."""
        try:
            with open(os.path.join(self.state_dir, "dogs.log"), encoding="utf-8") as lines:
                return [json.loads(line) for line in lines if line.endswith("\n")]
        except OSError:
            return []

    def stop_dogs(self):
        pid = self.facts.get("dogs")
        if pid is None:
            return
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as text:
                ours = "dogs.py" in text.read()
            if ours:
                os.kill(pid, signal.SIGTERM)
                wait_until(5, lambda: not os.path.exists(f"/proc/{pid}") or cleanup.is_zombie(pid))
                cleanup.reap(pid)
        except OSError:
            pass

    def up(self, count):
        if self.facts["nodes"]:
            raise NodeError("start the testbed", "one runs already", "tests/testbed down ends it")
        if shutil.which("etcd") is None or shutil.which("corosync") is None:
            run(os.path.join(TOP, "tools", "install-packages.sh"), "build", "run", "guest", "launcher", "test")
        os.makedirs(os.path.join(TOP, "build", "libvirt-cache"), exist_ok=True)
        if not self.stays:
            cleanup.when_asked_to_end(self.down)
        with one_at_a_time():
            self.facts = {"nodes": count, "slot": first_free_slot(), "tokens": {}, "cacert": {}, "cuts": [],
                          "environment": {"ASAN_OPTIONS": "detect_leaks=0"}}
            self.save()
            self.start_dogs()
            self.make_switch()
            for i in self.numbers():
                self.start_node(i)
        for i in self.numbers():
            self.node(i).wait_ready(60)
        for i in self.numbers():
            self.make_admin(i)
        self.write_env()

    def make_cluster(self, name="testbed"):
        """One cluster of all nodes; the first one's users and tokens are those of all from then on."""
        self.atoll(1, "cluster", "create", name, "--link0", self.address(1))
        for i in list(self.numbers())[1:]:
            word = wait_until(20, self.join_token, 0.2)
            self.atoll(i, "cluster", "join", self.address(1), "--token", word, "--link0", self.address(i))
            self.facts["tokens"][str(i)] = self.facts["tokens"]["1"]
            self.save()
        if not wait_until(30, lambda: all(self.sees_all(i) for i in self.numbers()), 0.2):
            raise NodeError("make a cluster", "the nodes do not see each other within 30 s", f"logs: {self.state_dir}/n*/log")
        self.write_env()

    def join_token(self):
        """None while the first node is not ready for it: its agent has to tell the gateway's fingerprint first."""
        try:
            return self.rest(1).post("/cluster/config/token")
        except (ApiError, OSError):
            return None

    def sees_all(self, which):
        """Does the node show all nodes online, and answer for them?"""
        try:
            rows = self.rest(which).get("/nodes")
            return len(rows) == self.facts["nodes"] and all(row["status"] == "online" for row in rows) and \
                all(self.rest(which).get(f"/nodes/n{i}/version") for i in self.numbers())
        except (ApiError, OSError):
            return False

    def atoll(self, which, *words, **options):
        return self.exec(which, os.path.join(self.build_dir, "bin", "atoll"), *words, "--run-dir",
                         self.node(which).run_dir, **options)

    def make_guests(self):
        """A virtual machine 100+N and a container 200+N on each node, started; their images are made from Debian's
        kernel and busybox."""
        self.give_images(("import", guests.DISK), ("vztmpl", guests.TEMPLATE))
        for i in self.numbers():
            self.make_vm(i, 100 + i)
            self.make_ct(i, 200 + i)

    def give_images(self, *images):
        """The storage `local`, and in it the images (content, file) on every node; without any, the template."""
        guests.make_images(None, None)
        for i in self.numbers():
            rest = self.rest(i)
            if guests.STORAGE not in [s["storage"] for s in rest.get("/storage")]:
                rest.post("/storage", storage=guests.STORAGE, type="dir", path="/srv/local",
                          content="images,rootdir,iso,vztmpl,import,snippets")
            for content, image in images or [("vztmpl", guests.TEMPLATE)]:
                rest.wait(rest.upload(f"n{i}", guests.STORAGE, content, image, lambda *_: None))

    def make_vm(self, which, vmid, through=None):
        rest = self.rest(through or which)
        rest.wait(rest.post(f"/nodes/n{which}/qemu", vmid=vmid, name=f"vm{vmid}", memory=128, agent="1", machine="q35",
                            serial0="socket", ostype="l26", boot="order=virtio0", net0="virtio,bridge=vmbr0",
                            virtio0=f"local:0,import-from=local:import/{os.path.basename(guests.DISK)}"))
        rest.wait(rest.post(f"/nodes/n{which}/qemu/{vmid}/status/start"), 120)

    def make_ct(self, which, vmid, through=None):
        rest = self.rest(through or which)
        rest.wait(rest.post(f"/nodes/n{which}/lxc", vmid=vmid, hostname=f"ct{vmid}", memory=64, swap=0, rootfs="local:0",
                            ostemplate=f"local:vztmpl/{os.path.basename(guests.TEMPLATE)}", ostype="unmanaged",
                            net0="name=eth0,bridge=vmbr0,ip=dhcp", start=1))

    def start_node(self, which):
        node = self.node(which)
        node.prepare()
        self.facts["cacert"][str(which)] = certs.make(node.state_dir, node.name, [node.address, node.cluster_address])
        node.up()
        self.plug(which)

    def make_switch(self):
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "br0", "up")
        self.in_switch("nft", "add", "table", "bridge", "cuts")
        self.in_switch("nft", "add", "chain", "bridge", "cuts", "forward",
                       "{ type filter hook forward priority 0; }")

    def in_switch(self, *command, **options):
        return run("ip", "netns", "exec", self.switch, *command, **options)

    def plug(self, which):
        """eth1 of a node that has just started."""
        which = int(str(which).removeprefix("n"))
        pid = str(self.node(which).init_pid())
        port = f"p{which}"
        run("ip", "-n", self.switch, "link", "del", port, check=False)
        run("ip", "-n", self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth1", "netns", pid)
        run("ip", "-n", self.switch, "link", "set", port, "master", "br0", "up")
        enter = ["nsenter", "-t", pid, "--net", "ip"]
        run(*enter, "link", "set", "eth1", "address", f"02:00:0a:4d:00:{which:02x}")  # a network card keeps its own
        run(*enter, "addr", "add", f"{self.address(which)}/24", "dev", "eth1")
        run(*enter, "link", "set", "eth1", "up")

    def make_admin(self, which):
        """A password and a token: what a person or a test needs to use the node."""
        node = self.node(which)
        password = self.facts.setdefault("password", new_password())
        self.exec(which, os.path.join(self.build_dir, "bin", "atoll"), "identity", "set-password", "--userid", ADMIN,
                  "--password", "-", "--create", "1", "--administrator", "1", "--run-dir", node.run_dir,
                  text_in=password + "\n")
        rest = Rest(node.url, self.facts["cacert"][str(which)])
        wait_until(20, lambda: self.answers(rest))
        rest.login(ADMIN, password)
        value = rest.post(f"/access/users/{ADMIN}/token/testbed", privsep=0)["value"]
        self.facts["tokens"][str(which)] = f"{ADMIN}!testbed={value}"
        self.save()

    @staticmethod
    def answers(rest):
        try:
            return rest.get("/access/domains") is not None
        except (OSError, ApiError):
            return False

    def write_env(self):
        values = {"ATOLL_USER": ADMIN, "ATOLL_PASSWORD": self.facts["password"], "ATOLL_NODES": self.facts["nodes"]}
        for i in self.numbers():
            values |= {f"ATOLL_URL_{i}": self.node(i).url, f"ATOLL_TOKEN_{i}": self.facts["tokens"][str(i)],
                       f"ATOLL_CACERT_{i}": self.facts["cacert"][str(i)]}
        envfile.write(self.env_file, values)

    # --- what can be done to it ---

    def change_build(self, which, build_dir):
        """Another version's programs, as a package would bring them: each service is started anew with them, in turn."""
        self.facts.setdefault("builds", {})[str(which).removeprefix("n")] = build_dir
        self.save()
        self.node(which).change_programs()

    def exec(self, which, *command, check=True, text_in=None, timeout=120):
        done = subprocess.run(self.node(which).enter(*command), capture_output=True, text=True, input=text_in,
                              timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise NodeError(f"run {' '.join(command)} on n{which}", done.stderr.strip() or done.stdout.strip())
        return done

    def cut(self, which, peer=None, one_way=False):
        """No frame passes any more from the node to the peer (or to all), and back unless one_way."""
        port = f"p{self.node(which).name.removeprefix('n')}"
        other = f"p{self.node(peer).name.removeprefix('n')}" if peer else None
        rules = [f"iifname {port}" + (f" oifname {other}" if other else "")]
        if not one_way:
            rules.append(f"oifname {port}" + (f" iifname {other}" if other else ""))
        for rule in rules:
            self.in_switch("nft", "add", "rule", "bridge", "cuts", "forward", *rule.split(), "drop")

    def heal(self):
        self.in_switch("nft", "flush", "chain", "bridge", "cuts", "forward")

    def service_pid(self, which, service):
        name = service if service in ("libvirtd", "etcd", "corosync") else "atoll-" + service.removeprefix("atoll-")
        row = next((r for r in self.node(which).services() if r["name"] == name), None)
        if row is None or row["pid"] is None:
            raise NodeError(f"find {service} on {which}", "it does not run", "tests/testbed status shows what runs")
        return row["pid"]

    def kill(self, which, service, sig=signal.SIGKILL):
        pid = self.service_pid(which, service)
        os.kill(pid, sig)
        return pid

    def freezer(self, which):
        return os.path.join(FREEZER, self.node(which).cgroup, "freezer.state")

    def freeze(self, which, state):
        path = self.freezer(which)
        with open(path, "w", encoding="utf-8") as out:
            out.write(state)

        def reached():
            with open(path, encoding="utf-8") as text:
                return text.read().strip() == state
        if not wait_until(10, reached):
            raise NodeError(f"bring {which} to {state}", "the kernel did not within 10 s")

    def processes(self, which):
        """All of the node's, its guests' too."""
        pids = []
        for folder, _, _ in os.walk(os.path.join(FREEZER, self.node(which).cgroup)):
            try:
                with open(os.path.join(folder, "cgroup.procs"), encoding="utf-8") as procs:
                    pids += [int(pid) for pid in procs.read().split()]
            except OSError:
                pass  # a guest's cgroup that has gone meanwhile
        return pids

    def pause(self, which):
        """All processes of the node stand still, guests too: as a machine whose hypervisor sleeps."""
        self.freeze(which, "FROZEN")

    def resume(self, which):
        self.freeze(which, "THAWED")

    def power_off(self, which):
        """The node is gone at once, with all its processes; its disk stays."""
        node = self.node(which)
        self.resume(which)
        node.power_off()

    def reset(self, which):
        """What a watchdog does: nothing of the node runs any more, not even what stood still until now."""
        for pid in self.processes(which):
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass  # it has ended
        self.power_off(which)

    def power_on(self, which):
        node = self.node(which)
        node.up()
        self.plug(which)
        node.wait_ready(60)

    # --- the end ---

    def down(self):
        """Leaves nothing; true when there was something."""
        there = self.facts["nodes"] > 0
        self.stop_dogs()
        for i in self.numbers():
            if os.path.exists(self.freezer(i)):
                self.resume(i)
            self.node(i).down()
        if self.switch in run("ip", "netns", "list"):
            run("ip", "netns", "del", self.switch)
        for _ in range(50):
            shutil.rmtree(self.run_dir, ignore_errors=True)
            shutil.rmtree(self.state_dir, ignore_errors=True)
            if not os.path.exists(self.run_dir) and not os.path.exists(self.state_dir):
                break
            time.sleep(0.1)
        if os.path.exists(self.env_file):
            os.unlink(self.env_file)
        self.facts = {"nodes": 0, "slot": 0}
        return there
