import pytest

from replication.engine.catalogue import MergeRule
from replication.engine.changesets import ChangeKind, RowChange, digest
from replication.engine.stamps import ms_of
from tests.support.attached import PAGES, Attached, changes, exchange


@pytest.fixture
def node() -> Attached:
    return Attached()


def only(rows: list[RowChange]) -> RowChange:
    (row,) = rows
    return row


def test_nothing_written_is_nothing_folded_and_nothing_written_by_the_fold(node: Attached) -> None:
    node.fold()
    before = node.connection.total_changes
    assert node.fold() is None
    assert node.connection.total_changes == before


def test_an_insert_carries_the_row_whole_under_life_one(node: Attached) -> None:
    row = only(changes(node.write("INSERT INTO pages VALUES ('a', 'A', x'00', 3)")))
    assert row == RowChange(
        kind=ChangeKind.INSERT, key=("a",), life=1, cells={"title": "A", "body": b"\0"}, counts={"visits": 3}
    )


def test_only_changed_cells_travel(node: Attached) -> None:
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    row = only(changes(node.write("UPDATE pages SET title = 'B', body = 'text', visits = 3")))
    assert row == RowChange(kind=ChangeKind.UPDATE, key=("a",), life=1, cells={"title": "B"}, counts={})


def test_with_the_row_rule_every_change_carries_the_whole_row() -> None:
    node = Attached(rule=MergeRule.ROW)
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    row = only(changes(node.write("UPDATE pages SET title = 'B'")))
    assert row.cells == {"title": "B", "body": "text"}
    assert row.counts == {}


def test_a_value_that_is_put_back_before_the_fold_is_no_change(node: Attached) -> None:
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    node.sql("UPDATE pages SET title = 'B', visits = 9")
    node.sql("UPDATE pages SET title = 'A', visits = 3")
    assert node.fold() is None
    assert node.sql("SELECT count(*) FROM _litecast_log_1") == [(0,)]


