"""Small writes to a cluster, and what it says instead of taking them."""
import time

from rest import ApiError


class Writes:
    """For a TestCase that has rest(which)."""

    def write(self, which, name):
        """A pool; None, or what the node says instead."""
        try:
            self.rest(which).post("/pools", poolid=name)
        except (ApiError, OSError) as error:
            return str(error)
        return None

    def write_within(self, which, name, seconds):
        """How long it took until a write was taken; the names of refused ones are not used again."""
        began = time.monotonic()
        last = None
        for attempt in range(1000):
            last = self.write(which, f"{name}-{attempt}")
            if last is None:
                return time.monotonic() - began
            if time.monotonic() - began > seconds:
                break
            time.sleep(0.05)
        self.fail(f"n{which} takes no write within {seconds} s: {last}")

    def pools(self, which):
        return {row["poolid"] for row in self.rest(which).get("/pools")}
