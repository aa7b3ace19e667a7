#!/usr/bin/python3
"""The whole life of a virtual machine and of a container, and every other method, through REST on one node."""
import json
import os
import re
import time
import unittest

from node_env import ADMIN, BUILD, ApiError, Env, Rest, TaskError, wait_for

UPID = re.compile(r"^UPID:([a-zA-Z0-9]([a-zA-Z0-9\-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):"
                  r"([^:\s/]+):([^:\s/]*):([^:\s/]+):$")


class Life(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        cls.rest = cls.env.rest
        cls.env.storage()

    @classmethod
    def tearDownClass(cls):
        cls.env.stop()

    def do(self, method, path, seconds=60, **params):
        """One call; a task is waited for."""
        answer = self.rest.call(method, path, params)
        if isinstance(answer, str) and answer.startswith("UPID:"):
            self.assertRegex(answer, UPID)
            self.rest.wait(answer, seconds)
        return answer

    def status(self, kind, vmid):
        return self.rest.get(self.env.path(kind, vmid, "status", "current"))

    # --- guests ---

    def test_virtual_machine(self):
        env, vm = self.env, self.env.path("qemu", 100)
        env.make_vm(100, start=False, machine="pc", ide2="local:cloudinit", ipconfig0="ip=10.10.10.50/24,gw=10.10.10.1",
                    description="a\nb", tags="one;two")
        config = self.rest.get(vm + "/config")
        self.assertEqual((config["name"], config["memory"], config["description"].strip()), ("vm100", "128", "a\nb"))
        self.assertRegex(config["virtio0"], r"^local:100/vm-100-disk-\d\.(raw|qcow2),.*size=64M")
        self.assertRegex(config["net0"], r"^virtio=([0-9A-F]{2}:){5}[0-9A-F]{2},bridge=vmbr0")
        self.assertEqual(self.status("qemu", 100)["status"], "stopped")
        self.do("POST", vm + "/status/start")
        env.agent_up(100)
        current = self.status("qemu", 100)
        self.assertEqual(current["status"], "running")
        self.assertGreater(current["pid"], 0)
        self.assertEqual(wait_for("the address of cloud-init", 30, lambda: env.vm_address(100)), "10.10.10.50")
        self.assertEqual(self.rest.get(vm + "/agent/get-osinfo")["result"]["id"], "atoll-busybox")
        pid = self.rest.post(vm + "/agent/exec", command="/bin/hostname")["pid"]
        done = wait_for("the command's end", 20,
                        lambda: (lambda s: s if s["exited"] else None)(self.rest.get(vm + "/agent/exec-status", pid=pid)))
        self.assertEqual((done["exitcode"], done["out-data"].strip()), (0, "vm100"))
        self.do("POST", vm + "/status/suspend")
        self.assertEqual(self.status("qemu", 100)["qmpstatus"], "paused")
        self.do("POST", vm + "/status/resume")
        self.assertEqual(self.status("qemu", 100)["qmpstatus"], "running")
        self.assertIn("RUNNING", self.rest.post(vm + "/monitor", command="info status").upper())
        self.do("PUT", vm + "/resize", disk="virtio0", size="+64M")
        self.assertIn("size=128M", self.rest.get(vm + "/config")["virtio0"])
        self.do("POST", vm + "/status/reset")
        env.agent_up(100)
        before = self.status("qemu", 100)["pid"]
        self.do("POST", vm + "/status/reboot", 90)
        env.agent_up(100)
        self.assertEqual(self.status("qemu", 100)["status"], "running")
        self.assertGreater(before, 0)
        self.do("PUT", vm + "/config", cores=2)
        pending = {row["key"]: row for row in self.rest.get(vm + "/pending")}
        self.assertEqual(str(pending["cores"].get("pending", pending["cores"].get("value"))), "2")
        self.do("POST", vm + "/status/shutdown", 90, timeout=60)
        self.assertEqual(self.status("qemu", 100)["status"], "stopped")
        self.assertEqual(env.qemu_pids(), [])
        self.do("POST", vm + "/status/stop")  # one that does not run: fine
        self.do("DELETE", vm)
        self.assertEqual([v for v in self.rest.get(env.path("storage", "local", "content")) if v.get("vmid") == 100], [])

    def test_all_disk_buses_and_machines(self):
        env = self.env
        for vmid, params in ((120, {"boot": "order=scsi0", "scsi0": None, "scsihw": "virtio-scsi-pci"}),
                             (121, {"boot": "order=ide0", "ide0": None, "machine": "pc"})):
            bus = next(key for key, value in params.items() if value is None)
            params[bus] = "local:0,import-from=local:import/atoll-guest.qcow2"
            self.rest.wait(self.rest.post(env.path("qemu"), vmid=vmid, memory=128, agent="1", net0="virtio,bridge=vmbr0",
                                          serial0="socket", **params))
            self.do("POST", env.path("qemu", vmid, "status", "start"))
            env.agent_up(vmid)
            self.do("POST", env.path("qemu", vmid, "status", "stop"))
            self.do("DELETE", env.path("qemu", vmid))

    def test_container(self):
        env, ct = self.env, self.env.path("lxc", 101)
        env.make_ct(101, start=False, description="made for a test", tags="x")
        config = self.rest.get(ct + "/config")
        self.assertEqual((config["hostname"], config["memory"], config["unprivileged"]), ("ct101", 64, 1))
        self.do("POST", ct + "/status/start")
        self.assertEqual(self.status("lxc", 101)["status"], "running")
        address = wait_for("an address by DHCP", 30, env.ct_address)
        self.assertRegex(address, r"^10\.10\.10\.")
        self.assertEqual(env.run("ping", "-c", "1", "-W", "3", address, check=False).returncode, 0)
        self.do("PUT", ct + "/config", memory=96)
        self.assertEqual(self.status("lxc", 101)["maxmem"], 96 << 20)
        self.do("POST", ct + "/status/suspend")
        self.do("POST", ct + "/status/resume")
        first = env.ct_pids()
        self.do("POST", ct + "/status/reboot", 60)
        self.assertNotEqual(wait_for("the new init", 10, env.ct_pids), first)
        begin = time.monotonic()
        self.do("POST", ct + "/status/shutdown", timeout=20)
        self.assertLess(time.monotonic() - begin, 15)  # it went down by itself: after 20 s it would have been stopped
        self.assertEqual(self.status("lxc", 101)["status"], "stopped")
        self.do("DELETE", ct)
        self.assertEqual(env.ct_pids(), [])

    def test_container_is_unprivileged_and_privileged_when_asked(self):
        for vmid, unprivileged in ((102, 1), (103, 0)):
            self.env.make_ct(vmid, unprivileged=unprivileged)
            pid = self.env.ct_pids()[-1]
            ids = self.env.run("cat", f"/proc/{pid}/uid_map").stdout.split()
            self.assertEqual(ids[1] == "0", unprivileged == 0, ids)
            self.do("POST", self.env.path("lxc", vmid, "status", "stop"))
            self.do("DELETE", self.env.path("lxc", vmid))

    # --- the rest of the API ---

    def test_node(self):
        path = self.env.path()
        status = self.rest.get(path + "/status")
        self.assertGreater(status["memory"]["total"], 0)
        self.assertGreater(status["cpuinfo"]["cpus"], 0)
        self.assertIn("release", self.rest.get(path + "/version"))
        self.assertLess(abs(self.rest.get(path + "/time")["time"] - time.time()), 10)
        self.assertIsInstance(self.rest.get(path + "/dns"), dict)
        self.assertIn("vmbr0", [i["iface"] for i in self.rest.get(path + "/network")])
        self.assertEqual(self.rest.get(path + "/network/vmbr0")["type"], "bridge")
        self.assertEqual([n["node"] for n in self.rest.get("/nodes")], [self.env.name])
        self.assertEqual([n["status"] for n in self.rest.get("/nodes")], ["online"])

    def test_cluster(self):
        self.assertIn("node/" + self.env.name, [r["id"] for r in self.rest.get("/cluster/resources")])
        self.assertGreaterEqual(int(self.rest.get("/cluster/nextid")), 100)
        self.assertIn("node", [r["type"] for r in self.rest.get("/cluster/status")])
        self.assertIsInstance(self.rest.get("/cluster/tasks"), list)

    def test_tasks(self):
        self.env.make_ct(130, start=False)
        upid = self.rest.post(self.env.path("lxc", 130, "status", "start"))
        self.rest.wait(upid)
        listed = self.rest.get(self.env.path("tasks"), vmid=130)
        self.assertIn(upid, [t["upid"] for t in listed])
        log = self.rest.get(self.env.path("tasks", upid, "log"))
        self.assertEqual(log[-1]["t"], "TASK OK")
        self.assertEqual([line["n"] for line in log], list(range(1, len(log) + 1)))
        stopping = self.rest.post(self.env.path("lxc", 130, "status", "shutdown"), timeout=30)
        self.rest.wait(stopping)
        self.do("DELETE", self.env.path("lxc", 130))

    def test_pools_and_storages(self):
        self.rest.post("/pools", poolid="tests", comment="of tests")
        self.rest.put("/pools/tests", storage="local")
        self.assertIn("local", [m.get("storage") for m in self.rest.get("/pools/tests")["members"]])
        self.rest.put("/pools/tests", storage="local", delete=1)
        self.rest.delete("/pools/tests")
        with self.assertRaises(ApiError):
            self.rest.get("/pools/tests")
        path = os.path.join(self.env.node.state_dir, "second")
        os.makedirs(path)
        self.rest.post("/storage", storage="second", type="dir", path=path, content="images")
        self.rest.put("/storage/second", content="images,iso")
        self.assertEqual(set(self.rest.get("/storage/second")["content"].split(",")), {"images", "iso"})
        content = self.env.path("storage", "second", "content")
        volume = self.rest.post(content, vmid=140, filename="vm-140-disk-0.qcow2", size="16M", format="qcow2")
        self.assertEqual([v["volid"] for v in self.rest.get(content)], [volume])
        self.assertEqual(self.rest.get(content + "/" + volume)["format"], "qcow2")
        self.do("DELETE", content + "/" + volume)
        self.rest.delete("/storage/second")

    def test_users_tokens_and_permissions(self):
        self.rest.post("/access/users", userid="viewer@pve", password="viewer-viewer")
        viewer = Rest(self.env.node.url, self.env.ca)
        viewer.login("viewer@pve", "viewer-viewer")
        self.assertEqual(viewer.get("/cluster/resources", type="vm"), [])
        self.rest.put("/access/acl", path="/vms", users="viewer@pve", roles="PVEAuditor")
        self.env.make_ct(150, start=False)
        seen = wait_for("the permission to take effect", 10,
                        lambda: [r["vmid"] for r in viewer.get("/cluster/resources", type="vm")])
        self.assertIn(150, seen)
        with self.assertRaises(ApiError) as caught:
            viewer.post(self.env.path("lxc", 150, "status", "start"))
        self.assertEqual(caught.exception.status, 403)
        self.assertRegex(caught.exception.message, r"Permission check failed \(/vms/150, VM.PowerMgmt\)")
        self.rest.delete("/access/users/viewer@pve")

        def refused():
            try:
                viewer.get("/version")
            except ApiError as error:
                return error.status == 401
            return False
        wait_for("the deleted user to be refused", 1.5 + 3, refused)  # each refusal takes three seconds
        self.do("DELETE", self.env.path("lxc", 150))

    def test_command_line(self):
        done = self.env.atoll("api", "get", "/version", "--output", "json")
        self.assertIn("release", json.loads(done.stdout))
        self.env.make_ct(160, start=False)
        self.assertEqual(self.env.atoll("ct", "start", "160").returncode, 0)
        self.assertEqual(self.status("lxc", 160)["status"], "running")
        self.assertNotEqual(self.env.atoll("ct", "start", "999", check=False).returncode, 0)
        self.env.atoll("ct", "stop", "160")
        self.env.atoll("ct", "delete", "160")
        remote = self.env.run("env", f"ATOLL_TOKEN={self.env.token}", os.path.join(BUILD, "bin", "atoll"), "--host",
                              self.env.node.address, "--cacert", self.env.ca, "api", "get", "/version")
        self.assertIn("release", remote.stdout)

    def test_onboot_guests_start_with_the_node(self):
        self.env.make_ct(170, start=False, onboot=1)
        self.env.make_ct(171, start=False, onboot=0)
        self.env.node.down()
        self.env.node.up()
        self.env.node.wait_ready(60)
        wait_for("the container to run again", 30, lambda: self.status("lxc", 170)["status"] == "running")
        self.assertEqual(self.status("lxc", 171)["status"], "stopped")
        self.do("POST", self.env.path("lxc", 170, "status", "stop"))
        for vmid in (170, 171):
            self.do("DELETE", self.env.path("lxc", vmid))

    def test_answers_of_a_login(self):
        rest = Rest(self.env.node.url, self.env.ca)
        data = rest.login(ADMIN, self.env.password)
        self.assertRegex(data["ticket"], r"^PVE:\S+::[^:\s]+$")
        self.assertRegex(data["CSRFPreventionToken"], r"^[0-9A-F]{8}:")
        renewed = Rest(self.env.node.url, self.env.ca)
        renewed.login(ADMIN, data["ticket"])
        self.assertIn("release", renewed.get("/version"))

    def test_failed_task_tells_why(self):
        with self.assertRaises((TaskError, ApiError)) as caught:
            self.do("POST", self.env.path("qemu"), vmid=180, virtio0="local:0,import-from=local:import/no.qcow2")
        self.assertIn("no.qcow2", str(caught.exception))


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
