"""A database with attached tables, in memory if not said otherwise, and what tests of the engine do with one."""

import sqlite3
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final
from weakref import finalize

from replication.engine.applying import Fork, Merged, Outcome, Refused, Repeat, TooEarly, Waits, merge_all
from replication.engine.attaching import TableChoice, attach
from replication.engine.catalogue import MergeRule
from replication.engine.changesets import Changeset, RowChange
from replication.engine.decoding import decode
from replication.engine.folding import Folded, fold
from replication.engine.journal import read
from replication.engine.known_tables import KnownTables
from replication.engine.session import NOTHING_FORGOTTEN
from replication.engine.sites import Sites
from replication.engine.stamps import Site, Stamp
from replication.engine.values import Value, fetch

CLUSTER: Final = "tests"
PAGES: Final = "CREATE TABLE pages (name TEXT PRIMARY KEY NOT NULL, title, body, visits INTEGER NOT NULL DEFAULT 0)"

_numbers = count(1)


class Attached:
    """One node's database. Its clock is `now_ms`, which a test moves."""

    def __init__(
        self,
        schema: str = PAGES,
        *,
        counters: Sequence[str] = ("visits",),
        table: str = "pages",
        rule: MergeRule = MergeRule.CELL,
        cluster: str = CLUSTER,
        site: str | None = None,
        attached: bool = True,
        path: Path | str = ":memory:",
    ) -> None:
        # The garbage collector may close it, in whichever thread it runs.
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        finalize(self, self.connection.close)  # a test makes as many as it likes, and closes none
        self.connection.executescript(schema)
        self._known = KnownTables()
        self.now_ms = 1_700_000_000_000
        self.forgets_before = NOTHING_FORGOTTEN
        self.site = Site(site or f"{next(_numbers):032x}")
        self.cluster = cluster
        if attached:
            self.attach(table, counters=counters, rule=rule)

    def attach(self, table: str, *, counters: Sequence[str] = (), rule: MergeRule = MergeRule.CELL) -> None:
        choice = TableChoice(name=table, counters=tuple(counters), rule=rule)
        attach(self.connection, [choice], cluster=self.cluster, new_site=lambda: self.site)

    def sql(self, statement: str, *parameters: Value) -> list[Any]:
        return fetch(self.connection, statement, parameters)

    def rows(self, table: str = "pages") -> list[Any]:
        return self.sql(f"SELECT * FROM {table} ORDER BY 1")

    def fold(self) -> Folded | None:
        self.now_ms += 1
        return fold(self.connection, now_ms=self.now_ms, known=self._known)

    def published(self) -> Folded:
        """The fold of what was written, which there must be something of."""
        folded = self.fold()
        assert folded is not None
        return folded

    def fold_now(self, now_ms: int) -> Folded | None:
        """`fold`, at a time that a test's own clock shows."""
        self.now_ms = now_ms
        return fold(self.connection, now_ms=now_ms, known=self._known)

    def merge_now(self, encoded: bytes, now_ms: int) -> Outcome:
        """`merge`, at such a time."""
        self.now_ms = now_ms
        return self.merge(encoded)

    def collect(self) -> None:
        """Nobody wants to know what was folded."""

    def write(self, *statements: str) -> Folded:
        """Writes in autocommit, and folds."""
        for statement in statements:
            self.connection.execute(statement)
        return self.published()

    def merge(self, changeset: Folded | bytes) -> Outcome:
        encoded = changeset.encoded if isinstance(changeset, Folded) else changeset
        (outcome,) = merge_all(
            self.connection,
            [encoded],
            now_ms=self.now_ms,
            forgets_before=self.forgets_before,
            known=self._known,
        )
        return outcome

    def merged(self, changeset: Folded | bytes) -> Merged:
        """The merge of a changeset that nothing may speak against."""
        outcome = self.merge(changeset)
        assert isinstance(outcome, Merged), outcome
        return outcome

    def journal(self) -> list[bytes]:
        """All changesets here, each site's in order."""
        shorts = [short for (short,) in self.connection.execute("SELECT short FROM _litecast_sites ORDER BY short")]
        return [encoded for short in shorts for encoded in read(self.connection, short, after=Stamp(-2))]

    def pull(self, other: "Attached") -> None:
        """Merges all that the other has."""
        other.fold()
        waiting = other.journal()
        for _ in range(len(waiting) + 1):
            waiting = [encoded for encoded in waiting if isinstance(self.merge(encoded), Waits)]
        assert not waiting

    def sites(self) -> Sites:
        return Sites(self.connection)

    def published_site(self) -> Site:
        """The site under which it writes now."""
        ((site,),) = self.sql("SELECT site FROM _litecast_state")
        return Site(site)


def exchange(*nodes: Attached) -> None:
    """Everything reaches everybody."""
    for _ in range(2):
        for one in nodes:
            for other in nodes:
                if one is not other:
                    one.pull(other)


def changes(folded: Folded, table: str = "pages") -> list[RowChange]:
    """The rows that a changeset carries of a table."""
    return [row for change in decode(folded.encoded).tables if change.table == table for row in change.rows]


__all__ = [
    "CLUSTER", "PAGES", "Attached", "Changeset", "Fork", "Merged", "Refused", "Repeat", "TooEarly", "Waits", "changes",
    "exchange",
]  # fmt: skip
