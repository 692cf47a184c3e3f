"""What sessions asked for and got, and what is wrong with that once everything was mended."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from replication.acknowledging.levels import Ack
from replication.engine.epochs import epoch_of
from replication.positions import Position
from replication.simulation.one_writer.linearizable import Operation, is_linearizable

UNIQUE: Final = "names"


@dataclass(slots=True, kw_only=True)
class Call:
    """One operation of a session's, by true time."""

    op: str
    session: int
    node: str
    key: str
    kind: str
    """`swap`, `name`, `read` at the primary or `look` at the node's own file."""
    ack: Ack
    began_s: float
    ended_s: float = math.inf
    is_done: bool = False
    """It was acknowledged, or gave what it read."""
    is_over: bool = False
    was_forwarded: bool = False
    saw: str | None = None
    version: int = 0
    position: Position = field(default_factory=Position)

    @property
    def epoch(self) -> int:
        """In which it was written."""
        return max(map(epoch_of, self.position.stamps), default=0)


@dataclass(frozen=True, slots=True)
class Row:
    """What a database has of one write."""

    key: str
    saw: str | None
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """What all databases have in the end, and what is known of the epochs."""

    rows: dict[str, list[Row]]
    """By the op's name; that of a unique name has one for each such name."""
    size: int
    handed_over: frozenset[int]
    """Epochs that ended with a handover."""
    last: int
    """The newest that began, whether anything was written in it or not."""
    power_was_cut: bool


def wrong_with(calls: list[Call], end: End) -> list[str]:
    """Every promise that was broken, in words."""
    found = [f"{op} was carried out {len(rows)} times" for op, rows in end.rows.items() if len(rows) > 1]
    found += [
        f"{call} was acknowledged, and is lost"
        for call in calls
        if _is_acknowledged(call) and call.op not in end.rows and _must_be_there(call, end)
    ]
    found += _sessions(calls, end)
    for key in sorted({call.key for call in calls if call.kind == "swap"}):
        history = _history(calls, end, key)
        if not is_linearizable(history):
            found.append(f"what was done with {key} cannot have happened one after another: {history}")
    return found


def lost(calls: list[Call], end: End) -> int:
    """How many acknowledged writes are lost that may be."""
    return sum(_is_acknowledged(call) and call.op not in end.rows for call in calls)


def _is_acknowledged(call: Call) -> bool:
    return call.is_done and call.kind in ("swap", "name")


def _must_be_there(call: Call, end: End) -> bool:
    """What was acknowledged by one node alone may be lost with its epoch; a forwarded write is on two."""
    if call.ack in (Ack.QUORUM, Ack.ALL) or call.epoch in end.handed_over or call.epoch == end.last:
        return True
    return (call.was_forwarded or call.ack is Ack.ONE) and end.size == 3 and not end.power_was_cut


def _history(calls: list[Call], end: End, key: str) -> list[Operation]:
    """Of the writes that are there; and of the reads at the primary that gave one of these."""
    found: list[Operation] = []
    for call in calls:
        if call.key != key or call.kind not in ("swap", "read"):
            continue
        if call.kind == "read":
            if call.is_done and (call.saw is None or call.saw in end.rows):
                found.append(Operation(began_s=call.began_s, ended_s=call.ended_s, saw=call.saw, wrote=None))
        elif call.op in end.rows:
            ended_s = call.ended_s if call.is_done else math.inf
            row = end.rows[call.op][0]
            found.append(Operation(began_s=call.began_s, ended_s=ended_s, saw=row.saw, wrote=call.op))
    return found


def _sessions(calls: list[Call], end: End) -> list[str]:
    """Who wrote sees it, and what was seen stays seen, but for what was lost with its epoch."""
    found: list[str] = []
    newest: Counter[tuple[int, str]] = Counter()
    for call in sorted((call for call in calls if call.is_done), key=lambda call: call.ended_s):
        if call.kind == "swap" and call.op in end.rows:
            newest[call.session, call.key] = max(newest[call.session, call.key], call.version)
        elif call.kind in ("look", "read") and (call.saw is None or call.saw in end.rows):
            if call.version < newest[call.session, call.key]:
                found.append(f"{call}: its session had seen version {newest[call.session, call.key]}")
            newest[call.session, call.key] = max(newest[call.session, call.key], call.version)
    return found
