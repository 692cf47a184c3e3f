"""A merge supposes first that what others insert is new and accepted; where it is not, it begins again with care."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from replication.engine.applying import Fork, merge_all
from replication.engine.changesets import encode
from tests.support.attached import Attached, Merged, Repeat

INSERT = "INSERT INTO pages VALUES ('{0}', '{1}', 'body', 1)"


@contextmanager
def statements(node: Attached) -> Iterator[list[str]]:
    """What SQL is run."""
    found: list[str] = []
    node.connection.set_trace_callback(found.append)
    yield found
    node.connection.set_trace_callback(None)


def count(found: list[str], beginning: str) -> int:
    return sum(statement.startswith(beginning) for statement in found)


@pytest.fixture
def pair() -> tuple[Attached, Attached]:
    return Attached(), Attached()


def test_new_rows_are_merged_without_a_look_at_their_entries_and_without_a_savepoint(
    pair: tuple[Attached, Attached],
) -> None:
    a, b = pair
    with statements(b) as found:
        b.merged(a.write(INSERT.format("x", "new")).encoded)
    assert count(found, "BEGIN") == 1
    assert not count(found, "SAVEPOINT")
    assert not any("_litecast_clock" in statement for statement in found if statement.startswith(("SELECT", "WITH")))
    assert b.rows() == a.rows()


def test_a_row_that_is_known_is_merged_with_care(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    b.write(INSERT.format("x", "of b"))
    a.now_ms += 5
    of_a = a.write("INSERT INTO pages VALUES ('x', 'of a', 'body', 2), ('y', 'new', 'body', 3)")
    with statements(b) as found:
        outcome = b.merge(of_a.encoded)
    assert count(found, "BEGIN") == 2
    assert isinstance(outcome, Merged)
    assert outcome.collisions == 1
    assert b.rows() == [("x", "of a", "body", 3), ("y", "new", "body", 3)]


def test_an_insert_that_comes_late_does_not_revive_a_row(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    late = a.write(INSERT.format("x", "of a")).encoded
    b.write(INSERT.format("x", "of b"))
    b.write("DELETE FROM pages")
    b.merged(late)
    assert b.rows() == []


def test_a_repeat_writes_nothing(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    encoded = a.write(INSERT.format("x", "new")).encoded
    b.merged(encoded)
    before = b.connection.total_changes
    assert isinstance(b.merge(encoded), Repeat)
    assert b.connection.total_changes == before


def test_a_count_alone_leaves_the_entry_as_it_is(pair: tuple[Attached, Attached]) -> None:
    a, b = pair
    b.merged(a.write(INSERT.format("x", "new")).encoded)
    counted = a.write("UPDATE pages SET visits = visits + 1").encoded
    with statements(b) as found:
        b.merged(counted)
    assert not any("INTO main._litecast_clock" in statement for statement in found)
    assert b.rows() == a.rows()


def test_a_fork_shows_also_within_one_transaction(pair: tuple[Attached, Attached]) -> None:
    """What was merged a moment ago, and is not written yet, stands in the journal when it is looked at."""
    a, b = pair
    first, second = a.write(INSERT.format("x", "new")), a.write(INSERT.format("y", "new"))
    other = encode(replace(first.changeset, tables=second.changeset.tables))
    outcomes = merge_all(b.connection, [first.encoded, second.encoded, first.encoded, other], now_ms=b.now_ms + 10)
    assert [type(outcome) for outcome in outcomes] == [Merged, Merged, Repeat, Fork]
    assert b.journal() == [first.encoded, second.encoded]
