"""Replication in convergent mode: what one node does to keep its database equal to its peers'.

Four loops run beside each other, and meet in the engine's thread, where one function runs at a time (`engine_work`):

- **folding**: when somebody committed here, what was written becomes a changeset, is made durable, and is cast;
- **merging**: what peers cast, or were asked for, is merged in batches, each after what it depends on;
- **catching up**: what is missing is asked for (`exchange` says of whom), a page at a time, and merged;
- **telling**: every second, and to each peer that comes up, how far this node has merged (its heads).

A cast may be lost, repeated or late: heads tell what is missing, and the journal has it. Whatever fails (a locked
database, a full disk, a peer that goes away) is noted as the node's `problem`, and tried again; nothing that failed is
taken for done.

Before its first fold a node joins (`joining`). Here the loops are started and ended, and here is what they and others
ask of each other."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cluster.seldom import SeldomLog
from cluster.tasks import ended
from replication.convergent import repairs
from replication.convergent.archive import Archive
from replication.convergent.asking import REPLICATION
from replication.convergent.catching_up import CatchUp
from replication.convergent.clocks import ahead_said, off_said
from replication.convergent.copies import Copies
from replication.convergent.directory import Directory, MembersFile
from replication.convergent.engine import Engine
from replication.convergent.engine_work import EngineWork
from replication.convergent.exchange import GRACE_S, Exchange
from replication.convergent.folding import Folding
from replication.convergent.hearing import Hearing
from replication.convergent.held_rows import HeldRows
from replication.convergent.inbox import Inbox
from replication.convergent.joining import Joining
from replication.convergent.members import Cluster, Members
from replication.convergent.merging import Merging
from replication.convergent.messages import Heads
from replication.convergent.noticing import Watch
from replication.convergent.own_clock import OwnClock
from replication.convergent.saying import forgotten_said, notes, tail_said
from replication.convergent.schemas import PeerSchemas, Schemas
from replication.convergent.serving import Serving
from replication.convergent.shelf import Shelf
from replication.convergent.stamping_again import StampingAgain
from replication.convergent.status import ReplicationStatus, Tally
from replication.convergent.store import Done, Store, View
from replication.convergent.tails import Tails
from replication.convergent.telling import Telling
from replication.convergent.trimming import Trimming
from replication.convergent.trying import Trying
from replication.convergent.waiting import PositionWaiters
from replication.engine.repairing import Restored, Row
from replication.engine.sites import stamps_of
from replication.engine.stamps import Site, Stamp
from replication.engine.trimming import JournalLimits
from replication.engine.values import Key
from replication.errors import ReplicationError
from replication.feed.feed import Feed
from replication.positions import Position, joined

log = logging.getLogger(__name__)

TRIM_INTERVAL_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`expects_peers`: whether anybody is looked for, so that it makes sense to wait for them before the first fold."""

    now_ms: Callable[[], int]
    clock_bound_ms: int
    join_timeout_s: float
    expects_peers: bool
    trim_interval_s: float = TRIM_INTERVAL_S
    members: MembersFile | None = None


