#!/bin/sh
# Makes a database of certificates as NSS wants it out of those that etcd uses, then becomes corosync-qdevice (on a
# node) or corosync-qnetd (on a witness). Made anew at each start: whoever changes certificates starts it anew.
#
# usage: qdevice.sh qdevice|qnetd FOLDER-OF-ETCD OWN-FOLDER
set -eu
role=$1
pem=$2
own=$3
db=$own/nssdb
case $role in
qdevice) name='Cluster Cert' ;;
qnetd) name='QNetd Cert' ;;
*) exit 2 ;;
esac

umask 077
rm -rf "$db"
mkdir -p "$db"
certutil -N -d "sql:$db" --empty-password
# While the cluster changes its authority there are two in the file.
awk -v base="$db/ca" '/BEGIN CERTIFICATE/ { n++ } { print > (base n ".pem") }' "$pem/ca.pem"
for ca in "$db"/ca*.pem; do
    certutil -A -d "sql:$db" -n "$(basename "$ca" .pem)" -t CT,, -a -i "$ca"
done
openssl pkcs12 -export -in "$pem/node.pem" -inkey "$pem/node.key" -name "$name" -passout pass: -out "$db/own.p12"
pk12util -i "$db/own.p12" -d "sql:$db" -W '' >/dev/null
rm "$db/own.p12"

if [ "$role" = qnetd ]; then
    exec corosync-qnetd -f -s req -S "nss_db_dir=$db,lock_file=$own/pid,local_socket_file=$own/socket"
fi
exec corosync-qdevice -f \
    -S "net_nss_db_dir=$db,net_nss_qnetd_cn=_witness,lock_file=$own/pid,local_socket_file=$own/socket"
