#!/usr/bin/python3
"""A gateway on a host that is no node: it serves REST for the whole cluster, bears the loss of a config-store, holds no
power of its own, and is refused from the moment on that it is removed. Tests run in the order of their names."""
import json
import os
import subprocess
import sys
import threading
import time
import unittest

from testbed import Testbed, run, wait_until

import certs
import cleanup
import guests
import layout
from rest import ApiError, Rest

NAME = f"associate{os.getpid()}"
HOST = "front1"
USER = "atoll-gateway"
BUS_ONLY = {"atoll.store.v1.Store.Get": "path=user.cfg", "atoll.store.v1.Store.List": "", "atoll.store.v1.Store.Txn": "",
            "atoll.store.v1.Identity.LocalAssertion": "", "atoll.store.v1.Identity.SetPassword":
            "userid=admin%40pve&password=taken-over", "atoll.cluster.v1.Peers.GetSecrets": "",
            "atoll.cluster.v1.Peers.TakeOut": "", "atoll.store.v1.Directory.Announce": "public_key=00ff",
            "atoll.storage.v1.Volumes.Free": "volid=local%3A100%2Fvm-100-disk-0.raw",
            "atoll.cluster.v1.Cluster.GetStatus": "", "atoll.pool.v1.Pools.CreatePool": "poolid=p",
            "atoll.qemu.v1.Migration.Receive": "vmid=100&source=n1"}


