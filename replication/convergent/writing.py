"""Writes that are folded in their own transaction, on a second connection in the engine's thread.

The engine's first connection is kept ready to merge: triggers off, foreign keys off. An application's rows are written
on this one, as on any program's. Both are used by one function at a time, so what the process remembers of the state
is what either has left."""

import sqlite3
from collections.abc import Callable

from replication.convergent.store import Done, Store
from replication.engine.folding import Folded, fold_inside, is_little_logged
from replication.engine.identity import check_remembered
from replication.engine.known_tables import AttachedTables, KnownTables
from replication.engine.session import open_session
from replication.engine.stamps import Stamp
from replication.errors import ReplicationError

type CarryOut = Callable[[sqlite3.Connection, Callable[[Stamp], None]], None]
"""Begins a transaction on the connection, writes, calls the function with the stamp that it owes, and commits."""


class CommittedAlready(ReplicationError):
    """What was written is committed, and this node could not look at what came of it."""

    outcome_unknown = True

    def __init__(self, error: Exception) -> None:
        super().__init__(f"it was committed, and then something went wrong: {type(error).__name__}: {error}")


class Writing:
    """On one store. `connect` makes the connection, at the first write: its commits are durable when they return."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._known = KnownTables()

    def write(self, store: Store, carry_out: CarryOut) -> Done:
        """Has somebody write, in one transaction, in which that is folded, with all that the log holds by then.

        If that is too much, or the schema is new, it is left to `Store.fold`, and nothing is made. Raises what
        `carry_out` does, and StateReplaced, with nothing written; and CommittedAlready."""
        connection = store.opened.writer(self._connect)
        folded: Folded | None = None
        attached: AttachedTables | None = None

        def fold_now(owed: Stamp) -> None:
            nonlocal folded, attached
            check_remembered(connection, store.remembered)
            session = open_session(connection, self._known)
            if not session.is_schema_new and is_little_logged(session):
                folded = fold_inside(session, now_ms=store.settings.now_ms(), owed=owed)
                attached = session.attached

        carry_out(connection, fold_now)
        if attached is not None:
            self._known.keep(attached)
        try:
            return store.done(folded, is_synced=folded is not None)
        except Exception as error:
            raise CommittedAlready(error) from error
