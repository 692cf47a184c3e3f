"""Applications that write at random: several connections to one file, every form of write that SQLite has.

One seed decides everything. Statements may fail (a constraint, a trigger's RAISE, a lock held by another connection):
that is part of the game. `trace` holds what was done, to be shown when a test fails.
"""

import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from tests.support.sql_schema import COUNTER, PEOPLE, TABLES, BadText, Bound, Drawn, Table, quoted, texts

CONFLICTS: Final = ("", "", "", "OR REPLACE", "OR IGNORE", "OR ABORT", "OR FAIL", "OR ROLLBACK")
INCREMENTS: Final = (1, 1, 1, 2, -1, 1000)
COUNTS: Final[tuple[Drawn, ...]] = (
    0,
    0,
    0,
    1,
    1,
    5,
    -5,
    5,
    -5,
    2**53,
    -(2**53),
    2**40,
    2**63 - 1,
    -(2**63),
    1.5,
    "x",
    b"1",
)
"""Also what is no count: most tables would store it."""
Isolation = Literal["DEFERRED", "EXCLUSIVE", "IMMEDIATE"]
_ISOLATIONS: Final[tuple[Isolation | None, ...]] = (None, None, "DEFERRED", "IMMEDIATE", "EXCLUSIVE")


class Sql:
    """One statement as it grows: its text, and what is bound to it."""

    def __init__(self) -> None:
        self.text = ""
        self.bound: list[Bound] = []

    def add(self, text: str) -> Self:
        self.text += text + " "
        return self

    def value(self, value: Drawn) -> Self:
        if isinstance(value, BadText):
            self.bound.append(value.raw)
            return self.add("CAST(? AS TEXT)")
        self.bound.append(value)
        return self.add("?")

    def list(self, parts: Sequence[Callable[[], object]], between: str = ",") -> Self:
        for at, part in enumerate(parts):
            if at:
                self.add(between)
            part()
        return self


class Application:
    """One connection with its own habits."""

    def __init__(self, rng: random.Random, path: Path, number: int) -> None:
        self.name = f"c{number}"
        self.attached = rng.random() < 0.15
        autocommit = rng.random() < 0.85
        self.connection = sqlite3.connect(
            ":memory:" if self.attached else path,
            timeout=0,
            isolation_level=rng.choice(_ISOLATIONS) if autocommit else None,
            autocommit=sqlite3.LEGACY_TRANSACTION_CONTROL if autocommit or self.attached else False,  # type: ignore[arg-type]
        )
        self.habits: list[str] = [f"autocommit={autocommit} isolation={self.connection.isolation_level}"]
        for pragma, likely in (("foreign_keys", 0.7), ("recursive_triggers", 0.5), ("trusted_schema", 0.4)):
            self._pragma(f"{pragma} = {'ON' if rng.random() < likely else 'OFF'}")
        self._pragma("synchronous = OFF")
        if self.attached:
            self.connection.execute("ATTACH ? AS application", (str(path),))

    def _pragma(self, text: str) -> None:
        if self.connection.in_transaction:
            self.connection.rollback()  # most pragmas do nothing inside a transaction
        self.habits.append(text)
        in_autocommit = self.connection.autocommit
        if in_autocommit is False:
            self.connection.autocommit = True
        self.connection.execute(f"PRAGMA {text}")
        if in_autocommit is False:
            self.connection.autocommit = False

    @property
    def in_transaction(self) -> bool:
        return self.connection.in_transaction


