import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from replication.engine import create_table
from replication.engine.attaching import TableChoice, attach, check, detach
from replication.engine.catalogue import MergeRule
from replication.engine.refusals import AttachRefused, RefusalCode
from replication.engine.stamps import Site

ROOT = Path(__file__).parents[4]
CLUSTER = "shop"
SITE = Site("5" * 32)


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None, timeout=0)) as connection:
        yield connection


def refused(connection: sqlite3.Connection, *choices: TableChoice) -> list[tuple[str, RefusalCode]]:
    """What is refused, after a look at whether that left the database as it was."""
    before = (list(connection.iterdump()), connection.execute("PRAGMA journal_mode").fetchone())
    (file,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    content = Path(file).read_bytes() if file else b""
    settings = connection.execute("SELECT * FROM pragma_foreign_keys, pragma_ignore_check_constraints").fetchall()
    try:
        attach(connection, choices, cluster=CLUSTER, new_site=lambda: SITE)
    except AttachRefused as error:
        for refusal in error.refusals:
            assert refusal.reason
            assert refusal.way_out
        assert (list(connection.iterdump()), connection.execute("PRAGMA journal_mode").fetchone()) == before
        assert not file or Path(file).read_bytes() == content
        now = connection.execute("SELECT * FROM pragma_foreign_keys, pragma_ignore_check_constraints").fetchall()
        assert now == settings
        return [(refusal.table, refusal.code) for refusal in error.refusals]
    return []


def refused_as(connection: sqlite3.Connection, sql: str, **choice: object) -> list[RefusalCode]:
    """The reasons against table t of this schema."""
    connection.executescript(sql)
    return [code for _, code in refused(connection, TableChoice(name="t", **choice))]  # type: ignore[arg-type]


R = RefusalCode
COLUMNS: Mapping[str, tuple[str, list[RefusalCode]]] = {
    "no key": ("CREATE TABLE t (a, b)", [R.NO_KEY]),
    "unique instead of a key": ("CREATE TABLE t (a NOT NULL UNIQUE, b)", [R.NO_KEY, R.UNIQUE]),
    "key that SQLite hands out": ("CREATE TABLE t (id INTEGER PRIMARY KEY, b)", [R.HANDED_OUT_KEY]),
    "the same, as a constraint": ("CREATE TABLE t (id INTEGER, b, PRIMARY KEY (id DESC))", [R.HANDED_OUT_KEY]),
    "autoincrement": ("CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, b)", [R.HANDED_OUT_KEY]),
    "integer key of a strict table": ("CREATE TABLE t (id INTEGER PRIMARY KEY) STRICT", [R.HANDED_OUT_KEY]),
    "integers that SQLite does not hand out": ("CREATE TABLE t (id INT PRIMARY KEY NOT NULL)", []),
    "the same, by a quirk": ("CREATE TABLE t (id INTEGER PRIMARY KEY DESC)", [R.NULLABLE_KEY]),
    "integers without rowid": ("CREATE TABLE t (id INTEGER PRIMARY KEY) WITHOUT ROWID", []),
    "nullable key": ("CREATE TABLE t (id TEXT PRIMARY KEY)", [R.NULLABLE_KEY]),
    "half a nullable key": ("CREATE TABLE t (a NOT NULL, b, PRIMARY KEY (a, b))", [R.NULLABLE_KEY]),
    "key without rowid": ("CREATE TABLE t (id TEXT PRIMARY KEY) WITHOUT ROWID", []),
    "key of a strict table": ("CREATE TABLE t (id TEXT PRIMARY KEY) STRICT", []),
    "collation of the column": ("CREATE TABLE t (id TEXT COLLATE nocase PRIMARY KEY NOT NULL)", [R.KEY_COLLATION]),
    "collation of the key alone": (
        "CREATE TABLE t (id TEXT NOT NULL, PRIMARY KEY (id COLLATE NOCASE))",
        [R.KEY_COLLATION],
    ),
    "collation of the column alone": (
        "CREATE TABLE t (id TEXT NOT NULL COLLATE RTRIM, PRIMARY KEY (id COLLATE BINARY))",
        [R.KEY_COLLATION],
    ),
    "collation without rowid": ("CREATE TABLE t (id TEXT PRIMARY KEY COLLATE NOCASE) WITHOUT ROWID", [R.KEY_COLLATION]),
    "collation elsewhere": ("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b COLLATE NOCASE)", []),
    "unique constraint": ("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b UNIQUE, c UNIQUE)", [R.UNIQUE, R.UNIQUE]),
    "unique index": ("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b); CREATE UNIQUE INDEX i ON t (b)", [R.UNIQUE]),
    "unique expression": (
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b); CREATE UNIQUE INDEX i ON t (lower(b)) WHERE b > 'a'",
        [R.UNIQUE],
    ),
    "unique that the key implies": (
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL UNIQUE, b); CREATE UNIQUE INDEX i ON t (b, id)",
        [],
    ),
    "unique that it does not, by collation": (
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b); CREATE UNIQUE INDEX i ON t (id COLLATE NOCASE)",
        [R.UNIQUE],
    ),
    "index": ("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b); CREATE INDEX i ON t (b)", []),
    "check of one column": ("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b CHECK (b > 0), c CHECK (c > 0))", []),
    "check of key and column": ("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b, CHECK (id <> b))", []),
    "check across columns": (
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b, c, CHECK (b > C))",
        [R.CHECK_ACROSS_COLUMNS],
    ),
    "check through a generated column": (
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b, c, d AS (b + c) CHECK (d > 0))",
        [R.CHECK_ACROSS_COLUMNS],
    ),
    "generated column": ("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b, c AS (b || id) STORED)", []),
    "broken trigger": (
        """CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL);
        CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO nowhere VALUES (1); END""",
        [R.UNPREPARABLE],
    ),
    "view": ("CREATE VIEW t AS SELECT 1 AS id", [R.NOT_A_TABLE]),
    "virtual table": ("CREATE VIRTUAL TABLE t USING fts5 (body)", [R.NOT_A_TABLE]),
    "temporary table": ("CREATE TEMP TABLE t (id TEXT PRIMARY KEY NOT NULL)", [R.NOT_A_TABLE]),
    "table of another database": ("ATTACH ':memory:' AS o; CREATE TABLE o.t (id TEXT PRIMARY KEY)", [R.NOT_A_TABLE]),
    "nothing": ("CREATE TABLE u (id)", [R.NOT_FOUND]),
}


