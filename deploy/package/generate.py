#!/usr/bin/python3
"""Writes what an installed node needs beside the programs: systemd units, users, folders. All of it follows from
deploy/bus-callers.txt and the tables of deploy/node, which the launcher without systemd uses too.

usage: generate.py FOLDER LIBEXEC SHARE      LIBEXEC: where the services are; SHARE: where openapi.json is
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "node"))

import layout  # noqa: E402
import slots  # noqa: E402
import supervisor  # noqa: E402

RUN, STATE = "/run/atoll", "/var/lib/atoll"
SETTINGS = "/etc/default/atoll"
WITNESS_USER = "atoll-witness"
WHAT = {"config-store": "state and identity", "compute-agent": "virtual machines and containers",
        "storage-agent": "storages and volumes", "sdn-agent": "networks", "watchdog": "feeds the machine's watchdog",
        "ha-lrm": "guests under high availability", "ha-crm": "where guests under high availability run",
        "api-gateway": "REST API"}
# Services that leave processes behind when they stop: tasks, monitors, dnsmasq.
KEEPS_CHILDREN = {"config-store", "compute-agent", "storage-agent", "sdn-agent"}
# What ends after a service, and is there before it when both are to start: without it the service cannot end in order.
AFTER = {"compute-agent": ["libvirtd.service"], "ha-crm": ["atoll-config-store.service"],
         "ha-lrm": ["atoll-config-store.service", "atoll-ha-crm.service", "atoll-watchdog.service"]}
# How long a service may take to end; ha-lrm waits for the manager to freeze what it has, and for guests that move.
STOP_S = {"ha-lrm": 330}
# What each unit is kept from, beyond its user. compute-agent and storage-agent mount and make devices; a setuid helper
# (config-store's, for PAM) works only without NoNewPrivileges, which most of these settings imply.
WALLS = ["NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes",
         "ProtectKernelTunables=yes", "ProtectKernelModules=yes", "ProtectKernelLogs=yes", "ProtectControlGroups=yes",
         "ProtectClock=yes", "ProtectHostname=yes", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
         "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes",
         "MemoryDenyWriteExecute=yes", "SystemCallArchitectures=native", "SystemCallFilter=@system-service"]


def without(*walls):
    return [wall for wall in WALLS if not wall.startswith(walls)]


SANDBOX = {
    "api-gateway": [*WALLS, f"ReadWritePaths={RUN} {STATE}/gateway {STATE}/tasks"],
    "config-store": ["ProtectSystem=yes", "ProtectHome=yes", "PrivateTmp=yes"],
    "sdn-agent": ["NoNewPrivileges=yes", "ProtectHome=yes", "ProtectClock=yes", "ProtectKernelModules=yes",
                  "LockPersonality=yes", "MemoryDenyWriteExecute=yes", "SystemCallArchitectures=native"],
    "storage-agent": ["NoNewPrivileges=yes", "ProtectClock=yes", "ProtectKernelModules=yes", "LockPersonality=yes",
                      "MemoryDenyWriteExecute=yes", "SystemCallArchitectures=native"],
    # Its fence agents are behind the same walls: they speak to their devices over the network, with files of /tmp.
    "ha-crm": [*WALLS, f"ReadWritePaths={RUN} {STATE}/ha-crm {STATE}/tasks"],
    "ha-lrm": [*without("RestrictRealtime"), f"ReadWritePaths={RUN} {STATE}/ha-lrm {STATE}/tasks"],
    "watchdog": [*without("RestrictRealtime", "PrivateDevices", "MemoryDeny", "SystemCallFilter"), f"ReadWritePaths={RUN}",
                 "CapabilityBoundingSet=CAP_SYS_NICE CAP_IPC_LOCK CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE"],
    "compute-agent": ["ProtectClock=yes", "ProtectKernelModules=yes", "LockPersonality=yes"],
}


def capabilities(service):
    """The lines for a user that is not root; the same sets as without systemd."""
    if service.user == "root":
        return []
    if service.name in supervisor.HELPERS:
        return ["CapabilityBoundingSet=" + names(supervisor.HELPERS[service.name])]
    wanted = names(supervisor.CAPABILITIES.get(service.name, ""))
    return [f"CapabilityBoundingSet={wanted}"] + ([f"AmbientCapabilities={wanted}"] if wanted else [])


def names(text):
    return " ".join("CAP_" + word.removeprefix("+").upper() for word in text.split(",") if word)


def options(service, libexec, share):
    extra = {"api-gateway": ["--openapi", f"{share}/openapi.json"],
             "config-store": ["--pam-helper", f"{libexec}/atoll-pam-helper", "--tasks-dir", STATE]}
    state = layout.state_of(service.name, STATE)
    return " ".join(["--run-dir", RUN, "--state-dir", state, *extra.get(service.name, [])])


def own_options(service):
    """The variable in which an administrator gives a service more options."""
    return service.name.upper().replace("-", "_") + "_OPTIONS"


def promptness(name):
    """Guests that keep all processors busy do not delay what others wait for (supervisor.PROMPT says what, and why)."""
    return [f"Nice={supervisor.NICE}", "CPUWeight=1000", "IOWeight=1000"] if name in supervisor.PROMPT else []


def unit(service, libexec, share, associate=False):
    """associate: of a gateway on a host that is no node, when it has been admitted."""
    after = ["network.target", *AFTER.get(service.name, [])]
    lines = ["[Unit]", f"Description=Atoll: {WHAT[service.name]}", "Documentation=man:atoll(1)",
             f"After={' '.join(after)} systemd-tmpfiles-setup.service",
             f"ConditionPathExists={STATE}/gateway/directory" if associate else "PartOf=atoll.target"]
    if service.name == "compute-agent":
        lines.append("Wants=libvirtd.service")
    lines += ["StartLimitIntervalSec=0", "", "[Service]", "Type=notify", "NotifyAccess=main",
              f"EnvironmentFile=-{SETTINGS}",
              f"ExecStart={libexec}/atoll-{service.name} {options(service, libexec, share)} "
              f"{'--associate ' if associate else ''}${own_options(service)}",
              "Restart=always", "RestartSec=200ms", "WatchdogSec=30s",
              f"TimeoutStopSec={STOP_S.get(service.name, 15)}s", "LimitNOFILE=65536", "LimitCORE=0"]
    if service.user != "root":
        lines += [f"User={service.user}", f"Group={service.user}", f"SupplementaryGroups={layout.EVENTS_GROUP}"]
    lines += promptness(service.name)
    if service.name in KEEPS_CHILDREN:
        lines += ["KillMode=process", "Delegate=yes"]
    lines += capabilities(service) + SANDBOX[service.name]
    return "\n".join([*lines, "", "[Install]", f"WantedBy={'multi-user' if associate else 'atoll'}.target", ""])


def slot(name, what, command, user):
    lines = ["[Unit]", f"Description=Atoll: {what}", "After=network-online.target", "Wants=network-online.target",
             "PartOf=atoll.target", "StartLimitIntervalSec=0", "", "[Service]", "Type=exec",
             f"ExecStart={command}", "Restart=always", "RestartSec=1s", "LimitNOFILE=65536", "UMask=0077", *promptness(name)]
    if user:
        lines += [f"User={user}", f"Group={user}", "CapabilityBoundingSet=", f"ReadWritePaths={STATE}/config-store",
                  *(wall for wall in WALLS if not wall.startswith(("MemoryDeny", "RestrictAddress")))]
    return "\n".join([*lines, ""])


def witness(libexec):
    """On a machine that is no node: etcd and corosync-qnetd, which end with it."""
    program = os.path.join(os.path.dirname(os.path.dirname(libexec)), "bin", "atoll-witness")
    lines = ["[Unit]", "Description=Atoll: witness of a cluster", "After=network-online.target",
             "Wants=network-online.target", "StartLimitIntervalSec=0", "", "[Service]", "Type=exec",
             f"ExecStart={program} --state-dir /var/lib/atoll-witness --launcher {libexec}/atoll-qdevice serve",
             "Restart=always", "RestartSec=1s", "LimitNOFILE=65536", "UMask=0077", f"User={WITNESS_USER}",
             f"Group={WITNESS_USER}", "CapabilityBoundingSet=", "StateDirectory=atoll-witness", "StateDirectoryMode=0700",
             *(wall for wall in WALLS if not wall.startswith(("MemoryDeny", "RestrictAddress")))]
    return "\n".join([*lines, "", "[Install]", "WantedBy=multi-user.target", ""])


def guests(libexec):
    """Stopped before all others when the host goes down: ha-lrm is told, and guests are shut down in their order. Their start
    with the host is compute-agent's. A restart of the services is none of its business."""
    services = " ".join(f"atoll-{service.name}.service" for service in layout.SERVICES)
    return "\n".join(["[Unit]", "Description=Atoll: guests stop in order with the host",
                      f"After={services} atoll-etcd.service atoll-corosync.service libvirtd.service libvirt-guests.service "
                      "virt-guest-shutdown.target network-online.target remote-fs.target", "", "[Service]", "Type=oneshot",
                      "RemainAfterExit=yes", f"ExecStop=-{libexec}/atoll-guests-down %l", "TimeoutStopSec=600s", "",
                      "[Install]", "WantedBy=multi-user.target", ""])


