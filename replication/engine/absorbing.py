"""Absorbing what changesets have of one table.

What is put in is decided together, as late as it may be: that a changeset of one row costs as much as one of a hundred
is what a stream of them is spared. It is decided before a key comes a second time, and at the end. With care (see
`Session.in_haste`) each changeset is decided by itself, so that it is known whose row was refused, or is not known
here; so it is where a site is closed, and rows that are not known here may be lacking (see `held`)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from replication.engine import held
from replication.engine.changesets import ChangeKind, RowGroup, TableChange, encodable
from replication.engine.deciding import Absorbed as Absorbed
from replication.engine.deciding import Decision, Origin, Rows
from replication.engine.session import NeedsCare, Session
from replication.engine.stamps import GENESIS, Dot, is_baseline
from replication.engine.table import Table
from replication.engine.values import Key, pack

PUT_OFF_ROWS: Final = 256
"""A changeset of more rows is decided by itself: it gains nothing from company."""
TOUCHED_MAX: Final = 100_000
"""Of more rows is not noted which they are: then all rows of the table are looked at."""


class Absorber:
    """For one table, in a merging transaction, with the log folded."""

    def __init__(self, session: Session, table: Table, *, notes_touched: bool = False) -> None:
        self.touched: list[Key] | None = []
        """Keys that were written, if they are noted; None if they are too many for that."""
        self._session = session
        self._table = table
        self._notes_touched = notes_touched
        self._any_held: bool | None = None
        self._groups: dict[tuple[ChangeKind, tuple[str, ...], tuple[str, ...]], Rows] = {}
        self._keys: set[Key] = set()

    def put(self, change: TableChange, dot: Dot, *, keep_unknown: Callable[[], bool]) -> Absorbed:
        """Takes what `dot`'s changeset, whose deps are covered, has of the table. `keep_unknown` is that of `decide`.

        What it gives is complete after `finish`. Raises NeedsCare if the session is in haste.
        """
        takes_over = any(group.instead_of for group in change.groups)
        if not self._session.in_haste or self._session.sites.any_closed or takes_over:
            return self.decide(change, dot, keep_unknown=keep_unknown)
        origin, groups = self._taken(change, dot)
        if origin.found.rows > PUT_OFF_ROWS:
            self.finish()
            self._decided([_rows(group, origin) for group in groups])
            return origin.found
        size = len(self._table.spec.key)
        keys = [row[:size] for group in groups for row in group.rows]
        if not self._keys.isdisjoint(keys):
            self.finish()
        self._keys.update(keys)
        for group in groups:
            shape = (group.kind, group.cells, group.counters)
            into = self._groups.get(shape)
            if into is None:
                self._groups[shape] = _rows(group, origin)
            else:
                into.rows += group.rows
                into.origins += [origin] * len(group.rows)
        return origin.found

    def decide(self, change: TableChange, dot: Dot, *, keep_unknown: Callable[[], bool]) -> Absorbed:
        """Takes it, and decides and writes it by itself.

        `keep_unknown` is asked if it changes rows that are not known here: True if that does not mean that they were
        deleted and trimmed. Their changes are held then.
        """
        self.finish()
        origin, groups = self._taken(change, dot)
        decision = self._decided([_rows(group, origin) for group in groups])
        origin.found.refusals.broken += decision.refusals.broken
        origin.found.refusals.held += decision.refusals.held
        origin.found.writes = decision.writes
        self._end_shares(groups, dot)
        if decision.unknown and keep_unknown():
            lacking = TableChange(table=change.table, key=change.key, groups=tuple(decision.unknown))
            body = pack(encodable((lacking,))[0])
            held.hold_table(self._table.connection, change.table, dot, body, lacking=True)
        return origin.found

    def _end_shares(self, groups: Sequence[RowGroup], dot: Dot) -> None:
        """Shares that are in the counts of another site now: see `stamping_again`. They are shares of 0, with a stamp,
        so that nobody's older state brings them back."""
        size = len(self._table.spec.key)
        for group in groups:
            if not group.counters:
                continue
            zeros = (0,) * len(group.counters)
            rows = [(*row[: size + 1], *zeros) for row in group.rows]
            for site in group.instead_of:
                origin = self._origin(Dot(dot.stamp, site))
                origin.keeps_zeros = True
                ended = RowGroup(kind=ChangeKind.UPDATE, cells=(), counters=group.counters, rows=rows)
                self._decided([_rows(ended, origin)], counts_only=True)

    def finish(self) -> None:
        """Decides and writes what was put off."""
        if self._groups:
            groups, self._groups = list(self._groups.values()), {}
            self._keys.clear()
            self._decided(groups)

    def _decided(self, groups: Sequence[Rows], *, counts_only: bool = False) -> Decision:
        table, any_held = self._table, self._any_held
        if any_held is None or self._session.sites.any_closed:  # then others write of the table, too: see `lacking`
            any_held = held.is_any(table.connection, table.spec.tid)
        decision = Decision(self._session, table, any_held=any_held)
        decision.run(groups)
        if decision.unknown and self._session.in_haste and not counts_only:
            raise NeedsCare  # whose are they?
        self._any_held = decision.any_held
        if self._notes_touched and self.touched is not None:
            self.touched += decision.writes.keys(len(table.spec.key))
            if len(self.touched) > TOUCHED_MAX:
                self.touched = None
        return decision

    def _taken(self, change: TableChange, dot: Dot) -> tuple[Origin, list[RowGroup]]:
        origin = self._origin(dot)
        groups = [self._without_dropped(self._as_named_here(group), origin) for group in change.groups]
        origin.found.rows = sum([len(group.rows) for group in groups])
        return origin, groups

    def _origin(self, dot: Dot) -> Origin:
        sites = self._session.sites
        short = sites.short(dot.site)
        baseline = is_baseline(dot.site)
        return Origin(
            dot=dot,
            short=short,
            count_site=sites.short(GENESIS) if baseline else short,
            keeps_zeros=baseline or sites.is_closed(dot.site),
            found=Absorbed(),
        )

    def _as_named_here(self, group: RowGroup) -> RowGroup:
        here = self._table.columns.here
        names = (*group.cells, *group.counters)
        named = {name: here(name) for name in names}
        if all(name == other for name, other in named.items()):
            return group
        twice = {name for name, other in named.items() if name != other and other in names}
        group = _without(group, len(self._table.spec.key), twice)
        return replace(
            group,
            cells=tuple(named[name] for name in group.cells),
            counters=tuple(named[name] for name in group.counters),
        )

    def _without_dropped(self, group: RowGroup, origin: Origin) -> RowGroup:
        is_dropped = self._table.columns.is_dropped
        gone = {name for name in (*group.cells, *group.counters) if is_dropped(name)}
        if not gone:
            return group
        origin.found.dropped += len(group.rows)
        return _without(group, len(self._table.spec.key), gone)


def absorb(
    session: Session, table: Table, change: TableChange, dot: Dot, *, keep_unknown: Callable[[], bool]
) -> Absorbed:
    """`Absorber.decide`, for who has a single changeset."""
    return Absorber(session, table).decide(change, dot, keep_unknown=keep_unknown)


def _rows(group: RowGroup, origin: Origin) -> Rows:
    return Rows(
        kind=group.kind,
        cells=group.cells,
        counters=group.counters,
        rows=list(group.rows),
        origins=[origin] * len(group.rows),
        instead_of=group.instead_of,
    )


def _without(group: RowGroup, key_size: int, names: set[str]) -> RowGroup:
    """The group without some of its columns."""
    all_names = (*group.cells, *group.counters)
    keep = [*range(key_size + 1), *(key_size + 1 + i for i, name in enumerate(all_names) if name not in names)]
    return RowGroup(
        kind=group.kind,
        cells=tuple(name for name in group.cells if name not in names),
        counters=tuple(name for name in group.counters if name not in names),
        rows=tuple(tuple(row[index] for index in keep) for row in group.rows),
        instead_of=group.instead_of,
    )
