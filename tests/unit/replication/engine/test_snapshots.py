"""State instead of changesets: what it carries, what it says of rows that are not there, and what is refused of it."""

import secrets
import sqlite3

import pytest

from replication.engine import held, state
from replication.engine.applying import Fork, Merged, Repeat, Waits
from replication.engine.changesets import ChangesetError
from replication.engine.closing import close_site, keep_parts, unite_tips
from replication.engine.decoding import decode
from replication.engine.identity import StateReplaced, begin_run, remember
from replication.engine.ranges import decode_range
from replication.engine.reading import HELD
from replication.engine.runs import UNKNOWN, Began
from replication.engine.sites import Head, closed, parts, runs, seen, vector
from replication.engine.snapshots import (
    NoSuchTable,
    RangeRefused,
    SnapshotStart,
    begin,
    finish,
    merge_range,
    read_range,
)
from replication.engine.stamps import Site, Stamp
from replication.engine.transacting import transaction
from tests.support.attached import PAGES, Attached, exchange
from tests.support.playing import known_of
from tests.support.states import MUCH, Moving, ranges

NEW = Site("e" * 32)
INSERT = "INSERT INTO pages VALUES ('a', 'A', 'body', 1)"
OTHER = "CREATE TABLE other (id TEXT PRIMARY KEY NOT NULL)"
COUNT = "UPDATE pages SET visits = visits + 1"


def snapshot(sender: Attached, receiver: Attached, *, max_rows: int = MUCH, authority: bool = True) -> Moving:
    moving = Moving(sender.connection, receiver.connection, max_rows=max_rows, authority=authority)
    return moving.run(max(sender.now_ms, receiver.now_ms))


def assert_same(one: Attached, other: Attached) -> None:
    assert one.rows() == other.rows()
    assert known_of(one.connection) == known_of(other.connection)
    assert vector(one.connection) == vector(other.connection)


def forget_journal(node: Attached) -> None:
    node.sql("DELETE FROM _litecast_journal")


def trim(*nodes: Attached) -> None:
    """What is deleted on these nodes is forgotten there, as if everybody had it."""
    for node in nodes:
        node.fold()
        ((life,),) = node.sql("SELECT coalesce(max(life), 0) FROM _litecast_clock_1 WHERE life & 1 = 0")
        node.sql("DELETE FROM _litecast_clock_1 WHERE life & 1 = 0")
        node.sql("UPDATE _litecast_catalogue SET floor = max(floor, ?)", life)


def test_a_snapshot_gives_what_the_changesets_would_have_given() -> None:
    a, b, by_changesets, by_state = (Attached() for _ in range(4))
    a.write(INSERT, "INSERT INTO pages VALUES ('gone', 1, NULL, 7)", "INSERT INTO pages VALUES ('b', -0.0, x'00', 0)")
    exchange(a, b)
    b.write("UPDATE pages SET title = 'B'", COUNT, "DELETE FROM pages WHERE name = 'gone'")
    a.write("UPDATE pages SET body = 'of a', visits = 0 WHERE name = 'a'", "INSERT INTO pages VALUES ('c', '', '', 5)")
    exchange(a, b)
    by_changesets.pull(a)
    moving = snapshot(a, by_state, max_rows=1)
    assert len(moving.merged) == 5  # four rows, and one more to see that there are none
    assert_same(by_state, by_changesets)
    assert by_state.fold() is None


def test_a_snapshot_goes_on_with_the_journal_from_where_it_began() -> None:
    a, b = Attached(), Attached()
    a.write(INSERT)
    moving = Moving(a.connection, b.connection)
    forget_journal(a)
    later = a.write(COUNT)
    moving.run(a.now_ms)
    assert b.rows() == [("a", "A", "body", 2)]
    assert vector(b.connection)[a.site].stamp < later.changeset.upto
    b.merged(later)
    assert_same(a, b)


