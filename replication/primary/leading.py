"""Becoming the primary and ceasing to be it: what one node does about the lease.

It stands for the lease, and once that is granted

1. it has all that a majority has (`catching_up`);
2. it begins the epoch: a new site, no fence, and a first changeset that tells everybody.

`may_write` says from moment to moment whether this node may write. It is false before the lease can run out, and after
a stall until the provider has been asked (`tenure`); so it stops writes first, and the fence follows once the lock
is had. Who hears of a newer epoch than its own has lost the lease, whatever its clock says. A peer that goes down is no
reason for anything here: only the provider knows who may follow."""

import asyncio
import contextlib
import logging
import math
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from cluster.errors import LeaseError, LeaseHeld, LeaseLost, LeaseUnusable
from cluster.lease.interface import EPOCH_MAX, Grant, Holding, Lease
from cluster.seldom import SeldomLog
from cluster.tasks import ended
from replication.convergent.messages import Heads
from replication.convergent.store import Done, Store, View
from replication.engine.epochs import epoch_of, epoch_site
from replication.engine.stamps import Site, Stamp
from replication.errors import CannotPromote, PositionTimeout, ReplicationError, TooFarAhead
from replication.positions import Position
from replication.primary.ahead import Ahead
from replication.primary.beside import Beside
from replication.primary.catching_up import CATCH_UP_S, Cluster, NewerEpoch, catch_up
from replication.primary.fate import Fate, fate_of
from replication.primary.handing_over import HandingOver
from replication.primary.standing import Role, RoleStatus, Standing, fence_message
from replication.primary.telling import Telling
from replication.primary.tenure import Tenure
from replication.primary.under_way import UnderWay

log = logging.getLogger(__name__)

