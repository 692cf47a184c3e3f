"""Nodes that go through the same migrations, each when it comes to them, while others write under other versions.

In the end, when all have the last version and have merged everything in whatever order deps allow, they are equal, and
as the reference has it. A failing run prints its seed; `LITECAST_SEED=n` replays it.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from replication.attaching_declared import attach_declared
from replication.declared import TableDeclaration
from replication.engine.applying import Merged, Repeat, Waits
from replication.engine.changesets import Changeset
from replication.engine.comparing import Verdict, compare
from replication.engine.decoding import decode
from replication.engine.digesting import attached_tables, digest
from replication.engine.values import Value
from replication.simulation.reference import reference
from tests.support.attached import CLUSTER, Attached
from tests.support.playing import known_of
from tests.support.seeded import in_chunks, noted, runs, seeds
from tests.support.states import take_state

RUNS = runs(15)
CHUNKS = 3

KEYS: Final = ("a", "b", "c", "d", "e", "f")
NOTES: Final = "CREATE TABLE notes (id TEXT PRIMARY KEY NOT NULL, title, body TEXT, n INTEGER NOT NULL DEFAULT 0)"


@dataclass(frozen=True, kw_only=True)
class Column:
    """`filled`: what stands in it where nobody wrote. `required`: an insert has to carry it."""

    name: str
    declared: str = ""
    filled: Value = None
    counter: bool = False
    required: bool = False


@dataclass(kw_only=True)
class Version:
    """What one version of the application knows of its schema."""

    columns: dict[str, Column]
    tables: list[str] = field(default_factory=list)


type Step = Callable[[Attached, Version], Version]


def rebuilt(node: Attached, version: Version, *more: tuple[Column, str]) -> None:
    """Django's way, in one transaction, whether a column is added or not. The triggers are gone."""
    new = "".join(f", {column.name} {column.declared}" for column, _ in more)
    values = "".join(f", {value}" for _, value in more)
    columns = ", ".join(["id", *version.columns])
    declared = ", ".join(f"{column.name} {column.declared}" for column in version.columns.values())
    node.connection.executescript(
        f"BEGIN; CREATE TABLE new__notes (id TEXT PRIMARY KEY NOT NULL, {declared}{new});"
        f"INSERT INTO new__notes SELECT {columns}{values} FROM notes; DROP TABLE notes;"
        "ALTER TABLE new__notes RENAME TO notes; COMMIT;"
    )


def add(column: Column) -> Step:
    def step(node: Attached, version: Version) -> Version:
        node.sql(f"ALTER TABLE notes ADD COLUMN {column.name} {column.declared}")
        return replace(version, columns={**version.columns, column.name: column})

    return step


def add_by_rebuild(column: Column, value: str) -> Step:
    def step(node: Attached, version: Version) -> Version:
        rebuilt(node, version, (column, value))
        return replace(version, columns={**version.columns, column.name: column})

    return step


def rename(old: str, new: str) -> Step:
    def step(node: Attached, version: Version) -> Version:
        node.sql(f"ALTER TABLE notes RENAME COLUMN {old} TO {new}")
        columns = {name: column for name, column in version.columns.items() if name != old}
        return replace(version, columns={**columns, new: replace(version.columns[old], name=new)})

    return step


def drop(name: str) -> Step:
    def step(node: Attached, version: Version) -> Version:
        node.sql(f"ALTER TABLE notes DROP COLUMN {name}")
        return replace(version, columns={one: column for one, column in version.columns.items() if one != name})

    return step


def rebuild(node: Attached, version: Version) -> Version:
    # The columns in the order in which the table has them.
    names = [name for (name,) in node.sql("SELECT name FROM pragma_table_info('notes') WHERE NOT pk")]
    rebuilt(node, replace(version, columns={name: version.columns[name] for name in names}))
    return version