@pytest.mark.parametrize(("sql", "codes"), COLUMNS.values(), ids=COLUMNS.keys())
def test_a_schema_is_refused_for_these_reasons(
    connection: sqlite3.Connection, sql: str, codes: list[RefusalCode]
) -> None:
    assert refused_as(connection, sql) == codes


COUNTERS: Mapping[str, tuple[str, list[RefusalCode]]] = {
    "integer": ("n INTEGER NOT NULL", []),
    "other names of integers": ("n bigint unsigned NOT NULL DEFAULT 0", []),
    "nullable": ("n INTEGER", [R.COUNTER_TYPE]),
    "other type": ("n REAL NOT NULL", [R.COUNTER_TYPE]),
    "no type": ("n NOT NULL", [R.COUNTER_TYPE]),
    "generated": ("a, n INTEGER NOT NULL AS (a + 1)", [R.COUNTER_GENERATED]),
    "own check": ("n INTEGER NOT NULL CHECK (n >= 0)", [R.COUNTER_IN_CHECK]),
    "quoted in a check": ('n INTEGER NOT NULL, CHECK ("N" >= 0)', [R.COUNTER_IN_CHECK]),
    "generated in a check": ("n INTEGER NOT NULL, d AS (n + 1), CHECK (d > 0)", [R.COUNTER_IN_CHECK]),
    "named in no check": ("n INTEGER NOT NULL, b CHECK (b <> 'n' /* n */ AND n(b)) -- n", []),
    "not there": ("m", [R.NO_SUCH_COUNTER]),
}


