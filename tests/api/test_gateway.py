#!/usr/bin/python3
"""The gateway as clients see it: HTTP/1.1 and HTTP/2, refusals, credentials, uploads, slow and many clients."""
import gzip
import hashlib
import json
import os
import resource
import socket
import ssl
import subprocess
import sys
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import h2_client as h2
from gateway_env import COOKIE, TICKET, TOKEN, Gateway, read_answer, wait_for

GET = "GET {} HTTP/1.1\r\nHost: x\r\n{}\r\n"
FORM = "application/x-www-form-urlencoded"
BOUNDARY = "b0undary"


def request(method, path, *headers, body=b""):
    if isinstance(body, str):
        body = body.encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def fnv(data):
    value = 14695981039346656037
    for byte in data:
        value = ((value ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return value


def multipart(*parts):
    """(name, value) or (name, filename, bytes)."""
    out = b""
    for part in parts:
        out += f"--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{part[0]}\"".encode()
        if len(part) == 3:
            out += f"; filename=\"{part[1]}\"\r\nContent-Type: application/octet-stream".encode()
        out += b"\r\n\r\n" + (part[-1] if isinstance(part[-1], bytes) else part[-1].encode()) + b"\r\n"
    return out + f"--{BOUNDARY}--\r\n".encode()


class GatewayCase(unittest.TestCase):
    options = ()

    env = None

    @classmethod
    def setUpClass(cls):
        cls.gateway = Gateway(*cls.options, env=cls.env)

    @classmethod
    def tearDownClass(cls):
        cls.log = cls.gateway.close()

    def ask(self, *requests, timeout=10):
        """Sends raw requests at once on one connection, returns the answers."""
        with self.gateway.raw(timeout) as tls:
            tls.sendall(b"".join(requests))
            stream = tls.makefile("rb")
            return [read_answer(stream) for _ in requests]

    def call(self, method, path, *headers, body=b"", timeout=10):
        return self.ask(request(method, "/api2/json" + path, *headers, body=body), timeout=timeout)[0]

    def curl(self, *args, path):
        url = f"https://127.0.0.1:{self.gateway.port}{path}"
        done = subprocess.run(["curl", "-sS", "-m", "20", "--cacert", self.gateway.ca,
                               "-w", "\n%{http_code} %{http_version}", *args, url],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        body, _, last = done.stdout.rpartition("\n")
        return last, body


class Requests(GatewayCase):
    def test_both_protocols_give_the_same_answer(self):
        expected = {"data": {"release": "9.2", "repoid": "0123456789abcdef", "version": "9.2.2"}}
        for option, version in (("--http1.1", "1.1"), ("--http2", "2")):
            last, body = self.curl(option, "-H", TOKEN, path="/api2/json/version")
            self.assertEqual(last, f"200 {version}")
            self.assertEqual(json.loads(body), expected)

    def test_tls_before_1_2_is_refused(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=5) as plain:
            with self.assertRaises((ssl.SSLError, OSError)):
                context.wrap_socket(plain)

    def test_headers_clients_look_at(self):
        status, reason, headers, _ = self.call("GET", "/version", TOKEN)
        self.assertEqual((status, reason), (200, "OK"))
        self.assertEqual(headers["content-type"], "application/json;charset=UTF-8")
        self.assertEqual(headers["server"], "pve-api-daemon/3.0")
        self.assertEqual(headers["cache-control"], "max-age=0")
        self.assertEqual(headers["pragma"], "no-cache")
        self.assertEqual(headers["connection"], "Keep-Alive")

    def test_every_code_of_a_service_has_its_status_and_its_text(self):
        rows = {1: 500, 2: 500, 3: 400, 4: 500, 5: 500, 6: 500, 7: 403, 8: 500, 9: 500, 10: 500, 11: 500, 12: 501,
                13: 500, 15: 500, 14: 500}
        for code, wanted in rows.items():
            vmid = 100 + code
            text = f"Configuration file 'nodes/x/{vmid}.conf' does not exist"
            status, reason, _, body = self.call("GET", f"/nodes/n/qemu/{vmid}/status/current", TOKEN)
            self.assertEqual((code, status), (code, wanted))
            self.assertEqual(reason, text)
            self.assertEqual(json.loads(body), {"data": None, "message": text})
        last, body = self.curl("--http2", "-H", TOKEN, path="/api2/extjs/nodes/n/qemu/105/status/current")
        self.assertEqual(last, "200 2")
        self.assertEqual(json.loads(body)["success"], 0)
        self.assertEqual(json.loads(body)["status"], 500)

    def test_all_wrong_parameters_are_named_at_once(self):
        status, reason, _, body = self.call("GET", "/nodes/n/qemu/12/status/current?nonsense=1&other=2", TOKEN)
        self.assertEqual((status, reason), (400, "Parameter verification failed."))
        answer = json.loads(body)
        self.assertIsNone(answer["data"])
        self.assertEqual(sorted(answer["errors"]), ["nonsense", "other", "vmid"])

    def test_unknown_paths_and_verbs(self):
        for method, path in (("GET", "/foo"), ("PATCH", "/version"), ("POST", "/version"),
                             ("GET", "/nodes/n/qemu/100/status/start")):
            status, reason, _, body = self.call(method, path, TOKEN)
            self.assertEqual((status, reason), (501, f"Method '{method} {path}' not implemented"))
            self.assertEqual(json.loads(body)["message"], reason)
        status, reason, _, _ = self.ask(request("GET", "/api2/png/version", TOKEN))[0]
        self.assertEqual(status, 501)
        self.assertEqual(self.ask(request("GET", "/nothing"))[0][0], 404)
        self.assertEqual(self.ask(request("POST", "/"))[0][0], 501)

    def test_bodies_in_every_form(self):
        for kind, body in ((FORM, "username=tester%40pve&password=secret"),
                           ("application/json", '{"username":"tester@pve","password":"secret"}')):
            status, _, _, answer = self.call("POST", "/access/ticket", f"Content-Type: {kind}", body=body)
            self.assertEqual(status, 200, answer)
            data = json.loads(answer)["data"]
            self.assertEqual(data["ticket"], TICKET)
            self.assertEqual(data["cap"], {"vms": {"VM.Audit": 1}})
        refused = [
            ("POST", "/access/ticket", "text/xml", "<a/>", 506),
            ("POST", "/access/ticket", "multipart/form-data; boundary=x", "--x--", 506),
            ("POST", "/access/ticket", "application/json", '{"username":', 400),
            ("POST", "/access/ticket", "application/json", '{"username":{"a":1}}', 400),
            ("POST", "/access/ticket", FORM, "username=%zz", 400),
            ("POST", "/access/ticket", FORM, "username=a&username=b&password=x", 400),
            ("DELETE", "/nodes/n/qemu/100", FORM, "purge=1", 501),
            ("GET", "/version", FORM, "a=1", 501),
        ]
        for method, path, kind, body, wanted in refused:
            login = () if path == "/access/ticket" else (TOKEN,)
            status, reason, _, answer = self.call(method, path, f"Content-Type: {kind}", *login, body=body)
            self.assertEqual((path, body, status), (path, body, wanted), reason)
            self.assertIsNone(json.loads(answer)["data"])
        status, reason, _, _ = self.call("DELETE", "/nodes/n/qemu/100", TOKEN, body="purge=1")
        self.assertEqual(reason, "Unexpected content for method 'DELETE'")

    def test_query_beats_body_and_the_path_beats_both(self):
        path = "/nodes/n/qemu/100/status/start"
        start = f"/api2/json{path}"
        cookie = (COOKIE, "CSRFPreventionToken: good", f"Content-Type: {FORM}")
        self.assertEqual(self.ask(request("POST", start + "?_dc=12", *cookie, body="vmid=100&_dc=1"))[0][0], 200)
        status, _, _, body = self.ask(request("POST", start, *cookie, body="vmid=101"))[0]
        self.assertEqual(status, 400)
        self.assertIn("duplicate parameter", json.loads(body)["errors"]["vmid"])

    def test_the_size_of_bodies_is_bounded(self):
        for size, wanted in ((512 * 1024, 401), (512 * 1024 + 1, 501)):
            body = b"username=a&password=" + b"x" * (size - 20)
            status, reason, _, _ = self.call("POST", "/access/ticket", f"Content-Type: {FORM}", body=body)
            if wanted == 501:
                self.assertEqual((status, reason), (501, "for data too large"))
            else: # the service's own limit, or the password is wrong: the body was read in any case
                self.assertIn(status, (400, 401))
        head = f"POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
        answer = self.ask((head + "Content-Length: 99999999999\r\n\r\n").encode())[0]
        self.assertEqual(answer[:2], (501, "for data too large"))

    def test_requests_that_could_be_smuggled_are_refused(self):
        head = "POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\n"
        cases = [
            (head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
            (head + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
            (head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
            (head + "Content-Length : 1\r\n\r\na", 400),
            (head + "Content-Length: 1\n\r\na", 400),
            ("GET /version HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400),
            ("GET /version HTTP/1.1\r\n\r\n", 400),
            ("GET /version HTTP/3.0\r\nHost: x\r\n\r\n", 505),
            ("nonsense\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\n" + "".join(f"H{i}: x\r\n" for i in range(64)) + "\r\n", 431),
            ("GET / HTTP/1.1\r\nHost: x\r\nLong: " + "x" * 9000 + "\r\n\r\n", 431),
        ]
        for text, wanted in cases:
            with self.gateway.raw() as tls:
                tls.sendall(text.encode() + b"GET /api2/json/version HTTP/1.1\r\nHost: x\r\n\r\n")
                stream = tls.makefile("rb")
                answer = read_answer(stream)
                self.assertEqual((text[:80], answer[0]), (text[:80], wanted))
                self.assertEqual(answer[2]["connection"], "close")
                self.assertIsNone(read_answer(stream), "nothing behind a bad request may be read as a request")

    def test_pipelined_requests_are_answered_in_order(self):
        paths = ["/version", "/foo", "/version", "/nodes/n/qemu/105/status/current", "/version"] * 10
        answers = self.ask(*(request("GET", "/api2/json" + path, TOKEN) for path in paths))
        for path, answer in zip(paths, answers):
            self.assertEqual(answer[0], 200 if path == "/version" else 501 if path == "/foo" else 500)

    def test_http_1_0_and_connection_close(self):
        with self.gateway.raw() as tls:
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            stream = tls.makefile("rb")
            self.assertEqual(read_answer(stream)[0], 200)
            self.assertIsNone(read_answer(stream))
        with self.gateway.raw() as tls:
            tls.sendall(request("GET", "/", "Connection: close"))
            stream = tls.makefile("rb")
            self.assertEqual(read_answer(stream)[2]["connection"], "close")
            self.assertIsNone(read_answer(stream))

    def test_answers_to_head_have_no_body(self):
        with self.gateway.raw() as tls:
            tls.sendall(request("HEAD", "/") + request("HEAD", "/api2/json/version") + request("GET", "/"))
            stream = tls.makefile("rb")
            for wanted, body in ((200, b""), (501, b""), (200, None)):
                answer = read_answer(stream)
                self.assertEqual(answer[0], wanted)
                self.assertEqual(answer[3] == b"", body == b"")

    def test_expect_100_continue(self):
        with self.gateway.raw() as tls:
            body = b"username=tester%40pve&password=secret"
            tls.sendall(request("POST", "/api2/json/access/ticket", "Expect: 100-continue",
                                f"Content-Type: {FORM}",
                                f"Content-Length: {len(body)}"))
            stream = tls.makefile("rb")
            self.assertEqual(stream.readline(), b"HTTP/1.1 100 Continue\r\n")
            self.assertEqual(stream.readline(), b"\r\n")
            tls.sendall(body)
            self.assertEqual(read_answer(stream)[0], 200)

    def test_large_answers_are_compressed_where_the_client_takes_it(self):
        plain = self.call("GET", "/cluster/resources?type=vm", TOKEN)
        self.assertNotIn("content-encoding", plain[2])
        self.assertEqual(len(json.loads(plain[3])["data"]), 10000)
        packed = self.call("GET", "/cluster/resources?type=vm", TOKEN, "Accept-Encoding: deflate, gzip")
        self.assertEqual(packed[2]["content-encoding"], "gzip")
        self.assertEqual(gzip.decompress(packed[3]), plain[3])
        small = self.call("GET", "/version", TOKEN, "Accept-Encoding: gzip")
        self.assertNotIn("content-encoding", small[2])
        self.assertEqual(json.loads(self.call("GET", "/cluster/resources", TOKEN)[3])["data"], [])
        last, body = self.curl("--http2", "--compressed", "-H", TOKEN, path="/api2/json/cluster/resources?type=vm")
        self.assertEqual(last, "200 2")
        self.assertEqual(body.encode(), plain[3])

    def test_the_description_of_the_api_is_served(self):
        last, body = self.curl("--http2", path="/openapi.json")
        self.assertEqual(last, "200 2")
        self.assertIn("/version", json.loads(body)["paths"])

    def test_another_node_is_not_reachable(self):
        status, reason, _, _ = self.call("GET", "/nodes/elsewhere/qemu/100/status/current", TOKEN)
        self.assertEqual(status, 595)
        self.assertIn("elsewhere", reason)
        self.assertEqual(self.call("GET", "/nodes/localhost/qemu/100/status/current", TOKEN)[0], 200)


class Credentials(GatewayCase):
    def refused(self, wanted, *headers, method="GET", path="/version", body=b""):
        begin = time.monotonic()
        status, reason, _, answer = self.call(method, path, *headers, body=body)
        took = time.monotonic() - begin
        self.assertEqual((status, reason), (401, wanted))
        self.assertGreater(took, 2.9, "refusals wait three seconds")
        self.assertLess(took, 5)
        self.assertEqual(json.loads(answer), {"data": None, "message": wanted})

    def together(self, *calls):
        """Runs checks that each wait three seconds at the same time."""
        failures = []

        def run(call):
            try:
                call()
            except AssertionError as failure:
                failures.append(failure)
        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def test_bad_credentials_are_refused_late(self):
        start = {"method": "POST", "path": "/nodes/n/qemu/100/status/start"}
        self.together(
            lambda: self.refused("No ticket"),
            lambda: self.refused("No ticket", "Authorization: Basic abc"),
            lambda: self.refused("permission denied - invalid PVE ticket", "Cookie: PVEAuthCookie=PVE:x@pve:0::forged"),
            lambda: self.refused("invalid token value!", "Authorization: PVEAPIToken=tester@pve!t=wrong"),
            lambda: self.refused("Permission denied - invalid csrf token", COOKIE, **start),
            lambda: self.refused("Permission denied - invalid csrf token", COOKIE, "CSRFPreventionToken: bad", **start),
            lambda: self.refused("authentication failure", f"Content-Type: {FORM}", method="POST",
                                 path="/access/ticket", body="username=tester@pve&password=wrong"))

    def test_a_refusal_holds_nobody_else_up(self):
        with self.gateway.raw() as slow:
            slow.sendall(request("GET", "/api2/json/version"))
            begin = time.monotonic()
            for _ in range(20):
                self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)
            self.assertLess(time.monotonic() - begin, 2.5)
            self.assertEqual(read_answer(slow.makefile("rb"))[0], 401)

    def test_good_credentials_in_every_place(self):
        quoted = urllib.parse.quote(TICKET)
        for header in (COOKIE, f"Cookie: PVEAuthCookie={quoted}",
                       f"Cookie: a=b; PVEAuthCookie={quoted}; path=/; secure;",
                       f"Authorization: PVEAuthCookie={TICKET}", TOKEN):
            self.assertEqual((header, self.call("GET", "/version", header)[0]), (header, 200))
        start = "/nodes/n/qemu/100/status/start"
        self.assertEqual(self.call("POST", start, TOKEN)[0], 200)
        self.assertEqual(self.call("POST", start, COOKIE, "CSRFPreventionToken: good")[0], 200)
        self.assertEqual(self.call("POST", start, COOKIE, "CSRFPreventionToken: good")[0], 200)

    def test_a_session_known_from_reading_is_not_enough_to_write(self):
        self.assertEqual(self.call("GET", "/version", COOKIE)[0], 200)
        self.assertEqual(self.call("POST", "/nodes/n/qemu/100/status/start", COOKIE)[0], 401)

    def test_who_changed_something_reads_nothing_older(self):
        self.assertEqual(self.call("GET", "/version", COOKIE)[0], 200)
        self.assertEqual(self.call("POST", "/nodes/n/qemu/300/status/start", TOKEN)[0], 200)
        begin = time.monotonic()
        self.assertEqual(self.call("GET", "/version", COOKIE)[0], 200)
        self.assertLess(time.monotonic() - begin, 0.7, "who changed nothing does not wait")
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)
        self.assertGreater(time.monotonic() - begin, 0.7, "answered from a copy that is older than his change")

    def test_an_assertion_that_is_refused_is_renewed_once(self):
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)
        for _ in range(2):  # the service refuses every other call
            self.assertEqual(self.call("GET", "/nodes/n/qemu/201/status/current", TOKEN)[0], 200)

    def test_a_token_cannot_log_in(self):
        status, reason, _, _ = self.call("POST", "/access/ticket", TOKEN, f"Content-Type: {FORM}",
                                         body="username=tester@pve&password=secret")
        self.assertEqual(status, 403, reason)


class Guessing(GatewayCase):
    def test_an_address_that_fails_too_often_waits(self):
        body = "username=tester@pve&password={}"
        one = request("POST", "/api2/json/access/ticket", f"Content-Type: {FORM}", body=body.format("wrong"))
        sockets = [self.gateway.raw(20) for _ in range(30)]
        for tls in sockets:
            tls.sendall(one)
        for tls in sockets:
            self.assertEqual(read_answer(tls.makefile("rb"))[0], 401)
            tls.close()
        status, reason, _, _ = self.call("POST", "/access/ticket", f"Content-Type: {FORM}", body=body.format("secret"))
        self.assertEqual(status, 401)
        self.assertIn("too many failed logins", reason)
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        audit = [line for line in cls.log.splitlines() if "audit" in line]
        assert len(audit) == 31, audit
        assert "POST /access/ticket" in audit[0], audit
        assert "wrong" not in cls.log, "a password in the log"
        assert "secret" not in cls.log, "a secret in the log"


class UploadCase(GatewayCase):
    def upload(self, storage, body, *headers, length=None):
        path = f"/api2/json/nodes/n/storage/{storage}/upload"
        head = [f"POST {path} HTTP/1.1", "Host: x", COOKIE,
                f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
                f"Content-Length: {length if length is not None else len(body)}", *headers]
        with self.gateway.raw(30) as tls:
            tls.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
            try:
                tls.sendall(body)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                pass
            return read_answer(tls.makefile("rb"))


class UploadMemory(UploadCase):
    # AddressSanitizer keeps what is freed for a while: little of it here
    env = {"ASAN_OPTIONS": "quarantine_size_mb=1"}

    def test_a_large_file_passes_a_slow_disk_without_being_kept(self):
        size = 20 << 20
        data = os.urandom(size)
        before = self.memory()
        status, reason, _, answer = self.upload("slow", multipart(("content", "iso"), ("filename", "b.iso", data)))
        self.assertEqual((status, reason), (200, "OK"))
        self.assertIn(f"iso-b.iso-{size}", answer.decode())
        self.assertLess(self.memory() - before, 10 << 20, "the file may not be held in memory")

    def memory(self):
        with open(f"/proc/{self.gateway.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * resource.getpagesize()


class Uploads(UploadCase):
    def test_a_file_arrives_whole_with_fields_around_it(self):
        data = os.urandom(300000) + b"\r\n--" + BOUNDARY[:-1].encode()
        body = multipart(("content", "iso"), ("filename", "a.iso", data), ("checksum", "x"),
                         ("checksum-algorithm", "sha256"))
        status, reason, headers, answer = self.upload("good", body)
        self.assertEqual((status, reason), (200, "OK"))
        self.assertEqual(headers["connection"], "close")
        self.assertEqual(json.loads(answer)["data"].split(":")[5:7], [f"iso-a.iso-{len(data)}", f"{fnv(data):x}"])

    def test_over_http_2_too(self):
        path = os.path.join(self.gateway.folder.name, "c.img")
        data = os.urandom(2 << 20)
        with open(path, "wb") as file:
            file.write(data)
        last, body = self.curl("--http2", "-b", f"PVEAuthCookie={TICKET}", "-F", "content=import", "-F",
                               f"filename=@{path}", path="/api2/json/nodes/n/storage/slow/upload")
        self.assertEqual(last, "200 2", body)
        self.assertIn(f"import-c.img-{len(data)}:{fnv(data):x}", body)

    def test_what_goes_wrong_is_told(self):
        large = multipart(("content", "iso"), ("filename", "a.iso", b"x" * 1000000))
        cases = [
            ("full", large, 500, "unable to write: No space left on device"),
            ("dies", large, 500, "the storage-agent broke the upload off"),
            ("absent", large, 500, "storage 'absent' does not exist"),
            ("good", multipart(("content", "iso")), 400, "the multipart body holds no file"),
            ("good", large[:-20], 400, "the multipart body ends before its last boundary"),
            ("good", multipart(("tmpfilename", "/etc/passwd"), ("filename", "a", b"")), 400,
             "parameter 'tmpfilename' cannot be given"),
            ("good", b"garbage" * 10, 400, "multipart body does not begin with its boundary"),
            ("good", multipart(("content", "nonsense"), ("filename", "a.iso", b"x")), 400,
             "Parameter verification failed."),
            ("good", multipart(("content", "iso"), ("node", "other"), ("filename", "a.iso", b"x")), 400,
             "Parameter verification failed."),
        ]
        for storage, body, status, text in cases:
            answer = self.upload(storage, body)
            self.assertEqual((answer[0], answer[1]), (status, text))
        answer = self.ask(request("POST", "/api2/json/nodes/n/storage/good/upload", COOKIE,
                                  f"Content-Type: multipart/form-data; boundary={BOUNDARY}"))[0]
        self.assertEqual(answer[0], 411)
        answer = self.ask(request("POST", "/api2/json/nodes/n/storage/good/upload", COOKIE,
                                  f"Content-Type: {FORM}", body="a=b"))[0]
        self.assertEqual(answer[0], 506)

    def test_bodies_may_end_anywhere(self):
        body = multipart(("content", "iso"), ("filename", "a.iso", b"some bytes"))
        steps = [*range(0, len(body) - 4, 7), body.index(b"stream\r\n\r\n") + 10]
        for size in steps:
            answer = self.upload("good", body[:size])
            self.assertEqual((size, answer[0]), (size, 400))
        self.assertEqual(self.upload("good", body)[0], 200)

    def test_an_empty_body_without_a_login(self):
        answer = self.ask(request("POST", "/api2/json/nodes/n/storage/good/upload", "Content-Length: 0",
                                  f"Content-Type: multipart/form-data; boundary={BOUNDARY}"))[0]
        self.assertEqual(answer[:2], (401, "No ticket"))

    def test_without_a_login_nothing_is_read(self):
        path = "/api2/json/nodes/n/storage/good/upload"
        with self.gateway.raw(30) as tls:
            tls.sendall(request("POST", path, f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
                                "Content-Length: 1000000"))
            tls.sendall(b"x" * 1000000)
            self.assertEqual(read_answer(tls.makefile("rb"))[:2], (401, "No ticket"))

    def test_a_client_that_leaves_leaves_nothing_behind(self):
        for _ in range(20):
            tls = self.gateway.raw()
            tls.sendall(request("POST", "/api2/json/nodes/n/storage/good/upload", COOKIE,
                                f"Content-Type: multipart/form-data; boundary={BOUNDARY}", "Content-Length: 1000000"))
            tls.sendall(multipart(("content", "iso"), ("filename", "a.iso", b"x" * 200000))[:150000])
            tls.close()
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)
        fds = f"/proc/{self.gateway.process.pid}/fd"
        wait_for("the descriptors are closed", 10, lambda: len(os.listdir(fds)) < 60)


class Clients(GatewayCase):
    """Many, slow, and those that leave."""

    def test_two_thousand_connections_are_open_at_once(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
        clients = []
        try:
            while len(clients) < 2000:
                clients.append(h2.H2Client(self.gateway, timeout=60))
                if len(clients) % 100 == 0:
                    self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)
            for client in clients:
                client.get(1, "/api2/json/version", ("authorization", TOKEN.split(": ")[1]))
            for client in clients:
                self.assertIn(b'"version"', client.answer(1))
        finally:
            for client in clients:
                client.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_slow_clients_are_dropped_and_cost_nobody_else(self):
        begin = time.monotonic()
        plain = [socket.create_connection(("127.0.0.1", self.gateway.port)) for _ in range(50)]
        halves = [self.gateway.raw(30) for _ in range(50)]
        for tls in halves:
            tls.sendall(b"GET / HT")
        bodies = [self.gateway.raw(30) for _ in range(50)]
        for tls in bodies:
            tls.sendall(request("POST", "/api2/json/access/ticket", f"Content-Type: {FORM}", "Content-Length: 100000"))
        idle = [self.gateway.raw(30) for _ in range(50)]
        for tls in idle:
            tls.sendall(request("GET", "/"))
            read_answer(tls.makefile("rb"))
        worst = 0
        while time.monotonic() - begin < 13:
            for tls in halves + bodies: # a byte now and then does not help
                try:
                    tls.send(b"x")
                except (OSError, ssl.SSLError):
                    pass
            once = time.monotonic()
            self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)
            worst = max(worst, time.monotonic() - once)
            time.sleep(0.5)
        self.assertLess(worst, 1.0)
        for kind, connections in (("plain", plain), ("half a head", halves), ("body", bodies), ("idle", idle)):
            for connection in connections:
                connection.settimeout(2)
                try:
                    left = connection.recv(1)
                except (ConnectionResetError, ssl.SSLError, BrokenPipeError):
                    left = b""
                except TimeoutError:
                    self.fail(f"a connection of kind '{kind}' is still open")
                self.assertEqual((kind, left), (kind, b""))
                connection.close()

    def test_a_client_that_leaves_cancels_its_call(self):
        for _ in range(30):
            tls = self.gateway.raw()
            tls.sendall(request("GET", "/api2/json/nodes/n/qemu/200/status/current", TOKEN))
            tls.close()
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)

    def test_many_streams_of_one_connection(self):
        url = f"https://127.0.0.1:{self.gateway.port}/api2/json/version"
        done = subprocess.run(["h2load", "-n", "3000", "-c", "4", "-m", "50", "-H", TOKEN, url], capture_output=True,
                              text=True, check=False, timeout=120)
        self.assertIn("3000 2xx, 0 3xx, 0 4xx, 0 5xx", done.stdout, done.stdout + done.stderr)

    def test_garbage_does_no_harm(self):
        for garbage in (b"\x00" * 1000, b"GET / HTTP/1.1\r\n\r\n", os.urandom(2000),
                        b"\x16\x03\x01\xff\xff" + b"x" * 70000):
            with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=5) as plain:
                try:
                    plain.sendall(garbage)
                    plain.recv(100)
                except (ConnectionResetError, BrokenPipeError, TimeoutError):
                    pass
        context = ssl.create_default_context(cafile=self.gateway.ca)
        context.set_alpn_protocols(["h2"])
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", preface + os.urandom(500),
                        preface + b"\x00\x40\x00\x04" + b"\x00" * 100):
            with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=5) as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as tls:
                    try:
                        tls.sendall(garbage)
                        while tls.recv(1000):
                            pass
                    except (OSError, ssl.SSLError):
                        pass
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)


