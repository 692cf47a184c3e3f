"""Since when all nodes have the counts that they must have."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from app.demo.results import is_exact
from app.demo.traffic import Outcome

LOOK_INTERVAL_S = 0.005


class Reads(Protocol):
    """What the nodes' files say, as `CountReader` does."""

    def read(self, page: str) -> Mapping[str, int] | None: ...


class Tallies(Protocol):
    """What the visitors were answered, as `Traffic` does."""

    def tally(self, page: str, outcome: Outcome = Outcome.COUNTED) -> int: ...


class Settling:
    """Looks at the counts of some pages in the nodes' files, and compares them with what was answered so far.

    `moved_s` is when they changed last, `exact_since_s` since when all of them are as they must be, None if they are
    not; both as `monotonic` has it.
    """

    def __init__(
        self,
        reader: Reads,
        traffic: Tallies,
        pages: Sequence[str],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.moved_s = monotonic()
        self.exact_since_s: float | None = None
        self._counts: list[Mapping[str, int]] = []
        self._reader = reader
        self._traffic = traffic
        self._pages = pages
        self._monotonic = monotonic

    def look(self) -> bool:
        """Whether all counts are as they must be now; if a file cannot be read just now, whether they were before."""
        counts = [said for page in self._pages if (said := self._reader.read(page)) is not None]
        if len(counts) == len(self._pages):
            self._compare(counts, self._monotonic())
        return self.exact_since_s is not None

    def _compare(self, counts: list[Mapping[str, int]], now_s: float) -> None:
        if counts != self._counts:
            self._counts, self.moved_s = counts, now_s
        if not all(self._is_exact(page, said) for page, said in zip(self._pages, counts, strict=True)):
            self.exact_since_s = None
        elif self.exact_since_s is None:
            self.exact_since_s = now_s

    def _is_exact(self, page: str, counts: Mapping[str, int]) -> bool:
        return is_exact(counts, self._traffic.tally(page), self._traffic.tally(page, Outcome.UNKNOWN))


@asynccontextmanager
async def looking(settling: Settling) -> AsyncIterator[Settling]:
    """Looks all the time inside the block."""

    async def look() -> None:
        while True:
            settling.look()
            await asyncio.sleep(LOOK_INTERVAL_S)

    task = asyncio.create_task(look(), name="demo settling")
    try:
        yield settling
    finally:
        task.cancel()
        await asyncio.wait({task})
