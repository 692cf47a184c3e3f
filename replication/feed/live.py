"""A query whose rows are given again whenever they are others.

SQLite tells that somebody committed, another process or this one, but not to which table; and what a query reads may be
a view, a virtual table, or a table that is not attached. So nothing is guessed: after a commit the query is run again,
and its rows are given if they are not those that were given last. That holds in every mode, and for every query.

What it costs is bounded. Commits that come while the query runs, or soon after, are answered by one run; a run that
took long is followed by a pause ten times as long. While nobody commits nothing is done, and while nobody looks at a
live query nothing is watched."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from replication.convergent.noticing import Watch
from replication.engine.values import pack
from replication.rows import Row
from replication.translation import SQLITE_ERRORS, translated

PAUSE_S: Final = 0.02
"""Between two runs at least."""
COST_SHARE: Final = 10
"""A query takes one part in so many of the time of the thread that runs it."""


class Commits:
    """Tells of commits to the database at `path`, while anybody wants to know, as `watch` notices them."""

    def __init__(self, watch: Watch, path: Path) -> None:
        self._watch = watch
        self._path = path
        self._task: asyncio.Task[None] | None = None
        self._watchers = 0
        self._next = asyncio.Event()

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Commits are noticed inside the block."""
        self._watchers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._watch(self._noticed), name="watching commits")
            self._task.add_done_callback(lambda _: self._noticed())
        try:
            yield
        finally:
            self._watchers -= 1
            if self._watchers == 0:
                await self.close()

    @property
    def next_commit(self) -> asyncio.Event:
        """Is set when somebody commits from now on, or when watching ends."""
        return self._next

    def check(self) -> None:
        """Raises a DatabaseError if something keeps commits from being noticed."""
        if self._task is not None and self._task.done() and not self._task.cancelled():
            try:
                self._task.result()
            except SQLITE_ERRORS as error:
                raise translated(error, path=self._path, busy_timeout_s=0) from error

    async def close(self) -> None:
        """Ends watching, and wakes all who wait."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _noticed(self) -> None:
        noticed, self._next = self._next, asyncio.Event()
        noticed.set()


async def live(query: Callable[[], Awaitable[Sequence[Row]]], commits: Commits) -> AsyncGenerator[list[Row]]:
    """The query's rows, and again whenever they are others. Raises what the query raises."""
    loop = asyncio.get_running_loop()
    given: bytes | None = None
    async with commits.watching():
        while True:
            commit = commits.next_commit
            began_s = loop.time()
            rows = await query()
            ended_s = loop.time()
            found = _digest(rows)
            if found != given:
                given = found
                yield list(rows)
            await commit.wait()
            commits.check()
            rest_s = ended_s + max(PAUSE_S, COST_SHARE * (ended_s - began_s)) - loop.time()
            if rest_s > 0:
                await asyncio.sleep(rest_s)


def _digest(rows: Sequence[Row]) -> bytes:
    """What rows are compared by: they are not kept, and whoever was given them may change them."""
    names = tuple(rows[0]) if rows else ()
    return hashlib.blake2b(pack((names, [tuple(row.values()) for row in rows])), digest_size=16).digest()
