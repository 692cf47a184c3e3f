import pytest

from replication.engine.catalogue import MergeRule
from replication.engine.changesets import ChangeKind
from tests.support.attached import PAGES, Attached, changes, exchange

NOTES = "CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, text)"
WIDER = PAGES.replace("body,", "body, color, stars INTEGER NOT NULL DEFAULT 0,")


def held(node: Attached) -> list[tuple[str, object]]:
    return node.sql("SELECT name, value FROM _litecast_held ORDER BY key, name")


def test_a_value_for_an_unknown_column_is_held_and_shown_when_the_column_comes() -> None:
    a, b = Attached(WIDER), Attached()
    outcome = b.merged(a.write("INSERT INTO pages VALUES ('x', 'X', '', 'red', 3, 1)"))
    assert outcome.held == 2
    assert b.rows() == [("x", "X", "", 1)]
    assert held(b) == [("color", "red"), ("stars", 3)]
    assert b.fold() is None
    b.sql("ALTER TABLE pages ADD COLUMN color")
    assert b.fold() is None
    assert b.sql("SELECT color FROM pages") == [("red",)]
    assert held(b) == [("stars", 3)]


def test_a_held_value_is_the_winner_of_its_cell_in_later_merges() -> None:
    a, b = Attached(WIDER), Attached()
    first = a.write("INSERT INTO pages VALUES ('x', 'X', '', 'red', 0, 1)")
    c = Attached(WIDER)
    c.merged(first)
    c.now_ms += 1_000
    later = c.write("UPDATE pages SET color = 'blue'")
    earlier = a.write("UPDATE pages SET color = 'green'")
    for encoded in (first, later, earlier):
        b.merged(encoded)
    assert ("color", "blue") in held(b)
    b.sql("ALTER TABLE pages ADD COLUMN color")
    b.fold()
    a.merged(later)
    assert a.sql("SELECT color FROM pages") == b.sql("SELECT color FROM pages") == [("blue",)]


def test_held_values_are_shown_before_the_new_column_is_compared() -> None:
    """A column that its own node added a moment ago must not stamp its default over what others wrote."""
    a, b = Attached(), Attached()
    a.sql("INSERT INTO pages VALUES ('x', 'X', '', 1)")
    exchange(a, b)
    a.sql("ALTER TABLE pages ADD COLUMN color DEFAULT 'none'")
    b.merged(a.write("UPDATE pages SET color = 'red'") if a.fold() is None else a.published())
    b.sql("ALTER TABLE pages ADD COLUMN color DEFAULT 'none'")
    assert b.fold() is None
    assert b.sql("SELECT color FROM pages") == [("red",)]


def test_what_a_migration_computed_for_a_new_column_gives_way_to_what_somebody_wrote_there() -> None:
    a, b = Attached(WIDER), Attached()
    b.merged(a.write("INSERT INTO pages VALUES ('x', 'X', '', 'red', 0, 1)", "INSERT INTO pages (name) VALUES ('y')"))
    b.write("INSERT INTO pages (name) VALUES ('z')")
    b.sql("ALTER TABLE pages ADD COLUMN color")
    b.sql("UPDATE pages SET color = 'computed'")
    assert b.fold() is None
    assert b.sql("SELECT color FROM pages") == [("red",), (None,), ("computed",)]
    assert ("color", "red") not in held(b)


def test_a_row_that_this_schema_refuses_is_held_and_written_when_it_does_not_any_more() -> None:
    a, b = Attached(), Attached(PAGES.replace("title,", "title NOT NULL,"))
    a.sql("INSERT INTO pages VALUES ('x', NULL, 'body', 1)")
    a.sql("INSERT INTO pages VALUES ('y', 'Y', 'body', 1)")
    assert b.merged(a.published()).held == 1
    assert b.rows() == [("y", "Y", "body", 1)]
    assert b.fold() is None
    assert b.merged(a.write("UPDATE pages SET body = 'new', visits = 5 WHERE name = 'x'")) is not None
    assert b.fold() is None
    b.connection.executescript(
        "CREATE TABLE new (name TEXT PRIMARY KEY NOT NULL, title, body, visits INTEGER NOT NULL DEFAULT 0);"
        "INSERT INTO new SELECT * FROM pages; DROP TABLE pages; ALTER TABLE new RENAME TO pages"
    )
    assert b.fold() is None
    assert b.rows() == a.rows() == [("x", None, "new", 5), ("y", "Y", "body", 1)]
    assert held(b) == []


def test_a_held_row_appears_as_soon_as_a_merge_makes_it_fit() -> None:
    a, b = Attached(), Attached(PAGES.replace("title,", "title NOT NULL,"))
    b.merged(a.write("INSERT INTO pages VALUES ('x', NULL, 'body', 1)"))
    assert b.rows() == []
    b.merged(a.write("UPDATE pages SET title = 'X', visits = visits + 1"))
    assert b.rows() == a.rows() == [("x", "X", "body", 2)]
    assert held(b) == []
    assert b.fold() is None


def test_a_held_row_that_is_deleted_is_held_no_more() -> None:
    a, b = Attached(), Attached(PAGES.replace("title,", "title NOT NULL,"))
    b.merged(a.write("INSERT INTO pages VALUES ('x', NULL, 'body', 1)"))
    b.merged(a.write("DELETE FROM pages"))
    assert held(b) == []
    assert b.fold() is None