class Replication:
    """See the module. `open`, then `start` once the node runs, then `stop` before the node stops, and `close`."""

    def __init__(
        self,
        store: Store,
        shelf: Shelf,
        *,
        engine: Engine,
        shelf_engine: Engine,
        watch: Watch,
        copies: Copies | None,
        settings: Settings,
    ) -> None:
        self.tally = Tally()
        self._store = store
        self._shelf = shelf
        self._engine = engine
        self._shelf_engine = shelf_engine
        self._copies = copies
        self._settings = settings
        self._bus: Cluster | None = None
        self._inbox = Inbox()
        self._exchange = Exchange()
        self._members = Members(self._exchange, Directory(settings.members), expects_peers=settings.expects_peers)
        self._clock = OwnClock(self._exchange, now_ms=settings.now_ms, bound_ms=settings.clock_bound_ms)
        self._schemas = PeerSchemas()
        self._held_rows = HeldRows(
            self._schemas,
            mark=lambda: self._work.run(lambda store: store.held_rows(), rests_on_state=False),
            want=self._want_state_of,
        )
        self._telling = Telling(
            peers=self._members.up, cast=self.cast, heads=self._heads_to_tell, schemas=self._schemas_here
        )
        self._trying = Trying(self.tally, lambda: bool(self._hearing.forgotten_by))
        self._stamping_again = StampingAgain(self, self._exchange, self._clock)
        self._tails = Tails(self)
        self._work = EngineWork(
            self, store, engine, tally=self.tally, members=self._members, telling=self._telling, tails=self._tails
        )
        self._joining = Joining(
            self._work,
            self._exchange,
            self._members,
            tally=self.tally,
            timeout_s=settings.join_timeout_s if settings.expects_peers else None,
        )
        self._folding = Folding(self._work, self._clock, watch)
        self._merging = Merging(self, self._work, self._inbox, self._exchange, tally=self.tally, tails=self._tails)
        self._hearing = Hearing(
            self,
            self._work,
            self._joining,
            self._merging,
            members=self._members,
            exchange=self._exchange,
            clock=self._clock,
            schemas=self._schemas,
            tally=self.tally,
        )
        self._serving = Serving(self, shelf, shelf_engine, copies)
        self._trimming = Trimming(
            self._work,
            self._members,
            self._clock,
            self._serving,
            copies,
            tally=self.tally,
            interval_s=settings.trim_interval_s,
        )
        self.archive: Archive | None = None
        """Where changesets are kept for longer than in the journal, if they are: a backup says so when it starts."""
        self._catch_up: CatchUp | None = None
        self._waiters = PositionWaiters(self.reached)
        self.feed = Feed(self, shelf, shelf_engine)
        self._lacking = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom: SeldomLog | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._is_closed = False

    # --- life ---

    async def open(self) -> None:
        """Opens the database. Raises what opening raises; nothing is left open then."""
        self._seldom = SeldomLog(log, asyncio.get_running_loop().time)
        try:
            await self._work.open()
            await self._shelf_engine.run(self._shelf.open)
            self._members.open()
        except BaseException:
            await self.close()
            raise

    def start(self, bus: Cluster) -> None:
        """Begins to work. The node runs, and its actor hands over what comes."""
        self._bus = bus
        self._members.start(bus)
        self.feed.writes_under(self.view().site, bus.name)
        self._catch_up = CatchUp(self, bus, self._exchange, self._inbox, self.tally)
        self._tasks = [asyncio.create_task(self._run(), name="replication")]

    async def _run(self) -> None:
        at_once = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for what, step, event in (
                ("joining", self._joining.step, self._joining.spoken),
                ("telling", self._tell_step, self._telling.due),
            ):
                group.create_task(self._trying.keep_doing(what, step, event), name=f"replication: {what}")
            await self._joining.done.wait()
            self._folding.noticed.set()
            self._merging.arrived.set()
            for what, step, event in (
                ("folding", self._folding.step, self._folding.noticed),
                ("merging", self._merging.step, self._merging.arrived),
                ("catching up", self._catch_up_step, self._lacking),
                ("watching", self._folding.watch, at_once),
                ("trimming", self._trimming.step, at_once),
                ("stamping again", self._stamping_again.step, at_once),
                ("setting a tail aside", self._tails.step, self._tails.due),
            ):
                group.create_task(self._trying.keep_doing(what, step, event), name=f"replication: {what}")

    async def stop(self) -> None:
        """Ends the work: what is written by now is still folded and cast."""
        self.feed.stop()
        tasks, self._tasks = self._tasks, []
        await ended(tasks)
        if self._grace is not None:
            self._grace.cancel()
        if self._joining.done.is_set() and not self._hearing.forgotten_by:
            with contextlib.suppress(sqlite3.Error, OSError, ReplicationError):
                await self._folding.fold()

    def abandon(self) -> None:
        """Ends the work at once, as a crash would: nothing more is folded or told."""
        self.feed.stop()
        for task in self._tasks:
            task.cancel()
        self._joining.done.clear()

    async def close(self) -> None:
        """Closes the database's connections. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._copies is not None:
            await self._copies.close()
        await self._shelf_engine.run(self._shelf.close)
        await self._engine.run(self._store.close)
        await self._shelf_engine.close()
        await self._engine.close()

    # --- what the actor hands over; never raises, never waits ---

    def came_up(self, peer: str) -> None:
        """A peer is there: it hears how far this node is."""
        self._exchange.up(peer)
        self._telling.greet(peer)

    def went_down(self, peer: str) -> None:
        """A peer is gone."""
        self._exchange.down(peer)
        self._schemas.down(peer)
        self._joining.spoken.set()

    def cast_from(self, peer: str, message: object) -> None:
        """A peer cast something."""
        self._hearing.cast_from(peer, message)

    async def answer(self, peer: str, request: object) -> object:
        """What a peer asked for, or that it cannot be had now. Raises nothing, neither for what the peer sent nor for
        the state of this node's disk: the actor would crash, and a node whose actor crashes again and again stops."""
        if self._hearing.forgotten_by:
            return ["error", "this node was forgotten"]
        try:
            return await self._serving.answer(peer, request)
        except Exception as error:
            self.warn_seldom(f"answer {peer}", f"{peer} cannot be answered: {type(error).__name__}: {error}")
            return ["error", "not now; the log of the node that was asked says why"]

    def look_for_forks(self, peer: str, heads: Heads) -> None:
        """What a peer says may not go together with what is here."""
        if self._catch_up is not None:
            self._catch_up.compare(peer, heads)

    def writes_under(self, site: Site, node: str) -> None:
        """A node said that it writes under this site."""
        self.feed.writes_under(site, node)

    def stop_for_good(self) -> None:
        """A peer says that this node was forgotten: whatever waits looks, and ends."""
        for waiting in (
            self._joining.spoken,
            self._telling.due,
            self._folding.noticed,
            self._merging.arrived,
            self._lacking,
        ):
            waiting.set()

    # --- forgetting ---

    async def forget(self, nodes: Sequence[str]) -> None:
        """Takes nodes that are gone for good out of the members: their sites are closed, here and, as soon as they hear
        of it, on all others. Raises CannotForget, with nothing done."""
        sites = self._members.sites_to_forget(nodes, self.view())
        for node, site in zip(nodes, sites, strict=True):
            await self.work(lambda store, site=site: store.forget_site(site))  # type: ignore[misc]
            self._inbox.drop_site(site)
            log.warning("%s is forgotten: its site %s is closed", node, site)

    def forgotten(self) -> dict[str, str]:
        """Names of forgotten nodes, and where they were reached."""
        return self._members.forgotten(self.view())

    # --- folding and merging ---

    def committed(self, position: Position) -> None:
        """This node's Repo committed. `position` is that of the write: a fold is owed that reaches it."""
        self._folding.owe(position.stamps)

    def fold_is_due(self) -> None:
        """There is something to be folded that nobody committed."""
        self._folding.noticed.set()

    def before_ms(self) -> int:
        """Stamps from this millisecond on are too far ahead."""
        return self._clock.before_ms(self.view())

    def may_be_merged_now(self) -> None:
        """What waits to be merged may not have to wait any more."""
        self._merging.arrived.set()

    def is_closed_at(self, peer: str, site: Site) -> None:
        """What a peer sent of a site is of an old history: the site is closed there."""
        self._catching_up.see_closed(site, peer, frozenset())
        self._lacking.set()

    def is_forked(self, site: Site, reason: str) -> None:
        """Two histories of a site are about."""
        self._catching_up.see_fork(site, reason)
        self._lacking.set()

    def moved(self) -> None:
        """The database is not as it was: who waits for something looks again."""
        if self._bus is not None:
            self.feed.writes_under(self.view().site, self._bus.name)
        self._waiters.moved()
        self.feed.moved()

    def begun_with_another_state(self) -> None:
        """What peers said they have is to be compared with another database."""
        self._exchange.look_back()
        self._telling.tell(self._members.up())
        self._lacking.set()

    # --- catching up ---

    async def _catch_up_step(self) -> None:
        await self._lacking.wait()
        self._lacking.clear()
        await self._catching_up.work_off()

    def state_has_moved(self) -> None:
        """No more of a peer's state comes: readers of the feed have waited for that."""
        self.feed.moved()
        self._merging.arrived.set()

    def has_something_lacking(self) -> None:
        """There is something to be asked for."""
        self._lacking.set()

    def take_in(self, peer: str, encoded: bytes) -> None:
        """A changeset that was asked for. Raises ChangesetError."""
        self._merging.take_in(peer, encoded, asked_for=True)

    async def settle(self) -> None:
        """Waits until all that can be merged is."""
        await self._merging.settle()

    async def work(self, step: Callable[[Store], Done]) -> Done:
        """Has the engine do something, and takes what it made."""
        return await self._work.do(step, rests_on_state=True)

    async def restore(self, table: str, rows: Mapping[Key, Row | None]) -> Restored:
        """Sets damaged rows back to what was written. Raises NotComparable, sqlite3.Error, OSError."""
        restored, done = await self._work.run(lambda store: repairs.restore(store, table, rows), rests_on_state=True)
        self._work.take(done)
        return restored

    async def adopt(self, table: str, keys: Sequence[Key]) -> None:
        """Takes what damaged rows show for writes of now. Raises as `restore` does."""
        await self.work(lambda store: repairs.adopt(store, table, keys))

    async def fetch_state_of(self, peer: str) -> bool:
        """Fetches and merges all that a peer has, for drift that merging can heal. False if it did not answer."""
        waiting = self._want_state_of(peer)
        self._lacking.set()
        return await waiting

    def _want_state_of(self, peer: str) -> asyncio.Future[bool]:
        return self._catching_up.want_state_of(peer)

    async def open_copy(self) -> sqlite3.Connection:
        """A connection that sees a moment at which the log was empty."""
        reader, done = await self._work.run(lambda store: store.begin_copy(), rests_on_state=False)
        self._work.take(done)
        return reader

    def look_again_soon(self) -> None:
        """A moment from now something may be missing that may be on its way now."""
        loop = asyncio.get_running_loop()
        if self._grace is None or self._grace.when() < loop.time():
            self._grace = loop.call_later(GRACE_S, self._lacking.set)

    async def read[T](self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What the function finds in the database, on the connection that only reads."""
        return await self._shelf_engine.run(lambda: question(self._shelf.connection))

    # --- telling ---

    async def _tell_step(self) -> None:
        """Each second, and at once to who has just come up. What is told is made durable first."""
        await self._telling.wait()
        await self._work.look()
        if self._telling.tell_newcomers():
            return
        self._telling.tell_what_is_new()
        if self._inbox.count:
            self._merging.arrived.set()  # time has come for some, perhaps
        if self._catch_up is not None:
            await self._held_rows.look(self._schemas_here())
            if self._joining.done.is_set():
                self._catch_up.look_for_lost(everybody=self.has_everybody_spoken())
        self._lacking.set()

    def _heads_to_tell(self) -> Heads | None:
        if self._bus is None:
            return None
        view = self.durable_view()
        return Heads(
            site=view.site,
            vector=view.vector,
            closed=view.closed,
            held=tuple(self._inbox.held()),
            clock_ms=self._settings.now_ms(),
            ready=not self._is_between_states(),
        )

    async def heads_now(self) -> Heads | None:
        """All that can be read here, made durable before; None before the node runs. Raises sqlite3.Error, OSError."""
        await self._work.look()
        return self._heads_to_tell()

    def hear_heads(self, peer: str, heads: Heads) -> None:
        """What a peer answered who was asked for it."""
        self._hearing.hear(peer, heads)

    def furthest_elsewhere(self, site: Site) -> Stamp:
        """How far of the peers that are up the furthest has a site durably, as far as it said; 0 if none has any."""
        heads = (heads.vector.get(site) for heads in self._exchange.heads().values())
        return max((head.stamp for head in heads if head is not None), default=Stamp(0))

    def _schemas_here(self) -> Schemas:
        return self.durable_view().schemas  # it is looked at each second, the other when something is folded

    def is_ahead(self) -> bool:
        """Whether what this node stamped far ahead is going to be stamped again."""
        return self._clock.is_ahead(self.view())

    def clock_off(self) -> str:
        """What is the matter with this node's clock; "" if it is near those of its peers."""
        off = self._clock.off_ms()
        return off_said(off) if off else ""

    def has_everybody_spoken(self) -> bool:
        """Whether each member has said what it has."""
        return not self._members.silent(self.view())

    def is_being_fetched(self) -> bool:
        """Whether a peer fetches this node's state now."""
        return self._serving.pinned() is not None

    # --- trimming ---

    @property
    def journal_limits(self) -> JournalLimits:
        """What is left in the journal."""
        return self._store.settings.journal_limits

    async def trim(self) -> None:
        """Trims the journal; and tombstones, if each member has said what it has. Raises sqlite3.Error, OSError."""
        await self._trimming.trim()

    # --- for the application ---

    def stamps(self) -> dict[Site, Stamp]:
        """How far this node has merged each site."""
        return stamps_of(self.view().vector)

    def waiting(self) -> list[tuple[Site, Stamp]]:
        """Changesets that came and cannot be merged yet. The tail of a site whose beginning is lost stays for ever."""
        return list(self._inbox.held())

    def reached(self, position: Position) -> bool:
        """Whether everything up to the position can be read here."""
        view = self.view()
        for site, stamp in position.stamps.items():
            head = view.vector.get(site)
            if site != view.site and (head is None or head.stamp < stamp):
                return False
        return True

    async def joined(self) -> None:
        """Returns once this node has joined: its peers have said what they have, or were waited for long enough."""
        await self._joining.done.wait()

    def missing(self) -> Position:
        """What the peers have that is not merged here, as far as they said, and as far as it can be merged now."""
        stamps = self.stamps()
        return joined(Position(self.lacks(peer, stamps)) for peer in self._exchange.peers())

    def lacks(self, peer: str, stamps: Mapping[Site, Stamp]) -> dict[Site, Stamp]:
        """What a peer has beyond these, as far as it said, and as far as it can be merged now."""
        view = self.view()
        closed = frozenset(view.closed)
        return self._exchange.lacks(peer, stamps, own=view.site, closed=closed, before_ms=self.before_ms())

    async def wait_for(self, position: Position, *, timeout_s: float) -> None:
        """Returns once the position is reached here. Raises PositionTimeout."""
        await self._waiters.wait_for(position, timeout_s=timeout_s, behind=self.stamps)

    async def wait_until[T](self, look: Callable[[], T | None], *, timeout_s: float) -> T:
        """The first that `look` gives but None: it is asked now, and whenever more is merged. Raises TimeoutError."""
        return await self._waiters.wait_until(look, timeout_s=timeout_s)

    def unready(self) -> list[str]:
        """Why this node should not serve yet, or stands still; empty if it is well."""
        if self._hearing.forgotten_by:
            return self._standing_still()
        reasons: list[str] = []
        if not self._joining.done.is_set():
            reasons.append("replication has not joined: it waits for what the peers know")
        if self._is_between_states():
            reasons.append("somebody's state is being merged, and transactions may be there in part")
        return reasons + self._standing_still()

    def _is_between_states(self) -> bool:
        """Whether readers may see a part of a transaction: state is being merged; or it broke off, perhaps in a former
        run; or it is merged, and some changesets up to where it was read have not come yet; or a tail was set aside."""
        view = self.view()
        return bool(view.seen or view.parts or view.is_resetting) or self.is_moving_state()

    def _standing_still(self) -> list[str]:
        if self._hearing.forgotten_by:
            return [forgotten_said(self._hearing.forgotten_by)]
        clock_off_ms, tail = self._clock.off_ms(), self.view().tail
        return [
            *self._trying.problems(),
            *([off_said(clock_off_ms)] if clock_off_ms else []),
            *([tail_said(tail)] if tail else []),
        ]

    def status(self) -> ReplicationStatus:
        """How replication stands, now."""
        view, clock = self.view(), self._clock
        stamps, schemas = self.stamps(), self._schemas_here()
        ahead = ahead_said(view, self._members.silent(view), now_ms=clock.now_ms(), bound_ms=clock.bound_ms)
        return ReplicationStatus(
            site=view.site,
            ready=not self.unready(),
            joined=self._joining.done.is_set(),
            problem="; ".join(self._standing_still()),
            sites=len(view.vector),
            behind={peer: len(self.lacks(peer, stamps)) for peer in self._exchange.peers()},
            waiting=self._inbox.count,
            waiting_bytes=self._inbox.bytes,
            catching_up=None if self._catch_up is None else self._catch_up.progress,
            notes=notes(view, ahead, self._schemas.differing(schemas), self._store.progress.in_words()),
            schemas=schemas,
            schemas_of_peers=dict(self._schemas.told),
            counts={**self.tally.as_dict(), **({"refused_requests": n} if (n := self._serving.refused) else {})},
        )

    def begun(self) -> int:
        """How often this process has begun with a state of the database."""
        return self._store.opened.begun

    def is_moving_state(self) -> bool:
        """Whether a peer's state is being merged, piece by piece."""
        return self._catch_up is not None and self._catch_up.is_moving_state

    # --- inside ---

    def view(self) -> View:
        """What the database said of itself after the last transaction."""
        return self._work.view()

    def cast(self, peer: str, message: object) -> None:
        """Send and forget."""
        assert self._bus is not None, "replication was started"
        self._bus.cast(peer, REPLICATION, message)

    def durable_view(self) -> View:
        """The same, as far as a power cut could not take it back: what may be told."""
        return self._work.durable_view()

    @property
    def _catching_up(self) -> CatchUp:
        assert self._catch_up is not None, "replication was started"
        return self._catch_up

    def warn_seldom(self, key: str, text: str) -> None:
        """Logs it, unless it was lately."""
        if self._seldom is not None:
            self._seldom.warning(key, text)
