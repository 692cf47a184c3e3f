import pytest

from replication.engine.catalogue import MergeRule
from replication.engine.changesets import ChangeKind
from tests.support.attached import PAGES, Attached, changes, exchange

REBUILD = (
    "CREATE TABLE new (name TEXT PRIMARY KEY NOT NULL, title, body, visits INTEGER NOT NULL DEFAULT 0);"
    "INSERT INTO new SELECT name, title, body, visits FROM pages; DROP TABLE pages; ALTER TABLE new RENAME TO pages;"
)


@pytest.fixture
def pair() -> tuple[Attached, Attached]:
    a, b = Attached(), Attached()
    a.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 10)")
    a.sql("INSERT INTO pages VALUES ('b', 'B', 'text', 20)")
    exchange(a, b)
    return a, b


def triggers(node: Attached) -> int:
    ((found,),) = node.sql("SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'pages'")
    assert isinstance(found, int)
    return found


def test_a_rebuilt_table_gets_its_triggers_back_and_nothing_is_sent(pair: tuple[Attached, Attached]) -> None:
    a, _ = pair
    before = triggers(a)
    a.connection.executescript(REBUILD)
    assert triggers(a) == 0
    assert a.fold() is None
    assert triggers(a) == before
    assert a.fold() is None


def test_what_was_written_without_triggers_is_found_by_comparing(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    a.connection.executescript(REBUILD)
    a.sql("UPDATE pages SET title = 'unseen', visits = visits + 5 WHERE name = 'a'")
    a.sql("DELETE FROM pages WHERE name = 'b'")
    a.sql("INSERT INTO pages VALUES ('c', 'C', '', 1)")
    b.sql("UPDATE pages SET visits = visits + 1 WHERE name = 'a'")
    theirs = b.published()
    kinds = {row.key[0]: row.kind for row in changes(a.published())}
    assert kinds == {"a": ChangeKind.UPDATE, "b": ChangeKind.DELETE, "c": ChangeKind.INSERT}
    a.merged(theirs)
    exchange(a, b)
    assert a.rows() == b.rows() == [("a", "unseen", "text", 16), ("c", "C", "", 1)]


def test_a_merge_finds_what_was_written_without_triggers_first(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    theirs = b.write("UPDATE pages SET visits = visits + 1 WHERE name = 'a'")
    a.connection.executescript(REBUILD)
    a.sql("UPDATE pages SET visits = visits + 5 WHERE name = 'a'")
    assert a.merged(theirs).folded is not None
    exchange(a, b)
    assert a.rows() == b.rows()
    assert a.rows()[0] == ("a", "A", "text", 16)


@pytest.mark.parametrize("default", ["", "DEFAULT 'none'", "INTEGER NOT NULL DEFAULT '7'", "DEFAULT x'00'"])
def test_a_new_column_sends_nothing(pair: tuple[Attached, Attached], default: str) -> None:
    a, b = pair
    for node in (a, b):
        node.sql(f"ALTER TABLE pages ADD COLUMN color {default}")
        assert node.fold() is None
    a.sql("UPDATE pages SET title = 'touched'")
    assert all(row.cells == {"title": "touched"} for row in changes(a.published()))
    entries = "SELECT length(cells) FROM _litecast_clock_1"
    assert len(set(a.sql(entries))) == 1
    exchange(a, b)
    assert a.rows() == b.rows()


def test_values_that_a_migration_computed_send_nothing_and_lose_to_any_write(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    for node in (a, b):
        node.sql("ALTER TABLE pages ADD COLUMN color")
        node.sql("UPDATE pages SET color = 'computed'")
        assert node.fold() is None
    b.merged(a.write("UPDATE pages SET color = 'red' WHERE name = 'a'"))
    assert b.sql("SELECT color FROM pages") == [("red",), ("computed",)]
    assert b.fold() is None


@pytest.mark.parametrize(("factor", "expected"), [(2, [(23,), (43,)]), (-2, [(-17,), (-37,)]), (0, [(3,), (3,)])])
def test_a_counter_that_a_migration_computed_sends_nothing_and_is_not_added_up(
    pair: tuple[Attached, Attached], factor: int, expected: list[tuple[int]]
) -> None:
    a, b = pair
    for node in (a, b):
        node.sql("ALTER TABLE pages ADD COLUMN likes INTEGER NOT NULL DEFAULT 0")
        node.sql("INSERT INTO _litecast_counters VALUES (1, 'likes')")
        node.sql(f"UPDATE pages SET likes = {factor} * visits")
        assert node.fold() is None
    a.sql("UPDATE pages SET likes = likes + 1")
    b.sql("UPDATE pages SET likes = likes + 2")
    exchange(a, b)
    assert a.sql("SELECT likes FROM pages") == b.sql("SELECT likes FROM pages") == expected


def test_an_insert_that_lacks_a_column_gets_its_default_and_counters_go_on_from_there() -> None:
    newer = PAGES.removesuffix(")") + ", color DEFAULT 'none', likes INTEGER NOT NULL DEFAULT 5)"
    a, b = Attached(), Attached(newer, counters=("visits", "likes"))
    b.merged(a.write("INSERT INTO pages VALUES ('x', 'X', '', 1)"))
    assert b.rows() == [("x", "X", "", 1, "none", 5)]
    assert b.fold() is None
    (row,) = changes(b.write("UPDATE pages SET likes = likes + 1"))
    assert row.counts == {"likes": 1}


def test_a_dropped_column_is_dropped_and_what_still_comes_for_it_is_counted(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    b.sql("ALTER TABLE pages DROP COLUMN body")
    assert b.fold() is None
    outcome = b.merged(a.write("UPDATE pages SET title = 't', body = 'late' WHERE name = 'a'"))
    assert outcome.dropped == 1
    assert outcome.held == 0
    assert b.rows()[0] == ("a", "t", 10)
    b.sql("ALTER TABLE pages ADD COLUMN body")
    assert b.fold() is None


def test_a_renamed_column_is_a_dropped_and_a_new_one(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    for node in (a, b):
        node.sql("ALTER TABLE pages RENAME COLUMN body TO text")
        assert node.fold() is None
    b.merged(a.write("UPDATE pages SET text = 'new' WHERE name = 'a'"))
    assert a.rows() == b.rows()


def test_a_dropped_table_stops_nothing_and_deletes_nothing_elsewhere(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    a.sql("UPDATE pages SET title = 'last'")
    a.sql("DROP TABLE pages")
    assert a.fold() is None
    assert a.fold() is None
    assert a.merged(b.write("UPDATE pages SET title = 'from b'")).held == 2
    assert len(b.rows()) == 2
    a.sql(PAGES)
    a.sql("INSERT INTO pages SELECT * FROM (VALUES ('a', 'A', 'text', 10), ('b', 'B', 'text', 20))")
    a.fold()
    exchange(a, b)
    assert a.rows() == b.rows()
    assert len(a.rows()) == 2


def test_a_renamed_table_goes_on_under_its_new_name(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    for node in (a, b):
        node.sql("ALTER TABLE pages RENAME TO leaves")
    b.merged(a.write("UPDATE leaves SET title = 'new'"))
    assert a.rows("leaves") == b.rows("leaves")
    assert b.rows("leaves")[0][1] == "new"


def test_vacuum_and_an_index_send_nothing(pair: tuple[Attached, Attached]) -> None:
    a, _ = pair
    a.sql("VACUUM")
    assert a.fold() is None
    a.sql("CREATE INDEX titles ON pages (title)")
    assert a.fold() is None


def test_a_column_dropped_and_added_again_is_another_one(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    for node in (a, b):
        node.sql("ALTER TABLE pages DROP COLUMN body")
        node.fold()
        node.sql("ALTER TABLE pages ADD COLUMN body")
        assert node.fold() is None
    b.merged(a.write("UPDATE pages SET body = 'again'"))
    assert a.rows() == b.rows()


def test_with_the_row_rule_a_row_that_is_sent_has_one_clock_new_columns_too() -> None:
    a, b = Attached(rule=MergeRule.ROW), Attached(rule=MergeRule.ROW)
    a.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 10)")
    exchange(a, b)
    for node in (a, b):
        node.sql("ALTER TABLE pages ADD COLUMN color")
        node.sql("UPDATE pages SET color = 'computed'")
    (row,) = changes(a.write("UPDATE pages SET title = 'B'"))
    assert row.cells == {"title": "B", "body": "text", "color": "computed"}
    exchange(a, b)
    blobs = "SELECT length(cells), stamp FROM _litecast_clock_1"
    assert a.sql(blobs) == b.sql(blobs)
    assert a.rows() == b.rows()
