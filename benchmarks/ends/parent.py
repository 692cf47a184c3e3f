"""The way of a child to the benchmark that started it: settings in, lines of JSON in and out."""

import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any


def settings() -> dict[str, Any]:
    """What this process was started with."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def tell(**answer: Any) -> None:
    """Answer; the first answer says that this process is ready."""
    print(json.dumps(answer), flush=True)


def requests() -> Iterator[dict[str, Any]]:
    """The requests, one after another, until the benchmark closes its end."""
    for line in sys.stdin:
        yield json.loads(line)


async def requests_async() -> AsyncIterator[dict[str, Any]]:
    """The same while an event loop runs."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)


def end_with_parent() -> None:
    """From now on this process ends as soon as the benchmark closes its end, whatever it is doing."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)
