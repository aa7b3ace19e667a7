#!/usr/bin/python3
"""The helper that asks PAM, with the machine's own PAM and users in an /etc of the test's own."""
import os
import shutil
import subprocess
import sys
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))
from supervisor import HELPERS  # noqa: E402

INSIDE = "ATL_TEST_INSIDE"
RIGHT, WRONG, FAILED, REFUSED = 0, 1, 2, 4
USER = "atl-anna"
# As config-store of a node starts it: no root, and at most the capabilities that a node leaves it.
AS_A_SERVICE = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all",
                f"--bounding-set=-all,{HELPERS['config-store']}")


def own_etc():
    """Runs this program again where /etc is a copy and /mnt is empty, both gone when it ends."""
    if os.geteuid() != 0:
        print("needs root: namespaces, users")
        sys.exit(77)
    setup = ("mount --make-rprivate / && mount -t tmpfs tmpfs /mnt && cp -a /etc /mnt/etc && mount --bind /mnt/etc /etc && "
             "exec \"$@\"")
    os.execvpe("unshare", ["unshare", "--mount", "sh", "-c", setup, "sh", sys.executable, os.path.realpath(__file__)],
               {**os.environ, INSIDE: "1"})


def run(*command, text=""):
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=60)


class Pam(unittest.TestCase):
    def setUp(self):
        self.helper = "/mnt/atoll-pam-helper"
        shutil.copy(os.path.join(BUILD, "bin", "atoll-pam-helper"), self.helper)
        os.chmod(self.helper, 0o4755)
        run("userdel", USER)
        self.assertEqual(run("useradd", "--no-create-home", USER).returncode, 0)
        self.assertEqual(run("chpasswd", text=f"{USER}:first horse 1\n").returncode, 0)

    def check(self, password):
        return run(*AS_A_SERVICE, self.helper, USER, text=password).returncode

    def change(self, current, wanted, *before):
        return run(*before, self.helper, "--change", USER, text=f"{current}\0{wanted}").returncode

    def test_a_password_is_checked(self):
        self.assertEqual(self.check("first horse 1"), RIGHT)
        self.assertEqual(self.check("first horse 2"), WRONG)
        self.assertEqual(self.check(""), WRONG)

    def test_a_password_is_changed_by_who_knows_it(self):
        for before in (AS_A_SERVICE, ()):
            with self.subTest(root=not before):
                self.setUp()
                self.assertEqual(self.change("no idea", "second horse 2", *before), WRONG)
                self.assertEqual(self.check("first horse 1"), RIGHT)
                self.assertEqual(self.change("first horse 1", "second horse 2", *before), RIGHT)
                self.assertEqual(self.check("first horse 1"), WRONG)
                self.assertEqual(self.check("second horse 2"), RIGHT)

    def test_a_password_that_the_rules_refuse_changes_nothing(self):
        self.assertEqual(self.change("first horse 1", "x", *AS_A_SERVICE), REFUSED)
        self.assertEqual(self.check("first horse 1"), RIGHT)

    def test_bad_input_changes_nothing(self):
        for text in ("", "first horse 1", "first horse 1\0", "first horse 1\0a second one\0more", "x" * 600):
            with self.subTest(text=text):
                self.assertEqual(run(self.helper, "--change", USER, text=text).returncode, FAILED)
        self.assertEqual(run(self.helper, "--change", text="first horse 1").returncode, FAILED)
        self.assertEqual(self.check("first horse 1"), RIGHT)


if __name__ == "__main__":
    if INSIDE not in os.environ:
        own_etc()
    unittest.main(verbosity=2)
