"""Triggers that keep up something of this node's own, as a search index, run on every node, also when it merges."""

import random
import sqlite3
from pathlib import Path
from typing import Self

import pytest

from replication.engine.attaching import TableChoice
from tests.support.playing import assert_equal
from tests.support.replicas import Replica, Replicas, attach_file, fast_folder, new_site, open_database
from tests.support.seeded import noted, runs, seeds
from tests.support.sql_schema import Table, one_of

RUNS = min(runs(12), 1000)
WORDS = ("red", "green", "blue", "one two", "two three", "")
IDS = ("a", "b", "c", "d")

NOTES = Table(
    name="notes",
    create="CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, body TEXT, stars INTEGER NOT NULL DEFAULT 0)",
    key={"id": one_of(*IDS)},
    cells={"body": one_of(*WORDS)},
    counter=False,
)


def create(connection: sqlite3.Connection) -> None:
    for statement in (
        NOTES.create,
        "CREATE VIRTUAL TABLE search USING fts5 (body, content = 'notes', content_rowid = 'rowid')",
        "CREATE TABLE written (id TEXT PRIMARY KEY, times INTEGER)",
        """CREATE TRIGGER notes_in AFTER INSERT ON notes BEGIN
            INSERT INTO search (rowid, body) VALUES (NEW.rowid, NEW.body); END""",
        """CREATE TRIGGER notes_out AFTER DELETE ON notes BEGIN
            INSERT INTO search (search, rowid, body) VALUES ('delete', OLD.rowid, OLD.body); END""",
        """CREATE TRIGGER notes_changed AFTER UPDATE ON notes BEGIN
            INSERT INTO search (search, rowid, body) VALUES ('delete', OLD.rowid, OLD.body);
            INSERT INTO search (rowid, body) VALUES (NEW.rowid, NEW.body);
            INSERT INTO written VALUES (NEW.id, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1; END""",
    ):
        connection.execute(statement)


class Searching:
    """Three replicas of notes that can be searched."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        paths = [folder / f"{number}.db" for number in range(3)]
        for path in paths:
            attach_file(path, create, [TableChoice(name="notes", counters=("stars",))], new_site(self.rng))
        self.replicas = Replicas(self.rng, [Replica(path) for path in paths])
        self.connections = [open_database(path) for path in paths]
        for connection in self.connections:
            connection.execute("PRAGMA recursive_triggers = ON")  # else a REPLACE leaves the index wrong, merge or none

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self.connections:
            connection.close()
        for member in self.replicas.members:
            member.close()

    def play(self) -> None:
        for _ in range(40):
            at, roll = self.rng.randrange(3), self.rng.random()
            if roll < 0.6:
                self._write(self.connections[at])
            elif roll < 0.75:
                self.replicas.fold(at)
            else:
                self.replicas.gossip(1)
            self.check_search(at)

    def _write(self, connection: sqlite3.Connection) -> None:
        page, word = self.rng.choice(IDS), self.rng.choice(WORDS)
        statement = self.rng.choice(
            (
                "INSERT OR REPLACE INTO notes (id, body) VALUES (:id, :word)",
                "INSERT INTO notes (id, body) VALUES (:id, :word) ON CONFLICT (id) DO UPDATE SET stars = stars + 1",
                "UPDATE notes SET body = :word WHERE id = :id",
                "UPDATE OR REPLACE notes SET id = :id WHERE body = :word AND id = 'a'",
                "DELETE FROM notes WHERE id = :id",
                "UPDATE notes SET stars = stars + 1",
            )
        )
        connection.execute(statement, {"id": page, "word": word})

    def check_search(self, at: int) -> None:
        connection = self.connections[at]
        connection.execute("INSERT INTO search (search, rank) VALUES ('integrity-check', 1)")
        for word in ("red", "two"):
            found = connection.execute("SELECT count(*) FROM search WHERE search MATCH ?", (word,)).fetchone()
            there = connection.execute("SELECT count(*) FROM notes WHERE instr(body, ?)", (word,)).fetchone()
            assert found == there

    def check(self) -> None:
        self.replicas.settle()
        assert_equal(self.replicas, [NOTES])
        for at, member in enumerate(self.replicas.members):
            self.check_search(at)
            assert member.fold(self.replicas.now_ms) is None


@pytest.mark.timeout(60 + RUNS)
def test_a_search_index_is_right_on_every_node() -> None:
    for seed in seeds(RUNS):
        with fast_folder() as folder, Searching(seed, folder) as searching, noted(seed, __file__):
            searching.play()
            searching.check()
