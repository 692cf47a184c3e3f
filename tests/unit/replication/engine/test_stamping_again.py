"""What a clock far ahead stamped is stamped again once it is right: every node takes it then, and counts are exact."""

from pathlib import Path

import pytest

from replication.engine import absorbing
from replication.engine.applying import Closed, TooEarly
from replication.engine.closing import close_site, closed, unite_tips
from replication.engine.folding import Folded
from replication.engine.identity import begin_run
from replication.engine.sites import Head
from replication.engine.snapshots import begin, merge_range, read_range
from replication.engine.stamping_again import set_aside, stamp_again
from replication.engine.stamps import Site, ms_of
from tests.support.attached import PAGES, Attached

AHEAD_MS = 600_000
NEW = Site("e" * 32)
THIRD = Site("f" * 32)


def tip(folded: Folded) -> Head:
    return Head(stamp=folded.changeset.upto, digest=folded.digest)


def ahead(node: Attached, *statements: str) -> Folded:
    """Written and folded while the clock was far ahead; it is right again afterwards."""
    node.now_ms += AHEAD_MS
    folded = node.write(*statements)
    node.now_ms -= AHEAD_MS
    return folded


def closes(node: Attached, site: Site) -> frozenset[Head]:
    close_site(node.connection, site, new_site=lambda: THIRD)
    return closed(node.connection)[site]


def again(node: Attached, *peers: Attached, new_site: Site = NEW) -> Folded:
    """All of it: the site is set aside, the peers close it, it is cut, and its node goes on."""
    set_aside(node.connection)
    old = node.published_site()
    tips = frozenset(one for peer in peers for one in closes(peer, old))
    return stamp_again(node.connection, tips, new_site=new_site, now_ms=node.now_ms)


def visits(node: Attached) -> dict[str, int]:
    return {row[0]: row[3] for row in node.rows()}


def two() -> tuple[Attached, Attached]:
    """Two that are equal: a counts 5 in page p, and 2 are b's."""
    a, b = Attached(), Attached()
    b.merged(a.write("INSERT INTO pages VALUES ('p', 'P', 'old', 5), ('q', 'Q', '', 1), ('r', 'R', '', 1)"))
    a.merged(b.write("UPDATE pages SET visits = visits + 2 WHERE name = 'p'"))
    return a, b


def test_what_waited_everywhere_is_merged_at_once_and_the_clock_goes_back() -> None:
    a, b = two()
    waiting = ahead(a, "UPDATE pages SET title = 'new', visits = visits + 10 WHERE name = 'p'")
    assert isinstance(b.merge(waiting), TooEarly)
    assert isinstance(b.merge(a.write("UPDATE pages SET body = 'after' WHERE name = 'p'")), TooEarly)
    folded = again(a, b)
    assert ms_of(folded.changeset.upto) <= a.now_ms + 1
    b.merged(folded)
    assert a.rows() == b.rows()
    assert b.rows()[0] == ("p", "new", "after", 17)
    assert isinstance(b.merge(waiting), Closed)
    b.merged(a.write("UPDATE pages SET visits = visits + 1"))
    a.merged(b.write("UPDATE pages SET visits = visits + 1"))
    assert visits(a) == visits(b) == {"p": 19, "q": 3, "r": 3}


def test_rows_that_began_and_rows_that_ended_are_stamped_again_too() -> None:
    a, b = two()
    ahead(
        a,
        "INSERT INTO pages VALUES ('new', 'N', NULL, 3)",
        "DELETE FROM pages WHERE name = 'q'",
        "DELETE FROM pages WHERE name = 'r'",
        "INSERT INTO pages VALUES ('r', 'again', '', 8)",
    )
    b.merged(again(a, b))
    assert a.rows() == b.rows()
    assert visits(b) == {"new": 3, "p": 7, "r": 8}
    assert state_of_pages(a) == state_of_pages(b)


