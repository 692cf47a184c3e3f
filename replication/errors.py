"""What can go wrong in this package, as one tree.

    ReplicationError
    ├── RepoError                  the caller asked for what cannot be done; the database is fine
    │   ├── RepoClosed             used before open() or after close()
    │   ├── WaitInTransaction      wait_for() inside a transaction
    │   ├── NoChangeFeed           a mode in which no changesets are made
    │   ├── NotReplicated          .table; its changes are noted nowhere
    │   ├── NoSuchTable            .table
    │   ├── NoSuchColumn           .table .column
    │   ├── NoSuchRow              .table .key
    │   ├── WrongKey               .table; the key has too few or too many parts, or the table has none
    │   ├── DuplicateRow           .table .columns
    │   ├── ConstraintFailed       .table .reason: NOT NULL, CHECK, foreign key, STRICT type
    │   ├── UnsupportedValue       .reason: a Python value SQLite has no form for, or text that is not UTF-8
    │   ├── QueryFailed            .sql .reason: does not parse, writes where only reading is allowed, ...
    │   ├── TransactionOver        a transaction used after its end, or ended by SQLite under way
    │   └── MigrationError         .number
    │       ├── MigrationChanged   another text already ran under this number
    │       └── MigrationFailed    .reason
    ├── ForwardingError            mode primary: a write that another node was to carry out
    │   ├── CannotForward          .reason: not something that another node can carry out
    │   │   ├── CannotTravel       an argument, or a result
    │   │   └── NoSuchFunction     .name; the primary has none of that name
    │   ├── TooFarAhead            .ahead_s .bound_s; nobody else has what the primary wrote: not written
    │   ├── TailConflict           .against .count .size; a tail is not applied: not written
    │   ├── NoPrimary              .waited_s .retry_after_s; nobody to write, for as long as was waited: not written
    │   ├── PrimaryFailed          .node; the primary's database would not: not written
    │   ├── NotVisibleYet          .position .result; written, and not to be read here yet
    │   └── OutcomeUnknown         the primary did not say, or lost its lease meanwhile
    ├── CannotConfirm              how sure a write was to be (`ack`) cannot be had: not written
    ├── NotConfirmed               .position .result; written, and not on as many nodes as was asked for
    ├── NobodyWrites               a primary was asked for, in a mode that has none
    ├── NobodyThere                no node to run a function: it did not run
    ├── RpcFailed                  .node .function .why; a function raised, on another node
    ├── NoSuchTail                 no tail of that name, or several
    ├── StartOver                  .table .reason; a reader of the change feed cannot go on from where it was
    ├── CannotPromote              the lease was not handed over: .reason
    ├── CannotForget               a node that is up, was never heard, or whose peers cannot hear of it
    ├── PositionTimeout            .missing .timeout_s; the write that it is of was done all the same
    ├── DatabaseError              the world: .path .problem .remedy, one line an operator can act on
    │   ├── DatabasePathError      is a directory, folder missing, not a plain file, ...
    │   ├── DatabaseReadOnly       file or folder cannot be written
    │   ├── NotADatabase           the file is something else; it was left as it is
    │   ├── DatabaseCorrupt        damaged
    │   ├── DatabaseBusy           another process held the lock too long
    │   ├── DatabaseFull           no space left
    │   ├── DatabaseFailed         the disk failed (the one case where a write's outcome is unknown)
    │   ├── DatabaseInUse          another Litecast node has it open
    │   └── NewerFormat            written by a newer Litecast
    └── DataDirError               .path .problem .remedy
        ├── DataDirUnusable        cannot be created or written
        └── DataDirInUse           another node runs in it

After any of these, except where `outcome_unknown` is true, nothing of the failed write is in the database.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar


class ReplicationError(Exception):
    """Base of every error this package raises on purpose."""

    outcome_unknown: ClassVar[bool] = False
    """True where a failed write may nevertheless be found in the database later."""


class RepoError(ReplicationError):
    """The caller asked a repo for something that cannot be done."""


class RepoClosed(RepoError):
    """The repo is not open."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"the repo on {path} is not open; use it inside `async with repo:`")