class Http2(GatewayCase):
    """What a client can do wrong only in HTTP/2."""

    def test_a_request_by_hand(self):
        with h2.H2Client(self.gateway) as client:
            client.get(1, "/api2/json/version", ("authorization", TOKEN.split(": ")[1]))
            self.assertIn(b'"version"', client.answer(1))

    def test_cookies_may_be_split_up(self):
        with h2.H2Client(self.gateway) as client:
            client.get(1, "/api2/json/version", ("cookie", "a=b"), ("cookie", f"PVEAuthCookie={TICKET}"))
            self.assertIn(b'"version"', client.answer(1))

    def test_odd_requests_are_refused_and_the_connection_lives(self):
        many = [(f"h{i}", "x") for i in range(70)]
        with h2.H2Client(self.gateway) as client:
            client.get(1, "/", *many)
            self.assertIn(b"too many header lines", client.answer(1))
            client.send(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, 3,
                        h2.header_block((":method", "CONNECT"), (":authority", "x:1")))
            self.assertIn(b"not implemented", client.answer(3))
            client.send(h2.HEADERS, h2.END_HEADERS, 5, h2.request_block("DELETE", "/api2/json/nodes/n/qemu/100"))
            client.send(h2.DATA, h2.END_STREAM, 5, b"purge=1")
            self.assertIn(b"Unexpected content for method 'DELETE'", client.answer(5))
            client.send(h2.HEADERS, h2.END_HEADERS, 7,
                        h2.request_block("POST", "/api2/json/access/ticket", ("content-type", FORM)))
            for _ in range(33):  # 528 KiB, no content-length: counted as it comes
                client.send(h2.DATA, 0, 7, b"x" * 16384)
                if client.tls.pending():
                    break
            self.assertIn(b"for data too large", client.answer(7))
            client.get(9, "/")
            self.assertIn(b"Atoll", client.answer(9))

    def test_a_client_that_cancels_without_end_is_dropped(self):
        with h2.H2Client(self.gateway) as client:
            block = h2.request_block("GET", "/api2/json/nodes/n/qemu/200/status/current",
                                     ("authorization", TOKEN.split(": ")[1]))
            try:
                for i in range(3000):
                    stream = 2 * i + 1
                    client.tls.sendall(client.frame(h2.HEADERS, h2.END_STREAM | h2.END_HEADERS, stream, block) +
                                       client.frame(h2.RST_STREAM, 0, stream, b"\0\0\0\x08"))
                ended = client.wait(h2.GOAWAY, 0)
                self.assertTrue(ended is None or ended[0] == h2.GOAWAY)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                pass
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)

    def test_floods_of_pings_and_settings_are_stopped(self):
        for frame in (h2.H2Client.frame(h2.PING, 0, 0, b"12345678"), h2.H2Client.frame(h2.SETTINGS, 0, 0)):
            with h2.H2Client(self.gateway, timeout=20) as client:
                client.tls.settimeout(20)
                try:
                    for _ in range(200):
                        client.tls.sendall(frame * 500)  # and never reads an answer
                except (BrokenPipeError, ConnectionResetError, TimeoutError, ssl.SSLError):
                    pass
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)