def index(node: Attached, version: Version) -> Version:
    node.sql("CREATE INDEX IF NOT EXISTS by_n ON notes (id)")
    node.sql("VACUUM")
    return version


def new_table(node: Attached, version: Version) -> Version:
    node.sql("CREATE TABLE tags (id TEXT PRIMARY KEY NOT NULL, note TEXT)")
    return replace(version, tables=[*version.tables, "tags"])


BODY = Column(name="body", declared="TEXT")
LANG = Column(name="lang", declared="TEXT NOT NULL", filled="en", required=True)
SIZE = Column(name="size", declared="REAL DEFAULT 1.5", filled=1.5)
MEMO = Column(name="memo")
LIKES = Column(name="likes", declared="INTEGER NOT NULL DEFAULT 0", filled=0, counter=True)
STARS = Column(name="stars", declared="INTEGER NOT NULL", filled=0, counter=True, required=True)
STEPS: Final[dict[str, Step]] = {
    "memo": add(MEMO),
    "size": add(SIZE),
    "lang": add_by_rebuild(LANG, "'en'"),
    "likes": add(LIKES),
    "stars": add_by_rebuild(STARS, "0"),
    "heading": rename("title", "heading"),
    "views": rename("n", "views"),
    "no body": drop("body"),
    "rebuild": rebuild,
    "index": index,
    "tags": new_table,
}
RENAMED: Final = {"title": "heading", "n": "views"}
FORMER: Final = {new: old for old, new in RENAMED.items()}
FIRST: Final = Version(
    columns={
        "title": Column(name="title"),
        "body": BODY,
        "n": Column(name="n", declared="INTEGER NOT NULL DEFAULT 0", filled=0, counter=True),
    }
)
DECLARED: Final = (
    TableDeclaration(name="notes", counters=("n", "likes", "stars"), renamed=RENAMED),
    TableDeclaration(name="tags"),
)


class Node:
    """A database, the version of the application that writes into it, and what it has not looked at yet."""

    def __init__(self, rng: random.Random, name: str) -> None:
        self.rng = rng
        self.name = name
        self.database = Attached(NOTES, table="notes", counters=("n",))
        self.version = FIRST
        self.done = 0
        self.unlooked: set[str] = set()
        """Columns of which no fold knows: what is written there would be taken for the migration's."""
        self.written = 0
        self.merged: set[bytes] = set()
        self.attach()

    def attach(self) -> None:
        """As a node does whenever the schema has changed, before it folds."""
        site = self.database.site
        outcome = attach_declared(self.database.connection, DECLARED, cluster=CLUSTER, new_site=lambda: site)
        assert not outcome.refusals

    def migrate(self, step: Step) -> None:
        before = set(self.version.columns)
        self.version = step(self.database, self.version)
        self.done += 1
        self.unlooked |= set(self.version.columns) - before - set(RENAMED.values())

    def fold(self, now_ms: int) -> None:
        self.attach()
        self.database.fold_now(now_ms)
        self.unlooked.clear()

    def merge(self, encoded: bytes, now_ms: int) -> bool:
        """True if that was news."""
        if encoded in self.merged and self.rng.random() < 0.9:
            return False
        self.attach()
        outcome = self.database.merge_now(encoded, now_ms)
        assert isinstance(outcome, Merged | Repeat | Waits), outcome
        if isinstance(outcome, Merged):
            self.unlooked.clear()
        if not isinstance(outcome, Waits):
            self.merged.add(encoded)
        return isinstance(outcome, Merged)

    def write(self, ledger: dict[str, int], *, deletes: bool) -> None:
        rng = self.rng
        self.written += 1
        value = f"{self.name}{self.written}"
        if self.version.tables and rng.random() < 0.2:
            self.database.sql("INSERT OR REPLACE INTO tags VALUES (?, ?)", rng.choice(KEYS), value)
            return
        key = rng.choice(KEYS)
        cells = [column for column in self.version.columns.values() if not column.counter]
        counters = [column for column in self.version.columns.values() if column.counter]
        old = [column for column in cells if column.name not in self.unlooked]
        roll = rng.random()
        there = self.database.sql("SELECT 1 FROM notes WHERE id = ?", key)
        if not there:
            named = [column for column in cells if column.required or rng.random() < 0.5]
            counted = [column for column in counters if column.required]
            names = ["id", *(column.name for column in (*named, *counted))]
            values: list[Value] = [key, *(value for _ in named), *(0 for _ in counted)]
            self.database.sql(f"INSERT INTO notes ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", *values)
        elif roll < 0.5:
            column = rng.choice([column for column in counters if column.name not in self.unlooked])
            name = RENAMED.get(column.name, column.name)
            ledger[name] = ledger.get(name, 0) + 1
            self.database.sql(f"UPDATE notes SET {column.name} = {column.name} + 1 WHERE id = ?", key)
        elif roll < 0.9 or not deletes:
            column = rng.choice(old)
            self.database.sql(f"UPDATE notes SET {column.name} = ? WHERE id = ?", value, key)
        else:
            self.database.sql("DELETE FROM notes WHERE id = ?", key)


