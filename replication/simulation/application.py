"""What the simulated applications write, and what has to be true of it at any moment, on any machine.

Each transaction inserts a row into `ops` under a name of its own, beside whatever else it writes, and has nothing else
in common with the others. So the presence of that row tells whether the transaction is there, and the whole can be
checked from the outside: a page's counter is the sum of the deltas of the ops that are there; what an op wrote over is
nowhere to be seen where that op is.

- `pages`: counters, raised in every way that SQL has for it, and never deleted; a title, which is the op's name.
- `ops`: what was written.
- `notes`: merged by row; inserted, updated, replaced, deleted; `by` is the op's name, and low is never above high."""

import sqlite3
from dataclasses import dataclass
from random import Random
from typing import Final

from replication.declared import TableDeclaration
from replication.engine import catalogue, held
from replication.engine.catalogue import MergeRule
from replication.engine.values import unpack
from replication.positions import Position, of_next_fold
from replication.simulation.migrating import TONED, version

CLUSTER: Final = "simulation"
SCHEMA: Final = (
    "CREATE TABLE pages (page TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, title TEXT)",
    "CREATE TABLE ops (op TEXT PRIMARY KEY NOT NULL, page TEXT, delta INTEGER NOT NULL DEFAULT 0)",
    """CREATE TABLE notes (
        id TEXT PRIMARY KEY NOT NULL, low INTEGER, high INTEGER, n INTEGER NOT NULL DEFAULT 0, by TEXT,
        CHECK (low <= high))""",
)
DECLARED: Final = (
    TableDeclaration(name="pages", counters=("n",)),
    TableDeclaration(name="ops"),
    TableDeclaration(name="notes", counters=("n",), merge=MergeRule.ROW),
)
PAGES: Final = ("a", "b", "c")
NOTES: Final = ("u", "v", "w", "x")

OF_MANY: Final = "~"
"""Stands in the name of an op that was written together with many: before it, the name that they have in common."""

