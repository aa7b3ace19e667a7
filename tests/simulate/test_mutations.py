#!/usr/bin/env python3
"""Mutations of the cores of high availability are noticed: three by chance, all of them with ATL_FULL=1.

Which ones is printed: ATL_SEED=N repeats it.
"""
import os
import subprocess
import time
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))
SEED = os.environ.get("ATL_SEED") or str(int(time.time()) % 1000000)


class Mutations(unittest.TestCase):
    def test_each_is_noticed(self):
        some = [] if os.environ.get("ATL_FULL") == "1" else ["--count", "3", "--seed", SEED]
        run = subprocess.run([os.path.join(TOP, "tools", "mutate-ha"), "--build", BUILD, *some], capture_output=True,
                             text=True, check=False)
        print(run.stdout)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=0)
