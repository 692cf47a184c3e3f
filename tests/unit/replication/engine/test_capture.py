import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from replication.engine import capture, catalogue
from replication.engine.capture import LogKind
from replication.engine.catalogue import MergeRule, TableSpec

B, N, U, D = LogKind.BEFORE, LogKind.INSERT, LogKind.UPDATE, LogKind.DELETE
TABLES = {
    "rowid": "CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL, v, n INTEGER NOT NULL DEFAULT 0)",
    "without rowid": "CREATE TABLE t (k TEXT PRIMARY KEY, v, n INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID",
    "strict": "CREATE TABLE t (k TEXT PRIMARY KEY, v ANY, n INTEGER NOT NULL DEFAULT 0) STRICT",
    "strict without rowid": "CREATE TABLE t (k ANY PRIMARY KEY, v ANY, n INT NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID",
}

type Log = list[tuple[object, ...]]


class Captured:
    """A database with captured tables, and what their logs got since they were last asked."""

    def __init__(self, path: Path | str, *definitions: str, local: Sequence[str] = ()) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for definition in definitions:
            self.connection.execute(definition)
        for statement in (*catalogue.CREATE, capture.CREATE_MERGING):
            self.connection.execute(statement)
        names = [name for (name,) in self.run("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
        for name in names:
            if not name.startswith(("_litecast", "sqlite_")):
                spec = catalogue.add(self.connection, name=name, counters=(), rule=MergeRule.CELL)
                catalogue.set_local_triggers(self.connection, spec, name in local)
                for statement in capture.create_statements(self.spec(name)):
                    self.run(statement)

    def spec(self, table: str = "t") -> TableSpec:
        return catalogue.load(self.connection)[table]

    def run(self, sql: str, parameters: Sequence[object] = ()) -> sqlite3.Cursor:
        return self.connection.execute(sql, parameters)

    def log(self, table: str = "t") -> Log:
        spec = self.spec(table)
        rows = self.run(f"SELECT kind, {', '.join(spec.key_names)} FROM {spec.log} ORDER BY seq").fetchall()
        self.run(f"DELETE FROM {spec.log}")
        return [(LogKind(kind), *key) for kind, *key in rows]

    def of(self, sql: str, parameters: Sequence[object] = ()) -> Log:
        """What one statement left in the log."""
        self.log()
        self.run(sql, parameters)
        return self.log()


type Make = Callable[..., Captured]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Captured] = []

    def make_one(*definitions: str, local: Sequence[str] = ()) -> Captured:
        made.append(Captured(tmp_path / "a.db", *definitions, local=local))
        return made[-1]

    yield make_one
    for captured in made:
        captured.connection.close()


@pytest.fixture(params=list(TABLES.values()), ids=list(TABLES))
def captured(request: pytest.FixtureRequest, make: Make) -> Captured:
    return make(request.param)


@pytest.fixture
def plain(make: Make) -> Captured:
    return make(TABLES["rowid"])


def test_each_row_written_is_logged_with_its_key(captured: Captured) -> None:
    assert captured.of("INSERT INTO t (k, v) VALUES ('a', 1), ('b', 2)") == [(N, "a"), (N, "b")]
    assert captured.of("UPDATE t SET v = 3") == [(U, "a"), (U, "b")]
    assert captured.of("UPDATE t SET k = k, v = 3 WHERE k = 'a'") == [(U, "a")]
    assert captured.of("DELETE FROM t") == [(D, "a"), (D, "b")]


def test_an_update_of_the_key_logs_both_keys(captured: Captured) -> None:
    captured.run("INSERT INTO t (k) VALUES ('a')")
    assert sorted(captured.of("UPDATE t SET k = 'b'")) == [(U, "a"), (U, "b")]


@pytest.mark.parametrize("recursive", [False, True])
def test_a_replaced_row_is_told_from_a_deleted_one(captured: Captured, recursive: bool) -> None:
    captured.run(f"PRAGMA recursive_triggers = {int(recursive)}")
    captured.run("INSERT INTO t (k) VALUES ('a')")
    gone = [(D, "a")] if recursive else []
    assert captured.of("INSERT OR REPLACE INTO t (k, v) VALUES ('a', 2)") == [(B, "a"), *gone, (N, "a")]
    assert captured.of("REPLACE INTO t (k, v) VALUES ('new', 2)") == [(N, "new")]
    captured.log()
    captured.run("DELETE FROM t WHERE k = 'a'")
    captured.run("REPLACE INTO t (k) VALUES ('a')")
    assert captured.log() == [(D, "a"), (N, "a")]


@pytest.mark.parametrize("recursive", [False, True])
def test_update_or_replace_onto_another_row_logs_the_row_that_goes(captured: Captured, recursive: bool) -> None:
    captured.run(f"PRAGMA recursive_triggers = {int(recursive)}")
    captured.run("INSERT INTO t (k) VALUES ('a'), ('b')")
    log = captured.of("UPDATE OR REPLACE t SET k = 'b' WHERE k = 'a'")
    assert log[0] == (B, "b")
    assert {(U, "a"), (U, "b")} <= set(log[1:])
    assert ((D, "b") in log) is recursive


def test_upsert_and_ignored_inserts_are_captured(captured: Captured) -> None:
    upsert = "INSERT INTO t (k, n) VALUES ('a', 1) ON CONFLICT (k) DO UPDATE SET n = n + 1"
    assert captured.of(upsert) == [(N, "a")]
    assert captured.of(upsert) == [(B, "a"), (U, "a")]
    assert captured.of("INSERT OR IGNORE INTO t (k) VALUES ('a'), ('b')") == [(B, "a"), (N, "b")]
    assert captured.of("INSERT INTO t (k) VALUES ('a') ON CONFLICT DO NOTHING") == [(B, "a")]
    assert captured.of("UPDATE OR IGNORE t SET k = 'b' WHERE k = 'a'") == [(B, "b")]


def test_what_a_select_inserts_and_a_from_clause_updates_is_captured(captured: Captured) -> None:
    captured.run("CREATE TABLE source (k TEXT, v TEXT)")
    captured.run("INSERT INTO source VALUES ('a', 'x'), ('b', 'y')")
    assert captured.of("INSERT INTO t (k, v) SELECT k, v FROM source") == [(N, "a"), (N, "b")]
    assert sorted(captured.of("UPDATE t SET v = 'z' FROM source WHERE source.k = t.k")) == [(U, "a"), (U, "b")]


def test_a_rollback_leaves_nothing_and_a_savepoint_only_what_was_kept(captured: Captured) -> None:
    captured.run("BEGIN")
    captured.run("INSERT INTO t (k) VALUES ('a')")
    captured.run("ROLLBACK")
    assert captured.log() == []
    for step in (
        "BEGIN",
        "INSERT INTO t (k) VALUES ('a')",
        "SAVEPOINT s",
        "INSERT INTO t (k) VALUES ('b')",
        "ROLLBACK TO s",
        "INSERT INTO t (k) VALUES ('c')",
        "COMMIT",
    ):
        captured.run(step)
    assert captured.log() == [(N, "a"), (N, "c")]


def test_a_statement_that_fails_leaves_nothing(captured: Captured) -> None:
    captured.run("INSERT INTO t (k) VALUES ('b')")
    captured.log()
    with pytest.raises(sqlite3.IntegrityError):
        captured.run("INSERT INTO t (k) VALUES ('a'), ('b')")
    assert captured.log() == []
    with pytest.raises(sqlite3.IntegrityError):
        captured.run("INSERT OR FAIL INTO t (k) VALUES ('a'), ('b')")
    assert captured.log() == [(N, "a"), (B, "b")]


def test_the_application_sees_its_own_changes_and_row_ids_only(plain: Captured) -> None:
    plain.run("CREATE TABLE other (id INTEGER PRIMARY KEY)")
    plain.run("INSERT INTO other VALUES (4711)")
    for number in range(20):
        plain.run("INSERT INTO t (k) VALUES (?)", (f"k{number}",))
        (rowid,) = plain.run("SELECT rowid FROM t WHERE k = ?", (f"k{number}",)).fetchone()
        assert plain.run("SELECT changes(), last_insert_rowid()").fetchone() == (1, rowid)
    plain.run("INSERT INTO t (k) VALUES ('x'), ('y')")
    plain.run("INSERT INTO other VALUES (5000)")
    assert plain.run("UPDATE t SET n = 5").rowcount == 22
    assert plain.run("SELECT changes(), last_insert_rowid()").fetchone() == (22, 5000)
    assert plain.run("REPLACE INTO t (k) VALUES ('x')").rowcount == 1
    assert plain.run("UPDATE t SET k = k || '!'").rowcount == 22
    assert plain.run("DELETE FROM t").rowcount == 22
    assert plain.run("SELECT changes()").fetchone() == (22,)


def test_returning_still_works(captured: Captured) -> None:
    assert captured.run("INSERT INTO t (k, n) VALUES ('a', 1) RETURNING k, n").fetchall() == [("a", 1)]
    assert captured.run("UPDATE t SET n = n + 1 RETURNING n").fetchall() == [(2,)]
    assert captured.run("DELETE FROM t RETURNING k").fetchall() == [("a",)]
    assert captured.log() == [(N, "a"), (U, "a"), (D, "a")]


def test_capture_works_for_who_trusts_no_schema_and_defends_it(captured: Captured) -> None:
    captured.run("PRAGMA trusted_schema = OFF")
    captured.connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
    assert captured.of("INSERT INTO t (k) VALUES ('a')") == [(N, "a")]
    assert captured.of("REPLACE INTO t (k) VALUES ('a')") == [(B, "a"), (N, "a")]
    assert captured.of("DELETE FROM t") == [(D, "a")]


def test_cascades_of_foreign_keys_are_captured(make: Make) -> None:
    captured = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL)",
        "CREATE TABLE child (id TEXT PRIMARY KEY NOT NULL, t TEXT REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE loose (id TEXT PRIMARY KEY NOT NULL, t TEXT REFERENCES t ON DELETE SET NULL)",
    )
    captured.run("PRAGMA foreign_keys = ON")
    captured.run("INSERT INTO t VALUES ('a'), ('b')")
    captured.run("INSERT INTO child VALUES ('1', 'a'), ('2', 'b')")
    captured.run("INSERT INTO loose VALUES ('3', 'b')")
    captured.log("child")
    captured.log("loose")
    captured.run("UPDATE t SET k = 'c' WHERE k = 'a'")
    assert captured.log("child") == [(U, "1")]
    captured.run("DELETE FROM t")
    assert captured.log("child") == [(D, "1"), (D, "2")]
    assert captured.log("loose") == [(U, "3")]