@pytest.mark.parametrize(("columns", "codes"), COUNTERS.values(), ids=COUNTERS.keys())
def test_a_counter_is_refused_for_these_reasons(
    connection: sqlite3.Connection, columns: str, codes: list[RefusalCode]
) -> None:
    connection.create_function("n", 1, lambda value: 1, deterministic=True)
    sql = f"CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, {columns}\n)"
    assert refused_as(connection, sql, counters=("n",)) == codes


def test_a_counter_in_the_key_is_refused(connection: sqlite3.Connection) -> None:
    sql = "CREATE TABLE t (n INTEGER NOT NULL, b NOT NULL, PRIMARY KEY (n, b))"
    assert refused_as(connection, sql, counters=("n",)) == [R.COUNTER_IN_KEY]


@pytest.mark.parametrize("value", ["'seven'", "1.5", "x'00'", str(2**53 + 1), str(-(2**63))])
def test_a_counter_that_holds_something_else_is_refused(connection: sqlite3.Connection, value: str) -> None:
    sql = f"CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, n INT NOT NULL); INSERT INTO t VALUES (1, 1), (2, {value})"
    assert refused_as(connection, sql, counters=("n",)) == [R.COUNTER_VALUES]


def test_integer_keys_that_the_application_chooses_can_be_attached(connection: sqlite3.Connection) -> None:
    assert refused_as(connection, "CREATE TABLE t (id INTEGER PRIMARY KEY)", shared_ids=True) == []


def test_rows_that_are_merged_whole_may_have_a_check_across_columns(connection: sqlite3.Connection) -> None:
    sql = "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, b, c, CHECK (b > c))"
    assert refused_as(connection, sql, rule=MergeRule.ROW) == []


def test_shadow_tables_and_tables_of_sqlites_and_litecasts_own_are_refused(connection: sqlite3.Connection) -> None:
    connection.executescript(
        "CREATE VIRTUAL TABLE words USING fts5 (body); CREATE TABLE _litecast_x (id TEXT PRIMARY KEY NOT NULL)"
    )
    names = ("words_data", "words_content", "sqlite_schema", "sqlite_sequence", "_litecast_x", "_LITECAST_STATE")
    assert refused(connection, *(TableChoice(name=name) for name in names)) == [(name, R.NOT_A_TABLE) for name in names]


def test_a_table_named_twice_is_refused(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL)")
    assert refused(connection, TableChoice(name="t"), TableChoice(name="T")) == [("T", R.NAMED_TWICE)]


TRIGGERS: Mapping[str, tuple[tuple[str, ...], list[RefusalCode]]] = {
    "own table": (("UPDATE t SET v = 1 WHERE id = new.id",), []),
    "attached table": (("INSERT INTO u VALUES (new.id)",), []),
    "nothing": (("SELECT 1",), []),
    "other table": (("INSERT INTO other VALUES (new.id)",), []),
    "full-text index": (("INSERT INTO words VALUES (new.v)", "DELETE FROM words"), []),
    "other table whose trigger writes others": (("INSERT INTO relay_far VALUES (1)",), []),
    "other table whose trigger writes an attached one": (("INSERT INTO relay VALUES (1)",), [R.TRIGGERS_MIXED]),
    "view whose trigger writes an attached one": (("INSERT INTO door VALUES (1)",), []),
    "view whose trigger writes another": (("INSERT INTO far_door VALUES (1)",), []),
    "both": (("INSERT INTO other VALUES (new.id); INSERT INTO u VALUES (new.id)",), [R.TRIGGERS_MIXED]),
    "one and the other": (("INSERT INTO other VALUES (1)", "INSERT INTO u VALUES (new.id)"), [R.TRIGGERS_MIXED]),
    "other and none": (("INSERT INTO other VALUES (1)", "SELECT RAISE(ABORT, 'no') WHERE 0"), [R.TRIGGERS_MIXED]),
}


