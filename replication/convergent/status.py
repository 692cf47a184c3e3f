"""What a node's replication says of itself, for people, programs and tests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from replication.backup.status import BackupStatus


@dataclass(slots=True)
class Tally:
    """What happened since the node started. Belongs to the event loop."""

    folded: int = 0
    folded_rows: int = 0
    merged: int = 0
    merged_rows: int = 0
    repeats: int = 0
    refused: int = 0
    broken: int = 0
    forks: int = 0
    lost_sites: int = 0
    too_early: int = 0
    collisions: int = 0
    held: int = 0
    dropped_columns: int = 0
    violations: int = 0
    not_messages: int = 0
    inbox_full: int = 0
    asks: int = 0
    asks_failed: int = 0
    pages: int = 0
    pages_bytes: int = 0
    snapshots: int = 0
    state_exchanges: int = 0
    archive_reads: int = 0
    archive_fails: int = 0
    trimmed_changesets: int = 0
    trimmed_tombstones: int = 0
    new_sites: int = 0
    stamped_again: int = 0
    problems: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name, without zeros."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name))}


@dataclass(slots=True)
class Progress:
    """A catch-up under way. `part`: what is being done, for people."""

    peer: str
    since_s: float
    changesets: int = 0
    bytes: int = 0
    rows: int = 0
    part: str = ""

    def add_bytes(self, count: int) -> None:
        """So many have come."""
        self.bytes += count


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationStatus:
    """A snapshot. `problem`: why replication stands still, "" if it does not; `notes`: what a person should look at."""

    site: str
    ready: bool
    joined: bool
    problem: str
    sites: int
    behind: dict[str, int]
    """For each peer, of how many sites it has something that is not merged here."""
    waiting: int
    waiting_bytes: int
    catching_up: Progress | None
    notes: tuple[str, ...] = ()
    schemas: Mapping[str, str] = field(default_factory=dict[str, str])
    schemas_of_peers: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """A few digits for the schema of each attached table, here, and on each peer that said it."""
    counts: dict[str, int] = field(default_factory=dict[str, int])
    backup: BackupStatus | None = None
    """How the backup stands, if there is one."""
    role: str = ""
    """In mode primary: replica, candidate or primary. The others mean something only there."""
    epoch: int = 0
    primary: str | None = None
    """The node that writes, as far as is known here."""
    tails: int = 0
    """Changesets of epochs that are over, kept here and merged nowhere."""

    def as_json(self) -> dict[str, Any]:
        """As `/api/cluster` and `litecast status --json` show it."""
        catching_up = self.catching_up
        return {
            "site": self.site,
            "ready": self.ready,
            "joined": self.joined,
            "problem": self.problem,
            "sites": self.sites,
            "behind": self.behind,
            "waiting": self.waiting,
            "waiting_bytes": self.waiting_bytes,
            "catching_up": None
            if catching_up is None
            else {
                "peer": catching_up.peer,
                "changesets": catching_up.changesets,
                "bytes": catching_up.bytes,
                "rows": catching_up.rows,
                "part": catching_up.part,
            },
            "notes": list(self.notes),
            "schemas": dict(self.schemas),
            "schemas_of_peers": {peer: dict(schemas) for peer, schemas in self.schemas_of_peers.items()},
            "counts": self.counts,
            **({} if self.backup is None else {"backup": self.backup.as_json()}),
            **(
                {"role": self.role, "epoch": self.epoch, "primary": self.primary, "tails": self.tails}
                if self.role
                else {}
            ),
        }