type Cell = tuple[str, str]
"""A table, and a key in it: a page's title, or a note as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """A transaction that was acknowledged."""

    name: str
    page: str | None
    delta: int
    wrote: tuple[tuple[Cell, str | None], ...]
    """What it wrote or deleted, each with the op that stood there before, which it has seen."""
    deleted: tuple[Cell, ...]
    position: Position
    """Who has reached it elsewhere sees the op."""


class Application:
    """Writes by one connection at a time."""

    def __init__(self, random: Random, name: str) -> None:
        self._random = random
        self._name = name
        self._number = 0

    def write(self, connection: sqlite3.Connection) -> Op:
        """One transaction. Raises sqlite3.Error, and nothing of it is there then."""
        random = self._random
        self._number += 1
        work = _Work(connection, random, f"{self._name}{self._number}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if random.random() < 0.1:
                work.regret()
            for _ in range(random.choice((1, 1, 1, 2, 3))):
                work.step()
            op = work.finish()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return op

    def write_many(self, connection: sqlite3.Connection) -> list[Op]:
        """One transaction of hundreds of ops: a reader sees all of them, or none. Raises as `write` does."""
        self._number += 1
        connection.execute("BEGIN IMMEDIATE")
        try:
            ops = [
                _Work(connection, self._random, f"{self._name}{self._number}{OF_MANY}{number}").finish()
                for number in range(self._random.randint(150, 400))
            ]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return ops


class _Work:
    """One transaction at work."""

    def __init__(self, connection: sqlite3.Connection, random: Random, name: str) -> None:
        self._connection = connection
        self._random = random
        self._name = name
        self._page: str | None = None
        self._delta = 0
        self._wrote: dict[Cell, str | None] = {}
        self._deleted: dict[Cell, None] = {}

    def step(self) -> None:
        roll = self._random.random()
        if roll < 0.5:
            self._click()
        elif roll < 0.6:
            self._title()
        else:
            self._note()

    def finish(self) -> Op:
        values: dict[str, object] = {"op": self._name, "page": self._page, "delta": self._delta}
        if version(self._connection) >= TONED:
            values["tone"] = self._random.choice(("low", "high"))
        marks = ", ".join("?" * len(values))
        self._connection.execute(f"INSERT INTO ops ({', '.join(values)}) VALUES ({marks})", [*values.values()])
        return Op(
            name=self._name,
            page=self._page,
            delta=self._delta,
            wrote=tuple(self._wrote.items()),
            deleted=tuple(self._deleted),
            position=of_next_fold(self._connection),
        )

    def regret(self) -> None:
        """What nobody will ever see."""
        connection = self._connection
        connection.execute("SAVEPOINT regretted")
        for sql in self._random.sample(
            (
                "UPDATE pages SET n = n + 100",
                "DELETE FROM pages",
                "DELETE FROM notes",
                "INSERT OR REPLACE INTO notes (id, n) VALUES ('u', 77)",
                "UPDATE OR REPLACE notes SET id = 'v' WHERE id = 'u'",
            ),
            2,
        ):
            connection.execute(sql)
        connection.execute("ROLLBACK TO regretted")

    # --- pages ---

    def _click(self) -> None:
        if self._page is not None:  # one page an op
            return
        random, connection = self._random, self._connection
        page, delta = random.choice(PAGES), random.choice((1, 1, 1, 2, 5, -1))
        row = connection.execute("SELECT n FROM pages WHERE page = ?", (page,)).fetchone()
        way = random.randrange(4)
        if row is None or way == 0:
            connection.execute(
                "INSERT INTO pages (page, n) VALUES (?, ?) ON CONFLICT (page) DO UPDATE SET n = n + excluded.n",
                (page, delta),
            )
        elif way == 1:
            connection.execute("UPDATE pages SET n = ? WHERE page = ?", (row[0] + delta, page))
        elif way == 2:
            connection.execute(
                "INSERT OR REPLACE INTO pages (page, n, title) SELECT page, n + ?, title FROM pages WHERE page = ?",
                (delta, page),
            )
        else:
            connection.execute("UPDATE pages SET n = n + ? WHERE page = ?", (delta, page))
        self._page, self._delta = page, delta

    def _title(self) -> None:
        page = self._random.choice(PAGES)
        row = self._connection.execute("SELECT title FROM pages WHERE page = ?", (page,)).fetchone()
        if row is not None:
            self._saw(("pages", page), row[0])
            self._connection.execute("UPDATE pages SET title = ? WHERE page = ?", (self._name, page))

    def _saw(self, cell: Cell, op: str | None) -> None:
        if op != self._name:
            self._wrote.setdefault(cell, op)
        self._deleted.pop(cell, None)

    # --- notes ---

    def _note(self) -> None:
        random, connection = self._random, self._connection
        key = random.choice(NOTES)
        low = random.randrange(100)
        bound = (low, low + random.randrange(10), self._name, key)
        row = connection.execute("SELECT by FROM notes WHERE id = ?", (key,)).fetchone()
        self._saw(("notes", key), None if row is None else row[0])
        if row is None:
            connection.execute("INSERT INTO notes (low, high, by, id, n) VALUES (?, ?, ?, ?, 1)", bound)
            return
        way = random.randrange(7)
        if way <= 2:
            connection.execute("UPDATE notes SET low = ?, high = ?, by = ? WHERE id = ?", bound)
        elif way == 3:
            connection.execute("INSERT OR REPLACE INTO notes (low, high, by, id) VALUES (?, ?, ?, ?)", bound)
        elif way == 4:
            connection.execute("UPDATE notes SET n = n + 1, low = ?, high = ?, by = ? WHERE id = ?", bound)
        else:
            connection.execute("DELETE FROM notes WHERE id = ?", (key,))
            if way == 5:
                connection.execute("INSERT INTO notes (low, high, by, id, n) VALUES (?, ?, ?, ?, 1)", bound)
            else:
                self._deleted["notes", key] = None


def present(connection: sqlite3.Connection) -> set[str]:
    """The ops that are there, also those whose row cannot be shown before their origin has migrated."""
    return {op for (op,) in connection.execute("SELECT op FROM ops")} | hidden(connection)


def hidden(connection: sqlite3.Connection) -> set[str]:
    """Ops whose row is held."""
    if not catalogue.is_there(connection):
        return set()
    found = connection.execute(
        "SELECT key FROM _litecast_held JOIN _litecast_catalogue USING (tid)"
        " WHERE _litecast_held.name = ? AND _litecast_catalogue.name = 'ops'",
        (held.ROW,),
    ).fetchall()
    return {str(unpack(key)[0]) for (key,) in found}
