"""One write transaction of the engine's, and what it changes on the connection while it lasts.

Merging writes rows whose effects were captured, and whose constraints were checked, where they were first written:
triggers off, foreign keys off, CHECK not enforced. Foreign keys can only be switched between transactions, so it is
done around; all three are put back however the transaction ends."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from replication.engine.capture import MERGING
from replication.engine.table import Table

_TRIGGERS = sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE, then COMMIT, or ROLLBACK if the body raises.

    Raises sqlite3.OperationalError if the lock cannot be had, and RuntimeError if a transaction is open: its writes
    would be committed with these."""
    if connection.in_transaction:
        raise RuntimeError("a transaction is open on the engine's connection")
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def reading(connection: sqlite3.Connection) -> Iterator[None]:
    """One read transaction: all that is read in it is of one moment. Raises RuntimeError if a transaction is open."""
    if connection.in_transaction:
        raise RuntimeError("a transaction is open on the connection: this reads in one of its own")
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@contextmanager
def merging_transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """`transaction`, in which nothing that a table declares gets in the way of what is written."""
    if connection.in_transaction:
        raise RuntimeError("a transaction is open on the engine's connection")
    triggers = connection.getconfig(_TRIGGERS)
    with _pragma(connection, "foreign_keys", on=False), _pragma(connection, "ignore_check_constraints", on=True):
        try:
            connection.setconfig(_TRIGGERS, False)
            with transaction(connection):
                yield
        finally:
            connection.setconfig(_TRIGGERS, triggers)


def keep_ready_to_merge(connection: sqlite3.Connection) -> None:
    """For a connection that merges again and again, and writes rows of the application's in no other way.

    Each of these settings makes SQLite compile all prepared statements anew when it changes: a third of the time that
    a merge of one row took."""
    connection.execute("PRAGMA foreign_keys = 0")
    connection.execute("PRAGMA ignore_check_constraints = 1")
    connection.setconfig(_TRIGGERS, False)


@contextmanager
def _pragma(connection: sqlite3.Connection, name: str, *, on: bool) -> Iterator[None]:
    (before,) = connection.execute(f"PRAGMA {name}").fetchone()
    if bool(before) != on:
        connection.execute(f"PRAGMA {name} = {int(on)}")
    try:
        yield
    finally:
        (after,) = connection.execute(f"PRAGMA {name}").fetchone()
        if after != before:
            connection.execute(f"PRAGMA {name} = {before}")


@contextmanager
def writing_rows(connection: sqlite3.Connection, table: Table) -> Iterator[None]:
    """In a transaction: around writes to the application's rows, which capture is not to see.

    With triggers off; or, for a table whose triggers keep something up that is not attached, with triggers on and
    capture's gated."""
    before = connection.getconfig(_TRIGGERS)
    gated = table.spec.local_triggers
    if gated:
        connection.execute(f"INSERT INTO main.{MERGING} (id) VALUES (1)")
    connection.setconfig(_TRIGGERS, gated)
    try:
        yield
    finally:
        connection.setconfig(_TRIGGERS, before)
        if gated and connection.in_transaction:
            connection.execute(f"DELETE FROM main.{MERGING}")


def set_enforced(connection: sqlite3.Connection, *, checks: bool) -> None:
    """Whether CHECK is enforced from now on. `merging_transaction` puts back what was."""
    connection.execute(f"PRAGMA ignore_check_constraints = {int(not checks)}")
