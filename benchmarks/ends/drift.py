"""Two databases with the same rows, one of them attached, and what it takes to say what they hold."""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.ends.parent import requests, settings, tell
from benchmarks.ends.rows import SHAPES, Rows, checkpoint, insert, now_ms, opened, timed
from replication.engine.comparable import DigestTable
from replication.engine.digesting import BATCH_ROWS, digest
from replication.engine.folding import fold
from replication.engine.scanning import scan
from replication.engine.sites import vector

T = DigestTable(name="t")


def _serve(folder: Path, count: int) -> None:
    shape = SHAPES["narrow"]
    rows = Rows(shape, seed=5).some(count)
    plain = opened(folder / "plain.db", shape, attached=False, site="a")
    attached = opened(folder / "attached.db", shape, attached=True, site="a")
    for connection in (plain, attached):
        insert(connection, shape, rows)
    fold(attached, now_ms=now_ms())
    for connection in (plain, attached):
        checkpoint(connection)
    delivered = {site: head.stamp for site, head in vector(attached).items()}

    def read() -> None:
        cursor = plain.execute("SELECT * FROM t")
        while cursor.fetchmany(BATCH_ROWS):
            pass

    works = {
        "read": read,
        "plain": lambda: digest(plain, [T]),
        "delivered": lambda: digest(attached, [T], covered=delivered),
        "new": lambda: digest(attached, [T]),
        "scan": lambda: scan(attached, "t"),
    }
    tell()
    for request in requests():
        tell(**timed(count, works[request["work"]]))
    for connection in (plain, attached):
        connection.close()


if __name__ == "__main__":
    with TemporaryDirectory(prefix="litecast-bench-") as name:
        _serve(Path(name), settings()["rows"])
