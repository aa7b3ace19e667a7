#!/usr/bin/python3
"""Two changes to one guest at a time: one wins, the other waits for its lock or gets a conflict; digests count."""
import threading
import time
import unittest

from node_env import ApiError, Env, Rest, TaskError


class Concurrent(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.env = Env()
        cls.env.storage()
        cls.env.make_ct(101, start=False)
        cls.env.make_vm(100, start=False)

    @classmethod
    def tearDownClass(cls):
        cls.env.stop()

    def both(self, *jobs):
        """Runs the jobs at the same moment; answers what each returned or raised, and the longest time."""
        results = [None] * len(jobs)
        gate = threading.Barrier(len(jobs))

        def work(index):
            gate.wait()
            try:
                results[index] = jobs[index]()
            except (ApiError, TaskError, OSError) as error:
                results[index] = error

        begin = time.monotonic()
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results, time.monotonic() - begin

    def another(self):
        return Rest(self.env.node.url, self.env.ca, self.env.token)

    def test_digest_of_an_older_configuration_is_refused(self):
        path = self.env.path("qemu", 100, "config")
        old = self.env.rest.get(path)["digest"]
        self.env.rest.put(path, description="first", digest=old)
        with self.assertRaises(ApiError) as caught:
            self.env.rest.put(path, description="second", digest=old)
        self.assertRegex(str(caught.exception), "(?i)digest|modified|changed")
        self.assertEqual(self.env.rest.get(path)["description"].strip(), "first")

    def test_same_digest_twice_at_once_has_one_winner(self):
        path = self.env.path("lxc", 101, "config")
        for round_number in range(20):
            digest = self.env.rest.get(path)["digest"]
            jobs = [lambda n=n: self.another().put(path, description=f"round {round_number} by {n}", digest=digest)
                    for n in range(4)]
            results, took = self.both(*jobs)
            errors = [r for r in results if isinstance(r, Exception)]
            self.assertEqual(len(errors), 3, results)
            self.assertLess(took, 35)

    def test_changes_without_digest_are_all_kept(self):
        """Each changes another key: none may write over the others' change."""
        path = self.env.path("lxc", 101, "config")
        for round_number in range(10):
            wanted = {"cores": round_number % 2 + 1, "memory": 64 + round_number, "swap": round_number,
                      "cpuunits": 100 + round_number}
            jobs = [lambda k=k, v=v: self.again(path, {k: v}) for k, v in wanted.items()]
            results, _ = self.both(*jobs)
            self.assertEqual([r for r in results if isinstance(r, Exception)], [])
            config = self.env.rest.get(path)
            self.assertEqual({k: int(config[k]) for k in wanted}, wanted)

    def again(self, path, params):
        """A conflict is an answer; whoever gets one asks again."""
        for _ in range(10):
            try:
                return self.another().call("PUT", path, params)
            except ApiError as error:
                if error.status != 500:
                    raise
        raise AssertionError("ten conflicts in a row")

    def test_two_starts_at_once_start_once(self):
        def start():
            rest = self.another()
            return rest.wait(rest.post(self.env.path("lxc", 101, "status", "start")), 60)

        results, _ = self.both(start, start)
        self.assertTrue(any(r == "OK" for r in results), results)
        self.assertEqual(len(self.env.ct_pids()), 1)
        self.env.rest.wait(self.env.rest.post(self.env.path("lxc", 101, "status", "stop")))

    def test_two_creations_of_one_id_make_one_guest(self):
        def create():
            rest = self.another()
            return rest.wait(rest.post(self.env.path("qemu"), vmid=300, name="twin", virtio0="local:1"), 60)

        results, _ = self.both(create, create)
        self.assertEqual(sorted(isinstance(r, Exception) for r in results), [False, True], results)
        volumes = [v["volid"] for v in self.env.rest.get(self.env.path("storage", "local", "content"))
                   if str(v.get("vmid")) == "300"]
        self.assertEqual(len(volumes), 1, volumes)
        self.env.rest.wait(self.env.rest.delete(self.env.path("qemu", 300)))


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
