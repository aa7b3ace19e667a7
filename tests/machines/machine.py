"""One lab machine: a QEMU process with a disk of its own over the common image, reached through its guest agent."""
import base64
import contextlib
import glob
import json
import os
import signal
import socket
import subprocess
import threading
import time

import image

APPEND = "root=/dev/vda rw console=ttyS0,115200 mitigations=off net.ifnames=0 quiet"


class MachineError(Exception):
    """What could not be done, and why."""


class Agent:
    """The guest agent of a machine, one connection for one question."""

    def __init__(self, path):
        self.path = path

    @contextlib.contextmanager
    def connection(self, timeout):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(timeout)
            link.connect(self.path)
            with link.makefile("rw", encoding="utf-8") as stream:
                number = time.monotonic_ns() & 0x7fffffff
                self.send(stream, "guest-sync", id=number)
                while json.loads(stream.readline()).get("return") != number:
                    pass
                yield stream

    @staticmethod
    def send(stream, command, **arguments):
        stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        stream.flush()

    def ask(self, stream, command, **arguments):
        self.send(stream, command, **arguments)
        answer = json.loads(stream.readline())
        if "return" not in answer:
            raise MachineError(f"{command}: {answer}")
        return answer["return"]

    def answers(self):
        try:
            with self.connection(2) as stream:
                return self.ask(stream, "guest-ping") == {}
        except (OSError, ValueError, MachineError):
            return False

    def run(self, command, text_in="", timeout=120):
        """(exit code, output, errors) of a shell command."""
        end = time.monotonic() + timeout
        with self.connection(20) as stream:
            pid = self.ask(stream, "guest-exec", path="/bin/sh", arg=["-c", command], **{
                "capture-output": True, "input-data": base64.b64encode(text_in.encode()).decode()})["pid"]
            while time.monotonic() < end:
                state = self.ask(stream, "guest-exec-status", pid=pid)
                if state["exited"]:
                    out, err = (base64.b64decode(state.get(key, "")).decode(errors="replace")
                                for key in ("out-data", "err-data"))
                    return state.get("exitcode", 128 + state.get("signal", 0)), out, err
                time.sleep(0.1)
        raise MachineError(f"{command}: no end within {timeout} s")


class Monitor:
    """QEMU's view of a machine: one connection, closed in the end. `events` are those since it was made, with their time."""

    def __init__(self, path):
        self.link = socket.socket(socket.AF_UNIX)
        self.link.settimeout(20)
        self.link.connect(path)
        self.stream = self.link.makefile("rw", encoding="utf-8")
        self.stream.readline()
        self.events = []
        self.answers = []
        self.news = threading.Condition()
        self.link.settimeout(None)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        self.command("qmp_capabilities")

    def read(self):
        with contextlib.suppress(OSError, ValueError):
            for line in self.stream:
                message = json.loads(line)
                with self.news:
                    if "event" in message:
                        self.events.append((time.monotonic(), message["event"], message.get("data", {})))
                    else:
                        self.answers.append(message)
                    self.news.notify_all()

    def command(self, word, /, **arguments):
        with self.news:
            self.answers.clear()
            self.stream.write(json.dumps({"execute": word, "arguments": arguments}) + "\n")
            self.stream.flush()
            if not self.news.wait_for(lambda: self.answers, 20) or "return" not in self.answers[0]:
                raise MachineError(f"{word}: {self.answers}")
            return self.answers[0]["return"]

    def resets(self):
        """When the machine's watchdog reset it."""
        with self.news:
            return [when for when, what, _ in self.events if what == "WATCHDOG"]

    def close(self):
        self.link.shutdown(socket.SHUT_RDWR)
        self.reader.join()
        self.link.close()


