"""Answers that take a while: work that goes on after the question was heard, and is fetched part by part.

An actor answers one call after the other, so it must not wait for a scan of a large table. It waits a moment, in which
most work is done, and else says that it is working; the asker comes again. Who does not come again is forgotten after
a while, and so is what was made for it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final

from replication.measuring.questions import ERROR_MAX

JOBS_MAX: Final = 64
"""So many answers are kept or worked on: an asker has one or two, and there are few askers."""
KEPT_S: Final = 30.0
MOMENT_S: Final = 0.2


class TooManyJobs(Exception):
    """So much is asked at once that this one has to be asked later."""

    def __init__(self) -> None:
        super().__init__("this node is asked too much at once; ask again later")


@dataclass(slots=True)
class _Job:
    task: asyncio.Task[Sequence[object]]
    until_s: float


class Jobs:
    """The work of one node. Belongs to one event loop."""

    def __init__(self, *, moment_s: float = MOMENT_S, kept_s: float = KEPT_S) -> None:
        self._moment_s = moment_s
        self._kept_s = kept_s
        self._jobs: dict[int, _Job] = {}
        self._last_ref = 0

    def begin(self, work: Awaitable[Sequence[object]]) -> int:
        """Begins to work, on what comes in these parts, and gives the reference to it. Raises TooManyJobs."""
        self._forget_old()
        if len(self._jobs) >= JOBS_MAX:
            if asyncio.iscoroutine(work):
                work.close()
            raise TooManyJobs
        self._last_ref += 1
        task = asyncio.ensure_future(work)
        self._jobs[self._last_ref] = _Job(task=task, until_s=self._now_s() + self._kept_s)
        return self._last_ref

    async def part(self, ref: int, number: int) -> list[object]:
        """The answer to who asks for this part. Never raises for what is the asker's or the database's fault."""
        job = self._jobs.get(ref)
        if job is None:
            return error("nothing is known of this question any more; ask anew")
        job.until_s = self._now_s() + self._kept_s
        await asyncio.wait({job.task}, timeout=self._moment_s)
        if not job.task.done():
            return ["working", ref]
        try:
            parts = job.task.result()
        except asyncio.CancelledError:
            del self._jobs[ref]
            return error("this node is stopping")
        except Exception as exc:
            del self._jobs[ref]
            return error(str(exc) or type(exc).__name__)
        if not 0 <= number < len(parts):
            return error(f"there are {len(parts)} parts")
        if number == len(parts) - 1:
            del self._jobs[ref]
        return ["part", ref, number, len(parts), parts[number]]

    async def close(self) -> None:
        """Ends all work."""
        jobs, self._jobs = self._jobs, {}
        for job in jobs.values():
            job.task.cancel()
        for job in jobs.values():
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await job.task

    def _forget_old(self) -> None:
        now_s = self._now_s()
        for ref, job in list(self._jobs.items()):
            if job.until_s < now_s:
                del self._jobs[ref]
                job.task.cancel()
                job.task.add_done_callback(_look_at)

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def error(text: str) -> list[object]:
    """An answer that is none."""
    return ["error", text[:ERROR_MAX]]


def _look_at(task: asyncio.Task[Sequence[object]]) -> None:
    """Nobody will: asyncio would complain."""
    if not task.cancelled():
        task.exception()