def test_a_row_inserted_and_deleted_between_two_folds_was_never_there(node: Attached) -> None:
    node.sql("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    node.sql("DELETE FROM pages")
    assert node.fold() is None


def test_types_are_told_apart_and_minus_zero_is_zero(node: Attached) -> None:
    node.write("INSERT INTO pages VALUES ('a', 1, 0.0, 0)")
    assert node.write("UPDATE pages SET title = 1.0") is not None
    assert node.write("UPDATE pages SET title = '1'") is not None
    assert node.write("UPDATE pages SET title = x'31'") is not None
    node.sql("UPDATE pages SET body = -0.0")
    assert node.fold() is None


def test_a_delete_ends_the_life(node: Attached) -> None:
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    row = only(changes(node.write("DELETE FROM pages")))
    assert row == RowChange(kind=ChangeKind.DELETE, key=("a",), life=2, cells={}, counts={})


def test_delete_then_insert_is_a_new_life(node: Attached) -> None:
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    row = only(changes(node.write("DELETE FROM pages", "INSERT INTO pages VALUES ('a', 'A', 'text', 3)")))
    assert (row.kind, row.life, row.counts) == (ChangeKind.INSERT, 3, {"visits": 3})


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_a_replace_is_the_same_life(node: Attached, recursive: str) -> None:
    node.sql(f"PRAGMA recursive_triggers = {recursive}")
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    row = only(changes(node.write("REPLACE INTO pages VALUES ('a', 'B', 'text', 4)")))
    assert row == RowChange(kind=ChangeKind.UPDATE, key=("a",), life=1, cells={"title": "B"}, counts={"visits": 4})


def test_an_insert_after_a_folded_delete_is_the_next_odd_life(node: Attached) -> None:
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    node.write("DELETE FROM pages")
    row = only(changes(node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")))
    assert (row.kind, row.life) == (ChangeKind.INSERT, 3)


@pytest.mark.parametrize(("floor", "life"), [(0, 1), (2, 3), (8, 9)])
def test_a_first_insert_takes_the_next_odd_life_above_the_floor(node: Attached, floor: int, life: int) -> None:
    node.sql(f"UPDATE _litecast_catalogue SET floor = {floor}")
    row = only(changes(node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")))
    assert row.life == life


def test_an_update_of_the_key_is_a_delete_and_an_insert(node: Attached) -> None:
    node.write("INSERT INTO pages VALUES ('a', 'A', 'text', 3)")
    rows = {row.key: row for row in changes(node.write("UPDATE pages SET name = 'b'"))}
    assert rows["a",].kind is ChangeKind.DELETE
    assert (rows["b",].kind, rows["b",].counts) == (ChangeKind.INSERT, {"visits": 3})


def test_a_changeset_has_one_stamp_beyond_now_and_everything_merged(node: Attached) -> None:
    folded = node.write("INSERT INTO pages VALUES ('a', 'A', '', 3)", "INSERT INTO pages VALUES ('b', 'B', '', 3)")
    assert ms_of(folded.changeset.upto) == node.now_ms
    node.now_ms -= 5_000  # the clock is set back
    assert node.write("UPDATE pages SET title = 'C'").changeset.upto == folded.changeset.upto + 1
    ahead = Attached()
    ahead.now_ms += 30_000
    theirs = ahead.write("INSERT INTO pages VALUES ('c', '', '', 0)")
    node.merged(theirs)
    assert node.write("UPDATE pages SET title = 'D'").changeset.upto == theirs.changeset.upto + 1


def test_changesets_of_a_site_are_a_chain_of_ranges_and_hashes(node: Attached) -> None:
    first = node.write("INSERT INTO pages VALUES ('a', 'A', '', 3)")
    second = node.write("UPDATE pages SET title = 'B'")
    assert (first.changeset.after, first.changeset.previous) == (0, b"")
    assert second.changeset.after == first.changeset.upto
    assert second.changeset.previous == first.digest == digest(first.encoded)
    head = node.sites().head(node.site)
    assert head is not None
    assert (head.stamp, head.digest) == (second.changeset.upto, second.digest)
    assert node.journal() == [first.encoded, second.encoded]


def test_the_first_changeset_of_a_site_names_the_whole_vector_and_later_ones_what_moved() -> None:
    a, b, c = Attached(), Attached(), Attached()
    of_b = b.write("INSERT INTO pages VALUES ('b', '', '', 0)")
    of_c = c.write("INSERT INTO pages VALUES ('c', '', '', 0)")
    a.merged(of_b)
    a.merged(of_c)
    first = a.write("INSERT INTO pages VALUES ('a', '', '', 0)").changeset
    assert first.deps == {b.site: of_b.changeset.upto, c.site: of_c.changeset.upto}
    assert a.write("UPDATE pages SET title = 1").changeset.deps == {}
    again = b.write("UPDATE pages SET title = 2 WHERE name = 'b'")
    a.merged(again)
    assert a.write("UPDATE pages SET title = 3").changeset.deps == {b.site: again.changeset.upto}


def test_text_that_is_not_utf_8_is_folded_and_merged_as_it_is() -> None:
    a, b = Attached(), Attached()
    a.sql("INSERT INTO pages VALUES (CAST(x'ff61' AS TEXT), CAST(x'80' AS TEXT), x'80', 1)")
    a.sql("INSERT INTO pages VALUES ('nul' || char(0) || 'key', 'a' || char(0), '', 1)")
    exchange(a, b)
    hexed = "SELECT hex(name), hex(title), typeof(title), typeof(body), visits FROM pages ORDER BY 1"
    assert b.sql(hexed) == a.sql(hexed)
    b.sql("UPDATE pages SET title = CAST(x'81' AS TEXT), visits = visits + 1")
    a.sql("UPDATE pages SET body = 2, visits = visits + 1")
    exchange(a, b)
    assert b.sql(hexed) == a.sql(hexed)
    assert a.sql("SELECT hex(title), visits FROM pages") == [("81", 3), ("81", 3)]
    a.sql("DELETE FROM pages")
    exchange(a, b)
    assert b.rows() == []


def test_a_fold_inside_a_transaction_of_the_caller_s_is_refused(node: Attached) -> None:
    node.sql("BEGIN")
    node.sql("INSERT INTO pages VALUES ('a', '', '', 0)")
    with pytest.raises(RuntimeError, match="transaction is open"):
        node.fold()
    node.sql("ROLLBACK")
    assert node.fold() is None


def test_schema_of_another_database_file_is_not_looked_at() -> None:
    node = Attached(PAGES)
    node.sql("ATTACH ':memory:' AS other")
    node.sql("CREATE TABLE other.pages (name)")
    node.sql("CREATE TEMP TABLE pages (name)")
    row = only(changes(node.write("INSERT INTO main.pages VALUES ('a', 'A', 'text', 3)")))
    assert row.cells == {"title": "A", "body": "text"}
