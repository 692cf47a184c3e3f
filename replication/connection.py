"""aiosqlite's connection, with a way to run a whole function on it in one hop.

An aiosqlite call is a hop to its thread and back: about 50 us here, where the statement itself takes 5 to 10. A
transaction of BEGIN, SELECT, UPDATE, COMMIT through its API is four or more of them, holds SQLite's write lock across
all, and can be cut in the middle by a cancelled task. So whatever belongs together is one function that runs in that
thread from beginning to end.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, cast

import aiosqlite

_CHUNK_ROWS = 64  # aiosqlite's own default, for its cursors: none is used here


class OneHopConnection(aiosqlite.Connection):
    """An aiosqlite connection (a thread of its own) that runs whole functions."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, iter_chunk_size=_CHUNK_ROWS)
        self._stopped: asyncio.Future[Any] | None = None

    async def run[T](self, function: Callable[[sqlite3.Connection], T]) -> T:
        """What `function` returns, called with the sqlite3 connection in its thread; what it raises is raised here.

        Functions run one after another, in the order of the calls. When the awaiting task is cancelled, the function
        runs all the same: never conclude that nothing was written. Raises ValueError if the connection is closed.
        """
        return cast(T, await self._execute(_awaitable(function), self._conn))  # type: ignore[no-untyped-call]

    async def open(self) -> None:
        """Starts the thread and makes the connection. Raises what the connector raises."""
        _ = await self

    def stop(self) -> asyncio.Future[Any] | None:
        """Ends the thread, as aiosqlite does by itself when the connection cannot be made."""
        self._stopped = super().stop()
        return self._stopped

    async def close_and_wait(self) -> None:
        """Closes, after every function that was begun, and returns when the thread has nothing left to do.

        Also where connecting failed, or was never tried. A thread that outlived its event loop would have nobody to
        answer to, and print a traceback.
        """
        await self.close()
        if self._stopped is not None:
            await self._stopped


def _awaitable[T](function: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """`function`, without the one error that no future takes: before Python 3.13 its caller would wait for ever."""

    def run(connection: sqlite3.Connection) -> T:
        try:
            return function(connection)
        except StopIteration as error:
            raise RuntimeError("a function for the database's thread raised StopIteration") from error

    return run