class WaitInTransaction(RepoError):
    """A position was waited for inside a transaction, which would wait for itself."""

    def __init__(self) -> None:
        super().__init__("wait_for() inside a transaction would wait for itself; wait before it or after it")


class NoChangeFeed(RepoError):
    """There is no change feed in this mode."""

    def __init__(self) -> None:
        super().__init__(
            'only in the modes convergent and primary is there a change feed: set [replication] mode = "convergent"; '
            "live() works in every mode"
        )


class NotReplicated(RepoError):
    """The table is not attached, so that no changesets are made of it."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(
            f"table {table} is not attached, so that its changes are not noted; create it, and name it in "
            "[replication] tables or with `litecast attach`"
        )


class NoSuchTable(RepoError):
    """No table of this name is in the database."""

    def __init__(self, table: str) -> None:
        self.table = table
        super().__init__(f"no such table: {table}; create it with migrate()")


class NoSuchColumn(RepoError):
    """The table has no column of this name."""

    def __init__(self, table: str, column: str, known: tuple[str, ...] = ()) -> None:
        self.table = table
        self.column = column
        listed = f"; it has {', '.join(known)}" if known else ""
        super().__init__(f"table {table} has no column {column}{listed}")


class NoSuchRow(RepoError):
    """No row has this key."""

    def __init__(self, table: str, key: object) -> None:
        self.table = table
        self.key = key
        super().__init__(f"table {table} has no row with key {key!r}")


class WrongKey(RepoError):
    """The key given does not have the shape of the table's primary key."""

    def __init__(self, table: str, columns: tuple[str, ...], given_count: int) -> None:
        self.table = table
        self.columns = columns
        if columns:
            shape = f"the key of table {table} is ({', '.join(columns)}), but {given_count} value(s) were given"
        else:
            shape = f"table {table} has no primary key; read it with all() and write it with execute()"
        super().__init__(shape)


class DuplicateRow(RepoError):
    """Another row has the same primary key, or the same values in a UNIQUE index."""

    def __init__(self, table: str, columns: tuple[str, ...]) -> None:
        self.table = table
        self.columns = columns
        super().__init__(f"table {table} already has a row with this {', '.join(columns) or 'key'}")


class ConstraintFailed(RepoError):
    """The table's definition does not admit the row."""

    def __init__(self, table: str, reason: str) -> None:
        self.table = table
        self.reason = reason
        super().__init__(f"table {table} refuses the row: {reason}" if table else f"row refused: {reason}")


class UnsupportedValue(RepoError):
    """SQLite has no form for the value, or Python none for what is stored."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; SQLite keeps None, int (64 bit), float, str (UTF-8) and bytes")


class QueryFailed(RepoError):
    """SQLite would not run the statement."""

    def __init__(self, sql: str, reason: str) -> None:
        self.sql = sql
        self.reason = reason
        super().__init__(f"{reason}, in: {' '.join(sql.split())[:200]}")


class TransactionOver(RepoError):
    """A transaction was used after its end, or SQLite ended it under way."""


class MigrationError(RepoError):
    """A migration could not be run; the ones before it stay."""

    def __init__(self, number: int, message: str) -> None:
        self.number = number
        super().__init__(f"migration {number}: {message}")


class MigrationChanged(MigrationError):
    """Another text already ran under this number."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "its text differs from what already ran here; put it back and add a new migration")


class MigrationFailed(MigrationError):
    """SQLite would not run the statement."""

    def __init__(self, number: int, reason: str) -> None:
        self.reason = reason
        super().__init__(number, f"{reason}; nothing of it was kept")


class _Operators(ReplicationError):
    """Something an operator can put right: where, what is wrong, what to do."""

    _what: ClassVar[str]

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        self.path = path
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{self._what} {path}: {problem}; {remedy}")


