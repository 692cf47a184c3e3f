"""What docs/semantics.md says is not promised, seen happening; and the limits that it names."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from replication.engine import changesets, held
from replication.engine.changesets import ChangesetError
from replication.engine.decoding import decode
from replication.engine.identity import adopt_new_site
from replication.engine.merging import Contribution, merge_contribution
from replication.engine.stamps import Site
from tests.support.attached import Attached, exchange

INSERT = "INSERT INTO pages VALUES ('a', 'A', '', 1)"
COUNT = "UPDATE pages SET visits = visits + 1"


def test_two_nodes_can_each_give_away_the_last_seat() -> None:
    a, b = Attached(), Attached()
    for node, booking in ((a, "Ann's"), (b, "Bob's")):
        node.sql("INSERT INTO pages SELECT ?, 'seat 1', '', 0 WHERE NOT EXISTS (SELECT 1 FROM pages)", booking)
    exchange(a, b)
    assert a.sql("SELECT count(*) FROM pages WHERE title = 'seat 1'") == [(2,)]
    assert a.rows() == b.rows()


def test_nodes_can_show_concurrent_changes_in_different_order() -> None:
    a, b = Attached(), Attached()
    first, second = a.write(INSERT), b.write("INSERT INTO pages VALUES ('b', 'B', '', 1)")
    assert (len(a.rows()), len(b.rows())) == (1, 1), "each has its own first"
    a.merged(second)
    b.merged(first)
    assert a.rows() == b.rows()


def test_generated_columns_and_tables_that_are_not_attached_are_each_nodes_own() -> None:
    schema = (
        "CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, visits INTEGER NOT NULL DEFAULT 0, "
        "shown AS (visits {operator} 10)); CREATE TABLE own (id TEXT PRIMARY KEY NOT NULL)"
    )
    a, b = Attached(schema.format(operator="+")), Attached(schema.format(operator="*"))
    a.sql("INSERT INTO own VALUES ('mine')")
    b.merged(a.write("INSERT INTO pages (name, visits) VALUES ('a', 2)"))
    assert (a.rows(), b.rows()) == ([("a", 2, 12)], [("a", 2, 20)])
    assert b.rows("own") == []


def test_who_switches_triggers_off_is_not_captured() -> None:
    a = Attached()
    a.write(INSERT)
    a.connection.setconfig(sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER, False)
    a.sql(COUNT)
    assert a.fold() is None


def test_what_was_pending_in_the_log_of_another_nodes_copy_counts_twice() -> None:
    node, copied = Attached(), Attached("", attached=False)
    node.write(INSERT)
    node.sql(COUNT)
    node.connection.backup(copied.connection)
    adopt_new_site(copied.connection, Site("e" * 32))
    exchange(node, copied)
    assert node.rows() == copied.rows() == [("a", "A", "", 1 + 2)]


def test_of_two_branches_of_a_site_the_share_with_the_later_stamp_counts_and_not_their_sum() -> None:
    older, later = Contribution(stamp=10, value=7), Contribution(stamp=11, value=3)
    assert merge_contribution(older, later) == merge_contribution(later, older) == later


def test_a_process_that_does_not_wait_is_refused_while_a_node_merges(tmp_path: Path) -> None:
    node, peer = Attached(path=tmp_path / "a.db"), Attached()
    node.connection.execute("PRAGMA journal_mode = WAL")
    write = "INSERT INTO pages VALUES ('hasty', '', '', 0)"
    refused: list[str] = []
    with closing(sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)) as hasty:

        def before(statement: str) -> None:
            if statement == "COMMIT":
                try:
                    hasty.execute(write)
                except sqlite3.OperationalError as error:
                    refused.append(error.sqlite_errorname)

        node.connection.set_trace_callback(before)
        node.merged(peer.write(INSERT))
        node.connection.set_trace_callback(None)
        assert refused == ["SQLITE_BUSY"]
        hasty.execute(write)


def test_of_the_losers_of_insert_collisions_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "CONFLICTS_MAX", 3)
    a, b = Attached(), Attached()
    for number in range(5):
        b.sql("INSERT INTO pages VALUES (?, 'lost', '', 0)", f"page {number}")
        b.fold()
    for number in range(5):
        a.sql("INSERT INTO pages VALUES (?, 'won', '', 0)", f"page {number}")
        a.now_ms += 100
        a.fold()
    a.pull(b)
    assert a.sql("SELECT count(*), max(id) FROM _litecast_conflicts") == [(3, 5)]


def test_a_changeset_beyond_the_limit_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Attached()
    encoded = a.write("INSERT INTO pages VALUES ('a', hex(randomblob(200)), '', 1)").encoded
    decode(encoded)
    monkeypatch.setattr(changesets, "CHANGESET_MAX_BYTES", 300)
    with pytest.raises(ChangesetError, match="larger than 300 bytes"):
        decode(encoded)
