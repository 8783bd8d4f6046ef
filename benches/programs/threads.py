#!/usr/bin/env python3
"""Memory of four busy threads under every column: `scripts/threads.c`, shape by shape.

    python3 benches/programs/threads.py [LIBRARY]

LIBRARY is ours, already built; without it, it is built. Prints Markdown.
"""

import subprocess
import sys
from pathlib import Path

import columns
import measure

SOURCE = Path(__file__).resolve().parent / "scripts/threads.c"
ROUNDS = 3


def main():
    """Compiles the program, runs it, prints the tables."""
    library = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else columns.build()
    timed = [column for column in columns.all_columns(library) if not column.once]
    program = columns.ROOT / "target/programs/threads"
    program.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O2", "-pthread", "-o", program, SOURCE], check=True)
    shapes = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    taken = {}
    for shape in shapes.splitlines():
        for column in timed * ROUNDS:
            env = measure.environment("/tmp", column.environment("/tmp"))
            ran = subprocess.run(
                [program, shape], env=env, capture_output=True, text=True, check=True
            )
            figures = [int(figure) for figure in ran.stdout.split()]
            taken.setdefault((shape, column.name), []).append(figures)
    titles = [("peak, MiB", 1024, 1), ("left at the end, MiB", 1024, 1), ("processor, s", 1000, 2)]
    for which, (title, unit, digits) in enumerate(titles):
        print(f"| {title} | " + " | ".join(column.name for column in timed) + " |")
        print("| --- |" + " ---: |" * len(timed))
        for shape in shapes.splitlines():
            cells = []
            for column in timed:
                figures = sorted(run[which] for run in taken[shape, column.name])
                cells.append(f"{figures[len(figures) // 2] / unit:.{digits}f}")
            print(f"| {shape} | " + " | ".join(cells) + " |")
        print()


main()
