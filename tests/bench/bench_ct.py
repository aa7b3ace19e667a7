#!/usr/bin/python3
"""Container start: through REST against `lxc-start` of the same container, in one run.

usage: bench_ct.py BUILD-DIR [ROUNDS]     Needs root; everything is in namespaces and folders of its own.

Time is from the call until liblxc says that the container runs (REST: until the agent's file of the run is there,
looked for every 0.2 ms; lxc-start -d: until it returns). The same configuration and the same root file system; the
two take turns, so that noise of the machine hits both.
"""
import http.client
import json
import os
import statistics
import subprocess
import sys
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "services", "compute-agent", "tests"))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))

import component_ct as ct  # noqa: E402
import certs  # noqa: E402
import rest  # noqa: E402

BUDGET = 1.5


class Rest:
    """One connection that stays open, as a client under load has it."""

    def __init__(self, context, token):
        self.connection = http.client.HTTPSConnection("127.0.0.1", 8006, context=context)
        self.headers = {"Authorization": "PVEAPIToken=" + token}

    def call(self, method, path):
        self.connection.request(method, "/api2/json" + path, headers={**self.headers, "Content-Length": "0"})
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {answer.reason}")
        return json.loads(body)["data"]

    def wait(self, upid):
        while True:
            status = self.call("GET", f"/nodes/{ct.NODE}/tasks/{upid}/status")
            if status["status"] == "stopped":
                if status["exitstatus"] != "OK":
                    raise SystemExit(status["exitstatus"])
                return
            time.sleep(0.01)


def until_gone(path):
    while os.path.exists(path):
        time.sleep(0.002)


def rest_start(client, run_file):
    begin = time.perf_counter()
    upid = client.call("POST", f"/nodes/{ct.NODE}/lxc/101/status/start")
    answered = time.perf_counter()
    while not os.path.exists(run_file):
        time.sleep(0.0002)
        if time.perf_counter() - begin > 10:
            client.wait(upid)
            raise SystemExit("the container did not come up")
    done = time.perf_counter()
    client.wait(upid)
    return (done - begin) * 1000, (answered - begin) * 1000


def main():
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    world = ct.World()
    try:
        certs.make(world.state, ct.NODE, [])
        world.up()
        world.spawn("api-gateway", "--listen", "127.0.0.1:8006")
        local = os.path.join(world.top, "local")
        world.api("create", "/storage", storage="local", type="dir", path=local, content="rootdir,vztmpl")
        os.makedirs(os.path.join(local, "template", "cache"), exist_ok=True)
        ct.sh("cp busybox.tar.zst local/template/cache/; chown -R atoll-storage: local", world.top)
        value = world.api("create", "/access/users/root@pam/token/bench", privsep=0)["value"]
        context = rest.Rest("https://127.0.0.1:8006", os.path.join(world.state, "ca.pem")).context
        client = Rest(context, "root@pam!bench=" + value)
        world.task(world.api("create", f"/nodes/{ct.NODE}/lxc", vmid=101, ostemplate="local:vztmpl/busybox.tar.zst",
                             hostname="ct101", memory=64, swap=0, rootfs="local:0.03",
                             net0="name=eth0,bridge=vmbr0,ip=10.66.1.5/24"))
        run = os.path.join(world.run_dir, "lxc", "101")
        # The settings the agent makes, for lxc-start: once started, copied, stopped.
        client.wait(client.call("POST", f"/nodes/{ct.NODE}/lxc/101/status/start"))
        plain = os.path.join(world.top, "plain", "101")
        os.makedirs(os.path.join(plain, "rootfs"))
        os.chmod(os.path.dirname(plain), 0o755)
        with open(os.path.join(run, "config"), encoding="utf-8") as text:
            config = text.read()
        ct.sh(f"cp {run}/seccomp {plain}/", world.top)
        client.wait(client.call("POST", f"/nodes/{ct.NODE}/lxc/101/status/stop"))
        with open(os.path.join(plain, "config"), "w", encoding="utf-8") as out:
            out.write(config.replace(run, plain).replace("monitor-101", "plain-monitor").replace("/101\n", "/plain\n"))
        rest_ms, answer_ms, plain_ms = [], [], []
        for _ in range(rounds):
            took, answered = rest_start(client, os.path.join(run, "run"))
            rest_ms.append(took)
            answer_ms.append(answered)
            client.wait(client.call("POST", f"/nodes/{ct.NODE}/lxc/101/status/stop"))
            until_gone(os.path.join(run, "run"))
            ct.sh(f"mount -o loop local/images/101/vm-101-disk-0.raw {plain}/rootfs", world.top)
            begin = time.perf_counter()
            subprocess.run(["lxc-start", "-d", "-n", "101", "-P", os.path.dirname(plain)], check=True)
            plain_ms.append((time.perf_counter() - begin) * 1000)
            subprocess.run(["lxc-stop", "-k", "-n", "101", "-P", os.path.dirname(plain)], check=True)
            ct.sh(f"umount {plain}/rootfs; rmdir /sys/fs/cgroup/*/{world.cgroup_base()}/plain* 2>/dev/null || true",
                  world.top)
        ratio = statistics.median(rest_ms) / statistics.median(plain_ms)
        print(f"container start, median of {rounds} (ms)")
        print(f"  lxc-start -d                  {statistics.median(plain_ms):7.1f}   (best {min(plain_ms):.1f})")
        print(f"  REST, until it runs           {statistics.median(rest_ms):7.1f}   (best {min(rest_ms):.1f})")
        print(f"  REST, until the task's id     {statistics.median(answer_ms):7.1f}")
        verdict = "ok" if ratio <= BUDGET else "MISSED"
        print(f"  ratio                         {ratio:7.2f}   budget {BUDGET}  {verdict}")
        client.wait(client.call("DELETE", f"/nodes/{ct.NODE}/lxc/101"))
    finally:
        world.down()


if __name__ == "__main__":
    ct.isolate()
    main()
