"""Memory and file sizes over time: samples, and whether they level off. Pure but for reading them."""

import sqlite3
import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEVEL: Final = 1.2
"""What levels off has grown by no more than this between the second quarter of the time and the last."""
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """What one node took at one moment, in bytes. `memory`: resident; 0 if it did not run. `used`: pages of the
    database that hold something. Its file is as large as it ever had to be: SQLite keeps pages that became free."""

    at_s: float
    memory: int
    used: int
    database: int
    wal: int


FIGURES: Final = ("memory", "used", "database", "wal")


def look(at_s: float, pid: int | None, database: Path) -> Sample:
    """A sample of now."""
    wal = database.with_name(database.name + "-wal")
    return Sample(at_s, _resident(pid), _used(database), _size(database), _size(wal))


def growth(samples: Sequence[Sample], figure: str) -> float:
    """The median of the last quarter of the time by that of the second quarter."""
    if not samples:
        return 1.0
    lasts_s = samples[-1].at_s
    before, after = (
        [int(getattr(one, figure)) for one in samples if begin * lasts_s <= one.at_s <= end * lasts_s]
        for begin, end in ((0.25, 0.5), (0.75, 1.0))
    )
    if not any(before) or not after:
        return 1.0
    return statistics.median(after) / statistics.median(value for value in before if value)


def _resident(pid: int | None) -> int:
    if pid is None:
        return 0
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    kib = next((line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")), "0")
    return int(kib) * 1024


def _used(database: Path) -> int:
    with closing(sqlite3.connect(database, timeout=30)) as file:
        count, free, size = (
            file.execute(f"PRAGMA {one}").fetchone()[0] for one in ("page_count", "freelist_count", "page_size")
        )
    return int((count - free) * size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
