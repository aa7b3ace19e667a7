"""A power strip of a testbed's nodes, and the fence agent that speaks to it. The agent runs as the service that asks;
what it is told comes to the strip, which does it or not."""
import os
import socket
import threading

AGENT = """#!/usr/bin/python3
import socket
import sys

told = dict(line.rstrip("\\n").split("=", 1) for line in sys.stdin)
strip = socket.socket(socket.AF_UNIX)
strip.settimeout(30)
strip.connect(told["ip"])
strip.sendall((" ".join(told.get(key, "-") for key in ("action", "plug", "password")) + "\\n").encode())
answer = strip.recv(64).decode()
if answer not in ("on", "off"):
    sys.exit("the strip says " + (answer or "nothing") + " to " + told["password"])
sys.exit(2 if answer == "off" and told["action"] == "status" else 0)
"""


class Strip:
    """works: switches off what it is told to, and says how nodes are; else it answers nonsense."""

    def __init__(self, testbed):
        self.testbed = testbed
        self.works = True
        self.told = []  # (action, node, password), in order
        self.agents = os.path.join(testbed.state_dir, "agents")
        self.path = os.path.join(testbed.state_dir, "strip")
        self.listener = socket.socket(socket.AF_UNIX)
        self.thread = threading.Thread(target=self.run, daemon=True)

    def plug_in(self):
        os.makedirs(self.agents, exist_ok=True)
        program = os.path.join(self.agents, "fence_strip")
        with open(program, "w", encoding="utf-8") as out:
            out.write(AGENT)
        os.chmod(program, 0o755)
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o666)
        self.listener.listen(8)
        self.thread.start()

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                try:
                    connection.sendall(self.answer(connection.makefile().readline().split()).encode())
                except OSError:
                    pass  # the agent has gone

    def answer(self, words):
        self.told.append(tuple(words))
        action, node = words[:2]
        if not self.works:
            return "nonsense"
        if action == "off":
            self.testbed.power_off(node)
        return "on" if self.testbed.node(node).running() else "off"

    def unplug(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)