class Associate:
    """A host with a network of its own, and in it nothing but the gateway."""

    def __init__(self, testbed):
        self.testbed = testbed
        self.run_dir = os.path.join(testbed.run_dir, HOST)
        self.state_dir = os.path.join(testbed.state_dir, HOST)
        self.bin = os.path.join(testbed.build_dir, "bin")
        self.launcher = None
        self.gateway = None
        slot = testbed.facts["slot"]
        self.link = f"tb{slot}as"
        self.near, self.far = f"10.253.{slot}.241", f"10.253.{slot}.242"
        self.url = f"https://{self.far}:8006"

    def start(self):
        layout.make_run_dir(self.run_dir)
        layout.make_state_dir(self.state_dir)
        self.cacert = certs.make(self.state_dir, HOST, [self.far, "10.77.0.98"])
        spaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self.launcher = subprocess.Popen(["unshare", *spaces, "sh", "-c", "ip link set lo up; exec sleep infinity"],
                                         start_new_session=True)
        if not wait_until(5, lambda: cleanup.children(self.launcher.pid)):
            raise RuntimeError("the host does not start")
        self.pid = cleanup.children(self.launcher.pid)[0]
        self.plug()

    def plug(self):
        enter = ["nsenter", "-t", str(self.pid), "--net", "ip"]
        switch = self.testbed.switch
        run("ip", "-n", switch, "link", "add", "pa", "type", "veth", "peer", "name", "eth1", "netns", str(self.pid))
        run("ip", "-n", switch, "link", "set", "pa", "master", "br0", "up")
        run(*enter, "addr", "add", "10.77.0.98/24", "dev", "eth1")
        run(*enter, "link", "set", "eth1", "up")
        run("ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        run("ip", "addr", "add", f"{self.near}/30", "dev", self.link)
        run("ip", "link", "set", self.link, "up")
        run(*enter, "addr", "add", f"{self.far}/30", "dev", "eth0")
        run(*enter, "link", "set", "eth0", "up")

    def command(self, program, *words):
        return ["nsenter", "-t", str(self.pid), "--net", "--mount", "--pid", "--", "setpriv", f"--reuid={USER}",
                f"--regid={USER}", "--init-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "env",
                "ASAN_OPTIONS=detect_leaks=0", os.path.join(self.bin, program), *words]

    def join(self, word, name=HOST):
        return subprocess.run(self.command("atoll-associate", "--state-dir", self.state_dir, "--node", name, "join", word),
                              capture_output=True, text=True, check=False, timeout=60)

    def serve(self):
        with open(self.state_dir + ".log", "ab") as log:
            self.gateway = subprocess.Popen(
                self.command("atoll-api-gateway", "--associate", "--node", HOST, "--run-dir", self.run_dir, "--state-dir",
                             self.state_dir, "--openapi", os.path.join(self.testbed.build_dir, "gen", "openapi.json"),
                             "--listen", "0.0.0.0:8006"), stdout=log, stderr=log)

    def probe(self, methods):
        """Calls on the bus with the gateway's key, without a user: {method: (code, text)}."""
        lines = "".join(f"{method}\t{form}\n" for method, form in methods.items())
        done = subprocess.run(self.command("atl_bus_probe", self.run_dir, "api-gateway",
                                           os.path.join(self.state_dir, "gateway"), HOST), input=lines, capture_output=True,
                              text=True, check=False, timeout=120)
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        return {row[0]: (row[2], row[3]) for row in rows}

    def rest(self, timeout=30):
        return Rest(self.url, self.cacert, self.testbed.facts["tokens"]["1"], timeout)

    def down(self):
        if self.gateway:
            self.gateway.terminate()
            self.gateway.wait(timeout=10)
        if self.launcher:
            self.launcher.kill()
            self.launcher.wait(timeout=10)
        run("ip", "link", "del", self.link, check=False)


class Asking:
    """Asks again and again, in a thread: how often that failed, and the longest time without a good answer."""

    def __init__(self, ask):
        self.ask = ask
        self.done = threading.Event()
        self.good = self.failed = 0
        self.gap = 0.0
        self.last = time.monotonic()
        self.said = set()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.done.is_set():
            try:
                self.ask(self.good + self.failed)
            except (ApiError, OSError) as error:
                self.failed += 1
                self.said.add(str(error))
            else:
                self.good += 1
                self.gap = max(self.gap, time.monotonic() - self.last)
                self.last = time.monotonic()
            time.sleep(0.05)

    def end(self):
        """The longest gap, the one that may still last too."""
        self.done.set()
        self.thread.join()
        return max(self.gap, time.monotonic() - self.last)


class AssociateCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.testbed = Testbed(NAME)
        cls.addClassCleanup(cls.testbed.down)
        cls.testbed.up(3)
        cls.testbed.make_cluster()
        cls.testbed.give_images()
        cls.host = Associate(cls.testbed)
        cls.addClassCleanup(cls.host.down)
        cls.host.start()

    def atoll(self, which, *words, check=True):
        return self.testbed.atoll(which, *words, check=check)

    def works(self, path="/version"):
        try:
            return self.host.rest(5).get(path) is not None
        except (ApiError, OSError):
            return False

    def test_01_a_word_is_for_one_name(self):
        word = json.loads(self.atoll(1, "cluster", "associate", "add", HOST).stdout)
        self.assertIn("not valid", self.host.join(word, "front2").stderr)
        secret = word.rsplit("/", 1)[1]
        with self.assertRaisesRegex(ApiError, "not valid"):
            self.testbed.rest(1).post(f"/cluster/config/admit/{HOST}", secret=secret, csr="x", link0="10.77.0.98")
        with self.assertRaisesRegex(ApiError, "is a node"):
            self.testbed.rest(1).post("/cluster/config/associates", hostname="n2")
        done = self.host.join(word)
        self.assertIn("it knows 3 config-stores", done.stdout, done.stderr)
        self.assertEqual(self.host.join(word).returncode, 0)  # the answer might have been lost
        os.rename(os.path.join(self.host.state_dir, "gateway", "bus.key"), os.path.join(self.host.state_dir, "bus.key"))
        self.assertIn("not valid", self.host.join(word).stderr)  # another key
        os.rename(os.path.join(self.host.state_dir, "bus.key"), os.path.join(self.host.state_dir, "gateway", "bus.key"))
        self.assertEqual(self.testbed.rest(2).get("/cluster/config/associates"),
                         [{"name": HOST, "address": "10.77.0.98", "role": "api-gateway"}])

    def test_02_it_serves_the_whole_cluster(self):
        self.host.serve()
        self.assertTrue(wait_until(20, self.works, 0.2))
        rest = self.host.rest()
        self.assertEqual({row["node"] for row in rest.get("/nodes")}, {"n1", "n2", "n3"})
        for vmid, node in ((201, "n1"), (202, "n2")):
            rest.wait(rest.post(f"/nodes/{node}/lxc", vmid=vmid, hostname=f"ct{vmid}", memory=64, swap=0, rootfs="local:0",
                                ostemplate=f"local:vztmpl/{os.path.basename(guests.TEMPLATE)}", ostype="unmanaged"))
            rest.wait(rest.post(f"/nodes/{node}/lxc/{vmid}/status/start"))
            self.assertEqual(rest.get(f"/nodes/{node}/lxc/{vmid}/status/current")["status"], "running")
        self.assertTrue(wait_until(10, lambda: {row["vmid"]: row.get("status") for row in
                                                rest.get("/cluster/resources?type=vm")} == {201: "running", 202: "running"}))
        login = Rest(self.host.url, self.host.cacert)  # with a password, too
        login.login("admin@pve", self.testbed.facts["password"])
        self.assertEqual(len(login.get("/cluster/resources?type=vm")), 2)

    def test_03_uploads_go_through(self):
        path = os.path.join(self.host.state_dir, "image.iso")
        with open(path, "wb") as file:
            file.write(os.urandom(5 << 20))
        rest = self.host.rest()
        for node in ("n1", "n2"):
            rest.wait(rest.upload(node, guests.STORAGE, "iso", path, lambda *_: None))
            rows = rest.get(f"/nodes/{node}/storage/{guests.STORAGE}/content?content=iso")
            self.assertEqual([(row["volid"], row["size"]) for row in rows], [("local:iso/image.iso", 5 << 20)])

    def test_04_its_own_name_is_no_node(self):
        for name in (HOST, "localhost"):
            with self.assertRaisesRegex(ApiError, "595"):
                self.host.rest().get(f"/nodes/{name}/status")
        rows = self.testbed.rest(1).get("/nodes/n1/qemu")  # nobody waits for it
        self.assertEqual(rows, [])
        self.assertNotIn(HOST, {row["node"] for row in self.testbed.rest(1).get("/nodes")})

    def test_05_a_config_store_dies(self):
        for which in (1, 2):
            node = self.testbed.node(which)
            pid = self.testbed.service_pid(which, "config-store")
            node.control("atoll-config-store", "d")
            self.assertTrue(wait_until(10, lambda p=pid: not os.path.exists(f"/proc/{p}")))
            slowest = 0
            for attempt in range(20):
                began = time.monotonic()
                self.host.rest().get("/cluster/resources")
                slowest = max(slowest, time.monotonic() - began)
            self.host.rest().post("/pools", poolid=f"without-{which}")
            print(f"\nwithout n{which}'s config-store: slowest answer {slowest:.2f} s", file=sys.stderr)
            self.assertLess(slowest, 15)
            node.control("atoll-config-store", "u")
            node.wait_ready(30)
            self.assertTrue(wait_until(20, lambda w=which: f"without-{w}" in {
                row["poolid"] for row in self.testbed.rest(w).get("/pools")}, 0.2))

    def test_06_it_starts_anew_with_what_it_knows(self):
        self.host.gateway.kill()
        self.host.gateway.wait(timeout=10)
        self.host.serve()
        self.assertTrue(wait_until(20, lambda: self.works("/cluster/resources"), 0.2))

    def test_07_it_has_no_power_of_its_own(self):
        """Whoever takes it over has its key; without a user that opens nothing but the directory."""
        answers = self.host.probe(BUS_ONLY | {"atoll.store.v1.Directory.Look": ""})
        self.assertEqual(len(answers), len(BUS_ONLY) + 1)
        self.assertEqual(answers.pop("atoll.store.v1.Directory.Look")[0], "OK")
        for method, (code, text) in answers.items():
            self.assertIn(code, ("UNAUTHENTICATED", "PERMISSION_DENIED"), f"{method}: {text}")
        held = b""
        for folder, _, names in os.walk(os.path.join(self.host.state_dir, "gateway")):
            for name in names:
                with open(os.path.join(folder, name), "rb") as file:
                    held += file.read()
        self.assertNotIn(b"admin@pve", held)

    def test_08_removed_it_is_refused_at_once(self):
        self.assertTrue(self.works("/cluster/resources"))
        self.atoll(2, "cluster", "associate", "remove", HOST)
        began = time.monotonic()
        self.assertTrue(wait_until(10, lambda: not self.works("/cluster/resources"), 0.05))
        print(f"\nrefused {time.monotonic() - began:.2f} s after its removal", file=sys.stderr)
        time.sleep(3)  # and it stays so, though it tries
        self.assertFalse(self.works("/cluster/resources"))
        answers = self.host.probe({"atoll.store.v1.Directory.Look": ""})
        self.assertEqual(answers["atoll.store.v1.Directory.Look"][0], "UNAVAILABLE", answers)
        self.assertEqual(self.testbed.rest(1).get("/cluster/config/associates"), [])
        with self.assertRaisesRegex(ApiError, "no associate"):
            self.testbed.rest(1).delete(f"/cluster/config/associates/{HOST}")

    def test_09_it_comes_again(self):
        word = self.testbed.rest(2).post("/cluster/config/associates", hostname=HOST)
        self.assertEqual(self.host.join(word).returncode, 0)
        self.host.gateway.kill()
        self.host.gateway.wait(timeout=10)
        self.host.serve()
        self.assertTrue(wait_until(20, lambda: self.works("/cluster/resources"), 0.2))

    def secrets(self):
        row = next(row for row in self.testbed.rest(1).get("/cluster/status") if row["type"] == "cluster")
        return row["secrets"]

    def test_10_the_secrets_of_the_cluster_change(self):
        """A node is removed: all that nodes share is replaced, and the host goes on with the key that is its own."""
        time.sleep(1)  # tickets of one second are the same: of one that was used the gateway has an assertion for a while
        login = Rest(self.host.url, self.host.cacert)
        login.login("admin@pve", self.testbed.facts["password"])
        self.testbed.power_off(3)
        self.assertTrue(wait_until(30, lambda: {row["node"] for row in self.testbed.rest(1).get("/nodes")
                                                if row["status"] == "online"} == {"n1", "n2"}, 0.2))
        asking = {"reads": Asking(lambda _: self.host.rest(10).get("/cluster/resources")),
                  "other nodes' answers": Asking(lambda n: self.host.rest(10).get(f"/nodes/n{n % 2 + 1}/version")),
                  "writes": Asking(lambda n: self.host.rest(10).post("/pools", poolid=f"change-{n}"))}
        began = time.monotonic()
        self.assertTrue(wait_until(30, lambda: self.atoll(1, "cluster", "remove", "n3", check=False).returncode == 0, 1))
        try:
            self.assertTrue(wait_until(90, lambda: self.secrets() == "done", 0.2), self.secrets())
            print(f"\nthe secrets were changed in {time.monotonic() - began:.1f} s", file=sys.stderr)
            time.sleep(3)
        finally:
            gaps = {what: one.end() for what, one in asking.items()}
        for what, one in asking.items():
            print(f"{what}: {one.good} good, {one.failed} failed, longest gap {gaps[what]:.2f} s {sorted(one.said)}",
                  file=sys.stderr)
        for what, gap in gaps.items():
            self.assertLess(gap, 10, what)
        with self.assertRaisesRegex(ApiError, "401"):  # tickets' keys are others
            login.get("/cluster/resources")
        self.assertEqual({row["node"] for row in self.host.rest().get("/nodes")}, {"n1", "n2"})

    def test_11_and_after_that_it_starts_anew(self):
        self.host.gateway.kill()
        self.host.gateway.wait(timeout=10)
        self.host.serve()
        self.assertTrue(wait_until(20, lambda: self.works("/cluster/resources"), 0.2))
        rest = self.host.rest()
        for node in ("n1", "n2"):
            self.assertTrue(rest.get(f"/nodes/{node}/version"))
        login = Rest(self.host.url, self.host.cacert)
        login.login("admin@pve", self.testbed.facts["password"])
        self.assertEqual(len(login.get("/cluster/resources?type=vm")), 2)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    unittest.main(verbosity=2, warnings="ignore", failfast=True)
