"""Several attached databases and the changesets between them, without a network: the test is the network.

Nothing is sent by itself. A changeset is kept as soon as it is in its origin's journal, and a test decides who gets it,
when, how often and in which order. Time is a number that the test moves.
"""

import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from replication.engine.applying import Merged, Outcome, Repeat, TooEarly, Waits, merge_all
from replication.engine.attaching import TableChoice, attach
from replication.engine.catalogue import MergeRule
from replication.engine.changesets import Changeset, digest
from replication.engine.decoding import decode
from replication.engine.folding import Folded, fold
from replication.engine.known_tables import KnownTables
from replication.engine.sites import Head, vector
from replication.engine.stamps import Site
from tests.support.sql_schema import COUNTER, TABLES, Table

CLUSTER: Final = "replicas"
START_MS: Final = 1_700_000_000_000
FAR_AHEAD_MS: Final = 100_000  # more than the bound: what is stamped so has to wait
SHARED_MEMORY: Final = Path("/dev/shm")

type Schema = Callable[[sqlite3.Connection], None]


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder for databases that nobody minds losing: in memory where the system has a place for it."""
    where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


def open_database(path: Path) -> sqlite3.Connection:
    """A connection as the engine wants it; a commit does not wait for the disk."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def choices(tables: Sequence[Table] = TABLES) -> list[TableChoice]:
    """How the tables are attached."""
    return [
        TableChoice(
            name=table.name,
            counters=(COUNTER,) if table.counter else (),
            rule=MergeRule.ROW if table.whole_rows else MergeRule.CELL,
            shared_ids=table.chosen_ids,
        )
        for table in tables
    ]


def new_site(rng: random.Random) -> Site:
    return Site(f"{rng.getrandbits(128):032x}")


def attach_file(path: Path, schema: Schema, chosen: Sequence[TableChoice], site: Site) -> None:
    """An attached database that no connection has open: to be copied."""
    connection = open_database(path)
    try:
        schema(connection)
        attach(connection, chosen, cluster=CLUSTER, new_site=lambda: site)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


