"""A position in a change feed: what a reader has been told already. It is what a reader keeps, to go on from there.

Changesets are merged in different orders on different nodes, so a number that counts them would mean nothing on another
node, nor after a copy of the file. What a reader has seen is a set of changesets, and that set is a vector: of each
site, all up to a stamp. It holds on every node, and survives a restart, VACUUM and a copy. Three things more belong
to it:

- the **generation** of the database (see `engine.generation`): in another one, rows have changed by something that is
  in no changeset;
- the **shape** of the table: a hash of its columns. Migrations fill columns and let show what was held, on each node by
  itself, and no changeset says so;
- how many rows of one more changeset were told, where a reader stopped within it;
- after which key to go on, where a reader stopped while it was told the rows that were there when it began.

As text it is plain ASCII and fits into a header: `SITE:STAMP,...`, then `;g=`, `;t=`, `;in=` and `;rows=`, where they
are."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from replication.engine.generation import DIGITS, FIRST
from replication.engine.ranges import parse_key
from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_site
from replication.engine.values import Key, pack, unpack
from replication.positions import Position, PositionError

SHAPE_DIGITS: Final = 8
_HEX: Final = frozenset("0123456789abcdef")


class Partway(NamedTuple):
    """Of this changeset, so many rows were told."""

    site: Site
    upto: Stamp
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedPosition:
    """See the module. `str` and `parse` are each other's reverse. `shape` is empty where it is not of one table.

    `is_at_rows`: the rows that were there are still being told, from the first after `rows_after` on."""

    vector: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    generation: str = FIRST
    shape: str = ""
    partway: Partway | None = None
    is_at_rows: bool = False
    rows_after: Key | None = None

    def __str__(self) -> str:
        parts = [str(Position(self.vector))]
        if self.generation:
            parts.append(f"g={self.generation}")
        if self.shape:
            parts.append(f"t={self.shape}")
        if self.partway is not None:
            parts.append(f"in={self.partway.site}:{self.partway.upto:x}:{self.partway.rows:x}")
        if self.is_at_rows:
            key = b"" if self.rows_after is None else pack(self.rows_after)
            parts.append(f"rows={base64.urlsafe_b64encode(key).decode()}")
        return ";".join(parts)

    @property
    def reaches(self) -> Mapping[Site, Stamp]:
        """How far a node has to have merged each site, to go on from here."""
        if self.partway is None:
            return self.vector
        return {**self.vector, self.partway.site: self.partway.upto}

    def covers(self, site: Site, stamp: Stamp) -> bool:
        """True if the site's changeset of that stamp was told, or was in the rows that were there."""
        known = self.vector.get(site)
        return known is not None and known >= stamp

    @classmethod
    def parse(cls, text: str) -> Self:
        """The position whose `str` this is. Raises PositionError."""
        vector, *rest = text.split(";")
        generation, shape, partway, rows_after, is_at_rows = FIRST, "", None, None, False
        for part in rest:
            name, _, value = part.partition("=")
            match name:
                case "g" if len(value) == DIGITS and _HEX.issuperset(value):
                    generation = value
                case "t" if len(value) == SHAPE_DIGITS and _HEX.issuperset(value):
                    shape = value
                case "in":
                    partway = _partway(value, text)
                case "rows":
                    is_at_rows, rows_after = True, _key(value, text)
                case _:
                    raise PositionError(text)
        return cls(
            vector=Position.parse(vector).stamps,
            generation=generation,
            shape=shape,
            partway=partway,
            is_at_rows=is_at_rows,
            rows_after=rows_after,
        )


def _partway(value: str, text: str) -> Partway:
    try:
        site, upto, rows = value.split(":")
        found = Partway(Site(site), Stamp(int(upto, 16)), int(rows, 16))
    except ValueError:
        raise PositionError(text) from None
    if not is_site(site) or not 0 <= found.upto <= STAMP_MAX or found.rows < 0:
        raise PositionError(text)
    return found


def _key(value: str, text: str) -> Key | None:
    if not value:
        return None
    try:
        return parse_key(unpack(base64.b64decode(value, altchars=b"-_", validate=True)))
    except (binascii.Error, ValueError):
        raise PositionError(text) from None
    except Exception as error:  # msgpack's own, RecursionError: whatever it is, the text is at fault
        raise PositionError(text) from error
