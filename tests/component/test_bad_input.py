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
                "config": rest.get(env.path("lxc", 101, "config"))}

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
