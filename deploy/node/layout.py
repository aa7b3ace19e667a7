"""Where the parts of a node are: folders, users, who may call whom."""
import grp
import os
import pwd
import shutil
import subprocess

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
CALLERS_FILE = os.path.join(TOP, "deploy", "bus-callers.txt")
EVENTS_GROUP = "atoll"


class Service:
    """One line of bus-callers.txt."""

    def __init__(self, name, user, callers):
        self.name = name
        self.user = user
        self.callers = callers


def read_services():
    services = []
    with open(CALLERS_FILE, encoding="utf-8") as lines:
        for line in lines:
            words = line.split("#")[0].split()
            if words:
                services.append(Service(words[0], words[1], words[2:]))
    return services


SERVICES = read_services()
USERS = {service.name: service.user for service in SERVICES}


def group_of(caller):
    """The unix group that a caller's processes have; cli is root's."""
    user = USERS.get(caller, "root")
    return "root" if user == "root" else user


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make_users():
    """System users and groups of the services; what is there stays. Returns the names that were made."""
    made = []
    try:
        grp.getgrnam(EVENTS_GROUP)
    except KeyError:
        run("groupadd", "--system", EVENTS_GROUP)
        made.append(EVENTS_GROUP)
    for user in sorted({u for u in USERS.values() if u != "root"}):
        try:
            pwd.getpwnam(user)
        except KeyError:
            run("useradd", "--system", "--user-group", "--groups", EVENTS_GROUP, "--no-create-home", "--home-dir",
                "/nonexistent", "--shell", "/usr/sbin/nologin", user)
            made.append(user)
    return made


def make_folder(path, user="root", group="root", mode=0o755):
    os.makedirs(path, exist_ok=True)
    os.chown(path, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
    os.chmod(path, mode)


def own(path, user, mode):
    os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    os.chmod(path, mode)


def make_file(path, user, mode):
    """An empty file, or the one that is there, with this owner."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode))
    own(path, user, mode)


def each_run_place(run_dir, folder, file):
    """Calls folder(path, user, group, mode) and file(path, user, mode) for all that RUN holds. The bus's folders say
    who may call: whoever may open RUN/bus/SERVICE/CALLER."""
    folder(run_dir)
    folder(os.path.join(run_dir, "bus"))
    folder(os.path.join(run_dir, "stream"))
    for service in SERVICES:
        base = os.path.join(run_dir, "bus", service.name)
        folder(base)
        folder(os.path.join(base, "events"), service.user, EVENTS_GROUP, 0o750)
        for caller in service.callers:
            folder(os.path.join(base, caller), service.user, group_of(caller), 0o750)
        file(os.path.join(run_dir, service.name + ".ready"), service.user, 0o644)
    folder(os.path.join(run_dir, "stream", "storage-agent"), "atoll-storage", "atoll-gateway", 0o2750)
    for service in SERVICES:
        folder(os.path.join(run_dir, service.name), service.user, group_of(service.name), 0o755)


# State that belongs to one service alone, and the spool of its tasks.
STATE_FOLDERS = {"config-store": "config-store", "api-gateway": "gateway", "storage-agent": "storage-agent",
                 "sdn-agent": "sdn-agent", "compute-agent": "compute-agent", "watchdog": "watchdog", "ha-lrm": "ha-lrm",
                 "ha-crm": "ha-crm"}


def each_state_place(state_dir, folder):
    folder(state_dir)
    folder(os.path.join(state_dir, "tasks"))
    folder(os.path.join(state_dir, "log"))
    for service in SERVICES:
        group = group_of(service.name)
        folder(os.path.join(state_dir, STATE_FOLDERS[service.name]), service.user, group, 0o750)
        folder(os.path.join(state_dir, "tasks", service.name), service.user, group, 0o755)


def make_run_dir(run_dir):
    each_run_place(run_dir, make_folder, make_file)


def make_state_dir(state_dir):
    each_state_place(state_dir, make_folder)


def state_of(service, state_dir):
    """The folder a service is told: config-store keeps nothing for others in its own."""
    return os.path.join(state_dir, "config-store") if service == "config-store" else state_dir


def pam_helper(state_dir):
    return os.path.join(state_dir, "libexec", "atoll-pam-helper")


def install_pam_helper(bin_dir, state_dir):
    """The one setuid program: root's, for config-store's group alone. Not below /run, which is mounted nosuid."""
    source, path = os.path.join(bin_dir, "atoll-pam-helper"), pam_helper(state_dir)
    if not os.path.exists(source):
        return
    make_folder(os.path.dirname(path))
    part = path + ".part"
    shutil.copyfile(source, part)
    os.chown(part, 0, grp.getgrnam(group_of("config-store")).gr_gid)
    os.chmod(part, 0o4750)
    os.replace(part, path)
