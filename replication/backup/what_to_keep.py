"""What of a bucket is made one, and what is not needed any more, from a listing of it. Pure.

**Made one.** Each upload is an object of its own, and each object takes a request to restore. So neighbours of a site
are made one, when there are `FAN_IN` of about one size: what comes of it is larger than each of them, and no changeset
is written again more often than the sizes grow.

**Covered.** An object that lies within another one is not needed. It goes once the other one has been there for
`GRACE_S`: who read a listing before that finds what it names. What covers is never covered itself, so whoever removes
at the same time, from whatever older listing, something stays that has it all.

**Retention.** Of the snapshots that are whole, the newest one that is older than `retention_s` is the base. Any moment
since is restored from it, or from a later one, with what came after. What is older than the base, and changesets that
it has, go: first what closes the older snapshots, so that nobody begins with one, then all else.

**Left over.** Pieces of a copy of which nothing came for `ABANDONED_S` (by the store's clock), and that are of no
snapshot. A node goes on with a copy, or closes it, only within half of that time (`snapshotting`).

How old something is, is counted back from the newest stamp in the bucket, if the own clock is ahead of that: a clock
that is far ahead removes nothing too early, and what a cluster wrote last is kept as long as it writes no more."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from replication.backup.bucket import Lying
from replication.backup.chains import by_site, to_read
from replication.backup.manifests import Manifest
from replication.backup.names import (
    SnapshotId,
    Stretch,
    clock_of,
    inventories_in,
    of_piece,
    piece_of,
    snapshots_in,
    stretch_of,
)
from replication.backup.taking import COPY_MAX_AGE_S
from replication.engine.stamps import Stamp, first_after, ms_of

FAN_IN: Final = 8
"""So many objects at least are made one. Fewer would write each changeset more often, more would leave more objects."""
GRACE_S: Final = 600.0
"""As long as a restore may hold on to a listing without looking again."""
ABANDONED_S: Final = 2 * COPY_MAX_AGE_S
OBJECTS_TO_KEEP: Final = 100
PAUSE_S: Final = 60.0
"""Between two looks at the bucket. A look costs some requests for each thousand objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """What is in a bucket, told apart."""

    changesets: Mapping[Stretch, Lying]
    closed: Sequence[int]
    """The numbers of the complete snapshots, in their order."""
    pieces: Mapping[SnapshotId, Sequence[Lying]]
    inventories: Sequence[int]
    """Their numbers, in their order."""
    store_ms: int
    """The time by the clock of the store, if something was just written to it."""


def sorted_out(listing: Iterable[Lying]) -> There:
    """What a listing shows."""
    everything = list(listing)
    pieces: dict[SnapshotId, list[Lying]] = defaultdict(list)
    for one in everything:
        snapshot = piece_of(one.name)
        if snapshot is not None:
            pieces[snapshot].append(one)
    return There(
        changesets={stretch: one for one in everything if (stretch := stretch_of(one.name)) is not None},
        closed=snapshots_in(one.name for one in everything),
        pieces=dict(pieces),
        inventories=inventories_in(one.name for one in everything),
        store_ms=max((one.written_ms for one in everything), default=0),
    )


def is_due(*, since_s: float, objects: int, is_new: bool, pause_s: float = PAUSE_S) -> bool:
    """Whether to look at the bucket. `since_s`: since the last time; `objects`: that were uploaded since, about;
    `is_new`: whether there is another snapshot."""
    return since_s >= pause_s and (is_new or objects >= OBJECTS_TO_KEEP)


