"""Becoming the primary and ceasing to be it: what one node does about the lease.

Two loops. One looks at the lease several times a second, renews it in time, and notes when this node was not awake. The
other changes roles: it stands for the lease, and once that is granted

1. asks the members for their heads, until a majority of the configured ones has answered (this node among them);
2. fetches and merges whatever any of these has that this node has not;
3. begins the epoch: a new site, no fence, and a first changeset that tells everybody.

`may_write` says from moment to moment whether this node may write. It is false before the lease can run out, and after
a stall until the provider has been asked; so it stops writes first, and the fence follows as soon as the lock is had.
Who hears of a newer epoch than its own has lost the lease, whatever its clock says. A peer that goes down is no reason
for anything here: only the provider knows who may follow."""

import asyncio
import contextlib
import logging
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from cluster.errors import CallError, LeaseError, LeaseHeld, LeaseLost, LeaseUnusable
from cluster.lease import deciding
from cluster.lease.interface import EPOCH_MAX, Grant, Holding, Lease
from cluster.seldom import SeldomLog
from cluster.tasks import ended
from replication.convergent.messages import Heads, NotAMessage, parse_heads
from replication.convergent.store import Done, Store, View
from replication.engine.epochs import epoch_of, epoch_site, newest
from replication.engine.stamps import Site, Stamp, ms_of
from replication.errors import CannotPromote, PositionTimeout, ReplicationError, TooFarAhead
from replication.positions import Position
from replication.primary.ahead import Ahead
from replication.primary.beside import Beside
from replication.primary.fate import Fate, fate_of
from replication.primary.standing import Role, RoleStatus, Standing, fence_message, majority
from replication.primary.under_way import UnderWay

log = logging.getLogger(__name__)

PRIMARY: Final = "Primary"
"""The actor's name on every node."""
TICK_S: Final = 0.2
POLL_S: Final = 0.5
"""So often does a node that does not hold the lease look for it; a released one is found as fast."""
TELL_S: Final = 1.0
ASK_TIMEOUT_S: Final = 1.0
CATCH_UP_S: Final = 10.0
"""A candidate that has not come so far in this time lets others try."""
BACK_OFF_S: Final = 2.0
HAND_OVER_S: Final = 2.0
"""So long are writes held at most for a successor that has not got everything yet."""
HAND_OVER_LOOK_S: Final = 0.02
FOLLOWED_S: Final = 5.0


class Replication(Protocol):
    """What leading needs of this node's replication."""

    def view(self) -> View: ...
    async def heads_now(self) -> Heads | None: ...
    def hear_heads(self, peer: str, heads: Heads) -> None: ...
    async def work(self, step: Callable[[Store], Done]) -> Done: ...
    def clock_off(self) -> str: ...
    def before_ms(self) -> int: ...
    async def joined(self) -> None: ...
    def reached(self, position: Position) -> bool: ...
    async def wait_for(self, position: Position, *, timeout_s: float) -> None: ...
    def furthest_elsewhere(self, site: Site) -> Stamp: ...


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


class Cluster(Protocol):
    """What leading needs of `cluster.Node`."""

    @property
    def name(self) -> str: ...
    def peers(self) -> Sequence[Named]: ...
    def cast(self, node: str, actor: str, message: object) -> None: ...
    async def call(self, node: str, actor: str, message: object, *, timeout_s: float) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`size`: how many nodes the cluster is meant to have, so that a majority can be told. `candidate`: whether this
    node stands for the lease at all. `clock`: that of the lease's provider."""

    size: int
    candidate: bool
    clock: Callable[[], float]
    random_hex: Callable[[], str]
    """At least 19 digits that nobody else draws."""
    unreplicated_max_s: float | None = None
    """For so long at most it writes what no other node has; None: for ever."""


