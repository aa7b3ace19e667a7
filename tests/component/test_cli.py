#!/usr/bin/python3
"""The command line against a node: as root at the machine and with --host and a token."""
import json
import os
import subprocess
import unittest

from node_env import BUILD, Env


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        cls.addClassCleanup(cls.env.stop)
        store = os.path.join(cls.env.node.state_dir, "cli-store")
        cls.env.rest.post("/storage", storage="local", type="dir", path=store, content="iso,vztmpl,images,snippets")
        cls.image = os.path.join(cls.env.folder, "tiny.iso")
        with open(cls.image, "wb") as out:
            out.write(os.urandom(3 << 20))

    def atoll(self, *words, remote=False, token=None, code=0):
        """(stdout, stderr) of a command that must end with this exit code."""
        command = [os.path.join(BUILD, "bin", "atoll"), *words]
        environment = dict(os.environ)
        if remote:
            environment.update(ATOLL_TOKEN=token or self.env.token, ATOLL_CACERT=self.env.ca)
            command += ["--host", self.env.node.url]
        else:
            command += ["--run-dir", self.env.node.run_dir]
        done = subprocess.run(self.env.node.enter(*command), capture_output=True, text=True, timeout=60, check=False,
                              env=environment)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def names(self):
        return [v["volid"] for v in self.env.rest.get(self.env.path("storage", "local", "content"))]

    def upload(self, name, **options):
        path = os.path.join(self.env.folder, name)
        os.link(self.image, path)
        self.addCleanup(os.unlink, path)
        self.atoll("storage", "upload", "local", "--content", "iso", "--filename", path, **options)
        self.assertIn(f"local:iso/{name}", self.names())
        stored = os.path.join(self.env.node.state_dir, "cli-store", "template", "iso", name)
        same = self.env.run("cmp", stored, self.image, check=False)
        self.assertEqual(same.returncode, 0, same.stdout + same.stderr)

    def test_upload_at_the_machine(self):
        self.upload("local.iso")

    def test_upload_through_rest(self):
        self.upload("remote.iso", remote=True)

    def test_upload_that_cannot_be(self):
        for remote in (False, True):
            with self.subTest(remote=remote):
                _, errors = self.atoll("storage", "upload", "local", "--content", "iso", "--filename",
                                       "/nowhere/x.iso", remote=remote, code=2)
                self.assertIn("/nowhere/x.iso", errors)
                _, errors = self.atoll("storage", "upload", "nostore", "--content", "iso", "--filename", self.image,
                                       remote=remote, code=5)
                self.assertIn("nostore", errors)
                _, errors = self.atoll("storage", "upload", "local", "--content", "iso", "--filename", self.image,
                                       "--checksum", "0" * 32, "--checksum-algorithm", "md5", remote=remote, code=1)
                self.assertIn("checksum", errors)
        self.assertNotIn("local:iso/tiny.iso", self.names())

    def test_both_ways_answer_alike(self):
        for words in (("cluster", "resources"), ("storage", "list"), ("api", "get", "/version"), ("pool", "list"),
                      ("api", "get", f"/nodes/{self.env.name}/storage/local/status")):
            with self.subTest(words=words):
                here = json.loads(self.atoll(*words, "--output", "json")[0])
                there = json.loads(self.atoll(*words, "--output", "json", remote=True)[0])
                if isinstance(here, list):
                    self.assertEqual([sorted(r) for r in here], [sorted(r) for r in there])
                else:
                    self.assertEqual(sorted(here), sorted(there))

    def test_long_work_is_followed_with_its_log(self):
        for remote in (False, True):
            with self.subTest(remote=remote):
                log, _ = self.atoll("qemu", "create", "--vmid", "300", "--memory", "64", "--virtio0", "local:1",
                                    remote=remote)
                self.assertNotEqual(log.strip(), "")
                upid, _ = self.atoll("qemu", "delete", "300", "--no-follow", "--output", "json", remote=remote)
                self.env.rest.wait(json.loads(upid))

    def test_exit_codes(self):
        self.env.rest.post("/access/users", userid="weak@pve")
        self.addCleanup(self.env.rest.delete, "/access/users/weak@pve")
        value = self.env.rest.post("/access/users/weak@pve/token/few", privsep=0)["value"]
        self.atoll("qemu", "no-such-verb", "999", code=2)
        self.atoll("qemu", "config", "999", code=5)
        output, errors = self.atoll("qemu", "list", "--node", "elsewhere", code=5)
        self.assertEqual(output, "")
        self.assertIn("there is no node 'elsewhere'", errors)
        self.atoll("qemu", "create", "--vmid", "5", code=2)
        self.atoll("qemu", "create", "--vmid", "301", "--hookscript", "local:snippets/x", code=2)
        self.atoll("api", "create", "/pools", "--poolid", "p", remote=True, token=f"weak@pve!few={value}", code=4)
        _, errors = self.atoll("api", "get", "/version", "--host", "127.0.0.1:1", remote=False, code=4)
        self.assertIn("token", errors)

    def test_a_machine_without_services(self):
        empty = os.path.join(self.env.folder, "empty")
        os.makedirs(empty, exist_ok=True)
        done = subprocess.run([os.path.join(BUILD, "bin", "atoll"), "cluster", "resources", "--run-dir", empty],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertIn("config-store", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
