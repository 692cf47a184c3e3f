"""The logs of all attached tables: whether anything is to be folded."""

import sqlite3
from collections.abc import Sequence
from itertools import batched
from typing import Final

_PER_QUERY: Final = 100
"""So many tables to one query. SQLite's limit is 2,000 columns."""


def last_logged(connection: sqlite3.Connection, tids: Sequence[int]) -> dict[int, int | None]:
    """The newest log entry's number of each of these tables, or None where the log is empty."""
    found: dict[int, int | None] = {}
    for some in batched(tids, _PER_QUERY, strict=False):
        newest = ", ".join(f"(SELECT max(seq) FROM main._litecast_log_{tid})" for tid in some)
        found.update(zip(some, connection.execute(f"SELECT {newest}").fetchone(), strict=True))
    return found