def state_of_pages(node: Attached) -> list[object]:
    """Entries and shares, by the names of the sites."""
    sites = dict(node.sql("SELECT short, site FROM _litecast_sites"))
    entries = node.sql("SELECT k0, life, stamp, site FROM _litecast_clock_1 ORDER BY k0")
    counts = node.sql("SELECT k0, life, site, value, stamp FROM _litecast_count_1 ORDER BY k0")
    named = [(*row[:3], sites[row[3]]) for row in entries]
    return [*named, *sorted((key, life, sites[short], value, stamp) for key, life, short, value, stamp in counts)]


def test_what_others_wrote_meanwhile_is_kept_and_what_was_there_first_does_not_come_back() -> None:
    a, b = two()
    ahead(a, "UPDATE pages SET title = 'ahead', visits = visits + 1 WHERE name = 'p'")
    other = b.write("UPDATE pages SET title = 'b', body = 'b', visits = visits + 100 WHERE name = 'p'")
    a.merged(other)
    assert a.rows()[0] == ("p", "ahead", "b", 108)
    b.merged(again(a, b))
    assert a.rows() == b.rows()
    assert b.rows()[0] == ("p", "ahead", "b", 108)
    b.merged(a.write("UPDATE pages SET title = 'later'"))
    a.merged(b.write("UPDATE pages SET title = 'last'"))
    assert a.rows() == b.rows()
    assert {row[1] for row in a.rows()} == {"last"}


def test_what_waits_in_the_log_is_stamped_again_with_the_rest() -> None:
    a, b = two()
    ahead(a, "UPDATE pages SET visits = visits + 1")
    set_aside(a.connection)
    a.sql("UPDATE pages SET visits = visits + 1, title = 'logged'")
    assert a.fold() is not None, "it goes on folding, under the site that is set aside"
    a.sql("UPDATE pages SET visits = visits + 1, body = 'not folded'")
    tips = closes(b, a.site)
    b.merged(stamp_again(a.connection, tips, new_site=NEW, now_ms=a.now_ms))
    assert a.rows() == b.rows()
    assert b.rows()[0] == ("p", "logged", "not folded", 10)


def test_what_some_merged_is_not_stamped_again_and_counted_once() -> None:
    a, b = two()
    c = Attached()
    c.pull(a)
    more = a.write("UPDATE pages SET visits = visits + 1000 WHERE name = 'p'")
    c.merged(more)
    ahead(a, "UPDATE pages SET visits = visits + 1 WHERE name = 'p'")
    folded = again(a, b, c)
    tips = closed(a.connection)[a.site]
    assert {one.stamp for one in tips} == {more.changeset.upto, *(one.stamp for one in closed(b.connection)[a.site])}
    b.merged(folded)
    c.merged(folded)
    assert visits(c)["p"] == 1008
    give_state(c, to=b)  # as a node does that has fewer tips than another
    unite_tips(b.connection, closed(c.connection))
    assert b.rows() == c.rows() == a.rows()


def give_state(node: Attached, *, to: Attached) -> None:
    start = begin(node.connection)
    found = read_range(node.connection, "pages", after=None, max_rows=100, max_bytes=10**6, now_ms=node.now_ms)
    merge_range(to.connection, found.encoded, start, now_ms=to.now_ms, authority=False)


def test_an_older_state_does_not_bring_back_a_share_that_was_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_kept in (True, False):
        a, b = two()
        c = Attached()
        if not is_kept:
            monkeypatch.setattr(absorbing.Absorber, "_end_shares", lambda _self, _groups, _dot: None)
        ahead(a, "UPDATE pages SET visits = visits + 1 WHERE name = 'p'")
        folded = again(a, b)
        close_site(c.connection, a.site, new_site=lambda: THIRD)
        c.pull(b)
        give_state(b, to=c)
        b.merged(folded)
        c.merged(folded)
        give_state(a, to=c)
        assert (visits(c)["p"] == visits(b)["p"] == visits(a)["p"] == 8) == is_kept


