"""What a clock far ahead has stamped, and nobody has merged, is stamped again when the clock is right."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from replication.convergent.clocks import tips_of_all
from replication.convergent.exchange import Exchange
from replication.convergent.own_clock import OwnClock
from replication.convergent.status import Tally
from replication.convergent.store import Done, Store, View

log = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
AHEAD_PAUSE_S: Final = 10.0
"""So long is nothing stamped again after it was: a clock that goes on jumping must not close site after site."""


class Here(Protocol):
    """What this needs of the node's replication."""

    tally: Tally

    def view(self) -> View:
        """How the database is now."""
        ...

    def has_everybody_spoken(self) -> bool:
        """Whether each member has said what it has."""
        ...

    def is_being_fetched(self) -> bool:
        """Whether a peer fetches this node's state now."""
        ...

    async def work(self, step: Callable[[Store], Done]) -> Done:
        """Has the engine do something."""
        ...


class StampingAgain:
    """See the module."""

    def __init__(self, here: Here, exchange: Exchange, clock: OwnClock) -> None:
        self._here = here
        self._exchange = exchange
        self._clock = clock
        self._not_before_s = 0.0

    async def step(self) -> None:
        """Sets the own site aside if it was stamped far ahead, and cuts it when everybody has said what is merged."""
        await asyncio.sleep(LOOK_EVERY_S)
        here, now_s = self._here, asyncio.get_running_loop().time()
        view = here.view()
        if view.epoch is not None or not here.has_everybody_spoken():
            return  # where one node writes at a time, what it stamped is in order, whatever its clock said
        if view.site in view.closed:
            tips = tips_of_all(view.site, self._exchange.heads())
            if tips is None:
                return
            done = await here.work(lambda store: store.stamp_again(tips))
            here.tally.stamped_again += 1
            self._not_before_s = now_s + AHEAD_PAUSE_S
            log.warning("stamped again, under the new site %s: %d rows", done.view.site, done.rows)
        elif now_s >= self._not_before_s and self._clock.is_ahead(view) and not here.is_being_fetched():
            log.warning("this database was stamped by a clock far ahead: what is not merged elsewhere is stamped again")
            await here.work(lambda store: store.set_aside())
