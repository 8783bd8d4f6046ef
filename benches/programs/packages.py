"""The Debian packages that the programs and the rival allocators come from.

Invariant: nothing here installs a package whose file is already there, so that a
second run needs no network and no root.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# A package, and a file that shows that it is there. Names that carry a version
# differ between releases of Debian: the first that apt knows is taken.
NEEDED = [
    (["time"], "/usr/bin/time"),
    (["libjemalloc2"], "/usr/lib/*/libjemalloc.so.2"),
    (["libmimalloc3", "libmimalloc2.0"], "/usr/lib/*/libmimalloc.so.*"),
    (["git"], "/usr/bin/git"),
    (["sqlite3"], "/usr/bin/sqlite3"),
    (["redis-server"], "/usr/bin/redis-server"),
    (["redis-tools"], "/usr/bin/redis-benchmark"),
    (["g++"], "/usr/bin/g++"),
    (["clang"], "/usr/bin/clang"),
    (["rustc"], "/usr/bin/rustc"),
    (["cargo"], "/usr/bin/cargo"),
    (["nodejs"], "/usr/bin/node"),
    (["perl"], "/usr/bin/perl"),
    (["imagemagick"], "/usr/bin/convert"),
    (["python3"], "/usr/bin/python3"),
    (
        ["libpython3.13-testsuite", "libpython3.12-testsuite", "libpython3.11-testsuite"],
        "/usr/lib/python3.*/test/test_gc.py",
    ),
]


def exists(pattern):
    """Whether a file matches the pattern."""
    return any(Path("/").glob(pattern.lstrip("/")))


def known(package):
    """Whether apt has a candidate for the package."""
    shown = subprocess.run(
        ["apt-cache", "policy", package], capture_output=True, text=True, check=False
    ).stdout
    return "Candidate:" in shown and "Candidate: (none)" not in shown


def install():
    """Installs what is missing, as root or by sudo. Exits with the names of packages
    that cannot be had."""
    missing = [names for names, pattern in NEEDED if not exists(pattern)]
    if not missing:
        return
    sudo = [] if os.geteuid() == 0 else ["sudo"]
    if sudo and not shutil.which("sudo"):
        sys.exit(f"programs: missing packages, and neither root nor sudo: {missing}")
    subprocess.run([*sudo, "apt-get", "update", "-q"], check=True)
    chosen = []
    for names in missing:
        candidates = [name for name in names if known(name)]
        if not candidates:
            sys.exit(f"programs: apt knows none of {', '.join(names)}")
        chosen.append(candidates[0])
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qy"]
    command += ["--no-install-recommends", *chosen]
    subprocess.run([*sudo, *command], check=True)


def version(pattern):
    """The package, with its version, that owns the first file of the pattern."""
    for path in sorted(Path("/").glob(pattern.lstrip("/"))):
        owner = subprocess.run(
            ["dpkg-query", "-S", str(path.resolve())], capture_output=True, text=True, check=False
        ).stdout.split(":")[0]
        if owner:
            form = "${Package} ${Version}"
            return subprocess.run(
                ["dpkg-query", "-W", f"-f={form}\n", owner],
                capture_output=True,
                text=True,
                check=False,
            ).stdout.splitlines()[0]
    return f"{pattern}: not of a package"
