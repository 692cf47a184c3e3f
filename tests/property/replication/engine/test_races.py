"""What becomes of two writes that did not know of each other, case by case, in every order of arrival."""

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from replication.engine.applying import Merged, Outcome, Waits
from replication.engine.folding import Folded
from tests.support import clicks
from tests.support.replicas import START_MS, Replica, attach_file, choices, fast_folder, new_site, open_database

type Rows = dict[str, tuple[int, str | None]]


class Node:
    """A replica and somebody who writes into it."""

    def __init__(self, folder: Path, number: int, rows: Rows) -> None:
        path = folder / f"{number}.db"
        self.now_ms = START_MS + number

        def schema(plain: sqlite3.Connection) -> None:
            clicks.create(plain)
            plain.executemany("INSERT INTO clicks VALUES (?, ?, ?, 'x')", [(page, *row) for page, row in rows.items()])

        attach_file(path, schema, choices([clicks.TABLE]), new_site(random.Random(number)))
        self.replica = Replica(path)
        self.connection = open_database(path)

    def close(self) -> None:
        self.connection.close()
        self.replica.close()

    def write(self, *statements: str) -> bytes:
        """One changeset."""
        for statement in statements:
            self.connection.execute(statement)
        folded = self.fold()
        assert folded is not None
        return folded.encoded

    def fold(self) -> Folded | None:
        self.now_ms += 10
        return self.replica.fold(self.now_ms)

    def merge(self, *encoded: bytes) -> list[Outcome]:
        self.now_ms += 10
        return [self.replica.merge(one, self.now_ms) for one in encoded]

    def rows(self) -> Rows:
        return {
            page: (n, label)
            for page, n, label in self.connection.execute("SELECT page, n, label FROM clicks ORDER BY 1")
        }


type MakeNodes = Callable[..., list[Node]]


@pytest.fixture
def nodes() -> Iterator[MakeNodes]:
    with fast_folder() as folder:
        made: list[Node] = []

        def make(*rows: Rows) -> list[Node]:
            for one in rows:
                made.append(Node(folder, len(made), one))
            return made[-len(rows) :]

        yield make
        for node in made:
            node.close()


def exchange(nodes: list[Node]) -> Rows:
    """Everything reaches everybody, in any order; all hold the same."""
    rng = random.Random(0)
    moved = True
    while moved:
        moved = False
        for node in nodes:
            changesets = [encoded for other in nodes for encoded in other.replica.published]
            rng.shuffle(changesets)
            moved |= any(isinstance(outcome, Merged) for outcome in node.merge(*changesets))
    first, *others = nodes
    for other in others:
        assert other.rows() == first.rows()
    return first.rows()


def seeded(nodes: MakeNodes) -> tuple[Node, Node, Node]:
    """Three that hold ('a', 10, 'old')."""
    a, b, c = nodes({}, {}, {})
    first = a.write("INSERT INTO clicks (page, n, label) VALUES ('a', 10, 'old')")
    b.merge(first)
    c.merge(first)
    return a, b, c


