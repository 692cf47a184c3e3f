"""The database as an application sees it: async verbs over one SQLite file.

One writer, readers apart:

- every write is a function that runs from beginning to end in the writer's thread, in one hop (`OneHopConnection`);
- `get` reads in the event loop's own thread, without a hop (`PointReader`);
- `all` may take long, and has a connection and thread of its own.

The readers see the newest commit of anybody, this repo's own awaited writes included. The file is an ordinary SQLite
database in WAL mode: other processes may read and write it at any time, with any driver. Only another `Repo` is kept
out, by a lock (`replication.lock`).

**Cancellation.** When a task that awaits a write is cancelled, the write is carried out all the same, whole: its
function is already on its way to the writer's thread. Cancelled, or run into a timeout of the caller's own, means
*unknown*, never "not written". The connection is never left inside a transaction, and `close()` waits for what was
begun.
"""

import asyncio
import contextlib
import inspect
import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from replication.acknowledging.levels import Ack, Sure
from replication.convergent.noticing import WalWatch
from replication.errors import (
    CannotConfirm,
    CannotForward,
    DatabaseBusy,
    NobodyWrites,
    NoChangeFeed,
    ReplicationError,
    RepoClosed,
    WaitInTransaction,
)
from replication.feed.feed import ChangeFeed, Feed
from replication.feed.live import Commits, live
from replication.feed.position import FeedPosition
from replication.open_database import OpenDatabase
from replication.opening import Settings, Synchronous, resolved
from replication.positions import Position
from replication.primary.operations import Function, Operation
from replication.primary.operations import statements as statements_of
from replication.rows import Key, Op, Parameters, Row
from replication.tables import Tables
from replication.transaction import Transaction, Written, stands_alone
from replication.translation import SQLITE_ERRORS, translated

type Replicator = Callable[[Row, Op], None]
"""Sends a whole row to the peers. Called in the event loop's thread; must not block."""

type At = Position | Literal["primary"] | None
"""How new a read is. None: as new as this node is. A position: as new as that, waited for up to `WAIT_TIMEOUT_S`
(PositionTimeout). "primary": all that was written on the primary when the read began, at the price of asking it
(NoPrimary, PositionTimeout; NobodyWrites in the modes in which every node writes). All three read this node's file."""

WAIT_TIMEOUT_S = 5.0
"""How long `wait_for` waits, if not told otherwise."""

BUSY_TIMEOUT_S = 5.0
"""How long a write waits for another process's transaction: as long as a `call` between nodes."""


class Router(Protocol):
    """What a repo needs in the mode in which one node writes."""

    def guard(self) -> None:
        """Raises NotNow unless this node may write now; TooFarAhead."""
        ...

    async def latest(self) -> Position:
        """The position of all that is written by now, on the node that writes. Raises NoPrimary."""
        ...

    async def write[T](
        self, operation: Callable[[], Operation], here: Callable[[], Awaitable[T]], *, wait: bool, sure: Sure
    ) -> T | Any:
        """What the write returns, carried out `here` or, as an operation, on the node that writes; `wait` until it can
        be read here then. Raises what the verb raises, and a ForwardingError, and NotConfirmed."""
        ...


class Confirmations(Protocol):
    """What a repo needs to know where a write is durable."""

    def why_never(self, level: Ack) -> str:
        """Why nothing here will ever be as sure as that; "" if it may be."""
        ...

    async def confirmed(self, position: Position, level: Ack, *, timeout_s: float, result: object = None) -> None:
        """Returns once what was committed here at the position may be acknowledged. Raises NotConfirmed."""
        ...


class Link(Protocol):
    """What a repo needs of the replication that folds what it writes."""

    def committed(self, position: Position) -> None:
        """Something was committed that this is the position of. In the event loop; does not block."""
        ...

    async def wait_for(self, position: Position, *, timeout_s: float) -> None:
        """Returns once the position is reached here. Raises PositionTimeout."""
        ...

    @property
    def feed(self) -> Feed:
        """The change feed."""
        ...


_log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The system's time."""
    return datetime.now(UTC)


