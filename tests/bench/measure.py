"""What the benchmarks share: figures with their budgets, memory and processor time, one open connection."""
import http.client
import json
import signal
import statistics
import sys
import time

MIB = 1 << 20
missed = []


def end_in_order():
    """Being asked to end, a benchmark stops what it started: `finally` and atexit run, and nothing interrupts them."""
    def end(*_):
        undisturbed()
        sys.exit("ended by a signal")
    signal.signal(signal.SIGTERM, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def undisturbed():
    """What was started is being stopped: whoever asks again is heard after it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def say(name, value, unit, budget=None):
    """One line a figure; a budget that is not held is remembered for the exit code."""
    held = budget is None or value <= budget
    if not held:
        missed.append(name)
    bound = "" if budget is None else f"   budget {budget} {unit}: {'held' if held else 'NOT HELD'}"
    print(f"{name:70s} {value:9.2f} {unit}{bound}", flush=True)


def pss_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def cpu_seconds(pid):
    """Processor time that a process has used; the kernel counts in hundredths."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as text:
        fields = text.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def middle(values):
    return statistics.median(values)


class Client:
    """One connection to the gateway that stays open, as a client under load has it."""

    def __init__(self, host, port, context, token):
        self.connection = http.client.HTTPSConnection(host, port, context=context, timeout=60)
        self.headers = {"Authorization": "PVEAPIToken=" + token, "Content-Length": "0"}

    def renew(self):
        """A new connection, warm: the gateway closes one that was idle for long."""
        self.connection.close()
        self.call("GET", "/version")

    def call(self, method, path):
        self.connection.request(method, "/api2/json" + path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {answer.reason}")
        return json.loads(body)["data"]

    def wait(self, node, upid, step=0.002):
        """Until the task has ended; the moment this was known."""
        while True:
            status = self.call("GET", f"/nodes/{node}/tasks/{upid}/status")
            now = time.perf_counter()
            if status["status"] == "stopped":
                if status["exitstatus"] != "OK":
                    raise SystemExit(f"{upid}: {status['exitstatus']}")
                return now
            time.sleep(step)
