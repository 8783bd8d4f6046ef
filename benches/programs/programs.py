"""The rows: a program each, with its input, its command, and what of it must be the
same under every allocator.

Invariant: what a command reads and writes lies below its own directory, at the same
path in every column, so that results that name paths can be compared.
"""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import inputs
import measure
from redis import Redis

SCRIPTS = Path(__file__).resolve().parent / "scripts"


@dataclass
class Command:
    """A row of one command.

    `make` writes the input below a directory, once; `before` prepares a fresh
    working directory `cwd` from the input, outside of the time measured; `argv`
    names the command; `results` are the files that are hashed after it, besides
    standard output, and `after` a command whose output is hashed as well; should it
    fail, the run is wrong.
    `callers` are the files that must be seen to take `malloc` from the column when
    `probe` runs.
    """

    name: str
    what: str
    argv: Callable
    probe: list
    callers: list
    make: Callable = lambda at, quick: at.mkdir(parents=True)
    before: Callable = lambda given, cwd: None
    results: list = field(default_factory=list)
    after: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    stdin: str = ""

    def run(self, column, given, cwd, quick):
        """Runs the row once under the column, in `cwd`, which does not exist yet."""
        cwd.mkdir(parents=True)
        self.before(given, cwd)
        env = measure.environment(cwd, self.settings, column.environment(cwd))
        stdout = cwd.parent / "stdout"
        stdin = given / self.stdin if self.stdin else None
        usage = measure.run(self.argv(given, quick), cwd, env, stdout, stdin)
        if usage.status != 0:
            return measure.Outcome(usage, "", f"ended with {usage.status}\n{measure.tail(stdout)}")
        digest = hashlib.sha256(stdout.read_bytes())
        for name in self.results:
            digest.update((cwd / name).read_bytes())
        if self.after:
            shown = subprocess.run(
                self.after, cwd=cwd, env=measure.environment(cwd), capture_output=True, check=False
            )
            if shown.returncode != 0:
                said = shown.stderr.decode(errors="replace").splitlines()[-12:]
                ended = f"{self.after[0]}, run afterwards, ended with {shown.returncode}"
                return measure.Outcome(usage, "", "\n".join([ended, *said]))
            digest.update(shown.stdout)
        return measure.Outcome(usage, digest.hexdigest())


