#!/usr/bin/env python3
"""Debian's programs under preloaded allocators: the same results, time and memory.

    python3 benches/programs/run.py

README.md, beside this file, says what is run and how to read the tables. The exit
status is 1 if a result differs from glibc's, a program fails, a program does not
take `malloc` from the column's library, or a test of CPython's fails which does not
fail under glibc. Time and memory are shown, not judged.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import columns as columns_module
import cpython
import packages
import rounds
import table
from programs import ROWS

HERE = Path(__file__).resolve().parent
WORK = columns_module.ROOT / "target/programs"
SUITE = "cpython tests"


def options():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=positive, help="rounds that are timed; 3, or 1 with --quick")
    parser.add_argument("--only", default="", help="only these rows, by their names, joined by commas")
    parser.add_argument("--tests", default="", help="only these files of CPython's tests")
    parser.add_argument("--columns", default="", help="only these columns")
    parser.add_argument("--quick", action="store_true", help="small inputs: shows that it runs")
    parser.add_argument("--library", type=Path, help="ours, already built")
    parser.add_argument("--record", type=Path, help="where the figures go as JSON")
    given = parser.parse_args()
    given.rounds = given.rounds or (1 if given.quick else 3)
    given.only = named(given.only, [row.name for row in ROWS] + [SUITE])
    known = (cpython.QUICK if given.quick else cpython.TESTS).split()
    given.tests = [part for part in given.tests.split(",") if part] or known
    given.columns = [part for part in given.columns.split(",") if part]
    return given


def positive(text):
    """A number of rounds."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return number


def named(asked, names):
    """The names in a list joined by commas, all of them where it is empty. A name may
    have a comma of its own. Exits where something is nobody's name."""
    found, rest = [], asked
    while rest:
        heads = [name for name in names if f"{rest},".startswith(f"{name},")]
        if not heads:
            sys.exit(f"programs: no row is called {rest!r}; there are: {'; '.join(names)}")
        found.append(max(heads, key=len))
        rest = rest[len(found[-1]) + 1 :]
    return found or names


def prepared(rows, quick):
    """Writes the inputs that are not there yet, and returns `row -> directory`. They
    are kept from run to run, until what writes them changes."""
    text = b"".join((HERE / name).read_bytes() for name in ("inputs.py", "programs.py", "redis.py"))
    root = WORK / f"inputs-{'quick' if quick else 'full'}-{hashlib.sha256(text).hexdigest()[:8]}"
    given = {}
    for row in rows:
        at = root / row.name.replace(" ", "-").replace(",", "")
        if not at.exists():
            unfinished = root / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            print(f"input of {row.name}", file=sys.stderr)
            row.make(unfinished, quick)
            unfinished.rename(at)
        given[row.name] = at
    return given


def fresh():
    """An empty directory for a run; the same path for every run."""
    return rounds.fresh(WORK)


def check_bindings(rows, columns):
    """Sentences about programs that do not take `malloc` from their column."""
    wrong = []
    for row in rows:
        for column in columns:
            for sentence in columns_module.unbound(column, row.probe, row.callers, fresh()):
                wrong.append(f"{row.name}, {column.name}: {sentence}")
    return wrong


def suites(columns, tests):
    """Runs files of CPython's tests under every column; returns `column -> result`."""
    results = {}
    for column in columns:
        result = results[column.name] = cpython.suite(column, fresh(), tests)
        note = f"{SUITE}, {column.name}: {cpython.summary(result)}"
        print(note, file=sys.stderr, flush=True)
    return results


def machine():
    """The machine and the versions, as lines of a list."""
    model = next(
        line.split(": ", 1)[1].strip()
        for line in [*Path("/proc/cpuinfo").read_text().splitlines(), "model name: unknown"]
        if line.startswith("model name")
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 2**20
    kernel = platform.release().split("-")[0]
    yield f"* {os.cpu_count()} × {model}, {memory} GiB, Linux {kernel}"
    patterns = [pattern for _, pattern in packages.NEEDED if not pattern.endswith("/time")]
    yield "* " + ", ".join(sorted({packages.version(pattern) for pattern in patterns}))


def main():
    """Runs what is asked for and prints the tables."""
    asked = options()
    packages.install()
    rows = [row for row in ROWS if row.name in asked.only]
    ours = not asked.columns or any(name.startswith(table.OURS) for name in asked.columns)
    library = (asked.library or columns_module.build()).resolve() if ours else None
    columns = [
        column
        for column in columns_module.all_columns(library)
        if not asked.columns or column.name in asked.columns
    ]
    unknown = set(asked.columns) - {column.name for column in columns}
    if unknown:
        sys.exit(f"programs: no such column: {', '.join(sorted(unknown))}")
    timed = [column.name for column in columns if not column.once]
    started = time.perf_counter()
    given = prepared(rows, asked.quick)
    wrong = check_bindings(rows, columns)
    runs, more = rounds.measured(rows, columns, given, asked.rounds, asked.quick, WORK)
    wrong += more
    # Sampling with dumps at the end of every process includes sampling without.
    tested = [column for column in columns if column.name != f"{table.OURS}-sampled"]
    results = suites(tested, asked.tests) if SUITE in asked.only else {}

    print("\n".join(machine()))
    print(f"* medians of {asked.rounds} rounds, {time.perf_counter() - started:.0f} s in all\n")
    measured = table.medians(runs)
    if measured:
        print(table.table("wall clock, s", measured, timed, 0, 1, 2) + "\n")
        print(table.table("processor, s", measured, timed, 1, 1, 2) + "\n")
        print(table.table("peak memory, MiB", measured, timed, 2, 2**20, 1) + "\n")
        print(table.bars(measured, timed, "bar, of medians") + "\n")
        if asked.rounds > 1:
            least = table.leasts(runs)
            print(table.table("least processor, s", least, timed, 1, 1, 2) + "\n")
            print(table.bars(least, timed, "bar, of the least of each cell") + "\n")
    reference = results.get("glibc")
    for column, result in results.items():
        print(f"* {SUITE}, {column}: " + "\n  * ".join(cpython.lines(result, reference)))
        if column.startswith(table.OURS):
            more = sorted(result.bad() - (reference.bad() if reference else set()))
            more += cpython.lost(result.counts, reference.counts) if reference else []
            wrong += [f"{SUITE}, {column}: {name}" for name in more]
    if asked.record:
        asked.record.write_text(
            json.dumps(
                [
                    {"row": row, "column": column, "runs": [asdict(usage) for usage in usages]}
                    for (row, column), usages in runs.items()
                ],
                indent=1,
            )
        )
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    print("\nSomething is wrong, see above." if wrong else "\nAll results agree.")
    sys.exit(1 if wrong else 0)


main()