class Backend(GatewayCase):
    def test_a_service_that_is_not_there_is_said_so_and_comes_back(self):
        self.assertEqual(self.call("GET", "/version", TOKEN)[0], 200)
        self.gateway.stop_backend()
        status, _, _, body = self.call("GET", "/version", TOKEN, timeout=40)
        self.assertIn(status, (595, 596))
        self.assertIsNone(json.loads(body)["data"])
        self.gateway.start_backend()
        wait_for("it answers again", 5, lambda: self.call("GET", "/version", TOKEN, timeout=40)[0] == 200)


class OrderlyEnd(unittest.TestCase):
    def test_requests_in_flight_get_their_answers(self):
        gateway = Gateway()
        idle = gateway.raw()
        body = b"username=nobody@pve&password=wrong"  # refused, and not before three seconds
        one = gateway.raw()
        one.sendall(request("POST", "/api2/json/access/ticket", f"Content-Type: {FORM}", body=body))
        two = h2.H2Client(gateway, timeout=10)
        two.send(h2.HEADERS, h2.END_HEADERS, 1,
                 h2.request_block("POST", "/api2/json/access/ticket", ("content-type", FORM)))
        two.send(h2.DATA, h2.END_STREAM, 1, body)
        time.sleep(0.5)
        gateway.process.terminate()
        time.sleep(0.3)
        with self.assertRaises(OSError):
            gateway.raw(1)
        idle.settimeout(2)
        self.assertEqual(idle.recv(1), b"")
        self.assertIsNone(gateway.process.poll())
        with one.makefile("rb") as stream:
            self.assertEqual(read_answer(stream)[0], 401)
        self.assertIn(b"authentication failure", two.answer(1))
        self.assertEqual(gateway.process.wait(5), 0)
        for client in (idle, one, two):
            client.close()
        gateway.close()


