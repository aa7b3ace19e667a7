"""Just enough HTTP/2 to misbehave: frames are made by hand, header blocks without compression."""
import socket
import ssl
import struct

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW = 4
STATIC_STATUS = {8: "200", 9: "204", 10: "206", 11: "304", 12: "400", 13: "404", 14: "500"}


def header_block(*pairs):
    out = b""
    for name, value in pairs:
        out += b"\x00" + number(len(name), 7) + name.encode() + number(len(value), 7) + value.encode()
    return out


def number(value, bits):
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([value])
    out = [limit]
    value -= limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes(out + [value])


def request_block(method, path, *more):
    return header_block((":method", method), (":scheme", "https"), (":authority", "x"), (":path", path), *more)


class H2Client:
    def __init__(self, gateway, settings=(), timeout=10):
        context = ssl.create_default_context(cafile=gateway.ca)
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", gateway.port), timeout=timeout)
        self.tls = context.wrap_socket(plain, server_hostname="localhost")
        assert self.tls.selected_alpn_protocol() == "h2"
        self.buffer = b""
        self.tls.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in settings))

    def send(self, kind, flags, stream, payload=b""):
        self.tls.sendall(self.frame(kind, flags, stream, payload))

    @staticmethod
    def frame(kind, flags, stream, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    def get(self, stream, path, *more):
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, request_block("GET", path, *more))

    def receive(self):
        """(kind, flags, stream, payload), or None when the server has closed."""
        while True:
            if len(self.buffer) >= 9:
                size = struct.unpack(">I", b"\0" + self.buffer[:3])[0]
                if len(self.buffer) >= 9 + size:
                    kind, flags, stream = self.buffer[3], self.buffer[4], struct.unpack(">I", self.buffer[5:9])[0]
                    payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
                    if kind == SETTINGS and not flags & ACK:
                        self.send(SETTINGS, ACK, 0)
                    return kind, flags, stream, payload
            try:
                got = self.tls.recv(65536)
            except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
                got = b""
            if not got:
                return None
            self.buffer += got

    def wait(self, kind, stream):
        """The next frame of that kind on that stream; None when the connection ends before."""
        while True:
            frame = self.receive()
            if frame is None or (frame[0] == kind and frame[2] == stream):
                return frame

    def answer(self, stream):
        """(status as text, body) of a small answer."""
        frame = self.wait(HEADERS, stream)
        if frame is None:
            return None
        body = b""
        while not frame[1] & END_STREAM:
            frame = self.wait(DATA, stream)
            if frame is None:
                return None
            body += frame[3]
        return body

    def close(self):
        self.tls.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