class ForwardingError(ReplicationError):
    """A write in mode primary that did not go as it should. Only OutcomeUnknown leaves open whether it is written."""


class CannotForward(ForwardingError):
    """It cannot be sent to the primary. Nothing was written."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"this node is no primary, and cannot forward that: {reason}")


class CannotTravel(CannotForward):
    """An argument or a result of it has no form in which it could be sent."""


class NoSuchFunction(CannotForward):
    """No function is registered under this name where it was to run: that node runs another version, perhaps."""

    def __init__(self, name: str, known: tuple[str, ...] = ()) -> None:
        self.name = name
        listed = f"; registered are {', '.join(known)}" if known else "; none is"
        super().__init__(f"no function {name!r} is registered on the node that was to run it{listed}")


class NoPrimary(ForwardingError):
    """For as long as was waited no node could be written to. Nothing was written."""

    def __init__(self, why: str, waited_s: float, retry_after_s: float) -> None:
        self.waited_s = waited_s
        self.retry_after_s = retry_after_s
        super().__init__(f"no primary within {waited_s:g} s ({why}); nothing was written, try again in a moment")


class PrimaryFailed(ForwardingError):
    """The primary's database or disk would not. Nothing was written."""

    def __init__(self, node: str, why: str) -> None:
        self.node = node
        super().__init__(f"the primary {node} could not write: {why}")


class NotVisibleYet(ForwardingError):
    """It is written, on the primary. It could not be read here within the time that was waited, and will be."""

    def __init__(self, position: object, result: Any, timeout_s: float) -> None:
        self.position = position
        self.result = result
        super().__init__(
            f"it is written, and cannot be read here yet after {timeout_s:g} s; wait_for() its position, or read on"
        )


class OutcomeUnknown(ForwardingError):
    """Whether it is written, or will stay so, is not known."""

    outcome_unknown = True

    def __init__(self, why: str) -> None:
        super().__init__(f"whether it is written is unknown: {why}")


class NobodyThere(ReplicationError):
    """No node is there that could run a function. It did not run."""


class RpcFailed(ReplicationError):
    """A function that another node ran raised. What it had done by then stays done."""

    def __init__(self, node: str, function: str, why: str) -> None:
        self.node = node
        self.function = function
        self.why = why
        super().__init__(f"function {function!r} failed on node {node}: {why}")


class NobodyWrites(ReplicationError):
    """There is no primary to be as new as, or to run something on: one node writes in mode primary only."""

    def __init__(self, what: str) -> None:
        super().__init__(f'{what} needs [replication] mode = "primary": in the other modes every node writes')


class CannotConfirm(ReplicationError):
    """How sure a write is to be (`ack`) cannot be had here. Nothing was written."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"ack: {reason}")


class NotConfirmed(ReplicationError):
    """It is written, and durable on the node that wrote it: not where else it was to be within the time that was
    waited. It may come there yet, or be lost with that node."""

    outcome_unknown = True

    def __init__(self, position: object, result: Any, where: str, timeout_s: float) -> None:
        self.position = position
        self.result = result
        self.where = where
        self.timeout_s = timeout_s
        super().__init__(
            f"it is written, and after {timeout_s:g} s not as sure as was asked for: it was to be durable {where}; do "
            "not write it again, bring back what is missing, or ask for less (ack)"
        )


class TooFarAhead(ForwardingError):
    """For longer than `unreplicated_max_s` nobody else has what the primary wrote. Nothing was written."""

    def __init__(self, ahead_s: float, bound_s: float) -> None:
        self.ahead_s = ahead_s
        self.bound_s = bound_s
        super().__init__(
            f"no other node has what this one wrote in the last {ahead_s:.1f} s, and [replication] unreplicated_max_s "
            f"is {bound_s:g}: nothing was written; bring a replica back, or raise the bound"
        )


class TailConflict(ForwardingError):
    """A tail is not applied, since some rows are not as it found them. Nothing was written."""

    def __init__(self, against: Sequence[str], count: int, size: int) -> None:
        self.against = tuple(against)
        self.count = count
        self.size = size
        more = f", and {count - len(self.against)} more" if count > len(self.against) else ""
        super().__init__(
            f"the tail, of {size} row{'s' if size != 1 else ''}, is not applied: {'; '.join(self.against)}{more}. "
            "Look at it (litecast tail show), write by hand what should stay, and drop it"
        )


class NoSuchTail(ReplicationError):
    """No tail is kept under that name, or several are; or it cannot be looked into."""


class StartOver(ReplicationError):
    """A reader of the change feed cannot go on from its position: what came after it is not known here one by one."""

    def __init__(self, table: str, reason: str) -> None:
        self.table = table
        self.reason = reason
        super().__init__(
            f"the changes of table {table} cannot be told from this position on: {reason}; start over: empty your "
            "copy, and read the feed without a position, which begins with the rows as they are now"
        )


class CannotPromote(ReplicationError):
    """The lease was not handed over."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the lease is not handed over: {reason}")