class Limits(GatewayCase):
    options = ("--connections", "40", "--connections-per-address", "30")

    def test_an_address_gets_its_share_and_no_more(self):
        sockets = [self.gateway.raw() for _ in range(30)]
        with self.assertRaises(OSError):
            self.gateway.raw(3)
        sockets.pop().close()
        wait_for("a place is free", 5, self.one_more)
        for tls in sockets:
            tls.close()

    def one_more(self):
        try:
            self.gateway.raw(3).close()
            return True
        except OSError:
            return False


class Waiting(unittest.TestCase):
    """Clients that do not do their part. They begin with the module, and are looked at last."""

    @classmethod
    def begin(cls):
        cls.gateway = Gateway()
        cls.since = time.monotonic()
        cls.deaf = cls.gateway.raw(60)  # asks for 100 MB and reads nothing
        cls.deaf.sendall(request("GET", "/api2/json/cluster/resources?type=vm", TOKEN) * 40)
        cls.half = h2.H2Client(cls.gateway, timeout=60)  # half a header block
        cls.half.send(h2.HEADERS, h2.END_STREAM, 1, h2.request_block("GET", "/"))
        cls.closed_window = h2.H2Client(cls.gateway, [(h2.INITIAL_WINDOW, 0)], timeout=60)
        cls.closed_window.get(1, "/")
        cls.no_body = h2.H2Client(cls.gateway, timeout=60)
        cls.no_body.send(h2.HEADERS, h2.END_HEADERS, 1, h2.request_block(
            "POST", "/api2/json/access/ticket", ("content-type", FORM), ("content-length", "1000")))

    @classmethod
    def tearDownClass(cls):
        for client in (cls.deaf, cls.half, cls.closed_window, cls.no_body):
            client.close()
        cls.gateway.close()

    def sleep_until(self, seconds):
        time.sleep(max(0, seconds - (time.monotonic() - self.since)))

    def test_a_body_that_was_announced_must_come(self):
        self.sleep_until(12)
        self.assertEqual(self.no_body.wait(h2.RST_STREAM, 1)[0], h2.RST_STREAM)
        if time.monotonic() - self.since < 60:  # the connection itself goes when it has been idle for long
            self.no_body.get(3, "/")
            self.assertIn(b"Atoll", self.no_body.answer(3))

    def test_a_header_block_must_be_finished(self):
        self.sleep_until(12)
        self.assertIsNone(self.half.wait(h2.DATA, 1))

    def test_an_answer_must_be_read(self):
        self.sleep_until(32)
        size = 0
        try:
            while data := self.deaf.recv(1 << 20):
                size += len(data)
        except (ConnectionResetError, ssl.SSLError):
            pass
        self.assertGreater(size, 100000)
        self.assertLess(size, 30 << 20, "all was sent to a client that did not read for half a minute")

    def test_a_window_must_be_opened(self):
        self.sleep_until(32)
        self.assertEqual(self.closed_window.wait(h2.RST_STREAM, 1)[0], h2.RST_STREAM)


def setUpModule():  # pylint: disable=invalid-name
    if len(sys.argv) == 1 or "Waiting" in sys.argv[1]:
        Waiting.begin()


if __name__ == "__main__":
    unittest.main(verbosity=2)
