"""State that goes from one database to another, without a network: snapshots, exchanges, and what comes in between."""

import sqlite3
from collections.abc import Callable, Sequence

from replication.engine.closing import unite_tips
from replication.engine.session import NOTHING_FORGOTTEN
from replication.engine.snapshots import RangeMerged, RangeRead, SnapshotStart, begin, finish, merge_range, read_range
from replication.engine.stamps import Stamp
from replication.engine.values import Key, pack, unpack

MUCH = 10**9


def nothing() -> None:
    """Comes in between."""


def sent(start: SnapshotStart) -> SnapshotStart:
    """As it arrives."""
    return SnapshotStart.parse(unpack(pack(start.plain())))


def ranges(
    sender: sqlite3.Connection, tables: Sequence[str], *, now_ms: int, max_rows: int = MUCH, max_bytes: int = MUCH
) -> list[RangeRead]:
    """All ranges of some tables."""
    found: list[RangeRead] = []
    for table in tables:
        after: Key | None = None
        while True:
            one = read_range(sender, table, after=after, max_rows=max_rows, max_bytes=max_bytes, now_ms=now_ms)
            found.append(one)
            after = one.next_after
            if after is None:
                break
    return found


class Moving:
    """The state of one database on its way to another, step by step. What a step folds goes to `told`."""

    def __init__(
        self,
        sender: sqlite3.Connection,
        receiver: sqlite3.Connection,
        *,
        authority: bool = True,
        max_rows: int = MUCH,
        forgets_before: Stamp = NOTHING_FORGOTTEN,
        told: Callable[[], None] = nothing,
    ) -> None:
        self._forgets_before = forgets_before
        self.start = sent(begin(sender))
        self.merged: list[RangeMerged] = []
        self.is_done = False
        self._sender = sender
        self._receiver = receiver
        self._authority = authority
        self._max_rows = max_rows
        self._told = told
        self._tables = list(self.start.tables)
        self._after: Key | None = None
        self._read: RangeRead | None = None

    def step(self, now_ms: int) -> None:
        """Reads a range; or merges the one that was read; or, after the last one, ends."""
        if self._read is None and self._tables:
            self._read = read_range(
                self._sender,
                self._tables[0],
                after=self._after,
                max_rows=self._max_rows,
                max_bytes=MUCH,
                now_ms=now_ms,
            )
        elif self._read is not None:
            merged = merge_range(
                self._receiver,
                self._read.encoded,
                self.start,
                now_ms=now_ms,
                forgets_before=self._forgets_before,
                authority=self._authority,
            )
            self.merged.append(merged)
            self._after = self._read.next_after
            if self._after is None:
                self._tables.pop(0)
            self._read = None
        elif not self.is_done:
            self._end(now_ms)
        self._told()

    def run(self, now_ms: int, *, between: Callable[[], None] = nothing) -> "Moving":
        """All of it."""
        while not self.is_done:
            self.step(now_ms)
            between()
        return self

    def _end(self, now_ms: int) -> None:
        if self._authority:
            finish(self._receiver, self.start, now_ms=now_ms)
        else:
            unite_tips(self._receiver, self.start.closed)
        self.is_done = True


def take_state(sender: sqlite3.Connection, receiver: sqlite3.Connection, *, now_ms: int) -> None:
    """All that one has is merged by another, as after drift: nobody's word counts for what is not there."""
    Moving(sender, receiver, authority=False).run(now_ms)
