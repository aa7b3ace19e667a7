#!/usr/bin/python3
"""Virtual machines through the agent's methods, with a real libvirtd and TCG; failures half-way leave nothing."""
import glob
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

import vm_node
from vm_node import NODE, ApiError, VmNode, wait_for

GUEST = os.path.join(vm_node.TOP, "build", "guest", "atoll-guest.qcow2")
CASES = os.path.join(vm_node.TOP, "tests", "scenario", "compute", "domxml")
DISK = "local:0,import-from=local:import/guest.qcow2"
# What this machine's hardware lacks; everything else libvirt must take.
NEEDS_HARDWARE = {"numa_nodes": "NUMA node 1 is unavailable", "vga_virtio_gl": "/dev/dri"}


def make_store(node):
    store = os.path.join(node.state, "store")
    os.makedirs(os.path.join(store, "import"))
    if os.path.exists(GUEST):
        shutil.copy(GUEST, os.path.join(store, "import", "guest.qcow2"))
    subprocess.run(["chown", "-R", "atoll-storage", store], check=False)
    subprocess.run(["chmod", "-R", "a+rwX", store], check=True)
    node.api("create", "/storage", storage="local", type="dir", path=store, content="images,iso,import")
    return store


class OneNode(unittest.TestCase):
    driver = "libvirt"
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.node = VmNode(driver=cls.driver, options=cls.options)
        cls.addClassCleanup(cls.node.down)
        try:
            cls.node.up()
            cls.store = make_store(cls.node)
        except Exception:
            print(cls.node.log_of("compute-agent")[-4000:], file=sys.stderr)
            raise

    def refused(self, part, verb, url, **params):
        with self.assertRaises(ApiError) as caught:
            self.node.api(verb, url, **params)
        self.assertIn(part, str(caught.exception))
        return str(caught.exception)

    def ended_badly(self, part, upid):
        end = self.node.wait_task(upid)["exitstatus"]
        self.assertIn(part, end)

    def create(self, vmid, **params):
        self.node.do("create", f"/nodes/{NODE}/qemu", vmid=vmid, **params)

    def command(self, vmid, what, **params):
        return self.node.do("create", self.node.guest(vmid, "/status/" + what), **params)

    def files(self):
        return sorted(glob.glob(os.path.join(self.store, "images", "**", "*.*"), recursive=True))

    def holding(self, text):
        found = []
        for folder, _, names in os.walk(self.node.dir):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and os.path.getsize(path) < 64 << 20:
                    with open(path, "rb") as data:
                        if text in data.read():
                            found.append(path)
        return found

    def wait_state(self, vmid, state):
        wait_for(f"{vmid} is {state}", 5, lambda: self.node.status(vmid)["qmpstatus"] == state)

    def wait_gone(self, vmid, seconds=20):
        def gone():
            try:
                self.node.api("get", self.node.guest(vmid, "/config"))
            except ApiError as error:
                return f"Configuration file 'nodes/{NODE}/qemu-server/{vmid}.conf' does not exist" in str(error)
            return False
        wait_for(f"{vmid} is gone", seconds, gone)


