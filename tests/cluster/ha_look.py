"""What tests of high availability ask of a cluster, on the testbed and in the lab."""
import json
import os
import sys

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(TOP, "deploy", "node"))

from rest import ApiError  # noqa: E402
from supervisor import wait_until  # noqa: E402


class Looking:
    """Of a TestCase that has SID, FAR_PAST_S, rest(but) of a node that lives, together() (all nodes see each other) and logs()
    of all nodes."""
    PERIOD_S = 0.1  # between two questions

    def service(self, but=None):
        rows = self.rest(but).get("/cluster/ha/status/current")
        return next((row for row in rows if row.get("sid") == self.SID), None)

    def wait_state(self, state, seconds=None, but=None):
        def reached():
            try:
                row = self.service(but)
                return row is not None and row["state"] == state and row
            except (ApiError, OSError):
                return None
        row = wait_until(seconds or self.FAR_PAST_S, reached, self.PERIOD_S)
        self.assertTrue(row, f"{self.SID} is not {state}: {self.explain(but)}")
        return row

    def explain(self, but=None):
        """All that is known, for the reader of a failure."""
        try:
            rest = self.rest(but)
            text = json.dumps([rest.get("/cluster/ha/status/current", verbose=1),
                               rest.get("/cluster/ha/status/manager_status"),
                               rest.get(f"/cluster/ha/resources/{self.SID}/why")])
        except (ApiError, OSError) as error:
            text = str(error)
        return text + "".join(f"\n--- {name}\n{log}" for name, log in self.logs())

    def all_nodes_well(self, count, seconds):
        def well():
            try:
                if not self.together():
                    return False
                nodes = self.rest().get("/cluster/ha/status/manager_status")["manager_status"]["node_status"]
                return len(nodes) == count and all(node["state"] == "online" for node in nodes.values())
            except (ApiError, OSError):
                return False
        self.assertTrue(wait_until(seconds, well, 3 * self.PERIOD_S), f"the nodes do not find together again: {self.explain()}")