class Machine:
    """Number i is called l{i}; its port 8006 is 127.0.0.1:PORT here, and it has 10.78.0.i on the lab's network. It has a
    watchdog, and the folder /pool with all others."""

    def __init__(self, folder, number, lab_port, memory_mib=1536):
        self.number = number
        self.name = f"l{number}"
        self.folder = os.path.join(folder, self.name)
        self.pool = os.path.join(folder, "pool")
        self.address = f"10.78.0.{number}"
        self.lab_port = lab_port
        self.port = lab_port + number
        self.memory_mib = memory_mib
        self.agent = Agent(self.path("agent"))

    def path(self, name):
        return os.path.join(self.folder, name)

    # --- power ---

    def create(self, share):
        """share: a folder whose content the machine finds in /share."""
        os.makedirs(self.folder, exist_ok=True)
        os.makedirs(self.pool, exist_ok=True)
        image.run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.path.join(image.FOLDER, "base.raw"),
                  self.path("disk.qcow2"))
        size = sum(os.path.getsize(os.path.join(share, name)) for name in os.listdir(share)) // (1 << 20) + 32
        image.run("truncate", "-s", f"{size}M", self.path("share.raw"))
        image.run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-d", share, self.path("share.raw"))

    def command(self):
        mac = f"52:54:00:78:00:{self.number:02x}"
        return ["qemu-system-x86_64", "-name", self.name, "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=256",
                "-cpu", "max", "-smp", "2", "-m", str(self.memory_mib), "-nodefaults", "-display", "none", "-no-user-config",
                "-kernel", os.path.join(image.FOLDER, "vmlinuz"), "-initrd", os.path.join(image.FOLDER, "initrd"),
                "-append", APPEND, "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
                "-drive", f"file={self.path('disk.qcow2')},if=virtio,format=qcow2,cache=unsafe,discard=unmap",
                "-drive", f"file={self.path('share.raw')},if=virtio,format=raw,readonly=on",
                "-virtfs", f"local,path={self.pool},mount_tag=pool,security_model=passthrough,multidevs=remap,id=pool",
                "-device", "i6300esb", "-action", "watchdog=reset",
                "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:8006",
                "-device", "virtio-net-pci,netdev=n0,mac=52:54:00:00:00:01",
                "-netdev", f"socket,id=n1,mcast=230.78.7.9:{self.lab_port},localaddr=127.0.0.1",
                "-device", f"virtio-net-pci,netdev=n1,mac={mac}",
                "-serial", f"file:{self.path('serial')}", "-qmp", f"unix:{self.path('qmp')},server=on,wait=off",
                "-chardev", f"socket,id=ga,path={self.path('agent')},server=on,wait=off",
                "-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0", "-pidfile", self.path("pid"), "-daemonize"]

    def power_on(self):
        image.run(*self.command())

    def pid(self):
        """None when it does not run."""
        try:
            with open(self.path("pid"), encoding="utf-8") as text:
                pid = int(text.read())
            with open(f"/proc/{pid}/cmdline", "rb") as text:
                return pid if self.path("qmp").encode() in text.read() else None
        except (OSError, ValueError):
            return None

    def power_off(self):
        """At once, as the plug does it."""
        pid = self.pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGKILL)
        while self.pid() is not None:
            time.sleep(0.05)

    def wait(self, seconds=600):
        """Until it has booted and its agent answers."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.agent.answers():
                return
            if self.pid() is None:
                raise MachineError(f"{self.name} ended; its console: {self.path('serial')}")
            time.sleep(0.5)
        raise MachineError(f"{self.name} does not answer within {seconds} s; its console: {self.path('serial')}")

    # --- what is done in it ---

    def run(self, command, check=True, **options):
        """What the shell command printed; raises with all it said when it failed."""
        code, out, err = self.agent.run(command, **options)
        if check and code != 0:
            raise MachineError(f"{self.name}: {command}: exit code {code}\n{out}{err}")
        return out

    def set_up(self):
        """Its name, its address in the lab, its own machine id; once after the first boot."""
        network = f"[Match]\\nMACAddress=52:54:00:78:00:{self.number:02x}\\n[Network]\\nAddress={self.address}/24\\n"
        self.run(f"set -e; echo {self.name} >/etc/hostname; hostname {self.name}\n"
                 f"printf '{network}' >/etc/systemd/network/20-lab.network; networkctl reload\n"
                 "mkdir -p /share /pool; echo '/dev/vdb /share ext4 ro,noatime 0 0' >>/etc/fstab\n"
                 "echo 'pool /pool 9p trans=virtio,version=9p2000.L,msize=262144 0 0' >>/etc/fstab\n"
                 "mount /share && mount /pool")

    def boot_id(self):
        return self.run("cat /proc/sys/kernel/random/boot_id").strip()

    def link(self, up):
        """Its network with the other machines; this one reaches it all the same."""
        monitor = Monitor(self.path("qmp"))
        try:
            monitor.command("set_link", name="n1", up=up)
        finally:
            monitor.close()

    def reboot(self, seconds=600):
        """In order, as an operator does; returns when it is up again."""
        before = self.boot_id()
        self.agent.run("systemd-run --on-active=1 systemctl reboot")
        self.wait_boot(before, seconds)

    def wait_boot(self, before, seconds):
        """Until it runs with another boot than that one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            with contextlib.suppress(OSError, ValueError, MachineError):
                if self.agent.answers() and self.boot_id() != before:
                    return
        raise MachineError(f"{self.name} is not up again within {seconds} s; its console: {self.path('serial')}")


def free_port():
    """A number below which ten ports of this machine are free."""
    for first in range(18006, 28006, 20):
        try:
            for port in range(first, first + 10):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue
    raise MachineError("no free ports on 127.0.0.1")


def packages(build_dir):
    """{name: file} of a build's Debian packages, made anew."""
    for path in glob.glob(os.path.join(build_dir, "*.deb")):
        os.unlink(path)
    subprocess.run(["cpack", "-G", "DEB"], cwd=build_dir, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {os.path.basename(path).split("_")[0]: path for path in glob.glob(os.path.join(build_dir, "*.deb"))}
