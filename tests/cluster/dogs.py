#!/usr/bin/python3
"""Watchdogs of a testbed's nodes, outside of them: each is fed by its node's atoll-watchdog alone, runs on while the node
is paused, and ends everything of the node when it is not fed in time. What happens is written as lines of JSON.

usage: dogs.py TESTBED LOG COUNT      ends with SIGTERM
"""
import json
import os
import selectors
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from testbed import Testbed  # noqa: E402


def socket_of(state_dir, which):
    return os.path.join(state_dir, f"n{which}.dog")


class Dog:
    """Of one node. It runs from the moment it is told its timeout until it is told 'V' and let go."""

    def __init__(self, which, state_dir):
        self.which = which
        self.timeout = None
        self.deadline = None
        self.connection = None
        self.magic = False
        self.feeds = 0
        self.least = None  # seconds that were left at a feed
        path = socket_of(state_dir, which)
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(4)

    def accept(self):
        connection, _ = self.listener.accept()
        text = b""
        connection.settimeout(1)
        try:
            while not text.endswith(b"\n") and len(text) < 16:
                text += connection.recv(1)
            self.timeout = int(text) / 1000
        except (OSError, ValueError):
            connection.close()
            return None
        connection.setblocking(False)
        self.connection = connection
        self.feed()
        return connection

    def feed(self):
        now = time.monotonic()
        if self.deadline is not None:
            self.feeds += 1
            left = self.deadline - now
            self.least = left if self.least is None else min(self.least, left)
        self.magic = False
        self.deadline = now + self.timeout

    def tally(self):
        return {"feeds": self.feeds, "least": self.least}

    def read(self):
        """What happened: "fed", "disarmed", "left" (armed), or None."""
        try:
            data = self.connection.recv(4096)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            self.connection = None
            if self.magic:
                self.deadline = None
                return "disarmed"
            return "left"
        self.feed()
        self.magic = data.endswith(b"V")
        return "fed"


class Kennel:
    def __init__(self, testbed, log, count):
        self.testbed = testbed
        self.log = open(log, "a", encoding="utf-8", buffering=1)
        self.selector = selectors.DefaultSelector()
        self.dogs = [Dog(i, testbed.state_dir) for i in range(1, count + 1)]
        for dog in self.dogs:
            self.selector.register(dog.listener, selectors.EVENT_READ, (dog, True))

    def say(self, dog, what, **more):
        self.log.write(json.dumps({"node": f"n{dog.which}", "what": what, "time": time.monotonic(), **more}) + "\n")

    def fire(self, dog):
        dog.deadline = None
        self.testbed.facts = self.testbed.load()
        if not self.testbed.node(dog.which).running():
            self.say(dog, "dead")  # its power was cut before
            return
        self.say(dog, "fired")
        self.testbed.reset(dog.which)
        self.say(dog, "dead")

    def ready(self, dog, is_listener, source):
        if is_listener:
            connection = dog.accept()
            if connection is not None:
                self.say(dog, "armed", timeout=dog.timeout)
                self.selector.register(connection, selectors.EVENT_READ, (dog, False))
            return
        if source is not dog.connection:  # an older connection of the same node
            self.selector.unregister(source)
            source.close()
            return
        what = dog.read()
        if what in ("left", "disarmed"):
            self.selector.unregister(source)
            source.close()
            self.say(dog, what, **dog.tally())

    def end(self):
        for dog in self.dogs:
            self.say(dog, "end", **dog.tally())

    def run(self):
        while True:
            ends = [dog.deadline for dog in self.dogs if dog.deadline is not None]
            wait = max(0, min(ends) - time.monotonic()) if ends else None
            for key, _ in self.selector.select(wait):
                self.ready(*key.data, key.fileobj)
            now = time.monotonic()
            for dog in self.dogs:
                if dog.deadline is not None and dog.deadline <= now:
                    self.fire(dog)


def as_hardware():
    """It waits for nobody on this machine."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(98))
    except OSError as error:
        print(f"no real-time priority: {error}", file=sys.stderr)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    name, log, count = sys.argv[1:]
    as_hardware()
    kennel = Kennel(Testbed(name), log, int(count))
    try:
        kennel.run()
    finally:
        kennel.end()


if __name__ == "__main__":
    main()