class CannotForget(ReplicationError):
    """A node cannot be taken out of the members; the text says why, and what to do."""


class PositionTimeout(ReplicationError):
    """A position was not reached in time. Whatever was written stays written; it is only not visible here yet."""

    def __init__(self, missing: str, timeout_s: float) -> None:
        self.missing = missing
        self.timeout_s = timeout_s
        super().__init__(
            f"position not reached within {timeout_s:g} s (missing {missing}); the write itself is done, and arrives "
            "as soon as its node, or another that has it, is reached"
        )


class DatabaseError(_Operators):
    """The database cannot be used as it is."""

    _what = "database"


class DatabasePathError(DatabaseError):
    """The path does not lead to a file that could be a database."""


class DatabaseReadOnly(DatabaseError):
    """The file, or the folder it is in, cannot be written."""


class NotADatabase(DatabaseError):
    """The file holds something else. It was left as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "not an SQLite database", "it was left as it is, name another file in [database] path")


class DatabaseCorrupt(DatabaseError):
    """The file is a database, and damaged."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, f"damaged ({reason})", "restore a backup, or save what is left with sqlite3's .recover")


class DatabaseBusy(DatabaseError):
    """Another process held the write lock for longer than the busy timeout."""

    def __init__(self, path: Path, waited_s: float) -> None:
        self.waited_s = waited_s
        super().__init__(
            path,
            f"still locked by another process after {waited_s:g} s",
            "end the long transaction there (`fuser` names the processes that have the file open)",
        )


class DatabaseFull(DatabaseError):
    """The disk is full."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "no space left on its disk", "free some; nothing of this write was kept")


class DatabaseFailed(DatabaseError):
    """The disk failed. A write that ended so may still be found when the database is opened again."""

    outcome_unknown = True

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, f"input or output failed ({reason})", "check the disk and the system's log")


class DatabaseInUse(DatabaseError):
    """Another Litecast node has the database open."""

    def __init__(self, path: Path, remedy: str = "stop that node, or give this one its own [database] path") -> None:
        super().__init__(path, "another Litecast node is using it", remedy)


class NewerFormat(DatabaseError):
    """A newer Litecast wrote this database. It was left as it is."""

    def __init__(self, path: Path, found: object, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            path, f"its Litecast tables have format {found}, this Litecast knows up to {known}", "upgrade litecast"
        )


class DataDirError(_Operators):
    """The node's data directory cannot be used as it is."""

    _what = "data directory"


class DataDirUnusable(DataDirError):
    """It cannot be created or written."""


class DataDirInUse(DataDirError):
    """Another node is running in it."""

    def __init__(self, path: Path, holder: str) -> None:
        self.holder = holder
        super().__init__(
            path,
            f"another node is running in it ({holder})" if holder else "another node is running in it",
            "stop that node, or give this one its own [node] data_dir",
        )
