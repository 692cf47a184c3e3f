"""The names of a backup's objects. Pure.

    litecast.json                           whose backup this is, and of which format
    changesets/SITE/FIRST-LAST              changesets of one site, from the one stamped FIRST to the one stamped LAST
    snapshots/CLOCK-DIGEST/000000           a piece of a copy of a node's database
    snapshots/CLOCK-DIGEST/complete         what the copy is; written last, so without it there is no snapshot

Stamps and clocks are 16 hex digits, so that names sort as stamps do. Each object is written once, and never again."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, NewType

from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_site

MARKER: Final = "litecast.json"
CHANGESETS: Final = "changesets/"
SNAPSHOTS: Final = "snapshots/"
COMPLETE: Final = "complete"
PIECES_MAX: Final = 1_000_000

SnapshotId = NewType("SnapshotId", str)
"""The clock of the database that was copied, and a digest of the copy. A later copy's is larger."""

_STRETCH: Final = re.compile(r"changesets/([0-9a-z]{32})/([0-9a-f]{16})-([0-9a-f]{16})")
_SNAPSHOT: Final = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}")


class Stretch(NamedTuple):
    """Some changesets of a site, one after the other: the stamps of the first one and of the last one."""

    site: Site
    first: Stamp
    last: Stamp


def of_stretch(stretch: Stretch) -> str:
    """The name of its object."""
    return f"{CHANGESETS}{stretch.site}/{stretch.first:016x}-{stretch.last:016x}"


def stretch_of(name: str) -> Stretch | None:
    """Which changesets are in an object; None if it is none of that kind."""
    found = _STRETCH.fullmatch(name)
    if found is None or not is_site(found[1]):
        return None
    first, last = int(found[2], 16), int(found[3], 16)
    return Stretch(Site(found[1]), Stamp(first), Stamp(last)) if first <= last <= STAMP_MAX else None


def snapshot_id(clock: Stamp, digest: bytes) -> SnapshotId:
    """What a copy is called. `digest`: of the whole copy, eight bytes or more."""
    return SnapshotId(f"{clock:016x}-{digest[:8].hex()}")


def is_snapshot_id(text: object) -> bool:
    """True if a snapshot could be called so."""
    return isinstance(text, str) and _SNAPSHOT.fullmatch(text) is not None


def of_piece(snapshot: SnapshotId, number: int) -> str:
    """The name of a piece."""
    return f"{SNAPSHOTS}{snapshot}/{number:06d}"


def of_closing(snapshot: SnapshotId) -> str:
    """The name of the object that makes a snapshot one."""
    return f"{SNAPSHOTS}{snapshot}/{COMPLETE}"


def complete_snapshots(names: Iterable[str]) -> list[SnapshotId]:
    """The snapshots of which all is there, the newest last."""
    parts = (name.removeprefix(SNAPSHOTS).split("/") for name in names if name.startswith(SNAPSHOTS))
    return sorted(SnapshotId(part[0]) for part in parts if part[1:] == [COMPLETE] and is_snapshot_id(part[0]))
