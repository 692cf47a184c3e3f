"""The journal mode of a database: WAL while it is attached, and afterwards what it was."""

import sqlite3

IN_MEMORY = "memory"
"""That of a database in memory, which nobody else can open. It has no other."""


def journal_mode(connection: sqlite3.Connection) -> str:
    """The mode now, in lower case."""
    (mode,) = connection.execute("PRAGMA main.journal_mode").fetchone()
    return mode.decode() if isinstance(mode, bytes) else str(mode)  # the connection's owner may want text as bytes


def set_journal_mode(connection: sqlite3.Connection, mode: str) -> str:
    """Sets it as far as it goes, and gives the mode that it is. SQLite leaves WAL only for whoever is alone with it."""
    if mode == journal_mode(connection):
        return mode
    try:
        connection.execute(f"PRAGMA main.journal_mode = {mode}").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise
    return journal_mode(connection)
