import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from replication.engine.applying import merge_all
from replication.engine.changesets import encode
from replication.engine.decoding import decode
from replication.engine.stamps import Stamp, ms_of
from tests.support.attached import PAGES, Attached, Fork, Merged, Refused, Repeat, TooEarly, Waits, exchange

INSERT = "INSERT INTO pages VALUES ('{0}', 'title', 'body', 1)"


def insert(node: Attached, name: str) -> bytes:
    return node.write(INSERT.format(name)).encoded


@pytest.fixture
def pair() -> tuple[Attached, Attached]:
    return Attached(), Attached()


def test_a_changeset_is_merged_once_and_then_a_repeat(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    first, second = insert(a, "x"), insert(a, "y")
    assert isinstance(b.merge(first), Merged)
    assert isinstance(b.merge(first), Repeat)
    assert isinstance(b.merge(second), Merged)
    assert isinstance(b.merge(first), Repeat)
    assert b.rows() == a.rows()
    assert b.sites().head(a.site) == a.sites().head(a.site)


def test_one_that_comes_before_its_predecessor_waits_for_it(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    first, second = insert(a, "x"), insert(a, "y")
    outcome = b.merge(second)
    assert outcome == Waits(missing={a.site: Stamp(_upto(first))})
    assert b.rows() == []
    b.merged(first)
    b.merged(second)


def _upto(encoded: bytes) -> int:

    return decode(encoded).upto


def test_one_whose_deps_are_not_covered_waits_for_them(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    c = Attached()
    of_a = insert(a, "x")
    b.merged(of_a)
    of_b = b.write("UPDATE pages SET title = 'b'").encoded
    assert c.merge(of_b) == Waits(missing={a.site: Stamp(_upto(of_a))})
    c.merged(of_a)
    c.merged(of_b)
    assert c.rows() == b.rows()


def test_another_changeset_in_the_place_of_a_known_one_is_a_fork(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    first = a.write(INSERT.format("x"))
    second = a.write(INSERT.format("y"))
    b.merged(first)
    b.merged(second)
    other = replace(first.changeset, tables=second.changeset.tables)
    assert isinstance(b.merge(encode(other)), Fork)
    newest = replace(second.changeset, tables=first.changeset.tables)
    assert isinstance(b.merge(encode(newest)), Fork)
    between = replace(second.changeset, upto=Stamp(second.changeset.upto - 1))
    assert isinstance(b.merge(encode(between)), Fork)


def test_a_changeset_that_follows_another_than_the_merged_one_is_a_fork(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    first = a.write(INSERT.format("x"))
    second = a.write(INSERT.format("y"))
    b.merged(first)
    assert isinstance(b.merge(encode(replace(second.changeset, previous=b"0" * 16))), Fork)
    overlapping = replace(second.changeset, after=Stamp(first.changeset.upto - 1))
    assert isinstance(b.merge(encode(overlapping)), Fork)
    assert b.rows() == [("x", "title", "body", 1)]
    b.merged(second)


def test_a_repeat_below_a_trimmed_journal_is_a_repeat(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    first, second = insert(a, "x"), insert(a, "y")
    b.merged(first)
    b.merged(second)
    b.sql("DELETE FROM _litecast_journal")
    assert isinstance(b.merge(first), Repeat)
    assert isinstance(b.merge(second), Repeat)


def test_the_own_changeset_coming_back_is_a_repeat_and_overwrites_nothing(pair: tuple[Attached, Attached]) -> None:
    a, _ = pair
    first = insert(a, "x")
    a.sql("UPDATE pages SET title = 'newer'")
    assert isinstance(a.merge(first), Repeat)
    assert a.rows() == [("x", "newer", "body", 1)]


def test_the_own_site_beyond_the_own_head_is_a_fork() -> None:
    a = Attached()
    restored = Attached(site=a.site)
    later = a.write(INSERT.format("x"))
    assert restored.merge(later) == Fork(site=a.site, reason="its site is this database's, which has not written it")
    assert restored.rows() == []


def test_a_dep_on_the_own_site_beyond_the_own_head_is_a_fork() -> None:
    a, b = Attached(), Attached()
    restored = Attached(site=a.site)
    b.merged(insert(a, "x"))
    outcome = restored.merge(insert(b, "y"))
    assert isinstance(outcome, Fork)
    assert outcome.site == a.site


def test_a_stamp_beyond_the_bound_waits_until_time_comes(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    a.now_ms += 90_000
    early = insert(a, "x")
    until_ms = ms_of(Stamp(_upto(early))) - 60_000
    assert b.merge(early) == TooEarly(until_ms=until_ms)
    clock = b.sql("SELECT clock FROM _litecast_state")
    assert b.merge(early) == TooEarly(until_ms=until_ms)
    assert b.sql("SELECT clock FROM _litecast_state") == clock
    b.now_ms = until_ms
    b.merged(early)


def test_a_changeset_of_another_cluster_is_refused(pair: tuple[Attached, Attached]) -> None:
    _, b = pair
    stranger = Attached(cluster="strangers")
    outcome = b.merge(insert(stranger, "x"))
    assert isinstance(outcome, Refused)
    assert "strangers" in outcome.reason


@pytest.mark.parametrize("damage", [b"", b"\x90", b"\xc1", b"not a changeset"])
def test_bytes_that_are_no_changeset_are_refused(pair: tuple[Attached, Attached], damage: bytes) -> None:
    assert isinstance(pair[0].merge(damage), Refused)


def test_a_truncated_changeset_is_refused_at_every_length(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    encoded = insert(a, "x")
    for size in range(len(encoded)):
        assert isinstance(b.merge(encoded[:size]), Refused)
    assert b.rows() == []


def test_a_higher_life_wins_whole() -> None:
    a, b = Attached(), Attached()
    a.sql("INSERT INTO pages VALUES ('x', 'old', 'old', 5)")
    exchange(a, b)
    a.now_ms += 1_000
    a.sql("UPDATE pages SET title = 'later', visits = visits + 1")
    b.sql("DELETE FROM pages")
    b.sql("INSERT INTO pages (name, body) VALUES ('x', 'new life')")
    exchange(a, b)
    assert a.rows() == b.rows() == [("x", None, "new life", 0)]


def test_cells_of_a_row_go_to_their_last_writers() -> None:
    a, b = Attached(), Attached()
    a.sql("INSERT INTO pages VALUES ('x', 'old', 'old', 5)")
    exchange(a, b)
    a.sql("UPDATE pages SET title = 'a', body = 'a'")
    a.fold()
    b.now_ms += 1_000
    b.sql("UPDATE pages SET body = 'b'")
    exchange(a, b)
    assert a.rows() == b.rows() == [("x", "a", "b", 5)]


def test_an_insert_collision_is_merged_counted_and_its_loser_kept() -> None:
    a, b = Attached(), Attached()
    b.now_ms += 1_000
    of_a = a.write("INSERT INTO pages VALUES ('x', 'a', 'same', 0)")
    of_b = b.write("INSERT INTO pages VALUES ('x', 'b', 'same', 0)")
    assert a.merged(of_b).collisions == 1
    assert b.merged(of_a).collisions == 1
    assert a.rows() == b.rows() == [("x", "b", "same", 0)]
    losers = "SELECT site, cells FROM _litecast_conflicts"
    assert a.sql(losers) == b.sql(losers)
    ((site, cells),) = a.sql(losers)
    assert site == a.site
    assert b"title" in cells
    assert b"body" not in cells


def test_equal_inserts_of_two_sites_are_no_collision() -> None:
    a, b = Attached(), Attached()
    of_a, of_b = insert(a, "x"), insert(b, "x")
    assert a.merged(of_b).collisions == b.merged(of_a).collisions == 0
    assert a.rows() == b.rows() == [("x", "title", "body", 2)]


def test_an_update_of_a_row_that_was_deleted_and_trimmed_does_not_bring_it_back() -> None:
    a, b = Attached(), Attached()
    a.sql(INSERT.format("x"))
    exchange(a, b)
    late = b.write("UPDATE pages SET title = 'late', visits = visits + 1")
    a.write("DELETE FROM pages")
    a.sql("DELETE FROM _litecast_clock_1")
    a.merged(late)
    assert a.rows() == []
    assert a.sql("SELECT * FROM _litecast_count_1") == []


def test_a_row_that_breaks_a_check_is_written_and_listed() -> None:
    a, b = Attached(), Attached(PAGES.replace("title", "title CHECK (title < 'm')"))
    a.sql("INSERT INTO pages VALUES ('x', 'z', 'breaks it', 0)")
    a.sql("INSERT INTO pages VALUES ('y', 'b', 'keeps it', 0)")
    (violation,) = b.merged(a.published()).violations
    assert (violation.table, violation.key, violation.rule) == ("pages", ("x",), "CHECK")
    (violation,) = b.merged(a.write("UPDATE pages SET title = 'y' WHERE name = 'y'")).violations
    assert violation.key == ("y",)
    assert a.rows() == b.rows()
    with pytest.raises(sqlite3.IntegrityError):
        b.sql("UPDATE pages SET title = 'z'")


def test_a_row_whose_parent_was_in_the_same_table_is_listed() -> None:
    schema = PAGES.replace("title", "title REFERENCES pages (name)")
    a, b = Attached(schema), Attached(schema)
    a.sql("INSERT INTO pages (name) VALUES ('parent')")
    exchange(a, b)
    a.write("INSERT INTO pages (name, title) VALUES ('child', 'parent')")
    (violation,) = a.merged(b.write("DELETE FROM pages")).violations
    assert (violation.key, violation.rule) == (("child",), "FOREIGN KEY (title)")


def test_a_row_without_its_parent_is_written_and_listed() -> None:
    schema = (
        PAGES + "; CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, page REFERENCES pages (name) ON DELETE CASCADE)"
    )
    a, b = Attached(schema), Attached(schema)
    for node in (a, b):
        node.attach("notes")
        node.sql("PRAGMA foreign_keys = ON")
    a.sql(INSERT.format("x"))
    exchange(a, b)
    a.sql("INSERT INTO notes VALUES ('n', 'x')")
    theirs = b.write("DELETE FROM pages")
    outcome = a.merged(theirs)
    (violation,) = outcome.violations
    assert (violation.table, violation.key, violation.rule) == ("notes", ("n",), "FOREIGN KEY (page)")
    assert outcome.folded is not None
    (violation,) = b.merged(outcome.folded).violations
    assert (violation.table, violation.key) == ("notes", ("n",))
    assert a.rows("notes") == b.rows("notes") == [("n", "x")]


def settings(node: Attached) -> tuple[object, ...]:
    return (
        *(node.sql(f"PRAGMA {name}") for name in ("foreign_keys", "ignore_check_constraints")),
        node.connection.getconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER),
        node.connection.in_transaction,
        node.connection.text_factory,
        node.connection.row_factory,
    )


@pytest.mark.parametrize("foreign_keys", ["ON", "OFF"])
def test_the_connection_is_as_it_was_after_a_merge_and_after_a_failed_one(
    pair: tuple[Attached, Attached], foreign_keys: str
) -> None:
    a, b = pair
    b.sql(f"PRAGMA foreign_keys = {foreign_keys}")
    before = settings(b)
    a.sql("INSERT INTO pages VALUES (CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT), '', 1)")
    folded = a.published()
    b.sql("DROP TABLE _litecast_journal")
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="_litecast_journal"):
            b.merge(folded)
        assert settings(b) == before
        assert b.rows() == []
    b.sql(a.sql("SELECT sql FROM sqlite_master WHERE name = '_litecast_journal'")[0][0])
    b.merged(folded)
    assert settings(b) == before


def test_a_merge_inside_a_transaction_of_the_caller_s_is_refused(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    encoded = insert(a, "x")
    b.sql("BEGIN")
    with pytest.raises(RuntimeError, match="transaction is open"):
        b.merge(encoded)
    assert b.connection.in_transaction
    b.sql("ROLLBACK")
    b.merged(encoded)


def test_a_locked_database_leaves_the_merge_undone_and_the_connection_as_it_was(tmp_path: Path) -> None:
    a, b = Attached(), Attached(path=tmp_path / "b.db")
    encoded = insert(a, "x")
    b.sql("PRAGMA foreign_keys = ON")
    before = settings(b)
    other = sqlite3.connect(tmp_path / "b.db", isolation_level=None, timeout=0)
    other.execute("BEGIN IMMEDIATE")
    b.sql("PRAGMA busy_timeout = 1")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        b.merge(encoded)
    assert settings(b) == before
    other.execute("ROLLBACK")
    other.close()
    b.merged(encoded)
    assert settings(b) == before


def test_one_failing_changeset_of_several_is_told_apart_and_the_others_are_merged() -> None:
    a, b = Attached(), Attached()
    first, second, third = insert(a, "x"), insert(a, "y"), insert(a, "z")
    outcomes = merge_all(b.connection, [first, third, b"damaged", second, first, third], now_ms=b.now_ms + 9)
    assert [type(outcome) for outcome in outcomes] == [Merged, Waits, Refused, Merged, Repeat, Merged]
    assert b.rows() == a.rows()


def test_ten_thousand_rows_are_folded_and_merged_in_one_changeset() -> None:
    a, b = Attached(), Attached()
    a.connection.execute("BEGIN")
    a.connection.executemany(
        "INSERT INTO pages VALUES (?, ?, ?, ?)", [(f"{n * 7919 % 10_000}", n, n / 3, n % 5) for n in range(10_000)]
    )
    a.connection.execute("COMMIT")
    assert b.merged(a.published()).rows == 10_000
    a.sql("UPDATE pages SET title = title + 1, visits = visits + 1 WHERE visits > 1")
    b.merged(a.published())
    a.sql("DELETE FROM pages WHERE visits = 0")
    b.merged(a.published())
    assert a.rows() == b.rows()
    assert b.fold() is None


def test_a_row_that_is_there_without_an_entry_is_written_over() -> None:
    """Damage, or a write that nothing captured: what was merged is what holds."""
    a, b = Attached(), Attached()
    b.sql("INSERT INTO pages VALUES ('x', 'uncaptured', NULL, 9)")
    b.sql("DELETE FROM _litecast_log_1")
    b.merged(a.write("INSERT INTO pages VALUES ('w', '', '', 0), ('x', 'captured', '', 1), ('y', '', '', 0)"))
    assert a.rows() == b.rows()
    assert b.fold() is None
