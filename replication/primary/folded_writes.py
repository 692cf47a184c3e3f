"""Writes that others forwarded, each folded in the transaction that makes it: whoever asked waits to see it.

A write and then a fold are two transactions, with a lock and a sync each, and a thread each. Here they are one, in the
engine's thread, on a connection of its own there: the one that merges has its triggers off. A program's own writes on
the primary are not made so: they return before they are folded, and would wait for it."""

import sqlite3
from collections.abc import Callable
from typing import Any, Protocol

from replication.convergent.store import Done, Store
from replication.convergent.writing import Writing
from replication.engine.stamps import Stamp
from replication.positions import Position
from replication.tables import Tables
from replication.transaction import Transaction, Written

type Work = Callable[[Transaction], Any]


class Engine(Protocol):
    """What is needed of this node's replication."""

    async def work(self, step: Callable[[Store], Done]) -> Done: ...
    def committed(self, position: Position) -> None: ...


class TransactOn(Protocol):
    """`Repo.transact_on`."""

    def __call__(self, connection: sqlite3.Connection, tables: Tables, work: Work, /) -> Written[Any]: ...


class FoldedWrites:
    """`connect` makes a connection for an application's rows, whose commits are durable."""

    def __init__(self, engine: Engine, connect: Callable[[], sqlite3.Connection], transact_on: TransactOn) -> None:
        self._engine = engine
        self._writing = Writing(connect)
        self._transact_on = transact_on
        self._tables = Tables()

    async def transact(self, work: Work) -> Written[Any]:
        """What `work` returns, with its position, when it is durable, and cast unless there was too much to be folded
        at once. Raises what `Repo.transact_here` does, sqlite3.Error for what the fold met, BegunAgain; and
        CommittedAlready."""
        found: list[Written[Any]] = []

        def carry_out(connection: sqlite3.Connection, fold: Callable[[Stamp], None]) -> None:
            def written_and_folded(transaction: Transaction) -> Any:
                result = work(transaction)
                for stamp in transaction.position.stamps.values():
                    fold(stamp)
                return result

            found.append(self._transact_on(connection, self._tables, written_and_folded))

        done = await self._engine.work(lambda store: self._writing.write(store, carry_out))
        (written,) = found
        if not done.made:
            self._engine.committed(written.position)
        return written
