#!/usr/bin/python3
"""atoll-watchdog feeds only what is asked in time, and nothing on its own account."""
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))
MAGIC = 0x41574431
HELLO, ARM, FEED, DISARM = 1, 2, 3, 4
OK, STATE, DEADLINE = 0, 9, 4


def now_ms():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000000


class Device(threading.Thread):
    """A watchdog device at the other end of a socket: what it was told, byte by byte."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(4)
        self.said = []
        self.closed = 0

    def run(self):
        while True:
            connection, _ = self.listener.accept()
            while data := connection.recv(4096):
                self.said.append(data)
            self.closed += 1
            connection.close()

    def bytes(self):
        return b"".join(self.said)

    def wait(self, count):
        end = time.monotonic() + 5
        while len(self.bytes()) < count and time.monotonic() < end:
            time.sleep(0.01)
        return self.bytes()


class Watchdog(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="atoll-wdt-")
        os.chmod(self.dir, 0o755)
        os.mkdir(os.path.join(self.dir, "watchdog"))
        self.device = Device(os.path.join(self.dir, "device"))
        self.device.start()
        self.start("unix:" + os.path.join(self.dir, "device"))

    def start(self, device):
        program = os.path.join(BUILD, "bin", "atoll-watchdog")
        self.program = subprocess.Popen([program, "--run-dir", self.dir, "--user", "nobody",
                                         "--device", device], stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, self.program)
        self.client = self.connect()

    @staticmethod
    def end(program):
        if program.poll() is None:
            program.kill()
        program.wait()

    def connect(self):
        end = time.monotonic() + 10
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            client.settimeout(5)
            try:
                client.connect(os.path.join(self.dir, "watchdog", "mux.sock"))
                self.addCleanup(client.close)
                return client
            except OSError:
                client.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def ask(self, verb, deadline=0, timeout=0, client=None):
        client = client or self.client
        client.send(struct.pack("=IIQII", MAGIC, verb, deadline, timeout, 0))
        magic, said, code, has, text = struct.unpack("=IIII96s", client.recv(1024))
        self.assertEqual((magic, said), (MAGIC, verb))
        return code, has, text.rstrip(b"\0").decode()

    def arm(self):
        self.assertEqual(self.ask(ARM, now_ms() + 5000, 2000)[:2], (OK, 2000))
        self.assertEqual(self.device.wait(5), b"2000\n")

    def test_feeds_reach_the_device_and_late_ones_do_not(self):
        self.assertEqual(self.ask(HELLO)[:2], (OK, 0))
        self.assertEqual(self.ask(FEED, now_ms() + 5000)[0], STATE)
        self.arm()
        self.assertEqual(self.ask(FEED, now_ms() + 5000)[:2], (OK, 2000))
        self.assertEqual(self.device.wait(6), b"2000\n\0")
        code, has, text = self.ask(FEED, now_ms())
        self.assertEqual((code, has), (DEADLINE, 2000))
        self.assertIn("too late", text)
        time.sleep(0.3)
        self.assertEqual(self.device.bytes(), b"2000\n\0", "it was fed for all that, or on the program's own account")

    def test_what_is_late_arms_nothing(self):
        self.assertEqual(self.ask(ARM, now_ms(), 2000)[:2], (DEADLINE, 0))
        time.sleep(0.1)
        self.assertEqual(self.device.bytes(), b"")

    def test_a_feed_that_waited_in_a_paused_program_is_late(self):
        self.arm()
        self.program.send_signal(signal.SIGSTOP)
        self.client.send(struct.pack("=IIQII", MAGIC, FEED, now_ms() + 300, 0, 0))
        time.sleep(0.5)
        self.program.send_signal(signal.SIGCONT)
        self.assertEqual(struct.unpack("=IIII96s", self.client.recv(1024))[2], DEADLINE)
        self.assertEqual(self.device.bytes(), b"2000\n")

    def test_a_client_that_goes_leaves_it_armed_and_unfed(self):
        self.arm()
        self.client.close()
        time.sleep(0.3)
        self.assertEqual((self.device.bytes(), self.device.closed), (b"2000\n", 0))
        again = self.connect()
        self.assertEqual(self.ask(HELLO, client=again)[:2], (OK, 2000))
        self.assertEqual(self.ask(FEED, now_ms() + 1000, client=again)[0], OK)
        self.assertEqual(self.device.wait(6), b"2000\n\0")

    def test_its_own_end_does_not_disarm(self):
        self.arm()
        self.program.terminate()
        self.assertEqual(self.program.wait(5), 0)
        time.sleep(0.1)
        self.assertEqual((self.device.bytes(), self.device.closed), (b"2000\n", 1))

    def test_disarming_is_told_to_the_device(self):
        self.arm()
        self.assertEqual(self.ask(DISARM)[:2], (OK, 0))
        self.assertEqual(self.device.wait(6), b"2000\nV")
        self.assertEqual(self.ask(DISARM)[:2], (OK, 0))

    def test_others_are_not_heard(self):
        code = ("import os,socket,sys\nos.setuid(1)\ns=socket.socket(socket.AF_UNIX,socket.SOCK_SEQPACKET)\n"
                "s.settimeout(3)\ntry:\n s.connect(sys.argv[1])\n s.send(b'x'*24)\n print(len(s.recv(100)))\n"
                "except OSError as e: print('refused')")
        path = os.path.join(self.dir, "watchdog", "mux.sock")
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "refused")
        os.chmod(path, 0o666)  # even who may open the socket is asked who he is
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        self.assertIn(done.stdout.strip(), ("0", "refused"))

    def test_nonsense_ends_the_connection_alone(self):
        self.arm()
        self.client.send(b"nonsense")
        self.assertEqual(self.client.recv(100), b"")
        self.assertEqual(self.ask(HELLO, client=self.connect())[:2], (OK, 2000))

    def test_a_device_that_is_not_there(self):
        self.end(self.program)
        self.start("/dev/there-is-none")
        code, has, text = self.ask(ARM, now_ms() + 5000, 2000)
        self.assertNotEqual(code, OK)
        self.assertEqual(has, 0)
        self.assertIn("/dev/there-is-none", text)

    def test_an_identity_that_no_device_has(self):
        self.end(self.program)
        self.start("identity:there-is-none")
        code, has, text = self.ask(ARM, now_ms() + 5000, 2000)
        self.assertNotEqual(code, OK)
        self.assertEqual(has, 0)
        self.assertIn("there-is-none", text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
