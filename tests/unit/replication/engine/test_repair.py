"""Damage is found where it is; a person says whether it is to stay or to go."""

from collections.abc import Mapping

import pytest

from replication.engine import scanning
from replication.engine.comparable import NotComparable
from replication.engine.held import of_key
from replication.engine.repairing import Restored, adopt, restore
from replication.engine.scanning import Damage, DamagedRow, Harm, scan
from replication.engine.session import NotAttached
from replication.engine.values import Key, Value
from tests.support.attached import PAGES, Attached, changes, exchange
from tests.support.drift import uncaptured

A: Key = ("a",)
B: Key = ("b",)
C: Key = ("c",)


def written() -> Attached:
    node = Attached()
    node.write("INSERT INTO pages VALUES ('a', 'x', NULL, 3), ('b', 'y', 'z', 0)")
    return node


def damage(node: Attached, *statements: str) -> Damage:
    """What is found after writes that nobody captures."""
    with uncaptured(node.connection):
        for statement in statements:
            node.sql(statement)
    return scan(node.connection, "pages")


def only(damaged: Damage) -> DamagedRow:
    (row,) = damaged.rows
    return row


def restored(node: Attached, rows: Mapping[Key, Mapping[str, Value] | None]) -> Restored:
    return restore(node.connection, "pages", rows, now_ms=node.now_ms)


# ---- scan


def test_rows_that_are_as_they_were_written_are_not_damaged() -> None:
    one, other = written(), Attached()
    other.pull(one)
    other.write("UPDATE pages SET title = 'other', visits = visits + 1", "DELETE FROM pages WHERE name = 'b'")
    one.pull(other)
    for node in (one, other):
        assert scan(node.connection, "pages") == Damage()


def test_a_row_that_shows_what_nobody_wrote_is_changed_and_its_columns_are_named() -> None:
    found = damage(written(), "UPDATE pages SET title = 'X', visits = 4 WHERE name = 'a'")
    assert found == Damage(
        rows=(DamagedRow(key=A, harm=Harm.CHANGED, columns=("title", "visits")),),
        changed=1,
    )


def test_a_value_of_another_type_is_another_value() -> None:
    node = Attached()
    node.write("INSERT INTO pages (name, title) VALUES ('a', 1)")
    assert only(damage(node, "UPDATE pages SET title = '1'")).columns == ("title",)
    assert only(damage(node, "UPDATE pages SET title = 1, visits = 'none'")).columns == ("visits",)


def test_a_row_that_is_gone_and_nobody_deleted_is_missing() -> None:
    node = written()
    assert damage(node, "DELETE FROM pages WHERE name = 'a'") == Damage(
        rows=(DamagedRow(key=A, harm=Harm.MISSING),), missing=1
    )
    node.write("DELETE FROM pages WHERE name = 'b'")
    assert scan(node.connection, "pages").count == 1


def test_a_row_that_nobody_inserted_or_that_was_deleted_is_unknown() -> None:
    node = written()
    node.write("DELETE FROM pages WHERE name = 'b'")
    found = damage(node, "INSERT INTO pages (name) VALUES ('b'), ('c')")
    assert found == Damage(rows=(DamagedRow(key=B, harm=Harm.UNKNOWN), DamagedRow(key=C, harm=Harm.UNKNOWN)), unknown=2)


def test_what_waits_for_a_fold_is_no_damage() -> None:
    node = written()
    damage(node, "UPDATE pages SET title = 'X'")
    node.sql("UPDATE pages SET body = 'new' WHERE name = 'a'")
    assert only(scan(node.connection, "pages")).key == B


def test_no_more_rows_are_named_than_asked_for_but_all_are_counted() -> None:
    node = written()
    damage(node, "UPDATE pages SET title = 'X'")
    found = scan(node.connection, "pages", rows_max=1)
    assert (len(found.rows), found.count) == (1, 2)


def test_nothing_is_looked_at_while_a_new_schema_or_a_large_log_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    node = written()
    damage(node, "UPDATE pages SET title = 'X'")
    node.sql("CREATE TABLE other (x)")
    assert scan(node.connection, "pages") == Damage(unsettled=True)
    node.fold()
    assert scan(node.connection, "pages").count == 2
    monkeypatch.setattr(scanning, "LOG_MAX", 1)
    node.sql("INSERT INTO pages (name) VALUES ('c'), ('d')")
    assert scan(node.connection, "pages") == Damage(unsettled=True)