def test_increments_of_three_add_up(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    for node, by in ((a, 1), (b, 20), (c, 300)):
        node.write(f"UPDATE clicks SET n = n + {by}")
    assert exchange([a, b, c]) == {"a": (331, "old")}


def test_first_inserts_of_one_key_add_up_and_the_loser_is_kept(nodes: MakeNodes) -> None:
    a, b, c = nodes({}, {}, {})
    a.write("INSERT INTO clicks VALUES ('a', 1, 'mine', 1)")
    b.write("INSERT INTO clicks VALUES ('a', 2, 'theirs', 1)")
    assert exchange([a, b, c]) == {"a": (3, "theirs")}
    for node in (a, b, c):
        assert node.connection.execute("SELECT count(*) FROM _litecast_conflicts").fetchone() == (1,)


def test_two_columns_of_one_row_written_at_once_both_stay(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    a.write("UPDATE clicks SET label = 'new'")
    b.write("UPDATE clicks SET extra = 'more'")
    exchange([a, b, c])
    assert c.connection.execute("SELECT label, extra FROM clicks").fetchall() == [("new", "more")]


def test_the_later_write_of_a_cell_wins_whoever_hears_it_first(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    a.now_ms += 1000
    a.write("UPDATE clicks SET label = 'later'")
    b.write("UPDATE clicks SET label = 'sooner'")
    assert exchange([a, b, c]) == {"a": (10, "later")}


def test_a_delete_ends_increments_that_race_it(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    a.write("DELETE FROM clicks")
    b.now_ms += 1000
    b.write("UPDATE clicks SET n = n + 5")
    assert exchange([a, b, c]) == {}


def test_a_row_that_is_inserted_again_is_a_new_one(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    a.write("DELETE FROM clicks", "INSERT INTO clicks (page, n, label) VALUES ('a', 1, 'again')")
    b.now_ms += 1000
    b.write("UPDATE clicks SET n = n + 5, label = 'late'")
    assert exchange([a, b, c]) == {"a": (1, "again")}


def test_a_row_that_is_inserted_again_by_two_is_one_new_row(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    a.write("DELETE FROM clicks")
    a.write("INSERT INTO clicks (page, n) VALUES ('a', 1)")
    b.write("DELETE FROM clicks", "INSERT INTO clicks (page, n) VALUES ('a', 2)")
    assert exchange([a, b, c]) == {"a": (3, None)}


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO clicks (page, n, label) VALUES ('a', 11, 'new')",
        "REPLACE INTO clicks (page, n, label) SELECT page, n + 1, 'new' FROM clicks",
        "INSERT INTO clicks (page, n) VALUES ('a', 1) ON CONFLICT (page) DO UPDATE SET n = n + 1, label = 'new'",
        "UPDATE OR REPLACE clicks SET n = n + 1, label = 'new'",
    ],
)
def test_a_replaced_row_stays_the_row_it_was(nodes: MakeNodes, statement: str, recursive: str) -> None:
    a, b, c = seeded(nodes)
    a.connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    a.write(statement)
    b.write("UPDATE clicks SET n = n + 5")
    assert exchange([a, b, c]) == {"a": (16, "new")}


def test_a_delete_right_after_an_ignored_insert_is_taken_for_half_of_a_replace(nodes: MakeNodes) -> None:
    """A known limit: triggers see of these three statements what they see of one REPLACE. All end equal, 5 stays."""
    a, b, c = seeded(nodes)
    a.write(
        "INSERT OR IGNORE INTO clicks (page) VALUES ('a')",
        "DELETE FROM clicks",
        "INSERT INTO clicks (page, n) VALUES ('a', 1)",
    )
    b.write("UPDATE clicks SET n = n + 5")
    assert exchange([a, b, c]) == {"a": (6, None)}


@pytest.mark.parametrize("recursive", ["ON", "OFF"])
def test_a_row_that_takes_another_s_key_replaces_it(nodes: MakeNodes, recursive: str) -> None:
    a, b, c = seeded(nodes)
    c.merge(*(encoded := [a.write("INSERT INTO clicks (page, n, label) VALUES ('b', 3, 'b')")]))
    b.merge(*encoded)
    a.connection.execute(f"PRAGMA recursive_triggers = {recursive}")
    a.write("UPDATE OR REPLACE clicks SET page = 'a' WHERE page = 'b'")
    b.write("UPDATE clicks SET n = n + 5 WHERE page = 'a'")
    assert exchange([a, b, c]) == {"a": (8, "b")}


def test_zero_takes_away_what_was_seen_and_no_more(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    a.write("UPDATE clicks SET n = 0")
    b.write("UPDATE clicks SET n = n + 5")
    assert exchange([a, b, c]) == {"a": (5, "old")}


def test_a_merge_folds_what_is_in_the_log_first(nodes: MakeNodes) -> None:
    a, b, c = seeded(nodes)
    encoded = a.write("UPDATE clicks SET n = n + 1")
    b.connection.execute("UPDATE clicks SET n = n + 5")
    b.merge(encoded)
    assert b.rows() == {"a": (16, "old")}
    assert exchange([a, b, c]) == {"a": (16, "old")}


def test_a_changeset_waits_for_what_its_origin_had_seen(nodes: MakeNodes) -> None:
    a, b, c = nodes({}, {}, {})
    first = a.write("INSERT INTO clicks (page, n) VALUES ('a', 1)")
    b.merge(first)
    second = b.write("UPDATE clicks SET n = n + 1")
    (outcome,) = c.merge(second)
    assert isinstance(outcome, Waits)
    assert set(outcome.missing) == {a.replica.site}
    assert c.rows() == {}
    assert exchange([a, b, c]) == {"a": (2, None)}


SAME: Rows = {"a": (30, "x"), "b": (1, None)}


def test_equal_rows_of_before_are_one_and_nothing_is_sent(nodes: MakeNodes) -> None:
    members = nodes(SAME, SAME, SAME)
    assert all(node.fold() is None for node in members)
    first, *others = members
    assert len({encoded for node in members for encoded in node.replica.published}) == 1
    assert all(other.replica.heads() == first.replica.heads() for other in others)
    assert exchange(members) == SAME


@pytest.mark.parametrize("order", list(itertools.permutations((0, -5, -1))))
def test_of_counts_that_differed_before_zero_is_one_like_any_other(nodes: MakeNodes, order: tuple[int, ...]) -> None:
    assert exchange(nodes(*({"a": (count, "x")} for count in order))) == {"a": (0, "x")}


@pytest.mark.parametrize("order", list(itertools.permutations((30, 28, 29))))
def test_of_counts_that_differed_before_the_largest_stays(nodes: MakeNodes, order: tuple[int, ...]) -> None:
    members = nodes(*({"a": (count, "x")} for count in order))
    assert exchange(members) == {"a": (30, "x")}
    for by, node in enumerate(members, start=1):
        node.write(f"UPDATE clicks SET n = n + {by}")
    assert exchange(members) == {"a": (36, "x")}


def test_a_node_with_rows_joins_one_without_and_the_reverse(nodes: MakeNodes) -> None:
    full, empty = nodes(SAME, {})
    empty.write("INSERT INTO clicks (page, n) VALUES ('c', 7)")
    assert exchange([full, empty]) == {**SAME, "c": (7, None)}


def test_a_late_node_gets_what_others_changed_and_deleted_of_the_rows_it_has(nodes: MakeNodes) -> None:
    a, b = nodes(SAME, SAME)
    a.write("UPDATE clicks SET n = n + 1, label = 'new' WHERE page = 'a'", "DELETE FROM clicks WHERE page = 'b'")
    exchange([a, b])
    (late,) = nodes(SAME)
    assert exchange([a, b, late]) == {"a": (31, "new")}
    (drifted,) = nodes({"a": (33, "drifted"), "b": (9, "b"), "c": (4, "c")})
    assert exchange([a, b, late, drifted]) == {"a": (34, "new"), "c": (4, "c")}