def test_state_is_merged_twice_without_harm() -> None:
    a, b = Attached(), Attached()
    a.write(INSERT)
    b.write("INSERT INTO pages VALUES ('a', 'mine', 'mine', 2)")
    snapshot(a, b)
    known = known_of(b.connection)
    conflicts = b.sql("SELECT * FROM _litecast_conflicts")
    assert len(conflicts) == 1
    snapshot(a, b)
    assert known_of(b.connection) == known
    assert b.sql("SELECT * FROM _litecast_conflicts") == conflicts


def test_state_does_not_wipe_what_was_not_sent_yet() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    b.sql(COUNT)
    b.sql("INSERT INTO pages VALUES ('mine', '', '', 1)")
    a.write(COUNT)
    moving = snapshot(a, b)
    assert b.rows() == [("a", "A", "body", 3), ("mine", "", "", 1)]
    (folded,) = [merged.folded for merged in moving.merged if merged.folded is not None]
    assert isinstance(a.merge(folded), Merged)
    assert a.rows() == b.rows()


def test_what_waits_to_be_folded_is_folded_before_a_range_is_read() -> None:
    a = Attached()
    a.write(INSERT)
    a.sql("UPDATE pages SET title = 'waits'")
    read = read_range(a.connection, "pages", after=None, max_rows=9, max_bytes=MUCH, now_ms=a.now_ms)
    assert read.folded is not None
    found = decode_range(read.encoded)
    assert found.vector[a.site] == Head(stamp=read.folded.changeset.upto, digest=read.folded.digest)


def test_a_range_ends_where_it_is_large_enough_and_has_one_row_at_least() -> None:
    a = Attached()
    a.write(*(f"INSERT INTO pages VALUES ({n}, zeroblob(10000), '', {n})" for n in range(20)))
    read = ranges(a.connection, ["pages"], now_ms=a.now_ms, max_bytes=35_000)
    assert [one.rows for one in read] == [4, 4, 4, 4, 4, 0]
    assert all(len(one.encoded) < 50_000 for one in read)
    assert [one.rows for one in ranges(a.connection, ["pages"], now_ms=a.now_ms, max_bytes=1)][:20] == [1] * 20


def test_shares_of_counters_are_part_of_what_makes_a_range_large() -> None:
    a = Attached()
    a.write(INSERT, "INSERT INTO pages VALUES ('b', '', '', 1)")
    sites = a.sites()
    for number in range(200):
        short = sites.short(Site(f"{2**100 + number:032x}"))
        a.sql("INSERT INTO _litecast_count_1 SELECT k0, 3, life, ?, 1, 1 FROM _litecast_clock_1", short)
    assert len(ranges(a.connection, ["pages"], now_ms=a.now_ms, max_bytes=3_000)) == 3


# ---- what is not there


def test_a_row_that_the_sender_deleted_and_trimmed_is_deleted() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT, "INSERT INTO pages VALUES ('stays', '', '', 1)"))
    a.write("DELETE FROM pages WHERE name = 'a'")
    trim(a)
    moving = snapshot(a, b)
    assert sum(merged.deleted for merged in moving.merged) == 1
    assert_same(a, b)
    assert b.fold() is None
    b.write(INSERT)  # begins a life above the floor that came along
    assert b.sql("SELECT life FROM _litecast_clock_1 WHERE k0 = 'a'") == [(3,)]


def test_a_row_that_the_sender_has_not_seen_stays() -> None:
    a, b = Attached(), Attached()
    b.write(INSERT)
    assert snapshot(a, b).merged[0].deleted == 0
    assert len(b.rows()) == 1


def test_a_row_that_was_deleted_and_trimmed_here_does_not_come_back() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    a.write("DELETE FROM pages")
    trim(a)
    for authority in (True, False):
        snapshot(b, a, authority=authority)
        assert a.rows() == []


def test_without_authority_nothing_is_deleted() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    a.write("DELETE FROM pages")
    trim(a)
    assert snapshot(a, b, authority=False).merged[0].deleted == 0
    assert len(b.rows()) == 1


