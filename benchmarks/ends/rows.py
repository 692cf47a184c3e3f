"""Tables and rows that the engine is measured with: random keys, a growing file, the same rows for all contestants."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter_ns, process_time_ns, time_ns

from replication.engine.attaching import TableChoice, attach
from replication.engine.stamps import Site

NARROW_COLUMNS = 4
WIDE_COLUMNS = 99
CLUSTER = "c" * 32
INSERT_BATCH = 1_000

type Row = tuple[str | int | float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A table `t`: a text key of 16 hex digits, and columns c0, c1, ...; the first is an integer."""

    columns: int
    counter: bool = False

    @property
    def create(self) -> str:
        """What makes the table."""
        rest = ", ".join(f"c{number} {('TEXT', 'REAL', 'INTEGER')[number % 3]}" for number in range(1, self.columns))
        return f"CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL, c0 INTEGER NOT NULL, {rest})"

    @property
    def insert(self) -> str:
        """Key, then all columns."""
        return f"INSERT INTO t VALUES ({', '.join('?' * (1 + self.columns))})"

    @property
    def choice(self) -> TableChoice:
        """How it is attached."""
        return TableChoice(name="t", counters=("c0",) if self.counter else ())


SHAPES = {
    "narrow": Shape(columns=NARROW_COLUMNS),
    "counter": Shape(columns=NARROW_COLUMNS, counter=True),
    "wide": Shape(columns=WIDE_COLUMNS),
}


class Rows:
    """Rows with keys that were not there before, the same ones in each run with this seed."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self._shape = shape
        self._random = Random(seed)

    def some(self, count: int) -> list[Row]:
        """New rows, in no order."""
        draw, columns = self._random, range(1, self._shape.columns)
        return [(f"{draw.getrandbits(64):016x}", 0, *(self._value(column) for column in columns)) for _ in range(count)]

    def choice(self, rows: list[Row], count: int) -> list[Row]:
        """So many of these rows, each once, in no order."""
        return self._random.sample(rows, count)

    def _value(self, column: int) -> str | int | float:
        draw = self._random
        match column % 3:
            case 0:
                return f"{draw.getrandbits(40):x}"
            case 1:
                return draw.random()
            case _:
                return draw.getrandbits(20)


def opened(path: Path, shape: Shape, *, attached: bool, site: str) -> sqlite3.Connection:
    """A new database with the table; attached, if it is to be."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(shape.create)
    if attached:
        attach(connection, [shape.choice], cluster=CLUSTER, new_site=lambda: Site(site * 32))
    return connection


def insert(connection: sqlite3.Connection, shape: Shape, rows: list[Row], *, batch: int = INSERT_BATCH) -> None:
    """Writes rows, a transaction for each batch."""
    for batched in batches(rows, batch):
        connection.execute("BEGIN")
        connection.executemany(shape.insert, batched)
        connection.execute("COMMIT")


def batches(rows: list[Row], size: int) -> Iterator[list[Row]]:
    """Rows in lists of that many."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def checkpoint(connection: sqlite3.Connection) -> None:
    """Every measurement begins with an empty WAL."""
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time_ns() // 1_000_000


def timed(count: int, work: Callable[[], object]) -> dict[str, float]:
    """Runs it. How many a second of the clock, and of the processor."""
    began_ns, began_cpu_ns = perf_counter_ns(), process_time_ns()
    work()
    took_ns, took_cpu_ns = perf_counter_ns() - began_ns, process_time_ns() - began_cpu_ns
    return {"rows_per_s": count * 1e9 / took_ns, "rows_per_cpu_s": count * 1e9 / took_cpu_ns}
