"""etcd, corosync and corosync-qdevice: supervised like the services, down until config-store wants them
(docs/decisions/0010, 0013)."""
import os

import layout
import supervisor

USER = "atoll-config"
NAMES = ("etcd", "corosync", "qdevice")
QDEVICE = os.path.join(layout.TOP, "deploy", "node", "qdevice.sh")


def folders(node):
    """What config-store writes for them, as its user."""
    base = os.path.join(node.state_dir, "config-store")
    group = layout.group_of("config-store")
    for name in NAMES:
        layout.make_folder(os.path.join(base, name), USER, group, 0o700)
    return base


def write(node):
    base = folders(node)
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--no-new-privs", "--inh-caps=-all",
               "--bounding-set=-all"]
    etcd = [*supervisor.promptness("etcd"), *as_user, "etcd", "--config-file", os.path.join(base, "etcd", "etcd.yml")]
    qdevice = [*as_user, QDEVICE, "qdevice", os.path.join(base, "etcd"), os.path.join(base, "qdevice")]
    corosync = ["corosync", "-f", "-c", os.path.join(base, "corosync", "corosync.conf")]
    if node.isolated:  # its pid file has a fixed place in /run
        corosync = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", *corosync]
    write_slot(node, "etcd", "replicated state of the cluster", etcd)
    write_slot(node, "corosync", "membership and quorum of the cluster", corosync)
    write_slot(node, "qdevice", "the witness's vote in corosync", qdevice)


def write_slot(node, name, comment, command):
    folder = os.path.join(node.service_dir, name)
    supervisor.write_service(folder, comment, command, os.path.join(node.log_dir, name))
    with open(os.path.join(folder, "down"), "w", encoding="utf-8"):
        pass
    give_control(os.path.join(folder, "supervise"))


def give_control(folder):
    """runsv takes the folder and the pipes that it finds: whoever may write to them may say "up" and "down"."""
    layout.make_folder(folder, "root", layout.group_of("config-store"), 0o750)
    for name in ("control", "ok"):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            os.mkfifo(path, 0o600)
        layout.own(path, USER, 0o600)