def test_a_row_that_one_of_two_equal_nodes_lacks_is_revived_if_that_is_wanted() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    a.sql("DELETE FROM _litecast_clock_1")
    a.connection.setconfig(1003, False)  # SQLITE_DBCONFIG_ENABLE_TRIGGER: past capture
    a.sql("DELETE FROM pages")
    (read,) = ranges(b.connection, ["pages"], now_ms=b.now_ms)
    start = begin(b.connection)
    merge_range(a.connection, read.encoded, start, now_ms=a.now_ms, authority=False)
    assert a.rows() == []
    merge_range(a.connection, read.encoded, start, now_ms=a.now_ms, authority=False, revives=True)
    assert_same(a, b)


@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_the_head_of_a_closed_site_proves_nothing(who: str) -> None:
    a, b, c = Attached(), Attached(), Attached()
    folded = a.write(INSERT)
    b.merged(folded)
    c.merged(folded)
    c.write("DELETE FROM pages")
    trim(c)
    node = {"sender": c, "receiver": b}[who]
    close_site(node.connection, a.site, new_site=lambda: NEW)
    snapshot(c, b)
    assert len(b.rows()) == 1
    snapshot(b, c)
    assert len(c.rows()) == 1


def test_keys_decide_what_is_in_a_range() -> None:
    names = ("1", "2.5", "'1'", "'b'", "x'00'", "x'ff'")
    a, b = Attached(PAGES.replace("TEXT", "")), Attached(PAGES.replace("TEXT", ""))
    b.merged(a.write(*(f"INSERT INTO pages VALUES ({name}, '', '', 1)" for name in names)))
    a.write("DELETE FROM pages WHERE name IN (2.5, 'b', x'ff')")
    trim(a)
    snapshot(a, b, max_rows=1)
    assert_same(a, b)
    assert len(b.rows()) == 3


def test_text_that_is_not_utf_8_travels_in_keys_and_cells() -> None:
    a, b = Attached(), Attached()
    for name in (b"\xff", b"a\x00", b"a\xffb"):
        a.connection.execute("INSERT INTO pages VALUES (CAST(? AS TEXT), CAST(? AS TEXT), '', 1)", (name, name))
    a.fold()
    snapshot(a, b, max_rows=1)
    assert_same(a, b)


# ---- deps


def test_what_is_written_on_merged_state_depends_on_all_that_its_sender_had() -> None:
    a, b, c, d = (Attached() for _ in range(4))
    of_a = a.write(INSERT)
    b.merged(of_a)
    moving = Moving(b.connection, c.connection)
    moving.step(c.now_ms)
    moving.step(c.now_ms)
    first, second = c.write(COUNT), c.write(COUNT)
    assert first.changeset.deps == second.changeset.deps == {a.site: of_a.changeset.upto}
    assert isinstance(d.merge(first), Waits)
    d.merged(of_a)
    d.merged(first)
    assert d.rows() == [("a", "A", "body", 2)]
    moving.run(c.now_ms)
    assert c.write(COUNT).changeset.deps == {a.site: of_a.changeset.upto}  # its head moved
    assert c.write(COUNT).changeset.deps == {}


def test_a_new_site_names_what_was_seen_in_somebodys_state_too() -> None:
    a, b, c = Attached(), Attached(), Attached()
    of_a = a.write(INSERT)
    b.merged(of_a)
    moving = Moving(b.connection, c.connection)
    moving.step(c.now_ms)
    moving.step(c.now_ms)
    c.write(COUNT)
    close_site(c.connection, c.site, new_site=lambda: NEW)
    assert c.write(COUNT).changeset.deps[a.site] == of_a.changeset.upto


