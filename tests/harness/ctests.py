"""Runs the ctest tests of one label and counts each."""
import os
import re
import subprocess
import time
import xml.etree.ElementTree

from build import JOBS, build_dir
from report import run_logged


# How CMocka and unittest tell of each test.
CMOCKA_OK = re.compile(r"^\[ +OK +\] ", re.M)
CMOCKA_FAILED = re.compile(r"^\[ +FAILED +\] (\S+)$", re.M)
UNITTEST = re.compile(r"^Ran (\d+) tests? in ", re.M)
UNITTEST_BAD = re.compile(r"^(?:ERROR|FAIL): (\S+)", re.M)
UNITTEST_SKIP = re.compile(r"^(test\w+) \(.*skipped ['\"](.*)['\"]$", re.M)


def inner_counts(output):
    """(passed, [failed names], [(skipped name, why)]) of the tests in one program; (1, [], []) when it tells none."""
    ran = UNITTEST.search(output)
    if ran:
        bad = list(dict.fromkeys(UNITTEST_BAD.findall(output)))
        skipped = UNITTEST_SKIP.findall(output)
        return max(0, int(ran.group(1)) - len(bad) - len(skipped)), bad, skipped
    good = len(CMOCKA_OK.findall(output))
    bad = list(dict.fromkeys(CMOCKA_FAILED.findall(output)))
    return (good, bad, []) if good or bad else (1, [], [])


def run_label(report, name, label, budget_s, jobs=JOBS, leave=()):
    folder = build_dir(name)
    junit = os.path.join(report.log_dir, f"ctest-{label}.xml")
    if os.path.exists(junit):
        os.unlink(junit)
    log = report.log_path(f"ctest-{label}")
    listing = subprocess.run(["ctest", "--test-dir", folder, "-N", "-L", f"^{label}$"], capture_output=True, text=True)
    if "Total Tests: 0" in listing.stdout:
        report.say("        0 tests")
        return
    begin = time.monotonic()
    command = ["ctest", "--test-dir", folder, "-L", f"^{label}$", "-j", jobs, "--output-on-failure",
               "--output-junit", junit, "--no-tests=error", "--test-output-size-passed", "400000",
               "--test-output-size-failed", "400000"]
    if leave:
        command += ["-E", "|".join(f"^{label}[.]{name}$" for name in leave)]
    code, why = run_logged(command, log, budget_s)
    if not os.path.exists(junit):
        report.add(label, False, time.monotonic() - begin, log, why or "ctest wrote no results")
        return
    count_junit(report, junit, log, code)


def count_junit(report, junit, log, code):
    failed_before = len(report.failed)
    for case in xml.etree.ElementTree.parse(junit).getroot().iter("testcase"):
        count_case(report, case)
    if code != 0 and len(report.failed) == failed_before:
        report.add("ctest", False, 0, log, f"exit code {code}")


def count_case(report, case):
    name, seconds = case.get("name"), float(case.get("time") or 0)
    output = case.findtext("system-out") or ""
    passed, bad, skipped = inner_counts(output)
    failure = case.find("failure")
    if failure is not None or case.get("status") == "fail":
        own = report.log_path(name)
        with open(own, "w", encoding="utf-8") as out:
            out.write(output or "no output")
        report.passed += passed if bad else 0
        why = failure.get("message") if failure is not None and failure.get("message") else "failed"
        report.add(name, False, seconds, own, f"{why}; {', '.join(bad)}" if bad else why, failures=bad)
    elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
        lines = output.strip().splitlines()
        report.skip(name, lines[-1] if lines else "not run")
    else:
        for test, why in skipped:
            report.skip(f"{name}.{test}", why)
        report.add(name, True, seconds, count=passed)