TICK_S: Final = 0.2
POLL_S: Final = 0.5
"""So often does a node that does not hold the lease look for it; a released one is found as fast."""
BACK_OFF_S: Final = 2.0


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
        self._tenure = Tenure(lease, settings.clock, self)
        self._handing_over = HandingOver(self, replication, lease)
        self._telling = Telling(self, replication.view, beside, self._trouble)
        self._cluster: Cluster | None = None
        self._asked_for = 0
        """The latest epoch whose candidate asked what is here."""
        self._site: Site | None = None
        """Under which this node writes, while it is the primary."""
        self._ahead = Ahead()
        self._fenced: str | None = None
        self._problems: dict[str, str] = {}
        """What is the matter with the lease, and with the role."""
        self._not_before_s = 0.0
        self._disagrees_with: str | None = None
        """Who was the primary, too, though this node holds a lease that nobody else can have."""
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom: SeldomLog | None = None

    # --- what others ask ---

    def may_write(self) -> bool:
        """Whether this node may write now. Not while it hands over: writes are held then."""
        return not self._handing_over.is_under_way and self.still_holds()

    def still_holds(self) -> bool:
        """Whether what this node has written by now may be acknowledged."""
        return self.role is Role.PRIMARY and self._tenure.may_write()

    def check_ahead(self) -> None:
        """Raises TooFarAhead if what this node wrote is nowhere else, and was not for too long."""
        ahead_s, bound_s = self._ahead.for_s(self._settings.clock()), self._settings.unreplicated_max_s
        if bound_s is not None and self.role is Role.PRIMARY and ahead_s > bound_s:
            raise TooFarAhead(ahead_s, bound_s)

    def writes_until_s(self) -> float:
        """Until when this node may write, if the lease is not renewed: by the lease's clock; 0 if it may not now."""
        grant = self.grant
        try:
            self.check_ahead()
        except TooFarAhead:
            return 0.0
        return grant.good_until_s if grant is not None and self.may_write() else 0.0

    @property
    def awake_s(self) -> float:
        """When this node last looked at the lease, by its clock."""
        return self._tenure.awake_s

    @property
    def stalls(self) -> int:
        """How often this node was not awake for longer than a heartbeat."""
        return self._tenure.stalls

    @property
    def grant(self) -> Grant | None:
        """The lease, while this node holds it."""
        return self._tenure.grant

    @property
    def site(self) -> Site | None:
        """Under which this node writes, or did last."""
        return self._site

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
        self._tenure.start()
        self._handing_over.start(cluster)
        self._telling.start(cluster)
        self._tasks = [
            asyncio.create_task(self._look_after(), name="primary: lease"),
            asyncio.create_task(self._lead(), name="primary: role"),
            asyncio.create_task(self._telling.run(), name="primary: telling"),
        ]

    async def stop(self) -> None:
        """Stops writing, fences, and gives the lease up, so that another node need not wait for it to run out: to a
        candidate that has everything, if there is one."""
        with contextlib.suppress(CannotPromote, LeaseError, LeaseUnusable, sqlite3.Error, OSError, ReplicationError):
            await self.hand_over()
        tasks, self._tasks = self._tasks, []
        await ended(tasks)
        grant = await self.resign()
        was_primary = self.role is Role.PRIMARY
        self._become(Role.REPLICA)
        with contextlib.suppress(sqlite3.Error, OSError, ReplicationError):
            if was_primary and (grant is None or grant.good_until_s != math.inf):  # else nobody follows
                await self.fence(None)
        if was_primary:
            self._telling.all(is_primary=False, epoch=self.standing.epoch)
        if grant is not None:
            with contextlib.suppress(LeaseError, LeaseUnusable):
                await self._lease.release(grant)
        with contextlib.suppress(OSError):
            self._telling.clear()

    def abandon(self) -> None:
        """Ends at once, as a crash would: nothing is fenced, told or released."""
        for task in self._tasks:
            task.cancel()
        self._tenure.abandon()
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
        self._telling.one(peer, is_primary=self.role is Role.PRIMARY, epoch=self.epoch())

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
            if self.grant is not None and self.grant.good_until_s == math.inf:
                self._disagrees_with = peer
            self._lose(f"{peer} is the primary of epoch {epoch}, and this node was of {self.epoch()}")
        news = self.standing.claims(peer, epoch) if is_primary else epoch > 0 and self.standing.resigns(peer, epoch)
        if news:
            log.info("the primary is %s, of epoch %d", self.standing.primary or "nobody", self.standing.epoch)
            self._wake.set()
            self._has_changed()

    # --- handing over ---

    async def promote(self, node: str) -> None:
        """Makes that node the primary, from whichever node it is asked of. Returns once it is. Raises CannotPromote."""
        await self._handing_over.promote(node)

    async def hand_over(self, to: str | None = None) -> None:
        """Gives the lease to a candidate that has everything: see `HandingOver.hand_over`."""
        await self._handing_over.hand_over(to)

    async def resign(self) -> Grant | None:
        """What this node held, not to be renewed any more. None if it held nothing."""
        await self._tenure.stop_renewing()
        return self._tenure.give_up()

    def resigned(self) -> None:
        """What it held is released, or could not be."""
        self._become(Role.REPLICA)

    # --- the lease ---

    async def _look_after(self) -> None:
        """Looks at the lease, several times a second."""
        while True:
            self._tenure.look(may_renew=not self._handing_over.is_under_way)
            self._check_site()
            self._note_ahead(self._settings.clock())
            await asyncio.sleep(TICK_S)

    def lease_is_over(self) -> None:
        """It was not renewed in time."""
        self._lose(self._problems.get("lease") or "it could not be renewed in time")

    def lease_is_lost(self, why: str) -> None:
        """The provider says so."""
        self._lose(why)

    def lease_is_renewed(self) -> None:
        """This node may write again, or for longer."""
        self._has_changed()

    def lease_has_trouble(self, problem: str) -> None:
        """It could not be renewed now. "": it could be."""
        if problem:
            self._trouble(problem, about="lease")
        else:
            self._problems.pop("lease", None)

    def _lose(self, why: str) -> None:
        log.warning("the lease is lost: %s", why)
        self._tenure.give_up()
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
        if self.grant is not None and off:  # what it writes is not sent
            await self.give_up(f"this node gives the lease up: {off}")
            return
        await self.fence(self.standing.primary)
        if self._disagrees_with is not None:
            self._trouble(
                f"{self._disagrees_with} is the primary, and was not named so here: [lease] primary differs between "
                "nodes; name the same node on all, then start this one again"
            )
        elif self.grant is not None:
            await self._promote(self.grant)
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
        try:
            grant = await self._tenure.acquire(above=max(self.standing.epoch, self._known_epoch()))
        except LeaseHeld:
            self._problems.clear()
            self._note_holding(await self._lease.read())
            return
        self._become(Role.CANDIDATE)
        log.info("the lease is granted to this node, epoch %d", grant.epoch)
        self._wake.set()

    async def _promote(self, grant: Grant) -> None:
        assert self._cluster is not None, "leading was started"
        size, replication = self._settings.size, self._replication
        try:
            async with asyncio.timeout(CATCH_UP_S):
                await catch_up(replication, self._cluster, size=size, epoch=grant.epoch, trouble=self._trouble)
        except NewerEpoch as newer:
            self.standing.knows_of(newer.epoch)
            await self.give_up(str(newer))
            raise LeaseLost(grant.epoch, "a newer epoch is known") from None
        except TimeoutError:
            return await self.give_up(f"what a majority of {size} nodes has could not be fetched")
        if self.grant is None or self.grant.epoch != grant.epoch:
            return None
        site = epoch_site(grant.epoch, self._settings.random_hex())
        await replication.work(lambda store: store.begin_epoch(site))
        self._fenced = None
        if self.grant is None:  # lost meanwhile: what was written in between is a tail
            return None
        self._site, self._ahead = site, Ahead()
        self._problems.clear()
        self.standing.claims(self._name, grant.epoch)
        self._become(Role.PRIMARY)
        self._telling.all(is_primary=True, epoch=grant.epoch)
        log.info("this node is the primary, epoch %d", grant.epoch)
        return None

    async def give_up(self, why: str) -> None:
        """Lets the lease go, and others try."""
        self._trouble(why)
        grant = self._tenure.give_up()
        self._become(Role.REPLICA)
        self._not_before_s = self._settings.clock() + BACK_OFF_S
        await self.fence(None)
        if grant is not None:
            await self._lease.release(grant)

    async def fence(self, primary: str | None) -> None:
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
                self._telling.all(is_primary=False, epoch=self.standing.epoch)
            self._has_changed()

    def _has_changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def _name(self) -> str:
        return "" if self._cluster is None else self._cluster.name