def test_what_was_seen_in_a_state_and_never_comes_betrays_a_fork() -> None:
    a, b, c = Attached(), Attached(), Attached()
    first = a.write(INSERT)
    b.merged(first)
    c.merged(first)
    backup = Attached("", attached=False)
    a.connection.backup(backup.connection)
    second = a.write(COUNT)
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    merge_range(b.connection, read.encoded, begin(a.connection), now_ms=a.now_ms, authority=True)
    assert seen(b.connection) == {a.site: {Head(stamp=second.changeset.upto, digest=second.digest)}}
    backup.connection.backup(a.connection)
    a.now_ms += 5
    outcome = b.merge(a.write("UPDATE pages SET title = 'another history'"))
    assert isinstance(outcome, Fork)
    for node in (b, c):
        close_site(node.connection, a.site, new_site=lambda: NEW)
    assert seen(b.connection) == {}
    assert len(closed(b.connection)[a.site]) == 2  # its head, and the part of a state that only this node has
    assert len(closed(c.connection)[a.site]) == 1


def test_the_rest_of_a_closed_sites_history_that_is_lost_leaves_its_part_to_all() -> None:
    """The only node that had merged a branch was put back while others were fetching its state."""
    a, b, c = Attached(), Attached(), Attached()
    a.write(INSERT)
    site = a.site
    for node in (a, b, c):
        close_site(node.connection, site, new_site=lambda: NEW)
    branch = closed(a.connection)[site]
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    merge_range(b.connection, read.encoded, begin(a.connection), now_ms=a.now_ms, authority=False)
    assert parts(b.connection) == {site: branch}
    assert closed(b.connection) == closed(c.connection)  # and yet b shows what c does not
    keep_parts(b.connection, site)
    assert parts(b.connection) == {}
    assert len(closed(b.connection)[site]) == 1
    assert closed(b.connection)[site].isdisjoint(branch)
    Moving(b.connection, c.connection, authority=False).run(c.now_ms)
    unite_tips(c.connection, closed(b.connection))
    assert parts(c.connection) == {}
    assert c.rows() == b.rows() == [("a", "A", "body", 1)]


def test_a_part_is_none_any_more_where_a_site_is_cut_at_its_tip() -> None:
    """The own site, stamped far ahead and set aside, while state came of somebody who had closed it there already."""
    a = Attached()
    a.write(INSERT)
    site = a.site
    (tip,) = vector(a.connection).values()
    with transaction(a.connection):
        found = a.sites()
        found.set_aside(site)
        found.see_tips(site, {tip})
    assert parts(a.connection) == {site: {tip}}
    with transaction(a.connection):
        a.sites().cut(site, {tip})
    assert not any(parts(a.connection).values())


def test_the_clock_moves_by_state() -> None:
    a, b = Attached(), Attached()
    a.now_ms += 30_000
    folded = a.write(INSERT)
    read = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    merge_range(b.connection, read[0].encoded, begin(a.connection), now_ms=b.now_ms, authority=True)
    later = b.write("UPDATE pages SET title = 'later'")
    assert later.changeset.upto > folded.changeset.upto


def test_heads_never_move_back() -> None:
    a, b = Attached(), Attached()
    first = a.write(INSERT)
    b.merged(first)
    start = begin(b.connection)
    second = a.write(COUNT)
    b.merged(second)
    finish(b.connection, start)
    assert vector(b.connection)[a.site].stamp == second.changeset.upto


# ---- what cannot be shown or read


def test_values_that_are_held_travel() -> None:
    newer = PAGES.replace("body,", "body, color,")
    a, b, c, d = Attached(newer), Attached(), Attached(newer), Attached(PAGES.replace("title", "title TEXT CHECK (0)"))
    a.sql("INSERT INTO pages VALUES ('a', 'A', 'body', 'red', 1)")
    b.pull(a)
    snapshot(b, c)
    assert c.rows() == a.rows()
    snapshot(b, d)
    snapshot(d, e := Attached(newer))
    assert e.rows() == a.rows()


def test_a_row_that_is_held_travels() -> None:
    strict = "CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, title INTEGER, body, visits INTEGER NOT NULL) STRICT"
    strict = strict.replace("body,", "body ANY,")
    a, b, c = Attached(), Attached(strict), Attached()
    a.write(INSERT)
    snapshot(a, b)
    assert b.rows() == []
    assert held.is_any(b.connection, 1)
    snapshot(b, c)
    assert_same(c, a)


