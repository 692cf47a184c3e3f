"""A forked site is closed: nothing more is accepted from it, and nobody is kept waiting by it."""

import shutil
from pathlib import Path

from replication.engine.applying import Closed, Fork, Merged, Waits
from replication.engine.closing import close_site, unite_tips
from replication.engine.sites import Head, closed, vector
from replication.engine.stamps import Site, Stamp
from tests.support.attached import Attached

NEW = Site("e" * 32)


def tip(number: int) -> Head:
    return Head(stamp=Stamp(number), digest=bytes([number]) * 16)


def insert(node: Attached, name: str) -> bytes:
    return node.write(f"INSERT INTO pages (name) VALUES ('{name}')").encoded


def test_nothing_more_is_merged_of_a_closed_site() -> None:
    a, b = Attached(), Attached()
    b.merged(insert(a, "one"))
    assert close_site(b.connection, a.site, [vector(b.connection)[a.site]], new_site=lambda: NEW)
    assert b.merge(insert(a, "two")) == Closed(site=a.site)
    assert [name for name, *_ in b.rows()] == ["one"]


def test_who_closes_its_own_site_goes_on_under_a_new_one_that_names_all_it_has_seen() -> None:
    a, b = Attached(), Attached()
    a.merged(insert(b, "of b"))
    insert(a, "one")
    a.connection.execute("INSERT INTO pages (name) VALUES ('not folded yet')")
    assert close_site(a.connection, a.site, (), new_site=lambda: NEW)
    folded = a.published()
    assert folded.changeset.site == NEW
    assert set(folded.changeset.deps) == {a.site, b.site}


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
