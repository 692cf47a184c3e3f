"""Catching up: fetching from peers what is missing here, and healing what was forked.

- **A page** of a peer's journal at a time, in an order in which everything can be merged as it comes. The next request
  says what is here by then, so that it resumes by itself wherever it broke off.
- **An archive**, if there is one, where the peer's journal does not reach back far enough (see `from_archive`).
- **A snapshot** there, if that is cheaper: the peer's state, by ranges of keys, each merged as it comes; then the heads
  move to what the peer had at the start, and its journal, pinned meanwhile, has the rest.
- **A fork**: two histories of one site. Whoever sees one closes the site; nodes that merged different branches of it
  fetch each other's whole state, which loses nothing, and then agree on the branches.

One thing is under way at a time, with one open request, so that live traffic keeps its share of the engine. A link that
breaks during a snapshot is waited for, and the snapshot goes on with the range that was not answered."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from cluster.errors import CallError
from replication.convergent import from_archive
from replication.convergent.asking import Bus, ask
from replication.convergent.exchange import Exchange
from replication.convergent.from_archive import FromArchive
from replication.convergent.inbox import Inbox
from replication.convergent.messages import Heads, NotAMessage, plain_stamps
from replication.convergent.opened import BegunAgain
from replication.convergent.parcels import ParcelError, unflat
from replication.convergent.state_moves import finish_snapshot, merge_range
from replication.convergent.status import Progress, Tally
from replication.convergent.store import Done, Store
from replication.engine.changesets import ChangesetError
from replication.engine.closing import FORGOTTEN
from replication.engine.sites import Head
from replication.engine.snapshots import RangeRefused, SnapshotStart
from replication.engine.stamps import Site, Stamp
from replication.engine.values import unpack

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0
"""How long a peer that did not help is left alone."""
RANGE_TRIES: Final = 8
RANGE_PAUSE_S: Final = 0.5
"""A range of a snapshot is asked for again after a broken link, so often and after so long."""
LOST_AFTER_S: Final = 10.0
"""So long has nobody to have what was seen before it counts as lost: heads are told at least every five seconds."""
START_MAX_BYTES: Final = 8 * 1024 * 1024


class Here(from_archive.Here, Protocol):
    """What catching up needs of this node's replication."""

    async def work(self, step: Callable[[Store], Done]) -> Done:
        """Has the engine do something."""
        ...

    def begun(self) -> int:
        """How often this process has begun with a state of the database."""
        ...

    def before_ms(self) -> int:
        """Stamps from this millisecond on are too far ahead."""
        ...

    def look_again_soon(self) -> None:
        """Something may be missing that may be on its way."""
        ...

    def state_has_moved(self) -> None:
        """No more of a peer's state comes."""
        ...