def test_a_replaced_parent_cascades_and_is_captured(make: Make) -> None:
    captured = make(
        "CREATE TABLE t (k TEXT PRIMARY KEY NOT NULL)",
        "CREATE TABLE child (id TEXT PRIMARY KEY NOT NULL, t TEXT REFERENCES t ON DELETE CASCADE)",
    )
    captured.run("PRAGMA foreign_keys = ON")
    captured.run("INSERT INTO t VALUES ('a')")
    captured.run("INSERT INTO child VALUES ('1', 'a')")
    captured.log("child")
    captured.run("REPLACE INTO t VALUES ('a')")
    assert captured.log("child") == [(D, "1")]


@pytest.mark.parametrize("recursive", [False, True])
def test_what_the_applications_triggers_write_is_captured(make: Make, recursive: bool) -> None:
    captured = make(TABLES["rowid"], "CREATE TABLE audit (k TEXT NOT NULL, what TEXT, PRIMARY KEY (k, what))")
    captured.run("CREATE TRIGGER stamp AFTER INSERT ON t BEGIN UPDATE t SET v = 'now' WHERE k = new.k; END")
    captured.run("CREATE TRIGGER audited AFTER UPDATE ON t BEGIN REPLACE INTO audit VALUES (new.k, 'updated'); END")
    captured.run(f"PRAGMA recursive_triggers = {int(recursive)}")
    assert sorted(captured.of("INSERT INTO t (k) VALUES ('a')")) == [(N, "a"), (U, "a")]
    assert captured.log("audit") == [(N, "a", "updated")]


