"""Counts results, prints them as they come and keeps one log file per step."""
import os
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


class Report:
    """What passed, failed and was skipped so far."""

    def __init__(self, log_dir):
        self.log_dir = log_dir
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.rows = []
        self.out_of_time = False
        os.makedirs(log_dir, exist_ok=True)

    def log_path(self, name):
        return os.path.join(self.log_dir, name.replace("/", "-") + ".log")

    def say(self, text):
        print(text, flush=True)

    def add(self, name, ok, seconds, log=None, why="", count=1, failures=()):
        """One program's result: it held `count` tests that passed, or `failures` that did not."""
        if ok:
            self.passed += count
            self.say(f"  ok    {name}  ({str(count) + ' tests, ' if count > 1 else ''}{seconds:.1f} s)")
        else:
            self.failed += [f"{name}.{test}" for test in failures] or [name]
            self.say(f"  FAIL  {name}  ({seconds:.1f} s)" + (f": {why}" if why else ""))
            if log:
                self.show_tail(log)
                self.say(f"        log: {os.path.relpath(log, TOP)}")
        self.rows.append((name, "passed" if ok else "failed", seconds))

    def skip(self, name, why):
        self.skipped.append(name)
        self.rows.append((name, "skipped: " + why, 0))
        self.say(f"  skip  {name}: {why}")

    def show_tail(self, log, lines=25):
        try:
            with open(log, encoding="utf-8", errors="replace") as text:
                tail = text.read().splitlines()[-lines:]
        except OSError:
            return
        for line in tail:
            self.say("        | " + line[:300])

    def run(self, name, command, timeout, env=None, cwd=TOP):
        """Runs one command as one result. Exit code 77 is a skip, whose reason is the last line."""
        log = self.log_path(name)
        begin = time.monotonic()
        code, why = run_logged(command, log, timeout, env, cwd)
        seconds = time.monotonic() - begin
        if code == 77:
            with open(log, encoding="utf-8", errors="replace") as text:
                last = (text.read().strip().splitlines() or ["no reason given"])[-1]
            self.skip(name, last)
            return True
        self.add(name, code == 0, seconds, log, why)
        return code == 0

    def counts(self):
        """How many have passed, failed, were skipped, and rows there are."""
        return self.passed, len(self.failed), len(self.skipped), len(self.rows)

    def summary(self):
        if self.failed:
            self.say("Failed: " + ", ".join(self.failed[:40]))
        self.say(f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped")
        return 1 if self.failed else 0


def run_logged(command, log, timeout, env=None, cwd=TOP):
    """Runs a command in a session of its own; on a timeout ends the whole session. Returns (code, why)."""
    environment = dict(os.environ)
    environment.update(env or {})
    with open(log, "wb") as out:
        out.write(("$ " + " ".join(command) + "\n").encode())
        out.flush()
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 cwd=cwd, env=environment, start_new_session=True)
        try:
            code = child.wait(timeout=timeout)
            return code, "" if code == 0 else f"exit code {code}"
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as reason:
            end_session(child)
            if isinstance(reason, KeyboardInterrupt):
                sys.exit(130)
            out.write(f"\nended after {timeout:.0f} s\n".encode())
            return 124, f"took longer than {timeout:.0f} s"


def end_session(child):
    """Programs that hold nodes or machines take them away when they are asked to end."""
    for sig in (15, 9):
        try:
            os.killpg(child.pid, sig)
        except ProcessLookupError:
            break
        try:
            child.wait(timeout=90)
            break
        except subprocess.TimeoutExpired:
            continue