@unittest.skipUnless(os.path.exists(GUEST), "no guest image: deploy/guest-image/build.sh makes it")
class RealGuest(OneNode):
    """The whole life of one guest, in the order of the names."""

    @classmethod
    def setUpClass(cls):
        subprocess.run("ip link add vmbr0 type bridge && ip link set vmbr0 up", shell=True, check=True)
        super().setUpClass()

    def agent(self):
        def ping():
            try:
                return self.node.api("create", self.node.guest(7100, "/agent/ping"))
            except ApiError:
                return None
        return wait_for("guest agent", 90, ping, 0.2)

    def test_01_create_imports_the_disk_and_keeps_the_id(self):
        secret = os.path.join(self.node.dir, "secret")
        with open(secret, "w", encoding="utf-8") as out:
            out.write("a guest's password")
        self.create(7100, name="one", scsi0=DISK, scsihw="virtio-scsi-pci", memory=128, net0="virtio,bridge=vmbr0",
                    agent=1, serial0="socket", machine="q35", scsi2="local:cloudinit", ciuser="me", cipassword="@" + secret,
                    ipconfig0="ip=10.9.0.2/24")
        config = self.node.api("get", self.node.guest(7100, "/config"))
        self.assertRegex(config["net0"], r"^virtio=BC:24:11:[0-9A-F:]{8},bridge=vmbr0$")
        self.assertIn("size=64M", config["scsi0"])
        self.assertEqual(config["boot"], "order=scsi0;net0")
        self.assertNotIn("lock", config)
        self.assertNotIn("cipassword", config)
        self.assertEqual(self.holding(b"a guest's password"), [secret])  # only as a hash, anywhere
        self.refused(f"unable to create VM 7100 - VM 7100 already exists on node '{NODE}'", "create",
                     f"/nodes/{NODE}/qemu", vmid=7100)

    def test_02_start_reaches_the_agent(self):
        self.command(7100, "start")
        self.assertEqual(self.agent(), {"result": {}})
        status = self.node.status(7100)
        self.assertEqual((status["status"], status["qmpstatus"]), ("running", "running"))
        self.assertGreater(status["pid"], 0)
        upid = self.command(7100, "start")  # once more: success with a line
        self.assertIn("is running already", self.node.task_log(upid))
        for name in ("vnc.sock", "serial0.sock"):
            self.assertTrue(os.path.exists(os.path.join(self.node.run, "qemu", "7100", name)), name)

    def test_03_cloud_init_and_exec(self):
        done = self.node.api("create", self.node.guest(7100, "/agent/exec"), command=["/bin/sh", "-c", "hostname; cat"],
                             input__data="a<b>&'\"\n")
        def ended():
            status = self.node.api("get", self.node.guest(7100, "/agent/exec-status"), pid=done["pid"])
            return status if status["exited"] else None
        status = wait_for("exec", 20, ended, 0.2)
        self.assertEqual((status["exitcode"], status["out-data"]), (0, "one\na<b>&'\"\n"))
        interfaces = self.node.api("get", self.node.guest(7100, "/agent/network-get-interfaces"))["result"]
        eth0 = [i for i in interfaces if i["name"] == "eth0"][0]
        self.assertIn("10.9.0.2", [a["ip-address"] for a in eth0.get("ip-addresses", [])])
        self.assertIn("kernel-release", self.node.api("get", self.node.guest(7100, "/agent/get-osinfo"))["result"])
        self.assertIn("running", self.node.api("create", self.node.guest(7100, "/monitor"), command="info status"))

    def test_04_suspend_resume_reset(self):
        self.command(7100, "suspend")
        self.wait_state(7100, "paused")
        self.command(7100, "suspend")
        self.command(7100, "resume")
        self.wait_state(7100, "running")
        self.node.do("create", f"/nodes/{NODE}/suspendall", vms="7100")
        self.wait_state(7100, "paused")
        self.command(7100, "resume")
        self.wait_state(7100, "running")
        self.command(7100, "reset")
        self.agent()

    def test_05_killed_agent_disturbs_nothing(self):
        pid = self.node.status(7100)["pid"]
        self.node.kill("compute-agent")
        self.assertTrue(os.path.exists(f"/proc/{pid}"))
        self.node.start_compute()
        wait_for("the same process", 15, lambda: self.known_pid(7100) == pid)
        self.agent()

    def known_pid(self, vmid):
        try:
            return self.node.status(vmid).get("pid")
        except ApiError:
            return None

    def test_06_changes_of_a_running_guest(self):
        url = self.node.guest(7100, "/config")
        self.node.api("set", url, net1="virtio,bridge=vmbr0", virtio1="local:0.1", description="hello", memory=160)
        config = self.node.api("get", url, current=1)
        self.assertIn("net1", config)
        self.assertIn("virtio1", config)
        self.assertEqual(config["description"].strip(), "hello")
        self.assertEqual(config["memory"], "128")
        self.assertEqual(self.node.api("get", url)["memory"], "160")
        pending = {row["key"]: row for row in self.node.api("get", self.node.guest(7100, "/pending"))}
        self.assertEqual(pending["memory"], {"key": "memory", "value": "128", "pending": "160"})
        wait_for("the guest sees both", 20, lambda: self.guest_has("vda") and self.guest_has("eth1"), 0.3)
        self.node.api("set", url, delete="net1,virtio1")
        self.assertIn("unused0", self.node.api("get", url))
        wait_for("the guest lost both", 20, lambda: not self.guest_has("vda") and not self.guest_has("eth1"), 0.3)
        count = len(self.files())
        self.node.api("set", url, delete="unused0")
        wait_for("the volume is gone", 20, lambda: len(self.files()) == count - 1)

    def guest_has(self, device):
        pid = self.node.api("create", self.node.guest(7100, "/agent/exec"),
                            command=["/bin/sh", "-c", f"ls -d /sys/block/{device} /sys/class/net/{device}"])["pid"]
        time.sleep(0.2)
        status = self.node.api("get", self.node.guest(7100, "/agent/exec-status"), pid=pid)
        return device in status.get("out-data", "")

    def test_07_resize_while_it_runs(self):
        self.node.do("set", self.node.guest(7100, "/resize"), disk="scsi0", size="+16M")
        self.assertIn("size=80M", self.node.api("get", self.node.guest(7100, "/config"))["scsi0"])
        self.ended_badly("shrinking disks is not supported",
                         self.node.api("set", self.node.guest(7100, "/resize"), disk="scsi0", size="16M"))

    def test_08_running_guest_is_not_removed(self):
        self.refused("VM 7100 is running - destroy failed", "delete", self.node.guest(7100))

    def test_09_shutdown_then_start_takes_pending_over(self):
        self.command(7100, "shutdown", timeout=60)
        self.wait_state(7100, "stopped")
        self.command(7100, "start")
        self.assertEqual(self.node.api("get", self.node.guest(7100, "/config"), current=1)["memory"], "160")
        self.agent()
        self.command(7100, "reboot", timeout=60)
        self.agent()

    def test_10_stop_and_remove(self):
        self.command(7100, "stop")
        self.wait_state(7100, "stopped")
        self.command(7100, "stop")
        self.node.do("delete", self.node.guest(7100))
        self.wait_gone(7100)
        self.assertEqual(self.files(), [])

    def test_11_libvirt_takes_every_recorded_domain(self):
        for path in sorted(glob.glob(os.path.join(CASES, "*.xml"))):
            name = os.path.basename(path)[:-4]
            done = subprocess.run(["virsh", "-q", "-c", self.node.uri, "domxml-to-native", "qemu-argv", path],
                                  capture_output=True, text=True, check=False)
            if done.returncode != 0 and NEEDS_HARDWARE.get(name, "\0") not in done.stderr:
                self.fail(f"{name}: {done.stderr}")


