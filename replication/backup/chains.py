"""Which objects have what a reader lacks of a site, and whether what they hold joins what he has. Pure.

Two nodes may have written objects of one site that overlap (each thought that the other was gone), and a large object
may stand beside the small ones that it was made of. So the longest that goes on is taken, and what is known of it is
passed over."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from replication.backup.batches import Batch, Link
from replication.backup.names import Stretch
from replication.engine.changesets import decode_head
from replication.engine.sites import Head
from replication.engine.stamps import ALL_BRANCHES, Site, Stamp, first_after


class Gap(ValueError):
    """Between what the reader has and the object something is missing."""


class AnotherHistory(ValueError):
    """The object tells of the site what is not the history that the reader has."""


def by_site(stretches: Iterable[Stretch]) -> dict[Site, list[Stretch]]:
    """The stretches of each site."""
    found: dict[Site, list[Stretch]] = defaultdict(list)
    for stretch in stretches:
        found[stretch.site].append(stretch)
    return dict(found)


def to_read(stretches: Sequence[Stretch], at: Stamp) -> list[Stretch]:
    """Of one site's objects those that lead from a stamp to the last one there is, in their order, none in vain."""
    left = sorted(stretches, key=lambda one: (one.first, -one.last))
    found: list[Stretch] = []
    index = 0
    while True:
        best: Stretch | None = None
        while index < len(left) and left[index].first <= at:
            if left[index].last > (at if best is None else best.last):
                best = left[index]
            index += 1
        if best is None:
            if index == len(left):
                return found
            best = left[index]
            index += 1
        found.append(best)
        at = best.last


def upto_first(stretches: Iterable[Stretch], is_last: Callable[[Stretch], bool]) -> list[Stretch]:
    """The stretches up to the first one that is the last, and that one."""
    found: list[Stretch] = []
    for one in stretches:
        found.append(one)
        if is_last(one):
            break
    return found


def newest_deps(changesets: Iterable[bytes]) -> dict[Site, Stamp]:
    """Up to where these have seen other sites, but those that they know to be closed."""
    found: dict[Site, Stamp] = {}
    for encoded in changesets:
        for dep, stamp in decode_head(encoded).deps.items():
            if stamp != ALL_BRANCHES:
                found[dep] = max(stamp, found.get(dep, stamp))
    return found


def ends(stretches: Iterable[Stretch]) -> dict[Site, Stamp]:
    """How far each site is there."""
    found: dict[Site, Stamp] = {}
    for one in stretches:
        found[one.site] = max(one.last, found.get(one.site, one.last))
    return found


def following(batch: Batch, head: Head | None) -> tuple[Link, ...]:
    """What of an object comes after a head. Raises Gap or AnotherHistory if it does not join."""
    at = first_after(batch.site) if head is None else head.stamp
    known = b"" if head is None else head.digest
    for link in batch.links:
        if link.upto == at and link.digest != known:
            raise AnotherHistory(f"has another changeset at {at:x}")
    left = batch.beyond(at)
    if not left:
        return ()
    if left[0].after > at:
        raise Gap(f"begins after {left[0].after:x}, and what comes after {at:x} is in no object")
    if (left[0].after, left[0].previous) != (at, known):
        raise AnotherHistory(f"goes on after another changeset than the one at {at:x}")
    return left
