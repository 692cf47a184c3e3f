"""An attached table in the transaction at work: its spec, its columns' numbers, the SQL that reads and writes it."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, cast

from replication.engine.catalogue import TableSpec
from replication.engine.columns import Columns
from replication.engine.entries import Shapes
from replication.engine.merging import Written
from replication.engine.stamps import BASELINE_STAMP, GENESIS, Dot
from replication.engine.statements import HOLE, BulkInsert, Lookup, Statement, holes, sql_literal
from replication.engine.values import Key, Value, cell_hash, fetch
from replication.tables import quoted

_DEFAULTS = "temp._litecast_defaults"
_DIRTY = "temp._litecast_dirty"
_OF_MIGRATIONS = Dot(BASELINE_STAMP, GENESIS)


class Table:
    """See the module. Every statement names the schema: a temporary table of the application's may bear any name."""

    def __init__(self, connection: sqlite3.Connection, spec: TableSpec, columns: Columns, shapes: Shapes) -> None:
        self.connection = connection
        self.spec = spec
        self.columns = columns
        self.shapes = shapes
        self.shown = frozenset((*spec.cells, *spec.counters))
        """Columns that values can be written into, besides the key."""
        self.name = f"main.{quoted(spec.name)}"
        self.keys = ", ".join(spec.key_names)
        self._updates: dict[tuple[str, ...], Statement] = {}
        self._inserts: dict[tuple[str, ...], Statement] = {}
        self._new_rows: dict[tuple[str, ...], BulkInsert] = {}

    @cached_property
    def cell_ids(self) -> tuple[int, ...]:
        """The numbers of the spec's cells."""
        return tuple(self.columns.number(name) for name in self.spec.cells)

    @cached_property
    def counter_ids(self) -> tuple[int, ...]:
        """The numbers of the spec's counters."""
        return tuple(self.columns.number(name) for name in self.spec.counters)

    # ---- the log

    def logged(self, kind: int) -> list[Key]:
        """Keys that the log has an entry of this kind of."""
        return fetch(self.connection, f"SELECT {self.keys} FROM main.{self.spec.log} WHERE kind = ?", (kind,))

    def clear_log(self, upto: int) -> None:
        """Forgets what was logged up to a number."""
        self.connection.execute(f"DELETE FROM main.{self.spec.log} WHERE seq <= ?", (upto,))

    # ---- rows and entries

    def _dirty(self, more: Sequence[str]) -> str:
        """A query of the keys to look at: k0, ..., whether the log has a DELETE of it, and one that no REPLACE made:
        before that there is no BEFORE. `more`: queries of keys to look at as well, as `all_keys` and `keys_with_news`
        give them."""
        before = f"lag(kind) OVER (PARTITION BY {self.keys} ORDER BY seq)"
        logged = (
            f"SELECT {self.keys}, kind = 3 AS gone, kind = 3 AND {before} IS NOT 0 AS ended FROM main.{self.spec.log}"
        )
        if more:
            logged += "".join(f" UNION ALL SELECT *, 0, 0 FROM ({query})" for query in more)
        return f"SELECT {self.keys}, max(gone) AS gone, max(ended) AS ended FROM ({logged}) GROUP BY {self.keys}"

    @property
    def all_keys(self) -> list[str]:
        """Queries of all keys of the table, and of all living ones of the clock table."""
        return [self._keys_of_rows, f"SELECT {self.keys} FROM main.{self.spec.clock} WHERE life & 1"]

    def keys_with_news(self, cells: Iterable[str], counters: Iterable[str]) -> list[str]:
        """Queries of the keys whose rows do not show, in these new columns, what a row shows that nobody wrote."""
        conditions = [_is_not(quoted(name), self.defaults[name]) for name in cells]
        queries: list[str] = []
        for name in counters:
            conditions.append(_is_not(quoted(name), 0))
            number = self.columns.number(name)
            queries.append(f"SELECT {self.keys} FROM main.{self.spec.count} WHERE counter = {number}")
        return [f"{self._keys_of_rows} WHERE {' OR '.join(conditions)}", *queries] if conditions else []

    @property
    def _keys_of_rows(self) -> str:
        rows = ", ".join(
            f"{quoted(column)} AS {name}" for column, name in zip(self.spec.key, self.spec.key_names, strict=True)
        )
        return f"SELECT {rows} FROM {self.name}"

    def read_dirty(self, more: Sequence[str]) -> list[tuple[Any, ...]]:
        """Each key to look at with its row and its entry, or NULLs where it has none.

        The key; gone; ended; whether the row is there; the entry's life, stamp, site, blob; the row's cells; its
        counters."""
        return fetch(self.connection, self._rows_of_dirty(f"({self._dirty(more)})"))

    def note_dirty(self, more: Sequence[str]) -> int:
        """Notes the keys to look at, for `read_noted`: so rows and entries may be written meanwhile. How many."""
        names = ", ".join((*self.spec.key_names, "gone", "ended"))
        self.forget_noted()
        self.connection.execute(f"CREATE TEMP TABLE _litecast_dirty (n INTEGER PRIMARY KEY, {names})")
        return self.connection.execute(f"INSERT INTO {_DIRTY} ({names}) {self._dirty(more)}").rowcount

    def read_noted(self, start: int, size: int) -> list[tuple[Any, ...]]:
        """`read_dirty` of some of those that were noted."""
        where = f"n > {start} AND n <= {start + size}"
        return fetch(self.connection, self._rows_of_dirty(f"(SELECT * FROM {_DIRTY} WHERE {where})"))

    def forget_noted(self) -> None:
        """They take memory."""
        self.connection.execute(f"DROP TABLE IF EXISTS {_DIRTY}")

    def _rows_of_dirty(self, dirty: str) -> str:
        spec = self.spec
        key = [f"d.{name}" for name in spec.key_names]
        shown = [f"t.{quoted(column)}" for column in (*spec.cells, *spec.counters)]
        first = f"t.{quoted(spec.key[0])}"
        entry = ["c.life", "c.stamp", "c.site", "c.cells"]
        wanted = ", ".join([*key, "d.gone", "d.ended", f"{first} IS NOT NULL", *entry, *shown])
        on_row = _equal([f"t.{quoted(column)}" for column in spec.key], key)
        on_clock = _equal([f"c.{name}" for name in spec.key_names], key)
        return (
            f"SELECT {wanted} FROM {dirty} AS d LEFT JOIN {self.name} AS t ON {on_row}"
            f" LEFT JOIN main.{spec.clock} AS c ON {on_clock}"
        )

    def choose(self, keys: Iterable[Sequence[Value]]) -> None:
        """Makes `keys` those that `chosen` has."""
        name = f"_litecast_keys_{len(self.spec.key)}"
        self.connection.execute(f"CREATE TEMP TABLE IF NOT EXISTS {name} (n INTEGER PRIMARY KEY, {self.keys})")
        self.connection.execute(f"DELETE FROM temp.{name}")
        put = Statement(f"INSERT OR REPLACE INTO temp.{name} VALUES ({holes(len(self.spec.key) + 1)})")
        put.run_many(self.connection, [(number, *key) for number, key in enumerate(keys)])

    @property
    def chosen(self) -> str:
        """The temporary table of the chosen keys: n, k0, ..."""
        return f"temp._litecast_keys_{len(self.spec.key)}"

    def entries_of(self, keys: Sequence[Key]) -> list[tuple[Value, ...]]:
        """Key, life, stamp, site and blob of these keys' entries, of those that have one; of some twice."""
        return self._look_up(self._entries_of, keys)

    def counts_of(self, keys: Sequence[Key]) -> list[tuple[Value, ...]]:
        """Contributions to these keys' living rows: key, counter, site, value, stamp; some twice."""
        return self._look_up(self._counts_of, keys)

    def rows_of(self, keys: Sequence[Key]) -> list[tuple[Value, ...]]:
        """Key, cells and counters of these rows, of those that are there; of some twice."""
        return self._look_up(self._rows_of, keys)

    def _rows_of(self, keys: str) -> str:
        key = [f"d.{name}" for name in self.spec.key_names]
        shown = [f"t.{quoted(column)}" for column in (*self.spec.cells, *self.spec.counters)]
        on = _equal([f"t.{quoted(column)}" for column in self.spec.key], key)
        return f"SELECT {', '.join([*key, *shown])} FROM {keys} AS d CROSS JOIN {self.name} AS t ON {on}"

    def rows_after(self, key: Key | None, limit: int) -> list[tuple[Value, ...]]:
        """Key, cells and counters of the next rows in key order, after that of `key`, or from the first on."""
        wanted = ", ".join(map(quoted, (*self.spec.key, *self.spec.cells, *self.spec.counters)))
        order = ", ".join(map(quoted, self.spec.key))
        beyond = "" if key is None else f" WHERE ({order}) > ({holes(len(self.spec.key))})"
        page = Statement(f"SELECT {wanted} FROM {self.name}{beyond} ORDER BY {order} LIMIT {limit}")
        return page.fetch(self.connection, key or ())

    def _look_up(self, query: Callable[[str], str], keys: Sequence[Key]) -> list[tuple[Value, ...]]:
        try:
            return Lookup(self.spec.key_names, query("d")).fetch(self.connection, keys)
        except UnicodeEncodeError:
            self.choose(keys)
            return fetch(self.connection, query(self.chosen))

    def _entries_of(self, keys: str) -> str:
        key = [f"d.{name}" for name in self.spec.key_names]
        on = _equal([f"c.{name}" for name in self.spec.key_names], key)
        return (
            f"SELECT {', '.join(key)}, c.life, c.stamp, c.site, c.cells FROM {keys} AS d"
            f" CROSS JOIN main.{self.spec.clock} AS c ON {on}"
        )

    def _counts_of(self, keys: str) -> str:
        names = self.spec.key_names
        key = [f"d.{name}" for name in names]
        on_clock = _equal([f"c.{name}" for name in names], key)
        on_count = _equal([f"n.{name}" for name in names], key)
        return (
            f"SELECT {', '.join(key)}, n.counter, n.site, n.value, n.stamp FROM {keys} AS d"
            f" CROSS JOIN main.{self.spec.clock} AS c ON {on_clock}"
            f" CROSS JOIN main.{self.spec.count} AS n ON {on_count} AND n.life = c.life"
        )

    def row(self, key: Sequence[Value]) -> dict[str, Value] | None:
        """The row's cells and counters by name, or None if it is not there."""
        names = (*self.spec.cells, *self.spec.counters)
        found = self._row.fetch(self.connection, key)
        return dict(zip(names, found[0][1:], strict=True)) if found else None

    @cached_property
    def _row(self) -> Statement:
        wanted = "".join(f", {quoted(column)}" for column in (*self.spec.cells, *self.spec.counters))
        return Statement(f"SELECT 1{wanted} FROM {self.name} WHERE {self._key_is}")

    @cached_property
    def _key_is(self) -> str:
        return _equal([quoted(column) for column in self.spec.key], (HOLE,) * len(self.spec.key))

    def entry_row(self, key: Sequence[Value]) -> tuple[Value, ...] | None:
        """Life, stamp, site and blob of one key's entry."""
        found = self._entry_row.fetch(self.connection, key)
        return found[0] if found else None

    @cached_property
    def _entry_row(self) -> Statement:
        where = _equal(self.spec.key_names, (HOLE,) * len(self.spec.key))
        return Statement(f"SELECT life, stamp, site, cells FROM main.{self.spec.clock} WHERE {where}")

    def counts(self, key: Sequence[Value], life: int) -> list[tuple[Value, ...]]:
        """Counter, site, value and stamp of one row's contributions."""
        return self._counts.fetch(self.connection, (*key, life))

    @cached_property
    def _counts(self) -> Statement:
        where = _equal((*self.spec.key_names, "life"), (HOLE,) * (len(self.spec.key) + 1))
        return Statement(f"SELECT counter, site, value, stamp FROM main.{self.spec.count} WHERE {where}")

    def count_dots(self, key: Sequence[Value]) -> list[tuple[int, int]]:
        """Stamp and site of one row's contributions, to whatever life it has."""
        return cast("list[tuple[int, int]]", self._count_dots.fetch(self.connection, key))

    @cached_property
    def _count_dots(self) -> Statement:
        where = _equal(self.spec.key_names, (HOLE,) * len(self.spec.key))
        return Statement(f"SELECT stamp, site FROM main.{self.spec.count} WHERE {where}")

    # ---- writing

    @cached_property
    def put_entry(self) -> Statement:
        """Key, life, stamp, site, blob."""
        return Statement(f"INSERT OR REPLACE INTO main.{self.spec.clock} VALUES ({holes(len(self.spec.key) + 4)})")

    @cached_property
    def new_entries(self) -> BulkInsert:
        """The same for keys that have no entry. One that has one keeps it, and is not counted."""
        return BulkInsert(f"INSERT OR IGNORE INTO main.{self.spec.clock}", len(self.spec.key) + 4)

    @cached_property
    def put_count(self) -> Statement:
        """Key, counter, life, site, value, stamp."""
        return Statement(f"INSERT OR REPLACE INTO main.{self.spec.count} VALUES ({holes(len(self.spec.key) + 5)})")

    @cached_property
    def end_counts(self) -> Statement:
        """Key: the contributions to whatever lives it had."""
        where = _equal(self.spec.key_names, (HOLE,) * len(self.spec.key))
        return Statement(f"DELETE FROM main.{self.spec.count} WHERE {where}")

    def insert(self, columns: tuple[str, ...]) -> Statement:
        """Key, then `columns`: a row of these, and of defaults. Fails where the key is there."""
        found = self._inserts.get(columns)
        if found is None:
            names = ", ".join(quoted(column) for column in (*self.spec.key, *columns))
            found = Statement(
                f"INSERT OR ABORT INTO {self.name} ({names}) VALUES ({holes(len(self.spec.key) + len(columns))})"
            )
            self._inserts[columns] = found
        return found

    def new_rows(self, columns: tuple[str, ...]) -> BulkInsert:
        """`insert` for many. If one fails, those before it are there."""
        found = self._new_rows.get(columns)
        if found is None:
            names = ", ".join(quoted(column) for column in (*self.spec.key, *columns))
            found = BulkInsert(f"INSERT OR FAIL INTO {self.name} ({names})", len(self.spec.key) + len(columns))
            self._new_rows[columns] = found
        return found

    def update(self, columns: tuple[str, ...]) -> Statement:
        """`columns`, then key."""
        found = self._updates.get(columns)
        if found is None:
            to = ", ".join(f"{quoted(column)} = {HOLE}" for column in columns)
            found = self._updates[columns] = Statement(f"UPDATE OR ABORT {self.name} SET {to} WHERE {self._key_is}")
        return found

    @cached_property
    def delete(self) -> Statement:
        """Key."""
        return Statement(f"DELETE FROM {self.name} WHERE {self._key_is}")

    # ---- what the schema says

    @cached_property
    def has_check(self) -> bool:
        """True if the table may have a CHECK: the word stands in its definition."""
        (sql,) = self.connection.execute(
            "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?", (self.spec.name,)
        ).fetchone()
        return "check" in str(sql).lower()

    @cached_property
    def declared_types(self) -> dict[str, str]:
        """The type that each column is declared with. None of a column that takes whatever comes: ANY is that in a
        STRICT table only."""
        columns = self.connection.execute(
            "SELECT name, type FROM pragma_table_xinfo(?, 'main')", (self.spec.name,)
        ).fetchall()
        (sql,) = self.connection.execute(
            "SELECT sql FROM main.sqlite_master WHERE type = 'table' AND name = ?", (self.spec.name,)
        ).fetchone()
        is_strict = "strict" in str(sql).rpartition(")")[2].lower()
        return {name: "" if is_strict and kind.upper() == "ANY" else kind for name, kind in columns}

    @cached_property
    def defaults(self) -> dict[str, Value]:
        """What a row shows in each column that its insert did not name. NULL where that is not a constant."""
        columns = self.connection.execute(
            "SELECT name, type, dflt_value FROM pragma_table_xinfo(?, 'main') WHERE dflt_value IS NOT NULL",
            (self.spec.name,),
        ).fetchall()
        found: dict[str, Value] = dict.fromkeys((*self.spec.cells, *self.spec.counters))
        constant = [(name, kind, text) for name, kind, text in columns if name in found and _is_constant(text)]
        if not constant:
            return found
        # Only SQLite knows what becomes of DEFAULT '5' in an INTEGER column, so it is asked.
        declared = ", ".join(f"{quoted(name)} {kind} DEFAULT ({text})" for name, kind, text in constant)
        self.connection.execute(f"DROP TABLE IF EXISTS {_DEFAULTS}")
        self.connection.execute(f"CREATE TEMP TABLE _litecast_defaults ({declared})")
        self.connection.execute(f"INSERT INTO {_DEFAULTS} DEFAULT VALUES")
        (row,) = fetch(self.connection, f"SELECT * FROM {_DEFAULTS}")
        self.connection.execute(f"DROP TABLE {_DEFAULTS}")
        found.update(zip((name for name, _, _ in constant), row, strict=True))
        return found

    @cached_property
    def required(self) -> frozenset[str]:
        """Columns that a row has to be given: NOT NULL, and without a default."""
        columns = self.connection.execute(
            "SELECT name FROM pragma_table_xinfo(?, 'main') WHERE \"notnull\" AND dflt_value IS NULL", (self.spec.name,)
        )
        return self.shown.intersection(name for (name,) in columns)

    @cached_property
    def fills(self) -> dict[str, Value]:
        """What a row gets in columns that it has to be given, and that its insert did not carry: see `filling`."""
        found: dict[str, Value] = {name: 0 for name in self.spec.counters if name in self.required}
        known = fetch(self.connection, "SELECT name, value FROM main._litecast_fills WHERE tid = ?", (self.spec.tid,))
        return found | {name: value for name, value in known if name in self.required}

    def filled(self, written: dict[str, Written], seed: int) -> dict[str, Written]:
        """What was written into a row of a life that comes, and the fills of what it lacks."""
        if not self.fills:
            return written
        lacking = {name: value for name, value in self.fills.items() if name not in written and name in self.spec.cells}
        return written | {
            name: Written(_OF_MIGRATIONS, value, cell_hash(value, seed)) for name, value in lacking.items()
        }

    @cached_property
    def computed_defaults(self) -> frozenset[str]:
        """Columns whose default is no constant: nobody can say what a row shows there that nobody wrote."""
        columns = self.connection.execute(
            "SELECT name, dflt_value FROM pragma_table_xinfo(?, 'main') WHERE dflt_value IS NOT NULL", (self.spec.name,)
        )
        return frozenset(name for name, text in columns if not _is_constant(text))


def _is_not(column: str, value: Value) -> str:
    """SQL: the column holds something else, were it only of another type. No collation of the column's own counts."""
    literal, kind = sql_literal(value)
    return f"({column} COLLATE BINARY IS NOT {literal} OR typeof({column}) <> '{kind}')"


def _is_constant(text: str) -> bool:
    return "(" not in text and text.upper() not in ("CURRENT_TIME", "CURRENT_DATE", "CURRENT_TIMESTAMP")


def _equal(names: Sequence[str], values: Sequence[str]) -> str:
    return " AND ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
