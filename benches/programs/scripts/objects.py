"""Objects, strings, trees and threads as Python programs hold them.

Usage: objects.py ROUNDS
"""

import hashlib
import json
import random
import re
import sqlite3
import sys
import threading
import zlib
from collections import OrderedDict, deque
from decimal import Decimal
from xml.etree import ElementTree


class Node:
    """A node of an unbalanced search tree."""

    def __init__(self, key):
        self.key, self.left, self.right, self.notes = key, None, None, []


def tree(rng, size):
    """Builds a tree and returns the sum over a walk."""
    root = Node(rng.random())
    for _ in range(size):
        key, at = rng.random(), root
        while True:
            at.notes.append(len(at.notes) % 3 and str(key)) if len(at.notes) < 4 else None
            side = "left" if key < at.key else "right"
            below = getattr(at, side)
            if below is None:
                setattr(at, side, Node(key))
                break
            at = below
    total, todo = 0, [root]
    while todo:
        at = todo.pop()
        if at is not None:
            total += len(at.notes)
            todo += [at.left, at.right]
    return total


def work(seed, rounds, results):
    """One thread's work; its digest goes to `results[seed]`."""
    rng, digest = random.Random(seed), hashlib.sha256()
    recent = deque(maxlen=20)
    for step in range(rounds):
        rows = [
            {"id": i, "name": f"n{rng.randrange(9999)}", "tags": [rng.randrange(99)] * (i % 5)}
            for i in range(1500)
        ]
        text = json.dumps(rows)
        recent.append(zlib.compress(text.encode(), 1))
        index = OrderedDict()
        for row in json.loads(text):
            index.setdefault(row["name"], []).append(row["id"])
        joined = "\n".join(f"{name}={ids}" for name, ids in sorted(index.items()))
        words = re.findall(r"n(\d+)=\[(\d+)", joined)
        digest.update(joined.encode() + bytes(len(words) % 251))
        root = ElementTree.Element("rows")
        for name, ids in index.items():
            ElementTree.SubElement(root, "row", {"name": name}).text = str(ids)
        digest.update(ElementTree.tostring(ElementTree.fromstring(ElementTree.tostring(root))))
        with sqlite3.connect(":memory:") as database:
            database.execute("CREATE TABLE t(id INTEGER, name TEXT, tags BLOB)")
            filled = ((row["id"], row["name"], bytes(row["tags"])) for row in rows)
            database.executemany("INSERT INTO t VALUES(?, ?, ?)", filled)
            found = database.execute("SELECT name, count(*), max(tags) FROM t GROUP BY 1 ORDER BY 1")
            digest.update(str(found.fetchall()).encode())
        digest.update(str(tree(rng, 1500)).encode())
        digest.update(str(sum(Decimal(row["id"]) / 7 for row in rows)).encode())
        digest.update(bytes(bytearray(rng.randrange(200_000))) + recent[step % len(recent)])
    results[seed] = digest.hexdigest()


def main():
    """Two threads after one another and two at once."""
    rounds, results = int(sys.argv[1]), {}
    work(0, rounds, results)
    threads = [threading.Thread(target=work, args=(s, rounds, results)) for s in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(results, sort_keys=True))


main()
