"""Shows what is being done, how far it is, and what went wrong."""
import subprocess
import sys
import time

from node import NodeError
from rest import ApiError, TaskError


class Steps:
    """Numbered steps on standard output. On a terminal the current one is redrawn in place."""

    def __init__(self, total):
        self.total, self.number = total, 0
        self.live = sys.stdout.isatty()
        self.begin = 0.0
        self.title = ""
        self.drawn = 0.0

    def start(self, title):
        self.number += 1
        self.title, self.begin, self.drawn = title, time.monotonic(), 0.0
        self.draw("...", force=True)

    def head(self):
        return f"[{self.number:2}/{self.total}] {self.title}"

    def draw(self, detail, force=False):
        if self.live and (force or time.monotonic() - self.drawn > 0.1):
            self.drawn = time.monotonic()
            sys.stdout.write(f"\r\033[K{self.head()} {detail}")
            sys.stdout.flush()

    def progress(self, detail):
        """On a terminal at once; else a line every five seconds, so that a log stays readable."""
        if self.live:
            self.draw(detail)
        elif time.monotonic() - max(self.drawn, self.begin) > 5:
            self.drawn = time.monotonic()
            print(f"        {detail}", flush=True)

    def done(self, detail="done"):
        seconds = time.monotonic() - self.begin
        if self.live:
            sys.stdout.write("\r\033[K")
        print(f"{self.head()}: {detail} ({seconds:.1f} s)", flush=True)

    def failed(self, why, advice):
        if self.live:
            sys.stdout.write("\r\033[K")
        print(f"FAILED at step {self.number} of {self.total}: {self.title}", flush=True)
        print(f"  why: {why}")
        print(f"  do:  {advice}")


def explain(error, node):
    """(why, what to do) of anything that a step can raise."""
    if isinstance(error, NodeError):
        return str(error), error.advice or "see the logs in " + node.log_dir
    if isinstance(error, TaskError):
        return str(error), f"the task's whole log: atoll task log '{error.upid}'; services' logs: {node.log_dir}"
    if isinstance(error, ApiError):
        advice = "see the logs in " + node.log_dir
        if error.status == 401:
            advice = "the password in build/quickstart.env is not the user's any more; remove that file, run this again"
        elif error.status in (595, 596):
            advice = "a service is down; deploy/quickstart --status shows which"
        return str(error), advice
    if isinstance(error, subprocess.CalledProcessError):
        output = (error.stderr or error.stdout or b"")
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        return f"{' '.join(map(str, error.cmd))}: exit code {error.returncode}\n{text.strip()[-2000:]}", \
            "fix what the message says and run this again"
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error}", "deploy/quickstart --status shows what runs; logs: " + node.log_dir
    return f"{type(error).__name__}: {error}", "see the logs in " + node.log_dir
