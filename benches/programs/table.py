"""Medians, leasts, ratios and the bars, as Markdown."""

import math
import statistics

RIVALS = ["glibc", "jemalloc", "mimalloc"]
OURS = "spanalloc"


def geomean(values):
    """The geometric mean, or NaN of nothing."""
    values = list(values)
    return math.exp(statistics.fmean(map(math.log, values))) if values else math.nan


def figures(runs, of):
    """`(row, column) -> [Usage]` to `(row, column) -> (wall s, processor s, peak bytes)`,
    each figure by `of` from those of the rounds: their median, or their least."""
    return {
        key: (
            of(usage.wall_s for usage in usages),
            of(usage.cpu_s for usage in usages),
            of(usage.peak_bytes for usage in usages),
        )
        for key, usages in runs.items()
        if usages
    }


def medians(runs):
    """Medians of the rounds: what a run of each takes."""
    return figures(runs, statistics.median)


def leasts(runs):
    """The least of the rounds: what a run takes that nothing else disturbed."""
    return figures(runs, min)


def rows_of(measured):
    """The names of the rows, in the order in which they were run."""
    return list(dict.fromkeys(row for row, _ in measured))


def table(title, measured, columns, part, scale, digits):
    """One figure of every row in every column, with the geometric mean of each column
    over glibc's."""
    lines = [f"| {title} | " + " | ".join(columns) + " |"]
    lines.append("| --- |" + " ---: |" * len(columns))
    for row in rows_of(measured):
        cells = []
        for column in columns:
            cell = measured.get((row, column))
            cells.append(f"{cell[part] / scale:.{digits}f}" if cell else "failed")
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    if "glibc" in columns:
        cells = []
        for column in columns:
            cells.append(f"{mean_ratio(measured, column, ['glibc'], part):.3f}")
        lines.append("| *geometric mean, over glibc's* | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_ratio(measured, column, rivals, part):
    """The geometric mean, over the rows that all of them finished, of a column's
    figure over the least of the rivals' in that row."""
    return geomean(
        measured[row, column][part] / min(measured[row, rival][part] for rival in rivals)
        for row in rows_of(measured)
        if all((row, name) in measured for name in [column, *rivals])
    )


def bars(measured, columns, title="bar"):
    """How our columns stand against the bars, as Markdown."""
    rivals = [name for name in RIVALS if name in columns]
    ours = [name for name in columns if name.startswith(OURS)]
    if not ours or not rivals:
        return ""
    lines = [f"| {title} | " + " | ".join(ours) + " |", "| --- |" + " ---: |" * len(ours)]
    for part, what in ((0, "time"), (1, "processor time")):
        for rival in rivals:
            cells = (f"{mean_ratio(measured, name, [rival], part):.3f}" for name in ours)
            lines.append(f"| {what} over {rival}'s | " + " | ".join(cells) + " |")
    cells = (f"{mean_ratio(measured, name, rivals, 2):.3f}" for name in ours)
    lines.append("| peak memory over the least of each row | " + " | ".join(cells) + " |")
    best = min(rivals, key=lambda rival: mean_ratio(measured, rival, rivals, 2))
    cells = (f"{mean_ratio(measured, name, [best], 2):.3f}" for name in ours)
    lines.append(f"| peak memory over {best}'s, the leanest | " + " | ".join(cells) + " |")
    return "\n".join(lines)
