"""Absorbing somebody's state of a table, a range of keys at a time: the same join, row by row, as for changesets.

Most rows of most ranges are not known here: they are written in bulk, as they come. Every other row goes through
`merge_row`, with its cells each under its own dot. What merging a range leaves is what merging the changesets behind
it would have left; there is a property test of it.

State says one thing that changesets do not: which rows are *not* there. It goes by the insert of the row's life, whose
dot tells whether somebody has seen it. A row that is here, though its sender had seen its insert and lacks it, was
deleted there, and its tombstone trimmed: it is deleted here. And a row that comes, though this node had seen its
insert and lacks it, was deleted here: it is not taken. The head of a closed site proves nothing for either."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from replication.engine import held
from replication.engine.absorbing import Absorbed
from replication.engine.again import is_refused, tell_again
from replication.engine.contributions import Shares, saturated
from replication.engine.entries import Entry, Later, decode_entry, encode_entry
from replication.engine.held import HeldCell
from replication.engine.merging import Contribution, Incoming, RowMerge, Verdict, Written, merge_contribution, merge_row
from replication.engine.ranges import StateGroup, TableRange
from replication.engine.session import Session
from replication.engine.showing import NO_COLUMN, show_key, write_rows
from replication.engine.stamps import GENESIS, Dot, Site, Stamp
from replication.engine.statements import HOLE, Statement
from replication.engine.table import Table
from replication.engine.values import Key, Value, bound, cell_hash, fetch, key_seed, row_hashes

type _Shares = Mapping[str, Mapping[int, Contribution]]
"""A row's contributions, by counter and by the site's number here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Whose word counts for what is not there. `seen`: what the sender had seen; empty if its word does not count.

    `closed`: sites whose heads prove nothing. `revives`: this node's word does not count."""

    seen: Mapping[Site, Stamp]
    closed: frozenset[Site]
    revives: bool

    def sender_lacks(self, born: Dot) -> bool:
        """True if a row that was born so, and that the sender does not have, was deleted there."""
        return born.site not in self.closed and self.seen.get(born.site, Stamp(-1)) >= born.stamp


def absorb_range(session: Session, table: Table, found: TableRange, authority: Authority) -> Absorbed:
    """Merges a range of the table's state. In a merging transaction, the log folded."""
    work = _StateAbsorption(session, table, found, authority)
    work.run()
    return work.found


