"""Runs the ctest tests of one label and counts each."""
import os
import subprocess
import time
import xml.etree.ElementTree

from build import JOBS, build_dir
from report import run_logged


def run_label(report, name, label, budget_s, jobs=JOBS):
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
               "--output-junit", junit, "--no-tests=error"]
    code, why = run_logged(command, log, budget_s)
    if not os.path.exists(junit):
        report.add(label, False, time.monotonic() - begin, log, why or "ctest wrote no results")
        return
    count_junit(report, junit, log, code)


def count_junit(report, junit, log, code):
    failed_before = len(report.failed)
    for case in xml.etree.ElementTree.parse(junit).getroot().iter("testcase"):
        name, seconds = case.get("name"), float(case.get("time") or 0)
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.get("status") == "fail":
            own = report.log_path(name)
            with open(own, "w", encoding="utf-8") as out:
                out.write(case.findtext("system-out") or "no output")
            report.add(name, False, seconds, own, (case.find("failure").get("message") or "failed")
                       if case.find("failure") is not None else "failed")
        elif skipped is not None or case.get("status") in ("notrun", "disabled"):
            output = (case.findtext("system-out") or "").strip().splitlines()
            report.skip(name, output[-1] if output else "not run")
        else:
            report.add(name, True, seconds)
    if code != 0 and len(report.failed) == failed_before:
        report.add("ctest", False, 0, log, f"exit code {code}")
