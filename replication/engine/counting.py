"""Counters in a fold: what this site contributes.

A counter's cell is the sum of all sites' contributions to the life of its row. The own one is what is left when the
others' are taken from it, so it does not matter how the application computed the number, or how often it wrote it.
"""

from collections.abc import Collection, Sequence

from replication.engine.changesets import COUNT_MAX
from replication.engine.contributions import Shares, saturated
from replication.engine.merging import Contribution, merge_contribution
from replication.engine.stamps import BASELINE_STAMP
from replication.engine.table import Table
from replication.engine.transacting import writing_rows
from replication.engine.values import Key, Value


class CounterFold:
    """The counters of one table in one fold. `own` and `genesis` are sites' short numbers; `fresh` are new columns.

    `clamped` and `not_integers` count the cells that had to be written again: beyond the limit, or no integer.
    """

    def __init__(self, table: Table, *, own: int, genesis: int, fresh: Collection[str]) -> None:
        self.stamp = BASELINE_STAMP
        """What is written next is stamped with this."""
        self.shares = Shares()
        """The contributions to the rows that are compared next."""
        self.clamped = 0
        self.not_integers = 0
        self._table = table
        self._own = own
        self._genesis = genesis
        self._fresh = fresh
        self._counts: list[tuple[Value, ...]] = []
        self._rewrites: list[tuple[str, int, Key]] = []

    def first(self, key: Key, life: int, values: Sequence[Value]) -> tuple[int, ...]:
        """The own contributions of a life that begins, of the table's counters with these values."""
        counts: list[int] = []
        for name, number, value in zip(self._table.spec.counters, self._table.counter_ids, values, strict=True):
            share = self._share(key, name, value, others=0, before=0)
            if share:
                self._counts.append((*key, number, life, self._own, share, self.stamp))
            counts.append(share)
        return tuple(counts)

    def changed(self, key: Key, life: int, values: Sequence[Value]) -> dict[str, int]:
        """The own contributions that are not what they were, by counter."""
        counts: dict[str, int] = {}
        for name, number, value in zip(self._table.spec.counters, self._table.counter_ids, values, strict=True):
            if name in self._fresh:
                self._start(key, life, name, number, value)
                continue
            others, before = self.shares.split(key, number, self._own)
            share = self._share(key, name, value, others=others, before=before)
            if share != before:
                self._counts.append((*key, number, life, self._own, share, self.stamp))
                counts[name] = share
        return counts

    def write(self) -> None:
        """Writes the contributions so far, and the cells that cannot stay as they are."""
        table = self._table
        table.put_count.run_many(table.connection, self._counts)
        if self._rewrites:
            with writing_rows(table.connection, table):
                for name, value, key in self._rewrites:
                    table.update((name,)).run(table.connection, (value, *key))
        self._counts.clear()
        self._rewrites.clear()

    def _start(self, key: Key, life: int, name: str, number: int, value: Value) -> None:
        """A counter that is new here: what it shows came from the schema or a migration, and is genesis' share."""
        shown = value if isinstance(value, int) else 0
        genesis = Contribution(BASELINE_STAMP, max(-COUNT_MAX, min(COUNT_MAX, shown)))
        before = self.shares.get(key, number, self._genesis)
        if merge_contribution(before, genesis) != before and (before or genesis.value):
            self.shares.put(key, number, self._genesis, genesis)
            self._counts.append((*key, number, life, self._genesis, genesis.value, genesis.stamp))
        total = self.shares.total(key, number)
        if value != saturated(total):
            self._rewrites.append((name, saturated(total), key))

    def _share(self, key: Key, name: str, value: Value, *, others: int, before: int) -> int:
        if isinstance(value, int):
            if value == saturated(others + before):
                return before  # as it was, also where the sum is more than a cell can hold
            share = value - others
            if -COUNT_MAX <= share <= COUNT_MAX:
                return share
            self.clamped += 1
            share = max(-COUNT_MAX, min(COUNT_MAX, share))
        else:
            self.not_integers += 1
            share = before
        self._rewrites.append((name, saturated(others + share), key))
        return share
