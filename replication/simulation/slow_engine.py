"""An engine that takes its time: functions run inline, one after another, each some virtual time after it was asked."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

QUICK_S: Final = 0.0005
STALL_S: Final = 0.3


class SlowEngine:
    """As a thread of its own would be: whoever stops waiting changes nothing, and what was asked for is done.

    Between two functions, and between the end of one and what its caller does next, others get their turn; that is
    where a crash finds things half done. `slow_s` is added to each while the disk, or the machine, is slow."""

    def __init__(self, random: Random, *, stalls: float) -> None:
        self.slow_s = 0.0
        self._random = random
        self._stalls = stalls
        self._told_s = 0.0
        self._queue: deque[Callable[[], None]] = deque()

    async def run[T](self, function: Callable[[], T]) -> T:
        """What the function returns or raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def turn() -> None:
            try:
                result = function()
            except Exception as error:
                tell: Callable[[], None] = partial(done.set_exception, error)
            else:
                tell = partial(done.set_result, result)
            # In the order of the calls, as a thread's results come.
            self._told_s = max(loop.time() + self._takes_s(), self._told_s)
            loop.call_at(self._told_s, lambda: None if done.done() else tell())

        self._queue.append(turn)
        if len(self._queue) == 1:
            loop.call_later(self._takes_s(), self._next)
        return await done

    def _next(self) -> None:
        self._queue[0]()
        self._queue.popleft()
        if self._queue:
            asyncio.get_running_loop().call_later(self._takes_s(), self._next)

    def _takes_s(self) -> float:
        random = self._random
        if random.random() < self._stalls:
            return STALL_S * random.random() + self.slow_s
        return QUICK_S * random.random() + self.slow_s

    async def close(self) -> None:
        """Waits for what was begun."""
        await self.run(lambda: None)
