#!/usr/bin/env python3
"""Every scenario of high availability: what it expects holds, and its log is as recorded.

ATL_REWRITE=1 records the logs anew; read the diff before you commit it. One alone: test_scenarios.py Scenarios.test_NAME.
"""
import os
import subprocess
import unittest

HERE = os.path.dirname(os.path.realpath(__file__))
PROGRAM = os.path.join(os.environ.get("ATL_BIN", "build/dev/bin"), "atoll-simulate")


class Scenarios(unittest.TestCase):
    maxDiff = 4000

    def check(self, name):
        folder = os.path.join(HERE, "scenarios", name)
        run = subprocess.run([PROGRAM, os.path.join(folder, "scenario")], capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, f"{run.stderr}\n{run.stdout}")
        expected = os.path.join(folder, "expected")
        if os.environ.get("ATL_REWRITE"):
            with open(expected, "w", encoding="utf-8") as out:
                out.write(run.stdout)
        with open(expected, encoding="utf-8") as text:
            self.assertEqual(text.read(), run.stdout)


def add(name):
    setattr(Scenarios, "test_" + name.replace("-", "_"), lambda self: self.check(name))


for scenario in sorted(os.listdir(os.path.join(HERE, "scenarios"))):
    add(scenario)

if __name__ == "__main__":
    unittest.main(verbosity=0)
