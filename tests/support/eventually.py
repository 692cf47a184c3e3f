"""Waiting for what must come true, with a deadline instead of a guessed pause."""

import asyncio
from collections.abc import Callable

WITHIN_S = 10.0  # generous: it is only ever waited out by a test that fails
_LOOK_EVERY_S = 0.005


async def eventually(condition: Callable[[], object], within_s: float = WITHIN_S, *, why: object = None) -> None:
    """Return as soon as `condition()` is true; AssertionError with `why` (called, if it can be) at the deadline."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + within_s
    while not condition():
        if loop.time() > deadline_s:
            told = why() if callable(why) else why
            raise AssertionError(f"not true within {within_s:g} s: {told}")
        await asyncio.sleep(_LOOK_EVERY_S)


async def turns(count: int = 5) -> None:
    """Let the event loop go round: everything that was ready runs, and what that made ready."""
    for _ in range(count):
        await asyncio.sleep(0)