def test_a_clock_that_was_ahead_twice() -> None:
    a, b = two()
    ahead(a, "UPDATE pages SET visits = visits + 1, title = '1'")
    set_aside(a.connection)
    tips = closes(b, a.site)
    a.now_ms += AHEAD_MS
    waiting = stamp_again(a.connection, tips, new_site=NEW, now_ms=a.now_ms)  # ahead again, just then
    a.now_ms -= AHEAD_MS
    assert isinstance(b.merge(waiting), TooEarly)
    a.sql("UPDATE pages SET visits = visits + 1 WHERE name = 'q'")
    b.merged(again(a, b, new_site=Site("a" * 32)))
    assert a.rows() == b.rows()
    assert visits(b) == {"p": 8, "q": 3, "r": 2}
    assert state_of_pages(a) == state_of_pages(b)


def test_a_share_under_which_nothing_was_counted_since_stays_where_it_is() -> None:
    a, b = two()
    ahead(a, "UPDATE pages SET title = 'T' WHERE name = 'p'")
    folded = again(a, b)
    ((_, group),) = [(table, group) for table in folded.changeset.tables for group in table.groups]
    assert (group.counters, group.instead_of) == ((), ())
    b.merged(folded)
    assert a.rows() == b.rows()
    assert visits(b)["p"] == 7


def test_a_table_that_comes_later_gets_it_as_everybody() -> None:
    a, b = two()
    c = Attached("CREATE TABLE other (id TEXT PRIMARY KEY NOT NULL)", table="other", counters=())
    c.pull(b)
    ahead(a, "UPDATE pages SET visits = visits + 1 WHERE name = 'p'")
    folded = again(a, b)
    close_site(c.connection, a.site, new_site=lambda: THIRD)
    c.merged(folded)
    c.connection.executescript(PAGES)
    c.attach("pages", counters=("visits",))
    c.fold()
    assert visits(c) == visits(a)


def test_a_peer_of_another_history_is_not_taken_for_one_that_has_the_same() -> None:
    a, b = two()
    last = ahead(a, "UPDATE pages SET title = 'ahead'")
    set_aside(a.connection)
    stranger = Head(stamp=last.changeset.upto, digest=b"x" * 16)
    stamp_again(a.connection, [stranger], new_site=NEW, now_ms=a.now_ms)
    assert closed(a.connection)[a.site] == frozenset(), "whoever has that tip has to be asked for his state"
    del b


def test_only_a_site_that_was_set_aside_is_cut() -> None:
    a, _ = two()
    with pytest.raises(ValueError, match="set aside"):
        stamp_again(a.connection, (), new_site=NEW, now_ms=a.now_ms)


def test_a_copy_of_a_database_whose_site_was_set_aside_is_a_branch_of_it(tmp_path: Path) -> None:
    a = Attached(path=tmp_path / "a.db")
    last = ahead(a, "INSERT INTO pages VALUES ('p', 'P', 'old', 5)")
    set_aside(a.connection)
    begin_run(a.connection, known_nonce=b"another", new_nonce=b"n" * 16, new_site=lambda: NEW)
    assert a.published_site() == NEW
    assert closed(a.connection)[a.site] == {tip(last)}


def test_a_cluster_whose_clocks_were_all_ahead_goes_on_when_they_are_right() -> None:
    a, b = two()
    a.now_ms += AHEAD_MS
    b.now_ms += AHEAD_MS
    b.merged(a.write("UPDATE pages SET title = 'a'"))
    a.merged(b.write("UPDATE pages SET title = 'b'"))
    a.now_ms -= AHEAD_MS
    b.now_ms -= AHEAD_MS
    b.merged(a.write("UPDATE pages SET visits = visits + 1"))
    a.merged(b.write("UPDATE pages SET visits = visits + 1"))
    assert a.rows() == b.rows()
