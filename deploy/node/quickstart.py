"""deploy/quickstart: a node, a storage, a virtual machine and a container, all through REST."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time

import certs
import envfile
import guests
import layout
import systemd
from node import Node, NodeError, new_password
from rest import ApiError, Rest, TaskError
from steps import Steps, explain

USER = "admin@pve"
TOKEN_NAME = "quickstart"
BUILD = os.path.join(layout.TOP, "build")
ENV_FILE = os.path.join(BUILD, "quickstart.env")
PLACES = ("/run/atoll", "/var/lib/atoll")  # where the package's units expect everything


def parse():
    about = "Starts Atoll on this machine with a virtual machine (100) and a container (101). Run it again at any time."
    parser = argparse.ArgumentParser(prog="deploy/quickstart", description=about)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--down", action="store_true", help="stop everything and take away what was made on this machine")
    what.add_argument("--status", action="store_true", help="services with pid and health")
    parser.add_argument("--json", action="store_true", help="with --status: as JSON")
    parser.add_argument("--accel", choices=("auto", "kvm", "tcg"), default="auto",
                        help="how virtual machines run (default: auto, found out by a trial)")
    parser.add_argument("--netns", action="store_true", default=None,
                        help="run in namespaces of its own (CI=true does too)")
    parser.add_argument("--no-netns", dest="netns", action="store_false", help="run on the host even when CI=true")
    parser.add_argument("--purge", action="store_true", help="with --down: remove the state folder too, guests and all")
    parser.add_argument("--run-dir", default=PLACES[0], help=f"default {PLACES[0]}")
    parser.add_argument("--state-dir", default=PLACES[1], help=f"default {PLACES[1]}")
    parser.add_argument("--preset", default="release", help="which build to run (default release)")
    parser.add_argument("--build-dir", help="run what is built there, and build nothing")
    parser.add_argument("--env-file", default=ENV_FILE, help="where to write what clients need")
    parser.add_argument("--port", type=int, default=8006, help="where the API listens (default 8006)")
    return parser.parse_args()


def make_node(options):
    isolated = options.netns if options.netns is not None else os.environ.get("CI") == "true"
    build_dir = os.path.realpath(options.build_dir) if options.build_dir else os.path.join(BUILD, options.preset)
    node = Node(build_dir, options.run_dir, options.state_dir, isolated=isolated,
                accel=options.accel, port=options.port)
    if systemd.runs() and not isolated and not node.running() and (options.run_dir, options.state_dir) == PLACES:
        node = systemd.SystemdNode(build_dir, *PLACES, accel=options.accel, port=options.port)
    node.build_wanted, node.env_file = options.build_dir is None, os.path.abspath(options.env_file)
    saved = node.saved() if node.init_pid() else None
    if saved:  # what runs decides, not what is asked for
        node.isolated, node.name, node.build_dir = saved["isolated"], saved["name"], saved["build_dir"]
        node.bin_dir, node.port = os.path.join(node.build_dir, "bin"), saved["port"]
        node.state_dir, node.accel = saved["state_dir"], saved["accel"]
        node.log_dir = os.path.join(node.state_dir, "log")
    return node


# --- status and down ---

def show_status(node, as_json):
    running = node.running()
    rows = node.services() if running else []
    good = running and all(row["health"] == "ok" for row in rows)
    if as_json:
        print(json.dumps({"node": node.name, "running": running, "healthy": good, "url": node.url if running else None,
                          "isolated": node.isolated, "services": rows}, indent=2))
    elif not running:
        print("Atoll does not run here. Start it: deploy/quickstart")
    else:
        print(f"node {node.name} at {node.url}" + (" (in namespaces of its own)" if node.isolated else ""))
        for row in rows:
            print(f"  {row['name']:22} {row['pid'] or '-':>8}  {row['health']}")
    return 0 if good else 3


def take_down(node, options):
    steps = Steps(2)
    steps.start("Stopping the guests")
    try:
        steps.done(guests.stop_all(api(node), node, steps) if node.running() else "nothing runs")
    except (ApiError, TaskError, OSError) as error:
        steps.done(f"the API did not help ({error}); they end with the node")
    steps.start("Stopping the node")
    steps.done("nothing left behind" if node.down() else "nothing was there")
    if options.purge:
        shutil.rmtree(options.state_dir, ignore_errors=True)
        if os.path.exists(node.env_file):
            os.unlink(node.env_file)
    return 0


# --- up ---

def ca_file(node):
    """The authority's certificate, beside the file that names it."""
    return os.path.join(os.path.dirname(node.env_file), "quickstart-ca.pem")


def api(node, token=True):
    saved = envfile.read(node.env_file)
    return Rest(node.url, saved.get("ATOLL_CACERT"), saved.get("ATOLL_TOKEN") if token else None)


