"""Replication in convergent mode: what one node does to keep its database equal to its peers'.

Four loops run beside each other, and meet in the engine's thread, where one function runs at a time:

- **folding**: when somebody committed here, what was written becomes a changeset, is made durable, and is cast;
- **merging**: what peers cast, or were asked for, is merged in batches, each after what it depends on;
- **catching up**: what is missing is asked for (`exchange` says of whom), a page at a time, and merged;
- **telling**: every second, and to each peer that comes up, how far this node has merged (its heads).

A cast may be lost, repeated or late: heads tell what is missing, and the journal has it. Whatever fails (a locked
database, a full disk, a peer that goes away) is noted as the node's `problem`, and tried again; nothing that failed is
taken for done.

Before its first fold a node joins: it waits for its peers' heads, up to `join_timeout_s`. If one of them knows more of
this node's site than this node, its database is an older copy, and it goes on under a new site."""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cluster.errors import CallError
from cluster.seldom import SeldomLog
from replication.convergent.asking import REPLICATION, Bus, ask
from replication.convergent.engine import Engine
from replication.convergent.exchange import GRACE_S, Exchange
from replication.convergent.inbox import Arrived, Inbox
from replication.convergent.messages import Heads, NotAMessage, parse_heads, parse_stamps, plain_stamps
from replication.convergent.noticing import Watch
from replication.convergent.parcels import ParcelError, Parcels, is_more
from replication.convergent.shelf import Shelf
from replication.convergent.status import CatchingUp, ReplicationStatus, Tally
from replication.convergent.store import Broken, Done, Store, View
from replication.convergent.waiting import PositionWaiters
from replication.engine.applying import Closed, Fork, Merged, Refused, Repeat, TooEarly, Waits
from replication.engine.changesets import ChangesetError, digest, header
from replication.engine.folding import NOTHING_OWED
from replication.engine.stamps import Site, Stamp
from replication.engine.values import pack, unpack
from replication.positions import Position

log = logging.getLogger(__name__)

FOLD_INTERVAL_S: Final = 0.004
"""Between two folds under load. Folding at once always costs the application more than half of its write rate."""
HEADS_INTERVAL_S: Final = 1.0
HEADS_UNCHANGED_EVERY: Final = 5
"""So many seconds apart are heads told when nothing has changed: a lost one must not be the last."""
CAST_MAX_BYTES: Final = 512 * 1024
"""A larger changeset is not cast but told of, and asked for in pieces."""
RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0
PAUSE_S: Final = 1.0
"""How long a peer that did not help is left alone."""
CLOCK_PEERS_MIN: Final = 2
"""With fewer, nobody can say whose clock is off."""


