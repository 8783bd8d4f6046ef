"""CPython's own tests, Debian's copy of them, under a column.

A case counts as failed when it fails in the run of the whole list and again when its
file is run alone: on a busy machine some cases fail for want of time, under every
allocator. Those are flaky, and listed. Nothing else is forgiven: a process that a
signal ended or that hung counts the first time, and so does a file without a result.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import dataclass, field

import measure
import sources

# The longest first; threads and processes; foreign functions and extension modules; containers and
# strings; streams and networks; the garbage collector and what embeds Python.
TESTS = """
test_asyncio test_multiprocessing_spawn test_multiprocessing_forkserver
test_multiprocessing_fork test_signal test_multiprocessing_main_handling
test_threading test_thread test_threading_local test_threadsignals test_queue
test_subprocess test_fork1 test_os test_posix test_mmap test_ssl test_selectors
test_ctypes test_embed test__xxsubinterpreters test_sqlite3 test_json
test_hashlib test_zlib test_pyexpat test_xml_etree test_xml_etree_c test_pickle
test_decimal test_array test_struct test_buffer test_memoryview test_bytes test_unicode
test_list test_dict test_set test_deque test_collections test_itertools test_re test_io
test_gc test_weakref test_tracemalloc test_faulthandler test_sys test_atexit test_import
test_coroutines test_generators test_exceptions
"""
QUICK = "test_json test_gc test_ctypes test_fork1 test_thread test_atexit"
# Every object by malloc, which Python would otherwise call for the large ones alone.
SETTINGS = {"PYTHONMALLOC": "malloc"}
# Most tests wait more than they compute.
JOBS = 4
# Of a file, and of all: test_asyncio takes two minutes on an idle machine and five on one
# that has other work for ten processors.
FILE_S, ALL_S = 1200, 3600

# The runner's line on a file.
RESULT = re.compile(
    r"^\d+:\d\d:\d\d .*\[ *\d+/\d+(?:/\d+)?\] (test_\w+) (.*?)(?: -- running: .*)?$", re.M
)
# In what a case says of a process that it started.
ENDED_BY_SIGNAL = re.compile(
    r"return code is -(?:4|6|7|8|11)\b|died with <Signals\.SIG(?:ILL|ABRT|BUS|FPE|SEGV)\b"
    r"|\bSegmentation fault\b"
)


@dataclass
class Result:
    """What came of files: cases that failed, each with its file; sentences about
    processes that crashed or hung, and about files without a result; the cases that
    failed once only; files that cannot be had; `file -> (cases, skipped)`; seconds."""

    failed: dict = field(default_factory=dict)
    crashed: set = field(default_factory=set)
    unknown: set = field(default_factory=set)
    flaky: set = field(default_factory=set)
    left_out: set = field(default_factory=set)
    counts: dict = field(default_factory=dict)
    wall_s: float = 0

    def bad(self):
        """What is not forgiven, by name."""
        return set(self.failed) | self.crashed | self.unknown

    def add(self, other):
        """Takes in the result of other files."""
        for mine, more in zip(vars(self).values(), vars(other).values()):
            if not isinstance(mine, float | int):
                mine.update(more)
        self.wall_s += other.wall_s


def count(result, report):
    """Reads cases out of the runner's report; a file's may stand in several suites."""
    for suite in ElementTree.parse(report).iter("testsuite"):
        cases = suite.findall("testcase")
        names = [case.get("name", "") for case in cases]
        files = Counter(re.findall(r"^(?:test\.)(test_\w+)\.", "\n".join(names), re.M))
        # Cases of packages that bring their own tests, and of documentation.
        own = Counter(".".join(name.split(".")[:2]) for name in names)
        ((file, _),) = (files or own or Counter([""])).most_common(1)
        skipped = sum(case.find("skipped") is not None for case in cases)
        before = result.counts.get(file, (0, 0))
        result.counts[file] = (before[0] + len(cases), before[1] + skipped)
        for case, name in zip(cases, names):
            wrong = [part for part in case if part.tag in ("failure", "error")]
            # Of a case whose subtest failed the report has nothing but that it ran.
            if wrong or not name:
                result.failed[name or file] = file
            for part in wrong:
                if signal := ENDED_BY_SIGNAL.search("".join(part.itertext())):
                    result.crashed.add(f"{name}: {signal[0]}")


def run(column, cwd, tests, jobs, settings):
    """Runs test files, and returns their result and the names of those that failed."""
    cwd.mkdir(parents=True, exist_ok=True)
    report = cwd / "report.xml"
    argv = ["/usr/bin/python3", "-m", "test", f"-j{jobs}", "--timeout", str(FILE_S)]
    argv += ["--junit-xml", str(report), *tests]
    stdout = cwd / "stdout"
    full = measure.environment(cwd, SETTINGS, settings, column.environment(cwd))
    usage = measure.run(argv, cwd, full, stdout, timeout_s=ALL_S)
    result = Result(wall_s=usage.wall_s)
    # The runner writes it at its end.
    if report.exists() and report.stat().st_size:
        count(result, report)
    said = dict(RESULT.findall(stdout.read_text(errors="replace")))
    ended = f"the runner ended with {usage.status}"
    for file in tests:
        how = said.get(file, "")
        if not how or how.startswith("interrupted"):
            result.unknown.add(f"{file}: no result, {ended}")
        elif how.startswith(("crashed", "timed out")):
            result.crashed.add(f"{file}: {how}")
        elif how.startswith("failed") and file not in result.failed.values():
            result.failed[file] = file
    if usage.status not in (0, 2) and not result.bad():
        result.unknown.add(ended)
    again = [file for file in tests if said.get(file, "").startswith("failed")]
    return result, again


def checked(column, cwd, tests, settings):
    """Runs test files together, and those that failed once more alone."""
    result, again = run(column, cwd / "all", tests, JOBS, settings)
    if again:
        alone, _ = run(column, cwd / "again", again, 1, settings)
        result.crashed |= alone.crashed
        result.unknown |= alone.unknown
        ended = any(sentence.startswith("the runner") for sentence in alone.unknown)
        silent = {sentence.split(":")[0] for sentence in alone.crashed | alone.unknown}
        twice = {
            name: file
            for name, file in result.failed.items()
            if name in alone.failed or file in silent or ended
        }
        result.flaky = (set(result.failed) | set(alone.failed)) - set(twice)
        result.failed = twice
    return result


def suite(column, cwd, tests):
    """The result of test files under the column. The tests of sqlite3 have a run of
    their own: others are to find the package `test` where Debian has it."""
    own = [file for file in tests if file == sources.SQLITE]
    result = checked(column, cwd, [file for file in tests if file not in own], {})
    settings = sources.sqlite_tests() if own else None
    if settings is not None:
        result.add(checked(column, cwd / "sqlite", own, settings))
    elif own:
        result.left_out.update(own)
    return result


def differences(counts, reference):
    """Sentences about files whose cases, or those skipped, are not as many."""
    for file in sorted(counts.keys() | reference.keys()):
        here, there = counts.get(file, (0, 0)), reference.get(file, (0, 0))
        if here != there:
            yield f"{file}: {here[0]} cases, {here[1]} skipped; under glibc {there[0]}, {there[1]}"


def lost(counts, reference):
    """Those of them that hide something: cases that did not run, or were skipped."""
    for file, (cases, skipped) in sorted(reference.items()):
        here = counts.get(file, (0, 0))
        if here[0] < cases or here[1] > skipped:
            yield (
                f"{file}: {here[0]} cases, {here[1]} skipped; under glibc {cases}, {skipped}:"
                " fewer were tested"
            )


def summary(result):
    """The result in a line."""
    cases, skipped = (sum(numbers) for numbers in zip((0, 0), *result.counts.values()))
    return (
        f"{len(result.counts)} suites, {cases} cases, {skipped} skipped,"
        f" {len(result.failed)} failed twice, {len(result.flaky)} once,"
        f" {len(result.crashed)} crashes or hangs,"
        f" {len(result.unknown)} without a result, {result.wall_s:.0f} s"
    )


def lines(result, reference):
    """The result as items of a list; `reference` is glibc's, or None."""
    yield summary(result)
    known = reference.bad() if reference else set()
    for name in sorted(result.bad()):
        kind = "fails" if name in result.failed else "NOT FORGIVEN"
        more = " (not under glibc)" if reference and name not in known else ""
        yield f"{kind}: {name}{more}"
    for file in sorted(result.left_out):
        yield f"left out: {file}"
    for name in sorted(result.flaky):
        yield f"flaky: {name}"
    for sentence in differences(result.counts, reference.counts) if reference else ():
        yield f"differs: {sentence}"
