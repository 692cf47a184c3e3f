"""What sessions write: registers, of which each write says what it found there, and names that are unique.

A write inserts a row into `ops` beside what else it does. So what was carried out, how often, and what it saw, stands
in the database itself."""

from collections.abc import Mapping
from typing import Final

from replication.declared import TableDeclaration
from replication.primary.operations import Function
from replication.rows import Row
from replication.transaction import Transaction

SCHEMA: Final = (
    "CREATE TABLE registers (key TEXT PRIMARY KEY NOT NULL, op TEXT NOT NULL, version INTEGER NOT NULL)",
    """CREATE TABLE ops (
        id INTEGER PRIMARY KEY, op TEXT NOT NULL, key TEXT NOT NULL, saw TEXT, version INTEGER NOT NULL)""",
    "CREATE TABLE names (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, op TEXT NOT NULL)",
)
DECLARED: Final = tuple(TableDeclaration(name=name) for name in ("registers", "ops", "names"))
KEYS: Final = ("a", "b", "c")
NAMES: Final = tuple(f"name {number}" for number in range(30))


def swap(transaction: Transaction, op: str, key: str) -> Row:
    """Writes the op's name into a register. Its row says what stood there."""
    found = transaction.get("registers", key)
    version = 1 if found is None else found["version"] + 1
    if found is None:
        transaction.insert("registers", {"key": key, "op": op, "version": version})
    else:
        transaction.update("registers", key, {"op": op, "version": version})
    saw = None if found is None else found["op"]
    return transaction.insert("ops", {"op": op, "key": key, "saw": saw, "version": version})


FUNCTIONS: Final[Mapping[str, Function]] = {"swap": swap}
