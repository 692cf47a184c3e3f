import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from replication.engine import journal, state
from replication.engine.attaching import TableChoice, attach, begin_without_tables
from replication.engine.folding import fold
from replication.engine.journal import Journaled
from replication.engine.session import NotAttached, open_session
from replication.engine.sites import Head, Sites, vector
from replication.engine.stamps import GENESIS, Site, Stamp, is_baseline, is_site, ms_of, next_stamp, stamp_at
from replication.engine.state import AnotherCluster, OldFormat
from tests.support.attached import Attached

FORMAT_2: Final = Path(__file__).with_name("format_2.sql").read_text()
"""The dump of a database as the first Litecast with an engine left it: three sites, a baseline, a table that is not
attached, an increment that waits in the log."""
NOW_MS: Final = 1_700_000_100_000
A, B = Site("a" * 32), Site("b" * 32)


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def create(connection: sqlite3.Connection, *, cluster: str = "home", site: Site = A) -> state.State:
    return state.create(connection, cluster=cluster, site=site, nonce=b"n", journal_mode_found="delete")


def test_a_database_that_was_never_attached_stays_at_format_1(connection: sqlite3.Connection) -> None:
    state.create_plain(connection)
    state.create_plain(connection)
    assert connection.execute("SELECT * FROM _litecast_state").fetchall() == [(1, 1)]
    assert state.read(connection) is None
    with pytest.raises(NotAttached, match="litecast attach"):
        open_session(connection)


def test_format_1_is_brought_to_the_newest_in_place(connection: sqlite3.Connection) -> None:
    state.create_plain(connection)
    made = create(connection)
    assert state.read(connection) == made
    assert (made.format, made.cluster, made.site, made.clock) == (state.NEWEST_FORMAT, "home", A, 0)
    assert made.journal_mode_found == "delete"
    assert connection.execute("SELECT id, format FROM _litecast_state").fetchall() == [(1, state.NEWEST_FORMAT)]


def test_what_an_older_litecast_attached_is_refused_until_it_is_upgraded(connection: sqlite3.Connection) -> None:
    connection.executescript(FORMAT_2)
    with pytest.raises(OldFormat, match="format 2; a node upgrades it"):
        fold(connection, now_ms=NOW_MS)
    assert state.upgrade(connection)
    assert not state.upgrade(connection)


def test_a_database_of_format_2_goes_on_where_it_was() -> None:
    node, peer = Attached(FORMAT_2, attached=False), Attached()
    state.upgrade(node.connection)
    folded = node.published()
    assert folded.changeset.deps.keys() == {Site("b" * 32), Site("c" * 32)}
    peer.pull(node)
    assert peer.rows() == node.rows() == [("x", "XX", b"\x00\xff", 2), ("y", "Y", "yy", 7)]
    node.pull(peer)


def test_an_upgraded_database_has_the_tables_of_a_new_one(connection: sqlite3.Connection) -> None:
    connection.executescript(FORMAT_2)
    state.upgrade(connection)
    assert declared(connection) == declared(Attached().connection)


