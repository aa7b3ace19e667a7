#!/usr/bin/python3
"""Each `atoll` command that a document shows is one that atoll reads: nothing is run, for no node is there."""
import concurrent.futures
import glob
import itertools
import os
import re
import shlex
import subprocess
import tempfile
import unittest

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
ATOLL = os.path.join(os.environ.get("ATL_BUILD_DIR", os.path.join(TOP, "build", "dev")), "bin", "atoll")
FOLDERS = ("*.md", "docs/*.md", "docs/decisions/*.md", "deploy/*.md", "services/*/README.md", "tests/*.md")
LINE = re.compile(r"^    (atoll [a-z].*)$")  # blocks of ```sh are run by test_documents.py
INLINE = re.compile(r"`(atoll [a-z][^`]*)`")
REMARK = re.compile(r"\s{2,}|\s#")  # what stands behind a command
WRONG = 2  # atoll's exit code for what it does not read
PLACE = re.compile(r"\b[A-Z]{4,}\b")  # ADDRESS, NAME: the reader's own


def shown(text):
    """(command, whether it may be a part of one) of each line and of each mention within a sentence."""
    for line in text.splitlines():
        whole = LINE.match(line)
        if whole:
            said = REMARK.split(whole.group(1))[0]
            yield said, "|" in said
        for part in INLINE.findall(line):
            yield part, True


def commands(said):
    """The words of each command in it: one after the other, and each of `add|remove`."""
    for one in re.split(r"; |&& ", said):
        words = shlex.split(one)[1:]
        yield from (list(words) for words in itertools.product(*(word.split("|") for word in words)))


def read(words, folder):
    environment = {**os.environ, "ATOLL_RUN_DIR": os.path.join(folder, "none")}
    done = subprocess.run([ATOLL, *words], input="a word\n", capture_output=True, text=True, timeout=20, check=False,
                          cwd=folder, env=environment)
    return done.returncode, done.stderr.strip()


def is_known(words, folder, part):
    code, said = read(words, folder)
    if code == WRONG and part and ("is missing" in said or len(words) == 1):
        code, said = read([*words, "--help"], folder)
    if code == WRONG and any(PLACE.search(word) for word in words) and "Parameter verification failed" in said:
        return None
    return said if code == WRONG else None


class Words(unittest.TestCase):
    @staticmethod
    def found():
        for document in sorted(path for pattern in FOLDERS for path in glob.glob(os.path.join(TOP, pattern))):
            with open(document, encoding="utf-8") as text:
                for said, part in shown(text.read()):
                    for words in commands(said):
                        yield f"{os.path.relpath(document, TOP)}: atoll {' '.join(words)}", words, part

    def test_every_command_that_is_shown(self):
        found = list(self.found())
        self.assertGreater(len(found), 60)
        with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = pool.map(lambda one: is_known(one[1], folder, one[2]), found)  # each waits for a node, a little
            for (where, _, _), answer in zip(found, answers):
                with self.subTest(where):
                    self.assertIsNone(answer)

    def test_a_wrong_one_is_noticed(self):
        with tempfile.TemporaryDirectory() as folder:
            for said in ("atoll ha disarm freeze twice", "atoll ha why --of vm:100", "atoll cluster witness put",
                         "atoll nothing", "atoll ha add vm:100 --max-restart"):
                for words in commands(said):
                    self.assertIsNotNone(is_known(words, folder, True), words)


if __name__ == "__main__":
    unittest.main(verbosity=2, warnings="ignore")
