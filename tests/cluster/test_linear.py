#!/usr/bin/python3
"""The checker of histories accepts what a register can do and rejects what it cannot."""
import math
import random
import unittest

from linear import ANY, DONE, REFUSED, UNKNOWN, NotLinearizable, Op, check


def read(begin, end, result, key="k"):
    return Op(key, "read", begin, end, result=result)


def write(begin, end, value, expect=ANY, outcome=DONE, key="k"):
    return Op(key, "write", begin, end, value=value, expect=expect, outcome=outcome)


class Good(unittest.TestCase):
    def test_one_after_the_other(self):
        check([write(0, 1, "a"), read(2, 3, "a"), write(4, 5, "b", expect="a"), read(6, 7, "b")])

    def test_overlapping_reads_may_see_old_and_new(self):
        check([write(0, 1, "a"), write(2, 6, "b"), read(3, 4, "a"), read(4.5, 5, "b")])

    def test_an_unknown_write_may_happen_late_or_never(self):
        check([write(0, 1, "a"), write(2, math.inf, "b", outcome=UNKNOWN), read(10, 11, "a"), read(20, 21, "b")])
        check([write(0, 1, "a"), write(2, math.inf, "b", outcome=UNKNOWN), read(10, 11, "a")])

    def test_of_two_compares_one_wins(self):
        check([write(0, 5, "a", expect=None), write(1, 4, "b", expect=None, outcome=REFUSED), read(6, 7, "a")])

    def test_keys_are_independent(self):
        check([write(0, 1, "a", key="x"), read(2, 3, None, key="y")])

    def test_what_was_there_before_counts(self):
        check([read(0, 1, "old")], {"k": "old"})


class Bad(unittest.TestCase):
    def rejected(self, *history, initial=None):
        with self.assertRaises(NotLinearizable):
            check(history, initial)

    def test_a_stale_read(self):
        self.rejected(write(0, 1, "a"), write(2, 3, "b"), read(4, 5, "a"))

    def test_a_lost_write(self):
        self.rejected(write(0, 1, "a"), read(2, 3, None))

    def test_a_refused_write_that_is_seen(self):
        self.rejected(write(0, 1, "a"), write(2, 3, "b", expect="x", outcome=REFUSED), read(4, 5, "b"))

    def test_a_refusal_without_a_reason(self):
        self.rejected(write(0, 1, "a"), write(2, 3, "b", expect="a", outcome=REFUSED))

    def test_two_winners_of_one_compare(self):
        self.rejected(write(0, 5, "a", expect=None), write(1, 4, "b", expect=None))

    def test_a_value_that_comes_back(self):
        self.rejected(write(0, 1, "a"), write(2, math.inf, "b", outcome=UNKNOWN), read(3, 4, "b"), read(5, 6, "a"))

    def test_reads_that_go_back_in_time(self):
        self.rejected(write(0, 10, "a"), read(1, 2, "a"), read(3, 4, None))

    def test_a_read_of_what_nobody_wrote(self):
        self.rejected(write(0, 1, "a"), read(2, 3, "z"))

    def test_the_future_is_not_seen(self):
        self.rejected(read(0, 1, "a"), write(2, 3, "a"))

    def test_the_message_names_the_key_and_what_is_left(self):
        with self.assertRaises(NotLinearizable) as caught:
            check([write(0, 1, "a"), read(2, 3, "b")])
        self.assertEqual(caught.exception.key, "k")
        self.assertEqual(caught.exception.explained, 1)
        self.assertEqual([op.kind for op in caught.exception.stuck], ["read"])


def simulate(rng, clients=5, steps=60):
    """A register that is right, under clients whose calls take effect at some moment between begin and end."""
    moments = []
    for client in range(clients):
        now = rng.random()
        for step in range(steps // clients):
            begin = now + rng.random()
            effect = begin + rng.random() * 3
            end = effect + rng.random()
            moments.append((effect, begin, end, client, step))
            now = end
    state, history = None, []
    for effect, begin, end, client, step in sorted(moments):
        kind = rng.choice(("read", "write", "compare", "lost"))
        value = f"{client}.{step}"
        if kind == "read":
            history.append(read(begin, end, state))
        elif kind == "write":
            state = value
            history.append(write(begin, end, value))
        elif kind == "compare":
            expect = rng.choice((state, "other"))
            fits = expect == state
            history.append(write(begin, end, value, expect, DONE if fits else REFUSED))
            state = value if fits else state
        else:
            history.append(write(begin, math.inf, value, outcome=UNKNOWN))
            state = value if rng.random() < 0.5 else state
    return history


class Random(unittest.TestCase):
    def test_right_registers_are_accepted(self):
        for seed in range(200):
            with self.subTest(seed=seed):
                check(simulate(random.Random(seed)))

    def test_spoiled_reads_are_rejected(self):
        """A read of the value before the last one that was certainly there when it began."""
        rejected = 0
        for seed in range(200):
            history = simulate(random.Random(seed))
            reads = [i for i, op in enumerate(history) if op.kind == "read" and op.result is not None]
            if not reads:
                continue
            i = reads[len(reads) // 2]
            op = history[i]
            history[i] = Op(op.key, "read", op.begin, op.end, result="nobody wrote this")
            with self.assertRaises(NotLinearizable, msg=f"seed {seed}"):
                check(history)
            rejected += 1
        self.assertGreater(rejected, 150)


if __name__ == "__main__":
    unittest.main(verbosity=2)
