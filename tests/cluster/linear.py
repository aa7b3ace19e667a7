"""Is a history of operations linearizable? Each key of config-store is a register with compare-and-set.

An operation is a call with its begin and end (any clock that all clients share) and what it answered:

    Op(key, "read", result=VALUE or None)                the linearizable read saw this
    Op(key, "write", value=V, outcome=DONE)              written whatever was there
    Op(key, "write", value=V, expect=X, outcome=...)     written if X was there (None: if nothing was there)

outcome: DONE (it answered OK), REFUSED (it answered that X was not there: nothing was written), UNKNOWN (no answer: it
may have happened at any time after its begin, or never). Keys are independent (linearizability is local: Herlihy and
Wing, "Linearizability: A Correctness Condition for Concurrent Objects", 1990), so each is checked alone, by the search
of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the configurations that were tried remembered
(Lowe, "Testing for linearizability", 2017).
"""
import math
from dataclasses import dataclass
from typing import Any

DONE, REFUSED, UNKNOWN = "done", "refused", "unknown"
ANY = object()  # no expectation


@dataclass(frozen=True)
class Op:
    key: str
    kind: str
    begin: float
    end: float = math.inf
    value: Any = None
    expect: Any = ANY
    result: Any = None
    outcome: str = DONE
    client: str = ""


class NotLinearizable(Exception):
    """No order of the operations explains what was seen: the key, and the furthest that could be explained."""

    def __init__(self, key, explained, stuck):
        self.key, self.explained, self.stuck = key, explained, stuck
        seen = "\n".join(f"  {op}" for op in stuck)
        super().__init__(f"{key}: {explained} operations have an order; none of these can be the next:\n{seen}")


def fits(op, state):
    """Can an answered operation take place now?"""
    if op.kind == "read":
        return op.result == state
    holds = op.expect is ANY or op.expect == state
    return not holds if op.outcome == REFUSED else holds


def behind(op, state):
    return op.value if op.kind == "write" and op.outcome == DONE else state


class Search:
    """Orders of the answered operations of one key. One without an answer is put in only right before an operation that
    would not fit else: anywhere else it would be overwritten unseen, or change nothing."""

    def __init__(self, ops):
        self.ops = [op for op in ops if op.outcome != UNKNOWN]
        self.ops.sort(key=lambda op: op.begin)
        self.lost = [op for op in ops if op.outcome == UNKNOWN and op.kind == "write"]
        self.best, self.stuck = -1, []

    def open_ones(self, done):
        """Nothing may come before an operation that had returned when it began."""
        left = [i for i in range(len(self.ops)) if not done >> i & 1]
        horizon = min((self.ops[i].end for i in left), default=math.inf)
        return [i for i in left if self.ops[i].begin <= horizon], horizon

    def changes(self, state, used, horizon):
        """state -> the smallest sets of lost writes, begun by now, that lead to it."""
        found, fresh = {state: [used]}, [(state, used)]
        while fresh:
            now, mask = fresh.pop()
            for i, op in enumerate(self.lost):
                if mask >> i & 1 or op.begin > horizon or not (op.expect is ANY or op.expect == now):
                    continue
                sets, more = found.setdefault(op.value, []), mask | 1 << i
                if any(other & more == other for other in sets):
                    continue
                sets[:] = [other for other in sets if other & more != more] + [more]
                fresh.append((op.value, more))
        return found

    def needed(self, op, state, used, horizon):
        """The ways to make the operation fit: as it is, or with lost writes before it."""
        if fits(op, state):
            return [(state, used)]
        return [(now, mask) for now, masks in self.changes(state, used, horizon).items() if fits(op, now)
                for mask in masks]

    def run(self, initial):
        everything = (1 << len(self.ops)) - 1
        tried, stack = set(), [(0, initial, 0)]
        while stack:
            done, state, used = stack.pop()
            if done == everything:
                return True
            if (done, state, used) in tried:
                continue
            tried.add((done, state, used))
            open_now, horizon = self.open_ones(done)
            explained = bin(done).count("1")
            if explained > self.best:
                self.best, self.stuck = explained, [self.ops[i] for i in open_now]
            for i in reversed(open_now):
                for now, mask in self.needed(self.ops[i], state, used, min(horizon, self.ops[i].end)):
                    stack.append((done | 1 << i, behind(self.ops[i], now), mask))
        return False


def check(history, initial=None):
    """Checks every key; returns the number of operations. Raises NotLinearizable."""
    keys = {}
    for op in history:
        keys.setdefault(op.key, []).append(op)
    for key, ops in sorted(keys.items()):
        search = Search(ops)
        if not search.run((initial or {}).get(key)):
            raise NotLinearizable(key, search.best, search.stuck)
    return len(history)
