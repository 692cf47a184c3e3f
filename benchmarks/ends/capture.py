"""Attached tables and plain ones, each in a file of its own, filled alike: what writing to them costs.

What was captured is folded between the measurements, as a node would, and each of them begins with an empty WAL. Rows
that a round updates and deletes are those that it inserted, so that the two sides hold the same at every moment.
"""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.ends.parent import requests, tell
from benchmarks.ends.rows import SHAPES, Row, Rows, batches, checkpoint, insert, now_ms, opened, timed
from replication.engine.folding import fold

PREFILLED = {"narrow": 100_000, "wide": 10_000}
WHOLE = {"narrow": 20_000, "wide": 4_000}
"""Rows of the tables that are updated and deleted whole, by one statement."""
BATCH = 1_000

type _Work = Callable[[sqlite3.Connection], object]


class _Side:
    """An attached or a plain database of a shape."""

    def __init__(self, folder: Path, shape: str, *, attached: bool) -> None:
        folder.mkdir()
        self._folder = folder
        self._shape = SHAPES[shape]
        self._attached = attached
        self._rows = Rows(self._shape, seed=3)
        self._round: list[Row] = []
        self._singles: list[Row] = []
        self._all = self._rows.some(WHOLE[shape])
        self._grown = self._new("grown")
        self._whole = self._new("whole")
        self._fill(self._grown, self._rows.some(PREFILLED[shape]))
        self._fill(self._whole, self._all)

    def measure(self, work: str, count: int) -> dict[str, float]:
        """Does the work, on `count` rows where it is not on all."""
        match work:
            case "insert":
                self._round = self._rows.some(count)
                return self._timed(self._grown, count, self._insert)
            case "update":
                return self._timed(self._grown, count, self._update)
            case "delete":
                return self._timed(self._grown, count, self._delete)
            case "insert each":
                self._singles = self._rows.some(count)
                return self._timed(self._grown, count, self._insert_each)
            case "update each":
                return self._timed(self._grown, count, self._update_each)
            case "insert new":
                rows = self._rows.some(count)
                connection = self._new("new")
                figures = self._timed(connection, count, lambda one: insert(one, self._shape, rows, batch=BATCH))
                connection.close()
                shutil.rmtree(self._folder / "new")
                return figures
            case "update all":
                return self._timed(self._whole, len(self._all), lambda one: one.execute("UPDATE t SET c0 = c0 + 1"))
            case "delete all":  # with a WHERE: without one, and without triggers, SQLite only drops the pages
                figures = self._timed(
                    self._whole, len(self._all), lambda one: one.execute("DELETE FROM t WHERE k > ''")
                )
                self._fill(self._whole, self._all)
                return figures
            case unknown:
                raise AssertionError(unknown)

    def _timed(self, connection: sqlite3.Connection, count: int, work: _Work) -> dict[str, float]:
        figures = timed(count, lambda: work(connection))
        self._settle(connection)
        return figures

    def _insert(self, connection: sqlite3.Connection) -> None:
        insert(connection, self._shape, self._round, batch=BATCH)

    def _update(self, connection: sqlite3.Connection) -> None:
        for batched in batches([(1, *row[2:4], row[0]) for row in self._round], BATCH):
            connection.execute("BEGIN")
            connection.executemany("UPDATE t SET c0 = c0 + ?, c1 = ?, c2 = ? WHERE k = ?", batched)
            connection.execute("COMMIT")

    def _delete(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        connection.executemany("DELETE FROM t WHERE k = ?", [row[:1] for row in self._round])
        connection.execute("COMMIT")

    def _insert_each(self, connection: sqlite3.Connection) -> None:
        for row in self._singles:
            connection.execute(self._shape.insert, row)

    def _update_each(self, connection: sqlite3.Connection) -> None:
        for row in self._singles:
            connection.execute("UPDATE t SET c0 = c0 + 1 WHERE k = ?", row[:1])

    def _new(self, name: str) -> sqlite3.Connection:
        (self._folder / name).mkdir()
        return opened(self._folder / name / "file.db", self._shape, attached=self._attached, site="a")

    def _fill(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        insert(connection, self._shape, rows)
        self._settle(connection)

    def _settle(self, connection: sqlite3.Connection) -> None:
        if self._attached:
            fold(connection, now_ms=now_ms())
        checkpoint(connection)

    def close(self) -> None:
        """End."""
        self._grown.close()
        self._whole.close()


def _serve(folder: Path) -> None:
    sides: dict[tuple[str, bool], _Side] = {}
    try:
        for shape in PREFILLED:
            for attached in (True, False):
                sides[shape, attached] = _Side(folder / f"{shape}-{attached}", shape, attached=attached)
        tell()
        for request in requests():
            tell(**sides[request["shape"], request["attached"]].measure(request["work"], request["count"]))
    finally:
        for side in sides.values():
            side.close()


if __name__ == "__main__":
    with TemporaryDirectory(prefix="litecast-bench-") as name:
        _serve(Path(name))