def build_release(node, steps):
    """Configures and builds; shows Ninja's count as progress."""
    if not node.build_wanted:
        return f"taking {node.build_dir} as it is"
    preset = os.path.basename(node.build_dir)
    done = subprocess.run(["cmake", "--preset", preset, "-B", node.build_dir], cwd=layout.TOP, capture_output=True,
                          check=False)
    if done.returncode != 0:
        raise NodeError("configure the build", done.stderr.decode(errors="replace").strip()[-1500:],
                        "tools/install-packages.sh build installs what compiling needs")
    log = os.path.join(node.build_dir, "quickstart-build.log")
    with open(log, "w", encoding="utf-8") as out:
        child = subprocess.Popen(["ninja", "-C", node.build_dir, "programs"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, env={**os.environ, "NINJA_STATUS": "[%f/%t] "})
        for line in child.stdout:
            out.write(line)
            if line.startswith("["):
                steps.progress("compiling " + line.split("]")[0].strip("["))
    if child.wait() != 0:
        with open(log, encoding="utf-8") as text:
            tail = [line for line in text.read().splitlines() if "error" in line or "FAILED" in line][-10:]
        raise NodeError("compile", "\n".join(tail) or f"exit code {child.returncode}", f"the whole log: {log}")
    return f"{node.build_dir}"


def start_node(node, _steps):
    node.prepare()
    ca = certs.make(node.state_dir, node.name, [node.address])
    shutil.copyfile(ca, ca_file(node))
    started = node.up()
    node.wait_ready(60)
    wait_for_api(node)
    return ("started" if started else "runs already") + f", {len(node.services())} services, {node.url}"


def wait_for_api(node, seconds=30):
    """Until the gateway and config-store behind it answer."""
    rest = Rest(node.url, ca_file(node))
    end = time.monotonic() + seconds
    while True:
        try:
            rest.get("/access/domains")
            return
        except (OSError, ApiError) as error:
            if time.monotonic() > end:
                raise NodeError("reach the API", f"{node.url} does not answer: {error}",
                                f"its log:\n{node.log_tail('atoll-api-gateway')}") from error
        time.sleep(0.1)


def make_admin(node, _steps):
    """User and token; what works already is kept. The password goes in by standard input, never as an argument."""
    ca = ca_file(node)
    saved = envfile.read(node.env_file)
    password = saved.get("ATOLL_PASSWORD") or new_password()
    rest = Rest(node.url, ca)
    try:
        rest.login(USER, password)
    except ApiError:
        command = node.enter(node.program("atoll"), "identity", "set-password", "--userid", USER,
                             "--password", "-", "--create", "1", "--administrator", "1", "--run-dir", node.run_dir)
        done = subprocess.run(command, input=password + "\n", text=True, capture_output=True, check=False)
        if done.returncode != 0:
            raise NodeError("set the administrator's password", (done.stderr or done.stdout).strip(),
                            f"its log:\n{node.log_tail('atoll-config-store')}")
        rest.login(USER, password)
    token = saved.get("ATOLL_TOKEN")
    if not token or not token_works(node, ca, token):
        path = f"/access/users/{USER}/token/{TOKEN_NAME}"
        try:
            rest.delete(path)
        except ApiError:
            pass  # there was none
        token = f"{USER}!{TOKEN_NAME}=" + rest.post(path, privsep=0, comment="made by the quickstart")["value"]
    envfile.write(node.env_file, {"ATOLL_URL": node.url, "ATOLL_HOST": node.address, "ATOLL_NODE": node.name,
                             "ATOLL_USER": USER, "ATOLL_PASSWORD": password, "ATOLL_TOKEN": token, "ATOLL_CACERT": ca})
    return f"{USER} and a token, in {os.path.relpath(node.env_file, layout.TOP)}"


def token_works(node, ca, token):
    try:
        Rest(node.url, ca, token).get("/version")
        return True
    except ApiError:
        return False


def show_end(node, rest):
    env = envfile.read(node.env_file)
    print("\n" + guests.table(guests.settled_rows(rest, node)))
    print(f"\n  URL       {env['ATOLL_URL']}\n  user      {env['ATOLL_USER']}\n  password  {env['ATOLL_PASSWORD']}")
    atoll = node.program("atoll")
    atoll = os.path.relpath(atoll, layout.TOP) if atoll.startswith(layout.TOP) else "atoll"
    print(f"""
Try next (the first line sets what the others need):
  set -a; . {os.path.relpath(node.env_file, layout.TOP)}; set +a
  {atoll} cluster resources
  {atoll} vm agent-network-get-interfaces {guests.VM}
  {atoll} ct shutdown {guests.CT} && {atoll} ct start {guests.CT}
  curl --cacert "$ATOLL_CACERT" -H "Authorization: PVEAPIToken=$ATOLL_TOKEN" "$ATOLL_URL/api2/json/nodes"
And at the end: ./deploy/quickstart --down""")


def bring_up(node):
    plan = [("Building Atoll", build_release), ("Making the guest disk and the container template", guests.make_images),
            ("Starting the node", start_node), ("Setting up the administrator", make_admin)]
    through_rest = [("Creating storage 'local'", guests.make_storage),
                    ("Uploading the guest disk", guests.upload_disk),
                    ("Uploading the container template", guests.upload_template),
                    (f"Creating virtual machine {guests.VM}", guests.create_vm),
                    (f"Creating container {guests.CT}", guests.create_ct),
                    (f"Starting virtual machine {guests.VM} and container {guests.CT}", guests.start_both),
                    (f"Waiting for the guest agent of {guests.VM} and for {guests.CT}", guests.wait_both)]
    steps = Steps(len(plan) + len(through_rest))
    try:
        for title, work in plan:
            steps.start(title)
            steps.done(work(node, steps))
        rest = api(node)
        for title, work in through_rest:
            steps.start(title)
            steps.done(work(rest, node, steps))
    except (NodeError, ApiError, TaskError, subprocess.SubprocessError, OSError, KeyError, ValueError) as error:
        steps.failed(*explain(error, node))
        return 1
    show_end(node, rest)
    return 0


def main():
    options = parse()
    node = make_node(options)
    if options.status:
        return show_status(node, options.json)
    if options.down:
        return take_down(node, options)
    os.makedirs(BUILD, exist_ok=True)
    return bring_up(node)


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("\nInterrupted. Run it again to go on, or deploy/quickstart --down to take everything away.")
        sys.exit(130)
