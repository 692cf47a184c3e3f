"""Migrations that reach nodes at different times, as tools make them, and what others write meanwhile."""

from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from replication.attaching_declared import attach_declared
from replication.declared import TableDeclaration
from replication.engine.changesets import ChangeKind
from replication.engine.comparing import Verdict, compare
from replication.engine.digesting import attached_tables, digest
from replication.engine.refusals import RefusalCode
from replication.engine.table import Table
from tests.support.attached import CLUSTER, Attached, changes, exchange
from tests.support.playing import known_of
from tests.support.states import Moving, take_state

COLUMNS: Final = "name TEXT PRIMARY KEY NOT NULL, title, body, visits INTEGER NOT NULL DEFAULT 0"


def rebuild(node: Attached, *added: tuple[str, str, str]) -> None:
    """As Django adds columns: a new table, which has no defaults, is filled from the old one and takes its place."""
    columns = [name for (name,) in node.sql("SELECT name FROM pragma_table_info('pages')")]
    (declared,) = node.sql("SELECT sql FROM sqlite_master WHERE name = 'pages'")
    body = declared[0].partition("(")[2].rpartition(")")[0]
    more = "".join(f', "{name}" {kind}' for name, kind, _ in added)
    values = "".join(f", {value}" for _, _, value in added)
    node.connection.executescript(
        f'BEGIN; CREATE TABLE "new__pages" ({body}{more});'
        f'INSERT INTO "new__pages" SELECT {", ".join(columns)}{values} FROM pages; DROP TABLE pages;'
        'ALTER TABLE "new__pages" RENAME TO "pages"; COMMIT;'
    )


def declare(node: Attached, *counters: str, renamed: Mapping[str, str] | None = None) -> None:
    declaration = TableDeclaration(name="pages", counters=("visits", *counters), renamed=renamed or {})
    outcome = attach_declared(node.connection, [declaration], cluster=CLUSTER, new_site=lambda: node.site)
    assert not outcome.refusals


def assert_equal(*nodes: Attached) -> None:
    """Rows, all that merging knows of them, and digests; nothing is held, and nothing is left to fold."""
    for node in nodes:
        assert node.fold() is None
        assert node.sql("SELECT * FROM _litecast_held") == []
        assert node.rows() == nodes[0].rows()
        assert known_of(node.connection) == known_of(nodes[0].connection)
    taken = {str(at): digest(node.connection, attached_tables(node.connection)) for at, node in enumerate(nodes)}
    assert compare(taken).verdict is Verdict.EQUAL


@pytest.fixture
def three() -> tuple[Attached, Attached, Attached]:
    a, b, c = Attached(), Attached(), Attached()
    a.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 10), ('b', 'B', 'text', 20)")
    exchange(a, b, c)
    return a, b, c


type Three = tuple[Attached, Attached, Attached]


# ---- columns that a row has to be given, and nobody says what


def test_a_row_that_lacks_a_column_without_a_default_gets_what_the_migration_gave_all_others(three: Three) -> None:
    a, b, c = three
    rebuild(a, ("lang", "TEXT NOT NULL", "'en'"))
    assert a.fold() is None
    late = b.write("INSERT INTO pages VALUES ('late', 'L', 'text', 1)")
    assert a.merged(late).held == 0
    assert a.sql("SELECT lang FROM pages WHERE name = 'late'") == [("en",)]
    assert a.fold() is None
    for node in (b, c):
        rebuild(node, ("lang", "TEXT NOT NULL", "'en'"))
        assert node.fold() is None
    exchange(a, b, c)
    assert_equal(a, b, c)


def test_the_same_in_a_state_that_is_merged(three: Three) -> None:
    a, b, _ = three
    rebuild(a, ("lang", "TEXT NOT NULL", "'en'"))
    a.fold()
    b.write("INSERT INTO pages VALUES ('late', 'L', 'text', 1)")
    take_state(b.connection, a.connection, now_ms=b.now_ms + 1000)
    assert a.sql("SELECT lang FROM pages WHERE name = 'late'") == [("en",)]
    assert a.sql("SELECT * FROM _litecast_held") == []


def test_what_an_application_writes_there_wins_over_the_fill(three: Three) -> None:
    a, b, c = three
    rebuild(a, ("lang", "TEXT NOT NULL", "'en'"))
    a.fold()
    a.merged(b.write("INSERT INTO pages VALUES ('late', 'L', 'text', 1)"))
    a.write("UPDATE pages SET lang = 'de' WHERE name = 'late'")
    for node in (b, c):
        node.pull(a)
        rebuild(node, ("lang", "TEXT NOT NULL", "'en'"))
        assert node.fold() is None
    exchange(a, b, c)
    assert_equal(a, b, c)
    assert c.sql("SELECT lang FROM pages WHERE name = 'late'") == [("de",)]


