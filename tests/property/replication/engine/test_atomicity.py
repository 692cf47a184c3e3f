"""Who reads a database that merges sees all of a transaction or nothing of it."""

import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication.engine import deciding, showing
from replication.engine.applying import Merged
from replication.engine.showing import Refusals, RowWrites
from replication.engine.table import Table as AttachedTable
from tests.support.replicas import START_MS, Replica, attach_file, choices, fast_folder, new_site
from tests.support.sql_schema import NAMES, Table, values

LEFT = Table(
    name="l",
    create="CREATE TABLE l (id TEXT PRIMARY KEY NOT NULL, v, n INTEGER NOT NULL DEFAULT 0)",
    key={"id": NAMES},
    cells={"v": values},
)
RIGHT = Table(
    name="r",
    create="CREATE TABLE r (id TEXT PRIMARY KEY NOT NULL, v, n INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    key={"id": NAMES},
    cells={"v": values},
)
# In every state that a transaction leaves: both tables hold the same rows.
BROKEN = """SELECT (SELECT count(*) FROM (SELECT id, v, n FROM l EXCEPT SELECT id, v, n FROM r))
    + (SELECT count(*) FROM (SELECT id, v, n FROM r EXCEPT SELECT id, v, n FROM l))"""
CHANGESETS = 120

# Reads until its input ends, then says what it saw: reads, reads that saw half a transaction, different states.
READER = f"""
import select, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
reads = broken = 0
seen = set()
print("reading", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    connection.execute("BEGIN")
    left = connection.execute("SELECT id, v, n FROM l ORDER BY id").fetchall()
    right = connection.execute("SELECT id, v, n FROM r ORDER BY id").fetchall()
    connection.execute("COMMIT")
    reads += 1
    broken += left != right
    broken += connection.execute({BROKEN!r}).fetchone()[0] > 0
    seen.add(tuple(left))
connection.close()
print(reads, broken, len(seen))
"""


def create(connection: sqlite3.Connection) -> None:
    connection.execute(LEFT.create)
    connection.execute(RIGHT.create)


class Origin:
    """Writes transactions that touch both tables alike; folds some of them together."""

    def __init__(self, path: Path) -> None:
        attach_file(path, create, choices([LEFT, RIGHT]), new_site(random.Random(1)))
        self.replica = Replica(path)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.rng = random.Random(2)
        self.written = 0

    def close(self) -> None:
        self.connection.close()
        self.replica.close()

    def changesets(self) -> Iterator[bytes]:
        for number in range(CHANGESETS):
            for _ in range(self.rng.choice((1, 1, 3))):
                self._transaction()
            folded = self.replica.fold(START_MS + number)
            if folded is not None:
                yield folded.encoded

    def _transaction(self) -> None:
        self.written += 1
        ids = self.rng.sample(range(30), 12)
        self.connection.execute("BEGIN")
        for table in ("l", "r"):
            for number in ids[:8]:
                self.connection.execute(
                    f"INSERT INTO {table} (id, v, n) VALUES (?, ?, 1) "
                    "ON CONFLICT (id) DO UPDATE SET v = excluded.v, n = n + 1",
                    (f"{number:02}", self.written),
                )
            self.connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(f"{number:02}",) for number in ids[8:]])
        self.connection.execute("COMMIT")


class Merging:
    """The database that readers read."""

    def __init__(self, path: Path) -> None:
        attach_file(path, create, choices([LEFT, RIGHT]), new_site(random.Random(3)))
        self.replica = Replica(path)
        # Readers may hold the file for a moment when a checkpoint is due.
        self.replica.engine.execute("PRAGMA busy_timeout = 5000")

    def merge(self, origin: Origin) -> None:
        for number, encoded in enumerate(origin.changesets()):
            assert isinstance(self.replica.merge(encoded, START_MS + number), Merged)


@pytest.fixture
def files() -> Iterator[tuple[Origin, Merging]]:
    with fast_folder() as folder:
        origin, merging = Origin(folder / "origin.db"), Merging(folder / "merging.db")
        yield origin, merging
        origin.close()
        merging.replica.close()


def test_another_process_never_sees_half_a_transaction(files: tuple[Origin, Merging]) -> None:
    origin, merging = files
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(merging.replica.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
        merging.merge(origin)
        told, _ = reader.communicate("", timeout=30)
    reads, broken, states = map(int, told.split())
    assert broken == 0, "half a transaction was seen"
    assert reads > 5
    assert states > 2, "it read before or after, but never while changesets were merged"


def test_a_merge_that_commits_table_by_table_is_noticed(
    files: tuple[Origin, Merging], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader would see it: without one transaction around all, the test above fails."""
    write_rows = showing.write_rows

    def in_pieces(table: AttachedTable, writes: RowWrites, *, in_haste: bool) -> Refusals:
        try:
            return write_rows(table, writes, in_haste=in_haste)
        finally:
            table.connection.execute("COMMIT")
            table.connection.execute("BEGIN IMMEDIATE")

    monkeypatch.setattr(deciding, "write_rows", in_pieces)
    with pytest.raises(AssertionError, match="half"):
        test_another_process_never_sees_half_a_transaction(files)


def test_another_thread_never_sees_half_a_transaction(files: tuple[Origin, Merging]) -> None:
    origin, merging = files
    done, reading = threading.Event(), threading.Event()
    broken: list[int] = []

    def read() -> None:
        connection = sqlite3.connect(merging.replica.path, isolation_level=None)
        while not done.is_set():
            broken.extend(connection.execute(BROKEN).fetchone())
            reading.set()
        connection.close()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        assert reading.wait(10)
        merging.merge(origin)
    finally:
        done.set()
        thread.join()
    assert len(broken) > 5
    assert not any(broken)
