"""What a cell can hold, how it is known again by 64 bits, and how it gets into SQLite and out of it bit by bit.

Text in SQLite is bytes that are meant to be UTF-8; nothing enforces it. Text that is not travels as a `str` with lone
surrogates (PEP 383, surrogateescape). Python's sqlite3 can neither read nor bind such a string, so both directions have
a second way that is taken only when the first one fails.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, cast

import msgpack
import xxhash

type Value = int | float | str | bytes | None
"""What SQLite stores. NaN is not among it: SQLite stores that as NULL."""

type Key = tuple[Value, ...]
"""The values of a row's primary key columns, in key order."""

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1

_UNREADABLE = "Could not decode to UTF-8"

# An escaped byte, by which text that is not UTF-8 is known.
_ESCAPES = frozenset(map(chr, range(0xDC80, 0xDD00)))

digest64 = xxhash.xxh3_64_intdigest
"""XXH3, 64 bits: of bytes and a seed, an unsigned integer."""


def packer() -> msgpack.Packer:
    """A packer of values, to be used by one caller at a time: it keeps its buffer between two values."""
    return msgpack.Packer(unicode_errors="surrogateescape")


def pack(value: object) -> bytes:
    """`value` as msgpack."""
    return cast("bytes", msgpack.packb(value, unicode_errors="surrogateescape"))


def unpack(data: bytes) -> Any:
    """What `pack` was given, with tuples for lists. For bytes of our own database: a peer's go through a codec."""
    return msgpack.unpackb(data, unicode_errors="surrogateescape", use_list=False)


def canonical_key(key: Key) -> Key:
    """One form for all keys that SQLite takes for equal: 1 and 1.0, 0.0 and -0.0."""
    return tuple(_canonical(value) for value in key)


def _canonical(value: Value) -> Value:
    if isinstance(value, float) and value.is_integer() and INT64_MIN <= value <= INT64_MAX:
        return int(value)
    return value


def key_seed(key: Key) -> int:
    """What the hashes of a row's cells are seeded with, so that equal cells of two rows do not cancel out in a sum."""
    return digest64(pack(canonical_key(key)))


def cell_hash(value: Value, seed: int) -> int:
    """64 bits of a cell, which type and all: 1, 1.0, '1' and x'31' differ; -0.0 is 0.0; NULL is 0."""
    if value is None:
        return 0
    return digest64(pack(value + 0.0 if isinstance(value, float) else value), seed)


def row_hashes(keys: Sequence[Key], rows: Sequence[Sequence[Value]], cells: slice) -> Iterable[tuple[int, ...]]:
    """`cell_hash` of the cells of many rows, each seeded with its key: a tuple a row. A column at a time, in C."""
    if not rows or not rows[0][cells]:
        return [()] * len(rows)
    return zip(*column_hashes(key_seeds(keys), rows, cells), strict=True)


def key_seeds(keys: Sequence[Key]) -> list[int]:
    """`key_seed` of many keys."""
    if any(float in set(map(type, column)) for column in zip(*keys, strict=True)):
        keys = [canonical_key(key) for key in keys]
    return list(map(digest64, map(packer().pack, keys)))


def column_hashes(seeds: list[int], rows: Sequence[Sequence[Value]], cells: slice) -> Iterator[Iterable[int]]:
    """`cell_hash` of the cells of many rows, seeded with their keys' seeds, column by column."""
    return hash_columns(seeds, list(zip(*rows, strict=True))[cells])


def hash_columns(seeds: list[int], columns: Iterable[tuple[Value, ...]]) -> Iterator[Iterable[int]]:
    """The same of rows that are columns already."""
    pack_one = packer().pack
    return (_column_hashes(column, seeds, pack_one) for column in columns)


def _column_hashes(column: tuple[Value, ...], seeds: list[int], pack_one: Callable[[Value], bytes]) -> Iterable[int]:
    types = set(map(type, column))
    if type(None) in types:
        return [
            0 if value is None else digest64(pack_one(value + 0.0 if isinstance(value, float) else value), seed)
            for value, seed in zip(column, seeds, strict=True)
        ]
    if float in types and 0.0 in column:  # perhaps the other zero
        column = tuple(value + 0.0 if isinstance(value, float) else value for value in column)
    return map(digest64, map(pack_one, column), seeds)


def order_of(value: Value) -> tuple[int, Any, int]:
    """What values are compared by where two writes have the same clock: NULL < number < text < blob."""
    if value is None:
        return 0, 0, 0
    if isinstance(value, str):
        return 2, value.encode("utf-8", "surrogateescape"), 0
    if isinstance(value, bytes):
        return 3, value, 0
    return 1, value, isinstance(value, float)


def same(one: Value, other: Value) -> bool:
    """True if nobody could tell the two apart: equal, and of one type. -0.0 is 0.0."""
    return one == other and type(one) is type(other)


def is_bindable(value: Value) -> bool:
    """False for text that is not UTF-8, which sqlite3 refuses to bind."""
    return not (isinstance(value, str) and not value.isascii() and not _ESCAPES.isdisjoint(value))


def bound(values: Iterable[Value]) -> tuple[list[str], list[Value]]:
    """For each value the SQL that stands for it, and the values to bind."""
    holes: list[str] = []
    parameters: list[Value] = []
    for value in values:
        if is_bindable(value):
            holes.append("?")
            parameters.append(value)
        else:
            holes.append("CAST(? AS TEXT)")
            parameters.append(str(value).encode("utf-8", "surrogateescape"))
    return holes, parameters


def fetch(connection: sqlite3.Connection, sql: str, parameters: Sequence[Value] = ()) -> list[Any]:
    """All rows of a query, as tuples of Values. Reads a second time where text is not UTF-8."""
    cursor = connection.cursor()
    cursor.row_factory = None
    try:
        return cursor.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if _UNREADABLE not in str(error):
            raise
    with _escaping(connection):
        cursor = connection.cursor()
        cursor.row_factory = None
        return cursor.execute(sql, parameters).fetchall()


def fetch_batches(
    connection: sqlite3.Connection, sql: str, parameters: Sequence[Value] = (), *, size: int
) -> Iterator[list[Any]]:
    """`fetch`, so many rows at a time, in the transaction at work.

    Where text is not UTF-8, the query is run again, which gives the same rows in the same order, and what was given
    already is passed over.
    """
    cursor = connection.cursor()
    cursor.row_factory = None
    given = 0
    try:
        cursor.execute(sql, parameters)
        while rows := cursor.fetchmany(size):
            yield rows
            given += len(rows)
        return
    except sqlite3.OperationalError as error:
        if _UNREADABLE not in str(error):
            raise
    with _escaping(connection):
        cursor.execute(sql, parameters)
        for _ in islice(cursor, given):
            pass
    while True:
        with _escaping(connection):
            rows = cursor.fetchmany(size)
        if not rows:
            return
        yield rows


@contextmanager
def _escaping(connection: sqlite3.Connection) -> Iterator[None]:
    before = connection.text_factory
    connection.text_factory = _escaped
    try:
        yield
    finally:
        connection.text_factory = before


def _escaped(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")