def test_a_row_that_somebody_writes_in_the_place_of_a_held_one_is_an_update_of_it() -> None:
    a, b = Attached(), Attached(PAGES.replace("title,", "title NOT NULL,"))
    b.merged(a.write("INSERT INTO pages VALUES ('x', NULL, 'body', 1)"))
    (row,) = changes(b.write("INSERT INTO pages VALUES ('x', 'mine', 'body', 4)"))
    assert (row.kind, row.life, row.cells, row.counts) == (ChangeKind.UPDATE, 1, {"title": "mine"}, {"visits": 3})
    exchange(a, b)
    assert a.rows() == b.rows() == [("x", "mine", "body", 4)]


@pytest.mark.parametrize("refusing", ["title INTEGER", "title UNIQUE"])
def test_a_cell_that_this_schema_refuses_is_held_and_the_others_are_written(refusing: str) -> None:
    strict = " STRICT" if "INTEGER" in refusing else ""
    schema = (
        f"CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, {refusing.removesuffix(' UNIQUE')}, body BLOB, "
        f"visits INTEGER NOT NULL DEFAULT 0){strict}"
    )
    a, b = Attached(), Attached(schema)
    a.sql("INSERT INTO pages VALUES ('x', 1, x'00', 1)")
    a.sql("INSERT INTO pages VALUES ('y', 'taken', x'00', 1)")
    a.sql("UPDATE pages SET title = 2 WHERE name = 'y'")
    b.merged(a.published())
    if refusing.endswith("UNIQUE"):
        b.sql("CREATE UNIQUE INDEX one_title ON pages (title)")
        b.fold()
    title = "1" if refusing.endswith("UNIQUE") else "'text'"
    a.sql(f"UPDATE pages SET title = {title}, body = x'11', visits = 9 WHERE name = 'y'")
    outcome = b.merged(a.published())
    assert outcome.held == 1
    assert b.sql("SELECT body, visits FROM pages WHERE name = 'y'") == [(b"\x11", 9)]
    assert b.sql("SELECT count(*) FROM pages") == [(2,)]
    assert [name for name, _ in held(b)] == ["title"]
    assert b.fold() is None
    b.sql("UPDATE pages SET body = x'22' WHERE name = 'y'")
    assert changes(b.published())[0].cells == {"body": b"\x22"}
    b.merged(a.write("UPDATE pages SET title = 3 WHERE name = 'y'"))
    assert held(b) == []
    assert b.sql("SELECT CAST(title AS INTEGER) FROM pages WHERE name = 'y'") == [(3,)]
    assert b.fold() is None


def test_a_write_over_a_held_cell_wins() -> None:
    a, b = Attached(), Attached(PAGES.replace("title,", "title NOT NULL,"))
    b.merged(a.write("INSERT INTO pages VALUES ('x', 'X', 'body', 1)"))
    b.merged(a.write("UPDATE pages SET title = NULL"))
    assert b.rows() == [("x", "X", "body", 1)]
    b.sql("UPDATE pages SET title = 'mine'")
    exchange(a, b)
    assert a.rows() == b.rows() == [("x", "mine", "body", 1)]
    assert held(b) == []


def test_changes_of_a_table_that_is_not_attached_are_held_until_it_is() -> None:
    a, b = Attached(PAGES + ";" + NOTES), Attached()
    a.attach("notes")
    a.sql("INSERT INTO notes VALUES ('n', 'text')")
    a.sql("INSERT INTO pages VALUES ('x', 'X', '', 1)")
    outcome = b.merged(a.published())
    assert outcome.held == 1
    assert b.rows() == [("x", "X", "", 1)]
    b.merged(a.write("UPDATE notes SET text = 'newer'", "INSERT INTO notes VALUES ('gone', '')"))
    b.merged(a.write("DELETE FROM notes WHERE id = 'gone'"))
    b.sql(NOTES)
    b.attach("notes")
    assert b.fold() is None
    assert b.rows("notes") == a.rows("notes") == [("n", "newer")]
    assert b.sql("SELECT * FROM _litecast_held_tables") == []


def test_changes_of_a_table_with_another_key_are_held() -> None:
    a, b = Attached(), Attached("CREATE TABLE pages (id TEXT PRIMARY KEY NOT NULL, title)", counters=())
    assert b.merged(a.write("INSERT INTO pages VALUES ('x', 'X', '', 1)")).held == 1
    assert b.rows() == []
    assert b.fold() is None


def test_a_counter_that_is_no_column_here_yet_is_counted_all_the_same() -> None:
    counted = PAGES.removesuffix(")") + ", likes INTEGER NOT NULL DEFAULT 0)"
    a, b = Attached(counted, counters=("visits", "likes")), Attached()
    b.merged(a.write("INSERT INTO pages VALUES ('x', 'X', '', 1, 3)"))
    b.merged(a.write("UPDATE pages SET likes = likes + 2"))
    b.sql("ALTER TABLE pages ADD COLUMN likes INTEGER NOT NULL DEFAULT 0")
    b.sql("INSERT INTO _litecast_counters VALUES (1, 'likes')")
    assert b.fold() is None
    assert b.rows() == a.rows() == [("x", "X", "", 1, 5)]
    b.sql("UPDATE pages SET likes = likes + 1")
    exchange(a, b)
    assert b.rows() == a.rows() == [("x", "X", "", 1, 6)]


def test_with_the_row_rule_a_written_row_wins_over_what_was_held_of_it() -> None:
    a = Attached(rule=MergeRule.ROW)
    b = Attached(PAGES.replace("title,", "title NOT NULL,"), rule=MergeRule.ROW)
    b.merged(a.write("INSERT INTO pages VALUES ('x', 'X', 'body', 1)"))
    b.merged(a.write("UPDATE pages SET title = NULL, body = 'a'"))
    assert b.rows() == [("x", "X", "a", 1)]
    b.sql("UPDATE pages SET body = 'b'")
    exchange(a, b)
    assert a.rows() == b.rows() == [("x", "X", "b", 1)]
    assert held(b) == []
