"""A small client of the REST API: the standard library is all it needs."""
import http.client
import json
import os
import ssl
import time
import urllib.parse

BOUNDARY = "----atoll-quickstart-4f1c"


class ApiError(Exception):
    """An answer that is no success."""

    def __init__(self, method, path, status, reason, body):
        self.status, self.reason = status, reason
        self.errors = {}
        self.message = reason
        try:
            answer = json.loads(body)
            self.errors = answer.get("errors") or {}
            self.message = (answer.get("message") or reason).strip()
        except (ValueError, AttributeError):
            pass
        details = "; ".join(f"{name}: {text}" for name, text in self.errors.items())
        super().__init__(f"{method} {path}: {status} {self.message}" + (f" ({details})" if details else ""))


class TaskError(Exception):
    """A task that did not end in OK; carries the end of its log."""

    def __init__(self, upid, exitstatus, log):
        self.upid, self.exitstatus, self.log = upid, exitstatus, log
        super().__init__(f"{exitstatus}\n" + "\n".join("    " + line for line in log[-8:]))


class Rest:
    """One user at one node."""

    def __init__(self, url, cacert=None, token=None, timeout=30):
        parts = urllib.parse.urlsplit(url)
        self.url = url
        self.host, self.port = parts.hostname, parts.port or 8006
        self.context = ssl.create_default_context(cafile=cacert)
        if cacert is None:
            self.context.check_hostname = False
            self.context.verify_mode = ssl.CERT_NONE
        self.timeout = timeout
        self.token = token
        self.ticket = None
        self.csrf = None

    def login(self, user, password):
        data = self.post("/access/ticket", username=user, password=password)
        self.ticket, self.csrf = data["ticket"], data["CSRFPreventionToken"]
        return data

    def headers(self, method):
        if self.token:
            return {"Authorization": "PVEAPIToken=" + self.token}
        if self.ticket:
            found = {"Cookie": "PVEAuthCookie=" + urllib.parse.quote(self.ticket, safe="")}
            if method != "GET":
                found["CSRFPreventionToken"] = self.csrf
            return found
        return {}

    def connect(self, timeout=None):
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout or self.timeout, context=self.context)

    def raw(self, method, path, body=None, headers=None, timeout=None):
        """(status, reason, headers, body) of one request."""
        link = self.connect(timeout)
        try:
            link.request(method, "/api2/json" + path, body=body, headers={**self.headers(method), **(headers or {})})
            answer = link.getresponse()
            return answer.status, answer.reason, dict(answer.getheaders()), answer.read()
        finally:
            link.close()

    def call(self, method, path, params=None, timeout=None):
        params = {k: (int(v) if isinstance(v, bool) else v) for k, v in (params or {}).items() if v is not None}
        text = urllib.parse.urlencode(params, doseq=True)
        body, headers = None, {}
        if method in ("POST", "PUT"):
            body, headers = text, {"Content-Type": "application/x-www-form-urlencoded"}
        elif text:
            path += "?" + text
        status, reason, _, data = self.raw(method, path, body, headers, timeout)
        if status != 200:
            raise ApiError(method, path.split("?")[0], status, reason, data)
        return json.loads(data)["data"]

    def get(self, path, /, **params):
        return self.call("GET", path, params)

    def post(self, path, /, **params):
        return self.call("POST", path, params)

    def put(self, path, /, **params):
        return self.call("PUT", path, params)

    def delete(self, path, /, **params):
        return self.call("DELETE", path, params)

    # --- tasks ---

    def wait(self, upid, seconds=120, progress=None):
        """Until the task has ended; TaskError unless it ended in OK or with warnings."""
        node = upid.split(":")[1]
        path = f"/nodes/{node}/tasks/{urllib.parse.quote(upid, safe='')}"
        end = time.monotonic() + seconds
        pause = 0.02
        while True:
            status = self.get(path + "/status")
            if status["status"] == "stopped":
                break
            if time.monotonic() > end:
                raise TaskError(upid, f"still runs after {seconds} s", self.log_of(path))
            if progress:
                progress(status)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)
        exitstatus = status.get("exitstatus", "")
        if exitstatus != "OK" and not exitstatus.startswith("WARNINGS"):
            raise TaskError(upid, exitstatus or "ended without a word", self.log_of(path))
        return exitstatus

    def log_of(self, path):
        try:
            return [line["t"] for line in self.get(path + "/log", limit=500)]
        except ApiError:
            return []

    # --- uploads ---

    def upload(self, node, storage, content, file_path, progress=None, name=None):
        """Streams a file as multipart/form-data; answers the task's UPID."""
        name = name or os.path.basename(file_path)
        head = "".join(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'
                       for k, v in (("content", content),))
        head += (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="filename"; filename="{name}"\r\n'
                 "Content-Type: application/octet-stream\r\n\r\n")
        tail = f"\r\n--{BOUNDARY}--\r\n"
        size = os.path.getsize(file_path)
        path = f"/nodes/{node}/storage/{storage}/upload"
        link = self.connect(300)
        try:
            link.putrequest("POST", "/api2/json" + path)
            headers = {**self.headers("POST"), "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
                       "Content-Length": str(len(head) + size + len(tail))}
            for key, value in headers.items():
                link.putheader(key, value)
            link.endheaders()
            link.send(head.encode())
            sent = 0
            with open(file_path, "rb") as data:
                while part := data.read(262144):
                    link.send(part)
                    sent += len(part)
                    if progress:
                        progress(sent, size)
            link.send(tail.encode())
            answer = link.getresponse()
            body = answer.read()
        finally:
            link.close()
        if answer.status != 200:
            raise ApiError("POST", path, answer.status, answer.reason, body)
        return json.loads(body)["data"]