class Leading:
    """See the module. `start` once the node runs and replication was started, `stop` before either stops."""

    def __init__(self, replication: Replication, lease: Lease, settings: Settings, *, beside: Beside | None) -> None:
        self.standing = Standing()
        self.role = Role.REPLICA
        self.under_way = UnderWay()
        """Writes that this node carries out."""
        self._replication = replication
        self._lease = lease
        self._settings = settings
        self._beside = beside
        self._cluster: Cluster | None = None
        self._grant: Grant | None = None
        self._awake_s = 0.0
        self._must_ask = False
        self._stalls = 0
        """So often was this node not awake: an answer to a question from before the last one says nothing."""
        self._asked_for = 0
        """The latest epoch whose candidate asked what is here."""
        self._renewing: asyncio.Task[None] | None = None
        self._site: Site | None = None
        """Under which this node writes, while it is the primary."""
        self._ahead = Ahead()
        self._is_handing_over = False
        self._fenced: str | None = None
        self._problems: dict[str, str] = {}
        """What is the matter with the lease, and with the role."""
        self._not_before_s = 0.0
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom: SeldomLog | None = None

    # --- what others ask ---

    def may_write(self) -> bool:
        """Whether this node may write now. Not while it hands over: writes are held then."""
        return not self._is_handing_over and self.still_holds()

    def still_holds(self) -> bool:
        """Whether what this node has written by now may be acknowledged."""
        grant = self._grant
        return (
            self.role is Role.PRIMARY
            and grant is not None
            and not self._must_ask
            and deciding.may_write(now_s=self._settings.clock(), good_until_s=grant.good_until_s, awake_s=self._awake_s)
        )

    def check_ahead(self) -> None:
        """Raises TooFarAhead if what this node wrote is nowhere else, and was not for too long."""
        ahead_s, bound_s = self._ahead.for_s(self._settings.clock()), self._settings.unreplicated_max_s
        if bound_s is not None and self.role is Role.PRIMARY and ahead_s > bound_s:
            raise TooFarAhead(ahead_s, bound_s)

    def writes_until_s(self) -> float:
        """Until when this node may write, if the lease is not renewed: by the lease's clock; 0 if it may not now."""
        grant = self._grant
        try:
            self.check_ahead()
        except TooFarAhead:
            return 0.0
        return grant.good_until_s if grant is not None and self.may_write() else 0.0

    @property
    def awake_s(self) -> float:
        """When this node last looked at the lease, by its clock."""
        return self._awake_s

    def epoch(self) -> int:
        """In which this node writes; 0 if it does not."""
        return 0 if self._site is None or self.role is not Role.PRIMARY else epoch_of(self._site)

    def status(self) -> RoleStatus:
        """The role, now."""
        primary = self._name if self.role is Role.PRIMARY else self.standing.primary
        epoch = max(self.standing.epoch, self._known_epoch())
        return RoleStatus(role=self.role, epoch=epoch, primary=primary, problem="; ".join(self._problems.values()))

    async def next_change(self) -> None:
        """Returns when somebody else writes than before, or may write again."""
        await self._changed.wait()

    # --- life ---

    def start(self, cluster: Cluster) -> None:
        """Begins to look after the lease."""
        self._cluster = cluster
        self._seldom = SeldomLog(log, asyncio.get_running_loop().time)
        self._awake_s = self._settings.clock()
        self._tasks = [
            asyncio.create_task(self._look_after(), name="primary: lease"),
            asyncio.create_task(self._lead(), name="primary: role"),
            asyncio.create_task(self._tell_on(), name="primary: telling"),
        ]

    async def stop(self) -> None:
        """Stops writing, fences, and gives the lease up, so that another node need not wait for it to run out: to a
        candidate that has everything, if there is one."""
        with contextlib.suppress(CannotPromote, LeaseError, LeaseUnusable, sqlite3.Error, OSError, ReplicationError):
            await self.hand_over()
        tasks, self._tasks = self._tasks, []
        await ended(tasks)
        await self._stop_renewing()
        grant, self._grant = self._grant, None
        was_primary = self.role is Role.PRIMARY
        self._become(Role.REPLICA)
        with contextlib.suppress(sqlite3.Error, OSError, ReplicationError):
            if was_primary and (grant is None or grant.good_until_s != math.inf):  # else nobody follows
                await self._fence(None)
        if was_primary:
            self._tell_all(is_primary=False, epoch=self.standing.epoch)
        if grant is not None:
            with contextlib.suppress(LeaseError, LeaseUnusable):
                await self._lease.release(grant)
        if self._beside is not None:
            with contextlib.suppress(OSError):
                self._beside.clear()

    def abandon(self) -> None:
        """Ends at once, as a crash would: nothing is fenced, told or released."""
        for task in self._tasks:
            task.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
        self.role = Role.REPLICA

    # --- what the actor hands over; never raises, never waits ---

    def cast_from(self, peer: str, message: object) -> bool:
        """A peer says whether it is the primary. False if it is no such message."""
        match message:
            case ["primary", int(epoch), bool(is_primary)] if type(epoch) is int and 0 <= epoch <= EPOCH_MAX:
                self._hear(peer, epoch, is_primary=is_primary)
                return True
            case _:
                return False

    def came_up(self, peer: str) -> None:
        """A peer is there, and hears at once whether this node is the primary."""
        self._tell(peer, is_primary=self.role is Role.PRIMARY, epoch=self.epoch())

    async def answer(self, request: object) -> object:
        """The heads of this node, for a candidate of an epoch that asks. All that can be read here is in them.
        Also for a primary that asks whether this node could follow it, and how far it has merged a site.

        The epoch is noted before the heads are: what comes to be readable after that may be a tail."""
        match request:
            case ["heads", int(epoch)] if type(epoch) is int and 0 < epoch <= EPOCH_MAX:
                self._asked_for = max(self._asked_for, epoch)
            case ["merged", str(site)]:
                head = self._replication.view().vector.get(Site(site))
                return ["merged", 0 if head is None else head.stamp]
            case ["could follow"] if self._may_stand():
                pass
            case _:
                return ["error", "not a request"]
        try:
            heads = await self._replication.heads_now()
        except (sqlite3.Error, OSError) as error:
            return ["error", f"not now: {error}"]
        return ["error", "not now"] if heads is None else heads.plain()

    def fate(self, position: Position) -> Fate | None:
        """What becomes of what is written there: see `fate_of`."""
        return fate_of(
            position.stamps,
            is_readable=self._replication.reached(position),
            newest=self._replication.view().epoch,
            asked_for=self._asked_for,
        )

    def still_writes(self, node: str, epoch: int) -> bool:
        """Whether a peer that wrote in an epoch is up, and the primary in that epoch, as far as is known here."""
        status = self.status()
        up = () if self._cluster is None else [peer.name for peer in self._cluster.peers()]
        return status.primary == node and status.epoch == epoch and self._asked_for <= epoch and node in up

    def _hear(self, peer: str, epoch: int, *, is_primary: bool) -> None:
        if self.role is Role.PRIMARY and is_primary and epoch >= self.epoch():
            self._lose(f"{peer} is the primary of epoch {epoch}, and this node was of {self.epoch()}")
        news = self.standing.claims(peer, epoch) if is_primary else epoch > 0 and self.standing.resigns(peer, epoch)
        if news:
            log.info("the primary is %s, of epoch %d", self.standing.primary or "nobody", self.standing.epoch)
            self._wake.set()
            self._has_changed()

    # --- handing over ---

    async def promote(self, node: str) -> None:
        """Makes that node the primary, from whichever node it is asked of. Returns once it is. Raises CannotPromote."""
        status = self.status()
        if status.primary == node:
            raise CannotPromote(f"{node} is the primary already")
        if self.role is Role.PRIMARY:
            await self.hand_over(node)
        elif status.primary is None or self._cluster is None:
            raise CannotPromote("there is no primary just now: a candidate follows by itself")
        else:
            await self._ask_to_promote(self._cluster, status.primary, node)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FOLLOWED_S):
                while self.status().primary != node:
                    await self.next_change()
                return
        raise CannotPromote(
            f"{node} was handed the lease, and is not the primary after {FOLLOWED_S:g} s: see its status"
        )

    async def _ask_to_promote(self, cluster: Cluster, primary: str, node: str) -> None:
        try:
            answer = await cluster.call(primary, PRIMARY, ["promote", node], timeout_s=FOLLOWED_S + 2 * HAND_OVER_S)
        except CallError as error:
            raise CannotPromote(f"the primary, {primary}, does not answer: {error}") from None
        match answer:
            case ["done"]:
                pass
            case ["refused", str(why)]:
                raise CannotPromote(why)
            case _:
                raise CannotPromote(f"the primary, {primary}, does not know how to hand over")

    async def hand_over(self, to: str | None = None) -> None:
        """Gives the lease to a candidate that has everything; None: to any. Writes are held meanwhile, for
        `HAND_OVER_S` at most. Returns once the lease is released to it.

        Raises CannotPromote: with nothing changed, unless the successor stopped to answer meanwhile: then the lease is
        any candidate's. Raises what fencing and releasing raise."""
        if self.role is not Role.PRIMARY or self._grant is None or self._is_handing_over:
            raise CannotPromote("this node is not the primary, or hands over already")
        if self._grant.good_until_s == math.inf:
            raise CannotPromote(
                "the lease is static, so nobody can be handed it: name the other node in [lease] primary on all nodes "
                "and restart them, or let nodes take turns with [lease] provider = 'object_store' or 'consul'"
            )
        successor = await self._successor(to)
        if not await self._gets_everything(successor):
            raise CannotPromote(f"{successor} has not got what this node wrote after {HAND_OVER_S:g} s")
        self._is_handing_over = True
        try:
            await self._fence(successor)
            await self.under_way.those_of_now(timeout_s=HAND_OVER_S)
            if not await self._gets_everything(successor):
                await self._give_up(f"{successor} was to follow, and stopped to answer")
                raise CannotPromote(f"{successor} stopped to answer: the lease is released, and any candidate follows")
            await self._stop_renewing()
            grant, self._grant = self._grant, None
            if grant is None:
                raise CannotPromote("this node lost the lease meanwhile, and any candidate follows")
            try:
                await self._lease.release(grant, successor=successor)
            finally:
                self._become(Role.REPLICA)
        finally:
            self._is_handing_over = False
        log.info("the lease is handed over to %s", successor)

    async def _successor(self, wanted: str | None) -> str:
        assert self._cluster is not None, "leading was started"
        names = [peer.name for peer in self._cluster.peers()]
        if wanted is not None and wanted not in names:
            raise CannotPromote(f"there is no live node {wanted!r}: {', '.join(sorted(names)) or 'no other'} is there")
        asked = names if wanted is None else [wanted]
        answers = await asyncio.gather(*(self._ask(name, ["could follow"]) for name in asked))
        able = {name: self._stamp_of(heads) for name, heads in zip(asked, answers, strict=True) if heads is not None}
        if not able:
            raise CannotPromote(
                f"{wanted or 'no other node'} can follow: one has to be up, ready, and a candidate ([lease] candidate, "
                "region)"
            )
        return max(sorted(able), key=able.__getitem__)

    def _stamp_of(self, heads: Heads) -> int:
        """How far somebody has this node's epoch."""
        head = None if self._site is None else heads.vector.get(self._site)
        return 0 if head is None else head.stamp

    async def _gets_everything(self, peer: str) -> bool:
        """Whether a peer has merged all that is folded here now, in time. It is told of as ever."""
        assert self._cluster is not None, "leading was started"
        assert self._site is not None, "this node is the primary"
        wanted = self._replication.view().vector[self._site].stamp
        with contextlib.suppress(TimeoutError, CallError):
            async with asyncio.timeout(HAND_OVER_S):
                while True:
                    match await self._cluster.call(peer, PRIMARY, ["merged", self._site], timeout_s=ASK_TIMEOUT_S):
                        case ["merged", int(stamp)] if stamp >= wanted:
                            return True
                        case _:
                            pass
                    await asyncio.sleep(HAND_OVER_LOOK_S)
        return False

    async def _stop_renewing(self) -> None:
        """What a renewal may still write would undo a release."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    # --- the lease ---

    async def _look_after(self) -> None:
        """Looks at the lease, several times a second."""
        while True:
            now_s = self._settings.clock()
            if now_s - self._awake_s > deciding.STALL_S:
                log.warning("this node was not awake for %.1f s: the lease is asked for", now_s - self._awake_s)
                self._must_ask = True
                self._stalls += 1
            self._awake_s = now_s
            grant = self._grant
            if grant is not None:
                if now_s >= grant.good_until_s:
                    self._lose(self._problems.get("lease") or "it could not be renewed in time")
                elif (self._must_ask or now_s >= grant.renew_at_s) and self._is_idle() and not self._is_handing_over:
                    self._renewing = asyncio.create_task(self._renew(grant), name="primary: renewing")
            else:
                self._must_ask = False
            self._check_site()
            self._note_ahead(now_s)
            await asyncio.sleep(TICK_S)

    def _is_idle(self) -> bool:
        return self._renewing is None or self._renewing.done()

    async def _renew(self, grant: Grant) -> None:
        stalls = self._stalls_by_now()
        try:
            renewed = await self._lease.renew(grant)
        except LeaseLost as error:
            if self._grant is grant:
                self._lose(str(error))
        except (LeaseError, LeaseUnusable) as error:
            self._trouble(str(error), about="lease")
        else:
            self._problems.pop("lease", None)
            if self._grant is grant:
                self._grant, self._must_ask = renewed, stalls != self._stalls_by_now()
                self._has_changed()

    def _stalls_by_now(self) -> int:
        """How often this node was not awake, with a time that was not noted yet."""
        return self._stalls + (self._settings.clock() - self._awake_s > deciding.STALL_S)

    def _lose(self, why: str) -> None:
        log.warning("the lease is lost: %s", why)
        self._grant = None
        self._become(Role.REPLICA)
        self._wake.set()

    def _check_site(self) -> None:
        """The database may have been put back to another state, or got a new site for another reason."""
        if self.role is Role.PRIMARY and self._replication.view().site != self._site:
            self._lose("the database goes on under another site than that of the epoch")

    def _note_ahead(self, now_s: float) -> None:
        head = self._replication.view().vector.get(self._site) if self._site is not None else None
        if self.role is Role.PRIMARY and self._site is not None and head is not None:
            self._ahead.note(head.stamp, self._replication.furthest_elsewhere(self._site), now_s)

    def _trouble(self, problem: str, *, about: str = "role") -> None:
        self._problems[about] = problem
        if self._seldom is not None:
            self._seldom.warning(problem, problem)

    # --- roles ---

    async def _lead(self) -> None:
        await self._replication.joined()
        while True:
            self._wake.clear()
            try:
                await self._step()
            except (LeaseError, LeaseUnusable, PositionTimeout) as error:
                self._trouble(str(error))
            except (sqlite3.Error, OSError, ReplicationError) as error:
                self._trouble(f"the role cannot be changed now: {error}")
            except Exception as error:
                log.exception("leading failed in a way nobody thought of; it is tried again")
                self._trouble(f"leading failed: {type(error).__name__}: {error}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._wake.wait()

    async def _step(self) -> None:
        off = self._replication.clock_off()
        if self.role is Role.PRIMARY and not off:
            return
        if self._grant is not None and off:  # what it writes is not sent
            await self._give_up(f"this node gives the lease up: {off}")
            return
        await self._fence(self.standing.primary)
        if self._grant is not None:
            await self._promote(self._grant)
        elif self._may_stand():
            await self._stand()
        else:
            self._note_holding(await self._lease.read())
            self._problems.clear()

    def _may_stand(self) -> bool:
        settings, view = self._settings, self._replication.view()
        is_well = not view.tail and not view.is_resetting and not self._replication.clock_off()
        return settings.candidate and is_well and settings.clock() >= self._not_before_s

    async def _stand(self) -> None:
        stalls = self._stalls_by_now()
        try:
            self._grant = await self._lease.acquire(above=max(self.standing.epoch, self._known_epoch()))
        except LeaseHeld:
            self._problems.clear()
            self._note_holding(await self._lease.read())
            return
        self._must_ask = stalls != self._stalls_by_now()
        self._become(Role.CANDIDATE)
        log.info("the lease is granted to this node, epoch %d", self._grant.epoch)
        self._wake.set()

    async def _promote(self, grant: Grant) -> None:
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await self._catch_up(grant)
        except TimeoutError:
            return await self._give_up(f"what a majority of {self._settings.size} nodes has could not be fetched")
        if self._grant is None or self._grant.epoch != grant.epoch:
            return None
        site = epoch_site(grant.epoch, self._settings.random_hex())
        await self._replication.work(lambda store: store.begin_epoch(site))
        self._fenced = None
        if self._grant is None:  # lost meanwhile: what was written in between is a tail
            return None
        self._site, self._ahead = site, Ahead()
        self._problems.clear()
        self.standing.claims(self._name, grant.epoch)
        self._become(Role.PRIMARY)
        self._tell_all(is_primary=True, epoch=grant.epoch)
        log.info("this node is the primary, epoch %d", grant.epoch)
        return None

    async def _catch_up(self, grant: Grant) -> None:
        """Returns once this node has all that a majority has. Cancelled when that takes too long."""
        while True:
            heard = await self._ask_peers(grant.epoch)
            needed = majority(self._settings.size)
            if 1 + len(heard) >= needed:
                break
            self._trouble(f"{1 + len(heard)} of {self._settings.size} nodes are there, and {needed} have to be")
            await asyncio.sleep(POLL_S)
        epochs = [epoch_of(site) for heads in heard.values() if (site := newest(heads.vector)) is not None]
        if max(epochs, default=0) >= grant.epoch:
            self.standing.knows_of(max(epochs))
            await self._give_up(f"somebody has written in epoch {max(epochs)} already")
            raise LeaseLost(grant.epoch, "a newer epoch is known")
        for peer, heads in heard.items():
            self._replication.hear_heads(peer, heads)
        await self._replication.wait_for(self._wanted(heard.values()), timeout_s=CATCH_UP_S)

    def _wanted(self, heard: Iterable[Heads]) -> Position:
        """What any of these has, but for tails, sites of which no head proves anything, and what a clock far ahead
        stamped: nobody merges that before its time comes, and who writes it gives the lease up."""
        view, before_ms = self._replication.view(), self._replication.before_ms()
        stamps: dict[Site, Stamp] = {}
        for heads in heard:
            tail = {} if view.epoch is None else view.epoch.tail_of({s: h.stamp for s, h in heads.vector.items()})
            for site, head in heads.vector.items():
                is_sure = site not in view.closed and site not in heads.closed and site not in tail
                if is_sure and ms_of(head.stamp) < before_ms:
                    stamps[site] = max(head.stamp, stamps.get(site, head.stamp))
        return Position(stamps)

    async def _ask_peers(self, epoch: int) -> dict[str, Heads]:
        assert self._cluster is not None, "leading was started"
        names = [peer.name for peer in self._cluster.peers()]
        answers = await asyncio.gather(*(self._ask(name, ["heads", epoch]) for name in names))
        return {name: heads for name, heads in zip(names, answers, strict=True) if heads is not None}

    async def _ask(self, peer: str, question: list[object]) -> Heads | None:
        assert self._cluster is not None, "leading was started"
        try:
            answer = await self._cluster.call(peer, PRIMARY, question, timeout_s=ASK_TIMEOUT_S)
            heads = parse_heads(answer) if isinstance(answer, list) else None
        except (CallError, NotAMessage):
            return None
        return heads if heads is not None and heads.ready else None  # of one that is fetching state they say too little

    async def _give_up(self, why: str) -> None:
        """Lets the lease go, and others try."""
        self._trouble(why)
        grant, self._grant = self._grant, None
        self._become(Role.REPLICA)
        self._not_before_s = self._settings.clock() + BACK_OFF_S
        await self._fence(None)
        if grant is not None:
            await self._lease.release(grant)

    async def _fence(self, primary: str | None) -> None:
        """The tables say who writes them, as far as is known."""
        message = fence_message(primary, self._name)
        if message != self._fenced:
            await self._replication.work(lambda store: store.end_epoch(message))
            self._fenced = message

    def _note_holding(self, holding: Holding | None) -> None:
        if holding is not None and not holding.is_released:
            self.standing.knows_of(holding.epoch)

    def _known_epoch(self) -> int:
        epoch = self._replication.view().epoch
        return 0 if epoch is None else epoch.number

    def _become(self, role: Role) -> None:
        if role is not self.role:
            before, self.role = self.role, role
            if before is Role.PRIMARY:
                self.standing.resigns(self._name, self.standing.epoch)
                self._tell_all(is_primary=False, epoch=self.standing.epoch)
            self._has_changed()

    def _has_changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    # --- telling ---

    async def _tell_on(self) -> None:
        loop = asyncio.get_running_loop()
        told_s = loop.time()
        while True:
            if self.role is Role.PRIMARY and loop.time() - told_s >= TELL_S:
                self._tell_all(is_primary=True, epoch=self.epoch())
                told_s = loop.time()
            self._tell_beside()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self.next_change()

    def _tell_beside(self) -> None:
        if self._beside is None:
            return
        view = self._replication.view()
        site = None if view.epoch is None else view.epoch.site
        position = Position({site: view.vector[site].stamp}) if site in view.vector and site is not None else Position()
        other = None if self.role is Role.PRIMARY else self.standing.primary
        try:
            self._beside.tell(primary=other, position=str(position))
        except OSError as error:
            self._trouble(f"the files beside the database cannot be written: {error}")

    def _tell_all(self, *, is_primary: bool, epoch: int) -> None:
        for peer in () if self._cluster is None else self._cluster.peers():
            self._tell(peer.name, is_primary=is_primary, epoch=epoch)

    def _tell(self, peer: str, *, is_primary: bool, epoch: int) -> None:
        if self._cluster is not None:
            self._cluster.cast(peer, PRIMARY, ["primary", epoch, is_primary])

    @property
    def _name(self) -> str:
        return "" if self._cluster is None else self._cluster.name
