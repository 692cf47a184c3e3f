"""What a node's backup says of itself, for people, programs and tests."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from replication.engine.stamps import Site, Stamp
from replication.positions import Position

JOURNAL_WARNS_AT: Final = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """How far a site is. `durable`: on this node's disk; `uploaded`: in the bucket; `restorable`: with all that it
    depends on. None: nothing is."""

    durable: Stamp | None
    uploaded: Stamp | None
    restorable: Stamp | None

    @property
    def is_lacking(self) -> bool:
        """Whether a restore would bring less than this node has. It may bring more: what was lost with a disk."""
        return self.durable is not None and (self.restorable is None or self.restorable < self.durable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How the bucket was when this node last kept it, `at_ms`: so many complete snapshots, and objects with changesets.
    Every moment since `since_ms` can be restored."""

    at_ms: int
    since_ms: int
    snapshots: int
    objects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStatus:
    """A snapshot of it. `problem`: why nothing is uploaded, "" if all is well; `doing`: what goes on now.

    `age_s`: how long the oldest change that this node has has not been in the bucket; 0 if all are there.
    `journal_used`: how much of what the journal here keeps that takes; at 1 the journal loses it."""

    url: str
    problem: str
    doing: str
    snapshot: int
    """The number of the newest one; 0 if none is complete."""
    age_s: float
    journal_used: float = 0.0
    site: Site
    sites: Mapping[Site, SiteStatus]
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    keeping_problem: str = ""
    """Why the bucket is not kept as it should be, or what is missing in it."""
    kept: Kept | None = None

    @property
    def position(self) -> Position:
        """All that is before it comes back with a restore."""
        return Position({site: one.restorable for site, one in self.sites.items() if one.restorable is not None})

    @property
    def journal_note(self) -> str:
        """What a person should do something about, in time; "" if nothing is. The first snapshot brings all anyhow."""
        if not self.snapshot or self.journal_used < JOURNAL_WARNS_AT:
            return ""
        if self.journal_used >= 1.0:
            return (
                "the journal loses what the backup lacks, and a snapshot of the whole database has to bring it: "
                "journal_max_bytes and journal_max_age_s are too small for so long"
            )
        return (
            f"what the backup lacks takes {self.journal_used:.0%} of what the journal keeps (journal_max_bytes, "
            "journal_max_age_s): beyond that only a snapshot of the whole database brings it; mend the backup, or "
            "raise them"
        )

    @property
    def lacking(self) -> int:
        """Of how many sites the bucket lacks something."""
        return sum(one.is_lacking for one in self.sites.values())

    def as_json(self) -> dict[str, Any]:
        """As `/api/cluster` and `litecast backup status --json` show it."""
        return {
            "url": self.url,
            "problem": self.problem,
            "doing": self.doing,
            "snapshot": self.snapshot,
            "age_s": round(self.age_s, 3),
            "journal_used": round(self.journal_used, 3),
            "lacking": self.lacking,
            "site": self.site,
            "position": str(self.position),
            "sites": {
                site: {"durable": one.durable, "uploaded": one.uploaded, "restorable": one.restorable}
                for site, one in sorted(self.sites.items())
            },
            "counts": dict(self.counts),
            "keeping_problem": self.keeping_problem,
            "kept": None if self.kept is None else asdict(self.kept),
        }


@dataclass(slots=True)
class Tally:
    """What happened since the node started."""

    objects: int = 0
    changesets: int = 0
    bytes: int = 0
    snapshots: int = 0
    repeats: int = 0
    """Objects that somebody had written before."""
    keepings: int = 0
    merged: int = 0
    """Small objects that were made part of larger ones."""
    removed: int = 0
    failures: int = 0
    not_messages: int = 0

    def as_dict(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}
