#!/usr/bin/python3
"""The fencing argument, checked by spin: it holds, and without any one of its premises it does not.

usage: test_model.py [PREMISE...]      without one: the model itself, safety and liveness, and then without each premise
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.realpath(__file__))
PREMISES = {
    "NO_FRESHNESS": "a feed without looking at the age of the renewal",
    "NO_WATCHDOG": "no watchdog",
    "NO_WAIT": "no wait before a take-over",
    "NO_COMPARE": "a take-over that does not compare the revision it saw",
    "NO_FACTOR_2": "a wait of one watchdog timeout instead of two",
    "NO_WRITE_COMPARE": "a write of the node for its guest that does not compare the lock",
}
LIMIT_S = 600


def check(define, live=False):
    """(errors, states, seconds) of one run of spin's checker."""
    folder = tempfile.mkdtemp(prefix="atoll-model-")
    try:
        words = [f"-D{define}"] if define else []
        if live:
            words.append("-DLIVE")
        run(["spin", "-a", *words, os.path.join(HERE, "fencing.pml")], folder)
        how = ["-DNFAIR=3"] if live else ["-DSAFETY"]
        run(["gcc", "-O2", "-w", "-DCOLLAPSE", "-DMEMLIM=8000", *how, "-o", "pan", "pan.c"], folder)
        began = time.monotonic()
        text = run(["./pan", "-m3000000", *(["-a", "-f"] if live else [])], folder)
        errors = re.search(r"errors: (\d+)", text)
        states = re.search(r"(\d+) states, stored", text)
        if errors is None or states is None or "max search depth too small" in text or "out of memory" in text:
            raise SystemExit(f"spin did not come to an end:\n{text[-2000:]}")
        return int(errors.group(1)), int(states.group(1)), time.monotonic() - began
    finally:
        shutil.rmtree(folder)


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0 and command[0] != "./pan":
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


def main():
    wanted = sys.argv[1:] or [None, *PREMISES]
    good = True
    for premise in wanted:
        if premise is None:
            for live, what in ((False, "the guest never runs twice"), (True, "it runs in the end")):
                errors, states, seconds = check(None, live)
                good = good and errors == 0
                print(f"{'ok  ' if errors == 0 else 'FAIL'} {what}: {states} states, {seconds:.0f} s", flush=True)
        else:
            errors, states, seconds = check(premise)
            good = good and errors > 0
            print(f"{'ok  ' if errors > 0 else 'FAIL'} {PREMISES[premise]}: "
                  f"{'found' if errors > 0 else 'NOT found'} after {states} states, {seconds:.0f} s", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