class WithoutGuest(OneNode):
    """What goes wrong, on the fake engine: it needs no guest and no libvirt."""
    driver = "fake"

    def test_wrong_parameters_are_named_and_leave_nothing(self):
        url = f"/nodes/{NODE}/qemu"
        before = self.files()
        self.refused("storage 'nowhere' does not exist", "create", url, vmid=7200, scsi0="nowhere:1")
        self.refused("iothread", "create", url, vmid=7200, ide0="local:1,iothread=1")
        self.refused("device 'scsi5' does not exist", "create", url, vmid=7200, boot="order=scsi5")
        self.refused("import", "create", url, vmid=7200, scsi0="local:0,import-from=local:import/none.qcow2")
        self.refused("balloon", "create", url, vmid=7200, memory=128, balloon=256)
        self.refused("does not exist", "get", self.node.guest(7200, "/config"))
        self.assertEqual(self.files(), before)

    def test_failing_import_removes_all_that_was_made(self):
        with open(os.path.join(self.store, "import", "broken.qcow2"), "wb") as out:
            out.write(b"QFI\xfb" + b"\0" * 4096)
        try:
            upid = self.node.api("create", f"/nodes/{NODE}/qemu", vmid=7201, scsi0="local:1",
                                 scsi1="local:0,import-from=local:import/broken.qcow2")
        except ApiError:
            return  # refused before the task: nothing was made
        self.assertNotEqual(self.node.wait_task(upid)["exitstatus"], "OK")
        self.wait_gone(7201)
        self.assertEqual([f for f in self.files() if "7201" in f], [])

    def test_full_disk_removes_all_that_was_made(self):
        small = os.path.join(self.node.dir, "small")
        os.makedirs(small)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m,mode=0777", "none", small], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", small], check=False)
        self.node.api("create", "/storage", storage="small", type="dir", path=small, content="images")
        source = os.path.join(self.store, "import", "big.raw")
        with open(source, "wb") as out:
            out.write(os.urandom(8 << 20))
        os.chmod(source, 0o644)
        try:
            upid = self.node.api("create", f"/nodes/{NODE}/qemu", vmid=7202, scsi0="local:0.1",
                                 scsi1="small:0,import-from=local:import/big.raw")
        except ApiError as error:
            self.assertIn("space", str(error).lower())
        else:
            self.assertNotEqual(self.node.wait_task(upid)["exitstatus"], "OK")
        self.wait_gone(7202)
        self.assertEqual([f for f in self.files() if "7202" in f], [])
        self.assertEqual(glob.glob(os.path.join(small, "images", "7202", "*")), [])

    def worker_of(self, upid):
        """The pid of the worker, once it is in the middle of its work: one that had not begun would begin again."""
        wait_for("import", 20, lambda: "importing" in self.node.task_log(upid), 0.01)
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, "rb") as text:
                    line = text.read()
            except OSError:
                continue
            if self.node.dir.encode() in line and upid.encode() in line and b"--task" in line:
                return int(path.split("/")[2])
        raise AssertionError("the worker has ended already")

    def slow_create(self, vmid, **more):
        source = os.path.join(self.store, "import", "slow.raw")
        if not os.path.exists(source):
            with open(source, "wb") as out:
                for _ in range(96):
                    out.write(os.urandom(8 << 20))
            os.chmod(source, 0o644)
        return self.node.api("create", f"/nodes/{NODE}/qemu", vmid=vmid, scsi0="local:0.1",
                             scsi1="local:0,import-from=local:import/slow.raw", **more)

    def test_killed_worker_is_cleaned_up_after(self):
        keep = os.path.join(self.store, "images", "7203")
        os.makedirs(keep, exist_ok=True)
        with open(os.path.join(keep, "vm-7203-disk-9.raw"), "wb") as out:
            out.truncate(1 << 20)
        subprocess.run(["chown", "-R", "atoll-storage", keep], check=False)
        subprocess.run(["chmod", "-R", "a+rwX", keep], check=True)
        upid = self.slow_create(7203)
        os.kill(self.worker_of(upid), signal.SIGKILL)
        self.assertNotEqual(self.node.wait_task(upid)["exitstatus"], "OK")
        self.wait_gone(7203)
        rows = self.node.api("get", f"/nodes/{NODE}/storage/local/content", vmid=7203)
        self.assertEqual([row["volid"] for row in rows], ["local:7203/vm-7203-disk-9.raw"])
        self.assertEqual(os.listdir(keep), ["vm-7203-disk-9.raw"])  # nor anything that would become one

    def test_killed_agent_and_worker_are_cleaned_up_after(self):
        worker = self.worker_of(self.slow_create(7204))
        self.node.kill("compute-agent")
        os.kill(worker, signal.SIGKILL)
        self.node.start_compute()
        self.wait_gone(7204)

    def without_a_storage(self, vmid, end):
        """A creation ends, by end(upid, worker), while storage "far" is gone; what it made is removed when it is back."""
        far = os.path.join(self.node.dir, f"far{vmid}")
        os.makedirs(far)
        os.chmod(far, 0o777)
        self.node.api("create", "/storage", storage="far", type="dir", path=far, content="images")
        upid = self.slow_create(vmid, scsi2="far:0.1", scsi3="local:0,import-from=local:import/slow.raw")
        worker = self.worker_of(upid)
        wait_for("the volume there", 20, lambda: glob.glob(os.path.join(far, "images", str(vmid), "*")), 0.01)
        os.rename(far, far + ".away")
        with open(far, "w", encoding="utf-8"):
            pass
        end(upid, worker)

        def failed():
            rows = self.node.api("get", f"/nodes/{NODE}/tasks", vmid=vmid, typefilter="qmdestroy")
            return [row for row in rows if "not all that was made" in row.get("status", "")]
        wait_for("the clean-up to fail", 20, failed)
        self.assertEqual(self.node.api("get", self.node.guest(vmid, "/config"))["lock"], "create")
        os.unlink(far)
        os.rename(far + ".away", far)
        time.sleep(8)  # the next try comes ten seconds after the first
        self.wait_gone(vmid)
        self.assertEqual([f for f in self.files() if str(vmid) in f], [])
        self.assertEqual(glob.glob(os.path.join(far, "images", str(vmid), "*")), [])
        self.node.api("delete", "/storage/far")

    def reserve_too_late(self, vmid):
        """Its request had been given up when it was written. What else has the id is not its own, though an earlier
        virtual machine had that, too."""
        self.create(vmid, memory=128)
        self.node.do("delete", self.node.guest(vmid))
        volume = self.node.api("create", f"/nodes/{NODE}/storage/local/content", vmid=vmid, size="1M",
                               filename=f"vm-{vmid}-disk-7.raw")
        self.node.store_put(f"nodes/{NODE}/qemu-server/{vmid}.conf", "name: late\nlock: create\n")
        self.assertEqual(self.node.api("get", self.node.guest(vmid, "/config"))["lock"], "create")
        return volume

    def test_clean_up_that_fails_is_tried_again(self):
        """Meanwhile a reservation without a task goes."""
        late = self.reserve_too_late(7220)
        self.without_a_storage(7218, lambda _, worker: os.kill(worker, signal.SIGKILL))
        self.wait_gone(7220, 60)
        rows = self.node.api("get", f"/nodes/{NODE}/storage/local/content", vmid=7220)
        self.assertEqual([row["volid"] for row in rows], [late])
        self.node.do("delete", f"/nodes/{NODE}/storage/local/content/{late}")

    def test_what_a_failed_creation_cannot_remove_goes_later(self):
        self.without_a_storage(7219, lambda upid, _: self.node.api("delete", f"/nodes/{NODE}/tasks/{upid}"))

    def test_reserved_but_never_begun(self):
        """The agent died between the reservation and the task, of which there is no trace: the id is free again."""
        upid = self.slow_create(7217)
        worker = self.worker_of(upid)
        self.node.kill("compute-agent")
        os.kill(worker, signal.SIGKILL)
        spools = glob.glob(os.path.join(self.node.state, "**", "tasks", "compute-agent", upid), recursive=True)
        self.assertEqual(len(spools), 1)
        shutil.rmtree(spools[0])
        self.node.start_compute()
        self.wait_gone(7217)

    def test_stopped_creation_removes_what_it_made(self):
        upid = self.slow_create(7205)
        self.worker_of(upid)
        self.node.api("delete", f"/nodes/{NODE}/tasks/{upid}")
        self.assertNotEqual(self.node.wait_task(upid)["exitstatus"], "OK")
        self.wait_gone(7205)
        wait_for("its volumes are gone", 10, lambda: not [f for f in self.files() if "7205" in f])

    def test_digest_and_lock(self):
        self.create(7206, memory=128)
        url = self.node.guest(7206, "/config")
        digest = self.node.api("get", url)["digest"]
        self.node.api("set", url, cores=2, digest=digest)
        self.refused("detected modified configuration - file changed by other user? Try again.", "set", url, cores=3,
                     digest=digest)
        self.assertEqual(str(self.node.api("get", url)["cores"]), "2")
        upid = self.slow_create(7207)
        self.refused("VM is locked (create)", "set", self.node.guest(7207, "/config"), cores=2)
        self.refused("VM is locked (create)", "create", self.node.guest(7207, "/status/start"))
        self.node.api("delete", f"/nodes/{NODE}/tasks/{upid}")
        self.wait_gone(7207)

    def test_two_changes_at_once_are_both_there(self):
        self.create(7208, memory=128)
        url = self.node.guest(7208, "/config")
        base = [os.path.join(vm_node.BIN, "atoll"), "--run-dir", self.node.run, "api", "set", url]
        changes = [["--cores", "3"], ["--name", "both"], ["--onboot", "1"], ["--tags", "a;b"]]
        running = [subprocess.Popen(base + change, env=self.node.environment, stdout=subprocess.DEVNULL)
                   for change in changes]
        self.assertEqual([process.wait(60) for process in running], [0] * len(running))
        config = self.node.api("get", url)
        self.assertEqual((str(config["cores"]), config["name"], str(config["onboot"]), config["tags"]),
                         ("3", "both", "1", "a;b"))

    def test_protection(self):
        self.create(7209, memory=128, scsi0="local:0.1", protection=1)
        self.refused("protection mode enabled", "delete", self.node.guest(7209))
        self.refused("protection mode enabled", "set", self.node.guest(7209, "/config"), delete="scsi0")
        self.node.api("set", self.node.guest(7209, "/config"), protection=0)
        self.node.do("delete", self.node.guest(7209))
        self.assertEqual([f for f in self.files() if "7209" in f], [])

    def test_state_is_right_after_the_task(self):
        """No lag between the end of a task and what the methods say: right after the task, without polling."""
        self.create(7212, memory=128)
        for _ in range(3):
            self.command(7212, "start")
            self.assertEqual(self.node.status(7212)["qmpstatus"], "running")
            self.command(7212, "stop")
            self.assertEqual(self.node.status(7212)["qmpstatus"], "stopped")
        self.node.do("delete", self.node.guest(7212), **{"destroy-unreferenced-disks": 1})

    def test_commands_to_a_stopped_guest(self):
        self.create(7210, memory=128)
        for what in ("reset", "suspend", "resume", "reboot"):
            self.ended_badly("VM 7210 not running",
                             self.node.api("create", self.node.guest(7210, "/status/" + what)))
        for what in ("stop", "shutdown"):
            self.command(7210, what)
        self.refused("No QEMU guest agent configured", "create", self.node.guest(7210, "/agent/ping"))
        self.refused("does not exist", "create", self.node.guest(7999, "/status/start"))

    def test_tasks_of_a_guest_are_listed(self):
        self.create(7211, memory=128)
        self.command(7211, "start")
        rows = self.node.api("get", f"/nodes/{NODE}/tasks", vmid=7211)
        self.assertEqual({row["type"] for row in rows}, {"qmstart", "qmcreate"})
        self.assertEqual([row["status"] for row in rows], ["OK", "OK"])


