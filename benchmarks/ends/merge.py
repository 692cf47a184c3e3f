"""A peer's file that merges changesets, and a plain one into which the same rows are written: what merging costs.

The origin of the changesets is a third file. Making them is not measured here, but under the figure of folding.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.ends.parent import requests, tell
from benchmarks.ends.rows import SHAPES, Row, Rows, batches, checkpoint, insert, now_ms, opened, timed
from replication.engine.applying import Merged, merge_all
from replication.engine.folding import fold

PREFILLED = {"narrow": 100_000, "counter": 100_000, "wide": 6_000}
MERGED_TOGETHER = 256
"""Of the one-row changesets: half as many as a node merges in a transaction where so many wait."""
UPDATE = "UPDATE t SET c0 = c0 + 1, c1 = ? WHERE k = ?"


class _Cluster:
    """Two nodes' databases with the same rows, and a plain one."""

    def __init__(self, folder: Path, shape: str, prefilled: int) -> None:
        self._shape = SHAPES[shape]
        self._rows = Rows(self._shape, seed=3)
        self._known: list[Row] = []
        self._origin = opened(folder / "origin.db", self._shape, attached=True, site="a")
        self._peer = opened(folder / "peer.db", self._shape, attached=True, site="b")
        self._plain = opened(folder / "plain.db", self._shape, attached=False, site="")
        self._changesets: list[bytes] = []
        self._mirror: Callable[[], None] = lambda: None
        self._count = 0
        for rows in batches(self._rows.some(prefilled), 10_000):
            self._insert(rows, len(rows))
            self.measure("merge")
            self.measure("plain")

    def prepare(self, work: str, count: int, batch: int) -> dict[str, float]:
        """Changes rows at the origin, in changesets of that many, which the others then get."""
        self._count = count
        match work:
            case "insert":
                return self._insert(self._rows.some(count), batch)
            case "update":
                return self._update(count, batch)
            case unknown:
                raise AssertionError(unknown)

    def _insert(self, rows: list[Row], batch: int) -> dict[str, float]:
        self._count = len(rows)
        self._known = (self._known + rows)[-100_000:]
        self._mirror = lambda: insert(self._plain, self._shape, rows, batch=batch)
        return self._fold([(self._shape.insert, some) for some in batches(rows, batch)])

    def _update(self, count: int, batch: int) -> dict[str, float]:
        chosen = self._rows.choice(self._known, count)
        changes: list[Row] = [(float(number), row[0]) for number, row in enumerate(chosen)]
        self._mirror = lambda: _run(self._plain, changes, batch)
        return self._fold([(UPDATE, some) for some in batches(changes, batch)])

    def _fold(self, transactions: list[tuple[str, list[Row]]]) -> dict[str, float]:
        self._changesets = []
        rate = 0.0
        cpu_rate = 0.0
        for sql, rows in transactions:
            self._origin.execute("BEGIN")
            self._origin.executemany(sql, rows)
            self._origin.execute("COMMIT")
            figures = timed(len(rows), self._fold_one)
            rate += len(rows) / figures["rows_per_s"]
            cpu_rate += len(rows) / figures["rows_per_cpu_s"]
        checkpoint(self._origin)
        return {"rows_per_s": self._count / rate, "rows_per_cpu_s": self._count / cpu_rate}

    def _fold_one(self) -> None:
        folded = fold(self._origin, now_ms=now_ms())
        assert folded is not None
        self._changesets.append(folded.encoded)

    def measure(self, who: str) -> dict[str, float]:
        """Merges what was prepared, one changeset per transaction, or together; or writes the same plainly."""
        match who:
            case "merge":
                figures = timed(self._count, lambda: self._merge(1))
                checkpoint(self._peer)
            case "merge together":
                figures = timed(self._count, lambda: self._merge(MERGED_TOGETHER))
                checkpoint(self._peer)
            case "plain":
                figures = timed(self._count, self._mirror)
                checkpoint(self._plain)
            case unknown:
                raise AssertionError(unknown)
        return figures

    def _merge(self, together: int) -> None:
        for start in range(0, len(self._changesets), together):
            outcomes = merge_all(self._peer, self._changesets[start : start + together], now_ms=now_ms())
            assert all(isinstance(outcome, Merged) for outcome in outcomes), outcomes

    def close(self) -> None:
        """Ends, when the two nodes have been found to hold the same."""
        rows = [one.execute("SELECT * FROM t ORDER BY k").fetchall() for one in (self._origin, self._peer, self._plain)]
        assert rows[0] == rows[1] == rows[2]
        for connection in (self._origin, self._peer, self._plain):
            connection.close()


def _run(connection: sqlite3.Connection, changes: list[Row], batch: int) -> None:
    for some in batches(changes, batch):
        connection.execute("BEGIN")
        connection.executemany(UPDATE, some)
        connection.execute("COMMIT")


def _serve(folder: Path) -> None:
    clusters: dict[str, _Cluster] = {}
    try:
        for shape, prefilled in PREFILLED.items():
            place = folder / shape
            place.mkdir()
            clusters[shape] = _Cluster(place, shape, prefilled)
        tell()
        for request in requests():
            cluster = clusters[request["shape"]]
            if request["who"] == "fold":
                tell(**cluster.prepare(request["work"], request["count"], request["batch"]))
            else:
                tell(**cluster.measure(request["who"]))
    finally:
        for cluster in clusters.values():
            cluster.close()


if __name__ == "__main__":
    with TemporaryDirectory(prefix="litecast-bench-") as name:
        _serve(Path(name))
