"""CPython's own tests, Debian's copy of them, under a column.

A case counts as failed when it fails in the run of the whole list and again when its
file is run alone: on a busy machine some cases fail for want of time, under every
allocator.
"""

import re
import time
import xml.etree.ElementTree as ElementTree

import measure

# The longest first; threads and processes; foreign functions and extension modules; containers and
# strings; streams and networks; the garbage collector and what embeds Python.
TESTS = """
test_asyncio test_multiprocessing_fork test_signal test_multiprocessing_main_handling
test_threading test_thread test_threading_local test_threadsignals test_queue
test_subprocess test_fork1 test_os test_posix test_mmap test_ssl test_selectors
test_ctypes test_embed test__xxsubinterpreters test_json
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


def run(column, cwd, tests, jobs):
    """Runs test files and returns the names of cases that failed, and of files whose
    process crashed or was ended."""
    cwd.mkdir(parents=True, exist_ok=True)
    report = cwd / "report.xml"
    argv = ["/usr/bin/python3", "-m", "test", f"-j{jobs}", "--timeout", str(FILE_S)]
    argv += ["--junit-xml", str(report), *tests]
    stdout = cwd / "stdout"
    full = measure.environment(cwd, SETTINGS, column.environment(cwd))
    usage = measure.run(argv, cwd, full, stdout, timeout_s=ALL_S)
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


def suite(column, cwd, tests):
    """The cases that fail under the column, twice, and the seconds of the first run."""
    started = time.perf_counter()
    failed, files, _ = run(column, cwd / "all", tests, JOBS)
    wall_s = time.perf_counter() - started
    if failed:
        again, _, _ = run(column, cwd / "again", sorted(files) or tests, 1)
        failed &= again
    return failed, wall_s
