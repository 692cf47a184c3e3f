"""Applications change their schema, each node when it comes to it, while others write: all end equal.

Columns are added at different times on different nodes; columns are renamed and dropped where all hold the same;
tables are rebuilt, Django's way, which takes the triggers with it. A failing run prints its seed; `LITECAST_SEED=n`
replays it.
"""

import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from replication.engine.comparing import Verdict
from replication.engine.scanning import scan
from tests.support import sql_schema
from tests.support.drift import Watch, compared
from tests.support.playing import AnySql, assert_equal
from tests.support.replicas import attach_file, choices, fast_folder, new_site, open_database
from tests.support.seeded import in_chunks, noted, runs, seeds
from tests.support.sql_schema import LOOSE, PAIRS, PEOPLE, SPANS, TABLES, TYPED, quoted, values

RUNS = runs(15)
CHUNKS = 4
ADDED = ("x1", "x2", "x3", 'x "4"')
DEFAULTS = (
    "",
    "DEFAULT 0",
    "DEFAULT NULL",
    "DEFAULT 'new'",
    "TEXT DEFAULT 5",
    "INTEGER DEFAULT '5'",
    "BLOB DEFAULT x'00'",
)
MIGRATED = (PEOPLE, PAIRS, TYPED, LOOSE, SPANS)
REBUILT = (LOOSE, SPANS)  # no trigger of the application's names them, which SQLite would not allow


class Migrating(AnySql):
    """Replicas whose schema changes."""

    def __init__(self, seed: int, folder: Path, templates: Sequence[Path]) -> None:
        super().__init__(seed, folder, templates)
        self._to_do: list[list[tuple[str, str, str]]] = [[] for _ in self.writers]
        self._free = [(table.name, column) for table in MIGRATED for column in ADDED]
        self.rng.shuffle(self._free)
        self.watch = Watch(self.rng, self.replicas.members)

    def play(self, steps: int) -> None:
        for _ in range(4):
            super().play(steps // 4)
            roll = self.rng.random()
            if roll < 0.5 and self._free:
                name, column = self._free.pop()
                kind = self.rng.choice(DEFAULTS)
                if name == "typed":
                    kind = self.rng.choice(("TEXT", "ANY DEFAULT 3"))
                for to_do in self._to_do:
                    to_do.append((name, column, kind))
            elif roll < 0.65:
                self._alter_everywhere()
            at = self.rng.randrange(len(self.writers))
            self.writers[at].settle()
            if self._to_do[at]:
                self._add(at)
            elif (roll := self.rng.random()) < 0.3:
                self._rebuild(at)
            elif roll < 0.4:
                self._vacuum(at)
            self.watch.look()

    def check(self) -> None:
        for at in range(len(self.writers)):
            self.writers[at].settle()
            while self._to_do[at]:
                self._add(at)
        self.replicas.settle()
        for member in self.replicas.members:
            assert member.fold(self.replicas.now_ms) is None
        assert_equal(self.replicas, TABLES)
        assert compared(self.replicas.members).verdict is Verdict.EQUAL
        for member in self.replicas.members:
            assert not any(scan(member.engine, table.name).count for table in TABLES)

    def _run(self, at: int, *statements: str) -> None:
        self.writers[at].trace += [f"-- {statement}" for statement in statements]
        connection = open_database(self.replicas.members[at].path)
        try:
            connection.execute("BEGIN")
            for statement in statements:
                connection.execute(statement)
            connection.execute("COMMIT")
        except sqlite3.IntegrityError as error:  # a CHECK
            self.writers[at].trace.append(f"-- {error}")
            connection.execute("ROLLBACK")
        finally:
            connection.close()

    def _add(self, at: int) -> None:
        name, column, kind = self._to_do[at].pop(0)
        self._run(at, f"ALTER TABLE {quoted(name)} ADD COLUMN {quoted(column)} {kind}")
        self.writers[at].cells[name][column] = values
        self._notice(at)

    def _notice(self, at: int) -> None:
        """What stands in a new column when it is first seen counts as computed by the migration, and is not sent.

        So a node that runs folds at once; what is written after that is an application's.
        """
        self.replicas.fold(at)

    def _alter_everywhere(self) -> None:
        """Where all hold the same, all rename or drop one of the added columns."""
        for at, writer in enumerate(self.writers):
            writer.settle()
            while self._to_do[at]:
                self._add(at)
        self.replicas.settle()
        present = [
            (table.name, column)
            for table in MIGRATED
            for column in ADDED
            if column in self.writers[0].cells[table.name]
        ]
        if not present:
            return
        name, column = self.rng.choice(present)
        drop = self.rng.random() < 0.5
        for at, writer in enumerate(self.writers):
            draw = writer.cells[name].pop(column)
            if drop:
                self._run(at, f"ALTER TABLE {quoted(name)} DROP COLUMN {quoted(column)}")
            else:
                self._run(at, f"ALTER TABLE {quoted(name)} RENAME COLUMN {quoted(column)} TO {quoted(column + ' new')}")
                writer.cells[name][column + " new"] = draw
            self._notice(at)

    def _vacuum(self, at: int) -> None:
        """Another tool puts the file in order, and makes an index: the schema has another number."""
        self.writers[at].trace.append("-- VACUUM")
        connection = open_database(self.replicas.members[at].path)
        try:
            connection.execute("VACUUM")
            connection.execute("CREATE INDEX IF NOT EXISTS by_v ON loose (v)")
            connection.execute("REINDEX")
        finally:
            connection.close()

    def _rebuild(self, at: int) -> None:
        """The table is copied into a new one, and something is written that no trigger sees."""
        table = self.rng.choice(REBUILT)
        name, cell = quoted(table.name), quoted(self.rng.choice(list(self.writers[at].cells[table.name])))
        connection = open_database(self.replicas.members[at].path)
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table.name,)).fetchone()
        connection.close()
        made = sql.replace(f"CREATE TABLE {table.name}", "CREATE TABLE rebuilt", 1).replace(
            f"CREATE TABLE {name}", "CREATE TABLE rebuilt", 1
        )
        self._run(
            at,
            made,
            f"INSERT INTO rebuilt SELECT * FROM {name}",
            f"DROP TABLE {name}",
            f"ALTER TABLE rebuilt RENAME TO {name}",
            self.rng.choice((f"UPDATE {name} SET {cell} = 1", f"DELETE FROM {name} WHERE {cell} IS NULL", "SELECT 1")),
        )


@pytest.fixture(scope="module")
def templates() -> Iterator[tuple[Path, ...]]:
    def create(connection: sqlite3.Connection) -> None:
        sql_schema.create(connection)

    with fast_folder() as folder:
        paths = tuple(folder / f"{number}.template" for number in range(3))
        for number, path in enumerate(paths):
            attach_file(path, create, choices(), new_site(random.Random(number)))
        yield paths


@pytest.mark.timeout(60 + RUNS)
@in_chunks(CHUNKS)
def test_schemas_that_change_at_different_times_end_equal(chunk: int, templates: tuple[Path, ...]) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        with fast_folder() as folder, Migrating(seed, folder, templates) as migrating, noted(seed, __file__):
            migrating.play(migrating.rng.choice((20, 60, 120)))
            migrating.check()
