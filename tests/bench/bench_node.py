#!/usr/bin/python3
"""A whole node, measured: memory of the services at rest and after use, start of a virtual machine against `virsh create`
of the same one, and long lists through gateway, bus and config-store with guests of the fake engines.

usage: bench_node.py [BUILD_FOLDER]     a release build (build/release); root; namespaces of its own

Prints a line a figure, with its budget where there is one. Exit code 1 when one is not held.
"""
import os
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(TOP, "build", "release"))
os.environ["ATL_BUILD_DIR"] = BUILD
sys.path.insert(0, os.path.join(TOP, "tests", "component"))
from measure import Client, cpu_seconds, end_in_order, middle, missed, pss_mib, say, undisturbed  # noqa: E402
from node_env import ADMIN, ALL_SERVICES as SERVICES, Env, Rest, wait_for  # noqa: E402  (its folders come from the environment)

MEMORY_BUDGET_MIB = 64  # for all eight services
SERVICES_IN_ALL = 8
LISTS = [(1000, 5), (10000, 50)]
VM_BUDGET = 1.1
ROUNDS = 15
WARM_ROUNDS = 2
IDLE_S = 10


def stop(env):
    undisturbed()
    env.stop()
    end_in_order()


# --- memory ---

def memory(env, when, budget=None):
    total = 0
    for service in SERVICES:
        used = pss_mib(env.pid(service))
        total += used
        say(f"memory {when}, {service} (PSS)", used, "MiB")
    say(f"memory {when}, {len(SERVICES)} services of {SERVICES_IN_ALL} exist (PSS)", total, "MiB", budget)


def use(env):
    """A login with a password, then a thousand requests of three kinds."""
    login = Rest(env.node.url, env.ca)
    login.login(ADMIN, env.password)
    urls = [env.node.url + "/api2/json" + path for path in ("/version", "/cluster/resources", env.path("status"))]
    done = env.run("h2load", "-n", "1000", "-c", "4", "-m", "4", "-H", f"Authorization: PVEAPIToken={env.token}", *urls)
    if "1000 2xx" not in done.stdout:
        raise SystemExit(f"not all requests succeeded:\n{done.stdout}")


# --- start of a virtual machine ---

def virsh(env, *words):
    return env.run("virsh", "-q", "-c", "qemu:///system", *words, timeout=60)


class VmStart:
    """In turns: a start through REST until its task has ended, and virsh create of the XML that the agent made."""

    def __init__(self, env):
        self.env = env
        self.client = Client(env.rest.host, env.rest.port, env.rest.context, env.token)
        env.storage()
        env.make_vm(100)  # from here on libvirt knows what its QEMU can do
        self.domain = virsh(env, "list", "--name").stdout.split()[0]
        self.xml = os.path.join(env.folder, "vm.xml")
        with open(self.xml, "w", encoding="utf-8") as out:
            out.write(virsh(env, "dumpxml", "--inactive", self.domain).stdout)
        self.turn("stop")

    def turn(self, verb):
        begin = time.perf_counter()
        upid = self.client.call("POST", self.env.path("qemu", 100, "status", verb))
        return (self.client.wait(self.env.name, upid) - begin) * 1000

    def bare(self):
        begin = time.perf_counter()
        virsh(self.env, "create", self.xml)
        took = (time.perf_counter() - begin) * 1000
        virsh(self.env, "destroy", self.domain)
        wait_for("the agent to see its end", 20, lambda: self.client.call(
            "GET", self.env.path("qemu", 100, "status", "current"))["status"] == "stopped")
        return took

    def measure(self):
        ours, bare = [], []
        for _ in range(WARM_ROUNDS + ROUNDS):
            ours.append(self.turn("start"))
            self.turn("stop")
            bare.append(self.bare())
        ours, bare = middle(ours[WARM_ROUNDS:]), middle(bare[WARM_ROUNDS:])
        say(f"start of a virtual machine through REST, until its task ended, median of {ROUNDS}", ours, "ms")
        say("start of the same by virsh create", bare, "ms")
        say("ratio", ours / bare, "x", VM_BUDGET)


# --- thousands of guests ---

def list_time(env, path, expected):
    """Milliseconds of one request on an open connection (HTTP/2, TLS), median of many, by curl's own clock."""
    count = 41
    rows = len(env.rest.get(path))
    if rows < expected:
        raise SystemExit(f"{path} lists {rows} rows, not {expected}")
    url = env.node.url + "/api2/json" + path
    done = env.run("curl", "-sS", "--http2", "--cacert", env.ca, "-H", f"Authorization: PVEAPIToken={env.token}",
                   "-w", "%{http_code} %{http_version} %{num_connects} %{time_total}\n",
                   *[word for _ in range(count) for word in ("-o", "/dev/null", url)], timeout=120)
    answers = [line.split() for line in done.stdout.splitlines()[1:]]  # without the one that made the connection
    if any(answer[:3] != ["200", "2", "0"] for answer in answers):
        raise SystemExit(f"{path} did not answer 200 over one HTTP/2 connection: {answers[:3]}")
    return middle(float(answer[3]) * 1000 for answer in answers)


def idle(env, guests):
    """Nobody asks: what the agents' own rounds cost, in percent of one processor."""
    time.sleep(3)
    before = {service: cpu_seconds(env.pid(service)) for service in SERVICES}
    time.sleep(IDLE_S)
    for service in ("compute-agent", "config-store"):
        used = (cpu_seconds(env.pid(service)) - before[service]) / IDLE_S * 100
        say(f"idle with {guests} guests, {service}, of one processor", used, "%")


def many(guests, budget_ms):
    """Half virtual machines, half containers; their files are written in transactions of a hundred."""
    half = guests // 2
    env = Env(f"bench{guests}", extra={"compute-agent": ["--driver", "fake", "--fake-guests", str(half), "--lxc-driver",
                                                         "fake", "--fake-containers", str(half)]})
    try:
        begin = time.monotonic()
        env.run(os.path.join(BUILD, "bin", "bench_guests"), env.node.run_dir, env.name, str(half), str(half), timeout=100)
        wait_for("all guests to run", 60, lambda: guests == len(
            [row for row in env.rest.get("/cluster/resources", type="vm") if row["status"] == "running"]))
        say(f"{guests} guests written and shown as running", time.monotonic() - begin, "s")
        say(f"GET /cluster/resources, {guests} guests", list_time(env, "/cluster/resources", guests), "ms", budget_ms)
        say(f"GET /nodes/NODE/qemu, {half} of them", list_time(env, env.path("qemu"), half), "ms")
        say(f"GET /nodes/NODE/lxc, {half} of them", list_time(env, env.path("lxc"), half), "ms")
        idle(env, guests)
        memory(env, f"with {guests} guests")
    finally:
        stop(env)


def main():
    end_in_order()
    env = Env("bench")
    try:
        time.sleep(5)  # past the start's own work
        memory(env, "at rest", MEMORY_BUDGET_MIB)
        use(env)
        time.sleep(3)
        memory(env, "after a login and 1,000 requests", MEMORY_BUDGET_MIB)
        VmStart(env).measure()
    finally:
        stop(env)
    for guests, budget_ms in LISTS:
        many(guests, budget_ms)
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error}: {error.stderr}")