def test_what_an_application_wrote_before_the_migration_was_noticed_is_not_the_fill(three: Three) -> None:
    a, b, _ = three
    a.sql("ALTER TABLE pages ADD COLUMN lang TEXT")
    a.fold()
    rebuild(a, ("tone", "TEXT NOT NULL", "'low'"))
    a.connection.executescript(  # capture is back, as if by a look that came between
        "CREATE TRIGGER _litecast_1_update AFTER UPDATE ON pages"
        " BEGIN INSERT INTO _litecast_log_1 (kind, k0) VALUES (2, new.name); END"
    )
    a.sql("UPDATE pages SET tone = 'high' WHERE name = 'a'")
    a.fold()
    a.merged(b.write("INSERT INTO pages VALUES ('late', 'L', 'text', 1)"))
    assert a.sql("SELECT tone FROM pages WHERE name = 'late'") == [("low",)]


def test_without_one_value_for_all_such_a_row_is_held_until_its_origin_has_one(three: Three) -> None:
    a, b, _ = three
    rebuild(a, ("slug", "TEXT NOT NULL", "lower(title)"))
    assert a.fold() is None
    assert a.merged(b.write("INSERT INTO pages VALUES ('late', 'L', 'text', 1)")).held == 1
    assert len(a.rows()) == 2
    rebuild(b, ("slug", "TEXT NOT NULL", "lower(title)"))
    assert b.fold() is None
    take_state(b.connection, a.connection, now_ms=b.now_ms + 1000)
    assert a.rows()[-1] == ("late", "L", "text", 1, "l")
    assert_equal(a, b)


def test_a_new_counter_without_a_default_begins_at_0_in_rows_that_lack_it(three: Three) -> None:
    a, b, c = three
    for node in (a, b, c):
        declare(node, "likes")
    rebuild(a, ("likes", "INTEGER NOT NULL", "0"))
    assert a.fold() is None
    a.merged(b.write("INSERT INTO pages VALUES ('late', 'L', 'text', 1)"))
    a.write("UPDATE pages SET likes = likes + 3")
    b.pull(a)
    for node in (b, c):
        rebuild(node, ("likes", "INTEGER NOT NULL", "0"))
        assert node.fold() is None
        node.write("UPDATE pages SET likes = likes + 1")
    exchange(a, b, c)
    assert_equal(a, b, c)
    assert set(a.sql("SELECT likes FROM pages WHERE name <> 'late'")) == {(5,)}
    assert a.sql("SELECT likes FROM pages WHERE name = 'late'") == [(4,)]


# ---- counters that the settings declare before they are there


def test_a_column_that_is_declared_a_counter_before_it_comes_is_one_whoever_sees_it_first(three: Three) -> None:
    a, b, c = three
    for node in (a, b, c):
        declare(node, "likes")
    a.sql("ALTER TABLE pages ADD COLUMN likes INTEGER NOT NULL DEFAULT 0")
    assert a.fold() is None
    (row, *_) = changes(a.write("UPDATE pages SET likes = likes + 1"))
    assert row.counts == {"likes": 1}
    for node in (b, c):
        node.pull(a)
        node.sql("ALTER TABLE pages ADD COLUMN likes INTEGER NOT NULL DEFAULT 0")
        assert node.fold() is None
        node.write("UPDATE pages SET likes = likes + 10")
    exchange(a, b, c)
    assert_equal(a, b, c)
    assert set(a.sql("SELECT likes FROM pages")) == {(21,)}


def test_a_column_that_was_no_counter_does_not_become_one(three: Three) -> None:
    a, _, _ = three
    declaration = TableDeclaration(name="pages", counters=("visits", "title"))
    outcome = attach_declared(a.connection, [declaration], cluster=CLUSTER, new_site=lambda: a.site)
    assert [refusal.code for refusal in outcome.refusals] == [RefusalCode.ATTACHED_OTHERWISE]


# ---- renamed columns

RENAMED: Final = {"title": "heading"}


def rename(node: Attached, old: str = "title", new: str = "heading") -> None:
    node.sql(f"ALTER TABLE pages RENAME COLUMN {old} TO {new}")


