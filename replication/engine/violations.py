"""Which of the rows that a merge wrote or removed leave a foreign key without its parent.

Merged rows are not rejected for that: concurrent writers can each be right and together break it, and the same rows
are written on every node. They are listed, for a person to see. Only rows that the merge touched are looked at, by
their keys."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from replication.engine.table import Table
from replication.engine.values import Key, Value, fetch
from replication.tables import quoted


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A row that is there and breaks what its table declares: "CHECK", or "FOREIGN KEY (columns)"."""

    table: str
    key: Key
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _ForeignKey:
    child: str
    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


class ForeignKeys:
    """The foreign keys of attached tables, as the schema is in the transaction at work."""

    def __init__(self, connection: sqlite3.Connection, tables: Mapping[str, Table]) -> None:
        self._tables = {name.lower(): table for name, table in tables.items()}
        self._foreign = [(table, foreign) for table in tables.values() for foreign in _foreign_keys(connection, table)]

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self._foreign)

    def orphans(self, touched: Mapping[str, Sequence[Key] | None]) -> list[Violation]:
        """Rows whose foreign key leads nowhere, among those touched and the children of those. By table name; None
        stands for all rows of a table."""
        found: dict[tuple[str, Key, tuple[str, ...]], Violation] = {}
        for child, foreign in self._foreign:
            parent = self._tables.get(foreign.parent.lower())
            keys = touched.get(child.spec.name, ())
            parents = () if parent is None else touched.get(parent.spec.name, ())
            if keys is None or parents is None:
                _note(found, child, foreign, _without_parent(child, foreign))
                continue
            if keys:
                child.choose(keys)
                _note(found, child, foreign, _without_parent(child, foreign, chosen=child, by=child.spec.key))
            if parent is None or not parents:
                continue
            chosen = parent if parent.spec.key == foreign.parent_columns else None
            if chosen is not None:
                chosen.choose(parents)
            _note(found, child, foreign, _without_parent(child, foreign, chosen=chosen, by=foreign.columns))
        return list(found.values())


def _note(
    found: dict[tuple[str, Key, tuple[str, ...]], Violation],
    child: Table,
    foreign: _ForeignKey,
    keys: Iterable[tuple[Value, ...]],
) -> None:
    rule = f"FOREIGN KEY ({', '.join(foreign.columns)})"
    for key in keys:
        found[child.spec.name, key, foreign.columns] = Violation(table=child.spec.name, key=key, rule=rule)


def _foreign_keys(connection: sqlite3.Connection, table: Table) -> list[_ForeignKey]:
    rows = connection.execute(
        'SELECT id, "table", "from", "to" FROM pragma_foreign_key_list(?, \'main\') ORDER BY id, seq',
        (table.spec.name,),
    ).fetchall()
    by_id: dict[int, list[tuple[str, str, str | None]]] = {}
    for number, parent, column, to in rows:
        by_id.setdefault(number, []).append((parent, column, to))
    found: list[_ForeignKey] = []
    for columns in by_id.values():
        parent = columns[0][0]
        to = tuple(target for _, _, target in columns if target is not None) or _key_of(connection, parent)
        if len(to) == len(columns) and _has_columns(connection, parent, to):
            found.append(
                _ForeignKey(
                    child=table.spec.name,
                    columns=tuple(column for _, column, _ in columns),
                    parent=parent,
                    parent_columns=to,
                )
            )
    return found


def _key_of(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    rows = connection.execute("SELECT name FROM pragma_table_info(?, 'main') WHERE pk > 0 ORDER BY pk", (table,))
    return tuple(name for (name,) in rows)


def _has_columns(connection: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> bool:
    there = {name.lower() for (name,) in connection.execute("SELECT name FROM pragma_table_info(?, 'main')", (table,))}
    return {column.lower() for column in columns} <= there


def _without_parent(
    child: Table, foreign: _ForeignKey, *, chosen: Table | None = None, by: tuple[str, ...] = ()
) -> list[tuple[Value, ...]]:
    """The keys of rows that have none; only of rows whose columns `by` are a key that `chosen` was told to choose."""
    key = ", ".join(f"c.{quoted(column)}" for column in child.spec.key)
    beside, on = "", ""
    if chosen is not None:
        pairs = zip(by, chosen.spec.key_names, strict=True)
        on = " AND ".join(f"c.{quoted(column)} = d.{name}" for column, name in pairs) + " AND "
        beside = f"{chosen.chosen} AS d CROSS JOIN "
    there = " AND ".join(f"c.{quoted(column)} IS NOT NULL" for column in foreign.columns)
    same = " AND ".join(
        f"p.{quoted(to)} = c.{quoted(column)}"
        for to, column in zip(foreign.parent_columns, foreign.columns, strict=True)
    )
    return fetch(
        child.connection,
        f"SELECT {key} FROM {beside}{child.name} AS c WHERE {on}{there}"
        f" AND NOT EXISTS (SELECT 1 FROM main.{quoted(foreign.parent)} AS p WHERE {same})",
    )
