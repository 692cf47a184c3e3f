"""What is merged but cannot be shown here, and what an insert collision lost.

A held cell is the winner for its cell: its clock and hash stand in the row's entry as for any other. It is kept apart
because this schema has no column of the name, or the column refuses the value (NOT NULL, STRICT, UNIQUE). `shown` is
the hash of what the row shows instead, if it shows anything: a fold that still finds that knows that nobody wrote
there. A row that could not be written at all has all its cells held, and a record of the name "" beside them.

Changes of a table that is not attached here are held as they came, and merged when it is.
"""

import sqlite3
from dataclasses import dataclass
from typing import Final

from replication.engine.values import Key, Value, bound, canonical_key, fetch, pack, unpack

_COLUMNS: Final = """
CREATE TABLE IF NOT EXISTS _litecast_columns (
    id INTEGER PRIMARY KEY, tid INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE (tid, name))"""
_HELD: Final = """
CREATE TABLE IF NOT EXISTS _litecast_held (
    tid INTEGER NOT NULL, key BLOB NOT NULL, name TEXT NOT NULL, value, shown BLOB, reason TEXT NOT NULL,
    PRIMARY KEY (tid, key, name)) WITHOUT ROWID"""
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS _litecast_held_tables (
    seq INTEGER PRIMARY KEY, name TEXT NOT NULL, site TEXT NOT NULL, upto INTEGER NOT NULL, body BLOB NOT NULL)"""
_CONFLICTS: Final = """
CREATE TABLE IF NOT EXISTS _litecast_conflicts (
    id INTEGER PRIMARY KEY, tid INTEGER NOT NULL, key BLOB NOT NULL, stamp INTEGER NOT NULL, site TEXT NOT NULL,
    cells BLOB NOT NULL)"""
CREATE: Final = (_COLUMNS, _HELD, _TABLES, _CONFLICTS)
