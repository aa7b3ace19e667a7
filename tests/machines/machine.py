"""One lab machine: a QEMU process with a disk of its own over the common image, reached through its guest agent."""
import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
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


class Machine:
    """Number i is called l{i}; its port 8006 is 127.0.0.1:PORT here, and it has 10.78.0.i on the lab's network."""

    def __init__(self, folder, number, lab_port, memory_mib=1536):
        self.number = number
        self.name = f"l{number}"
        self.folder = os.path.join(folder, self.name)
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

    def wait(self, seconds=240):
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
        self.run(f"hostnamectl set-hostname {self.name}\n"
                 f"printf '{network}' >/etc/systemd/network/20-lab.network; networkctl reload\n"
                 "mkdir -p /share; echo '/dev/vdb /share ext4 ro,noatime 0 0' >>/etc/fstab; mount /share")

    def reboot(self, seconds=240):
        """In order, as an operator does; returns when it is up again."""
        before = self.run("cat /proc/sys/kernel/random/boot_id")
        self.agent.run("systemd-run --on-active=1 systemctl reboot")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(1)
            with contextlib.suppress(OSError, ValueError, MachineError):
                if self.agent.answers() and self.run("cat /proc/sys/kernel/random/boot_id") != before:
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


def package(build_dir):
    """The Debian package of a build, made anew."""
    for name in os.listdir(build_dir):
        if name.endswith(".deb"):
            os.unlink(os.path.join(build_dir, name))
    subprocess.run(["cpack", "-G", "DEB"], cwd=build_dir, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return next(os.path.join(build_dir, name) for name in os.listdir(build_dir) if name.endswith(".deb"))
