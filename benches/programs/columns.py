"""The columns: one way of providing `malloc` each, and the proof that it is used.

Every column is `LD_PRELOAD`, glibc's included: Debian links redis with jemalloc, so
that without a preload its column would silently be jemalloc.
"""

import functools
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import measure

ROOT = Path(__file__).resolve().parents[2]
OURS = "spanalloc"


@dataclass
class Column:
    """An allocator and its settings. A column that is run `once` is compared in its
    results, not in its time."""

    name: str
    library: Path
    settings: dict = field(default_factory=dict)
    once: bool = False
    dumps: bool = False

    def environment(self, directory):
        """What is added to a program's environment; dumps go below `directory`."""
        env = {"LD_PRELOAD": str(self.library)} | self.settings
        if self.dumps:
            env["SPANALLOC"] += f",dump={directory}/dump/p"
        return env


def shared(pattern):
    """The shared library of the system whose name matches, as the loader finds it."""
    listed = subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True
    ).stdout
    for line in listed.splitlines():
        name, _, path = line.strip().partition(" => ")
        # The first is the machine's own architecture's.
        if re.fullmatch(pattern, name.split(" ")[0]):
            return Path(path)
    sys.exit(f"programs: no shared library matches {pattern}")


def build():
    """Builds our library as its documentation says, and returns its path."""
    command = ["cargo", "rustc", "--profile", "preload", "--lib", "--features", "preload"]
    command += ["--crate-type", "cdylib"]
    subprocess.run(command, cwd=ROOT, check=True)
    return ROOT / "target/preload/libspanalloc.so"


def all_columns(library):
    """Every column, in the order of the table. `library` is ours, or None where none
    of our columns is wanted."""
    columns = [
        Column("glibc", shared(r"libc\.so\.6")),
        Column("jemalloc", shared(r"libjemalloc\.so\.2")),
        Column("mimalloc", shared(r"libmimalloc\.so\.[0-9]+")),
    ]
    if library is not None:
        sampled = {"SPANALLOC": "sample=512KiB"}
        columns += [
            Column(OURS, library),
            Column(f"{OURS}-sampled", library, dict(sampled)),
            Column(f"{OURS}-dump", library, dict(sampled), once=True, dumps=True),
        ]
    return columns


BOUND = re.compile(
    r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `(malloc|free|calloc|realloc)'"
)


def unbound(column, argv, callers, directory):
    """Runs `argv` with the loader's own trace of symbol bindings and returns what
    contradicts that it takes `malloc` and its family from the column's library: a
    list of sentences, empty if all is well. `callers` are the names of the
    executables and libraries that must be seen to bind them."""
    directory.mkdir(parents=True, exist_ok=True)
    trace = directory / "bindings"
    env = measure.environment(
        directory,
        column.environment(directory),
        {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": str(trace)},
    )
    usage = measure.run(argv, directory, env, directory / "probe")
    wrong, taken = [], {}
    if usage.status != 0:
        wrong.append(f"{argv[0]} ended with {usage.status}")
    for file in directory.glob("bindings.*"):
        for caller, provider, symbol in BOUND.findall(file.read_text(errors="replace")):
            taken.setdefault((caller, symbol), set()).add(provider)
        file.unlink()
    library = column.library.resolve()
    good = {key for key, providers in taken.items() if library in map(resolved, providers)}
    for (caller, symbol), providers in taken.items():
        # An executable that takes the address of `malloc` provides every other file
        # with that address, a jump of its own to where it was bound itself.
        for provider in providers:
            if resolved(provider) != library and (provider, symbol) not in good:
                wrong.append(f"{caller} takes {symbol} from {provider}")
    seen = {Path(caller).name for caller, symbol in good if symbol == "malloc"}
    wrong += [f"{caller} was not seen to take malloc" for caller in callers if caller not in seen]
    return sorted(wrong)


@functools.cache
def resolved(path):
    """The file that a path leads to, links followed."""
    return Path(path).resolve()
