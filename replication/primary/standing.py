"""What a node knows of who writes: its own role, and which node is the primary. Pure: it is told, and asked."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PRIMARY: Final = "Primary"
"""The actor's name on every node."""


class Role(StrEnum):
    """What a node is in mode primary."""

    REPLICA = "replica"
    """It reads, and forwards its writes."""
    CANDIDATE = "candidate"
    """It holds the lease, and does not write yet: it fetches what others have."""
    PRIMARY = "primary"
    """It writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleStatus:
    """A node's role, for people and programs. `primary` is the node that writes as far as is known; None: nobody.
    `epoch` is the newest that is known of. `problem`: why this node is not what it should be; "" if it is."""

    role: Role
    epoch: int
    primary: str | None
    problem: str


class Standing:
    """Who is the primary, by what is heard. Of two claims the newer epoch counts, and of one epoch the first."""

    def __init__(self) -> None:
        self.primary: str | None = None
        self.epoch = 0

    def claims(self, node: str, epoch: int) -> bool:
        """A node says that it is the primary, of this epoch. True if that is news that counts."""
        if epoch < self.epoch or (epoch == self.epoch and self.primary is not None):
            return False
        self.primary, self.epoch = node, epoch
        return True

    def resigns(self, node: str, epoch: int) -> bool:
        """A node says that it is not the primary of this epoch any more. True if that is news that counts."""
        if self.primary != node or epoch < self.epoch:
            return False
        self.primary = None
        return True

    def knows_of(self, epoch: int) -> None:
        """Somebody wrote in this epoch, whoever it was."""
        if epoch > self.epoch:
            self.primary, self.epoch = None, epoch


def fence_message(primary: str | None, here: str) -> str:
    """What a write to a replica's tables is told, by SQLite."""
    where = f"the primary, which is node {primary}" if primary else "the primary, and there is none just now"
    return f"litecast: this table is written on {where}; node {here} is a replica of it"


def majority(size: int) -> int:
    """How many of so many nodes are more than half."""
    return size // 2 + 1
