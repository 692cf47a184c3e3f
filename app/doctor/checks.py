"""What facts mean: one check a function, each with the remedy. Pure.

A check gives nothing where all is well, or where it lacks the facts to tell."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from typing import Any, Final

from app.doctor.facts import DatabaseFacts, Facts
from replication.backup.status import JOURNAL_WARNS_AT

OLDEST_SQLITE: Final = (3, 35, 0)
"""What Litecast leaves in a file's schema is parsed by every library that opens it, and needs this one."""
WAL_RESET_FIXED: Final = (3, 51, 3)
"""Since 3.7.0 two connections that write and checkpoint at once could, very rarely, corrupt a database."""
WAL_MAX_BYTES: Final = 256 * 1024 * 1024
"""A log this long is one that somebody keeps from being written back."""
FREE_MIN_BYTES: Final = 64 * 1024 * 1024
HELD_SHOWN: Final = 3
SECRET_VARIETY_MIN: Final = 10
"""`litecast keygen` draws 64 of 16 hex digits: fewer than 10 different ones do not happen."""
SITES_MANY: Final = 1_000
PENDING_MANY: Final = 100_000
EARLIEST_MS: Final = 1_735_689_600_000
"""The first of January 2025: a clock before that was never set."""
ENGINE_MODES: Final = ("convergent", "primary")
"""Those in which tables are attached."""
MIB: Final = 1024 * 1024


class Gravity(IntEnum):
    """How bad a finding is."""

    WELL = 0
    ADVICE = 1
    """Worth knowing; nothing has to be done."""
    UNWISE = 2
    """It works, and something is to be feared."""
    WRONG = 3
    """Something does not work, or data is not where it should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`check`: which one. `what` is there, and the `remedy`."""

    check: str
    gravity: Gravity
    what: str
    remedy: str

    def as_json(self) -> dict[str, Any]:
        """As `litecast doctor --json` prints it."""
        return {
            "check": self.check,
            "gravity": self.gravity.name.lower(),
            "what": self.what,
            "remedy": self.remedy,
        }


type Check = Callable[[Facts], Finding | None]


def judged(facts: Facts) -> list[Finding]:
    """All findings, the gravest first."""
    found = [finding for check in CHECKS if (finding := check(facts)) is not None]
    return sorted(found, key=lambda finding: -finding.gravity)


def _finding(check: Check, gravity: Gravity, what: str, remedy: str) -> Finding:
    return Finding(check=check.__name__.replace("_", " "), gravity=gravity, what=what, remedy=remedy)


def _of_database(check: Callable[[DatabaseFacts, Facts], Finding | None]) -> Check:
    """A check that is made where there is a database that could be read."""

    @wraps(check)
    def made(facts: Facts) -> Finding | None:
        database = facts.database
        if database is None or not database.exists or database.problem or database.newer_format:
            return None
        return check(database, facts)

    return made


def _replicates(facts: Facts) -> bool:
    return facts.settings is not None and facts.settings.mode != "none"


# --- the machine ---


def sqlite_library(facts: Facts) -> Finding | None:
    """Versions of SQLite with known faults."""
    version = facts.machine.sqlite_version
    name = ".".join(map(str, version))
    if version < OLDEST_SQLITE:
        what = f"this Python uses SQLite {name}, which cannot read what Litecast writes into a schema"
        return _finding(sqlite_library, Gravity.WRONG, what, "use a Python with SQLite 3.35 or newer")
    if version < WAL_RESET_FIXED:
        what = (
            f"this Python uses SQLite {name}: before 3.51.3, a program that writes while another one checkpoints can, "
            "very rarely, corrupt the file"
        )
        remedy = "a newer SQLite when there is one; until then let other programs leave checkpoints to the node"
        return _finding(sqlite_library, Gravity.ADVICE, what, f"{remedy} (PRAGMA wal_autocheckpoint = 0)")
    return None


def machine_clock(facts: Facts) -> Finding | None:
    """A clock that was never set."""
    if facts.machine.now_ms >= EARLIEST_MS:
        return None
    return _finding(machine_clock, Gravity.WRONG, "this machine's clock shows a day before 2025", "set it, and run NTP")


