"""Numbers for the names of a table's columns, and which of them this schema has.

Clock entries and contributions name columns by number. A name gets one when it is first seen, here or in a changeset.
A column that is dropped keeps its number for ever, and is gone with it: what stands under the number in entries is no
longer read, and a later column of that name is another one."""

import sqlite3
from dataclasses import dataclass
from enum import IntEnum

from replication.engine.catalogue import TableSpec


class Here(IntEnum):
    """What a column was when the schema was last looked at."""

    DROPPED = -1
    UNKNOWN = 0
    """Only changesets name it."""
    CELL = 1
    COUNTER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at the schema found: columns not there before, and whether any is gone."""

    cells: frozenset[str]
    counters: frozenset[str]
    dropped: frozenset[str]


class Columns:
    """The numbers of one table. Writes a new one into `_litecast_columns` when it is asked for."""

    __slots__ = ("_connection", "_dropped", "_here", "_next", "_tid", "ids", "names")

    def __init__(self, connection: sqlite3.Connection, tid: int) -> None:
        self._connection = connection
        self._tid = tid
        self.ids: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self._here: dict[str, Here] = {}
        self._dropped: set[str] = set()
        self._next = 1
        rows = connection.execute("SELECT id, name, here FROM main._litecast_columns WHERE tid = ? ORDER BY id", (tid,))
        for number, name, here in rows:
            self._next = number + 1
            if here == Here.DROPPED:
                self._dropped.add(name)
            else:
                self.ids[name] = number
                self.names[number] = name
                self._here[name] = Here(here)

    def number(self, name: str) -> int:
        """The column's number."""
        found = self.ids.get(name)
        return found if found is not None else self._add(name, Here.UNKNOWN)

    def is_dropped(self, name: str) -> bool:
        """True if a column of the name was here, and none is now: what still comes for it is dropped."""
        return name in self._dropped and name not in self.ids

    def look(self, spec: TableSpec) -> Looked:
        """Notes the schema as it is. Gives what is new since the last look."""
        wanted = dict.fromkeys(spec.cells, Here.CELL) | dict.fromkeys(spec.counters, Here.COUNTER)
        fresh = {name: here for name, here in wanted.items() if self._here.get(name) != here}
        gone = {name for name, here in self._here.items() if here > Here.UNKNOWN and name not in wanted}
        for name, here in fresh.items():
            if name in self.ids:
                self._set(name, here)
            else:
                self._add(name, here)
        for name in gone:
            self._set(name, Here.DROPPED)
            del self.names[self.ids.pop(name)]
            del self._here[name]
            self._dropped.add(name)
        return Looked(
            cells=frozenset(name for name, here in fresh.items() if here == Here.CELL),
            counters=frozenset(name for name, here in fresh.items() if here == Here.COUNTER),
            dropped=frozenset(gone),
        )

    def _set(self, name: str, here: Here) -> None:
        self._connection.execute(
            "UPDATE main._litecast_columns SET here = ? WHERE tid = ? AND id = ?",
            (here.value, self._tid, self.ids[name]),
        )
        self._here[name] = here

    def _add(self, name: str, here: Here) -> int:
        number = self._next
        self._next += 1
        self._connection.execute(
            "INSERT INTO main._litecast_columns (tid, id, name, here) VALUES (?, ?, ?, ?)",
            (self._tid, number, name, here.value),
        )
        self.ids[name] = number
        self.names[number] = name
        self._here[name] = here
        return number
