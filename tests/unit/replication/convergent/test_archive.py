"""Whether an archive is read, and what comes of one that does not keep what it promises."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import pytest

from replication.convergent import from_archive
from replication.convergent.archive import BYTE_FOR_BYTE, Offer, Part, Weight, is_archive_cheaper, parse_weight
from replication.convergent.exchange import Exchange
from replication.convergent.from_archive import FromArchive
from replication.convergent.messages import Heads, NotAMessage
from replication.convergent.parcels import flat
from replication.convergent.status import Progress, Tally
from replication.convergent.store import View
from replication.engine.epochs import epoch_site
from replication.engine.sites import Head
from replication.engine.stamps import Site, Stamp

OWN, A = Site("1" * 32), Site("2" * 32)
FIRST, SECOND = (epoch_site(number, "0" * 19) for number in (1, 2))


def offer(size: int = 1) -> Offer:
    return Offer(reaches={}, size=size, parts=no_parts)


async def no_parts() -> AsyncGenerator[Part, None]:
    return
    yield


def test_the_archive_is_read_where_it_joins_and_costs_less() -> None:
    assert is_archive_cheaper(offer(100), Weight(joins=True, state_bytes=100 * BYTE_FOR_BYTE + 1))
    assert not is_archive_cheaper(offer(100), Weight(joins=True, state_bytes=100 * BYTE_FOR_BYTE))
    assert not is_archive_cheaper(offer(1), Weight(joins=False, state_bytes=10**9))


def test_what_a_peer_says_of_its_weight_is_checked() -> None:
    weight = Weight(joins=True, state_bytes=2**40)
    assert parse_weight(weight.encoded()) == weight
    for wrong in (flat(True), flat(True, bytes(7)), flat(bytes(8), True), flat(True, bytes(8), None)):
        with pytest.raises(NotAMessage):
            parse_weight(wrong)


@dataclass
class Archive:
    """Has one changeset of a site, which never comes if it is `silent`."""

    silent: bool = False
    asked: list[Mapping[Site, Stamp]] = field(default_factory=list[Mapping[Site, Stamp]])

    async def offer(self, have: Mapping[Site, Head], wanted: Mapping[Site, Stamp]) -> Offer | None:
        self.asked.append(wanted)
        return Offer(reaches=wanted, size=1, parts=lambda: self._parts(wanted))

    async def _parts(self, wanted: Mapping[Site, Stamp]) -> AsyncGenerator[Part, None]:
        if self.silent:
            await asyncio.Event().wait()
        yield Part(changesets=[b"changeset"], reaches=wanted)


class Node:
    """Merges what it takes in, if it `merges` at all, and answers as a peer that weighs much."""

    def __init__(self, archive: Archive, *, merges: bool = True, tail: Mapping[Site, Stamp] | None = None) -> None:
        self.archive = archive
        self.exchange = Exchange()
        self.merged: dict[Site, Stamp] = {}
        self.pages = 0
        self._merges = merges
        self._view = View(site=OWN, vector={}, closed={}, clock=Stamp(0), tail=tail or {})

    def view(self) -> View:
        return self._view

    def stamps(self) -> dict[Site, Stamp]:
        return self.merged

    def lacks(self, peer: str, stamps: Mapping[Site, Stamp]) -> dict[Site, Stamp]:
        return self.exchange.lacks(peer, stamps, own=OWN, closed=frozenset(), before_ms=2**47)

    def take_in(self, peer: str, encoded: bytes) -> None:
        if self._merges:
            self.merged |= self.archive.asked[-1]

    async def settle(self) -> None:
        pass

    def cast(self, node: str, actor: str, message: object) -> None:
        raise AssertionError

    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object:
        content = Weight(joins=True, state_bytes=10**6).encoded()
        return [len(content), 0, content]

    async def page(self, peer: str, under_way: Progress) -> None:
        self.pages += 1


def heads(*sites: Site, stamp: int = 5) -> Heads:
    vector = {site: Head(stamp=Stamp(stamp), digest=bytes(16)) for site in sites}
    return Heads(site=sites[0], vector=vector, clock_ms=0, ready=True)


async def caught_up(node: Node, tally: Tally, *peers: Heads, times: int = 1) -> bool:
    exchange = node.exchange = Exchange()
    for number, one in enumerate(peers):
        exchange.heard(f"peer {number}", one)
    reading = FromArchive(node, node, exchange, tally, node.page)
    results = [await reading.catch_up("peer 0", Progress(peer="peer 0", since_s=0.0)) for _ in range(times)]
    return results[-1]


async def test_what_the_peer_has_is_read_and_no_more() -> None:
    node, tally = Node(Archive()), Tally()
    assert await caught_up(node, tally, heads(A))
    assert (node.archive.asked, node.merged, tally.archive_reads) == ([{A: 5}], {A: 5}, 1)


async def test_an_archive_that_is_silent_costs_seconds_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(from_archive, "PART_MAX_S", 0.02)
    node, tally = Node(Archive(silent=True)), Tally()
    assert not await caught_up(node, tally, heads(A), times=3)
    assert (len(node.archive.asked), tally.archive_fails) == (1, 1)


async def test_one_that_does_not_lead_where_it_seemed_to_is_left_after_the_peer_was_asked() -> None:
    node, tally = Node(Archive(), merges=False), Tally()
    assert not await caught_up(node, tally, heads(A))
    assert (node.pages, tally.archive_fails) == (1, 1)


async def test_in_mode_primary_only_what_a_peer_of_the_newest_epoch_has_is_read() -> None:
    """What a former primary wrote alone lies in the archive as well, and its own word is not enough for it."""
    older, newer = heads(FIRST), heads(SECOND, FIRST, stamp=3)
    node = Node(Archive())
    assert not await caught_up(node, Tally(), older, newer)
    assert node.archive.asked == []
    assert await caught_up(node, Tally(), newer, older)
    assert node.archive.asked == [{SECOND: 3, FIRST: 3}]
    assert not await caught_up(Node(Archive(), tail={FIRST: Stamp(2)}), Tally(), newer)