def test_a_damaged_cell_does_not_travel_and_its_row_is_not_taken_for_deleted() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT, "INSERT INTO pages VALUES ('b', 'B', 'body', 1)"))
    a.connection.setconfig(1003, False)  # SQLITE_DBCONFIG_ENABLE_TRIGGER: past capture
    a.sql("UPDATE pages SET title = 'damaged' WHERE name = 'a'")
    a.sql("DELETE FROM pages WHERE name = 'b'")
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    assert read.damaged == 3
    before = b.rows()
    snapshot(a, b)
    assert b.rows() == before


def test_a_counter_that_the_sender_does_not_have_shows_its_default() -> None:
    newer = PAGES.removesuffix(")") + ", likes INTEGER NOT NULL DEFAULT 5)"
    a, by_state, by_changesets = Attached(), *(Attached(newer, counters=("visits", "likes")) for _ in range(2))
    a.write(INSERT)
    by_changesets.pull(a)
    snapshot(a, by_state)
    assert_same(by_state, by_changesets)
    assert by_state.rows() == [("a", "A", "body", 1, 5)]


def test_a_counter_that_stands_at_0_does_not_show_its_default() -> None:
    schema = PAGES.replace("DEFAULT 0", "DEFAULT 5")
    a, b = Attached(schema), Attached(schema)
    a.write("INSERT INTO pages VALUES ('a', '', '', 0)")
    snapshot(a, b)
    assert_same(a, b)
    assert b.rows() == [("a", "", "", 0)]


# ---- tables that are not attached everywhere


def test_state_of_a_table_that_is_not_attached_here_is_merged_when_it_is() -> None:
    a, b, c = (
        Attached(),
        Attached(),
        Attached(OTHER, table="other", counters=()),
    )
    a.write(INSERT, "INSERT INTO pages VALUES ('gone', '', '', 7)", "INSERT INTO pages VALUES ('b', '', '', 0)")
    exchange(a, b)
    b.write(
        "UPDATE pages SET title = 'B', visits = visits + 1 WHERE name = 'a'", "DELETE FROM pages WHERE name = 'gone'"
    )
    a.pull(b)
    snapshot(a, c)
    snapshot(a, c)  # what is held is held once
    c.sql(PAGES)
    c.attach("pages", counters=("visits",))
    assert c.fold() is None
    assert c.rows() == a.rows()
    assert known_of(c.connection)["pages"] == known_of(a.connection)["pages"]


def test_the_floor_of_a_table_is_known_before_the_table_is() -> None:
    a, c = Attached(), Attached(OTHER, table="other", counters=())
    a.write(INSERT)
    a.write("DELETE FROM pages")
    trim(a)
    snapshot(a, c)
    snapshot(c, d := Attached(OTHER, table="other", counters=()))
    d.sql(PAGES)
    d.attach("pages", counters=("visits",))
    d.write(INSERT)
    assert d.sql("SELECT life FROM _litecast_clock_2") == [(3,)]


def test_what_is_held_of_a_table_goes_on_to_who_has_it() -> None:
    a, b = Attached(), Attached(OTHER, table="other", counters=())
    first = a.write(INSERT)
    second = a.write(COUNT)
    b.merged(first)
    b.merged(second)
    assert begin(b.connection).tables == ("other", HELD + "pages")
    c = Attached()
    snapshot(b, c, max_rows=1)
    assert c.rows() == a.rows()
    assert vector(c.connection)[a.site].stamp == second.changeset.upto


def test_a_table_that_nobody_attached_cannot_be_read() -> None:
    a = Attached()
    for name in ("nothing", "sqlite_master", "_litecast_state"):
        with pytest.raises(NoSuchTable):
            read_range(a.connection, name, after=None, max_rows=1, max_bytes=1, now_ms=a.now_ms)
    with pytest.raises(NoSuchTable):
        read_range(a.connection, "pages", after=(1, 2), max_rows=1, max_bytes=1, now_ms=a.now_ms)


# ---- changes that came before their rows


