"""When a node that has just started holds what its peers held: the moment at which a program beside it may begin.

What peers write meanwhile is not waited for, or a busy cluster would never let go. It is given up once nothing has come
for a while, and only then: a large backlog takes as long as it takes.
"""

from collections.abc import Awaitable
from contextlib import suppress
from typing import Protocol

from replication.convergent.status import ReplicationStatus, Tally
from replication.engine.stamps import Site, Stamp
from replication.errors import PositionTimeout
from replication.positions import Position


class Catching(Protocol):
    """What is needed of a `Replication` that was started."""

    tally: Tally

    def joined(self) -> Awaitable[None]: ...
    def missing(self) -> Position: ...
    def stamps(self) -> dict[Site, Stamp]: ...
    def status(self) -> ReplicationStatus: ...
    def wait_for(self, position: Position, *, timeout_s: float) -> Awaitable[None]: ...


async def caught_up(replication: Catching, *, patience_s: float) -> Position:
    """Waits until the node has joined and has merged all that its peers had by then. Cancelling it has no effect.

    The empty position; or, when nothing came for `patience_s`, what is still missing.
    """
    await replication.joined()
    wanted = replication.missing()
    while True:
        before = _came(replication, wanted)
        with suppress(PositionTimeout):
            await replication.wait_for(wanted, timeout_s=patience_s)
        missing = _still_missing(replication, wanted)
        if not missing or _came(replication, wanted) == before:
            return missing


def _came(replication: Catching, wanted: Position) -> object:
    """Another value whenever something has come of what is wanted, also a part of a snapshot, which moves no stamp."""
    stamps, under_way = replication.stamps(), replication.status().catching_up
    rows = 0 if under_way is None else under_way.rows
    return [stamps.get(site) for site in wanted.stamps], replication.tally.pages_bytes, rows


def _still_missing(replication: Catching, wanted: Position) -> Position:
    """Without what nobody has any more, or cannot be merged."""
    stamps, missing = replication.stamps(), replication.missing().stamps
    return Position(
        {
            site: stamp
            for site, stamp in wanted.stamps.items()
            if site in missing and stamps.get(site, Stamp(-1)) < stamp
        }
    )
