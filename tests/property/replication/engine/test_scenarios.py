"""The short traces that broke earlier drafts of the protocol, on the real engine: each ends well, and each would not
without the safeguard that is there for it."""

import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import pytest

from replication.engine import absorbing_state, applying, held, merging, reading, trimming
from replication.engine.absorbing_state import Authority
from replication.engine.closing import close_site
from replication.engine.identity import begin_run
from replication.engine.sites import Head, Sites, vector
from replication.engine.stamps import Site
from tests.support.attached import Attached
from tests.support.healing import Healing
from tests.support.playing import known_of
from tests.support.states import Moving

type Patch = pytest.MonkeyPatch

INSERT = "INSERT INTO pages VALUES ('k1', 'one', '', 1)"
OTHER = "INSERT INTO pages VALUES ('k2', 'two', '', 1)"
COUNT = "UPDATE pages SET visits = visits + 1 WHERE name = 'k1'"
DELETE = "DELETE FROM pages WHERE name = 'k1'"

_numbers = count(1)


def new_site() -> Site:
    return Site(f"{2**64 + next(_numbers):032x}")


def everybody(number: int) -> list[Attached]:
    return [Attached() for _ in range(number)]


def forget_journal(*nodes: Attached) -> None:
    for node in nodes:
        node.sql("DELETE FROM _litecast_journal")


def trim(*nodes: Attached) -> None:
    """As if everybody had what is deleted, though not everybody has: a limit has passed."""
    for node in nodes:
        node.fold()
        ((life,),) = node.sql("SELECT coalesce(max(life), 0) FROM _litecast_clock_1 WHERE life & 1 = 0")
        node.sql("DELETE FROM _litecast_clock_1 WHERE life & 1 = 0")
        node.sql("UPDATE _litecast_catalogue SET floor = max(floor, ?)", life)


def moved(sender: Attached, receiver: Attached, *, authority: bool = True) -> None:
    Moving(sender.connection, receiver.connection, authority=authority, max_rows=1).run(now(sender, receiver))


def now(*nodes: Attached) -> int:
    return max(node.now_ms for node in nodes)


def healed(*nodes: Attached, exact: int | None = None) -> None:
    """They meet, and end equal; with `exact`, k1 was counted so often."""
    healing = Healing(rng=random.Random(7), new_site=new_site, now_ms=now(*nodes))
    healing.heal(nodes)
    first, *others = nodes
    for other in others:
        assert other.rows() == first.rows()
        assert known(other) == known(first)
        assert vector(other.connection) == vector(first.connection)
    if exact is not None:
        assert first.sql("SELECT visits FROM pages WHERE name = 'k1'") == [(exact,)]


def known(node: Attached) -> list[object]:
    """What is known of living rows: tombstones may be trimmed on one node and not yet on another."""
    entries = known_of(node.connection)["pages"]
    return [one for one in entries if one[0] == "share" or (isinstance(one[2], int) and one[2] & 1)]


# ---- snapshots


def update_on_dead_row() -> None:
    """C, away, updates k1; A and B delete it and trim. C takes A's snapshot: its update does not keep the row alive."""
    a, b, c = everybody(3)
    first = a.write(INSERT)
    b.merged(first)
    c.merged(first)
    c.write("UPDATE pages SET title = 'of c'")
    b.merged(a.write(DELETE))
    trim(a, b)
    forget_journal(a, b)
    moved(a, c)
    healed(a, b, c)
    assert a.rows() == []


def snapshot_zombie() -> None:
    """The snapshot's sender is the one that was away: it still has k1, which the receiver deleted and trimmed."""
    a, b, c = everybody(3)
    first = a.write(INSERT)
    b.merged(first)
    c.merged(first)
    c.write(OTHER)
    forget_journal(c)
    b.merged(a.write(DELETE))
    trim(a, b)
    moved(c, a)
    assert [name for name, *_ in a.rows()] == ["k2"]
    healed(a, b, c)
    assert [name for name, *_ in b.rows()] == ["k2"]


def fold_in_snapshot() -> None:
    """C counts on a row of B's that came with A's state, before its heads move: D, without B's row, has to wait."""
    a, b, c, d = everybody(4)
    of_b = b.write(INSERT)
    a.merged(of_b)
    a.write(OTHER)
    moving = Moving(a.connection, c.connection, max_rows=1)
    moving.step(c.now_ms)
    moving.step(c.now_ms)
    of_c = c.write(COUNT)
    d.merge(of_c)
    d.merged(of_b)
    d.merge(of_c)
    moving.run(now(a, c))
    healed(a, b, c, d, exact=2)


def range_of_unfolded() -> None:
    """A writes a value and takes it back before the next fold: a range that is read in between does not carry it."""
    a, b = everybody(2)
    a.write(INSERT)
    moving = Moving(a.connection, b.connection)
    a.sql("UPDATE pages SET title = 'zz not for long'")
    moving.step(a.now_ms + 1)
    a.sql("UPDATE pages SET title = 'one'")
    moving.run(a.now_ms + 2)
    healed(a, b)
    assert b.rows() == [("k1", "one", "", 1)]


