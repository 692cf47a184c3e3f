"""Commits to one node's file, and a look at another's: how long each commit takes to get there."""

import sqlite3
import threading
import time
from itertools import count
from typing import Any

from benchmarks.ends.parent import requests, settings, tell

LOOK_INTERVAL_S = 0.0001
WAIT_S = 30.0
INSERT = "INSERT INTO page_counts (page, count) VALUES (?, ?)"


class Reader(threading.Thread):
    """Notes when each commit can be read: nanoseconds from its making."""

    def __init__(self, path: str, first: int, expected: int) -> None:
        super().__init__(daemon=True)
        self.lags_ns: list[int] = []
        self._path = path
        self._last = first
        self._expected = expected

    def run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        version = None
        deadline_s = time.monotonic() + WAIT_S
        while len(self.lags_ns) < self._expected and time.monotonic() < deadline_s:
            now = connection.execute("PRAGMA data_version").fetchone()
            if now != version:
                version = now
                rows = connection.execute(
                    "SELECT count, page FROM page_counts WHERE count > ? ORDER BY count", (self._last,)
                ).fetchall()
                seen_ns = time.monotonic_ns()
                for number, page in rows:
                    self._last = number
                    self.lags_ns.append(seen_ns - int(page.rpartition(" ")[2]))
            time.sleep(LOOK_INTERVAL_S)
        connection.close()


def _measure(given: dict[str, Any], first: int, rate: float, commits: int) -> dict[str, float]:
    reader = Reader(given["target"], first, commits)
    reader.start()
    connection = sqlite3.connect(given["source"], isolation_level=None, timeout=5)
    connection.execute("PRAGMA synchronous = NORMAL")
    began_s = time.monotonic()
    for number in range(1, commits + 1):
        pause_s = began_s + number / rate - time.monotonic()
        if pause_s > 0:
            time.sleep(pause_s)
        connection.execute(INSERT, (f"{first + number} {time.monotonic_ns()}", first + number))
    taken_s = time.monotonic() - began_s
    connection.close()
    reader.join()
    lags = [lag / 1e6 for lag in reader.lags_ns]
    if len(lags) < commits:
        drowned_ms = WAIT_S * 1e3
        return {
            "commits_per_s": commits / taken_s,
            "p50_ms": drowned_ms,
            "p99_ms": drowned_ms,
            "end_ms": drowned_ms,
        }
    end = sorted(lags[-max(len(lags) // 10, 1) :])
    lags.sort()
    return {
        "commits_per_s": commits / taken_s,
        "p50_ms": lags[len(lags) // 2],
        "p99_ms": lags[len(lags) * 99 // 100],
        "end_ms": end[len(end) // 2],
    }


def main() -> None:
    """Answers each request with what it measured."""
    given = settings()
    for path in (given["source"], given["target"]):
        connection = sqlite3.connect(path)
        connection.execute("CREATE INDEX IF NOT EXISTS by_count ON page_counts (count)")
        connection.close()
    tell(ready=True)
    numbers = count(1_000_000, 10_000_000)
    for request in requests():
        tell(**_measure(given, next(numbers), request["rate"], request["count"]))


if __name__ == "__main__":
    main()
