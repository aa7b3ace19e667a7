"""The quickstart's guests, made and started through REST alone."""
import os
import subprocess
import time

import layout
from node import NodeError
from rest import ApiError, TaskError

VM, CT = 100, 101
STORAGE = "local"
IMAGES = os.path.join(layout.TOP, "build", "guest")
DISK = os.path.join(IMAGES, "atoll-guest.qcow2")
TEMPLATE = os.path.join(IMAGES, "atoll-busybox_1_amd64.tar.gz")


def make_images(_node, _steps):
    done = subprocess.run([os.path.join(layout.TOP, "deploy", "guest-image", "build.sh"), IMAGES], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise NodeError("make the guest images", done.stderr.strip()[-1500:], "fix what it says and run this again")
    return " and ".join(os.path.basename(line) for line in done.stdout.split())


def make_storage(rest, node, _steps):
    if STORAGE in [s["storage"] for s in rest.get("/storage")]:
        return "is there"
    path = os.path.join(node.state_dir, "local")
    os.makedirs(path, exist_ok=True)
    rest.post("/storage", storage=STORAGE, type="dir", path=path, content="images,rootdir,iso,vztmpl,import,snippets")
    return f"type dir, {path}"


def upload(rest, node, steps, content, path):
    volume = f"{STORAGE}:{content}/{os.path.basename(path)}"
    there = {v["volid"]: v for v in rest.get(f"/nodes/{node.name}/storage/{STORAGE}/content", content=content)}
    size = os.path.getsize(path)
    if volume in there and (content == "import" or there[volume].get("size") == size):
        return "is there"

    def progress(sent, total):
        steps.progress(f"{sent >> 20} of {total >> 20} MiB")

    rest.wait(rest.upload(node.name, STORAGE, content, path, progress))
    return f"{volume}, {size >> 20} MiB" if size >= 1 << 20 else f"{volume}, {size >> 10} KiB"


def upload_disk(rest, node, steps):
    return upload(rest, node, steps, "import", DISK)


def upload_template(rest, node, steps):
    return upload(rest, node, steps, "vztmpl", TEMPLATE)


def existing(rest, node, kind):
    return {int(g["vmid"]): g for g in rest.get(f"/nodes/{node.name}/{kind}")}


def create_vm(rest, node, _steps):
    if VM in existing(rest, node, "qemu"):
        return "is there"
    rest.wait(rest.post(f"/nodes/{node.name}/qemu", vmid=VM, name="demo-vm", memory=256, cores=1, agent="1",
                        ostype="l26", machine="q35", serial0="socket", boot="order=virtio0",
                        virtio0=f"{STORAGE}:0,import-from={STORAGE}:import/{os.path.basename(DISK)}",
                        net0="virtio,bridge=vmbr0", onboot=1, description="Made by the quickstart."))
    return "demo-vm"


def create_ct(rest, node, _steps):
    if CT in existing(rest, node, "lxc"):
        return "is there"
    rest.wait(rest.post(f"/nodes/{node.name}/lxc", vmid=CT, hostname="demo-ct", memory=128, swap=0, unprivileged=1,
                        ostemplate=f"{STORAGE}:vztmpl/{os.path.basename(TEMPLATE)}", rootfs=f"{STORAGE}:0",
                        ostype="unmanaged", net0="name=eth0,bridge=vmbr0,ip=dhcp", onboot=1,
                        description="Made by the quickstart."))
    return "demo-ct"


def current(rest, path, seconds=60):
    """The status of a guest. Right after the node's start, its engine may not answer yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            return rest.get(path + "/current")
        except ApiError as error:
            if "does not answer yet" not in error.message or time.monotonic() > end:
                raise
        time.sleep(0.1)


def start(rest, node, kind, vmid, seconds=180):
    """After the node's start its agent may be starting the guest itself (`onboot`) and hold the guest's lock."""
    path = f"/nodes/{node.name}/{kind}/{vmid}/status"
    end = time.monotonic() + seconds
    while current(rest, path)["status"] != "running":
        try:
            rest.wait(rest.post(path + "/start"))
            return True
        except (ApiError, TaskError) as error:
            if "lock" not in str(error) or time.monotonic() > end:
                raise
    return False


def start_both(rest, node, _steps):
    started = [str(vmid) for kind, vmid in (("qemu", VM), ("lxc", CT)) if start(rest, node, kind, vmid)]
    return "started " + " and ".join(started) if started else "both run already"


def wait_both(rest, node, steps, seconds=180):
    """The agent answers when the guest has booted; under TCG on a slow machine that takes its time."""
    end = time.monotonic() + seconds
    while True:
        try:
            rest.post(f"/nodes/{node.name}/qemu/{VM}/agent/ping")
            break
        except ApiError as error:
            if time.monotonic() > end:
                raise NodeError("reach the guest agent", str(error), f"look at the guest's console: {node.run_dir}, "
                                f"and at {node.log_of('atoll-compute-agent')}") from error
        steps.progress("the virtual machine boots")
        time.sleep(0.2)
    while not all(row["status"] == "running" and row["address"] for row in rows(rest, node)):
        if time.monotonic() > end:
            raise NodeError("wait for addresses", f"not within {seconds} s: {rows(rest, node)}",
                            f"look at {node.log_of('atoll-sdn-agent')}")
        steps.progress("waiting for addresses by DHCP")
        time.sleep(0.2)
    return ", ".join(f"{row['vmid']} {row['address']}" for row in rows(rest, node))


def settled_rows(rest, node, seconds=20):
    """The two guests as soon as both have an address; a guest's agent that is busy for a moment is asked again."""
    end = time.monotonic() + seconds
    while True:
        found = rows(rest, node)
        if all(row["address"] for row in found) or time.monotonic() > end:
            return found
        time.sleep(0.2)


def first_address(interfaces, name_key, pick):
    for interface in interfaces or []:
        if interface.get(name_key) != "lo":
            for address in pick(interface):
                if address and ":" not in address and not address.startswith(("127.", "169.254.")):
                    return address.split("/")[0]
    return ""


def vm_address(rest, node):
    try:
        found = rest.get(f"/nodes/{node.name}/qemu/{VM}/agent/network-get-interfaces")["result"]
    except ApiError:
        return ""
    return first_address(found, "name", lambda i: [a.get("ip-address") for a in i.get("ip-addresses", [])])


def ct_address(rest, node):
    try:
        found = rest.get(f"/nodes/{node.name}/lxc/{CT}/interfaces")
    except ApiError:
        return ""
    return first_address(found, "name", lambda i: [i.get("inet")] + [a.get("ip-address") for a in
                                                                      i.get("ip-addresses") or []])


def rows(rest, node):
    """id, type, name, status, address of the two guests."""
    found = []
    for kind, vmid, address in (("qemu", VM, vm_address), ("lxc", CT, ct_address)):
        now = current(rest, f"/nodes/{node.name}/{kind}/{vmid}/status")
        running = now["status"] == "running"
        found.append({"vmid": vmid, "type": kind, "name": now.get("name", ""), "status": now["status"],
                      "address": address(rest, node) if running else ""})
    return found


def table(found):
    keys = ["vmid", "type", "name", "status", "address"]
    lines = [[key.upper() for key in keys]] + [[str(row[key]) or "-" for key in keys] for row in found]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keys))]
    padded = [[word.ljust(width) for word, width in zip(line, widths)] for line in lines]
    return "\n".join("  " + "  ".join(line).rstrip() for line in padded)


def stop_all(rest, node, steps):
    """Orderly where the guest helps, hard after that."""
    count = 0
    for kind in ("lxc", "qemu"):
        for vmid, guest in existing(rest, node, kind).items():
            if guest["status"] != "running":
                continue
            count += 1
            steps.progress(f"{vmid}")
            path = f"/nodes/{node.name}/{kind}/{vmid}/status"
            rest.wait(rest.post(path + "/shutdown", timeout=15, forceStop=1), seconds=40)
    return f"{count} stopped" if count else "none ran"
