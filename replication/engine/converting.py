"""Values that a column makes something else of when they are written: 3 in a TEXT column becomes '3'.

Where all nodes declare a column alike there are none: what was read from one is what another of its kind shows. Where
they do not, the value that was written is the one that counts, here as everywhere. It is held, beside what is shown
instead of it, as one that the column refuses; else nodes would differ for ever, and a fold would take what is shown for
somebody's write. A row whose key would become another one is held whole.

Most values need no look: their type is none that their column converts. The others are put into a temporary table of
the same types, since only SQLite knows what becomes of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from operator import itemgetter
from typing import Final, cast

from replication.engine.statements import HOLE, Statement
from replication.engine.table import Table
from replication.engine.values import Value, fetch, same

_PROBE: Final = "_litecast_probe"
_MAY_BE_A_NUMBER = re.compile(r"\s*[+-]?[0-9.][0-9.eE+-]*\s*\Z", re.ASCII)


class _Affinity(Enum):
    """What a column prefers to hold: https://sqlite.org/datatype3.html, 3.1."""

    TEXT = auto()
    REAL = auto()
    NUMERIC = auto()
    """INTEGER, too: they differ in CAST only."""


def affinity(declared: str) -> _Affinity | None:
    """Of a declared type; None if the column takes everything as it comes."""
    kind = declared.upper()
    if "INT" in kind:
        return _Affinity.NUMERIC
    if any(part in kind for part in ("CHAR", "CLOB", "TEXT")):
        return _Affinity.TEXT
    if not kind or "BLOB" in kind:
        return None
    return _Affinity.REAL if any(part in kind for part in ("REAL", "FLOA", "DOUB")) else _Affinity.NUMERIC


def may_convert(value: Value, to: _Affinity) -> bool:
    """Whether a column of this affinity might show something else. False is certain, True is not."""
    match value:
        case None | bytes():
            return False
        case str():
            return to is not _Affinity.TEXT and _MAY_BE_A_NUMBER.match(value) is not None
        case int():
            return to is not _Affinity.NUMERIC
        case float():
            return to is _Affinity.TEXT or (to is _Affinity.NUMERIC and value.is_integer())


_CERTAIN: Final[Mapping[_Affinity, frozenset[type]]] = {
    _Affinity.TEXT: frozenset({str, bytes, type(None)}),
    _Affinity.REAL: frozenset({float, bytes, type(None)}),
    _Affinity.NUMERIC: frozenset({int, bytes, type(None)}),
}
"""Types that are never converted: found out for a whole column at once."""


def converted(
    table: Table, columns: Sequence[str], rows: Sequence[Sequence[Value]], *, start: int = 0
) -> Iterator[tuple[int, str, Value]]:
    """Which of the values, which stand in each row from `start` on in the order of `columns`, the table would show as
    something else: the row's number, the column, and what it would show."""
    for at, name in enumerate(columns, start):
        to = affinity(table.declared_types.get(name, ""))
        if to is None:
            continue
        values = list(map(itemgetter(at), rows))
        types = set(map(type, values))
        if types <= _CERTAIN[to] or (
            types == {str} and not any(map(_MAY_BE_A_NUMBER.match, cast("list[str]", values)))
        ):
            continue
        for number, value in enumerate(values):
            if may_convert(value, to):
                shown = _shown(table, name, value)
                if not same(shown, value):
                    yield number, name, shown


def _shown(table: Table, column: str, value: Value) -> Value:
    connection = table.connection
    connection.execute(f"DROP TABLE IF EXISTS temp.{_PROBE}")
    connection.execute(f"CREATE TEMP TABLE {_PROBE} (value {table.declared_types[column]})")
    Statement(f"INSERT INTO temp.{_PROBE} VALUES ({HOLE})").run(connection, (value,))
    found: list[tuple[Value]] = fetch(connection, f"SELECT value FROM temp.{_PROBE}")
    connection.execute(f"DROP TABLE temp.{_PROBE}")
    return found[0][0]
