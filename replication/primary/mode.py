"""All that mode primary adds to a node, put together."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from cluster.lease.boot_clock import boot_clock_s
from cluster.lease.interface import Lease
from cluster.node import Node
from cluster.seldom import SeldomLog
from cluster.supervisor import ActorChild
from replication.convergent.for_file import connect_to_write, now_ms
from replication.convergent.replication import Replication
from replication.convergent.status import ReplicationStatus
from replication.file_position import FilePosition
from replication.positions import Position
from replication.primary.beside import Beside
from replication.primary.carrying_out import CarryingOut
from replication.primary.folded_writes import FoldedWrites
from replication.primary.forwarding import WRITES, Forwarding, Timeouts
from replication.primary.leading import Leading, Settings
from replication.primary.standing import PRIMARY
from replication.primary.together import Together
from replication.primary.workers import PrimaryWorker, WritesWorker, log
from replication.repo import Repo
from replication.tails.applying import APPLY, apply
from replication.tails.desk import TailsDesk

_RANDOM_BYTES: Final = 16


class PrimaryMode:
    """`children` are this node's actors; `start` once it runs, `stop` before its replication stops."""

    def __init__(
        self,
        repo: Repo,
        replication: Replication,
        lease: Lease,
        *,
        size: int,
        candidate: bool = True,
        timeouts: Timeouts | None = None,
        unreplicated_max_s: float | None = None,
        clock: Callable[[], float] = boot_clock_s,
    ) -> None:
        """Begins nothing yet. The repo is open: from now on its writes go where they should."""
        self._replication = replication
        self._file = FilePosition(repo.path)
        self.leading = Leading(
            replication,
            lease,
            Settings(
                size=size,
                candidate=candidate,
                clock=clock,
                random_hex=_random_hex,
                unreplicated_max_s=unreplicated_max_s,
            ),
            beside=Beside(repo.path),
        )
        writes = FoldedWrites(replication, lambda: connect_to_write(repo.path), repo.transact_on)
        self.carrying_out = CarryingOut(
            Together(writes.transact).transact,
            repo.confirmed,
            repo.check,
            self.leading.still_holds,
            self.position_now,
            functions=repo.functions,
            now_ms=now_ms,
        )
        self.forwarding = Forwarding(
            self.leading,
            replication.wait_until,
            self.carrying_out.answer,
            new_key=_random_hex,
            timeouts=timeouts or Timeouts(),
        )
        repo.router = self.forwarding
        repo.register(APPLY, apply)
        self.tails = TailsDesk(replication, repo)

    def position_now(self) -> Position:
        """Of all that is committed in this node's file by now, by any program. Raises sqlite3.Error."""
        found = self._file.now()
        return Position() if found is None else Position({found.site: found.stamp})

    def children(self, node: Callable[[], Node], clock: Callable[[], float]) -> list[ActorChild]:
        """`clock`: for lines in the log that are not to come too often."""
        return [
            ActorChild(PRIMARY, lambda: PrimaryWorker(self.leading, node(), SeldomLog(log, clock))),
            ActorChild(WRITES, lambda: WritesWorker(self.carrying_out, self.leading.under_way)),
        ]

    def start(self, node: Node) -> None:
        """The node runs, and its replication was started."""
        self.forwarding.start(node)
        self.leading.start(node)

    def status(self) -> ReplicationStatus:
        """How replication stands, and this node's role in it."""
        found, role = self._replication.status(), self.leading.status()
        problem = "; ".join(filter(None, (found.problem, role.problem)))
        forwarded = {"forwarded": n} if (n := self.forwarding.forwarded) else {}
        return replace(
            found,
            problem=problem,
            role=role.role.value,
            epoch=role.epoch,
            primary=role.primary,
            tails=self._replication.view().tails,
            counts={**found.counts, **forwarded},
        )

    async def stop(self) -> None:
        """Stops writing, and gives the lease up."""
        await self.leading.stop()
        self._file.close()


def _random_hex() -> str:
    return os.urandom(_RANDOM_BYTES).hex()