def copy_first_changeset() -> None:
    """D is a copy of A, and its first changeset updates a row of B's: it names all that A had merged."""
    a, b, c = everybody(3)
    of_b = b.write(INSERT)
    a.merged(of_b)
    a.write(OTHER)
    d = Attached("", attached=False)
    a.connection.backup(d.connection)
    begin_run(d.connection, known_nonce=None, new_nonce=b"d" * 16, new_site=new_site)
    d.now_ms = a.now_ms
    of_d = d.write(COUNT)
    c.merge(of_d)
    c.merged(of_b)
    c.merge(of_d)
    healed(a, b, c, d, exact=2)


def snapshot_while_deleting() -> None:
    """The journal goes on from the start of the snapshot; what was deleted and trimmed since does not come back."""
    a, b, c = everybody(3)
    b.merged(a.write(INSERT, OTHER))
    moving = Moving(a.connection, c.connection, max_rows=1)
    moving.step(a.now_ms)
    moving.step(a.now_ms)
    second = a.write("UPDATE pages SET title = 'again' WHERE name = 'k2'", DELETE)
    third = a.write("DELETE FROM pages WHERE name = 'k2'")
    trim(a)
    moving.run(a.now_ms)
    c.merged(second)
    c.merged(third)
    healed(a, b, c)
    assert c.rows() == []


# ---- trimming


def trim_in_flight() -> None:
    """C's insert of k1 is on its way to A while all have A's tombstone of it: if A trims now, it takes the insert."""
    a, b, c = everybody(3)
    of_c = c.write(INSERT)
    a.write(INSERT.replace("one", "of a"))
    gone = a.write(DELETE)
    for node in (b, c):
        for encoded in a.journal():
            node.merged(encoded)
    vectors = [vector(node.connection) for node in (b, c)]
    later = gone.changeset.upto + 10**9
    trimming.trim_tombstones(a.connection, members=vectors, min_age_ms=0, now_ms=later >> 16)
    a.merge(of_c)
    b.merge(of_c)
    healed(a, b, c)
    assert a.rows() == []


# ---- forks


def put_back(node: Attached, backup: Attached) -> None:
    backup.connection.backup(node.connection)


def backup_of(node: Attached) -> Attached:
    backup = Attached("", attached=False)
    node.connection.backup(backup.connection)
    return backup


def equal_stamp() -> None:
    """Two histories of a restored site stamp the same cell at the same moment: the larger value wins, everywhere."""
    a, b, c = everybody(3)
    first = a.write(INSERT)
    b.merged(first)
    c.merged(first)
    backup, moment = backup_of(a), a.now_ms
    b.merged(a.write("UPDATE pages SET title = 'x'"))
    put_back(a, backup)
    a.now_ms = moment
    c.merged(a.write("UPDATE pages SET title = 'y'"))
    healed(a, b, c)
    assert a.rows() == [("k1", "y", "", 1)]


def restored_site_skips() -> None:
    """A, restored, alone, writes something else: its next changeset follows another than the one that B has merged."""
    a, b, c = everybody(3)
    first = a.write(INSERT)
    b.merged(first)
    c.merged(first)
    backup = backup_of(a)
    b.merged(a.write(OTHER))
    put_back(a, backup)
    a.now_ms += 50
    b.merge(a.write("INSERT INTO pages VALUES ('k3', '', '', 1)"))
    healed(a, b, c)
    assert len(a.rows()) == 3


def third_branch_holder() -> None:
    """C has more of the old history than B when A's site is closed, and hears of it late: the tips tell it."""
    a, b, c, d = everybody(4)
    first = a.write(INSERT)
    for node in (b, c, d):
        node.merged(first)
    backup = backup_of(a)
    second = a.write(OTHER)
    b.merged(second)
    c.merged(second)
    c.merged(a.write("INSERT INTO pages VALUES ('k3', '', '', 1)"))
    put_back(a, backup)
    a.now_ms += 50
    a.write("UPDATE pages SET title = 'again'")
    healed(a, b)
    d.pull(a)
    healed(b, c)
    healed(a, b, c, d)
    assert len(d.rows()) == 3


def row_of_a_closed_site() -> None:
    """D merges an update of a row that only another history of a closed site has; the row comes later, without it."""
    a, b, c, d = everybody(4)
    first = a.write(INSERT)
    b.merged(first)
    c.merged(first)
    for node in (a, b, c, d):
        close_site(node.connection, a.site, new_site=new_site)
    update = b.write("UPDATE pages SET title = 'of b', visits = visits + 1")
    d.merge(update)
    moved(c, d, authority=False)
    healed(a, b, c, d, exact=2)


