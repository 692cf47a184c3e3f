"""What the doctor looks at, as it was gathered. None where a fact could not be had, or there is nothing to have."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """The program and the machine that it runs on. `now_ms`: its clock, milliseconds since 1970."""

    sqlite_version: tuple[int, int, int]
    now_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """A database file. Sizes in bytes; `free_bytes`: what its disk has left for this user.

    `problem`: why nothing more could be read of it, "" if it could; then the rest is as of an empty one."""

    path: Path
    exists: bool
    problem: str = ""
    size_bytes: int = 0
    wal_bytes: int = 0
    free_bytes: int | None = None
    newer_format: int = 0
    """The format that a newer Litecast gave it, of which nothing more is read; 0 if this one knows it."""
    journal_mode: str = ""
    attached: tuple[str, ...] = ()
    attached_for: str = ""
    """The mode that its tables are attached for, "" if none is."""
    cluster: str = ""
    """The cluster that it belongs to, "" if to none."""
    gone: tuple[str, ...] = ()
    """Tables that were attached and are not there, or have another key."""
    uncaptured: tuple[str, ...] = ()
    """Attached tables that lack a trigger of capture's."""
    held: tuple[tuple[str, int], ...] = ()
    """Why values are held, and how many are for that reason."""
    waiting_tables: tuple[str, ...] = ()
    """Tables for which changes came, and that are not attached here."""
    orphans: tuple[tuple[str, int], ...] = ()
    """Tables with rows whose parent is missing, and how many."""
    forked_sites: int = 0
    set_aside: bool = False
    sites: int = 0
    pending: int = 0
    """Entries of the capture log."""
    journal_bytes: int = 0
    stamped_ms: int = 0
    """The newest stamp's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFacts:
    """What a node is set to. `secret_variety`: how many different characters the secret has; None without one."""

    mode: str
    cluster: str
    synchronous: str
    beyond_loopback: bool
    secret_variety: int | None
    secret_file: Path | None
    secret_file_open: bool
    """Whether other users may read the file that the secret is in."""
    discovery: str
    clock_bound_ms: int
    journal_max_bytes: int
    declared: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What the running node says of itself. `problem`: why its replication stands still, "" if it does not."""

    peers_up: int
    peers_known: int
    problem: str = ""
    refused: tuple[str, ...] = ()
    """What speaks against attaching tables that are declared."""
    backup_problem: str = ""
    """Why nothing can be uploaded; "" if all is well, or there is no backup."""
    backup_journal_used: float = 0.0
    """How much of what the journal keeps is taken by what the bucket lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All of it. `settings` and `node` are None where only a database was named; `node` also where none answers.

    `settings_problem`: why the settings cannot be used. `found`: how many addresses discovery gave when no node was
    running to be asked, and how many of them answered."""

    machine: MachineFacts
    database: DatabaseFacts | None = None
    settings: SettingsFacts | None = None
    settings_problem: str = ""
    node: NodeFacts | None = None
    found: tuple[int, int] | None = None
