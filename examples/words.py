"""Indexes the words of Python's own library in a database in memory: for a look at a
program that was never compiled for spanalloc (README.md, "Any program")."""

import collections
import json
import pathlib
import re
import sqlite3

words = re.compile(rb"[a-z_]{3,}")
files = sorted(pathlib.Path(json.__file__).parent.parent.glob("*.py"))
database = sqlite3.connect(":memory:")
database.execute("create table word (file text, word text, count int)")
database.execute("create index by_word on word (word)")
for path in files:
    counts = collections.Counter(words.findall(path.read_bytes().lower()))
    rows = ((path.name, word.decode(), count) for word, count in counts.items())
    database.executemany("insert into word values (?, ?, ?)", rows)

query = "select word, sum(count) from word group by word order by 2 desc limit 5"
print(len(files), "files:", json.dumps(database.execute(query).fetchall()))