@pytest.mark.parametrize(("bodies", "codes"), TRIGGERS.values(), ids=TRIGGERS.keys())
@pytest.mark.parametrize("event", ["INSERT", "UPDATE", "UPDATE OF v"])
def test_triggers_that_neither_run_nor_rest_on_every_node_are_refused(
    connection: sqlite3.Connection, event: str, bodies: tuple[str, ...], codes: list[RefusalCode]
) -> None:
    connection.executescript(
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, v); CREATE TABLE u (id TEXT PRIMARY KEY NOT NULL);"
        "CREATE TABLE other (x); CREATE VIRTUAL TABLE words USING fts5 (body);"
        "CREATE TABLE relay (x); CREATE TABLE relay_far (x);"
        "CREATE TRIGGER relayed AFTER INSERT ON relay BEGIN INSERT INTO u VALUES (new.x); END;"
        "CREATE TRIGGER relayed_far AFTER INSERT ON relay_far BEGIN INSERT INTO other VALUES (new.x); END;"
        "CREATE VIEW door AS SELECT id FROM u; CREATE VIEW far_door AS SELECT x FROM other;"
        "CREATE TRIGGER through INSTEAD OF INSERT ON door BEGIN INSERT INTO u VALUES (new.id); END;"
        "CREATE TRIGGER far_through INSTEAD OF INSERT ON far_door BEGIN INSERT INTO other VALUES (new.x); END"
    )
    for number, body in enumerate(bodies):
        connection.execute(f"CREATE TRIGGER g{number} AFTER {event} ON t BEGIN {body}; END")
    found = refused(connection, TableChoice(name="t"), TableChoice(name="u"))
    assert found == [("t", code) for code in codes]


@pytest.mark.parametrize(("body", "local"), [("door", False), ("far_door", True)])
def test_a_trigger_that_writes_a_view_counts_by_what_the_views_triggers_write(
    connection: sqlite3.Connection, body: str, local: bool
) -> None:
    connection.executescript(
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL); CREATE TABLE other (x);"
        "CREATE VIEW door AS SELECT id FROM t; CREATE VIEW far_door AS SELECT x FROM other;"
        "CREATE TRIGGER through INSTEAD OF INSERT ON door BEGIN DELETE FROM t WHERE id = new.id || 'x'; END;"
        "CREATE TRIGGER far_through INSTEAD OF INSERT ON far_door BEGIN INSERT INTO other VALUES (new.x); END;"
        f"CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO {body} VALUES (new.id); END"
    )
    (table,) = check(connection, [TableChoice(name="t")], cluster=CLUSTER).tables
    assert table.local_triggers is local


def test_a_table_that_is_attached_later_can_make_a_mixture(connection: sqlite3.Connection) -> None:
    connection.executescript(
        "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL); CREATE TABLE u (id TEXT PRIMARY KEY NOT NULL);"
        "CREATE TABLE other (x);"
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO u VALUES (new.id); INSERT INTO other VALUES (1); END"
    )
    assert refused(connection, TableChoice(name="t")) == []
    assert refused(connection, TableChoice(name="u")) == [("t", R.TRIGGERS_MIXED)]


def test_a_database_that_is_not_utf_8_is_refused(connection: sqlite3.Connection) -> None:
    sql = "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL)"
    assert refused_as(connection, sql) == [R.ENCODING]


def test_a_database_that_cannot_be_written_is_refused(connection: sqlite3.Connection, tmp_path: Path) -> None:
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY)")
    with closing(sqlite3.connect(f"file:{tmp_path}/a.db?mode=ro", uri=True, isolation_level=None)) as reader:
        assert refused(reader, TableChoice(name="t")) == [("", R.READ_ONLY), ("t", R.NULLABLE_KEY)]