class Rolling:
    """A cluster whose nodes go through some migrations."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        names = rng.sample(sorted(STEPS), rng.randint(2, 5))
        if "lang" in names:  # rows to learn from are there at the beginning
            names.remove("lang")
            names.insert(0, "lang")
        self.names = names
        self.steps = [STEPS[name] for name in names]
        self.nodes = [Node(rng, name) for name in "abc"[: rng.choice((2, 3, 3))]]
        self.deletes = seed % 2 == 1
        self.ledger: dict[str, int] = {}
        self.now_ms = 1_700_000_000_000
        self.trace: list[str] = [f"steps: {names}"]

    def note(self, node: Node, what: str) -> None:
        self.trace.append(f"{node.name}: {what}")

    def begin(self) -> None:
        """A row that everybody has."""
        first = self.nodes[0]
        first.database.sql("INSERT INTO notes (id, title) VALUES ('first', 'first')")
        first.fold(self.now_ms)
        self.deliver()

    def tick(self) -> int:
        self.now_ms += self.rng.choice((0, 1, 7))
        return self.now_ms

    def play(self, events: int) -> None:
        for _ in range(events):
            node, roll = self.rng.choice(self.nodes), self.rng.random()
            if roll < 0.55:
                self.note(node, "writes")
                node.write(self.ledger, deletes=self.deletes)
            elif roll < 0.7:
                self.note(node, "folds")
                node.fold(self.tick())
            elif roll < 0.85:
                self.gossip(node)
            elif roll < 0.9 and self.nodes[0] is not node:
                self.note(node, "gives its state to the first")
                node.attach()
                self.nodes[0].attach()
                take_state(node.database.connection, self.nodes[0].database.connection, now_ms=self.now_ms)
                self.nodes[0].unlooked.clear()
                node.unlooked.clear()
            elif node.done < len(self.steps):
                self.note(node, f"migrates: {self.names[node.done]}")
                node.migrate(self.steps[node.done])

    def gossip(self, node: Node) -> None:
        origin = self.rng.choice(self.nodes)
        waiting = origin.database.journal()
        for encoded in self.rng.sample(waiting, min(len(waiting), 3)):
            self.note(node, f"hears of {origin.name}")
            node.merge(encoded, self.tick())

    def finish(self) -> None:
        for node in self.nodes:
            while node.done < len(self.steps):
                node.migrate(self.steps[node.done])
                if self.rng.random() < 0.5:
                    node.fold(self.tick())
        for node in self.nodes:
            node.fold(self.tick())
        self.deliver()

    def deliver(self) -> None:
        everything = self.everything()
        moved = True
        while moved:
            moved = False
            for node in self.nodes:
                for encoded in self.rng.sample(everything, len(everything)):
                    moved |= node.merge(encoded, self.now_ms)
            assert set(self.everything()) == set(everything), "a merge was taken for an application's write"

    def everything(self) -> list[bytes]:
        found = {encoded for node in self.nodes for encoded in node.database.journal()}
        return sorted(found)

    def check(self) -> None:
        first, *others = self.nodes
        columns = first.version.columns
        tables = ["notes", *first.version.tables]
        for node in self.nodes:
            assert node.database.fold_now(self.tick()) is None, f"{node.name} has something to say"
            lost = node.database.sql("SELECT key, name, value, reason FROM _litecast_held")
            assert not [one for one in lost if one[1] in (*columns, "")], f"{node.name} holds {lost}"
        for other in others:
            assert content(other, tables) == content(first, tables)
            assert known(other, columns) == known(first, columns)
        taken = {
            node.name: digest(node.database.connection, attached_tables(node.database.connection))
            for node in self.nodes
        }
        assert compare(taken).verdict is Verdict.EQUAL
        self._check_reference(first)
        if not self.deletes:
            for name, total in self.ledger.items():
                shown = name if name in columns else FORMER[name]
                assert first.database.sql(f"SELECT sum({shown}) FROM notes") == [(total,)], name

    def _check_reference(self, node: Node) -> None:
        done = {new for new in RENAMED.values() if new in node.version.columns}
        names = {old: new for old, new in RENAMED.items() if new in done}
        expected = reference(renamed(map(decode, self.everything()), names))
        columns = node.version.columns
        wanted = {
            key: {name: row.get(name, columns[name].filled) for name in columns}
            for (key,), row in expected.get("notes", {}).items()
        }
        found = {
            row[0]: dict(zip(columns, row[1:], strict=True))
            for row in node.database.sql(f"SELECT id, {', '.join(columns)} FROM notes")
        }
        assert found == wanted


def renamed(changesets: Iterable[Changeset], names: dict[str, str]) -> Iterable[Changeset]:
    """The changesets with the names that columns have in the end."""
    for changeset in changesets:
        yield replace(
            changeset,
            tables=tuple(
                replace(
                    table,
                    groups=tuple(
                        replace(
                            group,
                            cells=tuple(names.get(name, name) for name in group.cells),
                            counters=tuple(names.get(name, name) for name in group.counters),
                        )
                        for group in table.groups
                    ),
                )
                for table in changeset.tables
            ),
        )


def content(node: Node, tables: Iterable[str]) -> dict[str, list[dict[str, Value]]]:
    """Rows, with columns by name: nodes may have them in another order."""
    found: dict[str, list[dict[str, Value]]] = {}
    for table in tables:
        names = [name for (name,) in node.database.sql(f"SELECT name FROM pragma_table_info('{table}')")]
        found[table] = [dict(zip(names, row, strict=True)) for row in node.database.rows(table)]
    return found


def known(node: Node, columns: Iterable[str]) -> dict[str, list[object]]:
    """All that merging knows of the rows, but for columns that are not there any more."""
    kept = {*columns, "note"}
    found: dict[str, list[object]] = {}
    for table, rows in known_of(node.database.connection).items():
        entries: list[tuple[Any, ...]] = [row for row in rows if row[0] == "entry"]
        found[table] = [(*entry, [cell for cell in cells if cell[0] in kept]) for *entry, cells in entries]
        found[table] += [row for row in rows if row[0] == "share" and row[1] in kept]
    return found


@pytest.mark.timeout(60 + RUNS)
@in_chunks(CHUNKS)
def test_nodes_that_migrate_one_after_the_other_end_equal_and_as_the_reference_has_it(chunk: int) -> None:
    for seed in seeds(RUNS, chunk=chunk, chunks=CHUNKS):
        rolling = Rolling(seed)
        with noted(seed, __file__, rolling.trace):
            rolling.begin()
            rolling.play(rolling.rng.choice((20, 60, 120)))
            rolling.finish()
            rolling.check()
