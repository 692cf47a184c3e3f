"""The names of a backup's objects. Pure.

    litecast.json                           whose backup this is, and of which format
    changesets/SITE/FIRST-LAST              changesets of one site, from the one stamped FIRST to the one stamped LAST
    snapshots/CLOCK-DIGEST/000000           a piece of a copy of a node's database
    snapshots/00000001                      closes the first snapshot: which pieces it has. Without it there is none
    keys/FINGERPRINT                        of an encrypted backup: its key, for who has one secret
    inventory/00000001                      what was there when it was kept last: see `inventory`
    keeper/000000000001                     the lease of the node that keeps it: see `lease_in_bucket`

Stamps and clocks are 16 hex digits, so that names sort as stamps do. Each object is written once, and
never again; but for the lease's."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, NewType

from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_site

MARKER: Final = "litecast.json"
CHANGESETS: Final = "changesets/"
SNAPSHOTS: Final = "snapshots/"
KEYS: Final = "keys/"
INVENTORIES: Final = "inventory/"
KEEPER: Final = "keeper/"
PIECES_MAX: Final = 1_000_000

SnapshotId = NewType("SnapshotId", str)
"""The clock of the database that was copied, and a digest of the copy."""

_STRETCH: Final = re.compile(r"changesets/([0-9a-z]{32})/([0-9a-f]{16})-([0-9a-f]{16})")
NUMBER_MAX: Final = 99_999_999
_CLOSING: Final = re.compile(r"snapshots/([0-9]{8})")
_KEY: Final = re.compile(r"keys/[0-9a-f]{32}")
_PIECE: Final = re.compile(r"snapshots/([0-9a-f]{16}-[0-9a-f]{16})/[0-9]{6}")
_INVENTORY: Final = re.compile(r"inventory/([0-9]{8})")
_KEEPER: Final = re.compile(r"keeper/([0-9]{12})")
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


def stretches_in(names: Iterable[str]) -> list[Stretch]:
    """Those of all objects with changesets, in the order of the names."""
    return [found for name in names if (found := stretch_of(name)) is not None]


def snapshot_id(clock: Stamp, digest: bytes) -> SnapshotId:
    """What a copy is called. `digest`: of the whole copy, eight bytes or more."""
    return SnapshotId(f"{clock:016x}-{digest[:8].hex()}")


def is_snapshot_id(text: object) -> bool:
    """True if a snapshot could be called so."""
    return isinstance(text, str) and _SNAPSHOT.fullmatch(text) is not None


def of_piece(snapshot: SnapshotId, number: int) -> str:
    """The name of a piece."""
    return f"{SNAPSHOTS}{snapshot}/{number:06d}"


def piece_of(name: str) -> SnapshotId | None:
    """Which copy an object is a piece of; None if it is none of that kind."""
    found = _PIECE.fullmatch(name)
    return None if found is None else SnapshotId(found[1])


def clock_of(snapshot: SnapshotId) -> Stamp:
    """The clock of the database that was copied."""
    return Stamp(min(int(snapshot[:16], 16), STAMP_MAX))


def of_closing(number: int) -> str:
    """The name of the object that makes the pieces a snapshot, which has this number, from 1."""
    return f"{SNAPSHOTS}{number:08d}"


def snapshots_in(names: Iterable[str]) -> list[int]:
    """The numbers of the snapshots that are complete, in their order."""
    return _numbers(_CLOSING, names)


def of_inventory(number: int) -> str:
    """The name of the inventory of this number, from 1."""
    return f"{INVENTORIES}{number:08d}"


def inventories_in(names: Iterable[str]) -> list[int]:
    """The numbers of the inventories, in their order."""
    return _numbers(_INVENTORY, names)


def of_keeper(number: int) -> str:
    """The name of the object of the keeper's lease with this number."""
    return f"{KEEPER}{number:012d}"


def keepers_in(names: Iterable[str]) -> list[int]:
    """The numbers of the objects of the keeper's lease."""
    return _numbers(_KEEPER, names)


def _numbers(form: re.Pattern[str], names: Iterable[str]) -> list[int]:
    found = (form.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in found if match is not None and int(match[1]))


def of_key(fingerprint: str) -> str:
    """The name of the object with the backup's key, encrypted with the key of this fingerprint."""
    return f"{KEYS}{fingerprint}"


def is_key(name: str) -> bool:
    """True if an object of this name holds a key."""
    return _KEY.fullmatch(name) is not None
