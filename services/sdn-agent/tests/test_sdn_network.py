#!/usr/bin/env python3
"""sdn-agent in a network namespace of its own: bridge, NAT, DHCP for real clients, restarts without a lost packet,
ports that lost their bridge, and a teardown that leaves nothing."""
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

BIN = os.environ.get("ATL_BIN", os.path.join(os.environ.get("ATL_BUILD_DIR", "build/dev"), "bin"))
REPORTS = re.compile(r"AddressSanitizer|runtime error:|assertion failed|LeakSanitizer")
FILE = """auto lo
iface lo inet loopback

auto vmbr0
iface vmbr0 inet static
\taddress 10.99.0.1/24
\tbridge-ports none
\tbridge-stp off
\tbridge-fd 0
\tatoll-nat yes
\tatoll-dhcp-range 10.99.0.50 10.99.0.150
"""
CALLERS = {"config-store": ["api-gateway", "compute-agent", "storage-agent", "sdn-agent", "cli", "events"],
           "sdn-agent": ["api-gateway", "compute-agent", "cli", "events"],
           "compute-agent": ["cli", "events"]}


def run(*command, check=True, **more):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                            check=False, **more)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {result.returncode}: {result.stdout}")
    return result.stdout


def wait_for(what, seconds, test):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


class Bench:
    """Namespaces: the host, two guests on its bridge, and the world behind the host."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="atoll-sdn-")
        os.chmod(self.folder, 0o755)
        self.tag = f"as{os.getpid()}"
        self.host, self.world = f"{self.tag}h", f"{self.tag}w"
        self.spaces, self.processes = [], []
        self.run_dir, self.state_dir = os.path.join(self.folder, "run"), os.path.join(self.folder, "state")
        self.interfaces = os.path.join(self.folder, "interfaces")
        for service, callers in CALLERS.items():
            for caller in callers:
                os.makedirs(os.path.join(self.run_dir, "bus", service, caller))
            os.makedirs(os.path.join(self.state_dir, service), exist_ok=True)
        self.write(FILE)
        for space in (self.host, self.world):
            self.make_space(space)
        run("ip", "-n", self.host, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", self.world)
        for space, address in ((self.host, "198.51.100.1/24"), (self.world, "198.51.100.2/24")):
            run("ip", "-n", space, "addr", "add", address, "dev", "up0")
            run("ip", "-n", space, "link", "set", "up0", "up")
        self.agent = None

    def write(self, text):
        with open(self.interfaces + ".new", "w", encoding="utf-8") as out:
            out.write(text)
        os.replace(self.interfaces + ".new", self.interfaces)

    def make_space(self, name):
        run("ip", "netns", "add", name)
        self.spaces.append(name)
        run("ip", "-n", name, "link", "set", "lo", "up")

    def inside(self, *command, space=None, check=True):
        return run("ip", "netns", "exec", space or self.host, *command, check=check)

    def start(self, service, *options, state=None, rights=()):
        with open(os.path.join(self.folder, service + ".log"), "a", encoding="utf-8") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.host, "setpriv", "--pdeathsig", "KILL", *rights,
                 os.path.join(BIN, "atoll-" + service), "--run-dir", self.run_dir,
                 "--state-dir", state or self.state_dir, "--node", "n1", *options],
                stdout=log, stderr=log, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        self.processes.append(process)
        return process

    def start_agent(self):
        """As the agent's own user with the rights its README names, where that user exists; else as root."""
        rights = ()
        try:
            user = pwd.getpwnam("atoll-sdn")
            for folder in ("run/sdn-agent", "state/sdn-agent", "run/sdn-agent.ready",
                           *("run/bus/sdn-agent/" + caller for caller in CALLERS["sdn-agent"])):
                path = os.path.join(self.folder, folder)
                if not os.path.exists(path):
                    if folder.endswith(".ready"):
                        with open(path, "w", encoding="utf-8"):
                            pass
                    else:
                        os.makedirs(path)
                os.chown(path, user.pw_uid, user.pw_gid)
            wanted = "-all,+net_admin,+net_raw,+net_bind_service"
            if subprocess.run(["setpriv", "--reuid", user.pw_name, "--regid", user.pw_name, "--init-groups",
                               "test", "-x", os.path.join(BIN, "atoll-sdn-agent")], check=False).returncode != 0:
                raise KeyError("the build is not for others to read")
            rights = ("--reuid", user.pw_name, "--regid", user.pw_name, "--init-groups", "--no-new-privs",
                      "--inh-caps=" + wanted, "--ambient-caps=" + wanted, "--bounding-set=" + wanted)
        except KeyError:
            pass
        self.agent = self.start("sdn-agent", "--interfaces", self.interfaces, rights=rights)

    def kill_agent(self, how):
        self.agent.send_signal(how)
        code = self.agent.wait(timeout=20)
        assert how == signal.SIGKILL or code == 0, f"the agent ended with {code}"
        self.processes.remove(self.agent)

    def teardown(self):
        return self.inside(os.path.join(BIN, "atoll-sdn-agent"), "--teardown", "--run-dir", self.run_dir,
                           "--state-dir", self.state_dir, check=False)

    def add_guest(self, number, port):
        space = f"{self.tag}g{number}"
        self.make_space(space)
        run("ip", "-n", self.host, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "-n", self.host, "link", "set", port, "master", "vmbr0", "up")
        run("ip", "-n", space, "link", "set", "eth0", "address", f"bc:24:11:00:00:0{number}")
        run("ip", "-n", space, "link", "set", "eth0", "up")
        return space

    def dhcp(self, space):
        script = os.path.join(self.folder, "udhcpc.sh")
        with open(script, "w", encoding="utf-8") as out:
            out.write("#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr add $ip/$mask dev $interface\n"
                      "ip route add default via $router\n")
        os.chmod(script, 0o755)
        self.inside("busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "20", "-T", "1", "-s", script,
                    space=space)
        return re.search(r"inet (\S+)/", self.inside("ip", "-4", "addr", "show", "eth0", space=space)).group(1)

    def atoll(self, *command):
        return run(os.path.join(BIN, "atoll"), *command, "--output", "json",
                   env={"PATH": "/usr/bin:/bin", "ATOLL_RUN_DIR": self.run_dir, "ASAN_OPTIONS": "detect_leaks=0"})

    def dnsmasq_pid(self):
        try:
            with open(os.path.join(self.run_dir, "sdn-agent", "dnsmasq-vmbr0.pid"), encoding="utf-8") as text:
                pid = int(text.read())
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as text:
                return pid if self.folder in text.read() else None
        except (OSError, ValueError):
            return None

    def ready(self):
        return (self.dnsmasq_pid() and "10.99.0.1/24" in self.inside("ip", "addr", "show", "vmbr0", check=False)
                and "masquerade" in self.inside("nft", "list", "ruleset"))

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()
        pid = self.dnsmasq_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
        for space in reversed(self.spaces):
            run("ip", "netns", "del", space, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def links(bench):
    return set(re.findall(r"^\d+: ([^:@]+)", bench.inside("ip", "-o", "link"), re.M))


def check_network(bench):
    """Bridge, NAT and DHCP are there, and guests reach each other and the world."""
    bench.start_agent()
    wait_for("bridge, NAT and DHCP", 10, bench.ready)
    assert bench.inside("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"
    first, second = bench.add_guest(1, "tap100i0"), bench.add_guest(2, "veth101i0")
    addresses = [bench.dhcp(first), bench.dhcp(second)]
    assert len(set(addresses)) == 2, addresses
    for address in addresses:
        assert 50 <= int(address.rsplit(".", 1)[1]) <= 150, address
    bench.inside("ping", "-c", "2", "-W", "2", addresses[1], space=first)
    bench.inside("ping", "-c", "2", "-W", "2", "198.51.100.2", space=first)  # the world knows no way back but NAT
    leases = bench.atoll("leases", "list", "--bridge", "vmbr0")
    for number, address in enumerate(addresses, 1):
        assert address in leases and f"bc:24:11:00:00:0{number}" in leases, leases
    return first, second, addresses[1]


def check_restart(bench, guest, address):
    """Killed five times and started again while packets fly: none is lost, and nothing is made anew."""
    before = bench.inside("ip", "-o", "link", "show", "vmbr0").split()[0]
    pid, rules = bench.dnsmasq_pid(), bench.inside("nft", "-a", "list", "ruleset")
    flood = subprocess.Popen(["ip", "netns", "exec", guest, "ping", "-q", "-i", "0.002", "-c", "2000", address],
                             stdout=subprocess.PIPE, text=True)
    outside = subprocess.Popen(["ip", "netns", "exec", guest, "ping", "-q", "-i", "0.002", "-c", "2000",
                                "198.51.100.2"], stdout=subprocess.PIPE, text=True)
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        bench.kill_agent(how)
        bench.start_agent()
        wait_for("the agent", 10, lambda: os.path.exists(os.path.join(bench.run_dir, "sdn-agent.ready")))
        time.sleep(0.4)  # time for it to do harm
    for ping in (flood, outside):
        report = ping.communicate(timeout=60)[0]
        assert " 0% packet loss" in report, report
    assert bench.inside("ip", "-o", "link", "show", "vmbr0").split()[0] == before, "the bridge was made anew"
    assert bench.inside("nft", "-a", "list", "ruleset") == rules, "the rules were loaded anew"
    assert bench.dnsmasq_pid() == pid, "dnsmasq was started anew"


def check_repair(bench, guest, address):
    """What goes missing comes back, and ports of guests with it."""
    bench.start("config-store", state=os.path.join(bench.state_dir, "config-store"))
    put = {"nodes/n1/qemu-server/100.conf": "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n",
           "nodes/n1/lxc/101.conf": "net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:02\n"}
    wait_for("config-store", 10, lambda: os.path.exists(os.path.join(bench.run_dir, "config-store.ready")))
    for path, text in put.items():
        wait_for("a guest's file", 10, lambda path=path, text=text: store_put(bench, path, text))
    os.kill(bench.dnsmasq_pid(), signal.SIGKILL)
    bench.inside("nft", "delete", "table", "ip", "atoll_nat")
    wait_for("DHCP and NAT again", 10, bench.ready)
    bench.inside("ip", "link", "del", "vmbr0")
    wait_for("the bridge again", 10, bench.ready)
    wait_for("its ports again", 10, lambda: bench.inside("bridge", "link").count("master vmbr0") == 2)
    bench.inside("ping", "-c", "2", "-W", "2", address, space=guest)
    bench.inside("ip", "addr", "flush", "dev", "eth0", space=guest)
    assert bench.dhcp(guest).startswith("10.99.0."), "no DHCP on the bridge that was made again"
    store_put(bench, "nodes/n1/qemu-server/100.conf", "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,link_down=1\n")
    wait_for("link_down", 10, lambda: "state DOWN" in bench.inside("ip", "link", "show", "tap100i0"))
    store_put(bench, "nodes/n1/qemu-server/100.conf", put["nodes/n1/qemu-server/100.conf"])
    wait_for("link up", 10, lambda: "state UP" in bench.inside("ip", "link", "show", "tap100i0"))


def store_put(bench, path, text):
    """Writes a file of the tree as compute-agent does."""
    result = subprocess.run([os.path.join(BIN, "sdn_store_put"), bench.run_dir, path, text], timeout=30, check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={"ASAN_OPTIONS": "detect_leaks=0"})
    return result.returncode == 0


def check_list(bench):
    shown = bench.atoll("api", "get", "/nodes/n1/network")
    assert '"iface":"vmbr0"' in shown and '"cidr":"10.99.0.1/24"' in shown, shown


def check_change(bench):
    """A new range restarts DHCP alone; bad settings are named and change nothing."""
    before = bench.inside("ip", "-o", "link", "show", "vmbr0").split()[0]
    pid = bench.dnsmasq_pid()
    bench.write(FILE.replace("10.99.0.150", "10.99.0.160"))
    wait_for("DHCP with the new range", 10, lambda: bench.dnsmasq_pid() not in (None, pid))
    assert bench.inside("ip", "-o", "link", "show", "vmbr0").split()[0] == before
    bench.write(FILE.replace("10.99.0.150", "10.98.0.160"))
    with open(os.path.join(bench.folder, "sdn-agent.log"), encoding="utf-8") as log:
        wait_for("a word about the bad range", 10, lambda: "'10.99.0.50 10.98.0.160'" in log.read())
    bench.write(FILE)
    wait_for("DHCP again", 10, bench.ready)


def gone(pid):
    """Ended; whoever inherits orphans may take its time to reap it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as text:
            return text.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def check_teardown(bench, links_before):
    refused = bench.teardown()
    assert "stop it first" in refused, refused
    pid = bench.dnsmasq_pid()
    bench.kill_agent(signal.SIGTERM)
    assert bench.ready(), "the network must live on without the agent"
    left = bench.teardown()
    assert left == "" or "dhcp-stopped" in left, left
    for port in ("tap100i0", "veth101i0"):
        bench.inside("ip", "link", "del", port)
    assert links(bench) == links_before, links(bench)
    assert bench.inside("nft", "list", "ruleset") == ""
    assert bench.inside("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    wait_for("the end of dnsmasq", 10, lambda: gone(pid))
    assert not os.path.exists(os.path.join(bench.run_dir, "sdn-agent")) or not os.listdir(
        os.path.join(bench.run_dir, "sdn-agent")), os.listdir(os.path.join(bench.run_dir, "sdn-agent"))
    assert bench.teardown() == ""  # twice is as good as once


def check_logs(bench):
    for name in os.listdir(bench.folder):
        if name.endswith(".log"):
            with open(os.path.join(bench.folder, name), encoding="utf-8", errors="replace") as text:
                report = REPORTS.search(text.read())
            assert report is None, f"{name}: {report.group(0)}"


def main():
    if os.geteuid() != 0:
        print("needs root: network namespaces")
        return 77
    missing = [tool for tool in ("ip", "nft", "dnsmasq", "busybox", "ping", "bridge") if shutil.which(tool) is None]
    if missing:
        print("not installed:", " ".join(missing))
        return 77
    bench = Bench()
    try:
        bench.inside("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
        before = links(bench)
        guest, _, address = check_network(bench)
        check_restart(bench, guest, address)
        check_repair(bench, guest, address)
        check_list(bench)
        check_change(bench)
        check_teardown(bench, before)
        check_logs(bench)
    except AssertionError:
        traceback.print_exc()
        for name in os.listdir(bench.folder):
            if name.endswith(".log"):
                with open(os.path.join(bench.folder, name), encoding="utf-8", errors="replace") as text:
                    print(f"--- {name}\n{text.read()[-4000:]}")
        return 1
    finally:
        bench.stop()
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
