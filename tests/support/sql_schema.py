"""Tables of every shape that can be attached, and values of every kind that SQLite can store.

What random SQL is made from. Each table is described in just enough words for a writer to hit it: its key, its other
columns, its counter. The values of keys come from small sets, so that statements meet each other's rows.
"""

import math
import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

type Bound = int | float | str | bytes | None


@dataclass(frozen=True, slots=True)
class BadText:
    """Text that is not UTF-8: it can only be written by CAST(? AS TEXT)."""

    raw: bytes


type Drawn = Bound | BadText
type Draw = Callable[[random.Random], Drawn]

INTS: Final = (0, 1, -1, 7, 255, 2**31, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63))
FLOATS: Final = (0.0, -0.0, 1.0, 1.5, -1.5, 0.1, 1e16, -1e308, 5e-324, math.inf, -math.inf, 2.0**63)
TEXTS: Final = ("", "a", "A", "b", "1", "1.0", " 1", "1e3", "\x00", "a\x00b", "é", "\U0001f642", "\ud7ff", "x" * 3000)
BLOBS: Final = (b"", b"\x00", b"a", b"1", b"\xff\xfe", bytes(range(256)))
BAD_TEXTS: Final = (
    BadText(b"\xff"),
    BadText(b"a\xffb"),
    BadText(b"\xed\xa0\x80"),
    BadText(b"\xc3"),
    BadText(b"\x00\xfe"),
)


def ints(rng: random.Random) -> Drawn:
    return rng.choice(INTS)


def floats(rng: random.Random) -> Drawn:
    return rng.choice(FLOATS)


def texts(rng: random.Random) -> Drawn:
    return rng.choice(BAD_TEXTS) if rng.random() < 0.1 else rng.choice(TEXTS)


def blobs(rng: random.Random) -> Drawn:
    return rng.choice(BLOBS)


def values(rng: random.Random) -> Drawn:
    """Any value at all, NULL among them."""
    draw = rng.choice((ints, floats, texts, blobs, None))
    return None if draw is None else draw(rng)


def one_of(*choices: Drawn) -> Draw:
    return lambda rng: rng.choice(choices)


NAMES: Final = one_of("ann", "bob", "cyd", "\x00", "ann\x00", "")
NUMBERS: Final = one_of(1, 2, 3, 0, -5, 2**63 - 1)
COUNTER: Final = "n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: how it is created, and what a writer may put where."""

    name: str
    create: str
    key: Mapping[str, Draw]
    """In key order."""
    cells: Mapping[str, Draw]
    counter: bool = True
    """It has a counter column `n`."""
    whole_rows: bool = False
    """Merged by row: it has a CHECK across columns."""
    chosen_ids: bool = False
    """Its INTEGER PRIMARY KEY is chosen by the application."""


PEOPLE: Final = Table(
    name="people",
    create="""CREATE TABLE people (
        id TEXT PRIMARY KEY NOT NULL, name TEXT, age INTEGER, n INTEGER NOT NULL DEFAULT 0, photo BLOB,
        made TEXT DEFAULT CURRENT_TIMESTAMP, loud TEXT GENERATED ALWAYS AS (upper(name)) VIRTUAL,
        old INTEGER GENERATED ALWAYS AS (age > 50) STORED, extra)""",
    key={"id": NAMES},
    cells={"name": texts, "age": values, "photo": blobs, "made": values, "extra": values},
)
PETS: Final = Table(
    name="pets",
    create="""CREATE TABLE pets (
        id TEXT PRIMARY KEY NOT NULL,
        owner TEXT REFERENCES people(id) ON DELETE CASCADE ON UPDATE CASCADE,
        sitter TEXT REFERENCES people(id) ON DELETE SET NULL ON UPDATE SET NULL DEFERRABLE INITIALLY DEFERRED,
        note DEFAULT 'none', n INTEGER NOT NULL DEFAULT 3)""",
    key={"id": NAMES},
    cells={"owner": NAMES, "sitter": NAMES, "note": values},
)
PAIRS: Final = Table(
    name="pairs",
    create="""CREATE TABLE pairs (
        v, a TEXT NOT NULL, b BLOB NOT NULL, c INTEGER NOT NULL, w REAL DEFAULT 1.5, n INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (c, a, b)) WITHOUT ROWID""",
    key={"c": one_of(1, -7, 2**62), "a": one_of("x", "X", BadText(b"x\xff")), "b": one_of(b"", b"\x00", b"x")},
    cells={"v": values, "w": values},
)
TYPED: Final = Table(
    name="typed",
    create="""CREATE TABLE typed (
        id BLOB PRIMARY KEY NOT NULL, i INTEGER, r REAL, t TEXT, b BLOB, x ANY, n INTEGER NOT NULL DEFAULT 0) STRICT""",
    key={"id": one_of(b"", b"\x00", b"k", b"\xff" * 16)},
    cells={"i": ints, "r": floats, "t": texts, "b": blobs, "x": values},
)
LOOSE: Final = Table(
    name="loose",
    create="CREATE TABLE loose (k NOT NULL, v, w NUMERIC DEFAULT '007', PRIMARY KEY (k))",
    key={"k": one_of(1, 2.5, "1", b"1", "", b"", BadText(b"\xff"), 2**53 + 1, math.inf)},
    cells={"v": values, "w": values},
    counter=False,
)
NUMBERED: Final = Table(
    name="numbered",
    create="CREATE TABLE numbered (id INTEGER PRIMARY KEY, v, n INTEGER NOT NULL DEFAULT 0)",
    key={"id": NUMBERS},
    cells={"v": values},
    chosen_ids=True,
)
SPANS: Final = Table(
    name="spans",
    create='CREATE TABLE "spans" (id TEXT NOT NULL PRIMARY KEY, lo INTEGER, "hi ""x" INTEGER, CHECK (lo <= "hi ""x"))',
    key={"id": NAMES},
    cells={"lo": one_of(None, 1, 5), 'hi "x': one_of(None, 5, 9)},
    counter=False,
    whole_rows=True,
)
NAMED: Final = Table(
    name='we"ird [t]äble',
    create="""CREATE TABLE "we""ird [t]äble" (
        "rowid" TEXT, k1 TEXT NOT NULL, "k0" NOT NULL, "gone", "life" DEFAULT 1.0, "d.k0", "new" DEFAULT NULL,
        "select" BLOB DEFAULT x'00', n INTEGER NOT NULL DEFAULT 0, "cells", "t" REAL, PRIMARY KEY ("k0", k1))""",
    key={"k0": one_of(1, "1", -0.5, ""), "k1": one_of("k0", "new", "")},
    cells=dict.fromkeys(("rowid", "gone", "life", "d.k0", "new", "select", "cells", "t"), values),
)
AUDIT: Final = Table(
    name="audit",
    create="CREATE TABLE audit (id TEXT PRIMARY KEY NOT NULL, last, n INTEGER NOT NULL DEFAULT 0)",
    key={"id": one_of("people", "pets", "gone")},
    cells={"last": values},
)
TABLES: Final = (PEOPLE, PETS, PAIRS, TYPED, LOOSE, NUMBERED, SPANS, NAMED, AUDIT)