def quietly(argv, cwd, stdin=None):
    """Runs a command of the preparation, without any column."""
    with open(stdin or "/dev/null", "rb") as given:
        subprocess.run(
            argv,
            cwd=cwd,
            env=measure.environment(cwd),
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


def make_git(at, quick):
    """A bare repository with everything in the one pack that fast-import writes."""
    at.mkdir(parents=True)
    inputs.git_stream(at / "stream", 150 if quick else 1500, 60 if quick else 1500)
    quietly(["/usr/bin/git", "init", "-q", "--bare", "-b", "main", "r.git"], at)
    quietly(["/usr/bin/git", "-C", "r.git", "fast-import", "--quiet", "--done"], at, at / "stream")
    (at / "stream").unlink()


def make_loose_git(at, quick):
    """A repository with every object in a file of its own, and commits that nothing
    leads to."""
    at.mkdir(parents=True)
    inputs.git_stream(at / "stream", 100 if quick else 500, 40 if quick else 400)
    quietly(["/usr/bin/git", "init", "-q", "--bare", "-b", "main", "packed.git"], at)
    git = ["/usr/bin/git", "-C"]
    quietly([*git, "packed.git", "fast-import", "--quiet", "--done"], at, at / "stream")
    quietly(["/usr/bin/git", "init", "-q", "--bare", "-b", "main", "r.git"], at)
    (pack,) = (at / "packed.git").glob("objects/pack/*.pack")
    quietly([*git, "r.git", "unpack-objects", "-q"], at, pack)
    ref = "refs/heads/main"
    shutil.copy(at / "packed.git" / ref, at / "r.git" / ref)
    quietly([*git, "r.git", "update-ref", ref, f"{ref}~10"], at)
    shutil.rmtree(at / "packed.git")
    (at / "stream").unlink()


def writer(file, generate, quick_size, size):
    """A `make` that writes one generated file."""

    def make(at, quick):
        at.mkdir(parents=True)
        generate(at / file, quick_size if quick else size)

    return make


def script(interpreter, file, quick_size, size):
    """An `argv` that runs one of the scripts."""
    return lambda given, quick: [
        f"/usr/bin/{interpreter}",
        str(SCRIPTS / file),
        str(quick_size if quick else size),
    ]


def compiler(*argv):
    """An `argv` of a compiler and the source below the input's directory."""
    return lambda given, quick: [*argv[:-1], "-o", "out.o", "-c", str(given / argv[-1])]


def make_images(at, quick):
    """A photograph-like picture: noise, gradients and text-like edges."""
    at.mkdir(parents=True)
    size = "300x200" if quick else "1200x800"
    argv = ["/usr/bin/convert", "-limit", "thread", "1", "-seed", "7", "-size", size]
    quietly([*argv, "plasma:tomato-steelblue", "-swirl", "40", "-noise", "2", "a.png"], at)
    quietly([*argv, "gradient:navy-gold", "-wave", "30x200", "b.jpg"], at)


GIT = ["/usr/bin/git", "-c", "pack.threads=2", "-c", "gc.auto=0", "-c", "protocol.version=2"]
# How many of them lie in files of their own, or in packs; and all of them.
GIT_OBJECTS = (
    "git -C r.git count-objects -v | grep -v ^size"
    " && git -C r.git cat-file --batch-check --batch-all-objects"
)
PYTHON = script("python3", "objects.py", 1, 20)
PYTHON_PROBE = ["/usr/bin/python3", "-c", "pass"]
CONVERT = (
    "( a.png -resize 150% -unsharp 0x2 ) ( b.jpg -resize 1200x800 -modulate 110,80 )"
    " -gravity center -composite -blur 0x3 -despeckle -colorspace Lab -contrast-stretch 1%"
    " -colorspace sRGB -quantize RGB -colors 64 -rotate 7 -resize 50% out.png"
).split(" ")

ROWS = [
    Command(
        name="git clone",
        what="a bare clone through upload-pack: packing on one side, indexing on the other",
        make=make_git,
        argv=lambda given, quick: [*GIT, "clone", "-q", "--bare", "--no-local", f"{given}/r.git", "c"],
        after=["/usr/bin/git", "-C", "c", "rev-list", "--objects", "--all"],
        probe=["/usr/bin/git", "--version"],
        callers=["git"],
    ),
    Command(
        name="git repack",
        what="all objects of one pack into another, with all deltas anew, on two threads",
        make=make_git,
        before=lambda given, cwd: shutil.copytree(given / "r.git", cwd / "r.git"),
        argv=lambda given, quick: [*GIT, "-C", "r.git", "repack", "-q", "-adf", "--window=8"],
        after=["/usr/bin/git", "-C", "r.git", "cat-file", "--batch-check", "--batch-all-objects"],
        probe=["/usr/bin/git", "--version"],
        callers=["git"],
    ),
    Command(
        name="git gc",
        what="loose objects into a pack, those that nothing leads to removed",
        make=make_loose_git,
        before=lambda given, cwd: shutil.copytree(given / "r.git", cwd / "r.git"),
        argv=lambda given, quick: [*GIT, "-C", "r.git", "gc", "-q", "--prune=now"],
        after=["/bin/sh", "-c", GIT_OBJECTS],
        probe=["/usr/bin/git", "--version"],
        callers=["git"],
    ),
    Command(
        name="git log -p",
        what="every commit of the history as a patch",
        make=make_git,
        argv=lambda given, quick: [*GIT, "-C", f"{given}/r.git", "log", "-p", "--stat", "-M"],
        probe=["/usr/bin/git", "--version"],
        callers=["git"],
    ),
    Command(
        name="sqlite3",
        what="an in-memory database: inserts, indexes, joins, windows, JSON, full text",
        make=writer("script.sql", inputs.sql_script, 1_000, 40_000),
        argv=lambda given, quick: ["/usr/bin/sqlite3", "-batch", ":memory:"],
        stdin="script.sql",
        probe=["/usr/bin/sqlite3", ":memory:", "SELECT 1"],
        callers=["libsqlite3.so.0"],
    ),
    Redis(
        name="redis",
        what="redis-server under redis-benchmark, then 40,000 keys whose digest is compared",
    ),
    Command(
        name="g++ -O2",
        what="one file that instantiates much of the standard library",
        make=writer("a.cc", inputs.cpp_file, 0, 1),
        argv=compiler("/usr/bin/g++", "-std=c++17", "-O2", "a.cc"),
        results=["out.o"],
        probe=["/usr/bin/g++", "-x", "c++", "-c", "/dev/null", "-o", "probe.o"],
        callers=["cc1plus"],
    ),
    Command(
        name="gcc -O2",
        what="one large C file of loops, switches and tables",
        make=writer("a.c", inputs.c_file, 10, 120),
        argv=compiler("/usr/bin/gcc", "-O2", "a.c"),
        results=["out.o"],
        probe=["/usr/bin/gcc", "-x", "c", "-c", "/dev/null", "-o", "probe.o"],
        callers=["cc1"],
    ),
    Command(
        name="clang++ -O2",
        what="the file of g++",
        make=writer("a.cc", inputs.cpp_file, 0, 1),
        argv=compiler("/usr/bin/clang++", "-std=c++17", "-O2", "a.cc"),
        results=["out.o"],
        probe=["/usr/bin/clang", "-x", "c++", "-c", "/dev/null", "-o", "probe.o"],
        callers=["clang"],
    ),
    Command(
        name="cargo build",
        what="Debian's cargo and rustc on a workspace of three crates, in release mode",
        make=lambda at, quick: inputs.cargo_project(at / "project", 1 if quick else 2, 1),
        before=lambda given, cwd: shutil.copytree(given / "project", cwd / "project"),
        argv=lambda given, quick: (
            ["/usr/bin/cargo", "build", "--release", "--offline", "-q", "-j2"]
            + ["--manifest-path", "project/Cargo.toml"]
        ),
        after=["project/target/release/app"],
        probe=["/bin/sh", "-c", "/usr/bin/cargo --version && /usr/bin/rustc --version"],
        callers=["cargo"],
    ),
    Command(
        name="node",
        what="buffers, JSON, compression, ciphers, and three worker threads",
        argv=script("node", "service.js", 2, 60),
        probe=["/usr/bin/node", "-e", ""],
        callers=["node"],
    ),
    Command(
        name="perl",
        what="hashes, arrays, strings, sorting and expressions over generated text",
        argv=script("perl", "text.pl", 1, 12),
        probe=["/usr/bin/perl", "-e", ""],
        callers=["perl"],
    ),
    Command(
        name="python",
        what="objects, JSON, XML, SQL, trees and threads, with Python's own small-object allocator",
        argv=PYTHON,
        probe=PYTHON_PROBE,
        callers=["python3"],
    ),
    Command(
        name="python, malloc",
        what="the same with PYTHONMALLOC=malloc: every object by malloc",
        argv=PYTHON,
        settings={"PYTHONMALLOC": "malloc"},
        probe=PYTHON_PROBE,
        callers=["python3"],
    ),
    Command(
        name="imagemagick",
        what="two pictures resized, composed, blurred, quantized and rotated, on two threads",
        make=make_images,
        before=lambda given, cwd: [shutil.copy(given / name, cwd) for name in ("a.png", "b.jpg")],
        argv=lambda given, quick: ["/usr/bin/convert", "-limit", "thread", "2", *CONVERT],
        after=["/usr/bin/identify", "-format", "%#", "out.png"],
        probe=["/usr/bin/convert", "-size", "8x8", "xc:red", "-blur", "0x1", "null:"],
        callers=["libMagickCore-6.Q16.so.6"],
    ),
]
