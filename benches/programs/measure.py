"""Runs one command in an environment of its own and says what it took.

Invariant: the environment of a program is exactly what is given here; nothing of
the caller's is inherited. A runner that preloads something, or sets `MALLOC_CONF`,
cannot leak into a column.

    python3 benches/programs/measure.py

prints what the first touch of memory costs here (see `touch`).
"""

import mmap
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BASE = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}


TOUCHED_BYTES = 1 << 30


def touch(advice=mmap.MADV_HUGEPAGE):
    """Touches memory in huge pages and gives it back to the kernel, which hands out next
    what came back last.

    A virtual machine whose balloon reports free pages gives its host every free block of
    2 MiB after two seconds, and who touches it next waits for the host: about 3 ms a MiB
    where the kernel alone takes 0.13 for huge pages and 0.85 for small ones, of which it
    keeps some. Whoever runs first, or asks for huge pages, would pay for it.
    """
    with mmap.mmap(-1, TOUCHED_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(advice)
        for page in range(0, TOUCHED_BYTES, mmap.PAGESIZE):
            memory[page] = 1


@dataclass
class Usage:
    """What a command took: seconds of wall clock and of processor (user and system,
    of all its processes that were waited for), peak resident memory of its largest
    process in bytes, and how it ended."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    status: int


@dataclass
class Outcome:
    """What a run of a row took, and a digest of its results; `wrong` says what went
    wrong, or is empty."""

    usage: Usage
    digest: str
    wrong: str = ""


def environment(home, *more):
    """The environment of a program whose home and temporary directory is `home`."""
    merged = BASE | {"HOME": str(home), "TMPDIR": str(home)}
    for entries in more:
        merged |= entries
    return merged


def run(argv, cwd, env, stdout, stdin=None, timeout_s=600):
    """Runs `argv`, its standard output and error in the files `stdout` and
    `stdout`.err, and returns its usage; the status is 124 after a timeout.

    Peak memory comes from GNU time and not from the runner's own wait: across fork
    and exec a process keeps the high-water mark of the one that forked it, and that
    of a Python process would hide every small program's.
    """
    with tempfile.NamedTemporaryFile() as peak, open(stdout, "wb") as out, open(
        f"{stdout}.err", "wb"
    ) as err, open(stdin or os.devnull, "rb") as given:
        settings = [f"{key}={value}" for key, value in env.items()]
        command = ["/usr/bin/time", "-q", "-f", "%M", "-o", peak.name]
        # A shell in the background makes what it starts ignore interrupts.
        command += ["/usr/bin/env", "-i", "--default-signal", *settings, *argv]
        started = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=cwd, env=BASE, stdin=given, stdout=out, stderr=err, start_new_session=True
        )
        expired = False

        def expire(_signal, _frame):
            nonlocal expired
            expired = True
            os.killpg(child.pid, signal.SIGKILL)

        before = signal.signal(signal.SIGALRM, expire)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        wall_s = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        text = Path(peak.name).read_text().split()
    return Usage(
        wall_s=wall_s,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_bytes=int(text[-1]) * 1024 if text else 0,
        status=124 if expired else child.returncode,
    )


def tail(stdout, lines=12):
    """The last lines of what a command said on standard error, for a report."""
    said = Path(f"{stdout}.err").read_text(errors="replace").splitlines()
    return "\n".join(said[-lines:])


def main():
    """Prints the cost of a first touch: twice at once, and after a pause in which a
    host may take what is free."""
    for pause_s in (0, 0, 10, 0):
        time.sleep(pause_s)
        for name, advice in (("huge", mmap.MADV_HUGEPAGE), ("small", mmap.MADV_NOHUGEPAGE)):
            started = time.perf_counter()
            touch(advice)
            took_ms = (time.perf_counter() - started) * 1000
            print(f"after {pause_s:2} s, {name:5} pages: {took_ms / (TOUCHED_BYTES >> 20):.2f} ms a MiB")


if __name__ == "__main__":
    main()
