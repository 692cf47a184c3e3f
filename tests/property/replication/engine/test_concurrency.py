"""Applications that write all the while that their databases fold and merge: every acknowledged count arrives, once."""

import itertools
import random
import sqlite3
import threading
from collections import Counter
from pathlib import Path

from tests.support import clicks
from tests.support.playing import assert_equal
from tests.support.replicas import Replica, Replicas, attach_file, choices, fast_folder, new_site

PAGES = ("a", "b", "c")
CHANGESETS = 80
PAUSE_S = 0.0005  # so that a lock is free at times; they do not take turns
UPSERT = "INSERT INTO clicks (page, n) VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET n = n + 1"


class Application(threading.Thread):
    """Counts as fast as it can, by a connection of its own, in every way that it knows."""

    def __init__(self, path: Path, seed: int, enough: threading.Event) -> None:
        super().__init__()
        self._enough = enough
        self._path = path
        self._rng = random.Random(seed)
        self.counted: Counter[str] = Counter()

    def run(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=30)
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA recursive_triggers = {self._rng.choice(('ON', 'OFF'))}")
        while not self._enough.wait(PAUSE_S):
            page = self._rng.choice(PAGES)
            self._rng.choice((self._upsert, self._read_then_write, self._replace))(connection, page)
            self.counted[page] += 1
        connection.close()

    def _upsert(self, connection: sqlite3.Connection, page: str) -> None:
        connection.execute(UPSERT, (page,))

    def _read_then_write(self, connection: sqlite3.Connection, page: str) -> None:
        connection.execute("BEGIN IMMEDIATE")
        row = connection.execute("SELECT n FROM clicks WHERE page = ?", (page,)).fetchone()
        if row is None:
            connection.execute("INSERT INTO clicks (page, n) VALUES (?, 1)", (page,))
        else:
            connection.execute("UPDATE clicks SET n = ? WHERE page = ?", (row[0] + 1, page))
        connection.execute("COMMIT")

    def _replace(self, connection: sqlite3.Connection, page: str) -> None:
        """In one statement, so that no commit comes between reading and writing."""
        connection.execute(
            "INSERT OR REPLACE INTO clicks (page, n) "
            "VALUES (?, 1 + coalesce((SELECT n FROM clicks WHERE page = ?), 0))",
            (page, page),
        )


def test_no_count_is_lost_between_writers_folds_and_merges() -> None:
    rng = random.Random(0)
    with fast_folder() as folder:
        paths = [folder / f"{number}.db" for number in range(3)]
        for path in paths:
            attach_file(path, clicks.create, choices([clicks.TABLE]), new_site(rng))
        with Replicas(rng, [Replica(path) for path in paths]) as replicas:
            for member in replicas.members:
                member.engine.execute("PRAGMA busy_timeout = 30000")
            enough = threading.Event()
            applications = [Application(path, number, enough) for number, path in enumerate([*paths, *paths])]
            for application in applications:
                application.start()
            try:
                while len(replicas.everything()) < CHANGESETS:
                    for at, origin in itertools.product(range(3), replicas.members):
                        replicas.fold(at)
                        replicas.send(*origin.published[-20:], to=at)
            finally:
                enough.set()
                for application in applications:
                    application.join()
            replicas.settle()
            assert_equal(replicas, [clicks.TABLE])
            counted = sum((application.counted for application in applications), Counter[str]())
            assert dict(replicas.members[0].engine.execute("SELECT page, n FROM clicks")) == counted
