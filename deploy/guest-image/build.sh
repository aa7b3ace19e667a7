#!/bin/bash
# Makes a small bootable guest disk and a container template out of Debian's packages. Needs neither root nor mounts.
#
# usage: deploy/guest-image/build.sh [DIR]      (default build/guest)
# makes  DIR/atoll-guest.qcow2                  64 MiB disk, BIOS boot, serial console, DHCP, guest agent, cloud-init
#        DIR/atoll-busybox_1_amd64.tar.gz       root file system for a container, DHCP, stops at once when told to
# What is there and newer than these scripts is kept.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../build/guest}
mkdir -p "$out"
out=$(cd "$out" && pwd)
disk=$out/atoll-guest.qcow2
template=$out/atoll-busybox_1_amd64.tar.gz
work=$out/work.$$
trap 'rm -rf "$work"' EXIT

fail()
{
    echo "guest image: $1" >&2
    exit 1
}

newer_than_scripts()
{
    [ -s "$1" ] && [ -z "$(find "$here" -type f -newer "$1" -print -quit)" ]
}

for tool in busybox cpio mke2fs modprobe depmod mformat mcopy syslinux qemu-img ldd; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null ||
        fail "'$tool' is missing; tools/install-packages.sh run guest installs what is needed"
done
PATH=$PATH:/usr/sbin:/sbin

# Debian packages that are unpacked, not installed: the kernel and the guest agent.
fetch()
{
    local name=$1
    mkdir -p "$out/deb"
    if ! ls "$out/deb/${name}"_*.deb >/dev/null 2>&1; then
        (cd "$out/deb" && apt-get -q -o APT::Sandbox::User=root -o Acquire::Retries=3 download "$name" >/dev/null) ||
            fail "cannot download the Debian package '$name'; run 'apt-get update' and check the network"
    fi
    mkdir -p "$work/$name"
    dpkg -x "$(find "$out/deb" -name "${name}_*.deb" | sort -V | tail -n 1)" "$work/$name"
}

busybox_root()
{
    local root=$1 applet
    mkdir -p "$root"/{bin,sbin,dev,etc/network,mnt,proc,root,run,sys,tmp,usr/share,var/log}
    ln -s ../run "$root/var/run"
    cp /bin/busybox "$root/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
    done
    cp "$here/udhcpc.sh" "$root/etc/udhcpc.sh"
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
    printf 'NAME="Atoll busybox"\nID=atoll-busybox\nVERSION_ID=1\n' >"$root/etc/os-release"
    printf 'auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n' >"$root/etc/network/interfaces"
}

# Installs a file as an executable one.
script()
{
    install -m 755 "$here/$1" "$2"
}

make_template()
{
    local root=$work/ct
    busybox_root "$root"
    script ct/init "$root/sbin/init"
    chmod 755 "$root/etc/udhcpc.sh"
    tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1700000000 -cf - . |
        gzip -9n >"$template.part"
    mv "$template.part" "$template"
}

make_initrd()
{
    local version=$1 kernel=$2 root=$work/initrd module number=100
    mkdir -p "$root"/{bin,mod,proc,sys,dev,newroot}
    cp /bin/busybox "$root/bin/"
    ln -s busybox "$root/bin/sh"
    script vm/initrd-init "$root/init"
    depmod -b "$kernel" "$version"
    for module in virtio_pci virtio_blk virtio_net virtio_scsi sd_mod sr_mod ata_piix isofs virtio_console \
        virtio_balloon virtio-rng evdev button; do
        modprobe -d "$kernel" -S "$version" --show-depends "$module" | awk '/^insmod/ { print $2 }'
    done | awk '!seen[$0]++' >"$work/modules"
    while read -r module; do
        number=$((number + 1))
        cp "$module" "$root/mod/$number-$(basename "$module")"
    done <"$work/modules"
    (cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc) | gzip -9n >"$work/initrd.img"
}

make_vm_root()
{
    local root=$work/vm agent=$work/qemu-guest-agent/usr/sbin/qemu-ga library
    busybox_root "$root"
    mkdir -p "$root"/lib/x86_64-linux-gnu "$root/lib64"
    cp "$agent" "$root/sbin/"
    ldd "$agent" >"$work/libraries" || fail "cannot tell which libraries qemu-ga needs"
    ! grep -q 'not found' "$work/libraries" ||
        fail "this host lacks libraries of qemu-ga: $(grep 'not found' "$work/libraries" | awk '{ print $1 }' | xargs)"
    while read -r library; do
        cp -L "$library" "$root/lib/x86_64-linux-gnu/"
    done < <(grep -o '/lib/[^ ]*' "$work/libraries")
    cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
    ln -s ../bin/busybox "$root/sbin/init"
    chmod 755 "$root/etc/udhcpc.sh"
    script vm/rcS "$root/etc/rcS"
    script vm/cloud-init "$root/sbin/cloud-init"
    script vm/power-button "$root/sbin/power-button"
    script vm/shutdown "$root/sbin/shutdown"
    install -m 644 "$here/vm/inittab" "$root/etc/inittab"
}

le32()
{
    # One 32 bit number as four octal escapes, least byte first.
    # shellcheck disable=SC1003
    printf '\\%03o\\%03o\\%03o\\%03o' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255))
}

# An MBR with a FAT partition for the boot loader (kernel, initrd) and an ext4 one for the rest.
make_disk()
{
    local raw=$work/disk.raw version kernel boot_start=2048 boot_size=49152 root_start=51200 root_size=79872
    kernel=$work/$1
    version=$(basename "$(echo "$kernel"/lib/modules/*)")
    make_initrd "$version" "$kernel"
    make_vm_root

    truncate -s 64M "$raw"
    dd if=/usr/lib/syslinux/mbr/mbr.bin of="$raw" conv=notrunc status=none
    {
        printf '\200\376\377\377\016\376\377\377'
        printf '%b' "$(le32 $boot_start)$(le32 $boot_size)"
        printf '\000\376\377\377\203\376\377\377'
        printf '%b' "$(le32 $root_start)$(le32 $root_size)"
    } | dd of="$raw" bs=1 seek=446 conv=notrunc status=none
    printf '\125\252' | dd of="$raw" bs=1 seek=510 conv=notrunc status=none

    mformat -i "$raw@@1M" -T $boot_size -h 255 -s 63 -H $boot_start -v ATOLLBOOT ::
    mcopy -i "$raw@@1M" "$(echo "$kernel"/boot/vmlinuz-*)" ::/vmlinuz
    mcopy -i "$raw@@1M" "$work/initrd.img" ::/initrd.img
    mcopy -i "$raw@@1M" "$here/vm/syslinux.cfg" ::/syslinux.cfg
    syslinux --install --offset $((boot_start * 512)) "$raw"

    truncate -s $((root_size * 512)) "$work/root.ext4"
    mke2fs -q -t ext4 -b 4096 -O ^has_journal -m 0 -L atoll-root -E root_owner=0:0 -d "$work/vm" "$work/root.ext4"
    dd if="$work/root.ext4" of="$raw" bs=512 seek=$root_start conv=notrunc,sparse status=none
    qemu-img convert -q -c -f raw -O qcow2 "$raw" "$disk.part"
    mv "$disk.part" "$disk"
}

mkdir -p "$work"
if ! newer_than_scripts "$template"; then
    make_template
fi
if ! newer_than_scripts "$disk"; then
    package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
    [ -n "$package" ] || fail "Debian's package linux-image-cloud-amd64 is not known; run 'apt-get update'"
    fetch "$package"
    fetch qemu-guest-agent
    make_disk "$package"
fi
echo "$disk"
echo "$template"
