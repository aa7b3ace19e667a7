"""A lab: machines of their own kernel and systemd under QEMU, with Atoll installed from its package; a network between them."""
import json
import os
import secrets
import shutil
import subprocess
import sys

import image
from machine import Machine, MachineError, free_port, packages

TOP = image.TOP
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))

import cleanup  # noqa: E402
import envfile  # noqa: E402
import guests  # noqa: E402
from rest import ApiError, Rest, TaskError  # noqa: E402,F401
from supervisor import wait_until  # noqa: E402

ADMIN = "admin@pve"
DEFAULT_BUILD = os.path.join(TOP, "build", "release")
UNITS = ["atoll-config-store", "atoll-compute-agent", "atoll-storage-agent", "atoll-sdn-agent", "atoll-watchdog",
         "atoll-ha-lrm", "atoll-ha-crm", "atoll-api-gateway"]


class Lab:
    def __init__(self, name="lab", build_dir=None, stays=False):
        """stays: it is there for longer than this program."""
        self.name = name
        self.stays = stays
        self.build_dir = build_dir or DEFAULT_BUILD
        self.folder = f"/var/lib/atoll-{name}"
        self.share = os.path.join(self.folder, "share")
        self.file = os.path.join(self.folder, "lab.json")
        self.env_file = os.path.join(TOP, "build", f"{name}.env")
        try:
            with open(self.file, encoding="utf-8") as text:
                self.facts = json.load(text)
        except (OSError, ValueError):
            self.facts = {"machines": 0, "port": 0}

    def save(self):
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        with open(self.file, "w", encoding="utf-8") as out:
            json.dump(self.facts, out)
        os.chmod(self.file, 0o600)

    def machines(self):
        return [Machine(self.folder, i, self.facts["port"]) for i in range(1, self.facts["machines"] + 1)]

    def machine(self, which):
        number = int(str(which).removeprefix("l"))
        if number not in range(1, self.facts["machines"] + 1):
            raise MachineError(f"the lab has no machine {which}")
        return self.machines()[number - 1]

    # --- up ---

    def prepare(self):
        """The package, an image that has what it needs, what goes into the machines."""
        if self.build_dir == DEFAULT_BUILD:
            subprocess.run(["cmake", "--preset", "release"], cwd=TOP, check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["ninja", "-C", self.build_dir, "programs"], check=True, stdout=subprocess.DEVNULL)
        os.makedirs(self.share, exist_ok=True)
        for name, path in packages(self.build_dir).items():
            shutil.copy(path, os.path.join(self.share, f"{name}.deb"))
        image.ready(os.path.join(self.share, "atoll.deb"))
        guests.make_images(None, None)
        for path in (guests.DISK, guests.TEMPLATE):
            shutil.copy(path, self.share)

    def up(self, count, say=print):
        if self.facts["machines"]:
            raise MachineError("a lab runs already; tests/lab down ends it")
        if not self.stays:
            cleanup.when_asked_to_end(self.down)
        self.facts = {"machines": count, "port": free_port(), "tokens": {}, "password": secrets.token_urlsafe(15)}
        self.save()
        self.prepare()
        say(f"lab: {count} machines boot")
        for each in self.machines():
            each.create(self.share)
            each.power_on()
        for each in self.machines():
            each.wait()
            each.set_up()
            say(f"lab: {each.name} has booted; installing the package")
            self.install(each)
            self.make_admin(each)
        self.write_env()

    def make_cluster(self, name="lab"):
        """One cluster of all machines; the first one's users and tokens are those of all from then on. corosync is patient
        with machines that are emulated."""
        machines = self.machines()
        first = machines[0]
        first.run(f"atoll cluster create {name} --link0 {first.address} --token-coefficient 4000", timeout=240)
        for each in machines[1:]:
            self.join(first, each)
            self.facts["tokens"][each.name] = self.facts["tokens"][first.name]
            self.save()
        if not wait_until(120, lambda: all(self.sees_all(each) for each in machines), 1):
            raise MachineError("the machines do not see each other within 120 s")
        self.write_env()

    def join(self, first, each):
        """What ends in the middle is repeated, as an operator does: etcd on emulated machines may take long to answer."""
        word = wait_until(60, lambda: self.join_token(first), 0.5)
        command = f"atoll cluster join {first.address} --token {word} --link0 {each.address}"
        if each.agent.run(command, timeout=240)[0] != 0:
            each.run(command, timeout=240)

    def join_token(self, each):
        try:
            return self.rest(each).post("/cluster/config/token")
        except (ApiError, OSError):
            return None

    def sees_all(self, each):
        """Does it show all nodes online, and answer for them?"""
        try:
            rest = self.rest(each)
            rows = rest.get("/nodes")
            return len(rows) == self.facts["machines"] and all(row["status"] == "online" for row in rows) and \
                all(rest.get(f"/nodes/{other.name}/version") for other in self.machines())
        except (ApiError, OSError):
            return False

    def install(self, each):
        each.run("echo WATCHDOG_OPTIONS=--device identity:i6300ESB >/etc/default/atoll; dpkg -i /share/atoll.deb", timeout=480)
        each.run(f"for i in $(seq 120); do systemctl is-active --quiet {' '.join(UNITS)} && exit 0; sleep 1; done\n"
                 f"systemctl --no-pager status {' '.join(UNITS)}; exit 1", timeout=480)

    def make_admin(self, each):
        each.run(f"atoll identity set-password --userid {ADMIN} --password - --create 1 --administrator 1",
                 text_in=self.facts["password"] + "\n")
        rest = Rest(f"https://127.0.0.1:{each.port}", timeout=60)
        if not wait_until(60, lambda: self.answers(rest), 0.5):
            raise MachineError(f"{each.name}: its gateway does not answer")
        rest.login(ADMIN, self.facts["password"])
        value = rest.post(f"/access/users/{ADMIN}/token/lab", privsep=0)["value"]
        self.facts["tokens"][each.name] = f"{ADMIN}!lab={value}"
        self.save()

    @staticmethod
    def answers(rest):
        try:
            return rest.get("/access/domains") is not None
        except OSError:
            return False

    def rest(self, each):
        """The certificate is the machine's own, of a name that is not 127.0.0.1: not checked here."""
        return Rest(f"https://127.0.0.1:{each.port}", token=self.facts["tokens"][each.name], timeout=60)

    def write_env(self):
        values = {"ATOLL_USER": ADMIN, "ATOLL_PASSWORD": self.facts["password"]}
        for each in self.machines():
            values |= {f"ATOLL_URL_{each.number}": f"https://127.0.0.1:{each.port}",
                       f"ATOLL_TOKEN_{each.number}": self.facts["tokens"][each.name]}
        envfile.write(self.env_file, values)

    # --- down ---

    def down(self):
        """True when there was something."""
        there = self.facts["machines"] > 0
        for each in self.machines():
            each.power_off()
        shutil.rmtree(self.folder, ignore_errors=True)
        if os.path.exists(self.env_file):
            os.unlink(self.env_file)
        self.facts = {"machines": 0, "port": 0}
        return there