class Repo:
    """One SQLite database. Use it as `async with Repo(path) as repo:`, in one event loop.

    Errors are those of `replication.errors`: a RepoError for what the caller asked, a DatabaseError (one line, with the
    remedy) for the state of the file; never sqlite3's own. Except for those with `outcome_unknown`, an error means
    that nothing of the write was kept.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        synchronous: Synchronous = Synchronous.FULL,
        replicator: Replicator | None = None,
        now: Callable[[], datetime] = utc_now,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        gives_positions: bool = False,
    ) -> None:
        """Opens nothing yet. `replicator` is what `replicate` hands rows to; None in the modes that send nothing.

        `gives_positions`: in the modes in which an engine makes changesets of what is written; `link` is set then."""
        self.path = Path(path)
        self.synchronous = Synchronous(synchronous)
        self.replicator = replicator
        self.link: Link | None = None
        """The replication of this database, once it is there."""
        self.router: Router | None = None
        """Where writes go, once it is there, in the mode in which one node writes."""
        self.confirmations: Confirmations | None = None
        """Who knows on which nodes a write is, once it is there, in the modes in which others have it."""
        self.sure = Sure()
        """How sure a write is before it returns, unless it says `ack` itself."""
        self.functions: dict[str, Function] = {}
        """What `register` was given."""
        self.position = Position()
        """That of the last write that was awaited here: what another node waits for to show it and all before it."""
        self._gives_positions = gives_positions
        self._now = now
        self._busy_timeout_s = busy_timeout_s
        self._open: OpenDatabase | None = None
        self._closing: asyncio.Task[None] | None = None
        self._commits = Commits(self._watch, self.path)

    async def open(self) -> None:
        """Opens the database, creating the file and the folder it is in if they are missing.

        Raises a DatabaseError; nothing is left open then, and a file that is refused is left as it was. A cancelled
        `open` waits for what was begun, closes it again, and is cancelled.
        """
        if self._open is not None:
            return
        self._closing = None
        opening = asyncio.create_task(OpenDatabase.open(self._settings(), self._now, self._guard), name="repo open")
        try:
            self._open = await asyncio.shield(opening)
        except asyncio.CancelledError:
            with contextlib.suppress(ReplicationError):
                await (await opening).close()
            raise

    async def close(self) -> None:
        """Waits for the writes that were begun, stops a long query of `all`, closes the database and gives up its lock.

        May be called twice. When it is cancelled the closing goes on, and the next `close` waits for it.
        """
        if self._open is not None:
            opened, self._open = self._open, None
            await self._commits.close()
            self._closing = asyncio.create_task(opened.close(), name="repo close")
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self, table: str, key: Key, *, at: At = None) -> Row | None:
        """The row with this primary key (a tuple if it has several columns), or None. Raises NoSuchTable, WrongKey, and
        what being as new as `at` raises (see `At`)."""
        opened = self._opened()
        if at is not None:
            await self._be(at)
        try:
            return opened.get(table, key)
        except DatabaseBusy:  # recovery after a crash, or somebody's exclusive lock: wait, but not in the event loop
            return await opened.read(lambda verbs: verbs.get(table, key))

    async def all(self, sql: str, params: Parameters = (), *, at: At = None) -> list[Row]:
        """The rows that a query gives. It may take long; queries run one after another, beside writes and `get`.

        Raises QueryFailed, also for a statement that would write: that is what `execute` is for; and what being as new
        as `at` raises (see `At`).
        """
        if at is not None:
            await self._be(at)
        return await self._opened().read(lambda verbs: verbs.all(sql, params))

    async def insert(
        self, table: str, row: Mapping[str, Any], *, wait: bool = True, ack: Ack | str | None = None
    ) -> Row:
        """The whole row as it now stands, defaults included.

        `inserted_at` and `updated_at`, where the table has them, are set to now (ISO 8601, UTC, microseconds) unless
        given. Generated columns are left out. Raises DuplicateRow, ConstraintFailed, NoSuchTable, NoSuchColumn.
        """
        return await self._routed(
            lambda: Operation("insert", (table, dict(row))),
            lambda: self._opened().write(lambda verbs: verbs.insert(table, row)),
            wait=wait,
            ack=ack,
        )

    async def insert_many(
        self, table: str, rows: Iterable[Mapping[str, Any]], *, wait: bool = True, ack: Ack | str | None = None
    ) -> int:
        """How many rows were inserted: all, in one transaction, or none. Columns are filled as by `insert`."""
        taken = list(rows)  # here: an iterable of the application's is not run in another thread
        return await self._routed(
            lambda: Operation("insert_many", (table, [dict(row) for row in taken])),
            lambda: self._opened().transact(lambda transaction: transaction.insert_many(table, taken)),
            wait=wait,
            ack=ack,
        )

    async def update(
        self, table: str, key: Key, changes: Mapping[str, Any], *, wait: bool = True, ack: Ack | str | None = None
    ) -> Row:
        """The whole row after these changes; `updated_at` is set to now unless it is among them.

        Raises NoSuchRow, DuplicateRow, ConstraintFailed, NoSuchTable, NoSuchColumn.
        """
        return await self._routed(
            lambda: Operation("update", (table, key, dict(changes))),
            lambda: self._opened().write(lambda verbs: verbs.update(table, key, changes)),
            wait=wait,
            ack=ack,
        )

    async def delete(self, table: str, key: Key, *, wait: bool = True, ack: Ack | str | None = None) -> Row:
        """The row as it was. Raises NoSuchRow, ConstraintFailed, NoSuchTable."""
        return await self._routed(
            lambda: Operation("delete", (table, key)),
            lambda: self._opened().write(lambda verbs: verbs.delete(table, key)),
            wait=wait,
            ack=ack,
        )

    async def execute(
        self, sql: str, params: Parameters = (), *, wait: bool = True, ack: Ack | str | None = None
    ) -> int:
        """How many rows one statement, of any kind but BEGIN and COMMIT, changed."""
        return await self._routed(
            lambda: Operation("execute", (sql, params)),
            lambda: self._opened().write(lambda verbs: verbs.execute(sql, params), alone=stands_alone(sql)),
            wait=wait,
            ack=ack,
        )

    async def statements(
        self, statements: Sequence[str | tuple[str, Parameters]], *, wait: bool = True, ack: Ack | str | None = None
    ) -> list[int]:
        """How many rows each of these statements changed: SQL, or pairs of SQL and parameters. All in one transaction,
        or none. Raises what `execute` raises, and CannotForward for what is no list of statements."""
        operation = statements_of(statements)
        return await self._routed(
            lambda: operation,
            lambda: self._opened().transact(lambda tx: operation.run(tx, {})),
            wait=wait,
            ack=ack,
        )

    def register(self, name: str, function: Function) -> None:
        """`call` runs `function(transaction, ...)` under this name, wherever it has to run: every node of a cluster
        registers the same. What it is given and what it returns are values, rows, and lists and maps of these."""
        self.functions[name] = function

    async def call(self, name: str, *arguments: Any, wait: bool = True, ack: Ack | str | None = None) -> Any:
        """What the registered function returns, run in one transaction as `transaction` runs one. Raises
        NoSuchFunction."""
        operation = Operation("function", (name, list(arguments)))
        return await self._routed(
            lambda: operation,
            lambda: self._opened().transact(lambda tx: operation.run(tx, self.functions)),
            wait=wait,
            ack=ack,
        )

    async def transaction[T](self, work: Callable[[Transaction], T], *, ack: Ack | str | None = None) -> T:
        """What `work` returns, once it is committed.

        `work` is a plain function. It runs in the writer's thread, in one hop, inside one BEGIN IMMEDIATE ... COMMIT,
        and gets the same verbs without `await`. What it reads nobody changes before its commit. An exception rolls
        everything back and is raised here. It holds the database's one write lock: keep it short, and do not wait in
        it. Raises TypeError for a coroutine function.
        """
        if inspect.iscoroutinefunction(work):
            raise TypeError("a transaction's function is a plain `def`, run in the writer's thread")
        return await self._routed(_not_sent, lambda: self._opened().transact(work), wait=True, ack=ack)

    async def migrate(self, statements: Sequence[str]) -> int:
        """How many of these statements ran now. Each has the number of its place, from 1, and runs once on a database.

        Raises MigrationChanged if another text already ran under a number (before anything runs), and MigrationFailed;
        the statements before the failed one stay.
        """
        return await self._opened().migrate(tuple(statements))

    def replicate[R: (Row, Exception)](self, result: R, op: Op) -> R:
        """`result` itself, after handing the row to the replicator. Never raises, never waits.

        As in the Elixir post: an error passes through and sends nothing; of a row, all columns are sent with their
        absolute values. Where the mode sends nothing, only the result comes back, so that an application's code is the
        same in all.
        """
        if self.replicator is not None and isinstance(result, Row):
            try:
                self.replicator(result.copy(), Op(op))  # a copy: the caller may go on changing its row
            except Exception:
                _log.exception("the replicator failed on a row of %s", result.table)
        return result

    def changes(self, table: str, *, since: FeedPosition | None = None) -> ChangeFeed:
        """`async for change in repo.changes("pages", since=position)`: each committed change of an attached table, made
        here or merged, from a position on, as it comes.

        Without a position it begins with the rows that are there, and goes on with what changes from then on: whoever
        applies all of it to an empty copy (see `ChangeOp`) keeps that equal to the table. A position is kept as text
        (`str`, `FeedPosition.parse`), holds after a restart, and on another node too. See `ChangeFeed` for what is
        raised, and docs/changes.md. Raises NoChangeFeed in the modes that make no changesets."""
        return ChangeFeed(self._feed(), table, since, path=self.path)

    async def feed_position(self) -> FeedPosition:
        """The position of who has seen all that is folded and merged by now: `changes` gives what comes after it.
        Raises NoChangeFeed."""
        try:
            return await self._feed().position()
        except SQLITE_ERRORS as error:
            raise translated(error, path=self.path, busy_timeout_s=0) from error

    def live(self, sql: str, params: Parameters = ()) -> AsyncGenerator[list[Row]]:
        """`async for rows in repo.live(sql)`: the rows that a query gives, and again whenever they are others, whoever
        committed what. In every mode; the query may read anything. Many commits at once are answered by one run.

        Raises what `all` raises, and RepoClosed when the repo is closed. End it with `contextlib.aclosing`, or by
        cancelling the task: nothing is watched once nobody looks."""
        self._opened()
        return live(lambda: self.all(sql, params), self._commits)

    async def _watch(self, noticed: Callable[[], None]) -> None:
        await WalWatch(resolved(self.path))(noticed)

    def _feed(self) -> Feed:
        self._opened()
        if self.link is None:
            raise NoChangeFeed
        return self.link.feed

    def wait_for(self, position: Position, *, timeout_s: float = WAIT_TIMEOUT_S) -> Awaitable[None]:
        """`await` it: it returns once what was written at `position`, here or elsewhere, can be read here.

        Cancelling it has no effect but that. Raises PositionTimeout, and at once WaitInTransaction inside a transaction
        (it would wait for itself). Where no changesets are made, every position is reached."""
        if self._opened().is_in_transaction():
            raise WaitInTransaction
        return self._wait_for(position, timeout_s)

    async def _be(self, at: Position | Literal["primary"]) -> None:
        if isinstance(at, Position):
            await self.wait_for(at)
        elif self.router is None:
            raise NobodyWrites('at = "primary"')
        else:
            await self.wait_for(await self.router.latest())

    async def _wait_for(self, position: Position, timeout_s: float) -> None:
        if self.link is not None:
            await self.link.wait_for(position, timeout_s=timeout_s)

    async def _routed[T](
        self,
        operation: Callable[[], Operation],
        here: Callable[[], Awaitable[Written[T]]],
        *,
        wait: bool,
        ack: Ack | str | None,
    ) -> T:
        """Carries a write out here, or where writes go. `operation` is only made where there is a choice."""
        sure = self._sure(ack)

        async def done_here() -> T:
            written = await here()
            self._done(written)
            await self.confirmed(written, sure)
            return written.result

        if self.router is None:
            return await done_here()
        self._opened()
        return await self.router.write(operation, done_here, wait=wait, sure=sure)

    def _sure(self, ack: Ack | str | None) -> Sure:
        """Raises CannotConfirm, before anything is written."""
        sure = self.sure if ack is None else Sure(level=_level(ack), timeout_s=self.sure.timeout_s)
        self.check(sure)
        return sure

    def check(self, sure: Sure) -> None:
        """Raises CannotConfirm if no write of this node's could be as sure as that."""
        if sure.level is Ack.LOCAL:
            return
        if self.confirmations is None:
            raise CannotConfirm(f"{sure.level} needs [replication] mode convergent or primary, and a node that runs")
        why_never = self.confirmations.why_never(sure.level)
        if why_never:
            raise CannotConfirm(why_never)

    async def confirmed[T](self, written: Written[T], sure: Sure) -> None:
        """Returns once a write of this node's is as sure as that. Raises NotConfirmed."""
        if sure.level is not Ack.LOCAL and written.position and self.confirmations is not None:
            await self.confirmations.confirmed(
                written.position, sure.level, timeout_s=sure.timeout_s, result=written.result
            )

    async def transact_here[T](self, work: Callable[[Transaction], T]) -> Written[T]:
        """`transaction`, on this node and no other, with its position: for who carries out what others forward. Raises
        NotNow unless this node writes."""
        written = await self._opened().transact(work)
        self._done(written)
        return written

    def transact_on[T](
        self, connection: sqlite3.Connection, tables: Tables, work: Callable[[Transaction], T]
    ) -> Written[T]:
        """The same at once, in this thread, on another connection of this process's to the database. `tables`: what is
        known of them on that connection. The link is told nothing."""
        return self._opened().transact_on(connection, tables, work)

    def _guard(self) -> None:
        if self.router is not None:
            self.router.guard()

    def _done[T](self, written: Written[T]) -> None:
        if written.position:
            self.position = written.position
            if self.link is not None:
                self.link.committed(written.position)

    def _opened(self) -> OpenDatabase:
        if self._open is None:
            raise RepoClosed(self.path)
        return self._open

    def _settings(self) -> Settings:
        return Settings(
            path=resolved(self.path),
            synchronous=self.synchronous,
            busy_timeout_s=self._busy_timeout_s,
            gives_positions=self._gives_positions,
        )


def _level(ack: Ack | str) -> Ack:
    try:
        return Ack(ack)
    except ValueError:
        raise CannotConfirm(f"{ack!r} is none of {', '.join(Ack)}") from None


def _not_sent() -> Operation:
    raise CannotForward(
        "the function of a transaction() runs on this node only; send statements(), or register() the function on "
        "every node and call() it"
    )
