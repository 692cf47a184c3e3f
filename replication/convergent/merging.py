"""Merging: what peers cast, or were asked for, is merged in batches, each after what it depends on."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from replication.convergent.broken import Broken
from replication.convergent.engine_work import EngineWork
from replication.convergent.exchange import Exchange
from replication.convergent.inbox import Arrived, Inbox
from replication.convergent.status import Tally
from replication.convergent.tails import Tails
from replication.engine.applying import Closed, Deposed, Fork, Merged, Over, Refused, Repeat, TooEarly, Waits
from replication.engine.changesets import digest, header
from replication.engine.epochs import epoch_of
from replication.engine.stamps import Site, Stamp


class Here(Protocol):
    """What merging needs of the node's replication."""

    def stamps(self) -> dict[Site, Stamp]:
        """How far each site is merged."""
        ...

    def before_ms(self) -> int:
        """Stamps from this millisecond on are too far ahead."""
        ...

    def has_something_lacking(self) -> None:
        """There is something to be asked for."""
        ...

    def is_closed_at(self, peer: str, site: Site) -> None:
        """What a peer sent of a site is of an old history: the site is closed there."""
        ...

    def is_forked(self, site: Site, reason: str) -> None:
        """Two histories of a site are about."""
        ...

    def warn_seldom(self, key: str, text: str) -> None:
        """Logs it, unless it was lately."""
        ...


class Merging:
    """See the module. `arrived` is set when something may be there to be merged."""

    def __init__(
        self, here: Here, work: EngineWork, inbox: Inbox, exchange: Exchange, *, tally: Tally, tails: Tails
    ) -> None:
        self.arrived = asyncio.Event()
        self._here = here
        self._work = work
        self._inbox = inbox
        self._exchange = exchange
        self._tally = tally
        self._tails = tails
        self._settled = asyncio.Event()

    def take_in(self, peer: str, encoded: bytes, *, asked_for: bool) -> None:
        """A changeset came: it is merged when its turn comes. Raises ChangesetError."""
        arrived = Arrived(
            peer=peer,
            header=header(encoded),
            encoded=encoded,
            digest=digest(encoded),
            at_s=asyncio.get_running_loop().time(),
        )
        if self._inbox.put(arrived, asked_for=asked_for):
            self.arrived.set()
        else:
            self._tally.inbox_full += 1

    async def settle(self) -> None:
        """Waits until all that can be merged is."""
        self._settled.clear()
        self.arrived.set()
        await self._settled.wait()

    async def step(self) -> None:
        """Waits until something came, and merges all that can be merged. Raises sqlite3.Error, OSError."""
        await self.arrived.wait()
        self.arrived.clear()
        while batch := self._next_batch():
            await self._merge(batch)
        self._settled.set()
        if self._inbox.count:
            self._here.has_something_lacking()

    def _next_batch(self) -> list[Arrived]:
        view = self._work.view()
        if view.is_resetting:
            return []
        return self._inbox.batch(
            self._here.stamps(), own=view.site, closed=frozenset(view.closed), before_ms=self._here.before_ms()
        )

    async def _merge(self, batch: Sequence[Arrived]) -> None:
        done = await self._work.do(
            lambda store: store.merge([arrived.encoded for arrived in batch]), rests_on_state=False
        )
        for arrived, outcome in zip(batch, done.outcomes, strict=True):
            self._inbox.drop(arrived)
            match outcome:
                case Merged():
                    self._tally.merged += 1
                    self._tally.merged_rows += outcome.rows
                    self._tally.held += outcome.held
                    self._tally.dropped_columns += outcome.dropped
                    self._tally.collisions += outcome.collisions
                case Repeat():
                    self._tally.repeats += 1
                case Waits():
                    self._inbox.put(arrived, asked_for=True)  # the forecast was wrong
                case TooEarly():
                    self._tally.too_early += 1
                    self._inbox.put(arrived, asked_for=True)
                case Fork(site=site, is_old=True):
                    self._here.is_closed_at(arrived.peer, site)
                case Fork(site=site, reason=reason):
                    self._here.is_forked(site, f"{arrived.peer} sent a changeset of another history: {reason}")
                case Closed():
                    pass
                case Over(site=site):
                    self._refuse(arrived, outcome, f"epoch {epoch_of(site)} is over: it is a tail of its node's")
                case Deposed(tail=tail):
                    self._tails.found(tail)
                case Refused(reason=reason) | Broken(reason=reason):
                    self._refuse(arrived, outcome, reason)

    def _refuse(self, arrived: Arrived, outcome: Refused | Broken | Over, reason: str) -> None:
        if not isinstance(outcome, Broken):
            self._tally.refused += 1
        else:
            self._tally.broken += 1
        self._exchange.refuse(arrived.header.site, arrived.header.upto)
        self._here.warn_seldom(
            f"refused {arrived.header.site}",
            f"a changeset of site {arrived.header.site} from {arrived.peer} is not merged: {reason}",
        )
