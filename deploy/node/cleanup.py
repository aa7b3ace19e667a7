"""What a node leaves on a machine, and how it is taken away again: processes, links, cgroups, nftables, sysctls."""
import glob
import json
import os
import signal
import subprocess
import sys
import time

SYSCTLS = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding",
           "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.default.rp_filter",
           "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
           "net.bridge.bridge-nf-call-arptables"]


# --- the end of a program ---

_endings = []


def when_asked_to_end(take_away):
    """take_away() also runs, the latest first, when this program is asked to end (SIGTERM): by itself Python would leave all
    behind. Programs that see to that signal themselves are left alone."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    _endings.append(take_away)


def _end(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for take_away in reversed(_endings):
        take_away()
    os._exit(128 + signal.SIGTERM)


# --- processes ---

def stat_fields(pid):
    """/proc/PID/stat from the state on, or None."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as text:
            return text.read().rpartition(")")[2].split()
    except OSError:
        return None


def start_time(pid):
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def is_zombie(pid):
    fields = stat_fields(pid)
    return fields is not None and fields[0] == "Z"


def parents():
    """pid -> parent of every process."""
    found = {}
    for name in os.listdir("/proc"):
        fields = stat_fields(name) if name.isdigit() else None
        if fields:
            found[int(name)] = int(fields[1])
    return found


def children(pid):
    return sorted(p for p, parent in parents().items() if parent == pid)


def descendants(pid):
    """All below pid, nearest first."""
    tree, found, level = parents(), [], {pid}
    while level:
        level = {p for p, parent in tree.items() if parent in level} - set(found)
        found += sorted(level)
    return found


def outer_pids(init_pid):
    """Inner pid -> outer pid of the processes in init_pid's pid namespace."""
    found = {}
    try:
        space = os.readlink(f"/proc/{init_pid}/ns/pid")
    except OSError:
        return found
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if os.readlink(f"/proc/{name}/ns/pid") != space:
                continue
            with open(f"/proc/{name}/status", encoding="utf-8") as text:
                line = next(line for line in text if line.startswith("NSpid:"))
        except (OSError, StopIteration):
            continue
        found[int(line.split()[-1])] = int(name)
    return found


def end_tree(pid, patience=5):
    """Ends all below pid, then pid and what keeps starting others. Guests first: their ends must not be seen by
    something that starts them anew."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        keep = {p for p in descendants(pid) if is_supervisor(p)}
        for each in descendants(pid):
            if each not in keep:
                send(each, sig)
        end = time.monotonic() + patience
        while time.monotonic() < end and [p for p in descendants(pid) if p not in keep and not is_zombie(p)]:
            time.sleep(0.05)
    for each in [pid, *descendants(pid)]:  # parents before children, which they would start anew
        send(each, signal.SIGKILL)


def is_supervisor(pid):
    """runsv starts svlogd anew whenever it ends, so that is left alone as long."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as text:
            return text.read().strip() in ("runsvdir", "runsv", "svlogd")
    except OSError:
        return False


def send(pid, sig):
    try:
        os.kill(pid, sig)
    except ProcessLookupError:
        pass


def reap(*pids):
    """Collects what was our own child, so that no zombie stays."""
    for pid in pids:
        end = time.monotonic() + 3
        while pid and time.monotonic() < end:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    break
            except ChildProcessError:
                if start_time(pid) is None:
                    break
            time.sleep(0.02)


# --- the rest of the machine ---

def sysctl_path(name):
    return "/proc/sys/" + name.replace(".", "/", 3 if name.startswith("net.ipv") else 2)


def read_sysctls():
    found = {}
    for name in SYSCTLS:
        try:
            with open(sysctl_path(name), encoding="utf-8") as text:
                found[name] = text.read().strip()
        except OSError:
            continue
    return found


def links():
    shown = subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout
    return sorted(link["ifname"] for link in json.loads(shown or "[]"))


def tables():
    shown = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, text=True, check=False).stdout
    found = [item["table"] for item in json.loads(shown or "{}").get("nftables", []) if "table" in item]
    return sorted(f"{t['family']} {t['name']}" for t in found)


def cgroups():
    """Folders right below each hierarchy."""
    found = []
    for hierarchy in ["/sys/fs/cgroup", *glob.glob("/sys/fs/cgroup/*")]:
        if os.path.exists(os.path.join(hierarchy, "cgroup.procs")) and not os.path.islink(hierarchy):
            found += [p for p in glob.glob(hierarchy + "/*/") if os.path.exists(os.path.join(p, "cgroup.procs"))]
    return sorted(found)


def snapshot(node):
    """What the machine looked like before. An isolated node changes none of it but its cgroups and link."""
    before = {"cgroups": cgroups(), "links": links()}
    if not node.isolated:
        before["sysctls"] = read_sysctls()
        before["tables"] = tables()
    return before


def remove_cgroup(folder):
    for base, _, _ in os.walk(folder, topdown=False):
        for _ in range(20):
            try:
                os.rmdir(base)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.05)


# What libvirt and liblxc make on a host without namespaces of the node's own.
HOST_CGROUPS = ["machine", "machine.slice", "lxc"]


def container_cgroup(run_dir):
    """The folder of a node's containers, as compute-agent names it: with another run folder it carries its FNV-1a hash."""
    number = 2166136261
    for byte in os.fsencode(run_dir):
        number = (number ^ byte) * 16777619 & 0xffffffff
    return "atoll" if run_dir == "/run/atoll" else f"atoll-{number:08x}"


def tear_network_down(command, node):
    """sdn-agent knows best what it made: bridges, rules, settings, its dnsmasq. Its log is shown when it fails."""
    done = subprocess.run([*command, "--teardown", "--run-dir", node.run_dir, "--state-dir", node.state_dir],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr.rstrip(), file=sys.stderr)


def restore(node, before):
    """Takes away what is there now and was not before, as far as its name says that it is ours."""
    ours = [node.cgroup] if node.isolated else [container_cgroup(node.run_dir), *HOST_CGROUPS]
    for folder in cgroups():
        name = os.path.basename(folder.rstrip("/"))
        if folder not in before.get("cgroups", []) and (name in ours or not node.isolated and name.startswith("lxc.")):
            remove_cgroup(folder)
    for link in links():
        mine = link == node.link or (not node.isolated and link.startswith(("vmbr", "tap", "veth", "fwbr", "vnet")))
        if mine and link not in before.get("links", []):
            subprocess.run(["ip", "link", "del", link], stderr=subprocess.DEVNULL, check=False)
    if node.isolated:
        return
    for table in tables():
        if "atoll" in table and table not in before.get("tables", []):
            subprocess.run(["nft", "delete", "table", *table.split(" ", 1)], check=False)
    now = read_sysctls()
    for name, value in before.get("sysctls", {}).items():
        if now.get(name) != value:
            with open(sysctl_path(name), "w", encoding="utf-8") as out:
                out.write(value)
