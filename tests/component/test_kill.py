#!/usr/bin/python3
"""kill -9 of each service in turn, and of all at once, while guests run and requests are in flight."""
import threading
import time
import unittest

from node_env import SERVICES, ApiError, Env, Ping, Rest, TaskError, wait_for

DEADLINE_S = 35  # what a client may have to wait for an answer at most: the longest deadline of what is called here
BACK_S = 2.0     # the mark; a run under sanitizers on a busy machine gets three times that
SLACK = 3


class Load(threading.Thread):
    """Keeps asking one path; notes the longest wait, and answers that are neither right nor a clean error."""

    def __init__(self, env, method, path, **params):
        super().__init__(daemon=True)
        self.rest = Rest(env.node.url, env.ca, env.token, timeout=DEADLINE_S + 10)
        self.request = (method, path, params)
        self.over = threading.Event()
        self.longest, self.answers, self.errors, self.wrong = 0.0, 0, 0, []
        self.start()

    def run(self):
        method, path, params = self.request
        while not self.over.is_set():
            begin = time.monotonic()
            try:
                self.rest.call(method, path, params)
                self.answers += 1
            except ApiError as error:
                self.errors += 1
                if error.status in (400, 401, 403, 404, 501):
                    self.wrong.append(str(error))
            except OSError:
                self.errors += 1
                time.sleep(0.02)
            except Exception as error:  # pylint: disable=broad-except
                self.wrong.append(f"{type(error).__name__}: {error}")
            self.longest = max(self.longest, time.monotonic() - begin)

    def stop(self):
        self.over.set()
        self.join(DEADLINE_S + 10)
        return self


class Kill(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        cls.env.storage()
        cls.env.make_vm()
        cls.env.make_ct()
        cls.env.agent_up()
        cls.address = wait_for("the guest's address", 60, cls.env.vm_address)
        cls.ct_address = wait_for("the container's address", 60, cls.env.ct_address)

    @classmethod
    def tearDownClass(cls):
        cls.env.stop()

    def guests(self):
        return self.env.qemu_pids(), self.env.ct_pids()

    def right_again(self):
        """Every kind of answer is right: configuration, live state, storage, network, a change that is written."""
        env = self.env
        vm = env.rest.get(env.path("qemu", 100, "status", "current"))
        ct = env.rest.get(env.path("lxc", 101, "status", "current"))
        listed = {r["id"]: r["status"] for r in env.rest.get("/cluster/resources", type="vm")}
        return (vm["status"] == "running" and ct["status"] == "running" and
                listed.get("qemu/100") == "running" and listed.get("lxc/101") == "running" and
                env.rest.get(env.path("storage", "local", "status"))["active"] == 1 and
                "vmbr0" in [i["iface"] for i in env.rest.get(env.path("network"))])

    def kill_and_look(self, *services):
        env = self.env
        before = self.guests()
        self.assertEqual([len(pids) for pids in before], [1, 1])
        pings = [Ping(env, self.address), Ping(env, self.ct_address)]
        loads = [Load(env, "GET", "/cluster/resources"), Load(env, "GET", env.path("qemu", 100, "status", "current")),
                 Load(env, "GET", env.path("lxc", 101, "config")),
                 Load(env, "PUT", env.path("lxc", 101, "config"), description="changed while services die"),
                 Load(env, "GET", env.path("storage", "local", "content")), Load(env, "GET", env.path("network"))]
        time.sleep(1)
        begin = time.monotonic()
        pids = env.kill(*services)
        env.back(pids)
        wait_for("all answers to be right", BACK_S * SLACK + 5, self.right_again, 0.02)
        took = time.monotonic() - begin
        for load in loads:
            load.stop()
        for ping in pings:
            sent, received = ping.stop()
            self.assertGreater(sent, 10)
            self.assertEqual(sent, received, "packets were lost")
        self.assertEqual(self.guests(), before, "a guest was disturbed")
        for load in loads:
            self.assertLess(load.longest, DEADLINE_S, f"{load.request} hung")
            self.assertEqual(load.wrong, [], str(load.request))
            self.assertGreater(load.answers, 0, f"{load.request} was never answered")
        print(f"    {', '.join(services)}: right again after {took:.2f} s", flush=True)
        self.assertLess(took, BACK_S * SLACK)

    def test_config_store(self):
        self.kill_and_look("config-store")

    def test_compute_agent(self):
        self.kill_and_look("compute-agent")

    def test_storage_agent(self):
        self.kill_and_look("storage-agent")

    def test_sdn_agent(self):
        self.kill_and_look("sdn-agent")

    def test_api_gateway(self):
        self.kill_and_look("api-gateway")

    def test_all_at_once(self):
        self.kill_and_look(*SERVICES)

    def test_task_of_a_killed_compute_agent_ends_well(self):
        """The worker is a process of its own: it ends its work, and the agent that comes back knows how it ended."""
        env = self.env
        env.make_ct(110, start=False)
        upid = env.rest.post(env.path("lxc", 110, "status", "start"))
        env.back(env.kill("compute-agent"))
        self.assertEqual(wait_for("the task's end", 30, lambda: env.rest.wait(upid)), "OK")
        self.assertEqual(env.rest.get(env.path("lxc", 110, "status", "current"))["status"], "running")
        env.rest.wait(env.rest.post(env.path("lxc", 110, "status", "stop")))
        env.rest.wait(env.rest.delete(env.path("lxc", 110)))

    def test_tasks_are_shown_when_config_store_is_back(self):
        """Those of before, of every service, and one that ended while it was away."""
        env = self.env
        env.make_ct(112)
        upid = env.rest.post(env.path("lxc", 112, "status", "stop"))
        env.back(env.kill("config-store"))

        def shown():
            rows = {row["upid"]: row for row in env.rest.get("/cluster/tasks")}
            return rows if rows.get(upid, {}).get("status") == "OK" else None
        rows = wait_for("the task that ended meanwhile", 20, shown)
        self.assertIn(("vzcreate", "112"), [(row["type"], row["id"]) for row in rows.values()])
        self.assertIn("imgcopy", [row["type"] for row in rows.values()])
        env.rest.wait(env.rest.delete(env.path("lxc", 112)))

    def test_killed_worker_is_a_failed_task_with_a_reason(self):
        env = self.env
        env.make_ct(111)
        upid = env.rest.post(env.path("lxc", 111, "status", "shutdown"), timeout=60)
        worker = wait_for("the worker", 10, lambda: self.worker_of(upid))
        env.run("kill", "-9", worker)
        with self.assertRaises(TaskError) as caught:
            env.rest.wait(upid, 20)
        self.assertRegex(caught.exception.exitstatus, "(?i)kill|signal|died|unexpected")
        self.assertNotIn("still runs", caught.exception.exitstatus)
        env.rest.wait(env.rest.post(env.path("lxc", 111, "status", "stop")))
        env.rest.wait(env.rest.delete(env.path("lxc", 111)))

    def worker_of(self, upid):
        """The pid of the process that works on a task: its command line names the spool folder."""
        listing = self.env.run("ps", "-eo", "pid=,args=").stdout
        return next((line.split()[0] for line in listing.splitlines() if "--task" in line and upid in line), None)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
