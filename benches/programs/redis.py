"""The row of redis: a server under the column, clients without any.

The server's memory is read from the server itself before it ends. Clients draw keys
at random, so what they leave is not compared; a fixed set of keys is loaded
afterwards, and its digest is.
"""

import hashlib
import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import measure

CLI = ["/usr/bin/redis-cli", "-s"]
BENCHMARK = ["/usr/bin/redis-benchmark", "-q", "-P", "16", "-c", "20", "-s"]
# Keys and values that grow; small replies; large values that come and go; long replies.
LOADS = [
    ["-r", "100000", "-d", "200", "-t", "set,get,incr,sadd,hset,zadd"],
    ["-r", "1000", "-d", "40", "-t", "lpush,rpush,lpop,rpop,spop"],
    ["-r", "20000", "-d", "3000", "-t", "set"],
    ["-r", "100000", "-d", "30", "-t", "mset"],
]


@dataclass
class Redis:
    """The row; the fields mean what those of `Command` do."""

    name: str
    what: str
    callers: list = field(default_factory=lambda: ["redis-server"])
    probe: list = field(default_factory=lambda: ["/usr/bin/redis-server", "--version"])

    def make(self, at, quick):
        """Writes the keys that are loaded for the digest, in redis' own protocol."""
        at.mkdir(parents=True)
        with open(at / "load", "wb") as out:
            for i in range(1_000 if quick else 40_000):
                value = f"{i * 2_654_435_761 % 1_000_003}" * (1 + i % 40)
                command = [
                    ["SET", f"s{i}", value],
                    ["HSET", f"h{i % 500}", f"field{i}", value],
                    ["RPUSH", f"l{i % 300}", value],
                    ["ZADD", f"z{i % 200}", f"{i % 977}", f"member{i}"],
                    ["APPEND", f"s{i // 2}", value],
                    ["SADD", f"set{i % 100}", f"{i}", value[:40]],
                    ["DEL", f"s{i // 3}"],
                ][i % 7]
                parts = "".join(f"${len(part)}\r\n{part}\r\n" for part in command)
                out.write(f"*{len(command)}\r\n{parts}".encode())

    def run(self, column, given, cwd, quick):
        """Starts a server in `cwd`, works it, and ends it."""
        cwd.mkdir(parents=True)
        socket = cwd / "socket"
        argv = ["/usr/bin/redis-server", "--port", "0", "--unixsocket", str(socket)]
        argv += ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"]
        argv += ["--dir", str(cwd), "--logfile", str(cwd / "log")]
        env = measure.environment(cwd, column.environment(cwd))
        server = subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL)
        wall_s, peak_bytes, digest, wrong = 0.0, 0, "", ""
        try:
            wait_for(server, socket)
            started = time.perf_counter()
            for load in LOADS:
                count = str(2_000 if quick else 60_000)
                client([*BENCHMARK, str(socket), "-n", count, *load])
            wall_s = time.perf_counter() - started
            peak_bytes = high_water(server.pid)
            client([*CLI, str(socket), "FLUSHALL"])
            client([*CLI, str(socket), "--pipe"], given / "load")
            digest = client([*CLI, str(socket), "DEBUG", "DIGEST"])
            digest += client([*CLI, str(socket), "DBSIZE"])
            client([*CLI, str(socket), "SHUTDOWN", "NOSAVE"])
        except (subprocess.SubprocessError, OSError) as error:
            server.kill()
            wrong = str(error)
        _, status, usage = os.wait4(server.pid, 0)
        server.returncode = os.waitstatus_to_exitcode(status)
        if server.returncode != 0:
            log = cwd / "log"
            said = log.read_text(errors="replace").splitlines()[-40:] if log.exists() else []
            wrong += f"\nthe server ended with {server.returncode}\n" + "\n".join(said)
        cpu_s = usage.ru_utime + usage.ru_stime
        took = measure.Usage(wall_s, cpu_s, peak_bytes, server.returncode)
        return measure.Outcome(took, hashlib.sha256(digest).hexdigest(), wrong.strip())


def client(argv, stdin=None):
    """Runs a client to its end and returns what it printed."""
    with open(stdin or os.devnull, "rb") as given:
        return subprocess.run(
            argv, env=measure.BASE, stdin=given, capture_output=True, check=True, timeout=300
        ).stdout


def wait_for(server, socket):
    """Returns once the server answers; raises if it ends, or does not within 30 s."""
    for _ in range(300):
        if server.poll() is not None:
            raise OSError(f"redis-server ended at its start with {server.returncode}")
        shown = subprocess.run([*CLI, str(socket), "PING"], capture_output=True, check=False)
        if shown.stdout == b"PONG\n":
            return
        time.sleep(0.1)
    raise OSError("redis-server does not answer")


def high_water(pid):
    """The largest resident memory so far of a process, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM")