def declared(connection: sqlite3.Connection) -> dict[str, list[object]]:
    """The columns of each table of ours."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {
        name: connection.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall()
        for name in names
        if name.startswith("_litecast")
    }


def test_opening_by_a_node_upgrades(connection: sqlite3.Connection) -> None:
    connection.executescript(FORMAT_2)
    begin_without_tables(connection, cluster="tests", new_site=lambda: B)
    assert fold(connection, now_ms=NOW_MS) is not None


def test_attaching_one_more_table_upgrades(connection: sqlite3.Connection) -> None:
    connection.executescript(FORMAT_2)
    connection.execute("CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL)")
    attach(connection, [TableChoice(name="notes")], cluster="tests", new_site=lambda: B)
    assert fold(connection, now_ms=NOW_MS) is not None


def test_state_that_is_there_stays_as_it_is(connection: sqlite3.Connection) -> None:
    made = create(connection)
    assert create(connection, site=B) == made


def test_the_state_of_another_cluster_is_refused(connection: sqlite3.Connection) -> None:
    create(connection)
    with pytest.raises(AnotherCluster, match="belongs to cluster home, not strangers"):
        create(connection, cluster="strangers")


def test_dropped_state_leaves_nothing(connection: sqlite3.Connection) -> None:
    create(connection)
    state.drop(connection)
    assert connection.execute("SELECT * FROM sqlite_master").fetchall() == []


def test_a_site_keeps_its_number_and_genesis_has_0(connection: sqlite3.Connection) -> None:
    create(connection)
    sites = Sites(connection)
    numbers = [sites.short(site) for site in (GENESIS, A, B)]
    assert numbers == [Sites(connection).short(site) for site in (GENESIS, A, B)] == [0, 1, 2]
    assert sites.site(2) == B


def test_a_site_known_by_name_only_is_not_in_the_vector(connection: sqlite3.Connection) -> None:
    create(connection)
    sites = Sites(connection)
    sites.short(B)
    assert vector(connection) == {}
    assert not sites.covers(B, Stamp(0))
    sites.move(B, Head(stamp=Stamp(5), digest=b"d"))
    assert vector(connection) == {B: Head(stamp=Stamp(5), digest=b"d")}
    assert Sites(connection).covers(B, Stamp(5))
    assert not Sites(connection).covers(B, Stamp(6))


def test_deps_are_all_heads_first_and_then_those_that_moved(connection: sqlite3.Connection) -> None:
    create(connection)
    sites = Sites(connection)
    sites.move(B, Head(stamp=Stamp(5), digest=b"d"))
    sites.note()
    assert sites.moved(A) == {B: 5}  # A has written nothing yet, so its first changeset names everything
    sites.move(A, Head(stamp=Stamp(6), digest=b"d"))
    sites.note()
    assert sites.moved(A) == {}
    sites.move(B, Head(stamp=Stamp(7), digest=b"d"))
    assert Sites(connection).moved(A) == {B: 7}


def test_a_new_site_s_first_changeset_names_the_whole_vector_its_old_site_included(
    connection: sqlite3.Connection,
) -> None:
    create(connection)
    sites = Sites(connection)
    sites.move(A, Head(stamp=Stamp(5), digest=b"d"))
    sites.note()
    state.write_site(connection, B)
    assert Sites(connection).moved(B) == {A: 5}


def test_the_journal_knows_in_whose_range_a_stamp_lies(connection: sqlite3.Connection) -> None:
    create(connection)
    first = Journaled(site=1, after=Stamp(0), upto=Stamp(5), digest=b"1")
    third = Journaled(site=1, after=Stamp(9), upto=Stamp(12), digest=b"3")
    journal.append(connection, first, b"first")
    journal.append(connection, third, b"third")
    found = {stamp: journal.spanning(connection, 1, Stamp(stamp)) for stamp in (1, 5, 6, 9, 10, 12, 13)}
    assert found == {1: first, 5: first, 6: None, 9: None, 10: third, 12: third, 13: None}
    assert journal.read(connection, 1, after=Stamp(5)) == [b"third"]
    assert journal.read(connection, 1, after=Stamp(0)) == [b"first", b"third"]


def test_stamps_follow_time_and_never_stand_still() -> None:
    assert next_stamp(now_ms=5, clock=Stamp(0)) == stamp_at(5)
    assert next_stamp(now_ms=5, clock=stamp_at(5)) == stamp_at(5) + 1
    assert next_stamp(now_ms=5, clock=stamp_at(90)) == stamp_at(90) + 1
    assert ms_of(stamp_at(90)) == 90


def test_names_of_sites_are_told_from_other_text() -> None:
    assert is_site(A)
    assert is_site(GENESIS)
    assert not any(map(is_site, ["a" * 31, "A" * 32, "h" + "a" * 31, "a" * 32 + "\n", b"a" * 32, None]))
    assert is_baseline(GENESIS)
    assert not is_baseline(A)
