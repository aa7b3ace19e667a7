"""A libvirtd of the node's own, where the host has none: its files, and its service."""
import os
import subprocess
import uuid

import supervisor

SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")


def host_has_one():
    """Does somebody answer at the host's socket?"""
    if not any(os.path.exists(path) for path in SOCKETS):
        return False
    done = subprocess.run(["virsh", "-q", "-r", "-c", "qemu:///system", "version"], capture_output=True, timeout=30,
                          check=False)
    return done.returncode == 0


def write(node):
    """Its folders lie below RUN, and inside.sh binds them to the places that are compiled in. What the program
    found out about QEMU is kept in the state folder: asking takes seconds."""
    base = os.path.join(node.private, "libvirt")
    config = os.path.join(base, "etc", "libvirt")
    os.makedirs(config, exist_ok=True)
    cache = node.libvirt_cache
    os.makedirs(cache, exist_ok=True)
    link = os.path.join(base, "var", "cache", "libvirt")
    os.makedirs(os.path.dirname(link), exist_ok=True)
    if not os.path.exists(link):
        os.symlink(cache, link)
    identity = os.path.join(node.state_dir, "libvirt-uuid")
    if not os.path.exists(identity):
        with open(identity, "w", encoding="utf-8") as out:
            out.write(str(uuid.uuid4()))
    with open(identity, encoding="utf-8") as text:
        host_uuid = text.read().strip()
    with open(os.path.join(config, "libvirtd.conf"), "w", encoding="utf-8") as out:
        out.write(f'host_uuid = "{host_uuid}"\nunix_sock_group = "root"\nunix_sock_ro_perms = "0700"\n'
                  'unix_sock_rw_perms = "0700"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n'
                  'max_clients = 200\nlog_outputs = "3:stderr"\n')
    with open(os.path.join(config, "qemu.conf"), "w", encoding="utf-8") as out:
        out.write('security_driver = "none"\nuser = "libvirt-qemu"\ngroup = "kvm"\ndynamic_ownership = 1\n'
                  'remember_owner = 0\nnamespaces = [ ]\nstdio_handler = "file"\n')
    supervisor.write_service(os.path.join(node.service_dir, "libvirtd"), "libvirt's engine for virtual machines",
                             ["/usr/sbin/libvirtd", "--pid-file", os.path.join(node.private, "libvirt", "pid")],
                             os.path.join(node.log_dir, "libvirtd"))