def test_a_change_of_a_row_that_only_a_closed_site_has_waits_for_the_row() -> None:
    """The dep on the closed site is waived, so that the row may not be here: its change is not dropped."""
    a, b, c, d = (Attached() for _ in range(4))
    of_a = a.write(INSERT)
    b.merged(of_a)
    d.merged(of_a)
    for node in (a, b, c, d):
        close_site(node.connection, a.site, new_site=lambda: NEW)
    change = b.write("UPDATE pages SET title = 'B', visits = visits + 1")
    c.merged(change)
    assert c.rows() == []
    snapshot(d, c, authority=False)  # which has the row, and not the change
    assert c.rows() == [("a", "B", "body", 2)]
    snapshot(c, e := Attached(), authority=False)
    assert e.rows() == c.rows()
    assert c.sql("SELECT * FROM _litecast_held_tables") == []


def test_what_waits_for_its_row_is_part_of_a_snapshot() -> None:
    a, b, c, d = (Attached() for _ in range(4))
    of_a = a.write(INSERT)
    for node in (b, d):
        node.merged(of_a)
    for node in (a, b, c, d):
        close_site(node.connection, a.site, new_site=lambda: NEW)
    c.merged(b.write(COUNT))
    snapshot(c, e := Attached())
    close_site(e.connection, a.site, new_site=lambda: NEW)
    assert e.rows() == []
    snapshot(d, e, authority=False)
    assert e.rows() == [("a", "A", "body", 2)]


# ---- what is refused


def test_state_from_a_clock_far_ahead_waits_until_time_has_come() -> None:
    a, b = Attached(), Attached()
    a.now_ms += 100_000
    a.write(INSERT)
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    start, before = begin(a.connection), list(b.connection.iterdump())
    with pytest.raises(RangeRefused) as refused:
        merge_range(b.connection, read.encoded, start, now_ms=b.now_ms, authority=True)
    assert refused.value.until_ms is not None
    assert b.now_ms < refused.value.until_ms <= a.now_ms
    with pytest.raises(RangeRefused):
        finish(b.connection, start, now_ms=b.now_ms)
    assert list(b.connection.iterdump()) == before
    merge_range(b.connection, read.encoded, start, now_ms=refused.value.until_ms, authority=True)


def test_state_that_shows_another_history_of_a_site_is_refused() -> None:
    a, b, c = Attached(), Attached(), Attached()
    b.merged(a.write(INSERT))
    head = vector(b.connection)[a.site]
    (read,) = ranges(b.connection, ["pages"], now_ms=b.now_ms)
    start = begin(b.connection)
    lies = {
        a.site: Head(stamp=head.stamp, digest=b"x" * 16),
        b.site: Head(stamp=Stamp(1), digest=b"x" * 16),
    }
    for site, lie in lies.items():
        leads = {site: (Began(UNKNOWN, Stamp(0)),)}
        false = SnapshotStart(vector={site: lie}, closed={}, tables=start.tables, runs=leads, sender=start.sender)
        with pytest.raises(RangeRefused) as refused:
            merge_range(b.connection, read.encoded, false, now_ms=b.now_ms, authority=True)
        assert refused.value.fork == site
        with pytest.raises(RangeRefused):
            finish(b.connection, false)
    merge_range(c.connection, read.encoded, start, now_ms=c.now_ms, authority=True)


def test_state_of_another_cluster_is_refused() -> None:
    a, b = Attached(cluster="others"), Attached()
    a.write(INSERT)
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    with pytest.raises(ChangesetError, match="cluster others"):
        merge_range(b.connection, read.encoded, begin(a.connection), now_ms=b.now_ms, authority=True)


def test_a_state_that_was_replaced_neither_gives_nor_takes_state() -> None:
    a, b = Attached(), Attached()
    a.write(INSERT)
    expected = remember(a.connection)
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    start = begin(a.connection)
    a.write(COUNT)
    with pytest.raises(StateReplaced):
        read_range(a.connection, "pages", after=None, max_rows=1, max_bytes=1, now_ms=a.now_ms, expected=expected)
    with pytest.raises(StateReplaced):
        merge_range(a.connection, read.encoded, start, now_ms=a.now_ms, authority=True, expected=expected)
    with pytest.raises(StateReplaced):
        finish(a.connection, start, expected=expected)
    assert b.rows() == []


