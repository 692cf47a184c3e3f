"""What replicas must end with, said in a few plain lines: sort every operation, then fold them one after the other.

No vectors, no deps, no hashes, no SQLite: it needs all changesets at once and may look at each as often as it likes.
Whatever an engine does cleverly, it has to come out here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from replication.engine.changesets import Changeset, RowChange
from replication.engine.stamps import GENESIS, Dot, is_baseline
from replication.engine.values import Key, Value, order_of

type Row = dict[str, Value]
COUNT_LIMIT = 2**63


@dataclass(slots=True)
class _Life:
    """The highest life of a row so far, and what was written in it."""

    number: int
    cells: Row = field(default_factory=dict[str, Value])
    written: dict[str, Dot] = field(default_factory=dict[str, Dot])
    shares: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict[str, dict[str, tuple[int, int]]])
    """By counter and site: when it was written, and what this site contributes."""

    @property
    def row(self) -> Row:
        counts = {counter: sum(value for _, value in by_site.values()) for counter, by_site in self.shares.items()}
        return {**self.cells, **{name: max(-COUNT_LIMIT, min(COUNT_LIMIT - 1, n)) for name, n in counts.items()}}


def reference(changesets: Iterable[Changeset]) -> dict[str, dict[Key, Row]]:
    """The rows of each table after all of the changesets, in whatever order they are given.

    A column that no operation wrote is not in the row: it has the default of the schema.
    """
    operations = [
        (Dot(changeset.upto, changeset.site), table.table, row)
        for changeset in changesets
        for table in changeset.tables
        for row in table.rows
    ]
    # Later stamps overwrite earlier ones. Two values of one cell with one dot can only be a fork's: the larger stays.
    operations.sort(key=lambda operation: operation[0])
    lives: dict[tuple[str, Key], _Life] = {}
    for dot, table, change in operations:
        life = lives.get((table, change.key))
        if life is None or change.life > life.number:
            life = lives[table, change.key] = _Life(change.life)
        if change.life == life.number:
            _write(life, change, dot)
    found: dict[str, dict[Key, Row]] = {}
    for (table, key), life in lives.items():
        if life.number % 2 == 1:
            found.setdefault(table, {})[key] = life.row
    return found


def _write(life: _Life, change: RowChange, dot: Dot) -> None:
    for name, value in change.cells.items():
        if life.written.get(name) != dot or order_of(value) > order_of(life.cells[name]):
            life.written[name], life.cells[name] = dot, value
    for counter, count in change.counts.items():
        by_site = life.shares.setdefault(counter, {})
        site = GENESIS if is_baseline(dot.site) else dot.site  # equal rows before the cluster are one contribution
        by_site[site] = max(by_site.get(site, (0, -COUNT_LIMIT)), (dot.stamp, count))


def differences(expected: Mapping[str, Mapping[Key, Row]], found: Mapping[str, Mapping[Key, Row]]) -> list[Any]:
    """Where the two are not the same, to the type of each value. Columns that `expected` does not name are left out."""
    wrong: list[Any] = []
    for table in {*expected, *found}:
        want, have = expected.get(table, {}), found.get(table, {})
        wrong += [(table, key, "missing") for key in want.keys() - have.keys()]
        wrong += [(table, key, "not expected") for key in have.keys() - want.keys()]
        for key in want.keys() & have.keys():
            for name, value in want[key].items():
                mine = have[key].get(name, "no such column")
                if mine != value or type(mine) is not type(value):
                    wrong.append((table, key, name, "expected", value, "found", mine))
    return wrong
