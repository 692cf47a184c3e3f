"""Absorbing one table's part of a changeset: entries, contributions and rows.

Most rows of most changesets are not known here yet. They take a short way: no entry, no contributions, nothing to
compare. Every other row goes through `merge_row`. Whatever is decided is written in bulk at the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, cast

from replication.engine import held
from replication.engine.changesets import ChangeKind, RowGroup, TableChange, encodable
from replication.engine.contributions import Shares, saturated
from replication.engine.entries import Entry, decode_entry, encode_entry
from replication.engine.held import HeldCell
from replication.engine.merging import Contribution, Incoming, RowMerge, Verdict, Written, merge_contribution, merge_row
from replication.engine.session import NeedsCare, Session
from replication.engine.showing import NO_COLUMN, Refusals, RowWrites, show_key, write_rows
from replication.engine.stamps import GENESIS, Dot, Stamp, is_baseline
from replication.engine.table import Table
from replication.engine.updating import join_update
from replication.engine.values import Key, Value, cell_hash, hash_columns, key_seed, key_seeds, pack, row_hashes


@dataclass(slots=True)
class Absorbed:
    """What became of a table's rows. `deleted`: rows that went because the sender of a snapshot lacks them."""

    rows: int = 0
    deleted: int = 0
    collisions: int = 0
    dropped: int = 0
    any_held: bool = False
    """Whether anything of the table may be held now."""
    refusals: Refusals = field(default_factory=Refusals)
    writes: RowWrites = field(default_factory=RowWrites)

    def touched(self, key_size: int) -> list[Key]:
        """Keys that were written, also those whose row went."""
        keys = [*self.writes.deletes]
        for rows in self.writes.inserts.values():
            keys += [row[:key_size] for row in rows]
        for rows in self.writes.updates.values():
            keys += [row[-key_size:] for row in rows]
        return keys


def absorb(
    session: Session,
    table: Table,
    change: TableChange,
    dot: Dot,
    *,
    nothing_held: bool = False,
    keep_unknown: bool = False,
) -> Absorbed:
    """Merges what `dot`'s changeset has of a table. In a merging transaction, its deps covered, the log folded.

    `nothing_held`: it is known that nothing of the table is. With `keep_unknown`, or where a site is closed, changes of
    rows that are not known here are held: see `held`. Raises NeedsCare if the session is in haste."""
    work = _Absorption(
        session, table, dot, any_held=not nothing_held and held.is_any(session.connection, table.spec.tid)
    )
    for group in change.groups:
        work.found.rows += len(group.rows)
    work.run(change)
    if work.unknown and (keep_unknown or session.sites.any_closed):
        groups = [_with_rows(group, rows) for group, rows in work.unknown.values()]
        lacking = TableChange(table=change.table, key=change.key, groups=tuple(groups))
        held.hold_table(session.connection, change.table, dot, pack(encodable((lacking,))[0]), lacking=True)
    return work.found