class CatchUp:
    """See the module."""

    def __init__(self, here: Here, bus: Bus, exchange: Exchange, inbox: Inbox, tally: Tally) -> None:
        self.progress: Progress | None = None
        """What is under way."""
        self.is_moving_state = False
        """True while a peer's state is merged, a snapshot or not, until nothing more of it comes: what readers see is
        between two states."""
        self._here = here
        self._bus = bus
        self._exchange = exchange
        self._inbox = inbox
        self._tally = tally
        self._forked: dict[Site, str] = {}
        self._closed_elsewhere: dict[Site, tuple[str, frozenset[Head]]] = {}
        """By whom, and with which tips."""
        self._lost_sites: set[Site] = set()
        self._lost_since_s: dict[Site, float] = {}
        self._lost_parts: set[Site] = set()
        self._wanted: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self._from_archive = FromArchive(here, bus, exchange, tally, self._ask_page)

    def want_state_of(self, peer: str) -> asyncio.Future[bool]:
        """A peer's whole state is fetched when its turn comes: whether it was. `work_off` has to be called then."""
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._wanted.append((peer, waiting))
        return waiting

    async def work_off(self) -> None:
        """Does whatever there is to do now. Raises what the engine raises."""
        while True:
            await self._close_forked()  # before each: who is asked may wait for that before it answers
            if (peer := self._peer_to_reset_by()) is not None:
                await self._with(peer, self._fetch_instead_of_tail)
            elif self._here.view().is_resetting:
                return
            elif (peer := self._peer_to_ask()) is not None:
                await self._with(peer, self._ask_until_done)
            elif (peer := self._peer_to_heal()) is not None:
                await self._with(peer, self._fetch_all)
            elif self._wanted:
                await self._fetch_wanted(*self._wanted.popleft())
            else:
                return

    # --- instead of a tail ---

    def _peer_to_reset_by(self) -> str | None:
        """Whose state is to come in the place of a tail: one of those who know the newest epoch."""
        view = self._here.view()
        if not view.is_resetting:
            return None
        newest = self._exchange.in_newest_epoch()
        return next((peer for peer in newest if not self._exchange.is_paused(peer, _now_s())), None)

    async def _fetch_instead_of_tail(self, peer: str, under_way: Progress) -> bool:
        await self._fetch_snapshot(peer, under_way)
        return True

    # --- what is missing ---

    def _peer_to_ask(self) -> str | None:
        here, view = self._here, self._here.view()
        stamps, closed, before_ms = here.stamps(), frozenset(view.closed), here.before_ms()
        lacking = self._inbox.lacking(stamps, own=view.site, closed=closed, before_ms=before_ms)
        peer = self._exchange.to_ask(
            self._inbox.reach(stamps), lacking, own=view.site, closed=closed, before_ms=before_ms, now_s=_now_s()
        )
        if peer is None and lacking:
            here.look_again_soon()
        return peer

    async def _with(self, peer: str, fetch: Callable[[str, Progress], Awaitable[bool]]) -> bool:
        """Fetches from a peer: whether it helped. One that fails, or does not help, is left alone for a while."""
        under_way = self.progress = Progress(peer=peer, since_s=_now_s())
        helped = False
        try:
            helped = await fetch(peer, under_way)
        except RangeRefused as refused:
            if refused.fork is not None:
                self.see_fork(refused.fork, f"{peer}'s state shows another history of it")
            log.warning("the state of %s cannot be merged now: %s", peer, refused)
        except (CallError, ParcelError, NotAMessage, ChangesetError, BegunAgain) as error:
            self._tally.asks_failed += 1
            log.info("asking %s for what is missing failed, it is asked again: %s", peer, error)
        finally:
            self.progress = None
            self._state_has_moved()
            if not helped:
                self._exchange.pause(peer, _now_s() + PAUSE_S)
        return helped

    async def _ask_until_done(self, peer: str, under_way: Progress) -> bool:
        """Pages of the journal until there are no more. False if the last one brought nothing."""
        while True:
            before = self._here.stamps()
            more, beyond = await self._ask_page(peer, under_way)
            if beyond and not await self._from_archive.catch_up(peer, under_way):
                await self._fetch_snapshot(peer, under_way)
            else:
                await self._here.settle()
            if self._here.stamps() == before:
                return False
            if not more and not beyond:
                return True

    async def _ask_page(self, peer: str, under_way: Progress) -> tuple[bool, bool]:
        """A page of a peer's journal: whether there is more, and whether something of what it has is not in there."""
        self._tally.asks += 1
        under_way.part = "journal"
        content = await ask(self._bus, peer, ["ask", plain_stamps(self._here.stamps())], came=under_way.add_bytes)
        return self._take_page(peer, content, under_way)

    def _take_page(self, peer: str, content: bytes, under_way: Progress) -> tuple[bool, bool]:
        match unflat(content):
            case [bool(more), bool(beyond), *rest]:
                changesets = [one for one in rest if isinstance(one, bytes)]
            case _:
                raise NotAMessage("not a page of a journal")
        self._tally.pages += 1
        self._tally.pages_bytes += len(content)
        under_way.changesets += len(changesets)
        for encoded in changesets:
            self._here.take_in(peer, encoded)
        return more, beyond

    # --- state ---

    async def _fetch_snapshot(self, peer: str, under_way: Progress) -> None:
        """The peer's state, with its authority over what is gone; then the heads move to what it had at the start."""
        self._tally.snapshots += 1
        log.info("%s's journal does not reach back far enough: fetching a snapshot", peer)
        try:
            begun = self._here.begun()
            start = await self._fetch_state(peer, under_way, begun, authority=True)
            await self._work_on(begun, lambda store: finish_snapshot(store, start))
        finally:
            self._state_has_moved()
        log.info("snapshot of %s merged: %d rows", peer, under_way.rows)

    def _state_has_moved(self) -> None:
        if self.is_moving_state:
            self.is_moving_state = False
            self._here.state_has_moved()

    async def _fetch_all(self, peer: str, under_way: Progress) -> bool:
        """The peer's whole state, without authority: what it merged of closed sites is here then, too."""
        self._tally.state_exchanges += 1
        begun = self._here.begun()
        start = await self._fetch_state(peer, under_way, begun, authority=False)
        await self._work_on(begun, lambda store: store.unite_tips(start.closed))
        return True

    async def _fetch_wanted(self, peer: str, waiting: asyncio.Future[bool]) -> None:
        """What somebody asked for, for drift that merging can heal."""
        helped = False
        try:
            helped = await self._with(peer, self._fetch_all)
        finally:
            if not waiting.done():
                waiting.set_result(helped)

    async def _work_on(self, begun: int, step: Callable[[Store], Done]) -> Done:
        """Has the engine do something that rests on what was merged since it had begun so often. Raises BegunAgain: the
        parts that were merged are in another database then, and this one must not say that it has them."""

        def still(store: Store) -> Done:
            store.opened.check_begun(begun)
            return step(store)

        return await self._here.work(still)

    async def _fetch_state(self, peer: str, under_way: Progress, begun: int, *, authority: bool) -> SnapshotStart:
        start = _parse_start(await self._ask_for_state(peer, ["snapshot"]))
        self.is_moving_state = True
        for table in start.tables:
            after: bytes | None = None
            while True:
                under_way.part = f"table {table}"
                request = ["range", table, after]
                content = await self._ask_for_state(peer, request)
                encoded, following = _parse_range(content)
                done = await self._work_on(
                    begun,
                    lambda store, encoded=encoded: merge_range(store, encoded, start, authority=authority),  # type: ignore[misc]
                )
                under_way.bytes += len(content)
                under_way.rows += done.range_rows
                if following is None:
                    break
                after = following
        return start

    async def _ask_for_state(self, peer: str, request: Sequence[object]) -> bytes:
        for _ in range(RANGE_TRIES - 1):
            try:
                return await ask(self._bus, peer, request)
            except (CallError, ParcelError) as error:
                log.info("%s did not answer a part of its state, it is asked again: %s", peer, error)
                await asyncio.sleep(RANGE_PAUSE_S)
        return await ask(self._bus, peer, request)

    # --- forks ---

    def see_fork(self, site: Site, reason: str) -> None:
        """Somebody has another history of a site than this node."""
        if site not in self._here.view().closed and site not in self._forked:
            self._forked[site] = reason

    def see_closed(self, site: Site, peer: str, tips: frozenset[Head]) -> None:
        """A peer has closed a site, with these tips as far as they are known."""
        if site not in self._here.view().closed:
            self._closed_elsewhere.setdefault(site, (peer, tips))

    def compare(self, peer: str, heads: Heads) -> None:
        """Looks for forks in what a peer says."""
        view = self._here.view()
        for site, tips in heads.closed.items():
            self.see_closed(site, peer, tips)
        own = view.vector.get(view.site)
        own_stamp = own.stamp if own is not None else Stamp(-2)
        if any(site == view.site and stamp > own_stamp for site, stamp in heads.held):
            self.see_fork(view.site, f"{peer} holds changesets of it that this database has not written")
        for site, head in heads.vector.items():
            mine = view.vector.get(site)
            if site in view.closed or site in heads.closed:
                continue
            if site == view.site and head.stamp > own_stamp:
                self.see_fork(site, f"{peer} has more of it than this database has written")
            elif mine is not None and mine.stamp == head.stamp and mine.digest != head.digest:
                self.see_fork(site, f"{peer} has another history of it")

    def look_for_lost(self, *, everybody: bool) -> None:
        """Looks for what was seen in a state that somebody sent and that nobody has any more: its node was put back to
        an older state before it got around. `everybody`: all members have said what they have."""
        view, now_s = self._here.view(), _now_s()
        peers = self._exchange.heads().values()
        lost = {
            site
            for site, ahead in view.seen.items()
            if site not in view.closed
            and not any(
                (head := heads.vector.get(site)) is not None and head.stamp >= max(one.stamp for one in ahead)
                for heads in peers
            )
        } | {
            site
            for site, tips in view.parts.items()
            if not any(tips & heads.closed.get(site, frozenset()) for heads in peers)
        }
        self._lost_since_s = {site: self._lost_since_s.get(site, now_s) for site in lost if everybody}
        for site, since_s in self._lost_since_s.items():
            if now_s - since_s < LOST_AFTER_S:
                continue
            if site in view.parts:
                self._lost_parts.add(site)
            elif site not in view.closed:
                self._lost_sites.add(site)

    async def _close_forked(self) -> None:
        while self._closed_elsewhere:
            site, (peer, tips) = next(iter(self._closed_elsewhere.items()))
            if FORGOTTEN in tips:
                log.info("site %s is closed, as on %s: its node is forgotten", site, peer)
                await self._here.work(lambda store, site=site, tips=tips: store.forget_site(site, tips))  # type: ignore[misc]
            else:
                log.info("site %s is closed, as on %s: it was forked, or is stamped again by its node", site, peer)
                await self._here.work(lambda store, site=site: store.close_site(site))  # type: ignore[misc]
            self._closed_elsewhere.pop(site, None)
            self._forked.pop(site, None)
            self._inbox.drop_site(site)
        while self._forked:
            site, reason = next(iter(self._forked.items()))
            log.warning("site %s is forked: %s. It is closed, and what its branches wrote is merged", site, reason)
            self._tally.forks += 1
            try:
                await self._here.work(lambda store, site=site: store.close_site(site))  # type: ignore[misc]
            finally:
                self._forked.pop(site, None)
            self._inbox.drop_site(site)
        while self._lost_sites:
            site = self._lost_sites.pop()
            if site in self._here.view().closed:
                continue
            log.warning(
                "nobody has all that site %s wrote any more: it is closed, and what came here of it stays", site
            )
            self._tally.lost_sites += 1
            await self._here.work(lambda store, site=site: store.close_site(site))  # type: ignore[misc]
            self._inbox.drop_site(site)
        while self._lost_parts:
            site = self._lost_parts.pop()
            log.warning("the rest of what closed site %s wrote is lost: the part that came here is told to all", site)
            await self._here.work(lambda store, site=site: store.keep_parts(site))  # type: ignore[misc]

    def _peer_to_heal(self) -> str | None:
        """A peer that merged a branch of a closed site that this node has not."""
        view = self._here.view()
        closed = {site: tips for site, tips in view.closed.items() if site != view.site}  # that one is only set aside
        for peer, heads in self._exchange.heads().items():
            if self._exchange.is_paused(peer, _now_s()):
                continue
            if any(site in closed and tips - closed[site] for site, tips in heads.closed.items()):
                return peer
        return None


def _parse_range(content: bytes) -> tuple[bytes, bytes | None]:
    """The range, and the key after which the next one begins, as it is to be sent back."""
    match unflat(content):
        case [bytes(encoded), None]:
            return encoded, None
        case [bytes(encoded), bytes(following)]:
            return encoded, following
        case _:
            raise NotAMessage("not a range of a snapshot")


def _parse_start(content: bytes) -> SnapshotStart:
    if len(content) > START_MAX_BYTES:
        raise NotAMessage("too long for the start of a snapshot")
    try:
        plain = unpack(content)
    except Exception as error:  # msgpack's own, ValueError, RecursionError: whatever it is, the bytes are at fault
        raise NotAMessage("not the start of a snapshot") from error
    return SnapshotStart.parse(plain)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
