#!/bin/bash
# Installs the Debian packages of the given sections of deploy/packages.txt; quick when all are there.
#
# usage: tools/install-packages.sh SECTION...        (needs root only when something is missing)
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

missing=()
for section in "$@"; do
    while read -r name; do
        [ "$(dpkg-query -W -f '${Status}' "$name" 2>/dev/null)" = "install ok installed" ] || missing+=("$name")
    done < <(awk -v s="$section" '$1 == s { print $2 }' "$here/deploy/packages.txt")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "These Debian packages are missing: ${missing[*]}" >&2
    echo "Install them as root: apt-get install ${missing[*]}" >&2
    exit 1
fi

export DEBIAN_FRONTEND=noninteractive
# No service starts by itself: what Atoll needs, it starts itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    trap 'rm -f $policy' EXIT
fi
options=(-o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 -q)
echo "Installing ${#missing[@]} Debian packages: ${missing[*]}"
apt-get "${options[@]}" update >/dev/null || echo "apt-get update failed; trying with the lists that are there" >&2
if ! apt-get "${options[@]}" -y --no-install-recommends install "${missing[@]}" >/tmp/atoll-apt.$$ 2>&1; then
    tail -n 20 /tmp/atoll-apt.$$ >&2
    rm -f /tmp/atoll-apt.$$
    echo "Could not install the packages above. Check the network and 'apt-get update', then run this again." >&2
    exit 1
fi
rm -f /tmp/atoll-apt.$$
