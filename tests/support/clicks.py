"""An application that counts, in every way that SQL has for it, and an oracle that knows what was acknowledged.

What a counter must show in the end: everything that was ever added to it, by anybody, in the life of the row that
stands at the end. A delete ends a life, and with it what was added in it; a write that came after gets a new one.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

from replication.engine.changesets import Changeset
from replication.engine.stamps import is_baseline
from tests.support.sql_schema import Table, one_of, texts, values

TABLE: Final = Table(
    name="clicks",
    create="""CREATE TABLE clicks (
        page TEXT PRIMARY KEY NOT NULL, n INTEGER NOT NULL DEFAULT 0, label TEXT, extra DEFAULT 'x')""",
    key={"page": one_of("a", "b", "c", "d", "e")},
    cells={"label": texts, "extra": values},
)
PAGES: Final = ("a", "b", "c", "d", "e")


def create(connection: sqlite3.Connection) -> None:
    connection.execute(TABLE.create)


class Ledger:
    """What was added to each life of each row, by everybody. Filled when a changeset tells which life it went to."""

    def __init__(self) -> None:
        self._added: Counter[tuple[str, int]] = Counter()
        self._baseline: dict[str, int] = {}

    def note(self, page: str, life: int, added: int) -> None:
        self._added[page, life] += added

    def baseline(self, page: str, count: int) -> None:
        """A row that was there before it was attached: the largest count stands for all."""
        self._baseline[page] = max(self._baseline.get(page, count), count)

    def expected(self, page: str, life: int) -> int:
        return self._added[page, life] + (self._baseline.get(page, 0) if life == 1 else 0)


class Clicks:
    """One process that counts in one replica's database, by a connection of its own."""

    def __init__(self, rng: random.Random, path: Path, ledger: Ledger) -> None:
        self._rng = rng
        self._ledger = ledger
        self._pending: dict[str, list[int]] = {}
        self._gone: dict[str, tuple[int, int]] = {}
        """Pages whose row got another key since the last changeset: what was added to it before, and its count then."""
        self.trace: list[str] = []
        self.connection = sqlite3.connect(path, isolation_level=None, timeout=0)
        self.connection.execute(f"PRAGMA recursive_triggers = {rng.choice(('ON', 'OFF'))}")
        self.connection.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        self.connection.close()

    def note(self, changeset: Changeset) -> None:
        """What was pending is in this changeset: that tells the lives it was counted in."""
        if is_baseline(changeset.site):
            return
        lives = {str(row.key[0]): row.life for table in changeset.tables for row in table.rows}
        for page, added in self._pending.items():
            if page in lives:
                self._ledger.note(page, lives[page], sum(added))
            else:
                assert sum(added) == 0, f"{page}: {added} was acknowledged and is in no changeset"
        self._pending.clear()
        self._gone.clear()

    def forget(self) -> None:
        """Another state was put in the place of the one that it wrote: nothing of it is pending."""
        self._pending.clear()
        self._gone.clear()

    def delete_some(self) -> None:
        """Deletes about half of the pages that there are."""
        for page, count in self.connection.execute("SELECT page, n FROM clicks").fetchall():
            if self._rng.random() < 0.5:
                self._delete(page, count)

    def write(self, *, deletes: bool = True) -> None:
        """One acknowledged transaction, and perhaps some that were rolled back."""
        rng = self._rng
        if rng.random() < 0.15:
            self._regret()
        page = rng.choice(PAGES)
        row = self.connection.execute("SELECT n FROM clicks WHERE page = ?", (page,)).fetchone()
        if row is None:
            rng.choice((self._insert, self._insert_by_upsert, self._insert_by_replace))(page)
            return
        ways: list[Callable[[str, int], None]] = [
            self._increment,
            self._increment,
            self._read_then_write,
            self._upsert,
            self._replace,
            self._label,
            self._zero,
        ]
        if deletes:
            ways += [self._delete, self._begin_again, self._move]
        rng.choice(ways)(page, row[0])

    def _do(self, sql: str, *bound: object) -> None:
        self.trace.append(f"{sql} {bound}")
        self.connection.execute(sql, bound)

    def _add(self, page: str, amount: int) -> None:
        self._pending.setdefault(page, []).append(amount)

    def _begins_with(self, page: str, count: int) -> None:
        if page in self._gone:  # its row got another key, and now another row has this one: no life ended
            before, count_then = self._gone.pop(page)
            self._pending[page] = [before, count - count_then]
        else:
            self._pending[page] = [count]

    def _regret(self) -> None:
        """Nothing of this is acknowledged."""
        self.connection.execute("BEGIN IMMEDIATE")
        for sql in self._rng.sample(
            (
                "UPDATE clicks SET n = n + 100",
                "DELETE FROM clicks WHERE page = 'b'",
                "INSERT OR REPLACE INTO clicks (page, n) VALUES ('a', 77)",
                "UPDATE OR REPLACE clicks SET page = 'c' WHERE page = 'a'",
            ),
            2,
        ):
            self._do(sql)
        self._do("ROLLBACK")

    # -- ways to begin a row

    def _insert(self, page: str) -> None:
        count = self._rng.choice((0, 1, 5))
        self._do("INSERT INTO clicks (page, n, label) VALUES (?, ?, ?)", page, count, self._rng.choice("uvw"))
        self._begins_with(page, count)

    def _insert_by_upsert(self, page: str) -> None:
        self._do("INSERT INTO clicks (page, n) VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET n = n + 1", page)
        self._begins_with(page, 1)

    def _insert_by_replace(self, page: str) -> None:
        self._do("REPLACE INTO clicks (page, n) VALUES (?, 2)", page)
        self._begins_with(page, 2)

    # -- ways to write one that is there

    def _increment(self, page: str, _count: int) -> None:
        by = self._rng.choice((1, 1, 2, -1))
        if self._rng.random() < 0.3:
            self.connection.execute("BEGIN")
            self._do("UPDATE clicks SET n = n + ? WHERE page = ?", by, page)
            self._do("SAVEPOINT s")
            self._do("UPDATE clicks SET n = n + 1000")
            self._do("ROLLBACK TO s")
            self._do("COMMIT")
        else:
            self._do("UPDATE clicks SET n = n + ? WHERE page = ?", by, page)
        self._add(page, by)

    def _read_then_write(self, page: str, count: int) -> None:
        self._do("UPDATE clicks SET n = ?, label = 'read' WHERE page = ?", count + 3, page)
        self._add(page, 3)

    def _upsert(self, page: str, _count: int) -> None:
        self._do("INSERT INTO clicks (page, n) VALUES (?, 1) ON CONFLICT (page) DO UPDATE SET n = n + 1", page)
        self._add(page, 1)

    def _replace(self, page: str, count: int) -> None:
        """The row stays the row it was: only a DELETE ends it."""
        self._do("INSERT OR REPLACE INTO clicks (page, n, label) VALUES (?, ?, 'again')", page, count + 1)
        self._add(page, 1)

    def _label(self, page: str, _count: int) -> None:
        self._do("UPDATE clicks SET label = ?, extra = NULL WHERE page = ?", self._rng.choice("xyz"), page)

    def _zero(self, page: str, count: int) -> None:
        """Takes away what this node sees, and nothing of what it does not see yet."""
        self._do("UPDATE clicks SET n = 0 WHERE page = ?", page)
        self._add(page, -count)

    def _delete(self, page: str, _count: int) -> None:
        self._do("DELETE FROM clicks WHERE page = ?", page)
        self._pending.pop(page, None)
        self._gone.pop(page, None)

    def _begin_again(self, page: str, count: int) -> None:
        self._delete(page, count)
        self._insert(page)

    def _move(self, page: str, count: int) -> None:
        to = self._rng.choice([other for other in PAGES if other != page])
        there = self.connection.execute("SELECT n FROM clicks WHERE page = ?", (to,)).fetchone()
        self._do("UPDATE OR REPLACE clicks SET page = ? WHERE page = ?", to, page)
        if there is not None:
            self._add(to, count - there[0])
        else:
            self._begins_with(to, count)
        self._gone[page] = sum(self._pending.pop(page, [])), count
