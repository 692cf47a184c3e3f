"""One piece of work for all who want its result, one at a time.

Who asks gets the result of the round that begins after the question, so that it shows what was done before. Those who
ask while a round is under way share the next one. However many ask, there is never more than one round at a time, and
none while nobody asks."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Rounds[T]:
    """`work` is what a round does. Belongs to one event loop."""

    def __init__(self, work: Callable[[], Awaitable[T]], *, name: str) -> None:
        self._work = work
        self._name = name
        self._next: asyncio.Future[T] | None = None
        self._running: asyncio.Task[None] | None = None

    async def result(self) -> T:
        """Of the next round. Raises what it raised. Cancelling one caller leaves the others undisturbed."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._run(), name=self._name)
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Ends a round that is under way; those who wait for it are cancelled."""
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    async def _run(self) -> None:
        while (waiting := self._next) is not None:
            self._next = None
            try:
                result = await self._work()
            except asyncio.CancelledError:
                waiting.cancel()
                if self._next is not None:
                    self._next.cancel()
                    self._next = None
                raise
            except Exception as exc:
                waiting.set_exception(exc)
                waiting.exception()  # all who waited may have been cancelled; then nobody is to be told
            else:
                waiting.set_result(result)
