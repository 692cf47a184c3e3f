"""Whole runs of a cluster at play: replicas, their applications, and what must be true in the end."""

import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from replication.engine.decoding import decode
from replication.engine.entries import decode_entry
from replication.engine.session import open_session
from replication.engine.stamps import Dot
from replication.engine.values import Key, Value, fetch
from replication.simulation.reference import differences, reference
from tests.support import clicks, sql_schema
from tests.support.clicks import Clicks, Ledger
from tests.support.replicas import Replica, Replicas, attach_file, choices, copied, new_site
from tests.support.sql_schema import Table, content, quoted
from tests.support.sql_writer import SqlWriter


def rows_of(replica: Replica, tables: Sequence[Table]) -> dict[str, dict[Key, dict[str, Value]]]:
    """Rows by key, as the reference has them."""
    found: dict[str, dict[Key, dict[str, Value]]] = {}
    for table in tables:
        names = [name for (name,) in replica.engine.execute("SELECT name FROM pragma_table_xinfo(?)", (table.name,))]
        columns = [name for name in names if name not in table.key]
        selected = ", ".join(map(quoted, [*table.key, *columns]))
        for row in fetch(replica.engine, f"SELECT {selected} FROM {quoted(table.name)}"):
            key = row[: len(table.key)]
            found.setdefault(table.name, {})[key] = dict(zip(columns, row[len(key) :], strict=True))
    return found


def assert_equal(replicas: Replicas, tables: Sequence[Table], *, members: Sequence[Replica] = ()) -> None:
    """All members, or these, hold the same rows, clocks and heads, and the rows that the reference has."""
    names = [table.name for table in tables]
    first, *others = members or replicas.members
    for other in others:
        mine, theirs = content(first.engine, names), content(other.engine, names)
        assert mine == theirs, [
            (
                name,
                [row for row in mine[name] if row not in theirs[name]],
                [row for row in theirs[name] if row not in mine[name]],
            )
            for name in names
            if mine[name] != theirs[name]
        ]
        assert other.heads() == first.heads(), (other.heads(), first.heads())
        known, known_there = state_of(first), state_of(other)
        assert known == known_there, [
            (
                [row for row in known[name] if row not in known_there[name]],
                [row for row in known_there[name] if row not in known[name]],
            )
            for name in names
            if known[name] != known_there[name]
        ]
    expected = reference(decode(encoded) for encoded in replicas.everything())
    found = rows_of(first, tables)
    columns = {name: set().union(*(row for row in rows.values())) for name, rows in found.items()}
    for name, rows in expected.items():
        for row in rows.values():
            for gone in row.keys() - columns.get(name, row.keys()):  # the column was dropped everywhere
                del row[gone]
    wrong = differences(expected, found)
    assert not wrong, wrong


class Counting:
    """Replicas with an application each that counts, and what was acknowledged."""

    def __init__(self, seed: int, folder: Path, *, replicas: int = 0, baselines: bool = False) -> None:
        self.rng = random.Random(seed)
        self.ledger = Ledger()
        self.replicas = Replicas(self.rng, [])
        self.applications: list[Clicks] = []
        self._folder = folder
        count = replicas or self.rng.choice((3, 3, 3, 4, 5))
        late = self.rng.randint(0, 2) if baselines else 0
        self._waiting = [self._rows_before() if baselines else {} for _ in range(count)]
        for _ in range(count - late):
            self.join()

    def _rows_before(self) -> dict[str, int]:
        """What a database holds before it is attached: the same as others, something like it, or nothing."""
        same = {"a": 30, "b": 2}
        drifted = {page: count + self.rng.randint(-3, 3) for page, count in same.items()}
        return self.rng.choice((same, same, drifted, {}, {"a": 30, "c": 1}))

    def join(self) -> None:
        """One more replica is attached, with the rows it has by itself."""
        rows = self._waiting.pop()
        path = self._folder / f"{len(self.applications)}.db"

        def schema(connection: sqlite3.Connection) -> None:
            clicks.create(connection)
            connection.executemany(
                "INSERT INTO clicks (page, n, label) VALUES (?, ?, ?)", [(*row, "old") for row in rows.items()]
            )

        attach_file(path, schema, choices([clicks.TABLE]), new_site(self.rng))
        for page, count in rows.items():
            self.ledger.baseline(page, count)
        member = Replica(path)
        application = Clicks(self.rng, path, self.ledger)
        member.told = application.note
        self.replicas.members.append(member)
        self.applications.append(application)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            for at, application in enumerate(self.applications):
                error.add_note(f"application {at}: {application.trace}")
        for application in self.applications:
            application.close()
        for member in self.replicas.members:
            member.close()

    def play(self, steps: int, *, deletes: bool = True) -> None:
        for _ in range(steps):
            at, roll = self.rng.randrange(len(self.applications)), self.rng.random()
            if self._waiting and self.rng.random() < 0.1:
                self.join()
            elif roll < 0.5:
                self.applications[at].write(deletes=deletes)
            elif roll < 0.65:
                self.replicas.fold(at)
            else:
                self.replicas.gossip(self.rng.choice((1, 1, 3)))

    def check(self) -> None:
        while self._waiting:
            self.join()
        self.replicas.settle()
        assert_equal(self.replicas, [clicks.TABLE])
        for page, row in rows_of(self.replicas.members[0], [clicks.TABLE]).get("clicks", {}).items():
            name = str(page[0])
            life = life_of(self.replicas.members[0], name)
            assert row["n"] == self.ledger.expected(name, life), f"{name} in life {life}"


