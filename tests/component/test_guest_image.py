#!/usr/bin/python3
"""The guest disk and the container template that the quickstart and the tests use, run without Atoll."""
import json
import os
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
GUEST = os.path.join(TOP, "build", "guest")
DISK = os.path.join(GUEST, "atoll-guest.qcow2")
TEMPLATE = os.path.join(GUEST, "atoll-busybox_1_amd64.tar.gz")
META = "instance-id: 1\nlocal-hostname: atoll-test\n"
NETWORK = """version: 1
config:
    - type: physical
      name: eth0
      mac_address: '52:54:00:12:34:56'
      subnets:
      - type: static
        address: '10.0.2.77'
        netmask: '255.255.255.0'
        gateway: '10.0.2.2'
"""


def wait_for(what, seconds, test, step=0.05):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(step)
    raise AssertionError(f"{what}: not within {seconds} s")


class Qemu:
    """One guest under TCG with a serial log, an agent socket and a monitor."""

    def __init__(self, folder, machine, disk_options, cidata=None):
        self.serial = os.path.join(folder, "serial.log")
        self.agent_path = os.path.join(folder, "agent.sock")
        self.monitor_path = os.path.join(folder, "monitor.sock")
        overlay = os.path.join(folder, "disk.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", DISK, overlay], check=True)
        command = ["qemu-system-x86_64", "-M", machine, "-accel", "tcg", "-m", "128", "-nodefaults", "-display", "none",
                   "-serial", f"file:{self.serial}", "-device", "virtio-serial",
                   "-chardev", f"socket,path={self.agent_path},server=on,wait=off,id=ga",
                   "-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0",
                   "-monitor", f"unix:{self.monitor_path},server=on,wait=off",
                   "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile=",
                   "-drive", f"file={overlay},if=none,id=d", *disk_options]
        if cidata:
            command += ["-drive", f"file={cidata},if=ide,media=cdrom,readonly=on"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def serial_text(self):
        try:
            with open(self.serial, encoding="utf-8", errors="replace") as text:
                return text.read()
        except OSError:
            return ""

    def agent(self, command, **arguments):
        link = socket.socket(socket.AF_UNIX)
        link.settimeout(5)
        link.connect(self.agent_path)
        request = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        link.sendall((json.dumps(request) + "\n").encode())
        data = b""
        while not data.endswith(b"\n"):
            part = link.recv(65536)
            if not part:
                raise ConnectionError("the agent's socket was closed")
            data += part
        link.close()
        return json.loads(data)["return"]

    def monitor(self, line):
        link = socket.socket(socket.AF_UNIX)
        link.connect(self.monitor_path)
        link.settimeout(5)
        link.recv(4096)
        link.sendall((line + "\n").encode())
        time.sleep(0.1)
        link.close()

    def addresses(self):
        found = self.agent("guest-network-get-interfaces")
        return [a["ip-address"] for i in found if i["name"] == "eth0" for a in i.get("ip-addresses", [])]

    def stop(self):
        self.process.kill()
        self.process.wait()


class GuestDisk(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        subprocess.run([os.path.join(TOP, "deploy", "guest-image", "build.sh"), GUEST], check=True,
                       stdout=subprocess.DEVNULL)

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def boot(self, machine, disk_options, cidata=None):
        guest = Qemu(self.folder.name, machine, disk_options, cidata)
        self.addCleanup(guest.stop)
        wait_for("GUEST-READY on the serial port", 60, lambda: "GUEST-READY" in guest.serial_text())
        return guest

    def test_boots_by_bios_takes_dhcp_answers_agent_and_obeys_power_button(self):
        guest = self.boot("q35", ["-device", "virtio-blk-pci,drive=d"])
        wait_for("an address by DHCP", 20, lambda: "10.0.2.15" in guest.addresses())
        self.assertEqual(guest.agent("guest-ping"), {})
        guest.monitor("system_powerdown")
        self.assertEqual(guest.process.wait(timeout=20), 0)

    def test_boots_from_scsi_and_reads_cloud_init_drive(self):
        for name, text in (("meta-data", META), ("user-data", "#cloud-config\n"), ("network-config", NETWORK)):
            with open(os.path.join(self.folder.name, name), "w", encoding="utf-8") as out:
                out.write(text)
        iso = os.path.join(self.folder.name, "seed.iso")
        subprocess.run(["genisoimage", "-quiet", "-V", "cidata", "-r", "-J", "-o", iso,
                        *[os.path.join(self.folder.name, n) for n in ("meta-data", "user-data", "network-config")]],
                       check=True, stderr=subprocess.DEVNULL)
        guest = self.boot("pc", ["-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=d"], iso)
        self.assertIn("GUEST-READY atoll-test", guest.serial_text())
        self.assertIn("10.0.2.77", guest.addresses())
        with self.assertRaises(OSError):  # a guest that goes down does not answer
            guest.agent("guest-shutdown")
        self.assertEqual(guest.process.wait(timeout=20), 0)


class ContainerTemplate(unittest.TestCase):
    def test_init_stops_within_half_a_second(self):
        subprocess.run([os.path.join(TOP, "deploy", "guest-image", "build.sh"), GUEST], check=True,
                       stdout=subprocess.DEVNULL)
        with tempfile.TemporaryDirectory() as root:
            with tarfile.open(TEMPLATE) as archive:
                archive.extractall(root)
            command = ["unshare", "--pid", "--fork", "--kill-child", "--net", "--mount", "--uts", "sh", "-c",
                       f"mount -t proc proc {root}/proc && exec chroot {root} /sbin/init"]
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
            self.addCleanup(child.kill)

            def init_pid():
                found = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()
                if not found:
                    return None
                with open(f"/proc/{found[0]}/cmdline", encoding="utf-8") as text:
                    return int(found[0]) if "/sbin/init" in text.read() else None

            pid = wait_for("init to run", 20, init_pid)
            wait_for("init to be ready", 20, lambda: os.path.exists(f"/proc/{pid}/root/run/ready"))
            begin = time.monotonic()
            os.kill(pid, signal.SIGPWR)
            child.wait(timeout=10)
            self.assertLess(time.monotonic() - begin, 5)  # 0.1 s are meant


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
