#!/bin/bash
# Runs as the first process of a node: private mounts (and, when isolated, everything else), then the supervisor.
#
# usage: inside.sh NODE-ENV-FILE        (written by node.py: shell variables)
set -euo pipefail
# shellcheck disable=SC1090 # written by node.py
. "$1"

mount --make-rslave /
ulimit -c 0

# Own cgroup in every hierarchy, seen as its root: what guests leave there is one folder to remove.
own_cgroup()
{
    local hierarchy controller own
    for hierarchy in /sys/fs/cgroup/*/ /sys/fs/cgroup/; do
        [ -e "$hierarchy/cgroup.procs" ] || continue
        own=$hierarchy/$NODE_CGROUP
        mkdir -p "$own"
        controller=$(basename "$hierarchy")
        if [ "$controller" = cpuset ]; then
            cat "$hierarchy/cpuset.cpus" >"$own/cpuset.cpus"
            cat "$hierarchy/cpuset.mems" >"$own/cpuset.mems"
            echo 1 >"$own/cgroup.clone_children"
        fi
        echo 0 >"$own/cgroup.procs"
        mount --bind "$own" "$hierarchy"
    done
}

if [ "$NODE_ISOLATED" = 1 ]; then
    hostname "$NODE_NAME"
    echo "$NODE_NAME" >"$NODE_PRIVATE/hostname"
    printf '127.0.0.1 localhost\n::1 localhost\n%s %s\n' "$NODE_ADDRESS" "$NODE_NAME" >"$NODE_PRIVATE/hosts"
    mount --bind "$NODE_PRIVATE/hostname" /etc/hostname
    mount --bind "$NODE_PRIVATE/hosts" /etc/hosts
    mount -t tmpfs -o mode=1777 tmpfs /dev/shm
    mkdir -p "$NODE_STATE/srv"
    mount --bind "$NODE_STATE/srv" /srv # one path for a storage, another folder on each node
    ip link set lo up
    # The parent moves one end of a pair of links in here, then opens the gate.
    for _ in $(seq 200); do
        ip link show eth0 >/dev/null 2>&1 && break
        sleep 0.02
    done
    if ip link show eth0 >/dev/null 2>&1; then
        ip addr add "$NODE_ADDRESS/30" dev eth0
        ip link set eth0 up
        ip route add default via "$NODE_PEER"
    fi
    # A sysfs of this network, with the cgroups where they were.
    mkdir -p "$NODE_PRIVATE/cgroup"
    mount --rbind /sys/fs/cgroup "$NODE_PRIVATE/cgroup"
    mount -t sysfs sysfs /sys
    mount --rbind "$NODE_PRIVATE/cgroup" /sys/fs/cgroup
    own_cgroup
fi

# Containers without privileges need a range of ids for root; libvirt's folders are fixed in its program.
printf 'root:100000:65536\n' >"$NODE_PRIVATE/subid"
for file in /etc/subuid /etc/subgid; do
    [ -e $file ] || : >$file
    mount --bind "$NODE_PRIVATE/subid" $file
done
if [ "$NODE_LIBVIRT" = own ]; then
    for folder in etc/libvirt run/libvirt var/lib/libvirt var/log/libvirt var/cache/libvirt; do
        mkdir -p "/$folder" "$NODE_PRIVATE/libvirt/$folder"
        mount --bind "$NODE_PRIVATE/libvirt/$folder" "/$folder"
    done
    # /dev/kvm with the rights that udev gives it, also where no udev runs. libvirt compares whether QEMU's user may
    # open it with what QEMU said; where these differ it asks QEMU anew, again and again, for 20 s at each start.
    if [ -c /dev/kvm ]; then
        mkdir -p "$NODE_PRIVATE/dev"
        mount -t tmpfs -o mode=0755,size=64k none "$NODE_PRIVATE/dev"
        cp -a /dev/kvm "$NODE_PRIVATE/dev/kvm"
        chgrp kvm "$NODE_PRIVATE/dev/kvm"
        chmod 0660 "$NODE_PRIVATE/dev/kvm"
        mount --bind "$NODE_PRIVATE/dev/kvm" /dev/kvm
    fi
fi
# tini takes over and reaps what loses its parent: QEMU, containers' monitors, dnsmasq.
supervisor=(tini -s -- runsvdir -P "$NODE_SERVICES")
if [ "$NODE_ISOLATED" = 1 ]; then
    exec unshare --cgroup "${supervisor[@]}"
fi
exec "${supervisor[@]}"
