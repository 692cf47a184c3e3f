"""A database that is attached for one writer, and what tests of the engine do with one."""

from pathlib import Path

from replication.engine import epochs
from replication.engine.applying import Outcome, merge_all
from replication.engine.attaching import TableChoice, attach
from replication.engine.epochs import epoch_site
from replication.engine.folding import fold
from replication.engine.stamps import Site
from tests.support.replicas import open_database

USERS = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT, email TEXT UNIQUE COLLATE NOCASE, low INT, high INT, CHECK (low <= high))
"""
START_MS = 1_700_000_000_000
FENCED = "table is written on the primary, node 'alpha'; it's a replica"


class Database:
    """One database of a cluster with one writer. What it folds goes where the test says."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.connection = open_database(path)
        self.connection.execute(USERS)
        attach(
            self.connection,
            [TableChoice(name="users")],
            cluster="one",
            new_site=lambda: Site(name.encode().hex().ljust(32, "0")),
            one_writer=True,
        )
        self.name = name
        self.now_ms = START_MS
        self.made: list[bytes] = []

    def begin(self, epoch: int) -> None:
        self.now_ms += 1
        site = epoch_site(epoch, self.name.encode().hex().ljust(19, "0"))
        self.made += [one.encoded for one in epochs.begin(self.connection, site, now_ms=self.now_ms)]

    def end(self) -> None:
        self.now_ms += 1
        folded = epochs.end(self.connection, FENCED, now_ms=self.now_ms)
        self.made += [folded.encoded] if folded else []

    def write(self, sql: str, *parameters: object) -> bytes | None:
        """What came of it as a changeset."""
        self.connection.execute(sql, parameters)
        self.now_ms += 1
        folded = fold(self.connection, now_ms=self.now_ms)
        self.made += [folded.encoded] if folded else []
        return folded.encoded if folded else None

    def merge(self, *changesets: bytes) -> list[Outcome]:
        return merge_all(self.connection, changesets, now_ms=START_MS + 1000)

    def rows(self) -> list[tuple[object, ...]]:
        return self.connection.execute("SELECT id, email, low, high FROM users ORDER BY id").fetchall()