# ---- what travels


def test_the_start_of_a_snapshot_arrives_as_it_was_sent() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    b.write(COUNT)
    close_site(b.connection, a.site, new_site=lambda: NEW)
    start = begin(b.connection)
    assert SnapshotStart.parse(start.plain()) == start
    assert [began.after for began in start.runs[b.site]] == [0]
    assert start.closed.keys() == {a.site}
    assert start.vector.keys() == {b.site}


NO_STARTS: tuple[object, ...] = (
    None,
    [],
    [[], []],
    [[["x", 1, b"", b""]], [], [], [], b""],
    [[], [["x"]], [], [], b""],
    [[], [], [1], [], b""],
    [[], [], ["a", "a"], [], b""],
    [[], [], [], [], b"?"],
    [[], [], [], [[NEW, [[b"", 0]]]], b""],
    [[[NEW, 5, bytes(16), b""]], [], [], [], b""],
    [[[NEW, 5, bytes(16), b""]], [], [], [[NEW, []]], b""],
    [[[NEW, 5, bytes(16), b""]], [], [], [[NEW, [[b"r" * 8, 0]]]], b""],
    [[[NEW, 5, bytes(16), b""]], [], [], [[NEW, [[b"r" * 8, 3], [b"", 3]]]], b""],
    [[[NEW, 5, bytes(16), b""]], [], [], [[NEW, [[b"", 5]]]], b""],
)


@pytest.mark.parametrize("value", NO_STARTS)
def test_what_is_no_start_is_refused(value: object) -> None:
    with pytest.raises(ChangesetError):
        SnapshotStart.parse(value)


# ---- histories that no journal shows any more


def restarted(node: Attached) -> None:
    """The node starts again, and takes its database for what it left."""
    found = state.read(node.connection)
    assert found is not None
    begin_run(node.connection, known_nonce=found.nonce, new_nonce=secrets.token_bytes(16), new_site=lambda: NEW)
    assert node.published_site() == node.site


def forked(*, first: int = 1, second: int = 1) -> tuple[Attached, Attached]:
    """Two nodes that merged one history each of the first one's site: of so many changesets each since they parted."""
    a, b = Attached(), Attached()
    a.write(INSERT)
    exchange(a, b)
    backup = sqlite3.connect(":memory:")
    a.connection.backup(backup)
    now_ms = a.now_ms
    for number in range(first):
        a.write(f"INSERT INTO pages VALUES ('first {number}', 1, NULL, 0)")
    b.now_ms = a.now_ms
    b.pull(a)
    a.now_ms = now_ms
    backup.backup(a.connection)  # alone: nobody tells it that it is older, and it goes on under its site
    backup.close()
    restarted(a)
    for number in range(second):
        a.write(f"INSERT INTO pages VALUES ('second {number}', 2, NULL, 0)")
    return a, b


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("trimmed", ["a", "b", "a b"])
def test_a_snapshot_over_a_fork_that_no_journal_shows_deletes_nothing(first: int, second: int, trimmed: str) -> None:
    nodes = dict(zip("ab", forked(first=first, second=second), strict=True))
    for name in trimmed.split():
        forget_journal(nodes[name])
    for sender, receiver in (("a", "b"), ("b", "a")):
        before = nodes[receiver].rows()
        with pytest.raises(RangeRefused) as refused:  # a fork that is seen is closed, and heals
            snapshot(nodes[sender], nodes[receiver])
        assert refused.value.fork == nodes["a"].site
        assert nodes[receiver].rows() == before


