"""The disk of a lab machine: Debian with systemd and what Atoll's package depends on, without Atoll itself. Made from the
machine's own package sources, kept below build/lab until the list of packages changes."""
import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
FOLDER = os.path.join(TOP, "build", "lab")


def section(name):
    """The Debian packages of one section of deploy/packages.txt."""
    with open(os.path.join(TOP, "deploy", "packages.txt"), encoding="utf-8") as lines:
        return [line.split()[1] for line in lines if line.startswith(name + " ")]


SYSTEM = ["systemd", "systemd-sysv", "udev", "dbus", "kmod", "initramfs-tools", "zstd", "linux-image-amd64", "qemu-guest-agent",
          "apparmor", *section("guest"), *section("witness")]
DISK_GIB = 6
OFF = ["apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer",
       "systemd-networkd-wait-online.service", "lxc-net.service", "dpkg-db-backup.timer"]
NETWORK = {
    "10-outside.network": "[Match]\nMACAddress=52:54:00:00:00:01\n[Network]\nDHCP=ipv4\n",
}


def packages(deb):
    """What the package wants to be there, and what makes a machine of it."""
    names = set()
    for field in ("Depends", "Recommends"):
        for choice in run("dpkg-deb", "-f", deb, field).split(","):
            names.add(choice.split("|")[0].split("(")[0].strip())
    return sorted((names | set(SYSTEM)) - {""})


def sources():
    """The machine's own sources of Debian, as lines for another root."""
    out = subprocess.run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)",
                          "Created-By: Packages"], check=True, capture_output=True, text=True).stdout
    found = sorted({tuple(line.split()[1:]) for line in out.splitlines() if line.startswith("Debian ")})
    if not found:
        raise SystemExit("the machine's apt knows no sources of Debian: run apt-get update")
    return [f"deb {uri} {suite} {component}" for uri, suite, component in found]


def stamp(wanted):
    with open(__file__, "rb") as own:
        return hashlib.sha256(own.read() + json.dumps(wanted).encode()).hexdigest()


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)[:200]}: exit code {done.returncode}\n{(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def write(root, path, text):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as out:
        out.write(text)


def configure(root):
    """A machine without a name of its own, whose network comes up by itself and whose services stay quiet."""
    write(root, "etc/hostname", "lab\n")
    write(root, "etc/hosts", "127.0.0.1 localhost\n" + "".join(f"10.78.0.{i} l{i}\n" for i in range(1, 9)))
    write(root, "etc/fstab", "/dev/vda / ext4 defaults,noatime 0 1\n")
    for name, text in NETWORK.items():
        write(root, f"etc/systemd/network/{name}", text)
    write(root, "etc/network/interfaces", "auto lo\niface lo inet loopback\n\nauto vmbr0\niface vmbr0 inet static\n"
          "\taddress 10.10.10.1/24\n\tbridge-ports none\n\tbridge-stp off\n\tbridge-fd 0\n"
          "\tatoll-nat yes\n\tatoll-dhcp-range 10.10.10.100 10.10.10.199\n")
    write(root, "etc/initramfs-tools/conf.d/lab", "MODULES=list\nCOMPRESS=zstd\n")
    with open(os.path.join(root, "etc/initramfs-tools/modules"), "a", encoding="utf-8") as out:
        out.write("virtio_pci\nvirtio_blk\next4\n")
    run("chroot", root, "systemctl", "enable", "systemd-networkd")
    run("chroot", root, "systemctl", "mask", *OFF)
    kernel = next(name for name in sorted(os.listdir(os.path.join(root, "lib", "modules"))))
    run("chroot", root, "update-initramfs", "-u", "-k", kernel)
    return kernel


def make(wanted, say):
    root = os.path.join(FOLDER, "root")
    remove(root)
    os.makedirs(FOLDER, exist_ok=True)
    say("lab image: installing Debian with what the package depends on")
    arguments = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(wanted)}",
                 "--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none",
                 "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
    run(*arguments, "bookworm", root, "-", input="\n".join(sources()) + "\n",
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    say("lab image: writing the disk")
    kernel = configure(root)
    shutil.copy(os.path.join(root, "boot", f"vmlinuz-{kernel}"), os.path.join(FOLDER, "vmlinuz"))
    shutil.copy(os.path.join(root, "boot", f"initrd.img-{kernel}"), os.path.join(FOLDER, "initrd"))
    base = os.path.join(FOLDER, "base.raw")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(base)
    run("truncate", "-s", f"{DISK_GIB}G", base)
    run("mkfs.ext4", "-q", "-F", "-d", root, base)
    remove(root)
    write(FOLDER, "stamp", stamp(wanted))


def remove(root):
    """What mmdebstrap left behind; nothing is mounted there."""
    if os.path.exists(root):
        if re.search(rf" {re.escape(root)}/", open("/proc/self/mountinfo", encoding="utf-8").read()):
            raise SystemExit(f"{root}: something is mounted there")
        shutil.rmtree(root)


def ready(deb, say=print):
    """Makes the image for that package unless it is there."""
    wanted = packages(deb)
    try:
        with open(os.path.join(FOLDER, "stamp"), encoding="utf-8") as text:
            fresh = text.read() == stamp(wanted)
    except FileNotFoundError:
        fresh = False
    if not fresh:
        make(wanted, say)
