"""runit's service folders of a node: written, started, looked at, stopped."""
import os
import shlex
import stat
import time

from layout import SERVICES, state_of


def write_script(path, text):
    """Replaces a script as a whole: runsv may start it at any time."""
    part = path + ".part"
    with open(part, "w", encoding="utf-8") as out:
        out.write(text)
    os.chmod(part, 0o755)
    os.replace(part, path)


# As many descriptors as a gateway with thousands of connections needs, or as many as may be.
LIMITS = 'ulimit -c 0\nulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)"\n'


def write_service(folder, comment, command, log_dir):
    """One runit service with its own log (svlogd: at most 10 files of 1 MB)."""
    os.makedirs(os.path.join(folder, "log"), exist_ok=True)
    os.makedirs(log_dir, exist_ok=True)
    line = " ".join(shlex.quote(word) for word in command)
    write_script(os.path.join(folder, "run"), f"#!/bin/sh\n# {comment}\nexec 2>&1 </dev/null\n{LIMITS}exec {line}\n")
    write_script(os.path.join(folder, "log", "run"), f"#!/bin/sh\nexec svlogd -tt {shlex.quote(log_dir)}\n")


# What a service may do beyond its user's rights. storage-agent makes files for QEMU's and containers' users,
# sdn-agent makes bridges and starts dnsmasq, ha-lrm must not wait for others on a busy machine.
CAPABILITIES = {
    "ha-lrm": "+sys_nice",
    "storage-agent": "+chown,+dac_override,+fowner,+fsetid,+setfcap,+sys_admin,+mknod,+setuid,+setgid,+kill",
    "sdn-agent": "+net_admin,+net_bind_service,+net_raw,+sys_admin,+setuid,+setgid,+setpcap,+chown,+kill,+dac_override",
}

# The way of a renewed lock, from ha-lrm to etcd and back: guests that keep all processors busy must not delay it, for a node
# that cannot renew is reset. (corosync sees to that itself.)
PROMPT = ("config-store", "ha-lrm", "ha-crm", "watchdog", "etcd")
NICE = -15


def promptness(name):
    """The command prefix of what others wait for."""
    return ["nice", "-n", str(NICE)] if name in PROMPT else []


# config-store starts the setuid helper that asks PAM; this is the most the helper can have (chown: a password that is
# changed goes into a new shadow file, which belongs to group shadow).
HELPERS = {"config-store": "+setuid,+setgid,+audit_write,+dac_read_search,+chown"}


def privileges(service):
    """The command prefix that drops to a service's user."""
    if service.user == "root":
        return []
    wanted = CAPABILITIES.get(service.name)
    prefix = ["setpriv", f"--reuid={service.user}", f"--regid={service.user}", "--init-groups"]
    if service.name in HELPERS:
        return [*prefix, "--inh-caps=-all", f"--bounding-set=-all,{HELPERS[service.name]}"]
    prefix.append("--no-new-privs")
    if wanted:
        return [*prefix, f"--inh-caps=-all,{wanted}", f"--ambient-caps=-all,{wanted}", f"--bounding-set=-all,{wanted}"]
    return [*prefix, "--inh-caps=-all", "--bounding-set=-all"]


def write_services(node):
    for service in SERVICES:
        program = os.path.join(node.bin_dir, "atoll-" + service.name)
        command = [*promptness(service.name), *privileges(service), program, "--run-dir", node.run_dir,
                   "--state-dir", state_of(service.name, node.state_dir), "--node", node.name, *node.options_of(service.name)]
        name = "atoll-" + service.name
        write_service(os.path.join(node.service_dir, name), f"{name}, as {service.user}", command,
                      os.path.join(node.log_dir, name))


def read_pid(service_dir, name):
    """The pid runsv knows, as its own pid namespace counts; None when the service is down."""
    try:
        with open(os.path.join(service_dir, name, "supervise", "pid"), encoding="utf-8") as text:
            return int(text.read().strip() or 0) or None
    except (OSError, ValueError):
        return None


def wanted(service_dir, name):
    """Does it run, or should it? (The 20-byte status of runsv: the byte at 17 is what is wanted.)"""
    try:
        with open(os.path.join(service_dir, name, "supervise", "status"), "rb") as data:
            status = data.read(20)
    except OSError:
        return False
    return len(status) >= 18 and (status[17:18] == b"u" or status[12:16] != b"\0\0\0\0")


def ready_pid(run_dir, service):
    try:
        with open(os.path.join(run_dir, service + ".ready"), encoding="utf-8") as text:
            return int(text.read().strip() or 0) or None
    except (OSError, ValueError):
        return None


def control(service_dir, name, command):
    """What `sv` would do, without waiting: "d" down, "u" up, "t" SIGTERM, "k" SIGKILL, "x" leave."""
    path = os.path.join(service_dir, name, "supervise", "control")
    try:
        fifo = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(fifo).st_mode):
            return False
        os.write(fifo, command.encode())
    except OSError:
        return False
    finally:
        os.close(fifo)
    return True


def wait_until(seconds, test, step=0.05):
    """The first true answer of test, or its last one when the time is over."""
    end = time.monotonic() + seconds
    while True:
        value = test()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)
