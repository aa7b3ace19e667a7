"""docs/RESULTS.md: of each level its last full run, with the commit it belongs to."""
import fcntl
import os
import re
import subprocess
import time

from report import TOP

PATH = os.path.join(TOP, "docs", "RESULTS.md")
SECTION = re.compile(r"^## (\S+)\n(.*?)(?=^## |\Z)", re.M | re.S)
FIGURES = re.compile(r"\*\*(\d+) passed, (\d+) failed, (\d+) skipped\*\* at (\S+), .* (\d+) seconds")


def commit():
    """The commit of the tree; "+" stands behind it when files differ from it (this page itself does not count)."""
    def git(*words):
        return subprocess.run(["git", "-C", TOP, *words], capture_output=True, text=True, check=False).stdout.strip()
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs/RESULTS.md")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+" if changed else "")


def section(report, before, seconds):
    passed, failed, skipped, rows = (now - then for now, then in zip(report.counts(), before))
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    lines = ["", f"**{passed} passed, {failed} failed, {skipped} skipped** at {commit()}, {when} UTC, {seconds:.0f} seconds",
             "", "| test | result | seconds |", "| --- | --- | --- |"]
    lines += [f"| {name} | {result} | {took:.1f} |" for name, result, took in report.rows[len(report.rows) - rows:]]
    return "\n".join(lines) + "\n\n"


def page(sections, levels):
    """The whole page. Levels that have never run are named: a page without them would look better than it is."""
    sums, seconds, commits, table = [0, 0, 0], 0, set(), []
    for level in levels:
        found = FIGURES.search(sections.get(level, ""))
        if not found:
            table.append(f"| {level} | never run | | | | |")
            continue
        figures = [int(found.group(i)) for i in (1, 2, 3)]
        sums = [a + b for a, b in zip(sums, figures)]
        seconds += int(found.group(5))
        commits.add(found.group(4))
        table.append(f"| {level} | {found.group(4)} | {figures[0]} | {figures[1]} | {figures[2]} | {found.group(5)} |")
    where = f"at commit {commits.pop()}" if len(commits) == 1 else f"at {len(commits)} different commits"
    return "\n".join([
        "# Results of the last full test run", "",
        f"`./tests/run full` {where}, {seconds / 60:.0f} minutes:",
        f"**{sums[0]} passed, {sums[1]} failed, {sums[2]} skipped**", "",
        "Levels may be run one at a time (`./tests/run full LEVEL...`); each tells its commit.", "",
        "| level | commit | passed | failed | skipped | seconds |", "| --- | --- | --- | --- | --- | --- |", *table, "",
        *(f"## {level}\n{sections[level]}".rstrip() + "\n" for level in levels if level in sections)])


def write(level, levels, report, before, seconds):
    """Takes the level's new result into the page; two runs, in different build folders, may do so at a time."""
    with open(os.path.join(TOP, "build", ".results.lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = ""
        if os.path.exists(PATH):
            with open(PATH, encoding="utf-8") as text:
                old = text.read()
        sections = dict(SECTION.findall(old))
        sections[level] = section(report, before, seconds)
        with open(PATH + ".new", "w", encoding="utf-8") as out:
            out.write(page(sections, levels))
        os.replace(PATH + ".new", PATH)