def test_a_column_whose_renaming_is_declared_stays_the_column_it_was(three: Three) -> None:
    a, b, c = three
    for node in (a, b, c):
        declare(node, renamed=RENAMED)
    rename(a)
    assert a.fold() is None
    a.merged(b.write("UPDATE pages SET title = 'from b' WHERE name = 'a'"))
    assert a.sql("SELECT heading FROM pages") == [("from b",), ("B",)]
    b.merged(a.write("UPDATE pages SET heading = 'from a' WHERE name = 'b'"))
    assert b.sql("SELECT title FROM pages") == [("from b",), ("from a",)]
    a.write("INSERT INTO pages VALUES ('new', 'of a', 'text', 0)")
    b.write("INSERT INTO pages VALUES ('old', 'of b', 'text', 0)")
    exchange(a, b, c)
    for node in (b, c):
        rename(node)
        assert node.fold() is None
    exchange(a, b, c)
    assert_equal(a, b, c)
    assert [row[1] for row in c.rows()] == ["from b", "from a", "of a", "of b"]


def test_what_came_for_the_new_name_before_it_was_declared_is_united_with_the_old_one(three: Three) -> None:
    a, b, c = three
    declare(a, renamed=RENAMED)
    rename(a)
    a.fold()
    earlier = a.write("UPDATE pages SET heading = 'earlier' WHERE name = 'a'")
    b.now_ms = a.now_ms + 100
    mine = b.write("UPDATE pages SET title = 'later, and mine' WHERE name = 'a'")
    a.now_ms = b.now_ms + 100
    later = a.write(
        "UPDATE pages SET heading = 'later' WHERE name = 'b'", "INSERT INTO pages VALUES ('new', 'of a', 'text', 0)"
    )
    for changeset in (earlier, later):
        b.now_ms = a.now_ms
        assert b.merged(changeset).held > 0
    assert b.sql("SELECT title FROM pages WHERE name = 'b'") == [("B",)]
    declare(b, renamed=RENAMED)
    rename(b)
    assert b.fold() is None
    assert [row[1] for row in b.rows()] == ["later, and mine", "later", "of a"]
    a.merged(mine)
    declare(c, renamed=RENAMED)
    rename(c)
    exchange(a, b, c)
    assert_equal(a, b, c)


def test_what_was_written_to_the_old_name_and_not_folded_wins_over_what_was_held(three: Three) -> None:
    a, b, _ = three
    declare(a, renamed=RENAMED)
    rename(a)
    a.fold()
    b.merged(a.write("UPDATE pages SET heading = 'held at b' WHERE name = 'a'"))
    b.sql("UPDATE pages SET title = 'written at b' WHERE name = 'a'")
    declare(b, renamed=RENAMED)
    rename(b)
    b.fold()
    exchange(a, b)
    assert_equal(a, b)
    assert a.rows()[0][1] == "written at b"


def test_a_counter_whose_renaming_is_declared_goes_on_counting(three: Three) -> None:
    a, b, c = three
    renamed = {"visits": "views"}
    for node in (a, b):
        declare(node, renamed=renamed)
    rename(a, "visits", "views")
    assert a.fold() is None
    a.write("UPDATE pages SET views = views + 1")
    b.write("UPDATE pages SET visits = visits + 2")
    c.write("UPDATE pages SET visits = visits + 4")
    exchange(a, b, c)  # c holds what it hears of views
    assert a.rows()[0][3] == b.rows()[0][3] == 17
    c.sql("UPDATE pages SET visits = visits + 100")
    declare(c, renamed=renamed)
    for node in (b, c):
        rename(node, "visits", "views")
        node.fold()
    exchange(a, b, c)
    assert_equal(a, b, c)
    assert [row[3] for row in a.rows()] == [117, 127]


def test_a_state_with_a_renamed_column_goes_to_the_name_that_it_has_here(three: Three) -> None:
    a, b, _ = three
    for node in (a, b):
        declare(node, renamed=RENAMED | {"visits": "views"})
    rename(a)
    rename(a, "visits", "views")
    a.write("UPDATE pages SET heading = 'of a', views = views + 1 WHERE name = 'a'")
    b.write("UPDATE pages SET title = 'of b', visits = visits + 2 WHERE name = 'b'")
    b.write("INSERT INTO pages VALUES ('old', 'of b', 'text', 7)")
    a.write("INSERT INTO pages VALUES ('new', 'of a', 'text', 9)")
    take_state(a.connection, b.connection, now_ms=a.now_ms + 1000)
    take_state(b.connection, a.connection, now_ms=b.now_ms + 1000)
    assert a.rows() == b.rows()
    assert [row[1::2] for row in a.rows()] == [("of a", 11), ("of b", 22), ("of a", 9), ("of b", 7)]


def test_once_it_is_declared_no_more_what_comes_for_the_old_name_is_dropped(three: Three) -> None:
    a, b, _ = three
    declare(a, renamed=RENAMED)
    rename(a)
    a.fold()
    declare(a)
    outcome = a.merged(b.write("UPDATE pages SET title = 'too late' WHERE name = 'a'"))
    assert (outcome.dropped, outcome.held) == (1, 0)