KEYS: tuple[object, ...] = (
    "",
    "a'b\"c`d[e]",
    "emb\0edded",
    "ünï\U0001f600",
    b"\x00\xff",
    b"",
    0,
    -1,
    2**63 - 1,
    -(2**63),
    1.5,
    1e308,
    "1",
    b"1",
)


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_keys_of_every_kind_stand_in_the_log_as_in_the_row(make: Make, key: object) -> None:
    captured = make("CREATE TABLE t (k NOT NULL PRIMARY KEY, v)")
    assert captured.of("INSERT INTO t VALUES (?, 1)", (key,)) == [(N, key)]
    assert captured.of("REPLACE INTO t VALUES (?, 2)", (key,)) == [(B, key), (N, key)]
    assert captured.of("UPDATE t SET v = 3") == [(U, key)]
    captured.run("DELETE FROM t")
    assert captured.log() == [(D, key)]


def test_text_that_is_not_utf_8_stands_in_the_log_byte_by_byte(make: Make) -> None:
    captured = make("CREATE TABLE t (k TEXT NOT NULL PRIMARY KEY)")
    captured.run("INSERT INTO t VALUES (CAST(x'61ff00fe' AS TEXT))")
    captured.run("REPLACE INTO t VALUES (CAST(x'61ff00fe' AS TEXT))")
    found = captured.run("SELECT kind, typeof(k0), hex(CAST(k0 AS BLOB)) FROM _litecast_log_1 ORDER BY seq").fetchall()
    assert found == [(N, "text", "61FF00FE"), (B, "text", "61FF00FE"), (N, "text", "61FF00FE")]


