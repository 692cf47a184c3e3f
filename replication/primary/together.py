"""Writes that came at about the same time, carried out in one transaction: they share what a commit costs.

Each is carried out apart, so that one that fails leaves nothing and harms no other. Where the transaction itself fails,
with nothing written (SQLite rolled all of it back, or the commit was refused for what one of them left), each has one
of its own. They are carried out in the order in which they came, and a lone one waits for nobody."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from replication.errors import ReplicationError
from replication.primary.operations import NotNow
from replication.transaction import Transaction, Written

TOGETHER_MAX: Final = 200
TOGETHER_S: Final = 0.05
"""After so long no further one is begun in a transaction: others wait for the write lock."""

type Work = Callable[[Transaction], Any]
type Transact = Callable[[Work], Awaitable[Written[Any]]]


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    work: Work
    done: asyncio.Future[Written[Any]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class Together:
    """`transact` is `Repo.transact_here`. `clock`: seconds, of any beginning."""

    def __init__(self, transact: Transact, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._transact = transact
        self._clock = clock
        self._waiting: deque[_Asked] = deque()
        self._running: asyncio.Task[None] | None = None

    async def transact(self, work: Work) -> Written[Any]:
        """What `work` returns, with the position of its transaction. Raises what it raises, and what `Repo.transaction`
        does. It is carried out although who waits for it is cancelled."""
        asked = _Asked(work)
        self._waiting.append(asked)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._carry_out(), name="writes carried out together")
        return await asked.done

    async def _carry_out(self) -> None:
        some: list[_Asked] = []
        try:
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(TOGETHER_MAX, len(self._waiting)))]
                answered = await self._in_one(some)
                self._waiting.extendleft(reversed(some[answered:]))
        finally:  # cancelled: whoever waits is told
            for one in (*some, *self._waiting):
                one.done.cancel()

    async def _in_one(self, some: list[_Asked]) -> int:
        """How many of them are answered: carried out, or refused."""
        if len(some) == 1:
            await self._alone(some[0])
            return 1
        try:
            written = await self._transact(lambda transaction: _each(transaction, some, self._clock))
        except NotNow as error:
            for one in some:
                _tell(one, error)
        except Exception as error:
            if isinstance(error, ReplicationError) and error.outcome_unknown:
                for one in some:
                    _tell(one, error)
            else:
                for one in some:
                    await self._alone(one)
        else:
            for one, result in zip(some, written.result, strict=False):
                _tell(one, result.error if isinstance(result, _Failed) else Written(result, written.position))
            return len(written.result)
        return len(some)

    async def _alone(self, one: _Asked) -> None:
        try:
            _tell(one, await self._transact(one.work))
        except Exception as error:
            _tell(one, error)


def _each(transaction: Transaction, some: list[_Asked], clock: Callable[[], float]) -> list[Any]:
    """What each returned, or how it failed, as far as there was time. Raises what ended the whole transaction."""
    found: list[Any] = []
    began_s = clock()
    for one in some:
        try:
            found.append(transaction.apart(one.work))
        except Exception as error:
            if transaction.is_over():
                raise
            found.append(_Failed(error))
        if clock() - began_s > TOGETHER_S:
            break
    return found


def _tell(one: _Asked, what: Written[Any] | Exception) -> None:
    if one.done.done():
        return
    if isinstance(what, Exception):
        one.done.set_exception(what)
    else:
        one.done.set_result(what)
