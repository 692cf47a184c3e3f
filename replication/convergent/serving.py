"""Serving peers: pages of the journal, ranges of a snapshot, each as a parcel.

What a peer fetches piece by piece is not trimmed under its hands: its pin holds the journal from where its snapshot
began, until it has not been heard of for a while."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from replication.convergent.copies import Copies
from replication.convergent.engine import Engine
from replication.convergent.messages import NotAMessage, parse_stamps
from replication.convergent.parcels import ParcelError, Parcels, before_last, flat, is_more
from replication.convergent.shelf import Shelf
from replication.convergent.state_moves import begin_snapshot, read_range
from replication.convergent.store import Done, Store, View
from replication.engine.journal import Served
from replication.engine.ranges import parse_key
from replication.engine.sites import stamps_of
from replication.engine.snapshots import NoSuchTable
from replication.engine.stamps import Site, Stamp
from replication.engine.values import Key, pack, unpack

RANGE_MAX_ROWS: Final = 5_000
RANGE_MAX_BYTES: Final = 1024 * 1024
WINDOW_BYTES: Final = 8 * 1024 * 1024
PIN_S: Final = 60.0
COPY_PIN_S: Final = 600.0


class Here(Protocol):
    """What serving needs of this node's replication."""

    def view(self) -> View:
        """How the database is now."""
        ...

    def durable_view(self) -> View:
        """How it would be at least after a power cut."""
        ...

    def is_ahead(self) -> bool:
        """Whether what this node stamped far ahead is going to be stamped again."""
        ...

    async def open_copy(self) -> sqlite3.Connection:
        """A connection that sees a moment at which the log was empty."""
        ...

    async def work(self, step: Callable[[Store], Done]) -> Done:
        """Has the engine do something."""
        ...


class NotNow(Exception):
    """It can be asked for again a little later."""


class Serving:
    """See the module. `answer` raises nothing that is the peer's fault."""

    def __init__(self, here: Here, shelf: Shelf, shelf_engine: Engine, copies: Copies | None) -> None:
        self.refused = 0
        """Requests that were none."""
        self._here = here
        self._shelf = shelf
        self._engine = shelf_engine
        self._copies = copies
        self._parcels = Parcels(_now_s)
        self._pins: dict[str, tuple[Mapping[Site, Stamp], float]] = {}

    def pinned(self) -> dict[Site, Stamp] | None:
        """From which stamp on each site's journal is needed by somebody, from its beginning if it is not named; None if
        nobody needs any."""
        now_s = _now_s()
        self._pins = {peer: pin for peer, pin in self._pins.items() if pin[1] > now_s}
        if not self._pins:
            return None
        pins = [stamps for stamps, _ in self._pins.values()]
        named = set(pins[0]).intersection(*pins)
        return {site: min(stamps[site] for stamps in pins) for site in named}

    async def answer(self, peer: str, request: object) -> object:
        """The answer to what a peer asks for."""
        try:
            if isinstance(request, list) and request and request[0] in ("snapshot", "range", "copy"):
                self._refuse_what_does_not_stay()
            match request:
                case ["ask", have]:
                    return await self._page(parse_stamps(have))
                case ["weigh", have]:
                    return await self._weigh(parse_stamps(have))
                case ["snapshot"]:
                    return await self._snapshot(peer)
                case ["range", str(table), after]:
                    return await self._range(peer, table, _key(after))
                case ["copy"]:
                    return await self._begin_copy(peer)
                case ["copy state", number] if self._copies is not None:
                    return await self._parcels.first(_copy_state(self._copies.state(number)))
                case ["copy piece", number, offset] if self._copies is not None:
                    return await self._copies.piece(number, offset)
                case list() if is_more(request):
                    return await self._parcels.more(request[1], request[2])
                case _:
                    raise NotAMessage("an unknown request")
        except NotNow as error:
            return ["error", f"not now: {error}"]
        except (NotAMessage, ParcelError, NoSuchTable) as error:
            self.refused += 1
            return ["error", str(error)]

    def _refuse_what_does_not_stay(self) -> None:
        view = self._here.view()
        if view.site in view.closed or self._here.is_ahead():
            raise NotNow("what this node wrote is about to be stamped again")
        if view.tail or view.is_resetting:
            raise NotNow("this node has a tail, and takes a peer's rows itself")

    async def _page(self, have: dict[Site, Stamp]) -> list[object]:
        site = self._here.view().site
        own = self._here.durable_view().vector.get(site)
        page = await self._engine.run(lambda: self._shelf.page(have))
        # What is committed and not durable yet must not be seen anywhere: after a power cut its stamps are used again.
        durable = own.stamp if own is not None else Stamp(-2)
        served = [one for one in page.changesets if one.site != site or one.upto <= durable]
        flags = (page.more, bool(page.beyond))
        if served and served[0].encoded is None:
            return await self._parcels.first(LargeChangeset(served[0], flags, self._shelf, self._engine))
        return await self._parcels.first(flat(*flags, *(one.encoded for one in served)))

    async def _weigh(self, have: dict[Site, Stamp]) -> list[object]:
        return await self._parcels.first((await self._engine.run(lambda: self._shelf.weight(have))).encoded())

    async def _snapshot(self, peer: str) -> list[object]:
        start = (await self._here.work(begin_snapshot)).start
        assert start is not None, "a snapshot was begun"
        self._pins[peer] = (stamps_of(start.vector), _now_s() + PIN_S)
        return await self._parcels.first(pack(start.plain()))

    async def _range(self, peer: str, table: str, after: Key | None) -> list[object]:
        if peer in self._pins:
            self._pins[peer] = (self._pins[peer][0], _now_s() + PIN_S)
        done = await self._here.work(
            lambda store: read_range(store, table, after, max_rows=RANGE_MAX_ROWS, max_bytes=RANGE_MAX_BYTES)
        )
        assert done.range is not None, "a range was read"
        following = done.range.next_after
        return await self._parcels.first(flat(done.range.encoded, None if following is None else pack(following)))

    async def _begin_copy(self, peer: str) -> list[object]:
        """A copy, if there is anything to copy and it is made for nobody else just now."""
        view = self._here.view()
        if self._copies is None or not view.vector:
            return await self._parcels.first(flat())
        number = await self._copies.begin(peer, self._here.open_copy)
        if number is None:
            return await self._parcels.first(flat())
        stamps = stamps_of(view.vector)
        self._pins[peer] = (stamps, _now_s() + COPY_PIN_S)
        return await self._parcels.first(flat(_number(number)))


