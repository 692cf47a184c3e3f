"""What is made one, what is covered, what is a base."""

from dataclasses import replace

from replication.backup.bucket import Lying
from replication.backup.looking import lying_in_none
from replication.backup.manifests import Manifest, Piece
from replication.backup.names import Stretch, of_piece, of_stretch, snapshot_id
from replication.backup.what_to_keep import (
    ABANDONED_S,
    FAN_IN,
    OBJECTS_TO_KEEP,
    PAUSE_S,
    There,
    covered,
    is_base,
    is_due,
    is_in,
    left_over,
    pieces_of,
    sorted_out,
    to_merge,
)
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp, stamp_at

A, B = Site("a" * 32), Site("b" * 32)
SMALL = 300


def stretch(first: int, last: int, site: Site = A) -> Stretch:
    return Stretch(site, Stamp(first), Stamp(last))


def singles(first: int, count: int, site: Site = A, size: int = SMALL) -> dict[Stretch, int]:
    return {stretch(number, number, site): size for number in range(first, first + count)}


def lying(*stretches: Stretch, written_ms: int = 0) -> dict[Stretch, Lying]:
    return {one: Lying(of_stretch(one), SMALL, written_ms) for one in stretches}


SNAPSHOT = Manifest(
    snapshot=snapshot_id(stamp_at(50), b"12345678"),
    number=1,
    cluster="c",
    node="n",
    taken_ms=50,
    clock=stamp_at(50),
    pieces=(Piece(size=1, digest=b"d" * 16), Piece(size=1, digest=b"e" * 16)),
    vector={A: Head(stamp=Stamp(10), digest=b"d" * 16)},
    closed={B: frozenset()},
)
PIECES = [Lying(of_piece(SNAPSHOT.snapshot, number), 1, 0) for number in range(2)]


def there(*pieces: Lying) -> There:
    return sorted_out([*pieces, Lying("snapshots/00000001", 1, 7), Lying("keeper/000000000001", 1, 9)])


def test_small_neighbours_are_made_one_when_there_are_enough_of_one_site() -> None:
    assert to_merge(singles(1, FAN_IN - 1), set()) == []
    assert to_merge({**singles(1, FAN_IN - 1), **singles(1, FAN_IN - 1, B)}, set()) == []
    found = {**singles(1, FAN_IN), **singles(1, 1, B)}
    assert to_merge(found, set()) == [sorted(singles(1, FAN_IN))]


def test_a_large_one_is_not_written_again_for_a_few_small_ones() -> None:
    large = {stretch(1, 9): 1_000_000}
    run = singles(10, FAN_IN)
    assert to_merge({**large, **run}, set()) == [sorted(run)]
    assert to_merge({**large, **singles(10, FAN_IN - 1)}, set()) == []
    several = {stretch(10 * number, 10 * number + 9): 20_000 for number in range(1, FAN_IN + 1)}
    assert to_merge({**several, **singles(1_000, 3)}, set()) == [sorted({**several, **singles(1_000, 3)})]


def test_what_stays_alone_parts_its_neighbours() -> None:
    found = singles(1, 2 * FAN_IN + 1)
    middle = stretch(FAN_IN + 1, FAN_IN + 1)
    assert to_merge(found, {middle}) == [sorted(singles(1, FAN_IN)), sorted(singles(FAN_IN + 2, FAN_IN))]


def test_what_lies_in_a_larger_one_is_not_made_one_again() -> None:
    assert to_merge({**singles(1, FAN_IN), stretch(1, FAN_IN): SMALL * FAN_IN}, set()) == []


def test_an_object_is_covered_once_the_larger_one_was_there_for_a_while() -> None:
    small = lying(stretch(1, 1), stretch(2, 3), stretch(4, 6), written_ms=0)
    large = lying(stretch(1, 4), written_ms=100)
    assert covered({**small, **large}, before_ms=100) == {}
    assert covered({**small, **large}, before_ms=101) == {stretch(1, 4): [stretch(1, 1), stretch(2, 3)]}


def test_what_covers_is_not_covered() -> None:
    found = covered(lying(stretch(1, 1), stretch(1, 4), stretch(1, 9), stretch(5, 9), stretch(7, 12)), before_ms=1)
    assert found == {stretch(1, 9): [stretch(1, 4), stretch(1, 1), stretch(5, 9)]}


def test_a_snapshot_that_is_not_whole_is_no_base() -> None:
    assert is_base(SNAPSHOT, there(*PIECES), since_ms=51)
    assert not is_base(SNAPSHOT, there(*PIECES), since_ms=50), "what was written in that millisecond is in it, perhaps"
    assert not is_base(SNAPSHOT, there(*PIECES[:1]), since_ms=51)


def test_pieces_of_no_snapshot_go_once_none_is_made_of_them() -> None:
    found = there(*PIECES)
    assert found.closed == [1]
    assert found.store_ms == 9
    later = replace(found, store_ms=int(ABANDONED_S * 1000) + 1)
    assert left_over(found, []) == []
    assert left_over(later, [SNAPSHOT]) == []
    assert left_over(later, []) == [one.name for one in PIECES]
    newer = Lying(PIECES[0].name, 1, 5)
    assert left_over(replace(there(newer, PIECES[1]), store_ms=later.store_ms), []) == [], "it is being uploaded"
    assert pieces_of(found, [SNAPSHOT], []) == [one.name for one in PIECES]
    assert pieces_of(found, [SNAPSHOT], [SNAPSHOT]) == []


def test_a_snapshot_has_what_ends_in_it_and_all_of_closed_sites() -> None:
    assert is_in(stretch(5, 10), SNAPSHOT)
    assert not is_in(stretch(5, 11), SNAPSHOT)
    assert is_in(stretch(5, 99, B), SNAPSHOT)
    assert not is_in(stretch(5, 99, B), replace(SNAPSHOT, closed={}))


def test_the_bucket_is_looked_at_when_something_is_new_and_not_too_often() -> None:
    assert not is_due(since_s=10 * PAUSE_S, objects=OBJECTS_TO_KEEP - 1, is_new=False)
    assert is_due(since_s=PAUSE_S, objects=OBJECTS_TO_KEEP, is_new=False)
    assert is_due(since_s=PAUSE_S, objects=0, is_new=True)
    assert not is_due(since_s=PAUSE_S - 1, objects=10 * OBJECTS_TO_KEEP, is_new=True)


def test_what_an_inventory_names_lies_in_a_listed_one_or_in_none() -> None:
    listed = [stretch(1, 5), stretch(4, 9), stretch(20, 30)]
    named = [stretch(1, 5), stretch(2, 3), stretch(3, 7), stretch(5, 9), stretch(10, 12), stretch(4, 4, B)]
    assert lying_in_none(named, listed) == [stretch(3, 7), stretch(10, 12), stretch(4, 4, B)]