def target():
    wants = " ".join(f"atoll-{service.name}.service" for service in layout.SERVICES)
    return "\n".join(["[Unit]", "Description=Atoll, all services of this node", f"Wants={wants}", "", "[Install]",
                      "WantedBy=multi-user.target", ""])


def sysusers(users):
    lines = [f"g {layout.EVENTS_GROUP} -"]
    for user in sorted(users - {"root"}):
        lines += [f'u {user} - "Atoll" /nonexistent /usr/sbin/nologin', f"m {user} {layout.EVENTS_GROUP}"]
    return "\n".join([*lines, ""])


def tmpfiles(services):
    """The folders that layout.py makes, as it makes them; those of these services."""
    made = []
    others = set(layout.USERS) - services

    def add(kind, path, user, group, mode):
        if not others & set(path.removesuffix(".ready").split("/")):
            made.append(f"{kind} {path} {mode:04o} {user} {group} -")

    def folder(path, user="root", group="root", mode=0o755):
        add("d", path, user, group, mode)

    def file(path, user, mode):
        add("f", path, user, user, mode)

    layout.each_run_place(RUN, folder, file)
    layout.each_state_place(STATE, folder)
    for name in slots.NAMES:
        folder(f"{STATE}/config-store/{name}", slots.USER, layout.group_of("config-store"), 0o700)
    return "\n".join([*made, ""])


