"""Steps that are done for ever: what fails is noted as a problem of the node's, and tried again."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Final

from replication.convergent.status import Tally
from replication.errors import ReplicationError

log = logging.getLogger(__name__)

RETRY_FIRST_S: Final = 0.1
RETRY_MAX_S: Final = 5.0


class Trying:
    """See the module. `is_over`: whether nothing is to be done any more."""

    def __init__(self, tally: Tally, is_over: Callable[[], bool]) -> None:
        self._problems: dict[str, str] = {}
        self._tally = tally
        self._is_over = is_over

    def problems(self) -> list[str]:
        """Why something stands still now, for people."""
        return list(self._problems.values())

    async def keep_doing(self, what: str, step: Callable[[], Awaitable[None]], again: asyncio.Event) -> None:
        """Does `step` until it is over. When it failed, `again` is set, and it is tried a little later each time."""
        delay_s = RETRY_FIRST_S
        while not self._is_over():
            try:
                await step()
                if self._problems.pop(what, None) is not None:
                    log.info("%s goes on", what)
                delay_s = RETRY_FIRST_S
                continue
            except (sqlite3.Error, OSError, ReplicationError) as error:
                self._note(what, f"{what} stands still: {error}")
            except Exception as error:
                self._note(what, f"{what} stands still: {type(error).__name__}: {error}")
                log.exception("%s failed in a way nobody thought of; it is tried again", what)
            again.set()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, RETRY_MAX_S)

    def _note(self, what: str, problem: str) -> None:
        self._tally.problems += 1
        if self._problems.get(what) != problem:
            log.warning("%s; trying again", problem)
        self._problems[what] = problem
