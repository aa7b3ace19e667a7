#!/usr/bin/python3
"""Clients as people use them, against the gateway: curl over HTTP/1.1 and HTTP/2, h2load, proxmoxer."""
import json
import os
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "component"))

from node_env import ADMIN, Env, skip, wait_for  # noqa: E402

try:
    from proxmoxer import ProxmoxAPI, ResourceException
except ImportError:
    skip("needs Debian's package python3-proxmoxer")

IMPORT = "local:0,import-from=local:import/atoll-guest.qcow2"
TEMPLATE = "local:vztmpl/atoll-busybox_1_amd64.tar.gz"


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        cls.env.storage()

    @classmethod
    def tearDownClass(cls):
        cls.env.stop()

    # --- curl ---

    def curl(self, version, method, path, *data):
        """(status, data) of one request with curl; version is http1.1 or http2."""
        command = ["curl", "-sS", "-m", "60", f"--{version}", "--cacert", self.env.ca, "-X", method,
                   "-H", f"Authorization: PVEAPIToken={self.env.token}", "-w", "\n%{http_code} %{http_version}"]
        for pair in data:
            command += ["--data-urlencode", pair]
        done = subprocess.run([*command, f"{self.env.node.url}/api2/json{path}"], capture_output=True, text=True,
                              check=True)
        body, _, tail = done.stdout.rpartition("\n")
        status, used = tail.split()
        self.assertEqual(used, {"http1.1": "1.1", "http2": "2"}[version])
        return int(status), json.loads(body).get("data") if body else None

    def curl_task(self, version, method, path, *data):
        status, upid = self.curl(version, method, path, *data)
        self.assertEqual(status, 200, upid)
        self.env.rest.wait(upid)

    def curl_life(self, version, vmid):
        vm, ct = self.env.path("qemu", vmid), self.env.path("lxc", vmid + 1)
        self.curl_task(version, "POST", self.env.path("qemu"), f"vmid={vmid}", "memory=128", "agent=1", "ostype=l26",
                       f"virtio0={IMPORT}", "boot=order=virtio0", "net0=virtio,bridge=vmbr0", "serial0=socket")
        self.curl_task(version, "POST", self.env.path("lxc"), f"vmid={vmid + 1}", f"ostemplate={TEMPLATE}",
                       "rootfs=local:0", "memory=64", "net0=name=eth0,bridge=vmbr0,ip=dhcp", "ostype=unmanaged",
                       "unprivileged=1")
        for path in (vm, ct):
            self.curl_task(version, "POST", path + "/status/start")
            self.assertEqual(self.curl(version, "GET", path + "/status/current")[1]["status"], "running")
        self.env.agent_up(vmid)
        self.assertEqual(self.curl(version, "PUT", ct + "/config", "description=by curl")[0], 200)
        for path in (vm, ct):
            self.curl_task(version, "POST", path + "/status/shutdown", "timeout=60")
            self.curl_task(version, "DELETE", path)
            self.assertEqual(self.curl(version, "GET", path + "/config")[0], 500)

    def test_curl_http1(self):
        self.curl_life("http1.1", 400)

    def test_curl_http2(self):
        self.curl_life("http2", 410)

    def test_curl_sees_the_error_text_in_the_status_line(self):
        done = subprocess.run(["curl", "-sS", "-i", "--http1.1", "--cacert", self.env.ca,
                               "-H", f"Authorization: PVEAPIToken={self.env.token}",
                               f"{self.env.node.url}/api2/json{self.env.path('qemu', 999, 'config')}"],
                              capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout.splitlines()[0], r"^HTTP/1.1 500 .*999.conf' does not exist")

    def test_curl_uploads(self):
        source = os.path.join(self.env.folder, "curl.iso")
        with open(source, "wb") as out:
            out.write(os.urandom(3 << 20))
        for version in ("http1.1", "http2"):
            done = subprocess.run(["curl", "-sS", f"--{version}", "--fail-with-body", "--cacert", self.env.ca,
                                   "-H", f"Authorization: PVEAPIToken={self.env.token}", "-F", "content=iso",
                                   "-F", f"filename=@{source};filename={version}.iso",
                                   f"{self.env.node.url}/api2/json{self.env.path('storage', 'local', 'upload')}"],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.env.rest.wait(json.loads(done.stdout)["data"])
            stored = os.path.join(self.env.node.state_dir, "local", "template", "iso", version + ".iso")
            self.assertEqual(subprocess.run(["cmp", source, stored], check=False).returncode, 0)
            self.env.rest.delete(self.env.path("storage", "local", "content") + f"/local:iso/{version}.iso")

    # --- h2load ---

    def test_h2load(self):
        """Many requests on many streams and connections; every one is answered, and well."""
        for protocol, clients, requests in (("h2", 50, 5000), ("http/1.1", 50, 2000)):
            command = ["h2load", "-n", str(requests), "-c", str(clients), "-m", "10" if protocol == "h2" else "1",
                       f"--npn-list={protocol}", "-H", f"Authorization: PVEAPIToken={self.env.token}",
                       f"{self.env.node.url}/api2/json/version"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
            line = next(line for line in done.stdout.splitlines() if line.startswith("requests:"))
            self.assertRegex(line, rf"{requests} succeeded, 0 failed, 0 errored, 0 timeout")
            rate = re.search(r"finished in .*", done.stdout)
            print(f"    {protocol}: {rate.group(0) if rate else ''}")

    # --- proxmoxer ---

    def connect(self, **credentials):
        return ProxmoxAPI(self.env.node.address, port=self.env.node.port, verify_ssl=self.env.ca, timeout=30, **credentials)

    def wait(self, api, upid):
        node = upid.split(":")[1]

        def stopped():
            status = api.nodes(node).tasks(upid).status.get()
            return status if status["status"] == "stopped" else None
        self.assertEqual(wait_for("the task's end", 90, stopped)["exitstatus"], "OK")

    def proxmoxer_life(self, api, vmid):
        node = api.nodes(self.env.name)
        self.wait(api, node.qemu.post(vmid=vmid, name="by-proxmoxer", memory=128, agent="1", ostype="l26", virtio0=IMPORT,
                                      boot="order=virtio0", net0="virtio,bridge=vmbr0", serial0="socket"))
        self.wait(api, node.lxc.post(vmid=vmid + 1, ostemplate=TEMPLATE, rootfs="local:0", memory=64, hostname="by-prox",
                                     net0="name=eth0,bridge=vmbr0,ip=dhcp", ostype="unmanaged", unprivileged=1))
        vm, ct = node.qemu(vmid), node.lxc(vmid + 1)
        for guest in (vm, ct):
            self.wait(api, guest.status.start.post())
            self.assertEqual(guest.status.current.get()["status"], "running")
        self.env.agent_up(vmid)
        self.assertIn("result", vm.agent("network-get-interfaces").get())
        vm.config.put(description="changed by proxmoxer")
        self.assertEqual(vm.config.get()["description"].strip(), "changed by proxmoxer")
        self.assertIn(vmid, [int(g["vmid"]) for g in api.cluster.resources.get(type="vm")])
        for guest in (vm, ct):
            self.wait(api, guest.status.shutdown.post(timeout=60))
            self.assertEqual(guest.status.current.get()["status"], "stopped")
            self.wait(api, guest.delete())
        with self.assertRaises(ResourceException) as caught:
            vm.config.get()
        self.assertEqual(caught.exception.status_code, 500)
        self.assertIn("does not exist", str(caught.exception))

    def test_proxmoxer_with_a_password(self):
        self.proxmoxer_life(self.connect(user=ADMIN, password=self.env.password), 420)

    def test_proxmoxer_with_a_token(self):
        user, secret = self.env.token.split("=")
        self.proxmoxer_life(self.connect(user=user.split("!")[0], token_name=user.split("!")[1], token_value=secret), 430)

    def test_proxmoxer_uploads(self):
        api = self.connect(user=ADMIN, password=self.env.password)
        source = os.path.join(self.env.folder, "prox.iso")
        with open(source, "wb") as out:
            out.write(os.urandom(1 << 20))
        with open(source, "rb") as data:
            self.wait(api, api.nodes(self.env.name).storage("local").upload.post(content="iso", filename=data))
        self.assertIn("local:iso/prox.iso",
                      [v["volid"] for v in api.nodes(self.env.name).storage("local").content.get(content="iso")])
        api.nodes(self.env.name).storage("local").content("local:iso/prox.iso").delete()

    def test_proxmoxer_reads_a_refusal(self):
        begin = time.monotonic()
        with self.assertRaises(Exception) as caught:
            self.connect(user=ADMIN, password="wrong-wrong")
        self.assertIn("authenticat", str(caught.exception).lower())
        self.assertGreater(time.monotonic() - begin, 2, "a refusal comes after three seconds")


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
