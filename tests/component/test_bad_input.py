#!/usr/bin/python3
"""Bad input: the right status, a message, the parameter's name, and nothing left behind."""
import http.client
import json
import os
import subprocess
import time
import unittest
import urllib.parse

from node_env import ADMIN, ApiError, Env, Rest, TaskError, guests, wait_for

UNTAKEN = ".atoll-"  # an upload that nobody took; it goes within a minute, which the end of this program waits for
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        cls.env.storage()
        cls.env.make_ct(101, start=False)
        cls.before = cls.everything()

    @classmethod
    def tearDownClass(cls):
        base = os.path.join(cls.env.node.state_dir, "local")
        wait_for("uploads that nobody took to be removed", 75,
                 lambda: not [n for _, _, names in os.walk(base) for n in names if n.startswith(UNTAKEN)])
        cls.env.stop()

    def tearDown(self):
        self.assertEqual(self.everything(), self.before, "something was left behind")

    @classmethod
    def everything(cls):
        """What a refused request must not change: guests, volumes, files of the storage, users, storages."""
        env, rest = cls.env, cls.env.rest
        base = os.path.join(env.node.state_dir, "local")
        files = sorted(os.path.join(folder, name) for folder, _, names in os.walk(base) for name in names
                       if "101" not in folder and not name.startswith(UNTAKEN))
        return {"guests": sorted(r["id"] for r in rest.get("/cluster/resources", type="vm")),
                "volumes": sorted(v["volid"] for v in rest.get(env.path("storage", "local", "content"))),
                "users": sorted(u["userid"] for u in rest.get("/access/users")), "files": files,
                "storages": sorted(s["storage"] for s in rest.get("/storage")),
                "config": {k: v for k, v in rest.get(env.path("lxc", 101, "config")).items() if k != "digest"},
                "options": {k: v for k, v in rest.get("/cluster/options").items() if k != "digest"},
                "ha": [rest.get(f"/cluster/ha/{what}") for what in ("resources", "rules", "groups", "fencing")]}

    def refused(self, status, method, path, params=None, names=(), says=None):
        with self.assertRaises(ApiError) as caught:
            self.env.rest.call(method, path, params)
        error = caught.exception
        self.assertEqual(error.status, status, str(error))
        self.assertTrue(error.message, "no message")
        for name in names:
            self.assertIn(name, error.errors, str(error))
            self.assertTrue(error.errors[name])
        if says:
            self.assertRegex(str(error), says)
        return error

    def raw(self, method, path, body=b"", headers=None):
        status, reason, _, data = self.env.rest.raw(method, path, body, headers)
        return status, reason, data

    # --- parameters ---

    def test_unknown_parameter(self):
        self.refused(400, "POST", self.env.path("qemu"), {"vmid": 200, "colour": "red"}, ["colour"])

    def test_duplicate_parameter(self):
        status, _, data = self.raw("POST", self.env.path("qemu"), "vmid=200&vmid=201", FORM)
        self.assertEqual(status, 400)
        self.assertIn("vmid", json.loads(data)["errors"])

    def test_body_parameter_that_contradicts_the_path(self):
        status, reason, data = self.raw("PUT", self.env.path("lxc", 101, "config"), "vmid=102&cores=1", FORM)
        self.assertEqual(status, 400)
        self.assertIn("duplicate parameter", reason + data.decode())

    def test_wrong_types(self):
        self.refused(400, "POST", self.env.path("qemu"), {"vmid": "many", "cores": "two", "onboot": "perhaps"},
                     ["vmid", "cores", "onboot"])

    def test_out_of_range_names_every_parameter(self):
        self.refused(400, "POST", self.env.path("qemu"), {"vmid": 5, "memory": 8, "cores": 0}, ["vmid", "memory", "cores"])

    def test_malformed_property_strings(self):
        for name, value in (("net0", "virtio,bridge=vmbr0,tag=5000"), ("net0", "nonsense=1"), ("net0", ",,="),
                            ("virtio0", "local:32,discard=perhaps"), ("agent", "enabled=2x"),
                            ("ipconfig0", "ip=10.0.0.999/24")):
            error = self.refused(400, "POST", self.env.path("qemu"), {"vmid": 200, name: value})
            self.assertTrue(any(key.startswith(name) for key in error.errors), f"{name}={value}: {error.errors}")

    def test_malformed_json(self):
        for body in (b"{", b"[1,2]", b'{"vmid":200,}', b'{"vmid":{"a":1}}', b'"text"', b"\xff\xfe", b'{"vmid":200,"vmid":201}',
                     b"[" * 5000):
            status, _, data = self.raw("POST", self.env.path("qemu"), body, JSON)
            self.assertEqual(status, 400, body[:40])
            self.assertTrue(json.loads(data)["message"])

    def test_wrong_content_type(self):
        self.assertEqual(self.raw("POST", self.env.path("qemu"), b"vmid=200", {"Content-Type": "text/xml"})[0], 506)

    def test_unknown_path_and_method(self):
        self.assertEqual(self.raw("GET", "/nodes/none/such/thing")[0], 501)
        self.assertEqual(self.raw("POST", "/version", b"", FORM)[0], 501)

    # --- bodies ---

    def test_oversized_body(self):
        status, _, _ = self.raw("POST", self.env.path("qemu"), b"description=" + b"a" * (600 << 10), FORM)
        self.assertEqual(status, 501)

    def test_chunked_body(self):
        link = self.env.rest.connect()
        try:
            link.putrequest("POST", "/api2/json" + self.env.path("qemu"))
            for key, value in {**self.env.rest.headers("POST"), **FORM, "Transfer-Encoding": "chunked"}.items():
                link.putheader(key, value)
            link.endheaders()
            try:
                link.send(b"8\r\nvmid=200\r\n0\r\n\r\n")
            except OSError:
                pass  # the gateway may close before it reads the body
            self.assertEqual(link.getresponse().status, 501)
        finally:
            link.close()

    def test_malformed_multipart(self):
        path = self.env.path("storage", "local", "upload")
        kind = {"Content-Type": "multipart/form-data; boundary=xyz"}
        for body in (b"", b"--xyz", b"--xyz\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso",
                     b"--abc\r\n\r\n--abc--\r\n",
                     b"--xyz\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n--xyz--\r\n"):
            status, _, _ = self.raw("POST", path, body, kind)
            self.assertIn(status, (400, 501), body)

    # --- volumes and uploads ---

    def test_path_traversal_in_volume_ids(self):
        base = self.env.path("storage", "local", "content") + "/"
        for volume in ("local:iso/../../tree.db", "local:../../etc/passwd", "local:/etc/passwd", "local:iso/..",
                       "local:iso/a\0.iso", "local:100/../101/x.raw"):
            with self.assertRaises(ApiError) as caught:
                self.env.rest.get(base + urllib.parse.quote(volume, safe=""))
            self.assertIn(caught.exception.status, (400, 500, 501), repr(volume))  # 501: no such path at all
            with self.assertRaises(ApiError):
                self.env.rest.delete(base + urllib.parse.quote(volume, safe=""))
            with self.assertRaises(ApiError) as caught:
                self.env.rest.post(self.env.path("qemu"), vmid=200, virtio0=f"{volume}")
            self.assertIn(caught.exception.status, (400, 500), volume)

    def test_path_traversal_in_uploads(self):
        source = os.path.join(self.env.folder, "small.iso")
        with open(source, "wb") as out:
            out.write(b"x" * 2048)
        for name in ("../../etc/cron.d/x.iso", "..", "/etc/x.iso", "a/b.iso", "x.iso\\..\\y", ".iso", "x.exe"):
            with self.assertRaises((ApiError, TaskError), msg=name) as caught:
                self.env.rest.wait(self.env.rest.upload(self.env.name, "local", "iso", source, name=name))
            if isinstance(caught.exception, ApiError):
                self.assertIn(caught.exception.status, (400, 500), name)
        self.assertFalse(os.path.exists("/etc/cron.d/x.iso"))

    def test_upload_that_breaks_off_leaves_nothing(self):
        link = self.env.rest.connect()
        link.putrequest("POST", "/api2/json" + self.env.path("storage", "local", "upload"))
        head = (b"--b\r\nContent-Disposition: form-data; name=\"content\"\r\n\r\niso\r\n--b\r\nContent-Disposition: "
                b"form-data; name=\"filename\"; filename=\"half.iso\"\r\n\r\n")
        for key, value in {**self.env.rest.headers("POST"), "Content-Type": "multipart/form-data; boundary=b",
                           "Content-Length": str(50 << 20)}.items():
            link.putheader(key, value)
        link.endheaders()
        link.send(head + b"z" * (2 << 20))
        time.sleep(0.5)
        link.close()
        end = time.monotonic() + 10
        while self.everything() != self.before and time.monotonic() < end:
            time.sleep(0.1)

    def test_upload_of_wrong_content_or_checksum(self):
        source = os.path.join(self.env.folder, "sum.iso")
        with open(source, "wb") as out:
            out.write(b"y" * 4096)
        with self.assertRaises(ApiError) as caught:
            self.env.rest.upload(self.env.name, "local", "wrong", source)
        self.assertEqual(caught.exception.status, 400)

    # --- guests ---

    def test_guest_id_in_use(self):
        for kind, params in (("lxc", {"ostemplate": "local:vztmpl/" + os.path.basename(guests.TEMPLATE)}), ("qemu", {})):
            with self.assertRaises((ApiError, TaskError)) as caught:
                self.env.rest.wait(self.env.rest.post(self.env.path(kind), vmid=101, **params))
            self.assertRegex(str(caught.exception), "101 already exists")

    def failing_creation(self, kind, says, **params):
        with self.assertRaises((ApiError, TaskError)) as caught:
            self.env.rest.wait(self.env.rest.post(self.env.path(kind), vmid=200, **params))
        self.assertRegex(str(caught.exception), says)
        self.assertNotIn("still runs", str(caught.exception))

    def test_missing_storage(self):
        self.failing_creation("qemu", "nowhere", virtio0="nowhere:1")
        self.failing_creation("lxc", "nowhere", ostemplate="local:vztmpl/" + os.path.basename(guests.TEMPLATE),
                              rootfs="nowhere:1")

    def test_missing_template_and_image(self):
        self.failing_creation("lxc", "none.tar.gz", ostemplate="local:vztmpl/none.tar.gz", rootfs="local:1")
        self.failing_creation("qemu", "none.qcow2", virtio0="local:0,import-from=local:import/none.qcow2")

    def test_missing_bridge_fails_the_start_and_names_it(self):
        env = self.env
        env.make_ct(201, start=False, net0="name=eth0,bridge=vmbr77,ip=dhcp")
        try:
            with self.assertRaises((ApiError, TaskError)) as caught:
                env.rest.wait(env.rest.post(env.path("lxc", 201, "status", "start")))
            self.assertIn("vmbr77", str(caught.exception))
            self.assertEqual(env.rest.get(env.path("lxc", 201, "status", "current"))["status"], "stopped")
        finally:
            env.rest.wait(env.rest.delete(env.path("lxc", 201)))

    def test_creation_without_space_leaves_nothing(self):
        """A storage on a file system that is too small for the image."""
        env = self.env
        small = os.path.join(env.node.state_dir, "small")
        os.makedirs(small, exist_ok=True)
        env.run("mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", small)
        env.rest.post("/storage", storage="small", type="dir", path=small, content="images,rootdir")
        try:
            self.failing_creation("qemu", "(?i)space|room|no[t]? enough|full",
                                  virtio0="small:0,import-from=local:import/" + os.path.basename(guests.DISK))
            left = env.run("find", small, "-type", "f").stdout.split()
            self.assertEqual(left, [])
            self.failing_creation("qemu", "(?i)nowhere", virtio0="local:1", virtio1="nowhere:1")
        finally:
            env.rest.delete("/storage/small")
            env.run("umount", "-l", small)

    def test_absent_guest(self):
        self.refused(500, "GET", self.env.path("qemu", 999, "config"), says="999.conf' does not exist")
        self.refused(500, "POST", self.env.path("lxc", 999, "status", "start"), says="does not exist")

    # --- options of the cluster ---

    def test_cluster_options(self):
        where = "/cluster/options"
        self.refused(400, "PUT", where, {"keyboard": "xx", "language": "klingon", "max_workers": 0, "mac_prefix": "01:00:00",
                                         "console": "tty", "colour": "red", "http_proxy": "ftp://x", "email_from": "nobody",
                                         "description": "x" * 70000},
                     ["keyboard", "language", "max_workers", "mac_prefix", "console", "colour", "http_proxy", "email_from",
                      "description"])
        for name, value in (("ha", "shutdown_policy=explode"), ("ha", "tick=5"), ("crs", "ha=magic"), ("bwlimit", "default=x"),
                            ("next-id", "lower=5"), ("next-id", "lower=300,upper=200"), ("tag-style", "shape=square"),
                            ("tag-style", "color-map=a:red"), ("notify", "fencing=perhaps"), ("migration", "secure,network=x")):
            error = self.refused(400, "PUT", where, {name: value})
            self.assertTrue(any(key.startswith(name) for key in error.errors), f"{name}={value}: {error.errors}")
        for name, value in (("fencing", "hardware"), ("migration", "insecure"), ("migration", "secure,network=10.0.0.0/8"),
                            ("bwlimit", "clone=5"), ("registered-tags", "a;b"), ("user-tag-access", "user-allow=none"),
                            ("webauthn", "rp=x"), ("u2f", "appid=x"), ("replication", "insecure"), ("migration_unsecure", 1),
                            ("crs", "ha-auto-rebalance=1,ha-auto-rebalance-method=topsis")):
            self.refused(501, "PUT", where, {name: value}, says=name)
        self.refused(400, "PUT", where, {"delete": "colour"}, ["delete"])
        self.refused(500, "PUT", where, {"language": "de", "digest": "0" * 40}, says="changed|digest")

    def test_cluster_options_that_are_kept(self):
        rest, where = self.env.rest, "/cluster/options"
        given = {"keyboard": "de", "next-id": "lower=700,upper=800", "mac_prefix": "A2:4E", "description": "two\nlines",
                 "ha": "shutdown_policy=migrate", "bwlimit": "default=100,migration=0", "migration": "secure", "max_workers": 3}
        rest.put(where, **given)
        try:
            shown = rest.get(where)
            self.assertEqual({key: shown[key] for key in given}, given | {"description": shown["description"]})
            self.assertEqual(shown["description"].strip(), given["description"])
            self.assertEqual(shown["allowed-tags"], [])
            self.assertEqual(int(rest.get("/cluster/nextid")), 700)
            rest.put(self.env.path("lxc", 101, "config"), net1="name=eth1,bridge=vmbr0")
            self.assertIn("hwaddr=A2:4E:", rest.get(self.env.path("lxc", 101, "config"))["net1"])
            rest.put(where, delete="keyboard", language="de")
            self.assertEqual((rest.get(where)["language"], "keyboard" in rest.get(where)), ("de", False))
        finally:
            rest.put(self.env.path("lxc", 101, "config"), delete="net1")
            rest.put(where, delete="keyboard,language,next-id,mac_prefix,description,ha,bwlimit,migration,max_workers")
        self.assertEqual(sorted(rest.get(where)), ["allowed-tags", "digest"])

    # --- high availability ---

    def test_ha_resources(self):
        where = "/cluster/ha/resources"
        for sid in ("vm", "vm:", "vm:x", "lxc:101", "vm:99", "../101", "", "ct:101:1"):
            self.refused(400, "POST", where, {"sid": sid}, ["sid"])
        self.refused(400, "POST", where, {"sid": "vm:101"}, ["sid"], "its resource is ct:101")
        self.refused(500, "POST", where, {"sid": "vm:999"}, says="there is no guest 999")
        self.refused(400, "POST", where, {"sid": "ct:101", "state": "frozen", "max_restart": -1, "failback": "perhaps",
                                          "colour": "red", "comment": "x" * 5000},
                     ["state", "max_restart", "failback", "colour", "comment"])
        self.refused(400, "POST", where, {"sid": "ct:101", "type": "vm"}, ["type"])
        self.refused(500, "POST", where, {"sid": "ct:101", "group": "nowhere"}, says="no such group 'nowhere'")
        for method, path, params in (("GET", "", None), ("PUT", "", {"state": "stopped"}), ("DELETE", "", None),
                                     ("POST", "/migrate", {"node": self.env.node.name}), ("POST", "/stop", {"timeout": 1}),
                                     ("POST", "/relocate", {"node": self.env.node.name}), ("GET", "/why", None)):
            self.refused(500, method, f"{where}/ct:101{path}", params, says="no such resource 'ct:101'")
        self.refused(400, "POST", f"{where}/ct:101/migrate", None, ["node"])
        self.refused(400, "POST", f"{where}/ct:101/stop", {"timeout": "soon"}, ["timeout"])

    def test_ha_resource_that_is_there(self):
        where = "/cluster/ha/resources"
        self.env.rest.post(where, sid="ct:101", state="disabled")
        try:
            self.refused(500, "POST", where, {"sid": "101"}, says="already defined")
            self.refused(400, "PUT", f"{where}/ct:101", {"delete": "colour"}, ["delete"])
            self.refused(400, "PUT", f"{where}/ct:101", {"delete": "sid"}, ["delete"])
            self.refused(500, "PUT", f"{where}/ct:101", {"state": "stopped", "digest": "0" * 40}, says="changed|digest")
            self.refused(400, "POST", f"{where}/ct:101/migrate", {"node": "nowhere"}, ["node"])
            self.refused(500, "DELETE", self.env.path("lxc", 101), says="used in HA resources")
            self.assertEqual(self.env.rest.get(f"{where}/ct:101")["state"], "disabled")
        finally:
            self.env.rest.delete(f"{where}/ct:101")

    def test_ha_managed_from_creation_to_purge(self):
        rest, path = self.env.rest, self.env.path
        self.env.make_ct(102, start=False, **{"ha-managed": 1})
        self.assertEqual(rest.get("/cluster/ha/resources/ct:102")["state"], "stopped")
        self.assertEqual(rest.get(path("lxc", 102, "status", "current"))["ha"], {"managed": 1, "state": "stopped"})
        wait_for("the state in the list of all", 20, lambda: {r["vmid"]: r.get("hastate") for r in rest.get(
            "/cluster/resources", type="vm")} == {101: None, 102: "stopped"})
        rest.post("/cluster/ha/rules", rule="one", type="node-affinity", resources="ct:102", nodes=self.env.node.name)
        self.refused(500, "DELETE", path("lxc", 102), says="used in HA resources")
        rest.wait(rest.call("DELETE", path("lxc", 102), {"purge": 1}))
        rest.wait(rest.post(path("qemu"), vmid=103, **{"ha-managed": 1}))
        self.assertEqual(rest.get("/cluster/ha/resources/vm:103")["state"], "stopped")
        rest.wait(rest.call("DELETE", path("qemu", 103), {"purge": 1}))
        rest.wait(rest.post(path("qemu"), vmid=103))
        rest.wait(rest.call("DELETE", path("qemu", 103), {"purge": 1}))

    def test_ha_managed_needs_its_right(self):
        rest, path = self.env.rest, self.env.path
        rest.post("/access/users", userid="maker@pve", password="maker-maker")
        rest.put("/access/acl", path="/", users="maker@pve", roles="PVEVMAdmin,PVEDatastoreAdmin")
        try:
            maker = self.as_user()
            maker.login("maker@pve", "maker-maker")
            with self.assertRaises(ApiError) as caught:
                maker.post(path("qemu"), vmid=104, **{"ha-managed": 1})
            self.assertEqual(caught.exception.status, 403, str(caught.exception))
            self.assertIn("Sys.Console", str(caught.exception))
        finally:
            rest.delete("/access/users/maker@pve")

    def test_ha_rules_and_groups(self):
        rules, groups = "/cluster/ha/rules", "/cluster/ha/groups"
        self.refused(400, "POST", rules, {"rule": "1st", "type": "magic", "resources": "101"}, ["rule", "type"])
        self.refused(400, "POST", rules, {"rule": "one", "type": "node-affinity", "resources": "ct:101"}, ["nodes"])
        self.refused(400, "POST", rules, {"rule": "one", "type": "resource-affinity", "resources": "ct:101", "strict": 1},
                     ["affinity", "strict"])
        self.refused(400, "POST", rules, {"rule": "one", "type": "node-affinity", "resources": "ct:101", "nodes": "a:x,,"},
                     ["nodes"])
        self.refused(400, "POST", rules, {"rule": "one", "type": "node-affinity", "resources": "vm:101", "nodes": "n1"},
                     ["resources"], "its resource is ct:101")
        for method, params in (("GET", None), ("PUT", {"type": "node-affinity", "comment": "x"}), ("DELETE", None)):
            self.refused(500, method, f"{rules}/none", params, says="no such rule 'none'")
        self.refused(400, "POST", groups, {"group": "9", "nodes": "n1:-1"}, ["group", "nodes"])
        for method, params in (("GET", None), ("PUT", {"comment": "x"}), ("DELETE", None)):
            self.refused(500, method, f"{groups}/none", params, says="no such group 'none'")

    def test_ha_rule_that_is_there(self):
        rest, rules, node = self.env.rest, "/cluster/ha/rules", self.env.node.name
        good = {"rule": "one", "type": "node-affinity", "resources": "ct:101", "nodes": node}
        rest.post("/cluster/ha/resources", sid="ct:101", state="disabled")
        try:
            rest.post(rules, **good)
            self.refused(500, "POST", rules, good, says="already defined")
            self.refused(400, "PUT", f"{rules}/one", {"type": "resource-affinity"}, ["type"])
            self.refused(400, "PUT", f"{rules}/one", {"type": "node-affinity", "delete": "resources"}, ["delete"])
            self.assertEqual(rest.get(f"{rules}/one")["nodes"], node)
        finally:
            rest.delete("/cluster/ha/resources/ct:101")  # and the rule that was about nothing else

    def test_ha_nodes_and_the_rest(self):
        self.refused(400, "POST", "/cluster/ha/nodes/nowhere/maintenance", None, ["node"])
        self.refused(400, "DELETE", "/cluster/ha/nodes/no_node/maintenance", None, ["node"])
        self.refused(400, "GET", "/cluster/ha/simulate", {"fail": "nowhere"}, ["fail"])
        self.refused(400, "POST", "/cluster/ha/status/disarm-ha", {"resource-mode": "explode"}, ["resource-mode"])

    def test_ha_fencing(self):
        where = f"/cluster/ha/fencing/{self.env.node.name}"
        good = {"agent": "fence_nothing", "options": "ip=127.0.0.1,plug=1"}
        for agent in ("rm", "fence_", "fence_../sh", "fence_a b", "/usr/sbin/fence_dummy"):
            self.refused(400, "PUT", where, {**good, "agent": agent}, ["agent"])
        for options in ("ip", "ip=1,ip=2", "action=on", "password=hidden", "ipmitool_path=/bin/sh", "passwd_script=/bin/sh"):
            error = self.refused(400, "PUT", where, {**good, "options": options}, ["options"])
            self.assertNotIn("hidden", str(error))
        self.refused(400, "PUT", where, {"options": "ip=127.0.0.1"}, ["agent"])
        error = self.refused(400, "PUT", where, {**good, "password": "hidden\naction=on"}, ["password"])
        self.assertNotIn("hidden", str(error))
        self.refused(400, "PUT", "/cluster/ha/fencing/nowhere", good, ["node"])
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/power")):
            self.refused(500, method, where + path, None, says="fence device")

    def test_ha_fencing_that_is_there(self):
        where, rest = f"/cluster/ha/fencing/{self.env.node.name}", self.env.rest
        rest.put(where, agent="fence_nothing", options="ip=127.0.0.1", password="hidden-word")
        try:
            shown = rest.get(where)
            self.assertEqual((shown["agent"], shown["options"]), ("fence_nothing", "ip=127.0.0.1"))
            self.assertNotIn("hidden-word", json.dumps([shown, rest.get("/cluster/ha/fencing")]))
            error = self.refused(500, "GET", where + "/power", None, says="fence_nothing")
            self.assertNotIn("hidden-word", str(error))
            self.refused(400, "PUT", where, {"delete": "agent"}, ["delete"])
            self.refused(400, "PUT", where, {"delete": "password", "password": "other"}, ["delete"])
            self.refused(500, "PUT", where, {"disable": 1, "digest": "0" * 40}, says="changed|digest")
            rest.put(where, delete="password,options", disable=1)
            self.assertEqual(sorted(rest.get(where)), ["agent", "digest", "disable", "node", "type"])
        finally:
            rest.delete(where)

    # --- who is calling ---

    def as_user(self, **what):
        rest = Rest(self.env.node.url, self.env.ca, timeout=30)
        for key, value in what.items():
            setattr(rest, key, value)
        return rest

    def status_of(self, rest, method, path, params=None):
        with self.assertRaises(ApiError) as caught:
            rest.call(method, path, params)
        return caught.exception.status

    def test_without_and_with_forged_credentials(self):
        self.assertEqual(self.status_of(self.as_user(), "GET", "/version"), 401)
        good = self.as_user()
        good.login(ADMIN, self.env.password)
        parts = good.ticket.split("::")
        forged = parts[0] + "::" + parts[1][:-8] + ("A" * 8)
        self.assertEqual(self.status_of(self.as_user(ticket=forged, csrf=good.csrf), "GET", "/version"), 401)
        other = good.ticket.replace(ADMIN, "root@pam")
        self.assertEqual(self.status_of(self.as_user(ticket=other, csrf=good.csrf), "GET", "/version"), 401)
        fields = parts[0].split(":")
        fields[2] = f"{int(time.time()) - 8000:08X}"
        expired = ":".join(fields) + "::" + parts[1]
        self.assertEqual(self.status_of(self.as_user(ticket=expired, csrf=good.csrf), "GET", "/version"), 401)

    def test_wrong_password(self):
        self.assertEqual(self.status_of(self.as_user(), "POST", "/access/ticket",
                                        {"username": ADMIN, "password": "wrong-wrong"}), 401)

    def test_missing_csrf_token(self):
        good = self.as_user()
        good.login(ADMIN, self.env.password)
        good.csrf = ""
        self.assertEqual(self.status_of(good, "POST", "/access/users", {"userid": "nobody@pve"}), 401)
        self.assertEqual(good.get("/version")["release"] is not None, True)

    def test_wrong_token(self):
        wrong = self.env.token[:-4] + "0000"
        self.assertEqual(self.status_of(self.as_user(token=wrong), "GET", "/version"), 401)

    def test_token_without_privileges(self):
        value = self.env.rest.post(f"/access/users/{ADMIN}/token/bare", privsep=1)["value"]
        try:
            bare = self.as_user(token=f"{ADMIN}!bare={value}")
            self.assertEqual(self.status_of(bare, "POST", self.env.path("lxc", 101, "status", "start")), 403)
            self.assertEqual(self.status_of(bare, "GET", self.env.path("status")), 403)
            self.assertEqual(bare.get("/cluster/resources", type="vm"), [])
        finally:
            self.env.rest.delete(f"/access/users/{ADMIN}/token/bare")

    # --- the connection itself ---

    def test_headers_that_never_end(self):
        link = http.client.HTTPSConnection(self.env.rest.host, self.env.rest.port, context=self.env.rest.context, timeout=30)
        try:
            link.putrequest("GET", "/api2/json/version")
            for number in range(200):
                link.putheader(f"X-Filler-{number}", "a" * 100)
            link.endheaders()
            self.assertGreaterEqual(link.getresponse().status, 400)
        except OSError:
            pass  # closing the connection is an answer too
        finally:
            link.close()

    def test_not_tls(self):
        done = subprocess.run(["curl", "-s", "-m", "10", f"http://{self.env.rest.host}:{self.env.rest.port}/"],
                              capture_output=True, check=False)
        self.assertNotEqual(done.returncode, 28, "plain HTTP hangs")


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
