#!/usr/bin/python3
"""Containers through the bus: config-store, storage-agent, compute-agent and liblxc, driven by `atoll`.

usage: component_ct.py BUILD-DIR     Needs root. Everything is in folders and namespaces of the test's own.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))

import certs  # noqa: E402
import cleanup  # noqa: E402
import layout  # noqa: E402
import rest  # noqa: E402

BUILD = os.path.realpath(sys.argv[1]) if len(sys.argv) > 1 else os.path.join(TOP, "build", "dev")
BIN = os.path.join(BUILD, "bin")
NODE = "ctnode"


def isolate():
    """Starts this program again in a network and mount namespace of its own."""
    if os.environ.get("CT_ISOLATED") == "1":
        return
    if os.geteuid() != 0:
        print("needs root: namespaces and containers")
        sys.exit(77)
    os.environ["CT_ISOLATED"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--mount", "--propagation", "private", sys.executable, *sys.argv])


def sh(script, cwd=None):
    subprocess.run(["sh", "-ec", script], cwd=cwd, check=True)


def wait_for(what, test, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {seconds} s")


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as text:
            return text.read()
    except FileNotFoundError:
        return ""


class ApiFailure(Exception):
    pass


class World:
    """Folders, network, the three services."""
    surrounded = False

    def __init__(self):
        self.top = tempfile.mkdtemp(prefix="atoll-ct-")
        os.chmod(self.top, 0o755)
        self.run_dir = os.path.join(self.top, "run")
        self.state = os.path.join(self.top, "state")
        self.processes = {}
        if not World.surrounded:
            self.surroundings()
            World.surrounded = True
        layout.make_users()
        layout.make_run_dir(self.run_dir)
        layout.make_state_dir(self.state)
        os.makedirs(os.path.join(self.top, "local"))
        shutil.chown(os.path.join(self.top, "local"), "atoll-storage", "atoll-storage")
        self.template()

    def surroundings(self):
        """What all worlds of this program's namespaces share."""
        sh("mkdir cg; mount --rbind /sys/fs/cgroup cg; mount -t sysfs sysfs /sys;"
           "mount --rbind cg /sys/fs/cgroup; printf 'root:100000:65536\\n' > subid;"
           "mount --bind subid /etc/subuid; mount --bind subid /etc/subgid; ip link set lo up;"
           "ip link add vmbr0 type bridge; ip addr add 10.66.1.1/24 dev vmbr0; ip link set vmbr0 up", self.top)

    def template(self):
        sh("cd $(mkdir -p root; echo root); mkdir -p bin sbin etc/network proc sys dev tmp run root var; cd ..;"
           "cp /bin/busybox root/bin/; ln -s busybox root/bin/sh; ln -s ../bin/busybox root/sbin/init;"
           "printf '::sysinit:/etc/rcS\\n::shutdown:/bin/busybox true\\n' > root/etc/inittab;"
           "printf 'root:x:0:0:root:/root:/bin/sh\\n' > root/etc/passwd; printf 'ID=alpine\\n' > root/etc/os-release;"
           "printf '#!/bin/sh\\n/bin/busybox ifconfig eth0 10.66.1.5 netmask 255.255.255.0 up\\n"
           "/bin/busybox touch /dev/ready\\n' > root/etc/rcS; chmod +x root/etc/rcS;"
           "tar -C root -c . | zstd -q -o busybox.tar.zst", self.top)
        # What a hostile template may try: to leave the root by links and by "..", devices, a program of root's.
        sh("mkdir -p evil/etc; cp -a root/. evil/; ln -s / evil/up; ln -s ../../../../../.. evil/far;"
           "tar -C evil -cf evil.tar .; mkdir -p evil2/up evil2/far;"
           "echo pwned > evil2/up/pwned-abs; echo pwned > evil2/far/pwned-rel;"
           "tar -C evil2 -rf evil.tar up/pwned-abs far/pwned-rel; zstd -q evil.tar -o evil.tar.zst", self.top)
        sh("tar -P -cf dotdot.tar --transform 's,^,../../../,' root/etc/passwd; zstd -q dotdot.tar -o dotdot.tar.zst; "
           "head -c 2000 busybox.tar.zst > cut.tar.zst; cp -a root big; head -c 12000000 /dev/urandom > big/big;"
           "tar -C big -c . | zstd -q -o big.tar.zst; rm -r big;"
           " mknod null0 c 1 3; "
           "cp -a root dev2; cp -a null0 dev2/null0; mkdir -p dev2/dev; cp -a null0 dev2/dev/null;"
           "tar -C dev2 -c . | zstd -q -o device.tar.zst",
           self.top)

    def spawn(self, name, *options):
        state = layout.state_of(name, self.state)
        user = layout.USERS[name]
        command = [os.path.join(BIN, "atoll-" + name), "--run-dir", self.run_dir, "--state-dir", state,
                   "--node", NODE, *options]
        if user != "root":
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *command]
        environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        with open(os.path.join(self.top, name + ".log"), "ab") as log:
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment,
                                                    start_new_session=True)
        ready = os.path.join(self.run_dir, name + ".ready")
        pid = str(self.processes[name].pid)
        wait_for(name + " to be ready",
                 lambda: read(ready).strip() == pid or self.processes[name].poll() is not None, 20)
        if self.processes[name].poll() is not None:
            raise AssertionError(f"{name} did not start: {self.log(name)}")

    def log(self, name):
        return read(os.path.join(self.top, name + ".log"))[-6000:]

    def up(self):
        self.spawn("config-store")
        self.spawn("storage-agent")
        self.spawn("compute-agent", "--driver", "fake")

    def kill(self, name, number=signal.SIGKILL):
        self.processes[name].send_signal(number)
        self.processes[name].wait(10)

    def cgroups(self):
        """Folders of containers that are left in any hierarchy; the pivot is everybody's."""
        left = []
        for hierarchy in os.listdir("/sys/fs/cgroup"):
            base = os.path.join("/sys/fs/cgroup", hierarchy, cleanup.container_cgroup(self.run_dir))
            if os.path.isdir(base):
                left += [os.path.join(base, d) for d in os.listdir(base)
                         if os.path.isdir(os.path.join(base, d)) and d != "pivot"]
        return left

    def down(self):
        for name in reversed(list(self.processes)):
            if self.processes[name].poll() is None:
                self.kill(name, signal.SIGTERM)
        bad = [name for name in self.processes
               if "AddressSanitizer" in self.log(name) or "runtime error" in self.log(name)]
        base = self.cgroups()
        for name in bad:
            print(self.log(name))
        sh(f"for i in /sys/fs/cgroup/*/{cleanup.container_cgroup(self.run_dir)}; do "
           "find $i -depth -type d -exec rmdir {} + 2>/dev/null || true; done;"
           "umount -R cg 2>/dev/null || true", self.top)
        if os.environ.get("CT_KEEP") != "1":
            subprocess.run(["rm", "-rf", "--one-file-system", self.top], check=False)
        return bad, base

    def api(self, verb, where, **parameters):
        secret = parameters.pop("password", None)
        if secret is not None:
            parameters["password"] = "-"
        words = [os.path.join(BIN, "atoll"), "api", verb, where, "--run-dir", self.run_dir, "--output", "json",
                 "--no-follow"]
        for name, value in parameters.items():
            words += ["--" + name.replace("_", "-"), str(value)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, input=secret,
                              env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})
        if done.returncode != 0:
            raise ApiFailure(done.stderr.strip() or done.stdout.strip())
        return json.loads(done.stdout) if done.stdout.strip() else None

    def store_put(self, path, text):
        """A file of the tree, past all who would check it."""
        sh(f"{os.path.join(BIN, 'atoll')} store txn --run-dir {self.run_dir} "
           f"--operation kind=put,path={path},content={text.encode().hex()}", self.top)

    def task(self, upid, seconds=60):
        """Waits for the end of a task; its exit text."""
        path = f"/nodes/{NODE}/tasks/{upid}/status"
        return wait_for(upid, lambda: (lambda s: s.get("exitstatus") if s["status"] == "stopped" else None)(
            self.api("get", path)), seconds)

    def task_log(self, upid):
        return "\n".join(row["t"] for row in self.api("get", f"/nodes/{NODE}/tasks/{upid}/log"))


