"""Numbers for the names of a table's columns, and which of them this schema has.

Clock entries and contributions name columns by number. A name gets one when it is first seen, here or in a changeset.
A column that is dropped keeps its number for ever, and is gone with it: what stands under the number in entries is no
longer read, and a later column of that name is another one. A column whose renaming is declared takes its number
along."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from replication.engine import renaming
from replication.engine.catalogue import TableSpec
from replication.engine.renaming import Names, Renamed


class Here(IntEnum):
    """What a column was when the schema was last looked at."""

    DROPPED = -1
    UNKNOWN = 0
    """Only changesets name it."""
    CELL = 1
    COUNTER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What a look at the schema found: columns not there before, those that are gone, and those of another name now.

    `uncaptured`: the table was without triggers for a while, and what was written then is in no log."""

    cells: frozenset[str]
    counters: frozenset[str]
    dropped: frozenset[str]
    renamed: tuple[Renamed, ...] = ()
    uncaptured: bool = False


class Columns:
    """The numbers of one table. Writes a new one into `_litecast_columns` when it is asked for."""

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

    @cached_property
    def _declared(self) -> Names:
        return renaming.load(self._connection, self._tid)

    def here(self, name: str) -> str:
        """The name that a column bears here, which others may call by one that it had, or will have."""
        if self._is_here(name) or not self._declared:
            return name
        return next((other for other in self._declared.others(name) if self._is_here(other)), name)

    def looked_at(self) -> dict[str, Here]:
        """The columns that the schema had when it was last looked at, and what each was."""
        return {name: here for name, here in self._here.items() if here > Here.UNKNOWN}

    def is_cell(self, name: str) -> bool:
        """True if it was one, and no counter, when the schema was last looked at."""
        return self._here.get(name) == Here.CELL

    def _is_here(self, name: str) -> bool:
        return self._here.get(name, Here.UNKNOWN) > Here.UNKNOWN

    def is_dropped(self, name: str) -> bool:
        """True if a column of the name was here, and none is now: what still comes for it is dropped."""
        return name in self._dropped and name not in self.ids

    def look(self, spec: TableSpec) -> Looked:
        """Notes the schema as it is. Gives what is new since the last look."""
        wanted = dict.fromkeys(spec.cells, Here.CELL) | dict.fromkeys(spec.counters, Here.COUNTER)
        renamed = self._rename(wanted)
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
            renamed=renamed,
        )

    def _rename(self, wanted: Mapping[str, Here]) -> tuple[Renamed, ...]:
        """Moves numbers to the names that their columns have now, where that is declared."""
        if not self._declared or all(map(self._is_here, wanted)):
            return ()
        found: list[Renamed] = []
        for name, here in wanted.items():
            if self._is_here(name):
                continue
            former = next(
                (
                    other
                    for other in self._declared.before(name)
                    if self._here.get(other) == here and other not in wanted
                ),
                None,
            )
            if former is not None:
                found.append(self._move(former, name))
        return tuple(found)

    def _move(self, former: str, name: str) -> Renamed:
        number, others = self.ids.pop(former), self.ids.get(name)
        here = self._here.pop(former)
        if others is not None:
            self._set(name, Here.DROPPED)  # what stands under it is moved by who asked
            del self.names[others]
        self._connection.execute(
            "UPDATE main._litecast_columns SET name = ? WHERE tid = ? AND id = ?", (name, self._tid, number)
        )
        self.ids[name], self.names[number], self._here[name] = number, name, here
        self._add(former, Here.DROPPED)
        del self.names[self.ids.pop(former)]
        del self._here[former]
        self._dropped.add(former)
        return Renamed(former=former, name=name, number=number, others=others)

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