def life_of(replica: Replica, page: str) -> int:
    (tid,) = replica.engine.execute("SELECT tid FROM _litecast_catalogue WHERE name = 'clicks'").fetchone()
    (life,) = replica.engine.execute(f"SELECT life FROM _litecast_clock_{tid} WHERE k0 = ?", (page,)).fetchone()
    return int(life)


class AnySql:
    """Replicas whose applications write anything at all, into tables of every shape."""

    def __init__(
        self, seed: int, folder: Path, templates: Sequence[Path], *, tables: Sequence[Table] = sql_schema.TABLES
    ) -> None:
        self.rng = random.Random(seed)
        paths = [folder / f"{seed}-{at}.db" for at in range(len(templates))]
        members = [copied(template, path) for template, path in zip(templates, paths, strict=True)]
        self.replicas = Replicas(self.rng, members)
        self.writers = [SqlWriter(self.rng, path, tables=tables) for path in paths]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        for at, writer in enumerate(self.writers):
            writer.close()
            if error is not None:
                error.add_note(f"writer {at}:\n" + "\n".join(writer.trace))
        for member in self.replicas.members:
            member.close()

    def play(self, steps: int) -> None:
        for _ in range(steps):
            at, roll = self.rng.randrange(len(self.writers)), self.rng.random()
            if roll < 0.75:
                self.writers[at].step()
                continue
            if roll < 0.85:
                self.writers[at].settle()
                self.replicas.fold(at)
            else:
                self.replicas.gossip(self.rng.choice((1, 3)))

    def check(self) -> None:
        for writer in self.writers:
            writer.settle()
        self.replicas.settle()
        assert_equal(self.replicas, sql_schema.TABLES)


def state_of(replica: Replica) -> dict[str, list[tuple[object, ...]]]:
    """All that merging knows of the rows, with sites and columns by name: equal where two replicas are equal."""
    return known_of(replica.engine)


def known_of(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """`state_of`, of a database."""
    session = open_session(connection)
    site_of = session.sites.site
    found: dict[str, list[tuple[object, ...]]] = {}
    for name, table in session.tables.items():
        keys, columns = table.keys, table.columns.names
        entries = fetch(connection, f"SELECT life, stamp, site, cells, {keys} FROM {table.spec.clock}")
        shares = fetch(connection, f"SELECT counter, site, life, value, stamp, {keys} FROM {table.spec.count}")
        rows: list[tuple[object, ...]] = []
        for life, stamp, short, blob, *key in entries:
            entry = decode_entry(life, Dot(stamp, site_of(short)), blob, names=columns, site_of=site_of)
            rows.append(("entry", key, entry.life, entry.born, sorted(entry.cells.items())))
        for number, short, *rest in shares:
            rows.append(("share", columns[number], site_of(short), *rest))
        found[name] = sorted(rows, key=repr)
    return found