def polkit():
    """config-store may start and stop etcd, corosync and corosync-qdevice, and nothing else."""
    return ('polkit.addRule(function(action, subject) {\n'
            '    var units = ["atoll-etcd.service", "atoll-corosync.service", "atoll-qdevice.service"];\n'
            f'    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "{slots.USER}" &&\n'
            '        units.indexOf(action.lookup("unit")) >= 0)\n'
            '        return polkit.Result.YES;\n'
            '});\n')


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    folder, libexec, share = sys.argv[1:]
    base = f"{STATE}/config-store"
    gateway = next(s for s in layout.SERVICES if s.name == "api-gateway")
    files = {"atoll.target": target(), "atoll.sysusers": sysusers(set(layout.USERS.values())),
             "atoll-witness.sysusers": f'u {WITNESS_USER} - "Atoll" /nonexistent /usr/sbin/nologin\n',
             "atoll-associate.sysusers": sysusers({gateway.user}),
             "atoll-associate.service": unit(gateway, libexec, share, associate=True),
             "atoll-associate.tmpfiles": tmpfiles({gateway.name}),
             "atoll.tmpfiles": tmpfiles(set(layout.USERS)), "atoll.rules": polkit(), "atoll-guests.service": guests(libexec),
             "atoll-etcd.service": slot("etcd", "replicated state of the cluster",
                                        f"/usr/bin/etcd --config-file {base}/etcd/etcd.yml", slots.USER),
             "atoll-corosync.service": slot("corosync", "membership and quorum of the cluster",
                                            f"/usr/sbin/corosync -f -c {base}/corosync/corosync.conf", None),
             "atoll-qdevice.service": slot("qdevice", "the witness's vote in corosync",
                                           f"{libexec}/atoll-qdevice qdevice {base}/etcd {base}/qdevice", slots.USER),
             "atoll-witness.service": witness(libexec)}
    files |= {f"atoll-{s.name}.service": unit(s, libexec, share) for s in layout.SERVICES}
    os.makedirs(folder, exist_ok=True)
    for name, text in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as out:
            out.write(text)


if __name__ == "__main__":
    main()