@pytest.mark.parametrize(("declared", "given", "stored"), [("REAL", 5, 5.0), ("INTEGER", "7", 7), ("TEXT", 8, "8")])
def test_a_key_is_logged_as_the_column_stores_it(make: Make, declared: str, given: object, stored: object) -> None:
    captured = make(f"CREATE TABLE t (k {declared} NOT NULL, w NOT NULL, PRIMARY KEY (k, w))")
    log = captured.of("INSERT INTO t VALUES (?, 1)", (given,))
    log += captured.of("REPLACE INTO t VALUES (?, 1)", (given,))
    assert [(kind, key, type(key)) for kind, key, _ in log] == [(kind, stored, type(stored)) for kind in (N, B, N)]


def test_composite_keys_are_logged_in_key_order(make: Make) -> None:
    captured = make("CREATE TABLE t (v, b NOT NULL, a NOT NULL, PRIMARY KEY (a, b))")
    assert captured.of("INSERT INTO t VALUES (0, 'b', 'a')") == [(N, "a", "b")]
    assert sorted(captured.of("UPDATE t SET b = 'c'")) == [(U, "a", "b"), (U, "a", "c")]
    assert captured.of("REPLACE INTO t VALUES (0, 'c', 'a')") == [(B, "a", "c"), (N, "a", "c")]