@_of_database
def stamps_ahead(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """A database that a clock far ahead stamped, or one that is beyond this machine's clock."""
    bound_ms = facts.settings.clock_bound_ms if facts.settings is not None else 60_000
    ahead_ms = database.stamped_ms - facts.machine.now_ms
    if ahead_ms <= bound_ms and not database.set_aside:
        return None
    what = f"the newest change is stamped {max(ahead_ms, 0) / 1000:.0f} s after what this machine's clock shows"
    remedy = "set the clock (NTP); its node then stamps again what nobody has merged, once it hears every member"
    return _finding(stamps_ahead, Gravity.WRONG, what, remedy)


# --- the database ---


def database_file(facts: Facts) -> Finding | None:
    """A file that is not there, or that cannot be read."""
    database = facts.database
    if database is None:
        return None
    if not database.exists:
        if facts.settings is not None:
            what = f"there is no database at {database.path} yet"
            return _finding(
                database_file, Gravity.ADVICE, what, "the node makes one, or copies a peer's, when it starts"
            )
        return _finding(database_file, Gravity.WRONG, f"there is no file at {database.path}", "name the database file")
    if database.problem:
        what = f"{database.path} cannot be read: {database.problem}"
        return _finding(database_file, Gravity.WRONG, what, "see that it is an SQLite database that this user may read")
    if database.newer_format:
        what = f"{database.path} was written by a newer Litecast (format {database.newer_format})"
        return _finding(database_file, Gravity.WRONG, what, "upgrade litecast: this one refuses to open it")
    return None


@_of_database
def journal_mode(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Another journal mode than WAL."""
    if database.journal_mode == "wal":
        return None
    is_attached = bool(database.attached)
    what = f"the journal mode is {database.journal_mode}: readers and writers keep each other out"
    gravity = Gravity.UNWISE if is_attached else Gravity.ADVICE
    return _finding(journal_mode, gravity, what, "start its node, or: PRAGMA journal_mode = WAL")


@_of_database
def capture_triggers(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Attached tables whose writes nobody notes."""
    if not database.uncaptured:
        return None
    what = f"triggers of {_names(database.uncaptured)} are missing: what is written there is in no log"
    remedy = "start its node: it puts them back and compares the tables row by row; nothing is lost meanwhile"
    return _finding(capture_triggers, Gravity.WRONG, what, remedy)


@_of_database
def tables_gone(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Attached tables that are not there any more."""
    if not database.gone:
        return None
    what = f"{_names(database.gone)}: attached, and not there any more (or with another key)"
    remedy = "put it back with its rows, in one transaction: rows that are missing then count as deleted"
    return _finding(tables_gone, Gravity.WRONG, what, remedy)


@_of_database
def held_values(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Values that other nodes show and this one cannot."""
    if not (database.held or database.waiting_tables):
        return None
    parts = [f"{count} because: {reason}" for reason, count in database.held[:HELD_SHOWN]]
    parts += [f"changes of table {name}" for name in database.waiting_tables[:HELD_SHOWN]]
    what = f"values are held that cannot be shown here: {'; '.join(parts)}"
    remedy = "run here the migration that other nodes have run; tables that are missing: create and attach them"
    return _finding(held_values, Gravity.UNWISE, what, remedy)


@_of_database
def orphan_rows(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Rows whose parent is missing."""
    if not database.orphans:
        return None
    tables = ", ".join(f"{count} in {name}" for name, count in database.orphans)
    what = f"rows without the row that they refer to: {tables}. They are so on every node"
    return _finding(
        orphan_rows, Gravity.UNWISE, what, "PRAGMA foreign_key_check names them; delete or mend them with SQL"
    )


@_of_database
def forked_sites(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Histories that parted."""
    if not database.forked_sites:
        return None
    what = f"{database.forked_sites} sites were forked: a machine was put back, and went on before it heard its peers"
    remedy = "nothing to do; check counters that were written on the machine that was put back (docs/operations.md)"
    return _finding(forked_sites, Gravity.ADVICE, what, remedy)


@_of_database
def many_sites(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """A cluster in which databases come and go."""
    if database.sites < SITES_MANY:
        return None
    what = f"{database.sites} sites are known: each copy, restore and lost data_dir makes one, and none is forgotten"
    return _finding(many_sites, Gravity.UNWISE, what, "give each node a data_dir that outlives its process")


@_of_database
def pending_log(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Writes that nobody has sent."""
    if database.pending < PENDING_MANY:
        return None
    what = f"{database.pending} writes were noted and not sent yet"
    gravity = Gravity.ADVICE if facts.settings is None else Gravity.UNWISE
    return _finding(pending_log, gravity, what, "start its node, or detach the database if none will run again")


@_of_database
def log_size(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """A write-ahead log that grows."""
    if database.wal_bytes < WAL_MAX_BYTES:
        return None
    what = f"the write-ahead log is {database.wal_bytes // MIB} MiB: some program keeps a read transaction open"
    return _finding(
        log_size, Gravity.UNWISE, what, "end that program's transaction; then: PRAGMA wal_checkpoint(TRUNCATE)"
    )


@_of_database
def journal_size(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """More changesets than the settings allow."""
    settings = facts.settings
    if settings is None or database.journal_bytes <= 2 * settings.journal_max_bytes:
        return None
    what = (
        f"changesets take {database.journal_bytes // MIB} MiB, and journal_max_bytes is "
        f"{settings.journal_max_bytes // MIB} MiB"
    )
    return _finding(
        journal_size, Gravity.UNWISE, what, "let its node run: it trims once a minute; then VACUUM gives space back"
    )


def disk_space(facts: Facts) -> Finding | None:
    """A disk that is nearly full."""
    database = facts.database
    if database is None or database.free_bytes is None:
        return None
    free = f"{database.free_bytes // MIB} MiB are free on the disk of {database.path}"
    if database.free_bytes < FREE_MIN_BYTES:
        return _finding(disk_space, Gravity.WRONG, free, "make room: a full disk stops the node")
    if database.free_bytes < database.size_bytes:
        what = f"{free}, less than the database has"
        remedy = "make room: a copy for a node that joins, VACUUM and a long write-ahead log each take as much"
        return _finding(disk_space, Gravity.UNWISE, what, remedy)
    return None


# --- the settings ---


def settings(facts: Facts) -> Finding | None:
    """Settings that cannot be used: also a secret that is too short."""
    if not facts.settings_problem:
        return None
    return _finding(settings, Gravity.WRONG, facts.settings_problem, "correct it: docs/configuration.md has every key")


def settings_warnings(facts: Facts) -> Finding | None:
    """What a node would say in its log when it starts."""
    if facts.settings is None or not facts.settings.warnings:
        return None
    return _finding(
        settings_warnings, Gravity.UNWISE, "; ".join(facts.settings.warnings), "docs/configuration.md has every key"
    )


def secret(facts: Facts) -> Finding | None:
    """No secret where one is needed, one that can be guessed, or one that others can read."""
    found = facts.settings
    if found is None:
        return None
    if found.secret_variety is None:
        if not found.beyond_loopback:
            return None
        what = "the bus is bound beyond this machine, and there is no secret: the node refuses to start"
        return _finding(
            secret, Gravity.WRONG, what, "litecast keygen --output FILE, and bus.secret_file = FILE on every node"
        )
    if found.secret_variety < SECRET_VARIETY_MIN:
        what = f"the secret has only {found.secret_variety} different characters: it can be guessed"
        return _finding(secret, Gravity.UNWISE, what, "make one with 'litecast keygen', and give it to every node")
    if found.secret_file_open:
        what = f"every user of this machine can read the secret in {found.secret_file}"
        return _finding(secret, Gravity.UNWISE, what, f"chmod 600 {found.secret_file}")
    return None


def synchronous(facts: Facts) -> Finding | None:
    """Commits that a power cut may take."""
    if facts.settings is None or facts.settings.synchronous == "full":
        return None
    what = f"database.synchronous is {facts.settings.synchronous}: a power cut may take the last commits"
    return _finding(synchronous, Gravity.ADVICE, what, 'database.synchronous = "full", if none may be lost')


@_of_database
def another_mode(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """Tables that are attached for another mode than the node's."""
    if facts.settings is None or database.attached_for in ("", facts.settings.mode):
        return None
    mode = facts.settings.mode
    what = f"the tables are attached for mode {database.attached_for}, and [replication] mode is {mode}"
    remedy = f'stop the nodes, and litecast detach the database on each; or mode = "{database.attached_for}"'
    if mode == "none":
        return _finding(another_mode, Gravity.UNWISE, f"{what}: what is written is noted, and sent to nobody", remedy)
    return _finding(another_mode, Gravity.WRONG, f"{what}: the node does not start", remedy)


@_of_database
def another_cluster(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """A database of another cluster."""
    found = facts.settings
    if found is None or found.mode not in ENGINE_MODES or database.cluster in ("", found.cluster):
        return None
    what = f"the database belongs to cluster {database.cluster}, and [cluster] name is {found.cluster}"
    remedy = "name that cluster, or litecast detach the database first if it shall leave it"
    return _finding(another_cluster, Gravity.WRONG, f"{what}: the node does not start", remedy)


@_of_database
def nothing_attached(database: DatabaseFacts, facts: Facts) -> Finding | None:
    """A node whose engine has nothing to replicate."""
    found = facts.settings
    lacking = () if found is None else tuple(name for name in found.declared if name not in database.attached)
    if found is None and not database.attached:
        what = "no table of this database is attached: nothing of it is replicated"
        return _finding(nothing_attached, Gravity.ADVICE, what, "litecast attach DB --table NAME")
    if found is None or found.mode not in ENGINE_MODES or not lacking:
        return None
    what = f"declared, and not attached: {_names(lacking)}"
    remedy = "each is attached once it is there and nothing speaks against it: litecast attach --config FILE says what"
    return _finding(nothing_attached, Gravity.UNWISE, what, remedy)


# --- the cluster ---


def discovery(facts: Facts) -> Finding | None:
    """A node that finds nobody."""
    found = facts.settings
    if found is None or not _replicates(facts):
        return None
    if found.discovery == "none":
        what = "discovery.method is none: this node looks for nobody"
        return _finding(
            discovery, Gravity.ADVICE, what, "discovery.method = static, dns or zeroconf, if it is to have peers"
        )
    if facts.node is not None:
        if facts.node.peers_up:
            return None
        what = (
            f"the node runs and no peer is up, of {facts.node.peers_known} known; discovery.method is {found.discovery}"
        )
    elif facts.found is not None and not facts.found[1]:
        what = f"discovery.method is {found.discovery}: it gives {facts.found[0]} addresses, and nobody answers at any"
    else:
        return None
    remedy = "are the others running, their addresses right, bus.secret and cluster.name the same, the port open?"
    return _finding(discovery, Gravity.UNWISE, what, remedy)


def standing_still(facts: Facts) -> Finding | None:
    """A node whose replication does not get on: its clock, its disk, a lock."""
    if facts.node is None or not facts.node.problem:
        return None
    remedy = "its log and 'litecast status' say more; it goes on by itself when the cause is gone"
    return _finding(standing_still, Gravity.WRONG, facts.node.problem, remedy)


def backup(facts: Facts) -> Finding | None:
    """A backup that stands still, and what it lacks that is about to leave the journal."""
    node = facts.node
    if node is None:
        return None
    used = node.backup_journal_used
    if used >= JOURNAL_WARNS_AT:
        what = f"what the backup lacks takes {used:.0%} of what the journal keeps"
        remedy = "beyond that only a snapshot of all brings it: raise journal_max_bytes and journal_max_age_s"
        still = f"; nothing is uploaded: {node.backup_problem}" if node.backup_problem else ""
        return _finding(backup, Gravity.WRONG, what + still, remedy)
    if not node.backup_problem:
        return None
    remedy = "it goes on by itself when the cause is gone; until then the journal keeps what it lacks"
    return _finding(backup, Gravity.WRONG, f"nothing is uploaded to the backup: {node.backup_problem}", remedy)


def refused_tables(facts: Facts) -> Finding | None:
    """Declared tables that cannot be attached."""
    if facts.node is None or not facts.node.refused:
        return None
    what = "; ".join(facts.node.refused)
    return _finding(refused_tables, Gravity.WRONG, what, "change the table as it says, or take it out of the settings")


def _names(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


CHECKS: Final[tuple[Check, ...]] = (
    settings,
    settings_warnings,
    secret,
    synchronous,
    sqlite_library,
    machine_clock,
    stamps_ahead,
    database_file,
    disk_space,
    journal_mode,
    capture_triggers,
    tables_gone,
    another_mode,
    another_cluster,
    nothing_attached,
    backup,
    refused_tables,
    held_values,
    orphan_rows,
    pending_log,
    log_size,
    journal_size,
    forked_sites,
    many_sites,
    discovery,
    standing_still,
)
