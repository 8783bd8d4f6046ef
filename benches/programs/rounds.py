"""The rounds: every row in every column, in an order that is another one each round, and
what of the results is wrong.
"""

import json
import random
import shutil
import sys

import measure


def order(columns, row, turn):
    """The columns in the order in which they run this row in this round.

    The row's name draws who is who. Its rounds are a Latin square after Williams: in as
    many rounds as there are columns each is first once and directly after each other one
    once. Of an odd count there is no such square; every other round is turned around, and
    in twice as many rounds each is first twice and directly after each other one twice.
    """
    count = len(columns)
    drawn = random.Random(row).sample(columns, count)
    # 0, 1, n - 1, 2, n - 2 and so on: no two neighbours are equally far apart.
    steps = [(at + 1) // 2 if at % 2 else -(at // 2) for at in range(count)]
    ordered = [drawn[(step + turn) % count] for step in steps]
    return ordered[::-1] if count % 2 and turn % 2 else ordered


def fresh(work):
    """An empty directory for a run below `work`; the same path for every run."""
    shutil.rmtree(work / "run", ignore_errors=True)
    return work / "run/cwd"


def samples_dumped(directory):
    """Samples in the dumps below a directory, of all processes; None if there is no
    dump or one of them cannot be read."""
    samples = 0
    try:
        files = list((directory / "dump").glob("*.json"))
        for file in files:
            sites = json.loads(file.read_text())["profile"]["sites"]
            samples += sum(site["allocated"]["samples"] for site in sites)
    except (ValueError, KeyError):
        return None
    return samples if files else None


def judged(outcomes, first, digest):
    """Says in the `wrong` of each of a row's outcomes, `column -> outcome`, where its result
    is not that of the column `first`, whose digest of an earlier round is `digest`, if any;
    returns the digest for the next round, and a sentence if there is none to compare with."""
    own = outcomes.get(first)
    if digest is None and own is not None and not own.wrong:
        digest = own.digest
    if digest is None:
        return None, f"{first} failed, so that no result is compared"
    for outcome in outcomes.values():
        if not outcome.wrong and outcome.digest != digest:
            outcome.wrong = f"the result differs from that of {first}"
    return digest, ""


def measured(rows, columns, given, count, quick, work):
    """Runs every row in every column, as many rounds as `count`; returns the usages,
    `(row, column) -> [Usage]`, and sentences about what went wrong."""
    runs, digests, wrong = {}, {}, []

    def report(sentence):
        wrong.append(sentence)
        print(sentence, file=sys.stderr, flush=True)

    for turn in range(count):
        here = [column for column in columns if turn == 0 or not column.once]
        for row in rows:
            outcomes = {}
            for column in order(here, row.name, turn):
                cwd = fresh(work)
                if not quick:
                    measure.touch()
                outcome = outcomes[column.name] = row.run(column, given[row.name], cwd, quick)
                took = outcome.usage
                print(
                    f"{turn + 1} {row.name:16} {column.name:18} {took.wall_s:7.2f} s"
                    f" {took.cpu_s:7.2f} s {took.peak_bytes / 2**20:8.1f} MiB",
                    file=sys.stderr,
                    flush=True,
                )
                if not outcome.wrong and column.dumps and samples_dumped(cwd) is None:
                    outcome.wrong = "no dump, or one that cannot be read"
            first = columns[0].name
            digests[row.name], none = judged(outcomes, first, digests.get(row.name))
            if none:
                report(f"{row.name}: {none}")
            for column, outcome in outcomes.items():
                if outcome.wrong:
                    report(f"{row.name}, {column}: {outcome.wrong}")
                else:
                    runs.setdefault((row.name, column), []).append(outcome.usage)
    return runs, wrong