class Cluster(Bus, Protocol):
    """What replication needs of `cluster.Node`."""

    def peers(self) -> Sequence["Named"]:
        """The peers that are up."""
        ...


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`expects_peers`: whether anybody is looked for, so that it makes sense to wait for them before the first fold."""

    now_ms: Callable[[], int]
    clock_bound_ms: int
    join_timeout_s: float
    expects_peers: bool


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
        settings: Settings,
    ) -> None:
        self.tally = Tally()
        self._store = store
        self._shelf = shelf
        self._engine = engine
        self._shelf_engine = shelf_engine
        self._watch = watch
        self._settings = settings
        self._bus: Cluster | None = None
        self._view_now: View | None = None
        self._durable_view: View | None = None
        """What may be told: a head that a power cut could take back must not have been told to anybody."""
        self._inbox = Inbox()
        self._exchange = Exchange()
        self._parcels: Parcels | None = None
        self._waiters = PositionWaiters(self.reached)
        self._catching_up: CatchingUp | None = None
        self._problems: dict[str, str] = {}
        self._owed = NOTHING_OWED
        self._told: Heads | None = None
        self._untold_s = 0
        self._joined = False
        self._noticed = asyncio.Event()
        self._arrived = asyncio.Event()
        self._settled = asyncio.Event()
        self._lacking = asyncio.Event()
        self._spoken = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom: SeldomLog | None = None
        self._grace: asyncio.TimerHandle | None = None

    # --- life ---

    async def open(self) -> None:
        """Opens the database. Raises what opening raises; nothing is left open then."""
        loop = asyncio.get_running_loop()
        self._parcels = Parcels(loop.time)
        self._seldom = SeldomLog(log, loop.time)
        try:
            self._view_now = self._durable_view = await self._engine.run(self._store.open)
            await self._shelf_engine.run(self._shelf.open)
        except BaseException:
            await self.close()
            raise

    def start(self, bus: Cluster) -> None:
        """Begins to work. The node runs, and its actor hands over what comes."""
        self._bus = bus
        for peer in bus.peers():
            self._exchange.up(peer.name)
        loops: tuple[tuple[str, Callable[[], Awaitable[None]], asyncio.Event], ...] = (
            ("folding", self._fold_step, self._noticed),
            ("merging", self._merge_step, self._arrived),
            ("catching up", self._catch_up_step, self._lacking),
            ("telling", self._tell_step, asyncio.Event()),
            ("watching", self._watch_step, asyncio.Event()),
        )
        self._tasks = [asyncio.create_task(self._work(loops), name="replication")]

    async def _work(self, loops: Sequence[tuple[str, Callable[[], Awaitable[None]], asyncio.Event]]) -> None:
        await self._join()
        self._noticed.set()
        self._arrived.set()
        async with asyncio.TaskGroup() as group:
            for what, step, event in loops:
                group.create_task(self._keep_doing(what, step, event), name=f"replication: {what}")

    async def stop(self) -> None:
        """Ends the work: what is written by now is still folded and cast."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._grace is not None:
            self._grace.cancel()
        if self._joined:
            with contextlib.suppress(sqlite3.Error, OSError):
                await self._fold()
        self._joined = False

    def abandon(self) -> None:
        """Ends the work at once, as a crash would: nothing more is folded or told."""
        for task in self._tasks:
            task.cancel()
        self._joined = False

    async def close(self) -> None:
        """Closes the database's connections. May be called twice."""
        await self._shelf_engine.run(self._shelf.close)
        await self._engine.run(self._store.close)
        await self._shelf_engine.close()
        await self._engine.close()

    async def _keep_doing(self, what: str, step: Callable[[], Awaitable[None]], again: asyncio.Event) -> None:
        """Does `step` for ever. What fails is noted, and tried again a little later each time."""
        delay_s = RETRY_FIRST_S
        while True:
            try:
                await step()
                if self._problems.pop(what, None) is not None:
                    log.info("%s goes on", what)
                delay_s = RETRY_FIRST_S
                continue
            except (sqlite3.Error, OSError) as error:
                self._note_problem(what, f"{what} stands still: {error}")
            except Exception as error:
                self._note_problem(what, f"{what} stands still: {type(error).__name__}: {error}")
                log.exception("%s failed in a way nobody thought of; it is tried again", what)
            again.set()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    def _note_problem(self, what: str, problem: str) -> None:
        self.tally.problems += 1
        if self._problems.get(what) != problem:
            log.warning("%s; trying again", problem)
        self._problems[what] = problem

    # --- what the actor hands over; never raises, never waits ---

    def came_up(self, peer: str) -> None:
        """A peer is there: it hears how far this node is."""
        self._exchange.up(peer)
        self._tell([peer])

    def went_down(self, peer: str) -> None:
        """A peer is gone."""
        self._exchange.down(peer)
        self._spoken.set()

    def cast_from(self, peer: str, message: object) -> None:
        """A peer cast something."""
        try:
            match message:
                case ["changeset", bytes(encoded)]:
                    self._take_in(peer, encoded)
                case ["heads", *_]:
                    assert isinstance(message, list)
                    self._hear(peer, parse_heads(message))
                case _:
                    raise NotAMessage("neither a changeset nor heads")
        except (NotAMessage, ChangesetError) as error:
            self.tally.not_messages += 1
            self._warn_seldom(f"bad {peer}", f"dropped a cast from {peer}: {error}")

    async def answer(self, request: object) -> object:
        """What a peer asked for. Raises nothing that is the peer's fault."""
        try:
            match request:
                case ["ask", have]:
                    return await self._serve_page(parse_stamps(have))
                case list() if is_more(request):
                    return self._parcel_shelf.more(request[1], request[2])
                case _:
                    raise NotAMessage("an unknown request")
        except (NotAMessage, ParcelError) as error:
            self.tally.not_messages += 1
            return ["error", str(error)]

    def _take_in(self, peer: str, encoded: bytes, *, asked_for: bool = False) -> None:
        arrived = Arrived(
            peer=peer,
            header=header(encoded),
            encoded=encoded,
            digest=digest(encoded),
            at_s=asyncio.get_running_loop().time(),
        )
        if self._inbox.put(arrived, asked_for=asked_for):
            self._arrived.set()
        else:
            self.tally.inbox_full += 1

    def _hear(self, peer: str, heads: Heads) -> None:
        self._exchange.heard(peer, heads)
        self._spoken.set()
        self._lacking.set()

    # --- joining ---

    async def _join(self) -> None:
        """Waits until each peer that is up has said what it knows, or nobody has come within the time."""
        settings = self._settings
        if settings.expects_peers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.join_timeout_s):
                    while not self._all_have_spoken():
                        self._spoken.clear()
                        await self._spoken.wait()
        self._joined = True
        log.info("joined as site %s, %d sites known", self._view.site, len(self._view.vector))

    def _all_have_spoken(self) -> bool:
        peers = self._exchange.peers()
        return bool(peers) and len(self._exchange.heads()) == len(peers)

    # --- folding ---

    def committed(self, position: Position) -> None:
        """This node's Repo committed. `position` is that of the write: a fold is owed that reaches it."""
        self._owed = max(self._owed, position.stamps.get(self._view.site, NOTHING_OWED))
        self._noticed.set()

    async def _watch_step(self) -> None:
        await self._watch(self._noticed.set)

    async def _fold_step(self) -> None:
        await self._noticed.wait()
        self._noticed.clear()
        if await self._fold():
            await asyncio.sleep(FOLD_INTERVAL_S)

    async def _fold(self) -> bool:
        """Folds if there is anything to fold. True if a changeset was made."""
        owed, self._owed = self._owed, NOTHING_OWED
        try:
            done = await self._engine.run(lambda: self._store.fold_news(owed))
        except BaseException:
            self._owed = max(owed, self._owed)
            raise
        if done is None:
            return False
        self._take(done)
        return True

    def _take(self, done: Done) -> None:
        """The engine did something: what it made is cast, and who waits for a position looks again."""
        self._view_now = done.view
        if done.durable:
            self._durable_view = done.view
        self.tally.folded += len(done.made)
        self.tally.folded_rows += done.rows
        self.tally.violations += len(done.violations)
        peers = [peer.name for peer in self._cluster.peers()] if self._bus is not None else []
        tell = not done.made and not done.outcomes  # tables were attached: their baseline is asked for
        for encoded in done.made:
            if len(encoded) > CAST_MAX_BYTES:
                tell = True
                continue
            message = ["changeset", encoded]
            for peer in peers:
                self._cluster.cast(peer, REPLICATION, message)
        if tell:
            self._tell(peers)
        self._waiters.moved()

    # --- merging ---

    async def _merge_step(self) -> None:
        await self._arrived.wait()
        self._arrived.clear()
        while batch := self._next_batch():
            await self._merge(batch)
        self._settled.set()
        if self._inbox.count:
            self._lacking.set()

    def _next_batch(self) -> list[Arrived]:
        view = self._view
        return self._inbox.batch(
            self.stamps(), own=view.site, closed=frozenset(view.closed), before_ms=self._before_ms()
        )

    def _before_ms(self) -> int:
        """Stamps from this millisecond on are too far ahead."""
        return self._settings.now_ms() + self._settings.clock_bound_ms + 1

    async def _merge(self, batch: Sequence[Arrived]) -> None:
        done = await self._engine.run(lambda: self._store.merge([arrived.encoded for arrived in batch]))
        self._take(done)
        for arrived, outcome in zip(batch, done.outcomes, strict=True):
            self._inbox.drop(arrived)
            match outcome:
                case Merged():
                    self.tally.merged += 1
                    self.tally.merged_rows += outcome.rows
                    self.tally.held += outcome.held
                    self.tally.dropped_columns += outcome.dropped
                    self.tally.collisions += outcome.collisions
                case Repeat():
                    self.tally.repeats += 1
                case Waits():
                    self._inbox.put(arrived, asked_for=True)  # the forecast was wrong
                case TooEarly():
                    self.tally.too_early += 1
                    self._inbox.put(arrived, asked_for=True)
                case Closed():
                    pass
                case Fork(reason=reason) | Refused(reason=reason) | Broken(reason=reason):
                    self._refuse(arrived, outcome, reason)

    def _refuse(self, arrived: Arrived, outcome: Fork | Refused | Broken, reason: str) -> None:
        kind = type(outcome).__name__.lower()
        match outcome:
            case Fork():
                self.tally.forks += 1
            case Refused():
                self.tally.refused += 1
            case Broken():
                self.tally.broken += 1
        self._exchange.refuse(arrived.header.site, arrived.header.upto)
        self._warn_seldom(
            f"{kind} {arrived.header.site}",
            f"a changeset of site {arrived.header.site} from {arrived.peer} is not merged ({kind}): {reason}",
        )

    # --- catching up ---

    async def _catch_up_step(self) -> None:
        await self._lacking.wait()
        self._lacking.clear()
        while (peer := self._peer_to_ask()) is not None:
            await self._catch_up(peer)

    def _peer_to_ask(self) -> str | None:
        view, loop = self._view, asyncio.get_running_loop()
        stamps, closed, before_ms = self.stamps(), frozenset(view.closed), self._before_ms()
        lacking = self._inbox.lacking(stamps, own=view.site, closed=closed, before_ms=before_ms)
        peer = self._exchange.to_ask(
            self._inbox.reach(stamps), lacking, own=view.site, closed=closed, before_ms=before_ms, now_s=loop.time()
        )
        if peer is None and lacking:
            self._look_again_soon()
        return peer

    def _look_again_soon(self) -> None:
        if self._grace is None or self._grace.when() < asyncio.get_running_loop().time():
            self._grace = asyncio.get_running_loop().call_later(GRACE_S, self._lacking.set)

    async def _catch_up(self, peer: str) -> None:
        """Asks a peer until it has nothing more, or asking does not help."""
        loop = asyncio.get_running_loop()
        under_way = self._catching_up = CatchingUp(peer=peer, since_s=loop.time(), part="journal")
        try:
            more = True
            while more:
                before = self.stamps()
                self.tally.asks += 1
                content = await ask(self._cluster, peer, ["ask", plain_stamps(before)])
                more = self._take_page(peer, content, under_way)
                await self._settle()
                if self.stamps() == before:
                    self._exchange.pause(peer, loop.time() + PAUSE_S)
                    return
        except (CallError, ParcelError, NotAMessage, ChangesetError) as error:
            self.tally.asks_failed += 1
            self._exchange.pause(peer, loop.time() + PAUSE_S)
            self._warn_seldom(f"ask {peer}", f"asking {peer} for what is missing failed, it is asked again: {error}")
        finally:
            self._catching_up = None

    def _take_page(self, peer: str, content: bytes, under_way: CatchingUp) -> bool:
        match unpack(content):
            case (bool(more), tuple(changesets)) if all(isinstance(encoded, bytes) for encoded in changesets):
                pass
            case _:
                raise NotAMessage("not a page")
        self.tally.pages += 1
        self.tally.pages_bytes += len(content)
        under_way.changesets += len(changesets)
        under_way.bytes += len(content)
        for encoded in changesets:
            self._take_in(peer, encoded, asked_for=True)
        return more

    async def _settle(self) -> None:
        """Waits until all that can be merged is."""
        self._settled.clear()
        self._arrived.set()
        await self._settled.wait()

    async def _serve_page(self, have: dict[Site, Stamp]) -> list[object]:
        page = await self._shelf_engine.run(lambda: self._shelf.page(have))
        return self._parcel_shelf.first(pack((page.more, tuple(one.encoded for one in page.changesets))))

    # --- telling ---

    async def _tell_step(self) -> None:
        await asyncio.sleep(HEADS_INTERVAL_S)
        self._durable_view = await self._engine.run(self._store.sync)
        self._untold_s += 1
        if (
            self._told is None
            or self._told.vector != self._durable_view.vector
            or self._untold_s >= HEADS_UNCHANGED_EVERY
        ):
            self._tell([peer.name for peer in self._cluster.peers()])
            self._untold_s = 0
        if self._inbox.count:
            self._arrived.set()  # time has come for some, perhaps
        self._lacking.set()

    def _tell(self, peers: Sequence[str]) -> None:
        view = self._durable_view
        if self._bus is None or view is None:
            return
        heads = self._told = Heads(
            site=view.site,
            vector=view.vector,
            closed=view.closed,
            held=tuple(self._inbox.held()),
            clock_ms=self._settings.now_ms(),
            ready=True,
        )
        message = heads.plain()
        for peer in peers:
            self._cluster.cast(peer, REPLICATION, message)

    # --- for the application ---

    def stamps(self) -> dict[Site, Stamp]:
        """How far this node has merged each site."""
        return {site: head.stamp for site, head in self._view.vector.items()}

    def reached(self, position: Position) -> bool:
        """Whether everything up to the position can be read here."""
        view = self._view
        for site, stamp in position.stamps.items():
            head = view.vector.get(site)
            if site != view.site and (head is None or head.stamp < stamp):
                return False
        return True

    async def wait_for(self, position: Position, *, timeout_s: float) -> None:
        """Returns once the position is reached here. Raises PositionTimeout."""
        await self._waiters.wait_for(position, timeout_s=timeout_s, behind=self.stamps)

    def unready(self) -> list[str]:
        """Why this node should not serve yet, or stands still; empty if it is well."""
        reasons = [] if self._joined else ["replication has not joined: it waits for what the peers know"]
        return reasons + list(self._problems.values())

    def status(self) -> ReplicationStatus:
        """How replication stands, now."""
        view = self._view
        stamps, closed = self.stamps(), frozenset(view.closed)
        return ReplicationStatus(
            site=view.site,
            ready=self._joined and not self._problems,
            joined=self._joined,
            problem="; ".join(self._problems.values()),
            sites=len(view.vector),
            behind={
                peer: len(self._exchange.lacks(peer, stamps, own=view.site, closed=closed, before_ms=self._before_ms()))
                for peer in self._exchange.peers()
            },
            waiting=self._inbox.count,
            waiting_bytes=self._inbox.bytes,
            catching_up=self._catching_up,
            notes=tuple(f"not replicated: {refusal}" for refusal in view.refusals),
            counts=self.tally.as_dict(),
        )

    # --- inside ---

    @property
    def _view(self) -> View:
        assert self._view_now is not None, "replication is open"
        return self._view_now

    @property
    def _cluster(self) -> Cluster:
        assert self._bus is not None, "replication was started"
        return self._bus

    @property
    def _parcel_shelf(self) -> Parcels:
        assert self._parcels is not None, "replication is open"
        return self._parcels

    def _warn_seldom(self, key: str, text: str) -> None:
        if self._seldom is not None:
            self._seldom.warning(key, text)