def branch_that_nobody_told() -> None:
    """C, on one history of A's site, gets a change of a row of the other one from B, who knows that it is closed."""
    a, b, c, d = everybody(4)
    first = a.write("INSERT INTO pages VALUES ('k0', '', '', 1)")
    for node in (b, c, d):
        node.merged(first)
    backup, moment = backup_of(a), a.now_ms
    c.merged(a.write(OTHER))
    put_back(a, backup)
    a.now_ms = moment
    second = a.write(INSERT)
    b.merged(second)
    d.merged(second)
    close_site(b.connection, a.site, new_site=new_site)
    update = b.write(COUNT)
    c.merge(update)
    for node in (c, d):
        close_site(node.connection, a.site, new_site=new_site)
    moved(d, c, authority=False)
    c.merge(update)
    healed(a, b, c, d, exact=2)


# ---- with a safeguard taken out


def without_authority(patch: Patch) -> None:
    patch.setattr(Authority, "sender_lacks", lambda _self, _born: False)


def without_the_receivers_authority(patch: Patch) -> None:
    patch.setattr(absorbing_state._StateAbsorption, "_was_deleted_here", lambda _self, _row: False)


def without_deps_of_state(patch: Patch) -> None:
    patch.setattr(Sites, "see", lambda _self, _site, _stamp: None)


def without_a_fold_before_a_range(patch: Patch) -> None:
    """And without a look at the hashes, which would notice."""
    patch.setattr(reading, "is_due", lambda _connection: False)
    patch.setattr(reading, "cell_hash", lambda _value, _seed: AnyHash())
    patch.setattr(reading._Reading, "_take_whole", lambda self, _prefix, rows: self._others.extend(rows))


class AnyHash:
    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def without_the_whole_vector_of_a_first_changeset(patch: Patch) -> None:
    moved = Sites.moved

    def lax(self: Sites, own: Site) -> Any:
        return {site: stamp for site, stamp in moved(self, own).items() if self._noted[site] != stamp}

    patch.setattr(Sites, "moved", lax)


def without_looking_at_what_members_have(patch: Patch) -> None:
    """A tombstone is trimmed though not all is here that those who cover it have."""
    trim_tombstones = trimming.trim_tombstones

    def lax(connection: sqlite3.Connection, *, members: Sequence[Mapping[Site, Head]], **when: Any) -> int:
        own = vector(connection)
        seen = [
            {site: head if head.stamp <= own[site].stamp else own[site] for site, head in have.items() if site in own}
            for have in members
        ]
        return trim_tombstones(connection, members=seen, **when)

    patch.setattr(trimming, "trim_tombstones", lax)


def without_ties(patch: Patch) -> None:
    """Of two values with one clock, the one that is there stays."""
    patch.setattr(merging, "_wins", lambda cell, mine, _name, _current: cell.dot > mine.dot)


def without_hashes_of_the_previous(patch: Patch) -> None:
    judge = applying._Merger._judge

    def lax(self: Any, changeset: Any, found: bytes) -> Any:
        outcome = judge(self, changeset, found)
        return None if isinstance(outcome, applying.Fork) and "follows another" in outcome.reason else outcome

    patch.setattr(applying._Merger, "_judge", lax)


def without_tips(patch: Patch) -> None:
    """A closed site is closed, and that is all that is said of it."""
    close = Sites.close

    def lax(self: Sites, site: Site, tips: Any) -> bool:
        self._heads.pop(site, None)
        return close(self, site, ())

    patch.setattr(Sites, "close", lax)


def without_holding_what_lacks_its_row(patch: Patch) -> None:
    patch.setattr(held, "hold_table", lambda *_, **__: None)


def without_saying_that_a_site_is_closed(patch: Patch) -> None:
    moved = Sites.moved

    def lax(self: Sites, own: Site) -> Any:
        heads = {site: head.stamp for site, head in self._heads.items()}
        return {site: heads.get(site, stamp) for site, stamp in moved(self, own).items()}

    patch.setattr(Sites, "moved", lax)


SCENARIOS: dict[Callable[[], None], tuple[Callable[[Patch], None], ...]] = {
    update_on_dead_row: (without_authority,),
    snapshot_zombie: (without_the_receivers_authority,),
    fold_in_snapshot: (without_deps_of_state,),
    range_of_unfolded: (without_a_fold_before_a_range,),
    copy_first_changeset: (without_the_whole_vector_of_a_first_changeset,),
    snapshot_while_deleting: (),
    trim_in_flight: (without_looking_at_what_members_have,),
    equal_stamp: (without_ties,),
    restored_site_skips: (without_hashes_of_the_previous,),
    third_branch_holder: (without_tips,),
    row_of_a_closed_site: (without_holding_what_lacks_its_row,),
    branch_that_nobody_told: (without_saying_that_a_site_is_closed,),
}


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_it_ends_well(scenario: Callable[[], None]) -> None:
    scenario()


@pytest.mark.parametrize(
    ("scenario", "take_out"),
    [(scenario, take_out) for scenario, safeguards in SCENARIOS.items() for take_out in safeguards],
    ids=lambda function: function.__name__,
)
def test_without_its_safeguard_it_does_not(
    scenario: Callable[[], None], take_out: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    take_out(monkeypatch)
    with pytest.raises(AssertionError):
        scenario()
