"""Deciding what becomes of rows that came: their entries, contributions and the rows that are shown.

No key occurs twice in what is decided at once, so nothing depends on the order. Most rows of most changesets are not
known here yet. They take a short way: no entry, no contributions, nothing to compare. Updates and deletes in the life
that is known have a short way, too. Every other row goes through `merge_row`. Whatever is decided is written in bulk at
the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, cast

from replication.engine import held
from replication.engine.again import is_refused, tell_again
from replication.engine.changesets import ChangeKind, RowGroup
from replication.engine.contributions import Shares, saturated
from replication.engine.entries import Entry, decode_entry, encode_entry
from replication.engine.held import HeldCell
from replication.engine.merging import Contribution, Incoming, RowMerge, Verdict, Written, merge_row
from replication.engine.session import NeedsCare, Session
from replication.engine.showing import NO_COLUMN, Refusals, RowWrites, show_key, write_rows
from replication.engine.stamps import GENESIS, Dot, Site, Stamp
from replication.engine.table import Table
from replication.engine.updating import Updating
from replication.engine.values import Key, Value, cell_hash, hash_columns, key_seed, key_seeds, row_hashes


@dataclass(slots=True)
class Absorbed:
    """What became of a table's rows. `deleted`: rows that went because the sender of a snapshot lacks them. `again`:
    keys whose delete the next fold tells again.

    `writes` is what was written, if the rows were decided by themselves.
    """

    rows: int = 0
    deleted: int = 0
    collisions: int = 0
    dropped: int = 0
    refusals: Refusals = field(default_factory=Refusals)
    again: int = 0
    writes: RowWrites = field(default_factory=RowWrites)

    def touched(self, key_size: int) -> list[Key]:
        """Keys that were written, also those whose row went."""
        return self.writes.keys(key_size)


@dataclass(slots=True, kw_only=True, eq=False)
class Origin:
    """The changeset that a row came in. `short` and `count_site`: short numbers of its site, and of who counts."""

    dot: Dot
    short: int
    count_site: int
    keeps_zeros: bool
    """None and 0 are the same share, and have no record. But of two baselines' counts the larger stays: 0 is one. And a
    closed site's 0 may say that its share is in another site's."""
    found: Absorbed


@dataclass(slots=True, kw_only=True)
class Rows:
    """Rows that changed alike, as in a RowGroup, and where each came from."""

    kind: ChangeKind
    cells: tuple[str, ...]
    counters: tuple[str, ...]
    rows: list[tuple[Value, ...]] = field(default_factory=list[tuple[Value, ...]])
    origins: list[Origin] = field(default_factory=list[Origin])
    instead_of: tuple[Site, ...] = ()


class Decision:
    """See the module. `writes` is what was written, `refusals` what was not taken.

    `unknown`: changes of rows, or lives, that are not known here.
    """

    def __init__(self, session: Session, table: Table, *, any_held: bool) -> None:
        self.writes = RowWrites()
        self.refusals = Refusals()
        self.any_held = any_held
        self.unknown: list[RowGroup] = []
        self._session = session
        self._table = table
        self._size = len(table.spec.key)
        self._known: dict[Key, tuple[Any, ...]] = {}
        self._shares = Shares()
        self._entries: list[tuple[Value, ...]] = []
        self._counts: list[tuple[Value, ...]] = []
        self._ended: list[Key] = []
        self._to_show: list[Key] = []
        self._again: list[Key] = []
        self._forgets_before = session.forgets_before

    def run(self, groups: Sequence[Rows]) -> None:
        """Decides and writes. Raises NeedsCare if the session is in haste."""
        table, size = self._table, self._size
        others: list[Rows] = []
        for group in groups:
            if self._session.in_haste and self._may_be_new(group):
                self._take_new(group, suppose=True)
            else:
                others.append(group)
        if others:
            keys = [row[:size] for group in others for row in group.rows]
            for row in table.entries_of(keys):
                self._known[row[:size]] = row[size:]
            if self._known and any(group.counters for group in others):
                self._shares = Shares.of(table.counts_of(keys), size)
            for group in others:
                self._take(group)
        self._write()

    def _may_be_new(self, group: Rows) -> bool:
        """True if all rows are likely to be unknown here: inserts of first lives."""
        size = self._size
        return group.kind is ChangeKind.INSERT and self._is_plain(group) and all(row[size] == 1 for row in group.rows)

    def _take(self, group: Rows) -> None:
        if group.kind is ChangeKind.INSERT and self._is_plain(group):
            rest = self._take_inserts(group)
        elif group.kind is ChangeKind.UPDATE and not self.any_held and self._is_plain(group):
            rest = self._take_updates(group)
        elif group.kind is ChangeKind.DELETE and not self.any_held:
            rest = self._take_ends(group)
        else:
            rest = list(zip(group.rows, group.origins, strict=True))
        unknown = [row for row, origin in rest if not self._take_row(group, row, origin)]
        if unknown:
            self.unknown.append(
                RowGroup(
                    kind=group.kind,
                    cells=group.cells,
                    counters=group.counters,
                    rows=tuple(unknown),
                    instead_of=group.instead_of,
                )
            )

    def _is_plain(self, group: Rows) -> bool:
        """True if the columns are all here, and those that are not carried need no look at their defaults."""
        table, spec = self._table, self._table.spec
        lacking = table.shown.difference(group.cells, group.counters)
        return (
            set(group.cells) <= set(spec.cells)
            and set(group.counters) <= set(spec.counters)
            and not any(table.defaults[name] for name in lacking.intersection(spec.counters))
            and not (group.kind is ChangeKind.INSERT and lacking and lacking.intersection(table.fills))
        )

    # ---- the short ways; each gives the rows that cannot go it

    def _take_inserts(self, group: Rows) -> list[tuple[tuple[Value, ...], Origin]]:
        known, size = self._known, self._size
        if not known:
            self._take_new(group, suppose=False)
            return []
        pairs = list(zip(group.rows, group.origins, strict=True))
        new = [pair for pair in pairs if pair[0][:size] not in known]
        rows, origins = [row for row, _ in new], [origin for _, origin in new]
        self._take_new(
            Rows(kind=group.kind, cells=group.cells, counters=group.counters, rows=rows, origins=origins),
            suppose=False,
        )
        return [pair for pair in pairs if pair[0][:size] in known]

    def _take_new(self, group: Rows, *, suppose: bool) -> None:
        """Rows that have no entry, column by column. If that is only supposed, it turns out as entries are written.

        Where it is wrong, the entry may be of this very changeset (from a snapshot), so nothing but beginning again
        tells it from those that were just written.
        """
        if not group.rows:
            return
        table, size, rows, origins = self._table, self._size, group.rows, group.origins
        cells_at, counts_at = size + 1, size + 1 + len(group.cells)
        columns = list(zip(*rows, strict=True))
        keys, cells = columns[:size], columns[cells_at:counts_at]
        seeds = key_seeds(list(zip(*keys, strict=True)))
        shape = table.shapes.of(tuple(table.columns.number(name) for name in group.cells))
        blobs = shape.blobs(hash_columns(seeds, cells), len(rows))
        stamps, shorts = _of_origins(origins)
        entries = list(zip(*keys, columns[size], stamps, shorts, blobs))  # noqa: B905 - the two may go on for ever
        if suppose:
            self._suppose_new(entries)
        else:
            self._entries += entries
        written = self.writes.inserts.setdefault((*group.cells, *group.counters), [])
        written += zip(*keys, *columns[cells_at:], strict=True)
        for index, name in enumerate(group.counters, start=counts_at):
            number = table.columns.number(name)
            self._counts += [
                (*row[:size], number, row[size], origin.count_site, row[index], origin.dot.stamp)
                for row, origin in zip(rows, origins, strict=True)
                if row[index] or origin.keeps_zeros
            ]

    def _suppose_new(self, entries: list[tuple[Value, ...]]) -> None:
        try:
            count = self._table.new_entries.run(self._session.connection, entries)
        except UnicodeEncodeError as error:
            raise NeedsCare from error
        if count < len(entries):
            raise NeedsCare

    def _take_ends(self, group: Rows) -> list[tuple[tuple[Value, ...], Origin]]:
        """Rows that end here too, as all do whose life is the newest."""
        size = self._size
        rest: list[tuple[tuple[Value, ...], Origin]] = []
        for row, origin in zip(group.rows, group.origins, strict=True):
            key = row[:size]
            known = self._known.get(key)
            if known is None or known[0] < row[size]:
                self._entries.append((*row, origin.dot.stamp, origin.short, b""))
                self._ended.append(key)
                self.writes.deletes.append(key)
            else:
                rest.append((row, origin))
        return rest

    def _take_updates(self, group: Rows) -> list[tuple[tuple[Value, ...], Origin]]:
        """Updates of rows in the life that is known."""
        table, size = self._table, self._size
        counts_at = size + 1 + len(group.cells)
        updating = Updating(
            tuple(table.columns.number(name) for name in group.cells),
            shapes=table.shapes,
            site_of=self._session.sites.site,
        )
        hashes = row_hashes([row[:size] for row in group.rows], group.rows, slice(size + 1, counts_at))
        everything = list(range(len(group.cells)))
        counters = [(name, table.columns.number(name)) for name in group.counters]
        known_of, join, updates = self._known.get, updating.join, self.writes.updates
        rest: list[tuple[tuple[Value, ...], Origin]] = []
        for row, found, origin in zip(group.rows, hashes, group.origins, strict=True):
            key, life = row[:size], row[size]
            known = known_of(key)
            if known is None or known[0] != life:
                rest.append((row, origin))
                continue
            _, stamp, short, blob = known
            joined = join((stamp, short), blob, found, origin.dot, origin.short)
            if joined is None:
                rest.append((row, origin))
                continue
            if joined.blob is not None:
                self._entries.append((*key, life, stamp, short, joined.blob))
            names, values = group.cells, row[size + 1 : counts_at]
            if joined.write != everything:
                names = tuple(names[position] for position in joined.write)
                values = tuple(values[position] for position in joined.write)
            for (name, number), count in zip(counters, cast("tuple[int, ...]", row[counts_at:]), strict=True):
                total = self._merged_count(key, cast("int", life), number, count, origin)
                if total is not None:
                    names, values = (*names, name), (*values, total)
            if names:
                updates.setdefault(names, []).append((*values, *key))
        return rest

    # ---- any row

    def _take_row(self, group: Rows, row: tuple[Value, ...], origin: Origin) -> bool:
        """False if it is a change of a row, or of a life of it, that is not known here."""
        table, size, dot = self._table, self._size, origin.dot
        key, life = row[:size], cast("int", row[size])
        cells = dict(zip(group.cells, row[size + 1 : size + 1 + len(group.cells)], strict=True))
        counts = cast("dict[str, int]", dict(zip(group.counters, row[size + 1 + len(group.cells) :], strict=True)))
        seed = key_seed(key)
        entry = self._entry(key)
        if group.kind is ChangeKind.UPDATE and (entry is None or entry.life < life):
            return False
        holding = held.of_key(table.connection, table.spec.tid, key) if self.any_held else {}
        written = {name: Written(dot, value, cell_hash(value, seed)) for name, value in cells.items()}
        if group.kind is ChangeKind.INSERT:
            written = table.filled(written, seed)
        incoming = Incoming(life=life, born=None if group.kind is ChangeKind.UPDATE else dot, cells=written)
        merged = merge_row(entry, incoming, lambda: self._current(key, holding))
        if merged.entry is None or (merged.entry.life != life):
            if group.kind is ChangeKind.INSERT and is_refused(entry, life, forgets_before=self._forgets_before):
                self._again.append(key)
                origin.found.again += 1
            return True
        if merged.entry is not entry:
            self._put(key, merged.entry)
        self._keep_loser(key, entry, merged, origin)
        if merged.verdict is Verdict.END:
            self._ended.append(key)
            self.writes.deletes.append(key)
            if holding:
                held.drop(table.connection, table.spec.tid, key)
        elif merged.verdict is Verdict.BEGIN:
            if holding:
                held.drop(table.connection, table.spec.tid, key)
            self._begin(key, life, merged.write, counts, origin, known=entry is not None)
        elif merged.entry.alive:
            self._change(key, life, merged.write, counts, origin, holding)
        return True

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

    def _keep_loser(self, key: Key, entry: Entry | None, merged: RowMerge, origin: Origin) -> None:
        if not merged.lost or entry is None or merged.entry is None:
            return
        origin.found.collisions += 1
        loser = entry.born if merged.entry.born == origin.dot else origin.dot
        held.keep_loser(self._table.connection, self._table.spec.tid, key, loser, dict(merged.lost))

    def _begin(
        self,
        key: Key,
        life: int,
        write: Mapping[str, Value],
        counts: Mapping[str, int],
        origin: Origin,
        *,
        known: bool,
    ) -> None:
        table, spec = self._table, self._table.spec
        if known:
            self._ended.append(key)
        self.writes.deletes.append(key)
        values = {name: value for name, value in write.items() if name in spec.cells}
        self._hold_unknown(key, write, origin)
        for name, count in counts.items():
            if count or origin.keeps_zeros:
                self._count(key, life, name, origin.count_site, Contribution(origin.dot.stamp, count))
            if name in spec.counters:
                values[name] = count
        for name in spec.counters:
            default = table.defaults[name]
            if name not in counts and isinstance(default, int) and default:
                self._count(key, life, name, self._session.sites.short(GENESIS), Contribution(0, default))
            elif name not in counts and name in table.required:
                values[name] = 0
        self.writes.insert(key, values)

    def _change(
        self,
        key: Key,
        life: int,
        write: Mapping[str, Value],
        counts: Mapping[str, int],
        origin: Origin,
        holding: Mapping[str, HeldCell],
    ) -> None:
        table, spec = self._table, self._table.spec
        values = {name: value for name, value in write.items() if name in spec.cells}
        self._hold_unknown(key, write, origin)
        values.update(self._changed_counts(key, life, counts, origin))
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
            self.writes.update(key, values)

    def _changed_counts(self, key: Key, life: int, counts: Mapping[str, int], origin: Origin) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name, count in counts.items():
            total = self._merged_count(key, life, self._table.columns.number(name), count, origin)
            if total is not None and name in self._table.spec.counters:
                values[name] = total
        return values

    def _merged_count(self, key: Key, life: int, number: int, count: int, origin: Origin) -> int | None:
        """What the counter shows from now on; None if that is what it was."""
        stamp, site = origin.dot.stamp, origin.count_site
        total = self._shares.merge(key, number, site, Contribution(stamp, count), keeps_zeros=origin.keeps_zeros)
        if total is None:
            return None
        self._counts.append((*key, number, life, site, count, stamp))
        return saturated(total)

    def _count(self, key: Key, life: int, name: str, site: int, contribution: Contribution) -> None:
        number = self._table.columns.number(name)
        self._shares.put(key, number, site, contribution)
        self._counts.append((*key, number, life, site, contribution.value, contribution.stamp))

    def _hold_unknown(self, key: Key, write: Mapping[str, Value], origin: Origin) -> None:
        for name, value in write.items():
            if name not in self._table.spec.cells:
                origin.found.refusals.held += 1
                self.any_held = True
                cell = HeldCell(value=value, shown=None, reason=NO_COLUMN)
                held.put(self._table.connection, self._table.spec.tid, key, name, cell)

    def _write(self) -> None:
        table, connection = self._table, self._table.connection
        table.end_counts.run_many(connection, self._ended)
        table.put_entry.run_many(connection, self._entries)
        table.put_count.run_many(connection, self._counts)
        self.refusals = write_rows(table, self.writes, in_haste=self._session.in_haste)
        self.any_held = self.any_held or self.refusals.held > 0
        for key in self._to_show:
            show_key(table, key)
        tell_again(table, self._again)


def _of_origins(origins: Sequence[Origin]) -> tuple[Any, Any]:
    """Stamps and short numbers, for ever the same where there is only one origin."""
    first = origins[0]
    if first is origins[-1]:
        return repeat(first.dot.stamp), repeat(first.short)
    return [origin.dot.stamp for origin in origins], [origin.short for origin in origins]
