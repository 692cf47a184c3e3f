"""A forked site is closed: nothing more is accepted from it, and nobody is kept waiting by it."""

import shutil
from pathlib import Path

from replication.engine.applying import Closed, Fork, Merged, Waits
from replication.engine.closing import close_site, closed, unite_tips
from replication.engine.folding import Folded
from replication.engine.sites import Head, vector
from replication.engine.stamps import ALL_BRANCHES, Site, Stamp
from tests.support.attached import Attached

NEW = Site("e" * 32)
OTHER = Head(stamp=Stamp(7), digest=b"o" * 16)
INSERT = "INSERT INTO pages VALUES ('a', 'A', '', 1)"
COUNT = "UPDATE pages SET visits = visits + 1"


def tip(number: int) -> Head:
    return Head(stamp=Stamp(number), digest=bytes([number]) * 16)


def insert(node: Attached, name: str) -> bytes:
    return node.write(f"INSERT INTO pages (name) VALUES ('{name}')").encoded


def close(node: Attached, site: Site, *tips: Head) -> bool:
    return close_site(node.connection, site, tips, new_site=lambda: NEW)


def head_of(folded: Folded) -> Head:
    return Head(stamp=folded.changeset.upto, digest=folded.digest)


def test_from_a_closed_site_nothing_is_accepted_any_more() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    assert close(b, a.site)
    assert b.merge(a.write(COUNT)) == Closed(site=a.site)
    assert b.rows() == [("a", "A", "", 1)]


def test_a_closed_site_has_tips_instead_of_a_head() -> None:
    a, b = Attached(), Attached()
    first = a.write(INSERT)
    b.merged(first)
    assert a.site in vector(b.connection)
    close(b, a.site)
    assert a.site not in vector(b.connection)
    assert closed(b.connection) == {a.site: {head_of(first)}}
    unite_tips(b.connection, {a.site: {OTHER}, b.site: {OTHER}})
    assert closed(b.connection) == {a.site: {head_of(first), OTHER}}


def test_a_site_is_closed_once_and_a_baseline_never() -> None:
    node = Attached("CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL); INSERT INTO pages VALUES ('a')", counters=())
    (baseline,) = vector(node.connection)
    assert not close(node, baseline)
    assert close(node, Site("d" * 32))
    assert not close(node, Site("d" * 32), OTHER)
    assert closed(node.connection) == {Site("d" * 32): frozenset()}


def test_who_closes_the_own_site_goes_on_under_a_new_one_with_what_waits_in_the_log() -> None:
    a, b = Attached(), Attached()
    first = a.write(INSERT)
    b.merged(first)
    a.sql(COUNT)
    close(a, a.site)
    close(b, a.site)
    folded = a.published()
    assert folded.changeset.site == NEW
    assert closed(a.connection) == closed(b.connection) == {a.site: {head_of(first)}}
    b.merged(folded)
    assert b.rows() == [("a", "A", "", 2)]


def test_who_has_not_heard_that_a_site_is_closed_learns_it_from_a_changeset() -> None:
    """Or it would take a head on one branch for the dep on another."""
    a, b, c = Attached(), Attached(), Attached()
    first = a.write(INSERT)
    b.merged(first)
    c.merged(first)
    close(b, a.site)
    folded = b.write(COUNT)
    assert folded.changeset.deps == {a.site: ALL_BRANCHES}
    assert c.merge(folded) == Fork(site=a.site, reason="its origin knows that it is closed", is_old=True)
    close(c, a.site)
    c.merged(folded)
    assert c.rows() == b.rows()
    assert b.write(COUNT).changeset.deps == {}  # said once


def test_the_origin_of_a_fork_learns_from_a_changeset_too() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    close(b, a.site)
    outcome = a.merge(b.write(COUNT))
    assert isinstance(outcome, Fork)
    assert outcome.site == a.site


def test_what_is_closed_here_is_in_the_first_changeset_of_a_new_site() -> None:
    a, b = Attached(), Attached()
    b.merged(a.write(INSERT))
    close(b, a.site)
    b.write(COUNT)
    close(b, b.site)
    assert b.write(COUNT).changeset.deps == {a.site: ALL_BRANCHES, b.site: ALL_BRANCHES}


def test_a_dep_on_a_closed_site_keeps_nothing_back() -> None:
    a, b, c = Attached(), Attached(), Attached()
    b.merged(insert(a, "of a"))
    of_b = insert(b, "of b")
    assert isinstance(c.merge(of_b), Waits)
    close_site(c.connection, a.site, (), new_site=lambda: NEW)
    assert isinstance(c.merge(of_b), Merged)


def test_closing_again_changes_nothing() -> None:
    a = Attached()
    assert close_site(a.connection, Site("d" * 32), [tip(1)], new_site=lambda: NEW)
    assert not close_site(a.connection, Site("d" * 32), [tip(2)], new_site=lambda: NEW)
    assert closed(a.connection) == {Site("d" * 32): frozenset({tip(1)})}


def test_tips_are_united_and_only_of_sites_that_are_closed_here() -> None:
    a = Attached()
    close_site(a.connection, Site("d" * 32), [tip(1)], new_site=lambda: NEW)
    unite_tips(a.connection, {Site("d" * 32): [tip(2)], Site("c" * 32): [tip(3)]})
    assert closed(a.connection) == {Site("d" * 32): frozenset({tip(1), tip(2)})}


def test_a_restored_copy_that_writes_on_is_seen_as_a_fork(tmp_path: Path) -> None:
    a, b = Attached(path=tmp_path / "a.db"), Attached()
    b.merged(insert(a, "one"))
    a.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(tmp_path / "a.db", tmp_path / "older.db")
    b.merged(insert(a, "two"))
    older = Attached("", path=tmp_path / "older.db", attached=False)
    older.now_ms = a.now_ms + 10
    outcome = b.merge(insert(older, "three"))
    assert isinstance(outcome, Fork)
    assert outcome.site == a.site
