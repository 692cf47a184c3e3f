"""What a `Repo` holds while it is open: the lock, the writer, and the two readers."""

import functools
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from replication.connection import OneHopConnection
from replication.errors import QueryFailed, RepoClosed
from replication.lock import DatabaseLock
from replication.migrations import migrate
from replication.opening import Settings, claim, open_reader, open_writer
from replication.point_reader import PointReader
from replication.positions import Position
from replication.rows import Key, Row
from replication.tables import Tables
from replication.transaction import Surroundings, Transaction, Verbs, Written, in_transaction, leave_no_transaction

_STEPS_BETWEEN_CHECKS = (
    10_000  # of SQLite's virtual machine, under a millisecond: how soon a query notices it is unwanted
)


class _Query:
    """One call of `read`."""

    abandoned = False


class OpenDatabase:
    """The connections of an open database. Made by `open`, ends with `close`; used in one event loop."""

    def __init__(
        self, settings: Settings, now: Callable[[], datetime], lock: DatabaseLock, guard: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._surroundings = Surroundings(
            path=settings.path,
            busy_timeout_s=settings.busy_timeout_s,
            stamp=lambda: iso(now()),
            gives_positions=settings.gives_positions,
            guard=guard,
        )
        self._transaction_threads: set[int] = set()
        self._lock = lock
        self._writer = OneHopConnection(functools.partial(open_writer, settings))
        self._writer_tables = Tables()
        self._reader = OneHopConnection(functools.partial(open_reader, settings))
        self._reader_tables = Tables()
        self._point_reader: PointReader | None = None
        self._point_reader_knows = 0  # generation of the writer's tables
        self._query: _Query | None = None  # that the reader is running
        self._closing = False

    @classmethod
    async def open(
        cls, settings: Settings, now: Callable[[], datetime], guard: Callable[[], None] = lambda: None
    ) -> Self:
        """Raises a DatabaseError, and leaves nothing open then. `guard`: see `Surroundings`."""
        opened = cls(settings, now, claim(settings.path), guard)
        try:
            await opened._writer.open()
            await opened._reader.open()
            opened._point_reader = PointReader(settings)
            await opened._reader.run(opened._watch_queries)
        except BaseException:
            await opened.close()
            raise
        return opened

    async def close(self) -> None:
        """Waits for every function that was begun and closes: readers, writer (it empties the WAL), lock.

        Should closing a connection fail, the lock is kept until the process ends (`replication.lock` says why).
        """
        self._closing = True
        if self._point_reader is not None:
            self._point_reader.close()
        await self._reader.close_and_wait()
        await self._writer.close_and_wait()
        self._lock.release()

    def get(self, table: str, key: Key) -> Row | None:
        """A point read in the caller's thread. Raises DatabaseBusy at once instead of waiting."""
        reader = self._point_reader
        assert reader is not None, "get() before open() has returned"
        generation = self._writer_tables.generation
        if generation != self._point_reader_knows:
            reader.forget()
            self._point_reader_knows = generation
        return reader.get(table, key)

    async def read[T](self, step: Callable[[Verbs], T]) -> T:
        """What `step` returns, run in the reader's thread. Cancelling the awaiting task stops the query."""
        query = _Query()
        try:
            return await self._reader.run(functools.partial(self._read, query, step))
        finally:
            query.abandoned = True

    async def write[T](self, step: Callable[[Verbs], T], *, alone: bool = False) -> Written[T]:
        """What `step`, a single statement, returns, run in the writer's thread. It commits by itself.

        `alone`: it cannot stand in a transaction."""
        if self._surroundings.gives_positions and not alone:  # which have to be read under the lock that the write has
            return await self.transact(step)
        return Written(await self._writer.run(functools.partial(self._write, step)), Position())

    async def transact[T](self, work: Callable[[Transaction], T]) -> Written[T]:
        """What `work` returns, run in the writer's thread inside one transaction, and the transaction's position."""
        return await self._writer.run(functools.partial(self._transact, work))

    def is_in_transaction(self) -> bool:
        """True in the thread of a transaction's function, while it runs."""
        return threading.get_ident() in self._transaction_threads

    async def migrate(self, statements: tuple[str, ...]) -> int:
        """How many of the statements ran. Each node changes its own schema, also one that does not write."""
        unguarded = replace(self._surroundings, guard=lambda: None)
        return await self._writer.run(
            lambda connection: migrate(connection, statements, self._writer_tables, unguarded)
        )

    def transact_on[T](
        self, connection: sqlite3.Connection, tables: Tables, work: Callable[[Transaction], T]
    ) -> Written[T]:
        """The same on another connection to this database, at once, in the thread of that. `tables`: its own."""
        thread = threading.get_ident()
        self._transaction_threads.add(thread)
        try:
            return in_transaction(connection, tables, self._surroundings, work)
        finally:
            self._transaction_threads.discard(thread)

    def _transact[T](self, work: Callable[[Transaction], T], connection: sqlite3.Connection) -> Written[T]:
        return self.transact_on(connection, self._writer_tables, work)

    def _write[T](self, step: Callable[[Verbs], T], connection: sqlite3.Connection) -> T:
        verbs = Verbs(connection, self._writer_tables, self._surroundings)
        try:
            verbs.look_again()
            return step(verbs)
        finally:
            leave_no_transaction(connection)

    def _read[T](self, query: _Query, step: Callable[[Verbs], T], connection: sqlite3.Connection) -> T:
        if self._closing:
            raise RepoClosed(self._settings.path)
        self._query = query
        verbs = Verbs(connection, self._reader_tables, self._surroundings)
        try:
            verbs.look_again()
            return step(verbs)
        except QueryFailed as error:
            if self._closing:
                raise RepoClosed(self._settings.path) from error
            raise
        finally:
            self._query = None
            leave_no_transaction(connection)

    def _watch_queries(self, connection: sqlite3.Connection) -> None:
        connection.set_progress_handler(self._is_unwanted, _STEPS_BETWEEN_CHECKS)

    def _is_unwanted(self) -> bool:
        return self._closing or (self._query is not None and self._query.abandoned)


def iso(moment: datetime) -> str:
    """As it stands in inserted_at and updated_at: UTC, microseconds, fixed width, so that text sorts as time does."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