class Containers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        try:
            cls.world.up()
            cls.world.api("create", "/storage", storage="local", type="dir", path=os.path.join(cls.world.top, "local"),
                          content="rootdir,vztmpl,images")
        except BaseException:
            for name in cls.world.processes:
                print(cls.world.log(name))
            cls.world.down()
            raise
        cache = os.path.join(cls.world.top, "local", "template", "cache")
        os.makedirs(cache, exist_ok=True)
        for name in ("busybox", "evil", "dotdot", "cut", "big", "device"):
            shutil.copy(os.path.join(cls.world.top, name + ".tar.zst"), cache)
        sh("chown -R atoll-storage: local", cls.world.top)

    @classmethod
    def tearDownClass(cls):
        bad, cgroups = cls.world.down()
        if bad:
            raise AssertionError(f"sanitizer reports of {bad}")
        if cgroups:
            raise AssertionError(f"cgroups left: {cgroups}")

    def path(self, *parts):
        return f"/nodes/{NODE}/lxc" + "".join("/" + str(p) for p in parts)

    def ok(self, upid, seconds=60):
        text = self.world.task(upid, seconds)
        self.assertEqual(text, "OK", self.world.task_log(upid))

    def create(self, vmid, template="busybox", **more):
        parameters = {"vmid": vmid, "ostemplate": f"local:vztmpl/{template}.tar.zst", "hostname": f"ct{vmid}",
                      "memory": 64, "swap": 0, "rootfs": "local:0.03",
                      "net0": "name=eth0,bridge=vmbr0,ip=10.66.1.5/24", **more}
        return self.world.api("create", self.path(), **parameters)

    def status(self, vmid):
        return self.world.api("get", self.path(vmid, "status", "current"))

    def act(self, vmid, verb, **parameters):
        return self.world.api("create", self.path(vmid, "status", verb), **parameters)

    def fails(self, expected, call, *arguments, **parameters):
        with self.assertRaises(ApiFailure) as caught:
            call(*arguments, **parameters)
        self.assertIn(expected, str(caught.exception))

    def nothing_left(self, vmid):
        self.assertNotIn(vmid, [row["vmid"] for row in self.world.api("get", self.path())])
        folder = os.path.join(self.world.top, "local", "images", str(vmid))
        self.assertFalse(os.path.isdir(folder) and os.listdir(folder), "volumes left")
        self.assertFalse(os.path.exists(os.path.join(self.world.run_dir, "lxc", str(vmid))))
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            self.assertNotIn(f"vm-{vmid}", mounts.read())
        loops = subprocess.run(["losetup", "-l", "-O", "BACK-FILE"], capture_output=True, text=True, check=True).stdout
        self.assertNotIn(f"vm-{vmid}-", loops)

    def test_life(self):
        self.ok(self.create(101, password="secret-word", ssh_public_keys="ssh-ed25519 AAAA test"))
        config = self.world.api("get", self.path(101, "config"))
        self.assertEqual((config["hostname"], config["ostype"], config["unprivileged"]), ("ct101", "alpine", 1))
        self.assertRegex(config["rootfs"], r"^local:101/vm-101-disk-0.raw,size=")
        self.assertRegex(config["net0"], r"hwaddr=([0-9A-F]{2}:){5}")
        self.assertNotIn("secret-word", json.dumps(config))
        self.ok(self.act(101, "start"))
        now = self.status(101)
        self.assertEqual(now["status"], "running")
        pid = int(now["pid"])
        wait_for("the container's init", lambda: os.path.exists(f"/proc/{pid}/root/dev/ready"))
        with open(f"/proc/{pid}/root/etc/shadow", encoding="utf-8") as shadow:
            self.assertRegex(shadow.read(), r"^root:\$6\$")
        with open(f"/proc/{pid}/root/root/.ssh/authorized_keys", encoding="utf-8") as keys:
            self.assertEqual(keys.read(), "ssh-ed25519 AAAA test\n")
        rows = {row["name"]: row for row in self.world.api("get", self.path(101, "interfaces"))}
        self.assertEqual(rows["eth0"]["inet"], "10.66.1.5/24")
        self.assertTrue(os.path.exists("/sys/class/net/vmbr0/brif/veth101i0"))
        # A start of what runs is a success.
        self.ok(self.act(101, "start"))
        # The agent dies; the container does not notice, and the new agent finds it.
        self.world.kill("compute-agent")
        self.world.spawn("compute-agent", "--driver", "fake")
        now = wait_for("the new agent", lambda: self.try_status(101))
        self.assertEqual((now["status"], int(now["pid"])), ("running", pid))
        self.ok(self.act(101, "suspend"))
        self.ok(self.act(101, "resume"))
        # Live and waiting changes.
        self.world.api("set", self.path(101, "config"), memory=96, hostname="other")
        memory = cleanup.container_cgroup(self.world.run_dir)
        with open(f"/sys/fs/cgroup/memory/{memory}/101/memory.limit_in_bytes", encoding="ascii") as limit:
            self.assertEqual(int(limit.read()), 96 << 20)
        rows = {row["key"]: row for row in self.world.api("get", self.path(101, "pending"))}
        self.assertEqual((rows["hostname"]["value"], rows["hostname"]["pending"]), ("ct101", "other"))
        self.fails("unable to destroy CT 101", self.world.api, "delete", self.path(101))
        self.ok(self.act(101, "shutdown", timeout=20))
        self.assertEqual(self.status(101)["status"], "stopped")
        self.ok(self.act(101, "start"))
        self.assertEqual(self.world.api("get", self.path(101, "config"))["hostname"], "other")
        self.assertEqual([r for r in self.world.api("get", self.path(101, "pending")) if "pending" in r], [])
        self.ok(self.act(101, "reboot", timeout=20))
        self.assertNotEqual(int(self.status(101)["pid"]), pid)
        self.ok(self.act(101, "stop"))
        self.ok(self.act(101, "stop"))
        self.ok(self.world.api("set", self.path(101, "resize"), disk="rootfs", size="64M"))
        self.assertIn("size=64M", self.world.api("get", self.path(101, "config"))["rootfs"])
        self.ok(self.world.api("delete", self.path(101)))
        self.nothing_left(101)
        self.fails("does not exist", self.world.api, "get", self.path(101, "config"))

    def try_status(self, vmid):
        try:
            return self.status(vmid)
        except ApiFailure:
            return None

    def test_mount_points(self):
        self.ok(self.create(110, mp0="local:0.02,mp=/srv"))
        self.ok(self.act(110, "start"))
        pid = int(self.status(110)["pid"])
        with open(f"/proc/{pid}/mounts", encoding="utf-8") as mounts:
            self.assertIn(" /srv ext4", mounts.read())
        self.world.api("set", self.path(110, "config"), delete="mp0")
        self.ok(self.act(110, "stop"))
        self.world.api("set", self.path(110, "config"), mp1="local:0.01,mp=/data")
        config = self.world.api("get", self.path(110, "config"))
        self.assertRegex(config["mp1"], r"^local:110/vm-110-disk-2.raw,mp=/data,size=")
        self.ok(self.act(110, "start"))
        self.ok(self.act(110, "stop"))
        config = self.world.api("get", self.path(110, "config"))
        self.assertEqual(config["unused0"], "local:110/vm-110-disk-1.raw")
        self.assertNotIn("mp0", config)
        self.world.api("set", self.path(110, "config"), delete="unused0")
        wait_for("the volume's end", lambda: not os.path.exists(
            os.path.join(self.world.top, "local", "images", "110", "vm-110-disk-1.raw")))
        self.ok(self.world.api("delete", self.path(110)))
        self.nothing_left(110)

    def test_what_settings_do(self):
        shared = os.path.join(self.world.top, "shared dir")
        os.makedirs(shared)
        with open(os.path.join(shared, "file"), "w", encoding="utf-8") as out:
            out.write("of the host")
        self.ok(self.create(160, unprivileged=0, features="nesting=1,fuse=1", mp0=f"{shared},mp=/shared,ro=1",
                            net0="name=lan0,bridge=vmbr0,link_down=1", cores=1, cpulimit=0.5, console=0,
                            rootfs="local:0.03,mountoptions=noatime"))
        self.ok(self.act(160, "start"))
        pid = int(self.status(160)["pid"])
        self.assertEqual(read(f"/proc/{pid}/root/shared/file"), "of the host")
        self.assertRegex(read(f"/proc/{pid}/mounts"), r" /shared \S+ ro,")
        self.assertRegex(read(f"/proc/{pid}/mounts"), r" / ext4 \S*noatime")
        self.assertRegex(read(f"/proc/{pid}/uid_map"), r"^ +0 +0 +4294967295")
        self.assertTrue(os.path.exists(f"/proc/{pid}/root/dev/fuse"))
        self.assertFalse(os.path.exists("/sys/class/net/vmbr0/brif/veth160i0"))
        base = cleanup.container_cgroup(self.world.run_dir)
        self.assertEqual(len(read(f"/sys/fs/cgroup/cpuset/{base}/160/cpuset.cpus").strip()), 1)
        self.assertEqual(read(f"/sys/fs/cgroup/cpu/{base}/160/cpu.cfs_quota_us").strip(), "50000")
        self.world.api("set", self.path(160, "config"), delete="cores", cpulimit=1)
        self.assertNotEqual(len(read(f"/sys/fs/cgroup/cpuset/{base}/160/cpuset.cpus").strip()), 1)
        self.assertEqual(read(f"/sys/fs/cgroup/cpu/{base}/160/cpu.cfs_quota_us").strip(), "100000")
        self.fails("unable to destroy", self.world.api, "delete", self.path(160))
        self.ok(self.world.api("delete", self.path(160), force=1))
        self.nothing_left(160)
        self.assertEqual(os.listdir(shared), ["file"])

    def client(self, user, *acl):
        """A token of a new user with these (path, role)."""
        world = self.world
        if "api-gateway" not in world.processes:
            ca = certs.make(world.state, NODE, [])
            world.spawn("api-gateway", "--listen", "127.0.0.1:8006")
            self.assertTrue(os.path.exists(ca))
        world.api("create", "/access/users", userid=user)
        for path, role in acl:
            world.api("set", "/access/acl", path=path, roles=role, users=user)
        value = world.api("create", f"/access/users/{user}/token/test", privsep=0)["value"]
        return rest.Rest("https://127.0.0.1:8006", os.path.join(world.state, "ca.pem"), f"{user}!test={value}")

    def denied(self, expected, call, *arguments, **parameters):
        with self.assertRaises(rest.ApiError) as caught:
            call(*arguments, **parameters)
        self.assertEqual((caught.exception.status, caught.exception.message), (403, expected))

    def test_who_may_do_what(self):
        self.ok(self.create(180))
        self.ok(self.create(181))
        low = self.client("low@pve", ("/vms/180", "PVEAuditor"))
        self.assertEqual([row["vmid"] for row in low.get(self.path())], [180])
        self.assertEqual(low.get(self.path(180, "status", "current"))["status"], "stopped")
        self.denied("Permission check failed (/vms/180, VM.PowerMgmt)", low.post, self.path(180, "status", "start"))
        self.denied("Permission check failed (/vms/181, VM.Audit)", low.get, self.path(181, "config"))
        admin = self.client("boss@pve", ("/", "Administrator"))
        self.denied("mount point type bind is only allowed for root@pam", admin.put, self.path(180, "config"),
                    mp0="/etc,mp=/host")
        self.denied("changing feature flags (except nesting) is only allowed for root@pam", admin.put,
                    self.path(180, "config"), features="keyctl=1")
        admin.put(self.path(180, "config"), features="nesting=1")
        with self.assertRaises(rest.ApiError) as caught:
            admin.post(self.path(), vmid=182, ostemplate="local:vztmpl/busybox.tar.zst", rootfs="local:0.03",
                       net0="name=eth0,bridge=vmbr0,rate=5")
        self.assertEqual(caught.exception.status, 501)
        self.assertIn("rate", str(caught.exception))
        with self.assertRaises(rest.ApiError) as caught:
            admin.post(self.path(), vmid=182, ostemplate="local:vztmpl/busybox.tar.zst", memory=3, cores="x")
        self.assertEqual((caught.exception.status, sorted(caught.exception.errors)), (400, ["cores", "memory"]))
        net = self.client("net@pve", ("/vms/180", "PVEVMAdmin"))
        self.denied("Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)", net.put,
                    self.path(180, "config"), net0="name=eth0,bridge=vmbr0")
        self.denied("Permission check failed (/storage/local, Datastore.AllocateSpace)", net.put,
                    self.path(180, "config"), mp0="local:0.01,mp=/srv")
        for vmid in (180, 181):
            self.ok(self.world.api("delete", self.path(vmid)))
            self.nothing_left(vmid)

    def test_start_of_many_at_once(self):
        for vmid in range(170, 175):
            self.ok(self.create(vmid, net0="name=eth0,bridge=vmbr0"))
        upids = [self.act(vmid, "start") for vmid in range(170, 175)] + [self.act(170, "start"), self.act(170, "start")]
        for upid in upids:
            self.ok(upid)
        listed = {row["vmid"]: row["status"] for row in self.world.api("get", self.path())}
        self.assertEqual([listed[vmid] for vmid in range(170, 175)], ["running"] * 5)
        for upid in [self.world.api("delete", self.path(vmid), force=1) for vmid in range(170, 175)]:
            self.ok(upid)
        for vmid in range(170, 175):
            self.nothing_left(vmid)

    def test_bad_input(self):
        self.fails("does not exist", self.act, 999, "start")
        self.fails("storage 'nowhere' does not exist", self.create, 120, rootfs="nowhere:1")
        self.fails("absent.tar.zst", self.create, 120, template="absent")
        self.fails("mp: ", self.create, 120, mp0="local:0.02,mp=/../etc")
        self.fails("memory", self.create, 120, memory=1)
        self.nothing_left(120)
        self.ok(self.create(121, net0="name=eth0,bridge=nobridge"))
        self.assertEqual(self.world.task(self.act(121, "start")), "net0: bridge 'nobridge' does not exist")
        self.assertEqual(self.status(121)["status"], "stopped")
        self.fails(f"CT 121 already exists on node '{NODE}'", self.create, 121)
        self.fails("CT 121 not running", self.act, 121, "shutdown")
        self.fails("detected modified configuration", self.world.api, "set", self.path(121, "config"), memory=128,
                   digest="0" * 40)
        self.fails("read-only option", self.world.api, "set", self.path(121, "config"), arch="arm64")
        self.world.api("set", self.path(121, "config"), protection=1)
        self.fails("protection mode enabled", self.world.api, "delete", self.path(121))
        self.world.api("set", self.path(121, "config"), delete="protection")
        self.ok(self.world.api("delete", self.path(121)))
        self.nothing_left(121)

    def test_creation_that_fails_leaves_nothing(self):
        text = self.world.task(self.create(130, template="cut"))
        self.assertRegex(text, "^the template is ")
        self.nothing_left(130)
        text = self.world.task(self.create(131, template="big", rootfs="local:0.01"))
        self.assertIn("No space left", text)
        self.nothing_left(131)

    def test_hostile_templates_stay_inside(self):
        upid = self.create(140, template="evil")
        self.world.task(upid)
        for place in ("/pwned-abs", "/pwned-rel"):
            self.assertFalse(os.path.exists(place))
        if 140 in [row["vmid"] for row in self.world.api("get", self.path())]:
            self.ok(self.world.api("delete", self.path(140)))
        self.nothing_left(140)
        text = self.world.task(self.create(141, template="dotdot"))
        self.assertNotEqual(text, "OK")
        self.nothing_left(141)
        self.ok(self.create(142, template="device"))
        sh("mkdir -p m; mount -o loop,ro local/images/142/vm-142-disk-0.raw m;"
           "test ! -e m/null0; test ! -e m/dev/null; umount m", self.world.top)
        self.ok(self.world.api("delete", self.path(142)))
        self.nothing_left(142)

    def test_killed_creation_is_cleaned_up(self):
        """The worker dies while it unpacks; so does, in the second round, the agent."""
        for vmid, both in ((150, False), (151, True)):
            upid = self.create(vmid)
            worker = wait_for("the worker", lambda: self.worker_pid(upid))
            if both:
                self.world.kill("compute-agent")
            try:
                os.kill(worker, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was faster: then the container is there, and goes below
            if both:
                self.world.spawn("compute-agent", "--driver", "fake")
            wait_for("the end", lambda: self.try_task_ended(upid), 20)
            if wait_for("nothing or all of it", lambda: self.made(vmid), 20) == "whole":
                self.ok(self.act(vmid, "start"))
                self.ok(self.act(vmid, "stop"))
                self.ok(self.world.api("delete", self.path(vmid)))
            folder = os.path.join(self.world.run_dir, "lxc", str(vmid))
            wait_for("the folder to go", lambda: not os.path.exists(folder))
            self.nothing_left(vmid)

    def test_what_was_there_before_a_killed_creation_stays(self):
        """And the clean-up, which finds a storage gone, is tried again. Meanwhile a reservation without a task goes."""
        late = self.reserve_too_late(153)
        far = os.path.join(self.world.top, "far")
        os.makedirs(far)
        os.chmod(far, 0o777)
        self.world.api("create", "/storage", storage="far", type="dir", path=far, content="rootdir,images")
        before = self.world.api("create", f"/nodes/{NODE}/storage/local/content", vmid=152, size="1M",
                                filename="vm-152-disk-7.raw")
        upid = self.create(152)
        worker = wait_for("the worker", lambda: self.worker_pid(upid))
        os.kill(worker, signal.SIGSTOP)
        os.rename(far, far + ".away")
        with open(far, "w", encoding="utf-8"):
            pass
        os.kill(worker, signal.SIGKILL)
        wait_for("the clean-up to fail", lambda: self.failed_clean_up(152), 20)
        self.assertEqual(self.world.api("get", self.path(152, "config"))["lock"], "create")
        os.unlink(far)
        os.rename(far + ".away", far)
        wait_for("the next try", lambda: self.made(152) == "nothing", 40)
        self.gone_but_for(152, before)
        self.gone_but_for(153, late)
        self.world.api("delete", "/storage/far")

    def reserve_too_late(self, vmid):
        """Its request had been given up when it was written. What else has the id is not its own, though an earlier
        container had that, too."""
        self.ok(self.create(vmid))
        self.ok(self.world.api("delete", self.path(vmid)))
        volume = self.world.api("create", f"/nodes/{NODE}/storage/local/content", vmid=vmid, size="1M",
                                filename=f"vm-{vmid}-disk-7.raw")
        self.world.store_put(f"nodes/{NODE}/lxc/{vmid}.conf", "hostname: late\nlock: create\n")
        wait_for("it to be shown", lambda: self.made(vmid) != "nothing", 10)
        return volume

    def gone_but_for(self, vmid, volume):
        wait_for("it to go", lambda: self.made(vmid) == "nothing", 60)
        rows = self.world.api("get", f"/nodes/{NODE}/storage/local/content", vmid=vmid)
        self.assertEqual([row["volid"] for row in rows], [volume])
        self.ok(self.world.api("delete", f"/nodes/{NODE}/storage/local/content/{volume}"))
        self.nothing_left(vmid)

    def failed_clean_up(self, vmid):
        rows = self.world.api("get", f"/nodes/{NODE}/tasks", vmid=vmid, typefilter="vzdestroy")
        return [row for row in rows if "not all that was made" in row.get("status", "")]

    def made(self, vmid):
        """"whole" when the worker was killed after its last write, or too late; None while it is cleaned up."""
        if vmid not in [row["vmid"] for row in self.world.api("get", self.path())]:
            return "nothing"
        try:
            return None if self.world.api("get", self.path(vmid, "config")).get("lock") else "whole"
        except ApiFailure:
            return None  # it has just gone

    def try_task_ended(self, upid):
        try:
            return self.world.api("get", f"/nodes/{NODE}/tasks/{upid}/status")["status"] == "stopped"
        except ApiFailure:
            return False

    def worker_pid(self, upid):
        status = os.path.join(self.world.state, "tasks", "compute-agent", upid, "status")
        try:
            with open(status, encoding="utf-8") as text:
                for line in text:
                    words = line.split()
                    if len(words) == 2 and words[0].rstrip(":") == "pid" and words[1] != "0":
                        return int(words[1])
        except OSError:
            pass
        return None

    def test_node(self):
        status = self.world.api("get", f"/nodes/{NODE}/status")
        self.assertEqual(len(status["loadavg"]), 3)
        self.assertRegex(status["pveversion"], r"^pve-manager/\d+\.\d+\.\d+/")
        self.assertGreater(status["memory"]["total"], status["memory"]["used"])
        self.assertGreater(status["rootfs"]["total"], 0)
        self.assertEqual(status["cpuinfo"]["cpus"], os.cpu_count())
        self.assertRegex(self.world.api("get", f"/nodes/{NODE}/version")["version"], r"^\d+\.\d+\.\d+$")
        moment = self.world.api("get", f"/nodes/{NODE}/time")
        self.assertLess(abs(moment["time"] - time.time()), 5)
        self.assertIn("timezone", moment)
        self.world.api("get", f"/nodes/{NODE}/dns")


class Simulated(unittest.TestCase):
    """Containers of the fake engine: all methods as with real ones, and nothing runs."""
    OPTIONS = ("--driver", "fake", "--lxc-driver", "fake", "--fake-containers", "1000")
    MADE_UP = 200000

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.down)
        cls.world.spawn("config-store")
        cls.world.spawn("storage-agent")
        cls.world.spawn("compute-agent", *cls.OPTIONS)
        local = os.path.join(cls.world.top, "local")
        cls.world.api("create", "/storage", storage="local", type="dir", path=local, content="rootdir,vztmpl")
        os.makedirs(os.path.join(local, "template", "cache"), exist_ok=True)
        shutil.copy(os.path.join(cls.world.top, "busybox.tar.zst"), os.path.join(local, "template", "cache"))
        sh("chown -R atoll-storage: local", cls.world.top)

    def create(self, vmid):
        self.done(self.world.api("create", f"/nodes/{NODE}/lxc", vmid=vmid, ostemplate="local:vztmpl/busybox.tar.zst",
                                 memory=64, swap=0, rootfs="local:0.03", net0="name=eth0,bridge=vmbr0"))

    def done(self, upid):
        self.assertEqual(self.world.task(upid), "OK", self.world.task_log(upid))

    def act(self, vmid, verb):
        return self.world.api("create", f"/nodes/{NODE}/lxc/{vmid}/status/{verb}")

    def status(self, vmid):
        return self.world.api("get", f"/nodes/{NODE}/lxc/{vmid}/status/current")

    def test_life(self):
        self.create(101)
        self.assertEqual(self.status(101)["status"], "stopped")
        self.done(self.act(101, "start"))
        now = self.status(101)
        self.assertEqual((now["status"], now.get("pid"), now["maxmem"]), ("running", None, 64 << 20))
        self.done(self.act(101, "suspend"))
        self.done(self.act(101, "resume"))
        self.world.api("set", f"/nodes/{NODE}/lxc/101/config", memory=96)
        self.assertEqual(self.status(101)["mem"], 48 << 20)  # it has taken the limit
        self.world.kill("compute-agent")
        self.world.spawn("compute-agent", *self.OPTIONS)
        wait_for("the new agent to know it", lambda: any(row["vmid"] == 101 and row["status"] == "running" for row in
                                                         self.world.api("get", f"/nodes/{NODE}/lxc")))
        self.done(self.act(101, "reboot"))
        self.done(self.act(101, "shutdown"))
        self.assertEqual(self.status(101)["status"], "stopped")
        self.done(self.world.api("delete", f"/nodes/{NODE}/lxc/101"))

    def test_a_fault_is_the_task_s_reason_and_the_state_stays(self):
        self.create(102)
        faults = os.path.join(self.world.run_dir, "lxc", "fake", "faults")
        with open(faults, "w", encoding="ascii") as out:
            out.write("start 102 no memory is left\nstop * the monitor hangs\n")
        self.assertEqual(self.world.task(self.act(102, "start")), "no memory is left")
        self.assertEqual(self.status(102)["status"], "stopped")
        os.unlink(faults)
        self.done(self.act(102, "start"))
        self.assertEqual(self.status(102)["status"], "running")

    def test_made_up_ones_run_when_they_have_a_file(self):
        # Created like any other; the fake engine says at once that it runs.
        self.create(self.MADE_UP)
        self.assertEqual(self.status(self.MADE_UP)["status"], "running")
        self.done(self.act(self.MADE_UP, "stop"))
        self.assertEqual(self.status(self.MADE_UP)["status"], "stopped")


if __name__ == "__main__":
    isolate()
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