# The application's own triggers, and a view to write through. They write attached tables only: a merge leaves them off.
TRIGGERS: Final = (
    "CREATE VIEW folk AS SELECT id, name, n FROM people",
    """CREATE TRIGGER folk_written INSTEAD OF UPDATE ON folk BEGIN
        UPDATE OR REPLACE people SET id = NEW.id, name = NEW.name WHERE id = OLD.id;
        INSERT OR IGNORE INTO numbered (id, v) VALUES (length(NEW.id), OLD.name); END""",
    """CREATE TRIGGER people_counted AFTER INSERT ON people BEGIN
        INSERT INTO audit (id, n, last) VALUES ('people', 1, NEW.name) ON CONFLICT (id) DO UPDATE SET n = n + 1; END""",
    """CREATE TRIGGER pets_gone AFTER DELETE ON pets BEGIN
        INSERT OR REPLACE INTO audit (id, last) VALUES ('gone', OLD.note);
        UPDATE numbered SET n = n - 1 WHERE id = 1; END""",
    """CREATE TRIGGER numbered_guarded BEFORE UPDATE OF v ON numbered BEGIN
        SELECT RAISE(IGNORE) WHERE NEW.v IS 255; SELECT RAISE(ABORT, 'no') WHERE NEW.v IS 'b';
        SELECT RAISE(FAIL, 'stop') WHERE NEW.v IS 'A'; SELECT RAISE(ROLLBACK, 'all') WHERE NEW.v IS 'a'; END""",
    """CREATE TRIGGER typed_moves BEFORE DELETE ON typed BEGIN
        UPDATE OR REPLACE pairs SET c = 1 WHERE b = OLD.id; END""",
)


def create(connection: sqlite3.Connection) -> None:
    """All tables and the application's triggers."""
    for table in TABLES:
        connection.execute(table.create)
    for trigger in TRIGGERS:
        connection.execute(trigger)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


type Cell = tuple[str, Bound]


def content(connection: sqlite3.Connection, names: Sequence[str] = ()) -> dict[str, list[tuple[Cell, ...]]]:
    """Every row of every table, each value with its storage class; text as its bytes; columns in order of their names.

    -0.0 is shown as 0.0: the two are equal, and which of them arrives is not promised.
    """
    found = {}
    factory, connection.text_factory = connection.text_factory, bytes
    try:
        for name in names or [table.name for table in TABLES]:
            cursor = connection.execute(f"SELECT * FROM {quoted(name)} LIMIT 0")
            columns = sorted(quoted(column[0]) for column in cursor.description)
            select = ", ".join(f"typeof({column}), {column}" for column in columns)
            rows = connection.execute(f"SELECT {select} FROM {quoted(name)}").fetchall()
            found[name] = sorted((_typed(row) for row in rows), key=repr)
    finally:
        connection.text_factory = factory
    return found


def _typed(row: Sequence[Any]) -> tuple[Cell, ...]:
    return tuple((row[i].decode(), _plain(row[i + 1])) for i in range(0, len(row), 2))


def _plain(value: Bound) -> Bound:
    return 0.0 if isinstance(value, float) and value == 0 else value
