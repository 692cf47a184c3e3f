"""Noticing that somebody else committed: another process, or another connection of this one.

The kernel says when the write-ahead log was written to (inotify, Linux). Whether that was a commit SQLite says: its
`data_version` as a connection of the event loop's own sees it, which costs some microseconds and no thread. The kernel
may be early, so for 20 ms after it spoke SQLite is asked a few times; and everywhere, as a safety net, twice a second.
Where there is no inotify it is asked two hundred times a second, which costs about a hundredth of a core."""

import asyncio
import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from asyncinotify import Inotify

AFTERWARDS_S: Final = (0.002, 0.005, 0.010, 0.020)
"""When to look again after the kernel spoke and no commit could be seen yet. One was seen late 3 times in 200."""
SLOW_POLL_S: Final = 0.5
FAST_POLL_S: Final = 0.005
_EVENTS_BYTES: Final = 64 * 1024


class Watch(Protocol):
    """Calls `noticed`, in the event loop, whenever somebody may have committed, until it is cancelled."""

    async def __call__(self, noticed: Callable[[], None], /) -> None: ...


class WalWatch:
    """Watches a database file in WAL mode, which is there while this runs."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._wal = database.with_name(f"{database.name}-wal")

    async def __call__(self, noticed: Callable[[], None], /) -> None:
        """See `Watch`. Raises sqlite3.Error if the database cannot be opened."""
        connection = sqlite3.connect(self._database, isolation_level=None, timeout=0)
        with contextlib.closing(connection):
            look = _Look(connection, noticed)
            if sys.platform == "linux":
                from asyncinotify import Inotify  # here: it looks for the C library, by a process of its own

                with contextlib.suppress(OSError), Inotify() as inotify:  # the user's limit of instances
                    await self._watch(inotify, look)
            while True:
                await asyncio.sleep(FAST_POLL_S)
                look.now()

    async def _watch(self, inotify: "Inotify", look: "_Look") -> None:
        """Raises OSError if the file cannot be watched: the limit of watches, a file system that has none."""
        from asyncinotify import Mask

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(inotify.fd, _EVENTS_BYTES)  # which event it is does not matter: all are of the one file
            look.now_and_a_few_times()

        loop = asyncio.get_running_loop()
        loop.add_reader(inotify.fd, readable)
        try:
            while True:
                with contextlib.suppress(FileNotFoundError):
                    # Again each time: the file may have been deleted and made anew. For the same file it does nothing.
                    inotify.add_watch(self._wal, Mask.MODIFY)
                await asyncio.sleep(SLOW_POLL_S)
                look.now()
        finally:
            loop.remove_reader(inotify.fd)
            look.stop()


class _Look:
    """Asks SQLite whether anybody has committed, now or a little later as well."""

    def __init__(self, connection: sqlite3.Connection, noticed: Callable[[], None]) -> None:
        self._connection = connection
        self._noticed = noticed
        self._version = -1
        self._later: list[asyncio.TimerHandle] = []

    def now(self) -> bool:
        """True if somebody has."""
        try:
            (version,) = self._connection.execute("PRAGMA main.data_version").fetchone()
        except sqlite3.OperationalError:  # locked for a moment, by recovery or by a change of the journal mode
            return False
        if version == self._version:
            return False
        self._version = version
        self._noticed()
        return True

    def now_and_a_few_times(self) -> None:
        """Now, and if nothing can be seen yet some more times soon."""
        self.stop()
        if not self.now():
            loop = asyncio.get_running_loop()
            self._later = [loop.call_later(pause_s, self.now) for pause_s in AFTERWARDS_S]

    def stop(self) -> None:
        """Not again."""
        for handle in self._later:
            handle.cancel()
        self._later = []
