#!/usr/bin/python3
"""The quickstart on a host: twice up, status, down; down leaves nothing. The "host" is a namespace of the test's own."""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev"))
INSIDE = "ATL_TEST_INSIDE"


def own_namespaces():
    """Runs this program again where links, mounts, processes and sysctls of the network are its own."""
    if os.geteuid() != 0:
        print("needs root: namespaces")
        sys.exit(77)
    spaces = ["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    setup = ("mount --make-rprivate / && hostname quickhost && ip link set lo up && mount --rbind /sys/fs/cgroup /mnt && "
             "mount -t sysfs sysfs /sys && mount --rbind /mnt /sys/fs/cgroup && umount -l /mnt && exec \"$@\"")
    environment = {**os.environ, INSIDE: "1", "CI": "false"}
    os.execvpe("unshare", ["unshare", *spaces, "sh", "-c", setup, "sh", "tini", "-s", "--", sys.executable,
                           os.path.realpath(__file__)], environment)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


class Quickstart(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="atoll-quick-")
        os.chmod(self.folder, 0o755)
        self.env_file = os.path.join(self.folder, "quickstart.env")

    def quickstart(self, *words, check=True):
        command = [os.path.join(TOP, "deploy", "quickstart"), "--no-netns", "--accel", "tcg", "--build-dir", BUILD,
                   "--run-dir", os.path.join(self.folder, "run"), "--state-dir", os.path.join(self.folder, "state"),
                   "--env-file", self.env_file, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words) or 'up'}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def host(self):
        """Everything that must be as it was when the node is down again."""
        cgroups = output("find", "/sys/fs/cgroup", "-mindepth", "2", "-type", "d").split()
        return {
            "processes": sorted(line.strip() for line in output("ps", "-eo", "args=").splitlines()
                                if not line.startswith(("ps ", "tini", "/usr/bin/python3 ", sys.executable))),
            "links": sorted(link["ifname"] for link in json.loads(output("ip", "-j", "link"))),
            "addresses": output("ip", "-br", "addr"), "routes": output("ip", "route"),
            "mounts": sorted(output("findmnt", "-rno", "TARGET,SOURCE,FSTYPE").splitlines()),
            "cgroups": sorted(c for c in cgroups if OURS.match(c)),
            "rules": output("nft", "list", "ruleset"),
            "sysctls": sorted(line for line in output("sysctl", "-a", "--pattern", "^net\\.").splitlines()
                              if ".vmbr" not in line and not any(word in line for word in COUNTERS)),
            "files": sorted(f"{p}:{os.stat(p).st_mtime_ns}:{os.stat(p).st_size}" for p in
                            ("/etc/network/interfaces", "/etc/subuid", "/etc/subgid", "/etc/hosts") if os.path.exists(p)),
        }

    def test_up_twice_status_and_down(self):
        before = self.host()
        first = self.quickstart()
        try:
            self.look_at_output(first.stdout)
            self.look_at_env_file()
            services = self.look_at_status()
            begin = time.monotonic()
            second = self.quickstart()
            self.assertLess(time.monotonic() - begin, 60)
            self.assertIn("runs already", second.stdout)
            self.assertEqual(services, self.look_at_status(), "a second run started something anew")
        except BaseException:
            print(first.stdout, flush=True)
            raise
        finally:
            down = self.quickstart("--down")
        self.assertIn("nothing left behind", down.stdout)
        after = self.host()
        for what, was in before.items():
            self.assertEqual(after[what], was, f"{what} are not as before")
        self.assertEqual(self.quickstart("--status", check=False).returncode, 3)
        self.assertIn("nothing was there", self.quickstart("--down").stdout)

    def look_at_output(self, text):
        self.assertRegex(text, r"VMID +TYPE +NAME +STATUS +ADDRESS")
        self.assertRegex(text, r"100 +qemu +demo-vm +running +10\.10\.10\.\d+")
        self.assertRegex(text, r"101 +lxc +demo-ct +running +10\.10\.10\.\d+")
        for word in ("URL", "user", "password", "--down"):
            self.assertIn(word, text)

    def look_at_env_file(self):
        self.assertEqual(os.stat(self.env_file).st_mode & 0o777, 0o600)
        with open(self.env_file, encoding="utf-8") as lines:
            env = dict(line.strip().split("=", 1) for line in lines)
        self.assertEqual(env["ATOLL_USER"], "admin@pve")
        self.assertRegex(env["ATOLL_TOKEN"], r"^[^@]+@[^!]+![^=]+=[0-9a-f-]{36}$")
        done = subprocess.run(["curl", "-sS", "--fail", "--cacert", env["ATOLL_CACERT"], "-H",
                               "Authorization: PVEAPIToken=" + env["ATOLL_TOKEN"], env["ATOLL_URL"] + "/api2/json/nodes"],
                              capture_output=True, text=True, check=True)
        self.assertEqual(json.loads(done.stdout)["data"][0]["status"], "online")

    def look_at_status(self):
        status = json.loads(self.quickstart("--status", "--json").stdout)
        self.assertTrue(status["healthy"], status)
        names = [row["name"] for row in status["services"]]
        for service in ("config-store", "compute-agent", "storage-agent", "sdn-agent", "ha-crm", "ha-lrm", "watchdog",
                        "api-gateway"):
            self.assertIn("atoll-" + service, names)
        for row in status["services"]:
            self.assertTrue(os.path.exists(f"/proc/{row['pid']}"), row)
        return {row["name"]: row["pid"] for row in status["services"]}


# Cgroups that a node on the host may make; what other programs of this machine do is their affair.
OURS = re.compile(r"/sys/fs/cgroup/\w+/(machine|atoll|lxc)")
# Values that the kernel counts by itself.
COUNTERS = ("nf_conntrack_count", "inet_peer", "tcp_mem", "udp_mem", "random", "tcp_fastopen_key")

if __name__ == "__main__":
    if os.environ.get(INSIDE) != "1":
        own_namespaces()
    unittest.main(verbosity=2, warnings="ignore")
