"""What SQLite's own files come to."""

import contextlib
import sqlite3
from pathlib import Path

from replication.convergent.for_file import WAL_KEPT_BYTES, connect


def test_a_wal_that_grew_beside_a_long_reader_is_cut_when_the_reader_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    wal = path.with_name("app.db-wal")
    with contextlib.closing(connect(path)) as engine, contextlib.closing(sqlite3.connect(path)) as reader:
        engine.execute("PRAGMA journal_mode = WAL")
        engine.execute("CREATE TABLE big (body)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM big").fetchall()
        for _ in range(3):
            engine.execute("DELETE FROM big")
            engine.execute("INSERT INTO big VALUES (zeroblob(?))", (WAL_KEPT_BYTES // 2,))
        assert wal.stat().st_size > WAL_KEPT_BYTES
        reader.rollback()
        for _ in range(3):  # the first one still adds to it, and checkpoints
            engine.execute("INSERT INTO big VALUES (1)")
        assert wal.stat().st_size <= WAL_KEPT_BYTES
