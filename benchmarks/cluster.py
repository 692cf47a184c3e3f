"""Nodes as processes: how soon a commit on one can be read on another, up to which rate, and how long joining takes.

Writer and reader are a process of their own, with plain `sqlite3` connections to the two nodes' files: a commit carries
the time of its making, and the reader asks its file every tenth of a millisecond whether something is new.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.child import Child
from benchmarks.measuring import AtLeast, AtMost, Benchmark, Comparison, Contestants, Figures
from benchmarks.nodes import Cluster

LAG = "commit of another process to readable on another node, {rate}/s"
BOUNDED = "rate at which the lag stays bounded"
JOIN = "an empty node joins, from its start until it is ready"
EMPTY = "the same where there is nothing to copy"
COPY = "backup API, one step"
ROWS = 1_000_000
RATES = (1_000, 2_000, 4_000, 8_000)


def lag(*, quick: bool) -> Benchmark:
    """From commit to readable, at a hundred commits a second; and the highest rate that does not drown."""
    count = 200 if quick else 1_000
    steady = LAG.format(rate=100)
    return Benchmark(
        name="lag",
        title="Two nodes in mode convergent on loopback, with a secret",
        rounds=1 if quick else 3,
        open=partial(_open_lag, count, quick),
        comparisons=(
            Comparison(subject=steady, figure="p50_ms", target=AtMost(2)),
            Comparison(subject=steady, figure="p99_ms", target=AtMost(10)),
            Comparison(subject=BOUNDED, figure="commits_per_s", target=AtLeast(2_000)),
            Comparison(subject=BOUNDED, figure="p50_ms"),
            Comparison(subject=BOUNDED, figure="p99_ms"),
        ),
        warm_up=False,
    )


@contextmanager
def _open_lag(count: int, quick: bool) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder:
        cluster = Cluster(Path(folder), ("alpha", "beta"), mode="convergent")
        with cluster.all_running():
            databases = {
                "source": str(cluster.places["alpha"].database),
                "target": str(cluster.places["beta"].database),
            }
            with Child("lag", **databases) as child:
                yield {
                    LAG.format(rate=100): partial(child.ask, rate=100, count=count),
                    BOUNDED: partial(_highest_rate, child, quick),
                }


def _highest_rate(child: Child, quick: bool) -> Figures:
    """The highest of some rates at which the last tenth of the commits lagged no more than the bound below.

    A node that is slower than its writer falls behind by as much as it is slower, each second more."""
    best: Figures = {"commits_per_s": 0.0, "p50_ms": 0.0, "p99_ms": 0.0}
    for rate in RATES:
        found = child.ask(rate=rate, count=rate * (2 if quick else 5))
        if found["end_ms"] > 250 or found["commits_per_s"] < 0.9 * rate:
            break
        best = {name: found[name] for name in best}
    return best


def join(*, quick: bool) -> Benchmark:
    """A node without a database, beside copying the database by the backup API."""
    return Benchmark(
        name="join",
        title=f"Joining a node of {ROWS // (10 if quick else 1):,} rows of 5 columns, as a process of its own",
        rounds=1 if quick else 3,
        open=partial(_open_join, ROWS // (10 if quick else 1)),
        comparisons=(
            Comparison(subject=JOIN, baseline=COPY, figure="seconds", target=AtMost(3)),
            Comparison(subject=EMPTY, baseline=COPY, figure="seconds"),
        ),
        warm_up=False,
    )


@contextmanager
def _open_join(rows: int) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder:
        full = Cluster(
            Path(folder) / "full", ("alpha", "beta"), mode="convergent", LITECAST_REPLICATION__TABLES__BIG__COUNTERS="n"
        )
        empty = Cluster(Path(folder) / "empty", ("alpha", "beta"), mode="convergent")
        _fill(full.places["alpha"].database, rows)
        with full.running("alpha") as one, empty.running("alpha") as other:
            full.wait_until_ready("alpha", one, peers=0)
            empty.wait_until_ready("alpha", other, peers=0)
            yield {
                COPY: partial(_copy, full.places["alpha"].database, Path(folder) / "copy.db"),
                JOIN: partial(_join, full),
                EMPTY: partial(_join, empty),
            }


def _fill(path: Path, rows: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("CREATE TABLE big (k TEXT PRIMARY KEY NOT NULL, a, b, c, n INTEGER NOT NULL DEFAULT 0)")
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO big VALUES (?, ?, ?, ?, ?)",
            ((os.urandom(8).hex(), number, f"text {number}", number / 2, number % 7) for number in range(rows)),
        )
        connection.execute("COMMIT")


def _copy(source: Path, target: Path) -> Figures:
    began_s = time.monotonic()
    with closing(sqlite3.connect(source)) as connection, closing(sqlite3.connect(target)) as copy:
        connection.backup(copy, pages=-1)
    taken_s = time.monotonic() - began_s
    target.unlink()
    return {"seconds": taken_s}


def _join(cluster: Cluster) -> Figures:
    place = cluster.places["beta"]
    shutil.rmtree(place.folder)
    place.database.parent.mkdir(parents=True)
    began_s = time.monotonic()
    with cluster.running("beta") as node:
        cluster.wait_until_ready("beta", node, peers=1)
        return {"seconds": time.monotonic() - began_s}
