"""Asking again and again, as methods do that are not told of changes; and saying why it failed, but not each time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from cluster.address import Address
from cluster.discovery.interface import Found

JITTER = 0.2  # of the interval, both ways: nodes that started together do not go on asking together
REPEAT_S = 60.0  # how often one and the same reason is logged while it lasts


class NoNews(Exception):
    """An answer that names nobody, or none at all. The text is the reason, for the log."""


class Failures:
    """Counts failures, and logs each reason when it is new and once a minute while it lasts.

    Give it the times of one monotonic clock, in seconds. `count` is called at each failure, logged or not.
    """

    def __init__(self, log: logging.Logger, count: Callable[[], None]) -> None:
        self._log = log
        self._count = count
        self._logged_at: dict[str, float] = {}
        self._in_a_row = 0

    def failed(self, reason: str, now_s: float) -> None:
        """Take note of one failure."""
        self._count()
        self._in_a_row += 1
        self._logged_at = {seen: at for seen, at in self._logged_at.items() if now_s - at < REPEAT_S}
        if reason not in self._logged_at:
            self._logged_at[reason] = now_s
            self._log.warning("discovery found nobody: %s (%d in a row; it goes on asking)", reason, self._in_a_row)

    def worked(self) -> None:
        """Take note that an answer came."""
        if self._in_a_row:
            self._log.info("discovery works again, after %d failures", self._in_a_row)
        self._in_a_row = 0
        self._logged_at.clear()


async def poll(
    ask: Callable[[], Awaitable[Sequence[Address]]],
    found: Found,
    failures: Failures,
    *,
    interval_s: float,
    random: Random,
) -> None:
    """Call `ask` at once and then every `interval_s` seconds, give or take a fifth, and pass on what it brings.

    Runs until cancelled. `ask` raises NoNews when there is none; anything else that it raises comes out of here.
    """
    loop = asyncio.get_running_loop()
    while True:
        try:
            candidates = await ask()
        except NoNews as reason:
            failures.failed(str(reason), loop.time())
        else:
            failures.worked()
            found(candidates)
        await asyncio.sleep(interval_s * random.uniform(1 - JITTER, 1 + JITTER))