class StartWithNode(OneNode):
    driver = "fake"

    def test_onboot_guests_start_once_in_their_order(self):
        boot_id = os.path.join(self.node.state, "compute-agent", "boot-id")
        wait_for("the agent's own start with the node", 20, lambda: os.path.exists(boot_id))
        for vmid, startup in ((7301, "order=2"), (7302, "order=1,up=1"), (7303, None)):
            self.create(vmid, memory=128, onboot=1, **({"startup": startup} if startup else {}))
        self.create(7304, memory=128)
        self.node.kill("compute-agent", signal.SIGTERM)
        os.unlink(boot_id)  # as after a boot of the host
        self.node.start_compute()
        for vmid in (7301, 7302, 7303):
            wait_for(f"{vmid} runs", 20, lambda v=vmid: self.state(v) == "running")
        self.assertEqual(self.state(7304), "stopped")
        started = [row["id"] for row in self.node.api("get", f"/nodes/{NODE}/tasks", typefilter="qmstart")]
        self.assertEqual(started[-1], "7302")
        self.command(7301, "stop")
        self.node.kill("compute-agent")
        self.node.start_compute()
        wait_for("its state", 10, lambda: self.state(7302) == "running")
        time.sleep(1)
        self.assertEqual(self.state(7301), "stopped")  # the agent alone was started again

    def state(self, vmid):
        try:
            return self.node.status(vmid)["qmpstatus"]
        except ApiError:
            return None


if __name__ == "__main__":
    vm_node.in_namespaces()
    unittest.main(verbosity=2, warnings="ignore")