def test_a_database_of_another_cluster_is_refused(connection: sqlite3.Connection) -> None:
    connection.executescript("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL); CREATE TABLE u (id TEXT PRIMARY KEY)")
    attach(connection, [TableChoice(name="t")], cluster="other", new_site=lambda: SITE)
    assert refused(connection, TableChoice(name="u")) == [("", R.OTHER_CLUSTER), ("u", R.NULLABLE_KEY)]


def test_a_database_of_a_newer_litecast_is_refused(connection: sqlite3.Connection) -> None:
    connection.executescript("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL); CREATE TABLE u (id TEXT PRIMARY KEY)")
    attach(connection, [TableChoice(name="t")], cluster=CLUSTER, new_site=lambda: SITE)
    connection.execute("UPDATE _litecast_state SET format = 99")
    assert refused(connection, TableChoice(name="t"))[0] == ("", R.NEWER_LITECAST)
    before = list(connection.iterdump())
    with pytest.raises(AttachRefused, match="upgrade litecast"):
        detach(connection)
    assert list(connection.iterdump()) == before


def test_other_counters_of_an_attached_table_are_refused(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, n INT NOT NULL, m INT NOT NULL)")
    assert refused(connection, TableChoice(name="t", counters=("n",))) == []
    assert refused(connection, TableChoice(name="t", counters=("n", "m"))) == [("t", R.ATTACHED_OTHERWISE)]
    assert refused(connection, TableChoice(name="t")) == [("t", R.ATTACHED_OTHERWISE)]
    assert refused(connection, TableChoice(name="T", counters=("N", "n"))) == []


def test_all_reasons_come_at_once(connection: sqlite3.Connection) -> None:
    connection.executescript(
        "CREATE TABLE a (id TEXT COLLATE NOCASE PRIMARY KEY, b UNIQUE, n CHECK (n > b));"
        "CREATE TABLE c (id INTEGER PRIMARY KEY)"
    )
    found = refused(connection, TableChoice(name="a", counters=("n", "x")), TableChoice(name="c"))
    assert found == [
        ("a", R.KEY_COLLATION),
        ("a", R.NULLABLE_KEY),
        ("a", R.UNIQUE),
        ("a", R.CHECK_ACROSS_COLUMNS),
        ("a", R.COUNTER_TYPE),
        ("a", R.COUNTER_IN_CHECK),
        ("a", R.NO_SUCH_COUNTER),
        ("c", R.HANDED_OUT_KEY),
    ]


def test_a_parent_table_that_is_missing_is_no_obstacle(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA foreign_keys = ON")
    assert refused_as(connection, "CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL, p REFERENCES nowhere)") == []
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_check_says_what_attach_would_and_changes_nothing(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE t (id TEXT PRIMARY KEY NOT NULL)")
    connection.execute("INSERT INTO t VALUES ('a')")
    before = list(connection.iterdump())
    (table,) = check(connection, [TableChoice(name="t")], cluster=CLUSTER).tables
    assert (table.rows, table.was_attached) == (1, False)
    assert list(connection.iterdump()) == before
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_what_stands_in_strings_names_and_comments_is_not_taken_for_sql() -> None:
    sql = """CREATE TABLE "CHECK (" ("a)" TEXT DEFAULT 'CHECK (b > c)' /* CHECK (b > c) */, [b,] INT, -- , CHECK (b)
        `c``` INT CONSTRAINT "x(" CHECK ("b," > 0 AND max([a)], 1) IN (1, (2))), 'd' COLLATE "NoCase",
        FOREIGN KEY (b) REFERENCES x (y), CHECK (`c``` <> 'd' AND d <> ')')) STRICT"""
    found = create_table.read(sql, ["a)", "b,", "c`", "d"])
    assert found.checks == (frozenset({"a)", "b,"}), frozenset({"c`", "d"}))
    assert found.collations == {"d": "NOCASE"}


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_is_explained_with_its_way_out(code: RefusalCode) -> None:
    assert f"| `{code.value}` |" in (ROOT / "docs/attach.md").read_text()