def test_a_snapshot_for_a_node_that_was_away_for_many_starts_is_no_fork() -> None:
    a, b = Attached(), Attached()
    a.write(INSERT, "INSERT INTO pages VALUES ('gone', 1, NULL, 0)")
    b.pull(a)
    for number in range(3):
        restarted(a)
        a.write(f"INSERT INTO pages VALUES ('of run {number}', 1, NULL, 0)")
    a.write("DELETE FROM pages WHERE name = 'gone'")
    trim(a)
    forget_journal(a)
    snapshot(a, b)
    assert_same(a, b)
    assert runs(b.connection) == runs(a.connection)
    assert len(runs(b.connection)[a.site]) == 4
    restarted(a)
    b.merged(a.write(COUNT))
    assert runs(b.connection) == runs(a.connection)


def test_a_changeset_of_another_history_is_none_that_was_merged_though_the_journal_is_trimmed() -> None:
    a, b = forked(first=2)
    forget_journal(b)
    of_second = decode(a.journal()[-1])
    assert of_second.upto < vector(b.connection)[a.site].stamp
    assert isinstance(b.merge(a.journal()[-1]), Fork)


def test_a_changeset_that_was_merged_is_a_repeat_though_the_journal_is_trimmed() -> None:
    a, b = Attached(), Attached()
    folded = [a.write(INSERT)]
    restarted(a)
    folded += [a.write(COUNT), a.write(COUNT)]
    b.pull(a)
    forget_journal(b)
    assert all(isinstance(b.merge(one), Repeat) for one in folded)


def test_a_changeset_that_depends_on_another_history_shows_it_though_the_journal_is_trimmed() -> None:
    """Its change is of a row that is not known here: without that, it would be taken for one that was deleted."""
    a, of_first = forked(first=1)
    of_second = Attached()
    a.write(COUNT)
    of_second.pull(a)
    forget_journal(of_second)
    change = of_first.write("UPDATE pages SET visits = 7 WHERE name = 'first 0'")
    outcome = of_second.merge(change)
    assert isinstance(outcome, Fork)
    assert outcome.site == a.site
    close_site(of_second.connection, a.site, new_site=lambda: NEW)
    of_second.merged(change)
    close_site(a.connection, a.site, new_site=lambda: NEW)
    snapshot(of_first, of_second, authority=False)
    assert ("first 0", 1, None, 7) in of_second.rows()


def test_part_of_a_state_of_another_history_is_not_hidden_by_a_head() -> None:
    a, b = Attached(), Attached()
    first = a.write(INSERT)
    b.merged(first)
    backup = Attached("", attached=False)
    a.connection.backup(backup.connection)
    a.write("INSERT INTO pages VALUES ('seen', 1, NULL, 0)")
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    merge_range(b.connection, read.encoded, begin(a.connection), now_ms=a.now_ms, authority=True)
    backup.connection.backup(a.connection)
    restarted(a)
    a.now_ms += 5
    a.write("INSERT INTO pages VALUES ('another history', 1, NULL, 0)")
    forget_journal(a)
    before = b.rows()
    with pytest.raises(RangeRefused) as refused:
        snapshot(a, b)
    assert refused.value.fork == a.site
    assert b.rows() == before


def test_more_than_the_sender_has_was_seen_in_a_state_of_a_run_that_it_does_not_know() -> None:
    a, b, c = Attached(), Attached(), Attached()
    c.merged(a.write(INSERT))
    restarted(a)
    later = a.write("INSERT INTO pages VALUES ('later', 1, NULL, 0)")
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    merge_range(b.connection, read.encoded, begin(a.connection), now_ms=a.now_ms, authority=True)
    with pytest.raises(RangeRefused) as refused:
        snapshot(c, b)
    assert refused.value.fork is None
    c.merged(later)
    snapshot(c, b)
    assert_same(b, c)


def test_a_range_of_another_run_than_the_start_is_refused() -> None:
    a, b = Attached(), Attached()
    a.write(INSERT)
    start = begin(a.connection)
    restarted(a)
    (read,) = ranges(a.connection, ["pages"], now_ms=a.now_ms)
    with pytest.raises(RangeRefused, match="started again"):
        merge_range(b.connection, read.encoded, start, now_ms=a.now_ms, authority=True)