class _Absorption:
    def __init__(self, session: Session, table: Table, dot: Dot, *, any_held: bool) -> None:
        self.found = Absorbed(any_held=any_held)
        self._session = session
        self._table = table
        self._dot = dot
        self._short = session.sites.short(dot.site)
        self._count_site = session.sites.short(GENESIS) if is_baseline(dot.site) else self._short
        # None and 0 are the same share, and have no record. But of two baselines' counts the larger stays: 0 is one.
        self._keeps_zeros = is_baseline(dot.site)
        self._any_held = any_held
        self._known: dict[Key, tuple[Any, ...]] = {}
        self._shares = Shares()
        self._writes = self.found.writes
        self._entries: list[tuple[Value, ...]] = []
        self._counts: list[tuple[Value, ...]] = []
        self._ended: list[Key] = []
        self._to_show: list[Key] = []
        self.unknown: dict[int, tuple[RowGroup, list[tuple[Value, ...]]]] = {}
        """Changes of rows, or lives, that are not known here."""

    def run(self, change: TableChange) -> None:
        table = self._table
        size = len(table.spec.key)
        others: list[RowGroup] = []
        for group in map(self._without_dropped, change.groups):
            if self._session.in_haste and self._may_be_new(group):
                self._absorb_new(group, group.rows, suppose=True)
            else:
                others.append(group)
        keys = [row[:size] for group in others for row in group.rows]
        for row in table.entries_of(keys):
            self._known[row[:size]] = row[size:]
        if self._known and any(group.counters for group in others):
            self._shares = Shares.of(table.counts_of(keys), size)
        for group in others:
            self._absorb_group(group)
        self._write()

    def _without_dropped(self, group: RowGroup) -> RowGroup:
        gone = {name for name in (*group.cells, *group.counters) if self._table.columns.is_dropped(name)}
        if not gone:
            return group
        self.found.dropped += len(group.rows)
        return _without(group, len(self._table.spec.key), gone)

    def _may_be_new(self, group: RowGroup) -> bool:
        """True if all rows are likely to be unknown here: inserts of first lives."""
        size = len(self._table.spec.key)
        return group.kind is ChangeKind.INSERT and self._is_plain(group) and all(row[size] == 1 for row in group.rows)

    def _absorb_group(self, group: RowGroup) -> None:
        if group.kind is ChangeKind.INSERT and self._is_plain(group):
            known = self._known
            size = len(self._table.spec.key)
            new = [row for row in group.rows if row[:size] not in known] if known else group.rows
            self._absorb_new(group, new, suppose=False)
            rows: Sequence[tuple[Value, ...]] = [row for row in group.rows if row[:size] in known] if known else ()
        elif group.kind is ChangeKind.UPDATE and not self._any_held and self._is_plain(group):
            rows = self._absorb_updates(group)
        elif group.kind is ChangeKind.DELETE and not self._any_held:
            rows = self._absorb_ends(group)
        else:
            rows = group.rows
        for row in rows:
            self._absorb_row(group, row)

    def _is_plain(self, group: RowGroup) -> bool:
        """True if the columns are all here, and those that are not carried need no look at their defaults."""
        spec = self._table.spec
        return (
            set(group.cells) <= set(spec.cells)
            and set(group.counters) <= set(spec.counters)
            and not any(self._table.defaults[name] for name in set(spec.counters) - set(group.counters))
        )

    def _absorb_new(self, group: RowGroup, rows: Sequence[tuple[Value, ...]], *, suppose: bool) -> None:
        """The short way, column by column. If the rows are only supposed to be new, it turns out as they are written.

        Where one is not, its entry may be of this very changeset (from a snapshot), so nothing but beginning again
        tells it from those that were just written.
        """
        if not rows:
            return
        table = self._table
        size = len(table.spec.key)
        cells_at, counts_at = size + 1, size + 1 + len(group.cells)
        columns = list(zip(*rows, strict=True))
        keys, cells = columns[:size], columns[cells_at:counts_at]
        seeds = key_seeds(list(zip(*keys, strict=True)))
        shape = table.shapes.of(tuple(table.columns.number(name) for name in group.cells))
        blobs = shape.blobs(hash_columns(seeds, cells), len(rows))
        stamp = self._dot.stamp
        entries = list(zip(*keys, columns[size], repeat(stamp), repeat(self._short), blobs, strict=False))
        if suppose:
            self._suppose_new(entries)
        else:
            self._entries += entries
        written = self._writes.inserts.setdefault((*group.cells, *group.counters), [])
        written += zip(*keys, *columns[cells_at:], strict=True)
        for index, name in enumerate(group.counters, start=counts_at):
            number = table.columns.number(name)
            self._counts += [
                (*row[:size], number, row[size], self._count_site, row[index], stamp)
                for row in rows
                if row[index] or self._keeps_zeros
            ]

    def _suppose_new(self, entries: list[tuple[Value, ...]]) -> None:
        try:
            count = self._table.new_entries.run(self._session.connection, entries)
        except UnicodeEncodeError as error:
            raise NeedsCare from error
        if count < len(entries):
            raise NeedsCare

    def _absorb_ends(self, group: RowGroup) -> list[tuple[Value, ...]]:
        """Rows that end here too, as all do whose life is the newest. Gives the others."""
        size = len(self._table.spec.key)
        stamp, short = self._dot.stamp, self._short
        others: list[tuple[Value, ...]] = []
        for row in group.rows:
            key = row[:size]
            known = self._known.get(key)
            if known is None or known[0] < row[size]:
                self._entries.append((*row, stamp, short, b""))
                self._ended.append(key)
                self._writes.deletes.append(key)
            else:
                others.append(row)
        return others

    def _absorb_updates(self, group: RowGroup) -> list[tuple[Value, ...]]:
        """Updates of rows in the life that is known. Gives the others, and those that need a closer look."""
        table, size = self._table, len(self._table.spec.key)
        counts_at = size + 1 + len(group.cells)
        ids = [table.columns.number(name) for name in group.cells]
        hashes = row_hashes([row[:size] for row in group.rows], group.rows, slice(size + 1, counts_at))
        shapes, site_of = table.shapes, self._session.sites.site
        everything = list(range(len(ids)))
        others: list[tuple[Value, ...]] = []
        for row, found in zip(group.rows, hashes, strict=True):
            key, life = row[:size], row[size]
            known = self._known.get(key)
            if known is None or known[0] != life:
                others.append(row)
                continue
            _, stamp, short, blob = known
            cells = list(zip(ids, found, strict=True))
            joined = join_update((stamp, short), blob, cells, self._dot, self._short, shapes=shapes, site_of=site_of)
            if joined is None:
                others.append(row)
                continue
            if joined.blob is not None:
                self._entries.append((*key, life, stamp, short, joined.blob))
            names, values = group.cells, row[size + 1 : counts_at]
            if joined.write != everything:
                names = tuple(names[position] for position in joined.write)
                values = tuple(values[position] for position in joined.write)
            if group.counters:
                counts = cast("dict[str, int]", dict(zip(group.counters, row[counts_at:], strict=True)))
                changed = self._changed_counts(key, cast("int", life), counts)
                names, values = (*names, *changed), (*values, *changed.values())
            if names:
                self._writes.updates.setdefault(names, []).append((*values, *key))
        return others

    def _absorb_row(self, group: RowGroup, row: tuple[Value, ...]) -> None:
        table = self._table
        size = len(table.spec.key)
        key, life = row[:size], cast("int", row[size])
        cells = dict(zip(group.cells, row[size + 1 : size + 1 + len(group.cells)], strict=True))
        counts = cast("dict[str, int]", dict(zip(group.counters, row[size + 1 + len(group.cells) :], strict=True)))
        seed = key_seed(key)
        entry = self._entry(key)
        if group.kind is ChangeKind.UPDATE and (entry is None or entry.life < life):
            self.unknown.setdefault(id(group), (group, []))[1].append(row)
            return
        holding = held.of_key(table.connection, table.spec.tid, key) if self._any_held else {}
        incoming = Incoming(
            life=life,
            born=None if group.kind is ChangeKind.UPDATE else self._dot,
            cells={name: Written(self._dot, value, cell_hash(value, seed)) for name, value in cells.items()},
        )
        merged = merge_row(entry, incoming, lambda: self._current(key, holding))
        if merged.entry is None or (merged.entry.life != life):
            return
        if merged.entry is not entry:
            self._put(key, merged.entry)
        self._keep_loser(key, entry, merged)
        if merged.verdict is Verdict.END:
            self._ended.append(key)
            self._writes.deletes.append(key)
            if holding:
                held.drop(table.connection, table.spec.tid, key)
        elif merged.verdict is Verdict.BEGIN:
            if holding:
                held.drop(table.connection, table.spec.tid, key)
            self._begin(key, life, merged.write, counts, known=entry is not None)
        elif merged.entry.alive:
            self._change(key, life, merged.write, counts, holding)

    def _entry(self, key: Key) -> Entry | None:
        found = self._known.get(key)
        if found is None:
            return None
        life, stamp, short, blob = found
        sites = self._session.sites
        return decode_entry(
            life, Dot(Stamp(stamp), sites.site(short)), blob, names=self._table.columns.names, site_of=sites.site
        )

    def _put(self, key: Key, entry: Entry) -> None:
        table, short_of = self._table, self._session.sites.short
        blob = encode_entry(entry, shapes=table.shapes, number_of=table.columns.number, short_of=short_of)
        self._entries.append((*key, entry.life, entry.born.stamp, short_of(entry.born.site), blob))

    def _current(self, key: Key, holding: Mapping[str, HeldCell]) -> Mapping[str, Value]:
        row = self._table.row(key) or {}
        return {**row, **{name: cell.value for name, cell in holding.items() if name != held.ROW}}

    def _keep_loser(self, key: Key, entry: Entry | None, merged: RowMerge) -> None:
        if not merged.lost or entry is None or merged.entry is None:
            return
        self.found.collisions += 1
        loser = entry.born if merged.entry.born == self._dot else self._dot
        held.keep_loser(self._table.connection, self._table.spec.tid, key, loser, dict(merged.lost))

    def _begin(
        self, key: Key, life: int, write: Mapping[str, Value], counts: Mapping[str, int], *, known: bool
    ) -> None:
        table, spec = self._table, self._table.spec
        if known:
            self._ended.append(key)
        self._writes.deletes.append(key)
        values = {name: value for name, value in write.items() if name in spec.cells}
        self._hold_unknown(key, write)
        for name, count in counts.items():
            if count or self._keeps_zeros:
                self._count(key, life, name, self._count_site, Contribution(self._dot.stamp, count))
            if name in spec.counters:
                values[name] = count
        for name in spec.counters:
            default = table.defaults[name]
            if name not in counts and isinstance(default, int) and default:
                self._count(key, life, name, self._session.sites.short(GENESIS), Contribution(0, default))
        self._writes.insert(key, values)

    def _change(
        self,
        key: Key,
        life: int,
        write: Mapping[str, Value],
        counts: Mapping[str, int],
        holding: Mapping[str, HeldCell],
    ) -> None:
        table, spec = self._table, self._table.spec
        values = {name: value for name, value in write.items() if name in spec.cells}
        self._hold_unknown(key, write)
        values.update(self._changed_counts(key, life, counts))
        if held.ROW in holding:
            reason = holding[held.ROW].reason
            for name, value in values.items():
                if name in spec.cells:
                    held.put(table.connection, spec.tid, key, name, HeldCell(value=value, shown=None, reason=reason))
            self._to_show.append(key)
            return
        for name in values:
            if name in holding:
                held.drop(table.connection, spec.tid, key, name)
        if values:
            self._writes.update(key, values)

    def _changed_counts(self, key: Key, life: int, counts: Mapping[str, int]) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name, count in counts.items():
            number = self._table.columns.number(name)
            theirs = Contribution(self._dot.stamp, count)
            mine = self._shares.get(key, number, self._count_site)
            merged = merge_contribution(mine, theirs)
            if merged == mine or (mine is None and not count and not self._keeps_zeros):
                continue
            self._count(key, life, name, self._count_site, merged)
            if name in self._table.spec.counters:
                values[name] = saturated(self._shares.total(key, number))
        return values

    def _count(self, key: Key, life: int, name: str, site: int, contribution: Contribution) -> None:
        number = self._table.columns.number(name)
        self._shares.put(key, number, site, contribution)
        self._counts.append((*key, number, life, site, contribution.value, contribution.stamp))

    def _hold_unknown(self, key: Key, write: Mapping[str, Value]) -> None:
        for name, value in write.items():
            if name not in self._table.spec.cells:
                self.found.refusals.held += 1
                cell = HeldCell(value=value, shown=None, reason=NO_COLUMN)
                held.put(self._table.connection, self._table.spec.tid, key, name, cell)

    def _write(self) -> None:
        table, connection = self._table, self._table.connection
        table.end_counts.run_many(connection, self._ended)
        table.put_entry.run_many(connection, self._entries)
        table.put_count.run_many(connection, self._counts)
        held_before = self.found.refusals.held
        self.found.refusals = write_rows(table, self._writes, in_haste=self._session.in_haste)
        self.found.refusals.held += held_before
        for key in self._to_show:
            show_key(table, key)
        self.found.any_held = self._any_held or self.found.refusals.held > 0


def _with_rows(group: RowGroup, rows: Sequence[tuple[Value, ...]]) -> RowGroup:
    return RowGroup(kind=group.kind, cells=group.cells, counters=group.counters, rows=tuple(rows))


def _without(group: RowGroup, key_size: int, names: set[str]) -> RowGroup:
    """The group without some of its columns."""
    all_names = (*group.cells, *group.counters)
    keep = [*range(key_size + 1), *(key_size + 1 + i for i, name in enumerate(all_names) if name not in names)]
    return RowGroup(
        kind=group.kind,
        cells=tuple(name for name in group.cells if name not in names),
        counters=tuple(name for name in group.counters if name not in names),
        rows=tuple(tuple(row[index] for index in keep) for row in group.rows),
    )
