import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from replication.repo import Repo
from replication.rows import Row

ROOT = Path(__file__).parents[3]
PAGE_COUNTS = (
    "CREATE TABLE page_counts"
    " (page TEXT PRIMARY KEY NOT NULL, count INTEGER NOT NULL, inserted_at TEXT, updated_at TEXT)"
)
NOBODY = 65_534


class Clock:
    """A second passes only when a test says so."""

    def __init__(self) -> None:
        self.time = datetime(2025, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self) -> None:
        self.time += timedelta(seconds=1)


async def row_of(repo: Repo, page: str = "home") -> Row:
    row = await repo.get("page_counts", page)
    assert row is not None
    return row


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "litecast.db"


@pytest.fixture
async def repo(path: Path, clock: Clock) -> AsyncIterator[Repo]:
    async with Repo(path, now=clock) as repo:
        await repo.migrate([PAGE_COUNTS])
        yield repo


@pytest.fixture
def python() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python on a piece of code, with arguments; its standard input and output are pipes. Ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ordinary_user() -> Callable[[], AbstractContextManager[None]]:
    """A context in which file permissions count, also where the tests run as root."""

    @contextmanager
    def ordinary() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)

    return ordinary
