"""What each node's own SQLite file says: now, over time, and once it says the same for a while.

The files are opened read-only by this process, which is another than the nodes': nothing of theirs is disturbed.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from app.demo.errors import DemoError
from app.demo.results import Mark, Sample

SAMPLE_INTERVAL_S = 0.02
BUSY_TIMEOUT_S = 0.05  # short: it is waited on the event loop
READ_WITHIN_S = 5.0
_COUNT = "SELECT count FROM page_counts WHERE page = ?"


class CountReader:
    """Reads counts from the files. Connections are opened at the first read and kept until `close`."""

    def __init__(self, databases: Mapping[str, Path]) -> None:
        self._databases = dict(databases)
        self._connections: dict[str, sqlite3.Connection] = {}

    def read(self, page: str) -> dict[str, int] | None:
        """The count of `page` in each node's file, 0 where there is none; None if a file cannot be read just now."""
        try:
            return {node: self._count(node, page) for node in self._databases}
        except sqlite3.OperationalError:
            return None

    async def wait_and_read(self, page: str) -> dict[str, int]:
        """As `read`, but waits for a file that is busy. Raises DemoError if that lasts."""
        deadline = time.monotonic() + READ_WITHIN_S
        while (counts := self.read(page)) is None:
            if time.monotonic() >= deadline:
                raise DemoError(f"the nodes' databases could not be read within {READ_WITHIN_S:g} s")
            await asyncio.sleep(SAMPLE_INTERVAL_S)
        return counts

    def close(self) -> None:
        """Closes the connections; the next read opens new ones."""
        while self._connections:
            self._connections.popitem()[1].close()

    def _count(self, node: str, page: str) -> int:
        connection = self._connections.get(node)
        if connection is None:
            path = self._databases[node]
            if not path.exists():
                return 0
            connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
            self._connections[node] = connection
        rows = connection.execute(_COUNT, (page,)).fetchall()
        return int(rows[0][0]) if rows else 0


class Recorder:
    """The samples and marks of one act. `expected` gives how many views of a page were answered so far."""

    def __init__(self, reader: CountReader, page: str, expected: Callable[[str], int]) -> None:
        self._reader = reader
        self._expected = expected
        self._page = page
        self._began_s = time.monotonic()
        self._samples: list[Sample] = []
        self.marks: list[Mark] = []

    @property
    def samples(self) -> tuple[Sample, ...]:
        """What was sampled, without those between two that say the same."""
        return thinned(self._samples)

    def mark(self, text: str, at_s: float | None = None) -> None:
        """Something happens now, or happened at a moment of `time.monotonic`."""
        self.marks.append(Mark(at_s=self._now() if at_s is None else at_s - self._began_s, text=text))

    def turn_to(self, page: str) -> None:
        """Sample another page from now on, and forget what was sampled."""
        self._page = page
        self._began_s = time.monotonic()
        self._samples.clear()
        self.marks.clear()

    def sample(self) -> None:
        """Note the counts as they are now, if they can be read."""
        counts = self._reader.read(self._page)
        if counts is not None:
            self._samples.append(Sample(at_s=self._now(), counts=counts, expected=self._expected(self._page)))

    def _now(self) -> float:
        return time.monotonic() - self._began_s


@asynccontextmanager
async def recording(recorder: Recorder) -> AsyncIterator[Recorder]:
    """Samples every `SAMPLE_INTERVAL_S` inside the block, at its beginning and at its end."""

    async def sample() -> None:
        while True:
            recorder.sample()
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    task = asyncio.create_task(sample(), name="demo samples")
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task})
    recorder.sample()


def thinned(samples: list[Sample]) -> tuple[Sample, ...]:
    """Without the samples that say what both their neighbours say."""
    kept: list[Sample] = []
    for index, sample in enumerate(samples):
        inside = 0 < index < len(samples) - 1
        if inside and _said(samples[index - 1]) == _said(sample) == _said(samples[index + 1]):
            continue
        kept.append(sample)
    return tuple(kept)


def _said(sample: Sample) -> tuple[object, int]:
    return sample.counts, sample.expected
