"""What Debian's binary packages leave out: the tests of Python's sqlite3, from the
source package.

Invariant: apt's own state is not touched. The list of sources, its indexes and what is
downloaded lie below `target/programs`, and of the source package only these tests are
unpacked.
"""

import functools
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

WORK = Path(__file__).resolve().parents[2] / "target/programs/sources"
SQLITE = "test_sqlite3"


@functools.cache
def version():
    """The version of Debian's Python, such as `3.11`."""
    shown = "import sys; print('%d.%d' % sys.version_info[:2])"
    return subprocess.run(
        ["/usr/bin/python3", "-c", shown], capture_output=True, text=True, check=True
    ).stdout.strip()


def sources_of_sources(at):
    """Writes to `at` what apt is configured with, its source packages instead."""
    at.mkdir(parents=True, exist_ok=True)
    root = Path("/etc/apt")
    for file in [root / "sources.list", *sorted((root / "sources.list.d").glob("*"))]:
        if file.suffix not in (".list", ".sources") or not file.exists():
            continue
        text = re.sub(r"^(Types:.*)$", "Types: deb-src", file.read_text(), flags=re.M)
        (at / file.name).write_text(re.sub(r"^deb(\s)", r"deb-src\1", text, flags=re.M))


def download():
    """The archive with Python's sources as they were before Debian's patches; None if
    it cannot be had."""
    sources_of_sources(WORK / "lists.d")
    (WORK / "lists/partial").mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-q", "-o", "Dir::Etc::sourcelist=/dev/null"]
    apt += ["-o", f"Dir::Etc::sourceparts={WORK}/lists.d", "-o", f"Dir::State::lists={WORK}/lists"]
    apt += ["-o", f"Dir::Cache={WORK}", "-o", "APT::Sandbox::User="]
    for command in (["update"], ["source", "--download-only", f"python{version()}"]):
        # A mirror may lack one of the files and have the one that is needed, so its
        # status says nothing. What is there is what apt has verified.
        subprocess.run([*apt, *command], cwd=WORK, check=False, capture_output=True)
    return next(WORK.glob(f"python{version()}_*.orig.tar.*"), None)


@functools.cache
def sqlite_tests():
    """The settings under which Python finds its tests of sqlite3, none if Debian's
    package has them; None, with a message, if they cannot be had."""
    home = Path(f"/usr/lib/python{version()}/test")
    if (home / SQLITE).exists():
        return {}
    given = WORK / f"python{version()}"
    if not given.exists():
        archive = download() if shutil.which("apt-get") else None
        if archive is None:
            print(f"programs: SKIPPED {SQLITE}: no source package of Python", file=sys.stderr)
            return None
        unfinished = WORK / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        (unfinished / f"test/{SQLITE}").mkdir(parents=True)
        with tarfile.open(archive) as tar:
            for member in tar:
                path = Path(member.name)
                if member.isfile() and path.parent.parts[-3:] == ("Lib", "test", SQLITE):
                    to = unfinished / "test" / SQLITE / path.name
                    to.write_bytes(tar.extractfile(member).read())
        # They must lie in the package `test`, which is Debian's but for them.
        for entry in home.iterdir():
            (unfinished / "test" / entry.name).symlink_to(entry)
        unfinished.rename(given)
        archive.unlink()
    return {"PYTHONPATH": str(given)}
