"""What the workers of two nodes say to each other: plain values that msgpack takes, and their checks.

Casts:
    ["changeset", bytes]                    as its origin made it
    ["heads", site, sites, closed, held, clock_ms, ready]
        site    the sender's own
        sites   [[site, stamp, hash, run], ...]   how far the sender has merged
        closed  [[site, [[stamp, hash], ...]], ...]   sites that were forked, and which branches the sender merged
        held    [[site, stamp], ...]        changesets that the sender has and has not merged
    ["schemas", [[table, digits], ...]]     which schema of each table the sender has (see `schemas`)

Calls, each a list that begins with its name; the answer is a parcel (see `parcels`):
    ["ask", [[site, stamp], ...]]           a page of what the asker lacks
    ["weigh", [[site, stamp], ...]]         what a snapshot would be, and whether the journal leads on from there
    ["more", ref, offset]                   the next piece of a parcel

No maps with keys that vary: msgpack interns keys, and Python 3.12 never frees them. Whatever is not as above raises
`NotAMessage`, which the worker counts; the peer is none the worse for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from replication.engine.changesets import DIGEST_BYTES
from replication.engine.runs import RUN_BYTES, UNKNOWN
from replication.engine.sites import Head
from replication.engine.stamps import STAMP_MAX, Site, Stamp, is_site

SITES_MAX = 50_000
HELD_MAX = 1_000
TIPS_MAX = 1_000

type Vector = Mapping[Site, Head]
type Closed = Mapping[Site, frozenset[Head]]


class NotAMessage(ValueError):
    """A peer sent something that is none of the above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """What a node says of itself when a peer comes up, and every second."""

    site: Site
    vector: Vector
    closed: Closed = field(default_factory=dict[Site, frozenset[Head]])
    held: tuple[tuple[Site, Stamp], ...] = ()
    clock_ms: int
    ready: bool
    """False while a snapshot is being applied: what the vector says is true, but the rows may be ahead of it."""

    def plain(self) -> list[object]:
        """As it is cast."""
        return [
            "heads",
            self.site,
            [[site, head.stamp, head.digest, head.run] for site, head in self.vector.items()],
            [
                [site, [[tip.stamp, tip.digest] for tip in sorted(tips, key=_order)]]
                for site, tips in self.closed.items()
            ],
            [list(held) for held in self.held[:HELD_MAX]],
            self.clock_ms,
            self.ready,
        ]


def _order(head: Head) -> tuple[int, bytes]:
    return head.stamp, head.digest


def parse_heads(message: list[Any]) -> Heads:
    """Raises NotAMessage."""
    if len(message) != 7 or not is_site(message[1]):
        raise NotAMessage("heads have seven parts, the second of which is a site")
    _, site, sites, closed, held, clock_ms, ready = message
    if type(clock_ms) is not int or not 0 <= clock_ms < 2**48 or type(ready) is not bool:
        raise NotAMessage("the clock is not a time")
    return Heads(
        site=Site(site),
        vector={Site(site): _head(stamp, digest, run) for site, stamp, digest, run in _sites(sites)},
        closed={Site(site): _tips(tips) for site, tips in _pairs(closed, SITES_MAX)},
        held=tuple((Site(site), _stamp(stamp)) for site, stamp in _pairs(held, HELD_MAX)),
        clock_ms=clock_ms,
        ready=ready,
    )


def plain_stamps(stamps: Mapping[Site, Stamp]) -> list[list[object]]:
    """A vector without its hashes."""
    return [[site, stamp] for site, stamp in stamps.items()]


def parse_stamps(value: object) -> dict[Site, Stamp]:
    """Raises NotAMessage."""
    return {Site(site): _stamp(stamp) for site, stamp in _pairs(value, SITES_MAX)}


def _list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > most:
        raise NotAMessage("not a list, or too long a one")
    return list(value)


def _pairs(value: object, most: int) -> list[tuple[str, Any]]:
    pairs = _list(value, most)
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not is_site(pair[0]):
            raise NotAMessage("not a site and what belongs to it")
    return [(site, what) for site, what in pairs]


def _sites(value: object) -> list[tuple[str, Any, Any, Any]]:
    sites = _list(value, SITES_MAX)
    for one in sites:
        if not isinstance(one, list | tuple) or len(one) != 4 or not is_site(one[0]):
            raise NotAMessage("not a site and its head")
    return [(site, stamp, digest, run) for site, stamp, digest, run in sites]


def _stamp(value: object) -> Stamp:
    if type(value) is not int or not -1 <= value <= STAMP_MAX:
        raise NotAMessage("not a stamp")
    return Stamp(value)


def _head(stamp: object, digest: object, run: object = UNKNOWN) -> Head:
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise NotAMessage("not the hash of a head")
    if not isinstance(run, bytes) or len(run) not in (0, RUN_BYTES):
        raise NotAMessage("not the run of a head")
    return Head(stamp=_stamp(stamp), digest=digest, run=run)


def _tips(value: object) -> frozenset[Head]:
    found: set[Head] = set()
    for tip in _list(value, TIPS_MAX):
        if not isinstance(tip, list | tuple) or len(tip) != 2:
            raise NotAMessage("not a tip of a closed site")
        found.add(_head(tip[0], tip[1]))
    return frozenset(found)
