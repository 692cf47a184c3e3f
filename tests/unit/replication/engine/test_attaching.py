"""Attach and detach: what is there in between, and that nothing is there afterwards."""

import re
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from replication.engine import capture, catalogue, state
from replication.engine.applying import Merged, merge
from replication.engine.attaching import AttachReport, TableChoice, attach, detach, is_attached
from replication.engine.catalogue import MergeRule
from replication.engine.detaching import NotAttached
from replication.engine.folding import fold
from replication.engine.mending import mend
from replication.engine.refusals import AttachRefused
from replication.engine.stamps import Site
from replication.repo import Repo

CLUSTER = "shop"
NOW_MS = 1_700_000_000_000
SCHEMA = """
    BEGIN;
    CREATE TABLE "odd name" (k TEXT PRIMARY KEY NOT NULL, v, n INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, v);
    CREATE TABLE t (k BLOB, w, v, n INT NOT NULL DEFAULT 0, g AS (n + 1), PRIMARY KEY (k, w)) WITHOUT ROWID;
    CREATE TABLE plain (x);
    CREATE VIRTUAL TABLE words USING fts5 (body);
    CREATE INDEX i ON t (v);
    CREATE VIEW seen AS SELECT k, v FROM t;
    CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO "odd name" (k) VALUES (new.k || random()); END;
    INSERT INTO "odd name" VALUES ('a', x'00ff', 7), ('b', 1e300, 8), ('c', NULL, 9);
    INSERT INTO t (k, w, n) VALUES (x'01', 'w', 3);
    INSERT INTO numbered (v) VALUES (1), (2);
    INSERT INTO plain VALUES (1), (CAST(x'ff' AS TEXT));
    INSERT INTO words VALUES ('some words');
    ANALYZE;
    COMMIT;
"""
CHOICES = (
    TableChoice(name="odd name", counters=("n",)),
    TableChoice(name="t", counters=("n",), rule=MergeRule.ROW),
    TableChoice(name="numbered", shared_ids=True),
)

type Connect = Callable[..., sqlite3.Connection]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    connections: list[sqlite3.Connection] = []

    def connect_to(name: str = "a.db", timeout: float = 0) -> sqlite3.Connection:
        connections.append(sqlite3.connect(tmp_path / name, isolation_level=None, timeout=timeout))
        return connections[-1]

    yield connect_to
    for connection in connections:
        connection.close()


@pytest.fixture
def connection(connect: Connect) -> sqlite3.Connection:
    connection = connect()
    connection.executescript(SCHEMA)
    return connection


def attached(connection: sqlite3.Connection, *choices: TableChoice, site: str = "1") -> AttachReport:
    return attach(connection, choices or CHOICES, cluster=CLUSTER, new_site=lambda: Site(site * 32))


