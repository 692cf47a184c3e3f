"""What closes a snapshot: which pieces it has, and what the database was that was copied. Pure.

The content is JSON, for people who look into a bucket. All that a reader needs to check the pieces stands in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from replication.backup.envelope import BadEnvelope, seal, unseal
from replication.backup.names import NUMBER_MAX, PIECES_MAX, SnapshotId, is_snapshot_id
from replication.engine.changesets import DIGEST_BYTES
from replication.engine.received import Malformed, fields, listed, mapped, name, site, whole
from replication.engine.runs import RUN_BYTES
from replication.engine.sites import Head
from replication.engine.stamps import STAMP_MAX, Site, Stamp, ms_of

FORM: Final = 1
MANIFEST_MAX_BYTES: Final = 256 * 1024 * 1024
PIECE_BYTES: Final = 8 * 1024 * 1024
"""So much of the copy is in one object; the last one has less."""
PIECE_MAX_BYTES: Final = 64 * 1024 * 1024
_SIZE_MAX: Final = 2**48
_MS_MAX: Final = 2**48
_SITES_MAX: Final = 100_000


class BadManifest(ValueError):
    """The bytes close no snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """So many bytes of the copy, and their BLAKE2b."""

    size: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`taken_ms`: by the clock of the node that took it. `content`: a digest of the rows, by table."""

    snapshot: SnapshotId
    number: int
    """The store gives each number once: the first who writes it. A snapshot has all that those before it have."""
    cluster: str
    node: str
    taken_ms: int
    clock: Stamp
    pieces: tuple[Piece, ...]
    vector: Mapping[Site, Head]
    closed: Mapping[Site, frozenset[Head]]
    """Sites of which two histories were about, and which ends of them are in the copy."""
    schemas: Mapping[str, str] = field(default_factory=dict[str, str])
    content: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def from_ms(self) -> int:
        """The first moment of which it says what there was, milliseconds since 1970: that of its last change. Where
        nothing was ever stamped, the one at which it was taken: who knows since when its rows were there?"""
        return ms_of(self.clock) or self.taken_ms

    @property
    def size(self) -> int:
        """Of the copy, in bytes."""
        return sum(piece.size for piece in self.pieces)


def encode(manifest: Manifest) -> bytes:
    """The object's bytes."""
    content = {
        "form": FORM,
        "snapshot": manifest.snapshot,
        "number": manifest.number,
        "cluster": manifest.cluster,
        "node": manifest.node,
        "taken_ms": manifest.taken_ms,
        "clock": manifest.clock,
        "pieces": [[piece.size, piece.digest.hex()] for piece in manifest.pieces],
        "vector": {one: _plain(head) for one, head in manifest.vector.items()},
        "closed": {
            one: [_plain(tip) for tip in sorted(tips, key=lambda tip: (tip.stamp, tip.digest))]
            for one, tips in manifest.closed.items()
        },
        "schemas": dict(manifest.schemas),
        "content": dict(manifest.content),
    }
    return seal(json.dumps(content, indent=1, ensure_ascii=True).encode())


def decode(sealed: bytes) -> Manifest:
    """What the object says. Raises BadManifest, and nothing else, if it is none."""
    try:
        content = json.loads(unseal(sealed, max_bytes=MANIFEST_MAX_BYTES))
        form = content.get("form") if isinstance(content, dict) else None
        if form != FORM:
            raise BadManifest(f"has form {str(form)[:20]}, and form {FORM} is known; upgrade litecast")
        return _manifest(content)
    except BadManifest:
        raise
    except (BadEnvelope, Malformed) as error:
        raise BadManifest(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"is not JSON as it was written ({type(error).__name__})") from error


def _manifest(content: object) -> Manifest:
    _, snapshot, number, cluster, node, taken_ms, clock, pieces, vector, closed, schemas, digests = fields(
        content,
        "form",
        "snapshot",
        "number",
        "cluster",
        "node",
        "taken_ms",
        "clock",
        "pieces",
        "vector",
        "closed",
        "schemas",
        "content",
    )
    if not is_snapshot_id(snapshot):
        raise Malformed("not the name of a snapshot")
    return Manifest(
        snapshot=SnapshotId(snapshot),
        number=whole(number, low=1, high=NUMBER_MAX),
        cluster=name(cluster),
        node=name(node),
        taken_ms=whole(taken_ms, low=0, high=_MS_MAX),
        clock=Stamp(whole(clock, low=0, high=STAMP_MAX)),
        pieces=tuple(_piece(piece) for piece in listed(pieces, at_most=PIECES_MAX)),
        vector={site(one): _head(head) for one, head in mapped(vector, at_most=_SITES_MAX).items()},
        closed={
            site(one): frozenset(_head(tip) for tip in listed(tips, at_most=_SITES_MAX))
            for one, tips in mapped(closed, at_most=_SITES_MAX).items()
        },
        schemas={table: name(digits) for table, digits in mapped(schemas, at_most=_SITES_MAX).items()},
        content={table: name(digits) for table, digits in mapped(digests, at_most=_SITES_MAX).items()},
    )


def _piece(value: object) -> Piece:
    size, digest = _pair(value)
    return Piece(size=whole(size, low=1, high=PIECE_MAX_BYTES), digest=_bytes(digest, DIGEST_BYTES))


def _plain(head: Head) -> list[object]:
    return [head.stamp, head.digest.hex(), head.run.hex()]


def _head(value: object) -> Head:
    found = listed(value, at_most=3)
    if len(found) != 3:
        raise Malformed("not a head")
    stamp, digest, run = found
    return Head(
        stamp=Stamp(whole(stamp, low=0, high=STAMP_MAX)),
        digest=_bytes(digest, DIGEST_BYTES, or_none=True),
        run=_bytes(run, RUN_BYTES, or_none=True),
    )


def _pair(value: object) -> tuple[Any, Any]:
    found = listed(value, at_most=2)
    if len(found) != 2:
        raise Malformed("not a pair")
    return found[0], found[1]


def _bytes(value: object, size: int, *, or_none: bool = False) -> bytes:
    if not isinstance(value, str):
        raise Malformed("not bytes in hex digits")
    found = bytes.fromhex(value)
    if len(found) != size and not (or_none and not found):
        raise Malformed(f"not {size} bytes")
    return found