def test_integer_keys_of_the_application_are_captured(make: Make) -> None:
    captured = make("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    assert captured.of("INSERT INTO t (v) VALUES ('x'), ('y')") == [(N, 1), (N, 2)]
    assert captured.of("REPLACE INTO t VALUES (2, 'z')") == [(B, 2), (N, 2)]
    assert sorted(captured.of("UPDATE t SET id = 9 WHERE id = 1")) == [(U, 1), (U, 9)]
    for name in ("rowid", "oid", "_rowid_"):
        assert sorted(captured.of(f"UPDATE t SET {name} = 1 WHERE id = 9")) == [(U, 1), (U, 9)]
        assert captured.of(f"UPDATE OR REPLACE t SET {name} = 2 WHERE id = 1")[0] == (B, 2)
        captured.run("DELETE FROM t")
        captured.run("INSERT INTO t VALUES (2, 'x'), (9, 'y')")


def test_names_with_every_character_can_be_captured(make: Make) -> None:
    captured = make('CREATE TABLE "t `1`; --" ("the ""key`" NOT NULL PRIMARY KEY, "select", [a b])')
    captured.run('INSERT INTO "t `1`; --" VALUES (1, 2, 3)')
    captured.run('REPLACE INTO "t `1`; --" VALUES (1, 2, 3)')
    assert captured.log("t `1`; --") == [(N, 1), (B, 1), (N, 1)]


def test_capture_survives_columns_that_are_added_renamed_and_dropped(captured: Captured) -> None:
    for change in (
        "ALTER TABLE t ADD COLUMN extra TEXT",
        "ALTER TABLE t RENAME COLUMN v TO w",
        "ALTER TABLE t DROP COLUMN w",
        "ALTER TABLE t RENAME COLUMN k TO key",
    ):
        captured.run(change)
    assert captured.spec().key == ("key",)
    assert captured.spec().cells == ("n", "extra")
    assert capture.is_complete(captured.connection, captured.spec())
    assert captured.of("INSERT INTO t (key) VALUES ('a')") == [(N, "a")]
    assert captured.of("REPLACE INTO t (key) VALUES ('a')") == [(B, "a"), (N, "a")]
    assert sorted(captured.of("UPDATE t SET key = 'b'")) == [(U, "a"), (U, "b")]


def test_capture_goes_with_a_table_that_is_renamed(captured: Captured) -> None:
    captured.run("ALTER TABLE t RENAME TO u")
    assert list(catalogue.load(captured.connection)) == ["u"]
    assert capture.is_complete(captured.connection, captured.spec("u"))
    captured.run("INSERT INTO u (k) VALUES ('a')")
    captured.run("REPLACE INTO u (k) VALUES ('a')")
    assert captured.log("u") == [(N, "a"), (B, "a"), (N, "a")]


def test_a_rebuilt_table_has_lost_its_triggers_and_that_is_seen(captured: Captured) -> None:
    captured.run("CREATE TABLE new_t AS SELECT * FROM t WHERE 0")
    captured.run("DROP TABLE new_t")
    (definition,) = captured.run("SELECT sql FROM sqlite_master WHERE name = 't'").fetchone()
    captured.run(definition.replace("TABLE t", "TABLE new_t", 1))
    captured.run("DROP TABLE t")
    captured.run("ALTER TABLE new_t RENAME TO t")
    assert not capture.is_complete(captured.connection, captured.spec())


def test_a_connection_that_has_the_file_attached_under_another_name_is_captured(captured: Captured) -> None:
    other = sqlite3.connect(":memory:", isolation_level=None)
    (path,) = captured.run("SELECT file FROM pragma_database_list").fetchone()
    other.execute("ATTACH ? AS elsewhere", (path,))
    other.execute("CREATE TABLE t (k, v)")
    other.execute("CREATE TEMP TABLE _litecast_log_1 (x)")
    other.execute("INSERT INTO elsewhere.t (k) VALUES ('a')")
    other.execute("REPLACE INTO elsewhere.t (k) VALUES ('a')")
    other.close()
    assert captured.log() == [(N, "a"), (B, "a"), (N, "a")]


def test_a_table_with_local_triggers_is_not_captured_while_a_merge_writes_it(make: Make) -> None:
    captured = make(TABLES["rowid"], local=("t",))
    assert captured.of("INSERT INTO t (k) VALUES ('a')") == [(N, "a")]
    captured.run("BEGIN")
    captured.run(f"INSERT INTO {capture.MERGING} VALUES (1)")
    for write in (
        "REPLACE INTO t (k) VALUES ('a')",
        "UPDATE t SET v = 1",
        "UPDATE t SET k = 'b'",
        "UPDATE OR REPLACE t SET k = 'b'",
        "INSERT INTO t (k) VALUES ('c')",
        "DELETE FROM t",
    ):
        captured.run(write)
    captured.run(f"DELETE FROM {capture.MERGING}")
    captured.run("INSERT INTO t (k) VALUES ('d')")
    captured.run("COMMIT")
    assert captured.log() == [(N, "d")]