def test_a_default_that_is_no_constant_may_show_anything() -> None:
    fewer = Attached()
    more = Attached(PAGES.replace("body", "body, made DEFAULT CURRENT_TIMESTAMP, kind DEFAULT 'page'"))
    fewer.write("INSERT INTO pages (name) VALUES ('a')")
    more.pull(fewer)
    assert scan(more.connection, "pages") == Damage()
    assert only(damage(more, "UPDATE pages SET made = 'never', kind = 'none'")).columns == ("kind",)


def test_what_is_held_is_no_damage_but_what_is_shown_instead_can_be() -> None:
    strict = Attached(PAGES.replace("title", "title NOT NULL DEFAULT 'none'"))
    loose = Attached()
    loose.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    loose.write("UPDATE pages SET title = NULL")
    strict.pull(loose)
    assert scan(strict.connection, "pages") == Damage()
    assert only(damage(strict, "UPDATE pages SET title = 'X'")).columns == ("title",)
    loose.write("INSERT INTO pages (name) VALUES ('b')")
    without = Attached(PAGES.replace("title", "title NOT NULL"))
    without.pull(loose)
    assert [row[0] for row in without.rows()] == ["a"], "the other row is held"
    assert scan(without.connection, "pages") == Damage()


def test_only_an_attached_table_can_be_scanned() -> None:
    node = Attached()
    with pytest.raises(NotComparable):
        scan(node.connection, "nothing")
    node.sql("CREATE TABLE t (k PRIMARY KEY NOT NULL)")
    with pytest.raises(NotComparable, match="not attached"):
        scan(node.connection, "t")
    with pytest.raises(NotComparable, match="not attached"):
        adopt(node.connection, "t", [], now_ms=1)
    with pytest.raises(NotComparable, match="not attached"):
        restore(node.connection, "t", {}, now_ms=1)
    plain = Attached(attached=False)
    with pytest.raises(NotAttached):
        scan(plain.connection, "pages")


# ---- adopt


def test_what_is_adopted_reaches_everybody_as_a_write_of_now() -> None:
    one, other = written(), Attached()
    exchange(one, other)
    found = damage(
        one,
        "UPDATE pages SET title = 'X', visits = 9 WHERE name = 'a'",
        "DELETE FROM pages WHERE name = 'b'",
        "INSERT INTO pages (name, title) VALUES ('c', 'new')",
    )
    one.now_ms += 1
    folded = adopt(one.connection, "PAGES", [row.key for row in found.rows], now_ms=one.now_ms)
    assert folded is not None
    assert {(row.key, row.kind.name) for row in changes(folded)} == {(A, "UPDATE"), (B, "DELETE"), (C, "INSERT")}
    other.merged(folded)
    assert other.rows() == one.rows() == [("a", "X", None, 9), ("c", "new", None, 0)]
    assert scan(one.connection, "pages") == Damage()


def test_to_adopt_what_is_not_damaged_is_no_news() -> None:
    node = written()
    assert adopt(node.connection, "pages", [A, B, C], now_ms=node.now_ms) is None


# ---- restore


def test_a_cell_is_set_back_to_the_value_that_another_node_shows() -> None:
    node = written()
    damage(node, "UPDATE pages SET title = 'X' WHERE name = 'a'")
    before = node.connection.total_changes
    assert restored(node, {A: {"title": "x", "body": None, "visits": 3}}) == Restored(
        rows=1, unverified={}, held=0, folded=None
    )
    assert node.rows()[0] == ("a", "x", None, 3)
    assert node.connection.total_changes == before + 2, "the row, and that the database is of another generation"
    assert node.fold() is None, "nobody else notices"


def test_a_value_that_was_not_written_is_not_taken() -> None:
    node = written()
    damage(node, "UPDATE pages SET title = 'X', body = 'X' WHERE name = 'a'")
    for theirs in ({"title": "newer"}, {}, None):
        damage(node, "UPDATE pages SET body = 'X' WHERE name = 'a'")
        found = restored(node, {A: theirs})
        assert (found.rows, found.unverified) == (0, {A: ("title",)})
        assert node.rows()[0] == ("a", "X", None, 3), "that it was NULL is known by its hash"


