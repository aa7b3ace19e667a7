#!/usr/bin/python3
"""Whoever takes the gateway over has its unix user and what its process holds. Alone, that moves nothing."""
import json
import os
import unittest
import urllib.parse

from node_env import BUILD, Env

PROBE = os.path.join(BUILD, "bin", "atl_bus_probe")
AS_GATEWAY = ["setpriv", "--reuid=atoll-gateway", "--regid=atoll-gateway", "--init-groups", "--no-new-privs",
              "--inh-caps=-all", "--bounding-set=-all"]
BEFORE_LOGIN = ("/access/domains", "/access/ticket")  # what a client needs before it has a user
BUS_ONLY = {"atoll.store.v1.Store.Get": "path=user.cfg", "atoll.store.v1.Store.List": "", "atoll.store.v1.Store.Txn": "",
            "atoll.store.v1.Store.NextId": "", "atoll.store.v1.Directory.Look": "",
            "atoll.store.v1.Identity.LocalAssertion": "",
            "atoll.store.v1.Identity.SetPassword": "userid=admin%40pve&password=taken-over",
            "atoll.storage.v1.Volumes.Free": "volid=local%3A100%2Fvm-100-disk-0.raw",
            "atoll.qemu.v1.Migration.Receive": "vmid=100&source=n1", "atoll.qemu.v1.Migration.Listening": "upid=x"}
GOOD = {"vmid": "100", "storage": "local", "userid": "a@pve", "tokenid": "t", "poolid": "p", "path": "/", "roles": "NoAccess",
        "iface": "vmbr0", "volume": "local:iso/a.iso", "content": "iso", "filename": "a.iso", "size": "1M", "type": "dir",
        "disk": "virtio0", "upid": "UPID:node1:00000001:00000001:00000001:qmstart:100:root@pam:", "command": "info",
        "address": "10.0.0.9", "generation": "0",
        "phase": "3", "key": "0" * 64, "expected": "1", "pid": "1",
        "password": "secret-secret", "ostemplate": "local:vztmpl/a.tar.gz", "privs": "VM.Audit"}


class GatewayPower(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        with open(os.path.join(BUILD, "gen", "contract.json"), encoding="utf-8") as text:
            cls.contract = json.load(text)

    @classmethod
    def tearDownClass(cls):
        cls.env.stop()

    def as_gateway(self, *command, check=False):
        return self.env.run(*AS_GATEWAY, *command, check=check)

    def test_its_user_cannot_open_what_belongs_to_others(self):
        run, state = self.env.node.run_dir, self.env.node.state_dir
        for path in (f"{run}/bus/config-store/cli", f"{run}/bus/config-store/compute-agent",
                     f"{run}/bus/compute-agent/cli", f"{run}/bus/storage-agent/compute-agent", f"{state}/config-store",
                     f"{state}/compute-agent", f"{state}/ca.key"):
            self.assertTrue(os.path.exists(path), path)
            done = self.as_gateway("ls" if os.path.isdir(path) else "cat", path)
            self.assertNotEqual(done.returncode, 0, f"{path} is open to the gateway's user: {done.stdout}")
            self.assertIn("Permission denied", done.stderr)

    def test_its_process_holds_no_capability_and_no_file_of_others(self):
        pid = self.env.pid("api-gateway")
        with open(f"/proc/{pid}/status", encoding="utf-8") as text:
            status = dict(line.split(":\t", 1) for line in text.read().splitlines() if ":\t" in line)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[name], 16), 0, name)
        self.assertEqual(status["NoNewPrivs"].strip(), "1")
        held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        for path in held:
            self.assertNotIn("tree.db", path)
            self.assertNotRegex(path, "config-store/|ca.key|node.key")

    def test_every_rpc_without_an_assertion_is_refused(self):
        """All methods of the contract, from the gateway's user over the gateway's own sockets, each with parameters
        that are good, so that nothing but the missing user can be the reason."""
        rest = [row for row in self.contract if row.get("path")]
        lines = "".join(f"{row['method']}\t{self.good_parameters(row)}\n" for row in rest)
        lines += "".join(f"{method}\t{form}\n" for method, form in BUS_ONLY.items())
        done = self.env.run(*AS_GATEWAY, PROBE, self.env.node.run_dir, "api-gateway", text_in=lines, timeout=300)
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        self.assertEqual(len(rows), len(rest) + len(BUS_ONLY), done.stderr)
        self.assertGreater(len(rows), 80)
        for method, path, code, text in rows:
            if path in BEFORE_LOGIN:
                continue
            self.assertIn(code, ("UNAUTHENTICATED", "PERMISSION_DENIED"), f"{method} {path}: {code} {text}")

    def good_parameters(self, row):
        values = {p["name"]: GOOD.get(p["name"], "x") for p in row["parameters"] if p["required"]}
        if "node" in values:
            values["node"] = self.env.name
        return urllib.parse.urlencode(values)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
