"""Joining: before its first fold a node waits for its peers' heads, and asks whether they know more of its site than
its own database does. Then the database is an older state of itself, and goes on under a new site."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping

from replication.convergent.engine_work import EngineWork
from replication.convergent.exchange import Exchange
from replication.convergent.members import Members
from replication.convergent.messages import Heads
from replication.convergent.status import Tally
from replication.convergent.store import View

log = logging.getLogger(__name__)


class Joining:
    """See the module. `spoken` is set when a peer said what it has, or went; `done` when this node has joined.

    `timeout_s`: how long peers are waited for; None if nobody is looked for."""

    def __init__(
        self, work: EngineWork, exchange: Exchange, members: Members, *, tally: Tally, timeout_s: float | None
    ) -> None:
        self.spoken = asyncio.Event()
        self.done = asyncio.Event()
        self._work = work
        self._exchange = exchange
        self._members = members
        self._tally = tally
        self._timeout_s = timeout_s

    async def step(self) -> None:
        """Waits until each member has said what it knows, or the time is over. Ends when that is done, once."""
        if self.done.is_set():
            await asyncio.Event().wait()
        if self._timeout_s is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeout_s):
                    while not self._members.have_all_spoken(self._work.view()):
                        self.spoken.clear()
                        await self.spoken.wait()
        await self._work.look()  # a former try may have got as far as a new site
        reason = older_than_peers_know(self._work.view(), self._exchange.heads())
        if reason:
            self._tally.new_sites += 1
            former = self._work.view().site
            await self._work.do(lambda store: store.adopt_new_site(), rests_on_state=True)
            log.warning("%s: this database is an older state of itself, and goes on under a new site", reason)
            log.info("the site was %s and is %s", former, self._work.view().site)
        self.done.set()
        log.info("joined as site %s, %d sites known", self._work.view().site, len(self._work.view().vector))


def older_than_peers_know(view: View, peers: Mapping[str, Heads]) -> str:
    """What shows that this database is an older state of itself; "" if nothing does. Pure.

    Merged or only held: a peer that has a changeset of this site that this database has not written has it from a later
    state of it, and what is written here now must not be stamped as if that had never been."""
    if view.site in view.closed:
        return ""  # set aside: it will get a new one
    own = view.vector.get(view.site)
    for peer, heads in peers.items():
        known = heads.vector.get(view.site)
        if known is not None and (own is None or known.stamp > own.stamp):
            return f"{peer} has more of site {view.site} than this database has written"
        if known is not None and own is not None and known.stamp == own.stamp and known.digest != own.digest:
            return f"{peer} has another history of site {view.site}"
        if any(site == view.site and (own is None or stamp > own.stamp) for site, stamp in heads.held):
            return f"{peer} holds changesets of site {view.site} that this database has not written"
        if view.site in heads.closed:
            return f"{peer} closed site {view.site}"
    return ""