class SqlWriter:
    """Writes `tables` in the database at `path` by two or three connections. Close it, or use it as a context."""

    def __init__(self, rng: random.Random, path: Path, *, tables: Sequence[Table] = TABLES) -> None:
        self._rng = rng
        self._tables = tables
        self.cells: dict[str, dict[str, Callable[[random.Random], Drawn]]] = {t.name: dict(t.cells) for t in tables}
        """What may be written where, by table: a test that alters a table changes it here too."""
        self._applications = [Application(rng, path, number) for number in range(rng.choice((1, 2, 3)))]
        self.trace = [f"{a.name}: {'ATTACH, ' if a.attached else ''}{', '.join(a.habits)}" for a in self._applications]
        self.done = 0
        self.failed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for application in self._applications:
            application.connection.close()

    def step(self) -> None:
        """One statement, or one step of a transaction, by one of the connections."""
        rng = self._rng
        busy = [a for a in self._applications if a.in_transaction]
        application = rng.choice(busy) if busy and rng.random() < 0.85 else rng.choice(self._applications)
        roll = rng.random()
        if application.in_transaction and roll < 0.12:
            self._end(application, rng.choice(("COMMIT", "COMMIT", "COMMIT", "ROLLBACK")))
        elif application.in_transaction and roll < 0.24:
            self._savepoint(application)
        elif not application.in_transaction and roll < 0.12 and not busy:
            self._run(
                application, Sql().add(rng.choice(("BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "SAVEPOINT s")))
            )
        elif roll < 0.32:
            self._read_then_write(application)
        else:
            self._run(application, self._statement())

    def settle(self) -> None:
        """Every transaction ends, one way or the other."""
        for application in self._applications:
            if application.in_transaction:
                self._end(application, self._rng.choice(("COMMIT", "COMMIT", "ROLLBACK")))

    def _end(self, application: Application, how: str) -> None:
        if not self._run(application, Sql().add(how)) and application.in_transaction:
            self._run(application, Sql().add("ROLLBACK"))

    def _savepoint(self, application: Application) -> None:
        text = self._rng.choice(("SAVEPOINT s", "SAVEPOINT s", "ROLLBACK TO s", "ROLLBACK TO s", "RELEASE s"))
        self._run(application, Sql().add(text))

    def _run(self, application: Application, sql: Sql) -> bool:
        self.trace.append(f"{application.name}: {sql.text.strip()} {sql.bound or ''}")
        try:
            cursor = application.connection.execute(sql.text, sql.bound)
            cursor.fetchall() if cursor.description and "RETURNING" not in sql.text else cursor.close()
        except (sqlite3.Error, OverflowError) as error:
            self.trace[-1] += f"  -> {error}"
            self.failed += 1
            locked = "locked" in str(error)
            if locked and application.in_transaction:
                with suppress(sqlite3.Error):
                    application.connection.rollback()
            return False
        self.done += 1
        return True

    # -- statements

    def _statement(self) -> Sql:
        if PEOPLE in self._tables and self._rng.random() < 0.02:
            return self._by_view()
        table = self._rng.choice(self._tables)
        make = self._rng.choices(
            (self._insert, self._insert_select, self._update, self._key_update, self._update_from, self._delete),
            (8, 1, 8, 2, 1, 3),
        )[0]
        return make(table)

    def _by_view(self) -> Sql:
        sql = Sql().add("UPDATE folk SET name =").value(texts(self._rng)).add(", id =").value(self._drawn(PEOPLE, "id"))
        return sql.add("WHERE id =").value(self._drawn(PEOPLE, "id"))

    def _insert(self, table: Table) -> Sql:
        rng, sql = self._rng, Sql()
        conflict = rng.choice(CONFLICTS)
        sql.add("REPLACE" if rng.random() < 0.1 else f"INSERT {conflict}")
        sql.add(f"INTO {quoted(table.name)} AS mine" if sql.text.startswith("INSERT") else f"INTO {quoted(table.name)}")
        columns = [*table.key, *self._some(table)]
        if table.counter and rng.random() < 0.6:
            columns.append(COUNTER)
        rng.shuffle(columns)
        sql.add(f"({', '.join(map(quoted, columns))}) VALUES")
        rows = [lambda: self._row(table, columns, sql) for _ in range(rng.choice((1, 1, 1, 2, 4)))]
        sql.list(rows)
        if sql.text.startswith("INSERT") and rng.random() < 0.35:
            self._upsert(table, sql)
        if rng.random() < 0.1:
            sql.add("RETURNING 1" if rng.random() < 0.5 else "RETURNING *")
        return sql

    def _row(self, table: Table, columns: Sequence[str], sql: Sql) -> None:
        sql.add("(")
        sql.list([lambda column=column: sql.value(self._drawn(table, column)) for column in columns])  # type: ignore[misc]
        sql.add(")")

    def _upsert(self, table: Table, sql: Sql) -> None:
        key = ", ".join(map(quoted, table.key))
        sql.add(f"ON CONFLICT ({key}) DO" if self._rng.random() < 0.9 else "ON CONFLICT DO")
        if self._rng.random() < 0.25 or sql.text.endswith("CONFLICT DO "):
            sql.add("NOTHING")
            return
        sql.add("UPDATE SET")
        self._assignments(table, sql, excluded=True)
        if self._rng.random() < 0.2:
            sql.add(f"WHERE mine.{quoted(next(iter(table.key)))} IS NOT excluded.{quoted(self._cell(table))}")

    def _insert_select(self, table: Table) -> Sql:
        sql, other = Sql(), self._rng.choice(self._tables)
        conflict = self._rng.choice(CONFLICTS)
        columns = [*table.key, self._cell(table)]
        sql.add(f"INSERT {conflict} INTO {quoted(table.name)} ({', '.join(map(quoted, columns))}) SELECT")
        sql.list([lambda column=column: sql.value(self._drawn(table, column)) for column in table.key])  # type: ignore[misc]
        sql.add(f", {quoted(self._cell(other))} FROM {quoted(other.name)}")
        return sql

    def _update(self, table: Table) -> Sql:
        sql = Sql().add(f"UPDATE {self._rng.choice(CONFLICTS)} {quoted(table.name)} SET")
        self._assignments(table, sql)
        return self._where(table, sql)

    def _key_update(self, table: Table) -> Sql:
        sql = Sql().add(f"UPDATE {self._rng.choice(CONFLICTS)} {quoted(table.name)} SET")
        column = self._rng.choice([*table.key])
        sql.add(quoted(column) + " =").value(self._drawn(table, column))
        if self._rng.random() < 0.4:
            sql.add(",")
            self._assignments(table, sql)
        return self._where(table, sql, all_rows=0.02)

    def _update_from(self, table: Table) -> Sql:
        other = self._rng.choice(self._tables)
        sql = Sql().add(f"UPDATE {self._rng.choice(CONFLICTS)} {quoted(table.name)} AS mine SET")
        sql.add(f"{quoted(self._cell(table))} = other.{quoted(self._cell(other))}")
        if table.counter and other.counter and self._rng.random() < 0.3:
            sql.add(f", {COUNTER} = mine.{COUNTER} + other.{COUNTER} % 1000")
        mine, theirs = quoted(next(iter(table.key))), quoted(next(iter(other.key)))
        return sql.add(f"FROM {quoted(other.name)} AS other WHERE mine.{mine} IS other.{theirs}")

    def _delete(self, table: Table) -> Sql:
        sql = Sql().add(f"DELETE FROM {quoted(table.name)}")
        return self._where(table, sql, all_rows=0.03)

    def _read_then_write(self, application: Application) -> None:
        """A counter as many programs count: read it, add one, write it."""
        table = self._rng.choice([table for table in self._tables if table.counter])
        key = [self._drawn(table, column) for column in table.key]
        read = Sql().add(f"SELECT {COUNTER} FROM {quoted(table.name)} WHERE")
        self._key_is(table, read, key)
        try:
            row = application.connection.execute(read.text, read.bound).fetchone()
        except sqlite3.Error:
            return
        if row is not None and isinstance(row[0], int):
            write = (
                Sql().add(f"UPDATE {quoted(table.name)} SET {COUNTER} =").value(row[0] + self._rng.choice(INCREMENTS))
            )
            self._key_is(table, write.add("WHERE"), key)
            self._run(application, write)

    # -- parts of statements

    def _some(self, table: Table) -> list[str]:
        cells = list(self.cells[table.name])
        return self._rng.sample(cells, self._rng.randint(0, len(cells)))

    def _cell(self, table: Table) -> str:
        return self._rng.choice(list(self.cells[table.name]))

    def _drawn(self, table: Table, column: str) -> Drawn:
        if column == COUNTER and table.counter:
            return self._rng.choice(COUNTS)
        draws: Mapping[str, Callable[[random.Random], Drawn]] = {**table.key, **self.cells[table.name]}
        return draws[column](self._rng)

    def _assignments(self, table: Table, sql: Sql, *, excluded: bool = False) -> None:
        rng = self._rng
        parts: list[Callable[[], object]] = []
        for column in self._some(table)[:3]:
            if excluded and rng.random() < 0.3:
                parts.append(lambda column=column: sql.add(f"{quoted(column)} = excluded.{quoted(column)}"))  # type: ignore[misc]
            elif rng.random() < 0.15:
                parts.append(lambda column=column: sql.add(f"{quoted(column)} = {quoted(self._cell(table))}"))  # type: ignore[misc]
            else:
                parts.append(
                    lambda column=column: sql.add(quoted(column) + " =").value(self._drawn(table, column))  # type: ignore[misc]
                )
        if table.counter and (not parts or rng.random() < 0.5):
            if rng.random() < 0.75:
                parts.append(lambda: sql.add(f"{COUNTER} = {COUNTER} +").value(rng.choice(INCREMENTS)))
            else:
                parts.append(lambda: sql.add(f"{COUNTER} =").value(rng.choice(COUNTS)))
        if not parts:
            column = self._cell(table)
            parts.append(lambda: sql.add(quoted(column) + " =").value(self._drawn(table, column)))
        sql.list(parts)

    def _key_is(self, table: Table, sql: Sql, key: Sequence[Drawn]) -> None:
        sql.list(
            [
                lambda column=column, value=value: sql.add(quoted(column) + " =").value(value)  # type: ignore[misc]
                for column, value in zip(table.key, key, strict=True)
            ],
            between="AND",
        )

    def _where(self, table: Table, sql: Sql, *, all_rows: float = 0.15) -> Sql:
        rng = self._rng
        if rng.random() < all_rows:
            return sql
        sql.add("WHERE")
        roll = rng.random()
        if roll < 0.6:
            self._key_is(table, sql, [self._drawn(table, column) for column in table.key])
        elif roll < 0.8:
            column = self._cell(table)
            sql.add(quoted(column) + rng.choice((" IS", " IS NOT", " >", " <="))).value(self._drawn(table, column))
        else:
            column = rng.choice(list(table.key))
            sql.add(quoted(column) + " IN (")
            sql.list([lambda: sql.value(self._drawn(table, column)) for _ in range(rng.randint(1, 3))]).add(")")
        return sql