# ---- what a migration costs


def test_adding_a_column_writes_no_entry_and_reads_no_row_that_shows_nothing_new(three: Three) -> None:
    a, _, _ = three
    before = a.sql("SELECT * FROM _litecast_clock_1")
    a.sql("ALTER TABLE pages ADD COLUMN lang TEXT DEFAULT 'en'")
    a.sql("ALTER TABLE pages ADD COLUMN size REAL DEFAULT 0.0")
    read: list[int] = []
    original = Table.note_dirty

    def counted(table: Table, more: Sequence[str]) -> int:
        read.append(original(table, more))
        return read[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "note_dirty", counted)
        assert a.fold() is None
    assert read == [0]
    assert a.sql("SELECT * FROM _litecast_clock_1") == before


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("DEFAULT 1", "1.0"),
        ("DEFAULT 'a' COLLATE NOCASE", "'A'"),
        ("TEXT DEFAULT 5", "'6'"),
        ("DEFAULT x'00'", "x'0000'"),
        ("", "0"),
        ("DEFAULT 1e999", "-1e999"),
        ("DEFAULT 'a'", "CAST(x'61ff' AS TEXT)"),
    ],
)
def test_whatever_a_new_column_shows_beside_its_default_is_seen(three: Three, kind: str, value: str) -> None:
    a, b, _ = three
    a.sql(f"ALTER TABLE pages ADD COLUMN lang {kind}")
    a.sql(f"UPDATE pages SET lang = {value} WHERE name = 'a'")
    assert a.fold() is None
    assert len(set(a.sql("SELECT length(cells) FROM _litecast_clock_1"))) == 2
    a.sql("UPDATE pages SET title = 'x' WHERE name = 'a'")
    (row,) = changes(a.published())
    assert row.cells == {"title": "x"}
    assert row.kind is ChangeKind.UPDATE
    b.pull(a)


# ---- snapshots and copies between nodes with different schemas


@pytest.mark.parametrize("older_sends", [True, False])
def test_a_snapshot_between_nodes_with_different_schemas_loses_nothing(three: Three, older_sends: bool) -> None:
    older, newer, _ = three
    rebuild(newer, ("lang", "TEXT NOT NULL", "'en'"))
    newer.sql("ALTER TABLE pages DROP COLUMN body")
    newer.fold()
    newer.write("UPDATE pages SET lang = 'de', visits = visits + 1 WHERE name = 'a'")
    newer.write("INSERT INTO pages (name, title, visits, lang) VALUES ('new', 'N', 3, 'fr')")
    older.write("UPDATE pages SET body = 'changed', visits = visits + 5 WHERE name = 'b'")
    older.write("INSERT INTO pages VALUES ('old', 'O', 'text', 4)")
    sender, receiver = (older, newer) if older_sends else (newer, older)
    Moving(sender.connection, receiver.connection).run(older.now_ms + 1000)
    rebuild(older, ("lang", "TEXT NOT NULL", "'en'"))
    older.sql("ALTER TABLE pages DROP COLUMN body")
    older.fold()
    exchange(older, newer)
    for node in (older, newer):
        assert node.fold() is None
        assert node.sql("SELECT * FROM _litecast_held") == []
        assert node.sql("SELECT name, title, visits, lang FROM pages ORDER BY 1") == [
            ("a", "A", 11, "de"),
            ("b", "B", 25, "en"),
            ("new", "N", 3, "fr"),
            ("old", "O", 4, "en"),
        ]


def test_a_column_that_gets_another_type_on_one_node_after_the_other_ends_equal() -> None:
    schema = f"CREATE TABLE pages ({COLUMNS.replace('title', 'title TEXT')})"
    a, b = Attached(schema), Attached(schema)
    a.sql("INSERT INTO pages VALUES ('a', '5', 'x', 0), ('b', '6', 'x', 0)")
    exchange(a, b)

    def to_integer(node: Attached) -> None:
        node.connection.executescript(
            f"BEGIN; CREATE TABLE new ({COLUMNS.replace('title', 'title INTEGER')});"
            "INSERT INTO new SELECT * FROM pages; DROP TABLE pages; ALTER TABLE new RENAME TO pages; COMMIT"
        )

    to_integer(a)
    assert a.published().rows == 2
    a.sql("UPDATE pages SET title = 7 WHERE name = 'a'")
    b.sql("UPDATE pages SET body = 'y'")
    exchange(a, b)
    assert [row[1] for row in b.rows()] == ["7", "6"]
    to_integer(b)
    exchange(a, b)
    assert_equal(a, b)
    assert a.rows() == [("a", 7, "y", 0), ("b", 6, "y", 0)]