def ours(connection: sqlite3.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%litecast%' OR sql LIKE '%litecast%'")
    return [name for (name,) in found]


def dumps(connection: sqlite3.Connection) -> tuple[list[str], str]:
    """Python's dump, and that of the sqlite3 shell where there is one."""
    (path,) = connection.execute("SELECT file FROM pragma_database_list").fetchone()
    connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
    python = list(connection.iterdump())
    shell = shutil.which("sqlite3")
    if shell is None:
        return python, ""
    return python, subprocess.run([shell, path, ".dump"], capture_output=True, check=True).stdout.decode("latin-1")


def changes(connection: sqlite3.Connection) -> tuple[object, ...]:
    """What moves with anything that is written."""
    found = connection.execute("SELECT * FROM pragma_data_version, pragma_schema_version").fetchone()
    return (*found, connection.total_changes)


def test_attach_makes_state_triggers_and_the_baseline(connection: sqlite3.Connection) -> None:
    report = attached(connection)
    assert [(table.name, table.counters, table.rows) for table in report.tables] == [
        ("odd name", ("n",), 4),
        ("t", ("n",), 1),
        ("numbered", (), 2),
    ]
    assert (report.cluster, report.journal_mode_found) == (CLUSTER, "delete")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    specs = catalogue.load(connection)
    assert list(specs) == ["odd name", "t", "numbered"]
    assert (specs["t"].key, specs["t"].cells, specs["t"].rule) == (("k", "w"), ("v",), MergeRule.ROW)
    assert all(capture.is_complete(connection, spec) for spec in specs.values())
    for spec in specs.values():
        (entries,) = connection.execute(f"SELECT count(*) FROM {spec.clock}").fetchone()
        assert entries == {"odd name": 4, "t": 1, "numbered": 2}[spec.name]
    found = state.read(connection)
    assert found is not None
    assert (found.cluster, found.site) == (CLUSTER, "1" * 32)
    assert fold(connection, now_ms=NOW_MS) is None


def test_detach_leaves_the_dump_and_the_journal_mode_of_before(connection: sqlite3.Connection) -> None:
    before = dumps(connection)
    for _ in range(2):
        attached(connection)
        fold(connection, now_ms=NOW_MS)
        report = detach(connection)
        assert report.tables == ("odd name", "t", "numbered")
        assert (report.journal_mode, report.journal_mode_wanted) == ("delete", "delete")
        assert not is_attached(connection)
        assert ours(connection) == []
        assert dumps(connection) == before
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_detach_leaves_nothing_in_sqlites_own_tables(connection: sqlite3.Connection) -> None:
    sequence = connection.execute("SELECT * FROM sqlite_sequence").fetchall()
    attached(connection)
    connection.execute("""UPDATE "odd name" SET n = n + 1""")
    fold(connection, now_ms=NOW_MS)
    connection.execute("ANALYZE")
    assert connection.execute("SELECT count(*) > 0 FROM sqlite_stat1 WHERE tbl LIKE '_litecast%'").fetchone() == (1,)
    detach(connection)
    assert connection.execute("SELECT * FROM sqlite_stat1 WHERE tbl LIKE '_litecast%'").fetchall() == []
    assert connection.execute("SELECT * FROM sqlite_sequence").fetchall() == sequence


def test_a_database_that_was_in_wal_mode_stays_so(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    assert attached(connection).journal_mode_found == "wal"
    assert detach(connection).journal_mode == "wal"


def test_rows_written_while_attached_stay(connection: sqlite3.Connection) -> None:
    attached(connection)
    connection.execute("""INSERT INTO "odd name" (k) VALUES ('new')""")
    connection.execute("""DELETE FROM "odd name" WHERE k = 'a'""")
    fold(connection, now_ms=NOW_MS)
    connection.execute("""UPDATE "odd name" SET n = 70 WHERE k = 'b'""")
    rows = connection.execute("""SELECT * FROM "odd name" ORDER BY k""").fetchall()
    detach(connection)
    assert connection.execute("""SELECT * FROM "odd name" ORDER BY k""").fetchall() == rows


def test_attaching_what_is_attached_writes_nothing(connection: sqlite3.Connection, connect: Connect) -> None:
    attached(connection)
    other = connect()
    before, journal = changes(other), dumps(connection)
    report = attached(connection)
    assert [table.was_attached for table in report.tables] == [True] * 3
    assert changes(other) == before
    assert dumps(connection) == journal


def test_another_merge_rule_can_be_chosen_later(connection: sqlite3.Connection) -> None:
    attached(connection)
    attached(connection, TableChoice(name="t", counters=("n",)))
    assert catalogue.load(connection)["t"].rule is MergeRule.CELL


def test_a_rule_that_a_check_forbids_is_refused_later_too(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE c (id TEXT PRIMARY KEY NOT NULL, a, b, CHECK (a < b))")
    attached(connection, TableChoice(name="c", rule=MergeRule.ROW))
    with pytest.raises(AttachRefused):
        attached(connection, TableChoice(name="c"))
    assert catalogue.load(connection)["c"].rule is MergeRule.ROW


def test_a_table_can_be_attached_and_detached_beside_others(connection: sqlite3.Connection) -> None:
    attached(connection, TableChoice(name="numbered", shared_ids=True))
    site = state.read(connection)
    connection.execute("INSERT INTO numbered VALUES (9, 'nine')")
    connection.execute("CREATE TABLE late (id TEXT PRIMARY KEY NOT NULL)")
    connection.execute("INSERT INTO late VALUES ('a'), ('b')")
    report = attached(connection, TableChoice(name="late"), site="2")
    assert [(table.name, table.rows) for table in report.tables] == [("late", 2)]
    found = state.read(connection)
    assert found is not None
    assert site is not None
    assert found.site == site.site
    assert connection.execute("SELECT k0 FROM _litecast_log_1").fetchall() == [(9,)]
    detach(connection, ["NUMBERED"])
    assert list(catalogue.load(connection)) == ["late"]
    assert [name for name in ours(connection) if re.match("_litecast.*_1(_|$)", name)] == []
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    detach(connection, ["late"])
    assert ours(connection) == []


def test_what_is_not_attached_cannot_be_detached(connection: sqlite3.Connection) -> None:
    with pytest.raises(NotAttached, match="table t is not attached; nothing of this database is"):
        detach(connection, ["t"])
    assert detach(connection).tables == ()
    attached(connection)
    before = dumps(connection)
    with pytest.raises(NotAttached, match="table plain is not attached; attached are odd name, t, numbered"):
        detach(connection, ["t", "plain"])
    assert dumps(connection) == before


def test_a_table_that_was_dropped_or_rebuilt_with_another_key_can_be_detached_and_attached(
    connection: sqlite3.Connection,
) -> None:
    attached(connection)
    connection.execute("DROP TABLE numbered")
    connection.execute("CREATE TABLE numbered (a NOT NULL, b NOT NULL, PRIMARY KEY (a, b))")
    assert "numbered" not in catalogue.load(connection)
    connection.execute("INSERT INTO numbered VALUES (1, 2)")
    assert attached(connection, TableChoice(name="numbered")).tables[0].rows == 1
    connection.execute("UPDATE numbered SET b = 3")
    assert sorted(connection.execute("SELECT kind, k0, k1 FROM _litecast_log_3")) == [(2, 1, 2), (2, 1, 3)]
    connection.execute("DROP TABLE t")
    detach(connection)
    assert ours(connection) == []


def test_a_renamed_table_can_be_detached_under_its_new_name(connection: sqlite3.Connection) -> None:
    attached(connection)
    connection.execute("ALTER TABLE numbered RENAME TO counted")
    assert detach(connection, ["counted"]).tables == ("counted",)
    assert list(catalogue.load(connection)) == ["odd name", "t"]


def test_foreign_keys_and_checks_are_enforced_as_before(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    attached(connection)
    detach(connection)
    settings = connection.execute("SELECT * FROM pragma_foreign_keys, pragma_ignore_check_constraints").fetchone()
    assert settings == (1, 0)
    assert connection.getconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER)


def test_what_the_connection_makes_of_rows_and_text_is_no_matter(connection: sqlite3.Connection) -> None:
    before = dumps(connection)
    connection.row_factory, connection.text_factory = sqlite3.Row, bytes
    attached(connection)
    attached(connection)
    assert detach(connection, ["T"]).journal_mode == "wal"
    assert detach(connection).journal_mode == "delete"
    assert (connection.row_factory, connection.text_factory) == (sqlite3.Row, bytes)
    connection.row_factory = None
    assert dumps(connection) == before


@pytest.mark.parametrize("step", [attached, detach])
def test_an_open_transaction_is_not_committed_by_accident(
    connection: sqlite3.Connection, step: Callable[[sqlite3.Connection], object]
) -> None:
    connection.execute("BEGIN")
    connection.execute("INSERT INTO plain VALUES (2)")
    with pytest.raises(RuntimeError, match="a transaction is open"):
        step(connection)
    connection.execute("ROLLBACK")


def test_an_attach_that_fails_half_way_leaves_everything_as_it_was(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    before = dumps(connection)
    monkeypatch.setattr("replication.engine.baseline.take", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        attached(connection)
    assert dumps(connection) == before
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_locked_database_is_busy_and_stays_as_it_is(connection: sqlite3.Connection, connect: Connect) -> None:
    writer = connect()
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        attached(connection)
    writer.execute("COMMIT")
    assert ours(connection) == []
    attached(connection)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        detach(connection)
    writer.execute("COMMIT")
    assert is_attached(connection)


def test_what_others_write_during_attach_is_in_the_baseline_or_in_the_log(
    connection: sqlite3.Connection, connect: Connect, tmp_path: Path
) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    over = threading.Event()
    written: list[int] = []

    def write() -> None:
        with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=10)) as writer:
            for number in range(100, 100_000):
                writer.execute("INSERT INTO numbered VALUES (?, 'other')", (number,))
                written.append(number)
                if over.wait(0.002):
                    return

    thread = threading.Thread(target=write)
    thread.start()
    try:
        patient = connect(timeout=10)
        attached(patient)
        count = len(written)
        while len(written) < count + 5:
            pass
    finally:
        over.set()
        thread.join()
    baseline = {key for (key,) in patient.execute("SELECT k0 FROM _litecast_clock_3")}
    logged = {key for (key,) in patient.execute("SELECT k0 FROM _litecast_log_3")}
    assert baseline.isdisjoint(logged)
    assert baseline | logged == {1, 2, *written}


async def test_a_repo_that_has_the_file_open_goes_on(tmp_path: Path, connect: Connect) -> None:
    async with Repo(tmp_path / "a.db") as repo:
        await repo.migrate(["CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, views INTEGER NOT NULL)"])
        await repo.insert("pages", {"page": "a", "views": 1})
        other = connect(timeout=5)
        before = dumps(other)
        attached(other, TableChoice(name="pages", counters=("views",)))
        await repo.update("pages", "a", {"views": 2})
        await repo.insert("pages", {"page": "b", "views": 1})
        assert other.execute("SELECT kind, k0 FROM _litecast_log_1 ORDER BY seq").fetchall() == [(2, "a"), (1, "b")]
        assert await repo.get("pages", "b") == {"page": "b", "views": 1}
        folded = fold(other, now_ms=NOW_MS)
        assert folded is not None
        assert folded.rows == 2
        detach(other)
        await repo.delete("pages", "b")
        await repo.update("pages", "a", {"views": 1})
        assert await repo.get("pages", "a") == {"page": "a", "views": 1}
        assert dumps(other) == before
    async with Repo(tmp_path / "a.db") as repo:
        assert await repo.migrate(["CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, views INTEGER NOT NULL)"]) == 0


async def test_a_repo_opens_a_database_that_is_attached(tmp_path: Path, connection: sqlite3.Connection) -> None:
    attached(connection)
    async with Repo(tmp_path / "a.db") as repo:
        await repo.update("odd name", "a", {"n": 8})
    found = state.read(connection)
    assert found is not None
    assert found.site == "1" * 32
    assert connection.execute("SELECT k0 FROM _litecast_log_1").fetchall() == [("a",)]


def test_databases_in_memory_can_be_attached() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(SCHEMA)
        assert attached(connection).journal_mode_found == "memory"
        connection.execute("UPDATE t SET n = n + 1")
        assert fold(connection, now_ms=NOW_MS) is not None
        detach(connection)
        assert ours(connection) == []


def test_nothing_in_the_schema_is_younger_than_sqlite_3_35(connection: sqlite3.Connection) -> None:
    attached(connection)
    texts = [
        sql
        for name, sql in connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        if name.startswith("_litecast")
    ]
    assert len(texts) > 20
    young = re.compile(
        r"\b(STRICT|RAISE|DISTINCT FROM|FULL|RIGHT|unixepoch|subsec|format\()|->|pragma_|json", re.IGNORECASE
    )
    assert [sql for sql in texts if young.search(re.sub(r"\bformat\b(?!\()", "", sql))] == []


LOCAL = """
    CREATE TABLE docs (id TEXT PRIMARY KEY NOT NULL, body TEXT);
    CREATE VIRTUAL TABLE found USING fts5 (body, content = docs);
    CREATE TRIGGER added AFTER INSERT ON docs BEGIN INSERT INTO found (rowid, body) VALUES (new.rowid, new.body); END;
    CREATE TRIGGER gone AFTER DELETE ON docs
    BEGIN INSERT INTO found (found, rowid, body) VALUES ('delete', old.rowid, old.body); END;
    CREATE TRIGGER changed AFTER UPDATE ON docs BEGIN
        INSERT INTO found (found, rowid, body) VALUES ('delete', old.rowid, old.body);
        INSERT INTO found (rowid, body) VALUES (new.rowid, new.body);
    END;
"""


def test_a_full_text_index_is_kept_up_by_its_triggers_on_every_node(connect: Connect) -> None:
    ends = [connect("a.db"), connect("b.db")]
    for end, site in zip(ends, "12", strict=True):
        end.executescript(LOCAL)
        (table,) = attached(end, TableChoice(name="docs"), site=site).tables
        assert table.local_triggers
    here, there = ends
    for write in (
        "INSERT INTO docs VALUES ('a', 'first words'), ('b', 'second words')",
        "UPDATE docs SET body = 'third words' WHERE id = 'a'",
        "DELETE FROM docs WHERE id = 'b'",
    ):
        here.execute(write)
        folded = fold(here, now_ms=NOW_MS)
        assert folded is not None
        assert isinstance(merge(there, folded.encoded, now_ms=NOW_MS), Merged)
    for word in ("first", "second", "third"):
        counts = [end.execute("SELECT count(*) FROM found WHERE found MATCH ?", (word,)).fetchone() for end in ends]
        assert counts == [(int(word == "third"),)] * 2
    for end in ends:
        end.execute("INSERT INTO found (found) VALUES ('integrity-check')")
        assert fold(end, now_ms=NOW_MS) is None


def test_triggers_become_captured_when_what_they_write_is_attached(connection: sqlite3.Connection) -> None:
    connection.executescript(
        "CREATE TABLE a (k TEXT PRIMARY KEY NOT NULL); CREATE TABLE b (k TEXT PRIMARY KEY NOT NULL);"
        "CREATE TRIGGER ab AFTER INSERT ON a BEGIN INSERT INTO b VALUES (new.k); END"
    )
    assert attached(connection, TableChoice(name="a")).tables[0].local_triggers
    attached(connection, TableChoice(name="b"))
    specs = catalogue.load(connection)
    assert not specs["a"].local_triggers
    assert all(capture.is_complete(connection, spec) for spec in specs.values())
    detach(connection, ["b"])
    assert catalogue.load(connection)["a"].local_triggers
    assert capture.is_complete(connection, catalogue.load(connection)["a"])


def test_detaching_what_leaves_a_mixture_is_refused(connection: sqlite3.Connection) -> None:
    connection.executescript(
        "CREATE TABLE a (k TEXT PRIMARY KEY NOT NULL); CREATE TABLE b (k TEXT PRIMARY KEY NOT NULL);"
        "CREATE TRIGGER ab AFTER INSERT ON a BEGIN INSERT INTO b VALUES (new.k); DELETE FROM a WHERE k = 'no'; END"
    )
    attached(connection, TableChoice(name="a"), TableChoice(name="b"))
    before = dumps(connection)
    with pytest.raises(AttachRefused, match="table a: some of its triggers"):
        detach(connection, ["b"])
    assert dumps(connection) == before


def test_mending_puts_triggers_back_and_says_which_tables_lacked_them(connection: sqlite3.Connection) -> None:
    attached(connection)
    assert mend(connection).uncaptured == frozenset()
    connection.execute("DROP TRIGGER _litecast_3_key")
    connection.execute("DROP TRIGGER g")
    connection.execute("CREATE TABLE new (k TEXT PRIMARY KEY NOT NULL, v, n INTEGER NOT NULL DEFAULT 0)")
    connection.execute('DROP TABLE "odd name"')
    connection.execute('ALTER TABLE new RENAME TO "odd name"')
    assert mend(connection).uncaptured == {"odd name", "numbered"}
    assert all(capture.is_complete(connection, spec) for spec in catalogue.load(connection).values())
    assert mend(connection).uncaptured == frozenset()


@pytest.mark.parametrize("triggers_on", [True, False])
def test_mending_gates_capture_when_the_application_adds_a_local_trigger(
    connection: sqlite3.Connection, triggers_on: bool
) -> None:
    attached(connection)
    connection.execute("CREATE TRIGGER added AFTER INSERT ON numbered BEGIN INSERT INTO plain VALUES (new.id); END")
    connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, triggers_on)
    assert mend(connection).uncaptured == frozenset()
    assert connection.getconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER) is triggers_on
    spec = catalogue.load(connection)["numbered"]
    assert spec.local_triggers
    assert capture.is_complete(connection, spec)
    connection.execute("CREATE TRIGGER both AFTER INSERT ON numbered BEGIN DELETE FROM t; END")
    assert mend(connection).mixed == {"numbered"}


def test_mending_heals_a_rename_that_left_the_old_name_in_triggers(connection: sqlite3.Connection) -> None:
    attached(connection, TableChoice(name="numbered", shared_ids=True))
    connection.execute("PRAGMA legacy_alter_table = ON")
    connection.execute("ALTER TABLE numbered RENAME TO counted")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("INSERT INTO counted VALUES (7, 'x')")
    assert mend(connection).uncaptured == {"counted"}
    connection.execute("INSERT INTO counted VALUES (7, 'x')")
    assert connection.execute("SELECT kind, k0 FROM _litecast_log_1").fetchall() == [(1, 7)]
    detach(connection)
    assert ours(connection) == []
