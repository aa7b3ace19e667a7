#!/usr/bin/python3
"""Runs the quickstart as a new user does, then the command blocks (```sh) of our documents against that node."""
import os
import re
import subprocess
import sys
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
QUICKSTART = os.path.join(TOP, "deploy", "quickstart")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)


def blocks(document):
    with open(os.path.join(TOP, document), encoding="utf-8") as text:
        return BLOCK.findall(text.read())


def run_blocks(document):
    """All blocks of a document in one shell, as a reader would type them; stops at the first that fails."""
    script = "set -e\n" + "\n".join(blocks(document))
    return subprocess.run(["bash", "-c", script], cwd=TOP, capture_output=True, text=True, timeout=600, check=False)


class Documents(unittest.TestCase):
    started = False

    @classmethod
    def setUpClass(cls):
        if os.geteuid() != 0:
            print("needs root: the quickstart starts guests")
            sys.exit(77)
        if subprocess.run([QUICKSTART, "--status"], capture_output=True, check=False).returncode == 0:
            return  # somebody's node: use it, and leave it
        cls.started = True
        done = subprocess.run([QUICKSTART, "--netns", "--accel", "tcg"], capture_output=True, text=True, timeout=1500,
                              check=False)
        if done.returncode != 0:
            subprocess.run([QUICKSTART, "--down"], capture_output=True, check=False)
            raise AssertionError(f"the quickstart failed:\n{done.stdout}{done.stderr}")
        print(done.stdout)

    @classmethod
    def tearDownClass(cls):
        if cls.started:
            subprocess.run([QUICKSTART, "--down", "--purge"], capture_output=True, check=True)

    def look_at(self, document):
        self.assertGreater(len(blocks(document)), 0, f"{document} has no command block")
        done = run_blocks(document)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:] + done.stderr[-3000:])
        return done.stdout

    def test_readme(self):
        text = self.look_at("README.md")
        self.assertIn("demo-vm", text)
        self.assertIn("qemu/100", text)

    def test_hacking(self):
        self.look_at("HACKING.md")

    def test_readmes_of_services(self):
        for service in sorted(os.listdir(os.path.join(TOP, "services"))):
            document = os.path.join("services", service, "README.md")
            if os.path.exists(os.path.join(TOP, document)) and blocks(document):
                with self.subTest(document):
                    self.look_at(document)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
