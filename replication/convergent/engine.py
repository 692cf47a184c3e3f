"""Where functions on the database run: one thread a connection, so that a slow disk stops nobody but itself.

The simulator runs them inline. Either way they run one after another, in the order of the calls, and whole: cancelling
who waits for one changes nothing."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol


class Engine(Protocol):
    """Runs plain functions one after another."""

    async def run[T](self, function: Callable[[], T]) -> T:
        """What the function returns or raises."""
        ...

    async def close(self) -> None:
        """Waits for what was begun."""
        ...


class ThreadEngine:
    """In a thread of its own."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run[T](self, function: Callable[[], T]) -> T:
        """What the function returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)

    async def close(self) -> None:
        """Waits for what was begun."""
        with contextlib.suppress(RuntimeError):  # closed before
            await asyncio.get_running_loop().run_in_executor(self._executor, lambda: None)
        self._executor.shutdown(wait=True)