class _StateAbsorption:
    def __init__(self, session: Session, table: Table, found: TableRange, authority: Authority) -> None:
        self.found = Absorbed(rows=len(found.ended) + sum(1 for _ in found.alive))
        self._session = session
        self._table = table
        self._range = found
        self._authority = authority
        self._short = {number: session.sites.short(site) for number, site in found.sites.items()}
        self._genesis = session.sites.short(GENESIS)
        self._any_held = held.is_any(session.connection, table.spec.tid)
        self._known: dict[Key, tuple[Any, ...]] = {}
        self._shares = Shares()
        self._incoming: dict[int, dict[str, dict[int, Contribution]]] = {}
        self._writes = self.found.writes
        self._entries: list[tuple[Value, ...]] = []
        self._counts: list[tuple[Value, ...]] = []
        self._ended: list[Key] = []
        self._gone: list[Key] = []
        self._to_show: list[Key] = []
        self._again: list[Key] = []
        self._forgets_before = session.forgets_before

    def run(self) -> None:
        table, found = self._table, self._range
        size = len(table.spec.key)
        keys = [row[:size] for row in (*found.ended, *found.alive)]
        for row in table.entries_of(keys):
            self._known[row[:size]] = row[size:]
        if self._known and found.counts:
            self._shares = Shares.of(table.counts_of(keys), size)
        self._sort_counts()
        self._absorb_ended()
        place = 0
        for group, is_plain in [(group, True) for group in found.plain] + [(group, False) for group in found.changed]:
            self._absorb_group(group, is_plain, place)
            place += len(group.rows)
        if self._authority.seen:
            self._delete_what_is_lacking(set(keys))
        self._write()

    # ---- what comes

    def _sort_counts(self) -> None:
        for told, shares in self._range.counts.items():
            name = self._table.columns.here(told)
            if self._table.columns.is_dropped(name):
                continue
            for place, number, stamp, value in shares:
                by_site = self._incoming.setdefault(place, {}).setdefault(name, {})
                site, share = self._short[number], Contribution(stamp, value)
                by_site[site] = merge_contribution(by_site.get(site), share)

    def _absorb_ended(self) -> None:
        size = len(self._table.spec.key)
        for row in self._range.ended:
            key, life = row[:size], cast("int", row[size])
            born = self._dot(row)
            entry = self._entry(key)
            if entry is None or entry.life < life:
                self._entries.append((*row[: size + 2], self._session.sites.short(born.site), b""))
                self._ended.append(key)
                self._writes.deletes.append(key)
                if self._any_held:
                    held.drop(self._table.connection, self._table.spec.tid, key)
            elif entry.life == life and entry.born < born:
                self._put(key, Entry(life=life, born=born))

    def _absorb_group(self, group: StateGroup, is_plain: bool, first_place: int) -> None:
        columns = self._table.columns
        size = len(self._table.spec.key)
        cells = tuple(map(columns.here, group.cells))
        dropped = {name for name in cells if columns.is_dropped(name)}
        if dropped:
            self.found.dropped += len(group.rows)
        bulk: list[tuple[int, tuple[Value, ...]]] = []
        # A row can be written as it comes if all of its columns are here.
        spec = self._table.spec
        simple = not dropped and len(cells) == len({*cells} & {*spec.cells}) and not self._lacks_fills(cells)
        for place, row in enumerate(group.rows, start=first_place):
            known = row[:size] in self._known
            if not known and self._was_deleted_here(row):
                continue
            if simple and not known:
                bulk.append((place, row))
            else:
                self._absorb_row(cells, row, is_plain, self._incoming.get(place, {}), dropped)
        if bulk:
            self._absorb_new(cells, bulk, is_plain)

    def _lacks_fills(self, cells: tuple[str, ...]) -> bool:
        table = self._table
        lacking = set(table.spec.cells).difference(cells)
        return bool(lacking and lacking.intersection(table.fills))

    def _was_deleted_here(self, row: Sequence[Value]) -> bool:
        born = self._dot(row)
        if self._authority.revives or born.site in self._authority.closed:
            return False
        return self._session.sites.covers(born.site, born.stamp)

    def _absorb_new(self, cells: tuple[str, ...], bulk: list[tuple[int, tuple[Value, ...]]], is_plain: bool) -> None:
        """Rows of which nothing is known here."""
        table, spec = self._table, self._table.spec
        size, cells_at = len(spec.key), len(spec.key) + 3
        dots_at = cells_at + len(cells)
        ids = tuple(table.columns.number(name) for name in cells)
        rows = [row for _, row in bulk]
        hashes = row_hashes([row[:size] for row in rows], rows, slice(cells_at, dots_at))
        blob_of, join, short = table.shapes.of(ids).blob, table.shapes.join, self._short
        columns = (*cells, *spec.counters)
        inserts = self._writes.inserts.setdefault(columns, [])
        for (place, row), found in zip(bulk, hashes, strict=True):
            key = row[:size]
            stamp, site = cast("int", row[size + 1]), short[cast("int", row[size + 2])]
            if is_plain:
                blob = blob_of(found)
            else:
                born: dict[int, int] = {}
                later: dict[int, Later] = {}
                dots = cast("tuple[int, ...]", row[dots_at:])
                for index, (number, value) in enumerate(zip(ids, found, strict=True)):
                    dot = dots[2 * index], short[dots[2 * index + 1]]
                    if dot == (stamp, site):
                        born[number] = value
                    else:
                        later[number] = (value, *dot)
                blob = join(born, later)
            self._entries.append((*row[: size + 2], site, blob))
            totals = self._begin_counts(key, cast("int", row[size]), self._incoming.get(place, {}))
            inserts.append((*key, *row[cells_at:dots_at], *totals))

    def _absorb_row(
        self,
        cells: tuple[str, ...],
        row: tuple[Value, ...],
        is_plain: bool,
        shares: _Shares,
        dropped: set[str],
    ) -> None:
        table = self._table
        size, cells_at = len(table.spec.key), len(table.spec.key) + 3
        key, life, born = row[:size], cast("int", row[size]), self._dot(row)
        dots_at = cells_at + len(cells)
        seed = key_seed(key)
        written: dict[str, Written] = {}
        for index, name in enumerate(cells):
            if name in dropped:
                continue
            value = row[cells_at + index]
            dot = born if is_plain else self._dot_at(row, dots_at + 2 * index)
            if name not in written or dot > written[name].dot:  # it may come under two names that it has
                written[name] = Written(dot, value, cell_hash(value, seed))
        written = table.filled(written, seed)
        entry = self._entry(key)
        holding = held.of_key(table.connection, table.spec.tid, key) if self._any_held else {}
        merged = merge_row(entry, Incoming(life=life, born=born, cells=written), lambda: self._current(key, holding))
        if merged.entry is None or merged.entry.life != life:
            if is_refused(entry, life, forgets_before=self._forgets_before) and self._sender_had(entry):
                self._again.append(key)
            return
        if merged.entry is not entry:
            self._put(key, merged.entry)
        self._keep_loser(key, entry, merged, born)
        if merged.verdict is Verdict.BEGIN:
            if holding:
                held.drop(table.connection, table.spec.tid, key)
            self._begin(key, life, merged.write, shares, known=entry is not None)
        else:
            self._change(key, life, merged.write, shares, holding)

    def _sender_had(self, entry: Entry | None) -> bool:
        """Whether the sender of the state had merged the delete, as far as its vector tells."""
        if entry is None:
            return False
        head = self._range.vector.get(entry.born.site)
        return (head is not None and head.stamp >= entry.born.stamp) or entry.born.site in self._authority.closed

    # ---- what does not come

    def _delete_what_is_lacking(self, there: set[Key]) -> None:
        """Rows of the range that the sender had seen the insert of, and does not have."""
        spec, sites = self._table.spec, self._session.sites
        size = len(spec.key)
        for row in self._alive_here():
            key = row[:size]
            born = Dot(Stamp(cast("int", row[size])), sites.site(cast("int", row[size + 1])))
            if key not in there and self._authority.sender_lacks(born):
                self._gone.append(key)
                self._ended.append(key)
                self._writes.deletes.append(key)
                if self._any_held:
                    held.drop(self._table.connection, spec.tid, key)

    def _alive_here(self) -> Iterator[tuple[Value, ...]]:
        """Key, stamp and site of the living rows in the range."""
        spec = self._table.spec
        keys = ", ".join(spec.key_names)
        where, parameters = ["life & 1"], list[Value]()
        for sign, key in ((">", self._range.after), ("<=", self._range.upto)):
            if key is not None:
                holes, values = bound(key)
                where.append(f"({keys}) {sign} ({', '.join(holes)})")
                parameters += values
        yield from fetch(
            self._table.connection,
            f"SELECT {keys}, stamp, site FROM main.{spec.clock} WHERE {' AND '.join(where)}",
            parameters,
        )

    # ---- one row

    def _dot(self, row: Sequence[Value]) -> Dot:
        """The dot of its insert, or of its delete."""
        return self._dot_at(row, len(self._table.spec.key) + 1)

    def _dot_at(self, row: Sequence[Value], at: int) -> Dot:
        return Dot(Stamp(cast("int", row[at])), self._range.sites[cast("int", row[at + 1])])

    def _entry(self, key: Key) -> Entry | None:
        known = self._known.get(key)
        if known is None:
            return None
        life, stamp, short, blob = known
        site_of = self._session.sites.site
        return decode_entry(
            life, Dot(Stamp(stamp), site_of(short)), blob, names=self._table.columns.names, site_of=site_of
        )

    def _put(self, key: Key, entry: Entry) -> None:
        table, short_of = self._table, self._session.sites.short
        blob = encode_entry(entry, shapes=table.shapes, number_of=table.columns.number, short_of=short_of)
        self._entries.append((*key, entry.life, entry.born.stamp, short_of(entry.born.site), blob))

    def _current(self, key: Key, holding: Mapping[str, HeldCell]) -> Mapping[str, Value]:
        row = self._table.row(key) or {}
        return {**row, **{name: cell.value for name, cell in holding.items() if name != held.ROW}}

    def _keep_loser(self, key: Key, entry: Entry | None, merged: RowMerge, born: Dot) -> None:
        if merged.lost and entry is not None and merged.entry is not None:
            loser = entry.born if merged.entry.born == born else born
            table = self._table
            if held.keep_loser(table.connection, table.spec.tid, key, loser, dict(merged.lost)):
                self.found.collisions += 1

    def _begin(self, key: Key, life: int, write: Mapping[str, Value], shares: _Shares, *, known: bool) -> None:
        spec = self._table.spec
        if known:
            self._ended.append(key)
        self._writes.deletes.append(key)
        self._hold_unknown(key, write)
        values = {name: value for name, value in write.items() if name in spec.cells}
        values |= zip(spec.counters, self._begin_counts(key, life, shares), strict=True)
        self._writes.insert(key, values)

    def _begin_counts(self, key: Key, life: int, shares: _Shares) -> list[int]:
        """Notes the contributions to a life that is new here. Gives what its counters show."""
        for name, by_site in shares.items():
            for site, share in by_site.items():
                self._count(key, life, name, site, share)
        totals: list[int] = []
        told = set(map(self._table.columns.here, self._range.counters))
        for name in self._table.spec.counters:
            by_site = shares.get(name, {})
            total = sum(share.value for share in by_site.values())
            default = self._table.defaults[name] if name not in told else 0
            if isinstance(default, int) and default and self._genesis not in by_site:
                # The sender's schema has no such counter: each node computes what a row shows that nobody counted.
                self._count(key, life, name, self._genesis, Contribution(0, default))
                total += default
            totals.append(saturated(total))
        return totals

    def _change(
        self, key: Key, life: int, write: Mapping[str, Value], shares: _Shares, holding: Mapping[str, HeldCell]
    ) -> None:
        table, spec = self._table, self._table.spec
        self._hold_unknown(key, write)
        values = {name: value for name, value in write.items() if name in spec.cells}
        values |= self._changed_counts(key, life, shares)
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

    def _changed_counts(self, key: Key, life: int, shares: _Shares) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for name, by_site in shares.items():
            number = self._table.columns.number(name)
            changed = False
            for site, theirs in by_site.items():
                mine = self._shares.get(key, number, site)
                merged = merge_contribution(mine, theirs)
                if merged != mine:
                    self._count(key, life, name, site, merged)
                    changed = True
            if changed and name in self._table.spec.counters:
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

    # ---- in the end

    def _write(self) -> None:
        table, connection = self._table, self._table.connection
        table.end_counts.run_many(connection, self._ended)
        if self._gone:
            where = " AND ".join(f"{name} = {HOLE}" for name in table.spec.key_names)
            Statement(f"DELETE FROM main.{table.spec.clock} WHERE {where}").run_many(connection, self._gone)
        table.put_entry.run_many(connection, self._entries)
        table.put_count.run_many(connection, self._counts)
        held_before = self.found.refusals.held
        self.found.refusals = write_rows(table, self._writes)
        self.found.refusals.held += held_before
        for key in self._to_show:
            show_key(table, key)
        tell_again(table, self._again)
        self.found.again = len(self._again)
        self.found.deleted = len(self._gone)
