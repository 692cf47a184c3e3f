"""Noticing that somebody else committed: another process, or another connection of this one.

The kernel says when the write-ahead log was written to (inotify, Linux); it may say so before the commit can be seen,
so for 20 ms after that the database is asked a few times. Everywhere, and as a safety net, it is asked twice a second;
where there is no inotify, forty times a second, which costs about a thousandth of a core."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from asyncinotify import Inotify

AFTERWARDS_S: Final = (0.002, 0.003, 0.005, 0.010)
"""When to look again after a notification whose commit could not be seen yet. A commit was seen late 3 times in 200."""
SLOW_POLL_S: Final = 0.5
FAST_POLL_S: Final = 0.025
_EVENTS_BYTES: Final = 64 * 1024


class Watch(Protocol):
    """Calls `noticed`, in the event loop, whenever somebody may have committed, until it is cancelled."""

    async def __call__(self, noticed: Callable[[], None], /) -> None: ...


class WalWatch:
    """Watches the log of a database file. The file is there, and open, while this runs."""

    def __init__(self, database: Path) -> None:
        self._wal = database.with_name(f"{database.name}-wal")

    async def __call__(self, noticed: Callable[[], None], /) -> None:
        """See `Watch`."""
        if sys.platform == "linux":
            from asyncinotify import Inotify  # here: it looks for the C library, by a process of its own

            with contextlib.suppress(OSError), Inotify() as inotify:  # the user's limit of instances
                await self._watch(inotify, noticed)
        while True:
            await asyncio.sleep(FAST_POLL_S)
            noticed()

    async def _watch(self, inotify: "Inotify", noticed: Callable[[], None]) -> None:
        """Raises OSError if the file cannot be watched: the limit of watches, a file system that has none."""

        from asyncinotify import Mask

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(inotify.fd, _EVENTS_BYTES)  # which event it is does not matter: all are of the one file
            noticed()

        loop = asyncio.get_running_loop()
        loop.add_reader(inotify.fd, readable)
        try:
            while True:
                with contextlib.suppress(FileNotFoundError):
                    # Again each time: the file may have been deleted and made anew. For the same file it does nothing.
                    inotify.add_watch(self._wal, Mask.MODIFY)
                await asyncio.sleep(SLOW_POLL_S)
                noticed()
        finally:
            loop.remove_reader(inotify.fd)


async def nobody_else(_noticed: Callable[[], None], /) -> None:
    """A `Watch` for where nobody else commits: whoever does says so."""
    await asyncio.Event().wait()