class LargeChangeset:
    """A page of the journal that is one changeset too large to be held in memory, let alone once for each peer."""

    def __init__(self, served: Served, flags: tuple[bool, bool], shelf: Shelf, engine: Engine) -> None:
        self._served = served
        self._before = before_last(*flags, last=served.size)
        self._shelf = shelf
        self._engine = engine
        self._window = b""
        self._window_at = 0
        self.size = len(self._before) + served.size
        self.held = WINDOW_BYTES

    async def read(self, at: int, size: int) -> bytes:
        """See `parcels.Content`."""
        start = at - len(self._before)
        if start < 0:
            return self._before[at:] + await self._read(0, size + start)
        return await self._read(start, size)

    async def _read(self, at: int, size: int) -> bytes:
        size = min(size, self._served.size - at)
        if not self._window_at <= at <= at + size <= self._window_at + len(self._window):
            # SQLite goes from page to page to get to the middle of a long value: so that is not done for each piece.
            one = self._served
            found = await self._engine.run(lambda: self._shelf.piece(one.site, one.upto, at, WINDOW_BYTES))
            if found is None:
                raise ParcelError("the changeset was trimmed meanwhile; ask anew")
            self._window, self._window_at = found, at
        return self._window[at - self._window_at : at - self._window_at + size]


def _key(after: object) -> Key | None:
    if after is None:
        return None
    if not isinstance(after, bytes) or len(after) > RANGE_MAX_BYTES:
        raise NotAMessage("not a key")
    try:
        return parse_key(unpack(after))
    except Exception as error:  # msgpack's own, ValueError, RecursionError: whatever it is, the bytes are at fault
        raise NotAMessage("not a key") from error


def _copy_state(found: tuple[int, bytes] | None) -> bytes:
    return flat() if found is None else flat(_number(found[0]), found[1])


def _number(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _now_s() -> float:
    return asyncio.get_running_loop().time()
