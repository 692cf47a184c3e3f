"""What a database takes with Litecast's tables in it, beside the same rows plain: after they were written on one node,
merged on another, and all was trimmed that can be."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import AtMost, Benchmark, Comparison, Contestants, Figures
from benchmarks.throughput import INSERT, SCHEMA, made_up
from replication.engine.applying import merge_all
from replication.engine.attaching import TableChoice, attach
from replication.engine.folding import fold
from replication.engine.stamps import Site
from replication.engine.trimming import trim_journal

WRITER, READER, PLAIN = "where they were written", "where they were merged", "plain"
BATCH = 1_000
NOW_MS = 1_700_000_000_000


def storage(*, quick: bool) -> Benchmark:
    """Bytes in use, by pages that are not free."""
    rows = 220_000 // (10 if quick else 1)
    return Benchmark(
        name="storage",
        title=f"{rows:,} rows of 5 columns, one of them a counter; journal trimmed",
        rounds=1,
        open=partial(_open, rows),
        comparisons=tuple(
            Comparison(subject=who, baseline=PLAIN, figure="used_bytes", target=AtMost(2.5)) for who in (WRITER, READER)
        ),
        warm_up=False,
    )


@contextmanager
def _open(rows: int) -> Iterator[Contestants]:
    with TemporaryDirectory(prefix="litecast-bench-") as folder, ExitStack() as stack:
        plain, writer, reader = (
            stack.enter_context(closing(_made(Path(folder) / f"{number}.db", attached=number > 0)))
            for number in range(3)
        )
        content = made_up(rows)
        for number, at in enumerate(range(0, rows, BATCH), start=1):
            for connection in (plain, writer):
                connection.execute("BEGIN")
                connection.executemany(INSERT, content[at : at + BATCH])
                connection.execute("COMMIT")
            folded = fold(writer, now_ms=NOW_MS + number)
            assert folded is not None
            merge_all(reader, [folded.encoded], now_ms=NOW_MS + number)
        for connection in (writer, reader):
            trim_journal(connection, now_ms=NOW_MS + 10 * rows, max_age_ms=0, max_bytes=0)
        yield {who: partial(_used, one) for who, one in ((PLAIN, plain), (WRITER, writer), (READER, reader))}


def _made(path: Path, *, attached: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(SCHEMA)
    if attached:
        site = Site(f"{abs(hash(path)):032x}")
        attach(connection, [TableChoice(name="big", counters=("n",))], cluster="bench", new_site=lambda: site)
    return connection


def _used(connection: sqlite3.Connection) -> Figures:
    page_size, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return {"used_bytes": float(page_size * (pages - free))}
