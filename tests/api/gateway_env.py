"""A gateway with the services of services/api-gateway/tests/fake_backend.c behind it, in a folder of its own."""
import os
import socket
import ssl
import subprocess
import tempfile
import time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BIN = os.environ.get("ATL_BIN", os.path.join(TOP, "build", "dev", "bin"))
OPENAPI = os.environ.get("ATL_OPENAPI", os.path.join(TOP, "build", "dev", "gen", "openapi.json"))
TICKET = "PVE:tester@pve:00000000::good"
COOKIE = f"Cookie: PVEAuthCookie={TICKET}"
TOKEN = "Authorization: PVEAPIToken=tester@pve!t=secret"


def wait_for(what, seconds, test, step=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        time.sleep(step)
    raise AssertionError(f"{what}: not within {seconds} s")


class Gateway:
    """Starts both programs; close() ends them and checks that they left in order (no sanitizer report)."""

    def __init__(self, *options, backend=True, env=None):
        self.folder = tempfile.TemporaryDirectory(prefix="atl-gw-")
        path = self.folder.name
        self.run = os.path.join(path, "run")
        os.makedirs(os.path.join(path, "state", "gateway"))
        os.makedirs(self.run)
        self.ca = os.path.join(path, "state", "gateway", "cert.pem")
        self.log_path = os.path.join(path, "gateway.log")
        self.log = open(self.log_path, "wb")
        self.backend = None
        if backend:
            self.start_backend()
        self.process = subprocess.Popen(
            [os.path.join(BIN, "atoll-api-gateway"), "--run-dir", self.run, "--state-dir", os.path.join(path, "state"),
             "--node", "n", "--listen", "127.0.0.1:0", "--openapi", OPENAPI, *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env={**os.environ, **(env or {})})
        self.port = int(wait_for("the gateway listens", 20, self.find_port))
        self.context = ssl.create_default_context(cafile=self.ca)
        self.context.set_alpn_protocols(["http/1.1"])

    def find_port(self):
        if self.process.poll() is not None:
            raise AssertionError("the gateway did not start:\n" + self.read_log())
        for line in self.read_log().splitlines():
            if "port " in line and "listening" in line:
                return line.split("port ")[1].split()[0]
        return None

    def read_log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def start_backend(self):
        self.backend = subprocess.Popen([os.path.join(BIN, "gw_fake_backend"), self.run, "n"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)
        assert self.backend.stdout.readline() == b"ready\n"

    def stop_backend(self):
        self.backend.kill()
        self.backend.wait()
        self.backend.stdout.close()
        self.backend = None

    def raw(self, timeout=10):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout)
        return self.context.wrap_socket(plain, server_hostname="localhost")

    def close(self):
        self.process.terminate()
        code = self.process.wait(timeout=20)
        if self.backend:
            self.backend.terminate()
            self.backend.wait(timeout=20)
            self.backend.stdout.close()
        self.log.close()
        log = self.read_log()
        self.folder.cleanup()
        assert code == 0, f"the gateway ended with {code}:\n{log}"
        return log


def read_answer(stream):
    """One HTTP/1.1 answer from a raw TLS socket's file: (status, reason, headers, body); None at the end."""
    line = stream.readline()
    if not line:
        return None
    _, status, reason = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
    headers = {}
    while True:
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            break
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", "0")))
    return int(status), reason, headers, body