class Replica:
    """One attached database: the connection of its engine, and what it published."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = open_database(path)
        self._known = KnownTables()
        self.published: list[bytes] = []
        """Everything in the journal under the own site and the own baseline, in order."""
        self.merged: set[bytes] = set()
        """Digests of what was merged here."""
        self.told: Callable[[Changeset], None] = lambda _changeset: None
        """Called with each changeset as it is published: by a fold, and by the fold inside a merge."""
        self._collected = 0
        self.collect()

    def close(self) -> None:
        self.engine.close()

    @property
    def site(self) -> Site:
        (site,) = self.engine.execute("SELECT site FROM _litecast_state").fetchone()
        return Site(site)

    def heads(self) -> dict[Site, Head]:
        return vector(self.engine)

    def fold(self, now_ms: int) -> Folded | None:
        folded = fold(self.engine, now_ms=now_ms, known=self._known)
        self.collect()
        return folded

    @property
    def connection(self) -> sqlite3.Connection:
        return self.engine

    def fold_now(self, now_ms: int) -> Folded | None:
        return self.fold(now_ms)

    def merge_now(self, encoded: bytes, now_ms: int) -> Outcome:
        return self.merge(encoded, now_ms)

    def merge(self, encoded: bytes, now_ms: int) -> Outcome:
        (outcome,) = self.merge_all([encoded], now_ms)
        return outcome

    def merge_all(self, changesets: Sequence[bytes], now_ms: int) -> list[Outcome]:
        outcomes = merge_all(self.engine, changesets, now_ms=now_ms, known=self._known)
        for encoded, outcome in zip(changesets, outcomes, strict=True):
            if isinstance(outcome, Merged | Repeat):
                self.merged.add(digest(encoded))
        self.collect()
        return outcomes

    def forgot(self) -> None:
        """The journal was trimmed: its rows may be numbered from the beginning again."""
        (last,) = self.engine.execute("SELECT coalesce(max(rowid), 0) FROM _litecast_journal").fetchone()
        self._collected = min(self._collected, last)

    def collect(self) -> None:
        """Finds what this database has published since the last time: by a fold, inside a merge, by attach."""
        rows = self.engine.execute(
            "SELECT rowid, bytes FROM _litecast_journal WHERE rowid > ? ORDER BY rowid", (self._collected,)
        ).fetchall()
        for self._collected, encoded in rows:
            if digest(encoded) not in self.merged:
                self.merged.add(digest(encoded))
                self.published.append(encoded)
                self.told(decode(encoded))


class Replicas:
    """Replicas of one cluster, and every changeset that any of them published."""

    def __init__(self, rng: random.Random, members: Sequence[Replica]) -> None:
        self.rng = rng
        self.members = list(members)
        self.now_ms = START_MS
        self._far_ms = rng.choice((20_000, 20_000, 20_000, FAR_AHEAD_MS))
        self.trace: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.close()

    def everything(self) -> list[bytes]:
        """All changesets that exist."""
        return list({digest(encoded): encoded for member in self.members for encoded in member.published}.values())

    def tick(self) -> int:
        """Time goes on, or stands still."""
        self.now_ms += self.rng.choice((0, 0, 1, 7, 400))
        return self.now_ms

    def skewed(self) -> int:
        """What a clock that is not quite right says."""
        return self.tick() + self.rng.choice((0, 0, 0, -3000, 500, self._far_ms))

    def fold(self, at: int) -> Folded | None:
        return self.members[at].fold(self.skewed())

    def send(self, *changesets: bytes, to: int) -> list[Outcome]:
        """Changesets reach one replica, and are merged in one transaction; or none, while somebody is writing there."""
        try:
            outcomes = self.members[to].merge_all(changesets, self.tick())
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return []
        for encoded, outcome in zip(changesets, outcomes, strict=True):
            self.trace.append(f"{to} <- {digest(encoded).hex()[:6]}: {type(outcome).__name__}")
            assert isinstance(outcome, Merged | Repeat | Waits | TooEarly), outcome
        return outcomes

    def gossip(self, times: int) -> None:
        """Some changesets reach some replicas: all that one published, or one of them; too early, again, or never."""
        for _ in range(times):
            origin, to = self.rng.choice(self.members), self.rng.randrange(len(self.members))
            if self.rng.random() < 0.5:
                merged = self.members[to].merged
                new = [encoded for encoded in origin.published if digest(encoded) not in merged]
                if self.rng.random() < 0.5:
                    self.send(*new, to=to)
                else:
                    for encoded in new:
                        self.send(encoded, to=to)
            elif origin.published:
                self.send(self.rng.choice(origin.published), to=to)

    def settle(self) -> None:
        """Nobody writes any more, and everything reaches everybody, in any order that deps allow, some of it twice."""
        for at in self._shuffled(range(len(self.members))):
            self.fold(at)
        self.now_ms += FAR_AHEAD_MS  # a clock that ran ahead is not ahead any more
        all_there_is = len(self.everything())
        moved = True
        while moved:
            moved = False
            for at in self._shuffled(range(len(self.members))):
                for encoded in self._shuffled(self.everything()):
                    known = digest(encoded) in self.members[at].merged
                    if not known or self.rng.random() < 0.1:
                        (outcome,) = self.send(encoded, to=at)
                        assert known == isinstance(outcome, Repeat), outcome
                        moved |= isinstance(outcome, Merged)
            assert len(self.everything()) == all_there_is, "a merge was taken for an application's write"
        for at, member in enumerate(self.members):
            lacking = [e for e in self.everything() if digest(e) not in member.merged]
            assert not lacking, f"{at} never merged {[(decode(e).site, decode(e).upto) for e in lacking]}"

    def _shuffled[T](self, items: Sequence[T]) -> list[T]:
        return self.rng.sample(items, len(items))


def copied(template: Path, to: Path) -> Replica:
    """A replica that begins as the template. One template each: a copy keeps the template's site."""
    shutil.copyfile(template, to)
    return Replica(to)