def to_merge(sizes: Mapping[Stretch, int], alone: Set[Stretch]) -> list[list[Stretch]]:
    """Neighbours of a site that are to be made one. `sizes`: in the store; `alone`: what stays as it is, as it is large
    enough, or nothing follows it.

    No object is in two of them, or covered. Each has FAN_IN objects at least, and none of these has more bytes than
    all others of them."""
    found: list[list[Stretch]] = []
    for site, stretches in sorted(by_site(sizes).items()):
        left: list[Stretch | None] = [None if one in alone else one for one in to_read(stretches, first_after(site))]
        for tier in range(_tier(max(sizes[one] for one in stretches)) + 1):
            for run in _runs(left, sizes, tier):
                bytes_of = [sizes[one] for one in run]
                if len(run) >= FAN_IN and 2 * max(bytes_of) <= sum(bytes_of):
                    found.append(run)
                    taken = set(run)
                    left = [None if one in taken else one for one in left]
    return found


def _runs(left: Sequence[Stretch | None], sizes: Mapping[Stretch, int], tier: int) -> list[list[Stretch]]:
    """What stands side by side, of this tier or below."""
    found: list[list[Stretch]] = [[]]
    for one in left:
        if one is not None and _tier(sizes[one]) <= tier:
            found[-1].append(one)
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def _tier(size: int) -> int:
    """Up to 16 KiB, up to 128 KiB, and so on: eight times as many bytes each."""
    return (size >> 12).bit_length() // 3


def covered(there: Mapping[Stretch, Lying], *, before_ms: int) -> dict[Stretch, list[Stretch]]:
    """Which objects cover which, that have been there since before a moment of the store's clock. None of those that
    cover is covered by one of them."""
    found: dict[Stretch, list[Stretch]] = defaultdict(list)
    for stretches in by_site(there).values():
        best: Stretch | None = None
        for one in sorted(stretches, key=lambda one: (one.first, -one.last)):
            if best is not None and one.last <= best.last:
                found[best].append(one)
            elif there[one].written_ms < before_ms:
                best = one
    return dict(found)


def oldest_ms(there: There, *, now_ms: int, retention_s: float) -> int:
    """The oldest moment that can be restored, at least."""
    newest = max((*(one.last for one in there.changesets), *map(clock_of, there.pieces)), default=Stamp(0))
    return min(now_ms, ms_of(newest)) - int(retention_s * 1000)


def is_base(snapshot: Manifest, there: There, *, since_ms: int) -> bool:
    """Whether all moments since then can be restored from it, with what came after it."""
    return ms_of(snapshot.clock) < since_ms and is_whole(snapshot, there)


def is_whole(snapshot: Manifest, there: There) -> bool:
    """Whether all pieces are listed."""
    listed = {one.name for one in there.pieces.get(snapshot.snapshot, ())}
    return all(of_piece(snapshot.snapshot, number) in listed for number in range(len(snapshot.pieces)))


def older_snapshots(there: There, base: Manifest) -> list[int]:
    """The snapshots before the base, the oldest first."""
    return [number for number in there.closed if number < base.number]


def left_over(there: There, kept: Iterable[Manifest]) -> list[str]:
    """Pieces of none of these snapshots, of copies of which nothing came for long. All that are complete have to be
    among them."""
    of = {one.snapshot for one in kept}
    before_ms = there.store_ms - int(ABANDONED_S * 1000)
    return [
        one.name
        for snapshot, pieces in sorted(there.pieces.items())
        if snapshot not in of and max(one.written_ms for one in pieces) < before_ms
        for one in pieces
    ]


def pieces_of(there: There, old: Iterable[Manifest], kept: Iterable[Manifest]) -> list[str]:
    """Pieces of old snapshots that are of none that is kept."""
    of = {one.snapshot for one in old} - {one.snapshot for one in kept}
    return [one.name for snapshot in sorted(of) for one in there.pieces.get(snapshot, ())]


def in_base(stretches: Iterable[Stretch], base: Manifest) -> list[Stretch]:
    """Objects of which the base has everything."""
    return [one for one in stretches if is_in(one, base)]


def is_in(stretch: Stretch, snapshot: Manifest) -> bool:
    """Whether a snapshot has all that is in an object."""
    if stretch.site in snapshot.closed:
        return True
    head = snapshot.vector.get(stretch.site)
    return head is not None and stretch.last <= head.stamp
