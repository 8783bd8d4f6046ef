"""CPython's own tests, Debian's copy of them, under a column.

A case counts as failed when it fails in the run of the whole list and again when its
file is run alone: on a busy machine some cases fail for want of time, under every
allocator.
"""

import re
import time
import xml.etree.ElementTree as ElementTree

import measure

TESTS = "test_json test_gc"
QUICK = "test_json test_gc"


def run(column, cwd, tests, jobs, env):
    """Runs test files and returns the names of cases that failed, and of files whose
    process crashed or was ended."""
    cwd.mkdir(parents=True, exist_ok=True)
    report = cwd / "report.xml"
    argv = ["/usr/bin/python3", "-m", "test", f"-j{jobs}", "--timeout", "240"]
    argv += ["--junit-xml", str(report), *tests]
    stdout = cwd / "stdout"
    full = measure.environment(cwd, env, column.environment(cwd))
    usage = measure.run(argv, cwd, full, stdout, timeout_s=900)
    failed = set()
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("failure") is not None or case.find("error") is not None:
                failed.add(case.get("name"))
    text = stdout.read_text(errors="replace")
    files = set(re.findall(r"^0:\S+ .*\] (test_\w+) (?:failed|crashed|timed out)", text, re.M))
    for file in files:
        # A process that ended early reports no cases.
        if not any(f".{file}." in name for name in failed):
            failed.add(file)
    if not files and usage.status not in (0, 2):
        failed.add(f"the runner ended with {usage.status}")
    return failed, files, usage


def suite(column, cwd, quick, env):
    """The cases that fail under the column, twice, and the seconds of the first run."""
    started = time.perf_counter()
    tests = (QUICK if quick else TESTS).split()
    failed, files, _ = run(column, cwd / "all", tests, 4, env)
    wall_s = time.perf_counter() - started
    if failed:
        again, _, _ = run(column, cwd / "again", sorted(files) or tests, 1, env)
        failed &= again
    return failed, wall_s