def test_counters_and_rows_that_nobody_inserted_need_no_other_node() -> None:
    one, other = written(), Attached()
    exchange(one, other)
    other.write("UPDATE pages SET visits = visits + 5")
    exchange(one, other)
    damage(one, "UPDATE pages SET visits = 0", "INSERT INTO pages (name) VALUES ('c')")
    assert restored(one, {A: None, B: None, C: None}).rows == 3
    assert one.rows() == other.rows() == [("a", "x", None, 8), ("b", "y", "z", 5)]
    assert one.fold() is None


def test_a_row_that_is_missing_comes_back_whole_or_not_at_all() -> None:
    one, other = written(), Attached()
    exchange(one, other)
    other.write("UPDATE pages SET title = 'later' WHERE name = 'b'")
    exchange(one, other)
    damage(one, "DELETE FROM pages")
    assert restored(one, {B: {"title": "later"}}).unverified == {B: ("body",)}
    assert one.rows() == []
    found = restored(one, {A: {"title": "x", "body": None}, B: {"title": "later", "body": "z"}})
    assert (found.rows, found.unverified) == (2, {})
    assert one.rows() == other.rows()
    assert one.fold() is None


def test_a_row_that_was_written_since_the_scan_is_not_damaged_any_more() -> None:
    node = written()
    damage(node, "UPDATE pages SET title = 'X' WHERE name = 'a'")
    node.sql("UPDATE pages SET body = 'new' WHERE name = 'a'")
    node.now_ms += 1
    found = restored(node, {A: {"title": "x", "body": None}})
    assert found.rows == 0
    assert found.folded is not None
    assert [dict(row.cells) for row in changes(found.folded)] == [{"title": "X", "body": "new"}]
    assert node.rows()[0] == ("a", "X", "new", 3)


def test_a_missing_row_comes_back_with_what_is_held_of_it() -> None:
    strict = Attached(PAGES.replace("title", "title NOT NULL DEFAULT 'none'"))
    loose = Attached()
    loose.write("INSERT INTO pages (name, title, body) VALUES ('a', 'x', 'b')")
    loose.write("UPDATE pages SET title = NULL")
    strict.pull(loose)
    damage(strict, "DELETE FROM pages")
    assert restored(strict, {A: {"title": None, "body": "b"}}).rows == 1
    assert strict.rows() == [("a", "none", "b", 0)]
    assert of_key(strict.connection, 1, A)["title"].value is None
    assert scan(strict.connection, "pages") == Damage()
    assert strict.fold() is None


def test_a_held_value_whose_cell_was_damaged_is_held_for_what_is_shown_now() -> None:
    strict = Attached(PAGES.replace("title", "title NOT NULL DEFAULT 'none'"))
    loose = Attached()
    loose.write("INSERT INTO pages (name, title, body) VALUES ('a', 'x', 'b')")
    loose.write("UPDATE pages SET title = NULL")
    strict.pull(loose)
    damage(strict, "UPDATE pages SET title = 'X'")
    found = restored(strict, {A: None})
    assert (found.rows, found.held) == (1, 1)
    assert strict.rows() == [("a", "X", "b", 0)]
    assert scan(strict.connection, "pages") == Damage()


def test_a_cell_that_nobody_wrote_is_set_back_to_its_default() -> None:
    fewer = Attached()
    more = Attached(PAGES.replace("body", "body, kind DEFAULT 'page'"))
    fewer.write("INSERT INTO pages (name) VALUES ('a')")
    more.pull(fewer)
    damage(more, "UPDATE pages SET kind = 'none'")
    assert restored(more, {A: None}).rows == 1
    assert more.sql("SELECT kind FROM pages") == [("page",)]


def test_an_application_s_triggers_do_not_see_a_restored_row_unless_they_are_local() -> None:
    node = Attached(
        PAGES
        + "; CREATE TABLE noted (n); CREATE TRIGGER note AFTER UPDATE ON pages BEGIN INSERT INTO noted VALUES (1); END"
    )
    node.write("INSERT INTO pages (name, title) VALUES ('a', 'x')")
    damage(node, "UPDATE pages SET title = 'X'")
    restored(node, {A: {"title": "x"}})
    assert node.sql("SELECT count(*) FROM noted") == [(1,)], "it writes what is not attached, so it runs on every node"
    assert node.fold() is None
