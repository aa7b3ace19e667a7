#!/usr/bin/env python3
"""Clusters under faults by chance: the invariants hold, and there were faults enough to mean something.

The first seed is another one in each run, and printed: ATL_SEED=N repeats it. ATL_SEEDS and ATL_STEPS: how many, how long.
"""
import os
import subprocess
import tempfile
import time
import unittest

PROGRAM = os.path.join(os.environ.get("ATL_BIN", "build/dev/bin"), "atoll-simulate")
FULL = os.environ.get("ATL_FULL") == "1"
SEED = int(os.environ.get("ATL_SEED", "0")) or int(time.time()) % 1000000 * 100000
SEEDS = os.environ.get("ATL_SEEDS", "4000" if FULL else "1000")
STEPS = os.environ.get("ATL_STEPS", "10000" if FULL else "4000")


class Random(unittest.TestCase):
    def test_nothing_breaks(self):
        with tempfile.TemporaryDirectory() as folder:
            run = subprocess.run([os.path.abspath(PROGRAM), "--steps", STEPS, "--batch", str(SEED), SEEDS], cwd=folder,
                                 capture_output=True, text=True)
            print(f"ATL_SEED={SEED} ATL_SEEDS={SEEDS} ATL_STEPS={STEPS}: {run.stdout}")
            scenarios = ""
            for name in sorted(os.listdir(folder))[:1]:
                with open(os.path.join(folder, name), encoding="utf-8") as text:
                    scenarios = f"\n{name}:\n{text.read()}"
            self.assertEqual(run.returncode, 0, run.stderr + scenarios)

    def test_a_seed_repeats_itself(self):
        command = [PROGRAM, "--steps", "3000", "--seed", str(SEED)]
        first = subprocess.run(command, capture_output=True, text=True, check=False)
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual(first.stdout, again.stdout)
        self.assertGreater(len(first.stdout), 1000)


if __name__ == "__main__":
    print(f"ATL_SEED={SEED}")
    unittest.main(verbosity=0)
