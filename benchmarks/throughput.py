"""Three nodes that are written to: how many rows a second until all three have them, beside plain SQLite.

Programs with plain `sqlite3` write, each to a node's file. The clock stops when every file has every row."""

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.child import ChildFailed
from benchmarks.measuring import AtLeast, Benchmark, Comparison, Contestants, Figures
from benchmarks.nodes import Cluster

NAMES = ("alpha", "beta", "gamma")
BATCH = 1_000
ALREADY = 500_000
BATCHES = "batches of 1,000 rows on one of three nodes"
FULL = f"the same with {ALREADY:,} rows there"
SPREAD = "one-row transactions, a program on each of three nodes"
PLAIN_BATCHES = "plain SQLite, one file, the same batches"
PLAIN_SPREAD = "plain SQLite, one file, one program"
EQUAL_WITHIN_S = 120.0
LOOK_S = 0.005
SCHEMA = "CREATE TABLE big (k TEXT PRIMARY KEY NOT NULL, a, b, c, n INTEGER NOT NULL DEFAULT 0)"
INSERT = "INSERT INTO big VALUES (?, ?, ?, ?, ?)"


def throughput(*, quick: bool) -> Benchmark:
    """Rows a second until all three are equal."""
    rows, commits = (20_000, 1_500) if quick else (100_000, 9_000)
    rate = "rows_per_s"
    return Benchmark(
        name="throughput",
        title=f"Three nodes in mode convergent, until all have {rows:,} rows, or {commits:,} in transactions of one",
        rounds=1 if quick else 3,
        open=partial(_open, rows, commits, ALREADY // (25 if quick else 1)),
        comparisons=(
            Comparison(subject=BATCHES, figure=rate, target=AtLeast(30_000)),
            Comparison(subject=BATCHES, baseline=PLAIN_BATCHES, figure=rate),
            Comparison(subject=FULL, figure=rate, target=AtLeast(30_000)),
            Comparison(subject=SPREAD, figure=rate, target=AtLeast(3_000)),
            Comparison(subject=SPREAD, baseline=PLAIN_SPREAD, figure=rate),
        ),
        warm_up=False,
    )


@contextmanager
def _open(rows: int, commits: int, already: int) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as name:
        folder = Path(name)
        seeded, empty = folder / "seeded.db", folder / "empty.db"
        make(seeded, already)
        make(empty, 0)
        clusters = {
            what: Cluster(folder / what, NAMES, mode="convergent", LITECAST_REPLICATION__TABLES__BIG__COUNTERS="n")
            for what in ("empty", "full")
        }
        for what, source in (("empty", empty), ("full", seeded)):
            for place in clusters[what].places.values():
                shutil.copyfile(source, place.database)
        with clusters["empty"].all_running(), clusters["full"].all_running():
            files = {what: [place.database for place in one.places.values()] for what, one in clusters.items()}
            yield {
                PLAIN_BATCHES: partial(_until_all_have, [empty], rows, BATCH),
                BATCHES: partial(_until_all_have, files["empty"], rows, BATCH),
                FULL: partial(_until_all_have, files["full"], rows, BATCH),
                PLAIN_SPREAD: partial(_until_all_have, [empty], commits, 1),
                SPREAD: partial(_until_all_have, files["empty"], commits, 1, writers=len(NAMES)),
            }


def make(path: Path, rows: int) -> None:
    """A database with so many rows, in WAL mode."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(SCHEMA)
        connection.execute("BEGIN")
        connection.executemany(INSERT, made_up(rows))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def made_up(count: int) -> list[tuple[object, ...]]:
    """Rows with random keys."""
    return [(os.urandom(8).hex(), number, f"text {number}", number / 2, number % 7) for number in range(count)]


def _until_all_have(files: Sequence[Path], rows: int, batch: int, *, writers: int = 1) -> Figures:
    wanted = _count(files[0]) + rows
    shares = [made_up(rows // writers + (number < rows % writers)) for number in range(writers)]
    threads = [
        threading.Thread(target=_write, args=(file, share, batch)) for file, share in zip(files, shares, strict=False)
    ]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while any(_count(file) < wanted for file in files):
        if time.monotonic() - began_s > EQUAL_WITHIN_S:
            raise ChildFailed(f"not all had {wanted} rows within {EQUAL_WITHIN_S:g} s")
        time.sleep(LOOK_S)
    return {"rows_per_s": rows / (time.monotonic() - began_s)}


def _write(file: Path, rows: Sequence[tuple[object, ...]], batch: int) -> None:
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        for at in range(0, len(rows), batch):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, rows[at : at + batch])
            connection.execute("COMMIT")


def _count(file: Path) -> int:
    """How many rows there are. Nothing is ever deleted, so the last one's number says it: counting them again and again
    would keep one of the cores busy."""
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as connection:
        (count,) = connection.execute("SELECT max(rowid) FROM big").fetchone()
    return int(count or 0)
