"""Ending tasks that were begun to run until they are told to stop."""

import asyncio
from collections.abc import Collection


async def ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancels them, and returns once all are over, however they ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
