"""Numbered statements, each run once on a database, in order."""

import sqlite3
from collections.abc import Sequence
from functools import partial

from replication.errors import MigrationChanged, MigrationFailed, RepoError
from replication.tables import Tables
from replication.transaction import Surroundings, Transaction, in_transaction

_TABLE = (
    "CREATE TABLE IF NOT EXISTS _litecast_migrations"
    " (number INTEGER PRIMARY KEY, statement TEXT NOT NULL, applied_at TEXT NOT NULL)"
)


def migrate(
    connection: sqlite3.Connection, statements: Sequence[str], tables: Tables, surroundings: Surroundings
) -> int:
    """How many statements ran now. The number of a statement is its place in the list, from 1.

    All texts are compared before anything runs. Each statement is a transaction of its own, together with the note that
    it ran, so that a run that was cut short goes on where it stopped. Numbers beyond the list, from a newer version of
    the application, are left alone. Raises MigrationChanged, MigrationFailed, DatabaseError.
    """
    applied = in_transaction(connection, tables, surroundings, _applied).result
    for number, statement in enumerate(statements, start=1):
        if applied.get(number, statement) != statement:
            raise MigrationChanged(number)
    applied_count = 0
    for number, statement in enumerate(statements, start=1):
        if number not in applied:
            step = partial(_apply, number, statement, surroundings)
            applied_count += in_transaction(connection, tables, surroundings, step).result
    return applied_count


def _applied(transaction: Transaction) -> dict[int, str]:
    transaction.execute(_TABLE)
    return {row["number"]: row["statement"] for row in transaction.all("SELECT * FROM _litecast_migrations")}


def _apply(number: int, statement: str, surroundings: Surroundings, transaction: Transaction) -> bool:
    before = transaction.get("_litecast_migrations", number)
    if before is not None:  # another process was quicker
        if before["statement"] != statement:
            raise MigrationChanged(number)
        return False
    try:
        transaction.execute(statement)
    except RepoError as error:
        raise MigrationFailed(number, str(error)) from error
    note = {"number": number, "statement": statement, "applied_at": surroundings.stamp()}
    transaction.insert("_litecast_migrations", note)
    return True
