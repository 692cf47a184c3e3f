"""Moving state instead of changesets: a snapshot for whoever is beyond the journal, an exchange after a fork or drift.

The state is read table by table and range by range of keys, each range in a short transaction of its own, while others
write and merge at both ends. That is sound because each range says what it is: all that its sender knew of these rows
when it had merged its `vector`. And merging state is a join, so that what comes twice, late, or out of order does no
harm. What a range holds beyond the vector at the start comes again with the sender's journal, which is pinned from
there. Only at the end do the heads move, to that vector.

What was written here after a range was merged may rest on rows that nobody has who covers this node's heads. So the
range's vector is noted with the sites (`seen`), and named among the deps of the own changesets, until the own heads
have come so far.

With authority, a snapshot says as well what is not there any more: see `absorbing_state`. An exchange after a fork or
for drift goes both ways and is without it: nothing is deleted then; and where drift was found between nodes that had
merged the same, what one of them lacks is revived."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replication.engine import catalogue, epochs, generation, held, state, tails
from replication.engine.absorbing import Absorbed, absorb
from replication.engine.absorbing_state import Authority, absorb_range
from replication.engine.applying import CLOCK_BOUND_MS
from replication.engine.changesets import (
    DIGEST_BYTES,
    ChangeKind,
    ChangesetError,
    RowChange,
    TableChange,
    encodable,
    table_change,
)
from replication.engine.closing import branches, frozen
from replication.engine.folding import Folded, fold_inside
from replication.engine.identity import Remembered, check_remembered
from replication.engine.journal import contradicts
from replication.engine.lacking import absorb_lacking
from replication.engine.ranges import (
    HeldRange,
    TableRange,
    decode_range,
    listed_of,
    parse_vector,
    plain_vector,
    run_name,
    stamp_of,
)
from replication.engine.reading import HELD, NoSuchTable, RangeRead, read_range
from replication.engine.received import SITES_MAX, Malformed, data, distinct_names, listed, site, whole
from replication.engine.runs import RUNS_MAX, Began, Place, Runs, place_of, run_of
from replication.engine.session import NOTHING_FORGOTTEN, NotAttached, Session, move_clock, open_session
from replication.engine.showing import show_held
from replication.engine.sites import Head, closed, runs, vector
from replication.engine.stamps import STAMP_MAX, Dot, Site, Stamp, latest_ms, ms_of
from replication.engine.transacting import merging_transaction, reading, transaction
from replication.engine.values import Key, Value, pack
from replication.engine.violations import Violation

__all__ = [
    "NoSuchTable", "RangeMerged", "RangeRead", "RangeRefused", "SnapshotStart", "begin", "finish", "merge_range",
    "read_range",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStart:
    """What a snapshot begins with: how far its sender was then. `tables`: what is to be read, each from its beginning.

    The sender's journal has to be kept from `vector` on until the receiver has it. `runs` are those that wrote the
    chain to each head; `sender` is the run that all ranges have to come from, for only within it the state they are
    read from cannot become an older one."""

    vector: Mapping[Site, Head]
    closed: Mapping[Site, frozenset[Head]]
    tables: tuple[str, ...]
    runs: Mapping[Site, Runs]
    sender: bytes

    def plain(self) -> list[object]:
        """As it is sent: no maps."""
        tips = [(site, [(tip.stamp, tip.digest) for tip in tips]) for site, tips in self.closed.items()]
        return [plain_vector(self.vector), tips, self.tables, sorted(self.runs.items()), self.sender]

    @classmethod
    def parse(cls, value: object) -> "SnapshotStart":
        """What `plain` gave. Raises ChangesetError if it is none."""
        try:
            heads, closed, tables, runs, sender = listed_of(value, 5)
            vector = parse_vector(heads)
            return cls(
                vector=vector,
                closed=_parse_closed(closed),
                tables=distinct_names(tables),
                runs=_parse_runs(runs, vector),
                sender=run_name(sender),
            )
        except Malformed as error:
            raise ChangesetError(f"not the start of a snapshot: {error}") from error


def _parse_runs(value: object, vector: Mapping[Site, Head]) -> dict[Site, Runs]:
    """Of each site in the vector, the runs that lead to its head."""
    found: dict[Site, Runs] = {}
    for one in listed(value, at_most=SITES_MAX):
        name, runs = listed_of(one, 2)
        pairs = [listed_of(began, 2) for began in listed(runs, at_most=RUNS_MAX)]
        found[site(name)] = tuple(
            Began(run_name(run), Stamp(whole(after, low=-1, high=STAMP_MAX))) for run, after in pairs
        )
    if found.keys() != vector.keys():
        raise Malformed("a head without its runs, or runs without a head")
    for origin, runs in found.items():
        head = vector[origin]
        places = [*(began.after for began in runs), head.stamp]
        if not runs or runs[-1].run != head.run or sorted(set(places)) != places:
            raise Malformed("runs that do not lead to the head")
    return found


def _parse_closed(value: object) -> dict[Site, frozenset[Head]]:
    found: dict[Site, frozenset[Head]] = {}
    for one in listed(value, at_most=SITES_MAX):
        name, tips = listed_of(one, 2)
        pairs = [listed_of(tip, 2) for tip in listed(tips, at_most=SITES_MAX)]
        found[site(name)] = frozenset(
            Head(stamp=stamp_of(stamp), digest=data(digest, size=DIGEST_BYTES)) for stamp, digest in pairs
        )
    return found


class RangeRefused(ChangesetError):
    """State that cannot be merged here now. Nothing was changed.

    `until_ms`: it can be from this millisecond since 1970 on. `fork`: a site of which sender and receiver have two
    histories; it has to be closed first."""

    def __init__(self, reason: str, *, until_ms: int | None = None, fork: Site | None = None) -> None:
        self.until_ms = until_ms
        self.fork = fork
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeMerged:
    """A range is merged. `folded` is what the log held before, to be cast like any fold's.

    `table`, `upto`: which range; None if it was the table's last. `rows`: how many it carried. `deleted`: rows that
    were deleted here, since the sender had deleted them. The others are as in `applying.Merged`."""

    table: str
    upto: Key | None
    rows: int
    deleted: int
    held: int
    dropped: int
    collisions: int
    again: int
    violations: tuple[Violation, ...]
    folded: Folded | None


def begin(connection: sqlite3.Connection, *, expected: Remembered | None = None) -> SnapshotStart:
    """A snapshot of this database begins. Only reads. Raises NotAttached, and StateReplaced if the state is not as
    `expected`."""
    with reading(connection):
        check_remembered(connection, expected)
        found = state.read(connection)
        if found is None:
            raise NotAttached
        attached = sorted(catalogue.load(connection))
        waiting = held.waiting_tables(connection) | held.floors(connection)
        return SnapshotStart(
            vector=vector(connection),
            closed=closed(connection),
            tables=(*attached, *(HELD + name for name in sorted(waiting))),
            runs=runs(connection),
            sender=run_of(found.nonce),
        )


def merge_range(
    connection: sqlite3.Connection,
    encoded: bytes,
    start: SnapshotStart,
    *,
    now_ms: int,
    clock_bound_ms: int = CLOCK_BOUND_MS,
    forgets_before: Stamp = NOTHING_FORGOTTEN,
    authority: bool,
    revives: bool = False,
    expected: Remembered | None = None,
) -> RangeMerged:
    """Merges a range of the state of whoever sent `start`. Commits.

    With `authority`, rows that the sender has deleted are deleted here. Rows that were deleted here do not come back,
    unless it `revives` them: for two nodes that have merged the same, and of which one lacks a row all the same.

    Raises, with nothing changed, ChangesetError if the bytes are no range of this cluster's, RangeRefused if they are
    and cannot be merged now; NotAttached, StateReplaced, sqlite3.Error."""
    found = decode_range(encoded)
    with merging_transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        _judge(session, found, start, now_ms, clock_bound_ms)
        if authority:
            _check_seen(session, start)
        session.forgets_before = forgets_before
        folded = fold_inside(session, now_ms=now_ms)
        if isinstance(found, HeldRange):
            absorbed = _take_held(session, found)
        else:
            absorbed = _take_rows(session, found, _authority(session, start, authority, revives))
        move_clock(session, Stamp(found.newest))
        if not authority:
            generation.advance(connection)  # with authority, the heads will move past what the journal has
        for origin, head in found.vector.items():
            if origin != session.site:
                session.sites.see(origin, head)
        for origin, tips in start.closed.items():
            if session.sites.is_closed(origin):
                session.sites.see_tips(origin, branches(tips))
        return RangeMerged(
            table=found.table,
            upto=(found.upto,) if isinstance(found.upto, int) else found.upto,
            rows=absorbed.rows,
            deleted=absorbed.deleted,
            held=absorbed.refusals.held,
            dropped=absorbed.dropped,
            collisions=absorbed.collisions,
            again=absorbed.again,
            violations=_violations(session, found.table, absorbed),
            folded=folded,
        )


def finish(
    connection: sqlite3.Connection,
    start: SnapshotStart,
    *,
    now_ms: int | None = None,
    clock_bound_ms: int = CLOCK_BOUND_MS,
    expected: Remembered | None = None,
) -> None:
    """All ranges of a snapshot are merged, with authority: the heads move to what its sender had at the start. Commits.

    None moves back. Those of closed sites do not move: the sender's histories of them are here now, and their tips are
    added to those of the sites that are closed here, too. With `now_ms` the stamps are checked against the clock.
    Raises, with nothing changed, RangeRefused, NotAttached, StateReplaced, sqlite3.Error."""
    with transaction(connection):
        check_remembered(connection, expected)
        session = open_session(connection)
        if now_ms is not None:
            newest = max((head.stamp for head in start.vector.values()), default=Stamp(0))
            _check_clock(session, newest, now_ms, clock_bound_ms)
        _check_histories(session, start)
        _check_seen(session, start)
        for origin, head in start.vector.items():
            mine = session.sites.head(origin)
            if not session.sites.is_closed(origin) and (mine is None or mine.stamp < head.stamp):
                session.sites.jump(origin, head, start.runs[origin])
                move_clock(session, head.stamp)
        if epochs.note_of_state(session, start.vector):
            tails.has_been_reset(connection)
        for table in session.tables.values():
            if table.spec.uniques and held.is_any(connection, table.spec.tid):
                show_held(table)  # what stood in its way is of another range, and has changed since
        for origin, tips in start.closed.items():
            if session.sites.is_closed(origin) and session.sites.close(origin, tips):
                generation.advance(connection)


def _judge(
    session: Session, found: TableRange | HeldRange, start: SnapshotStart, now_ms: int, clock_bound_ms: int
) -> None:
    if found.cluster != session.cluster:
        raise ChangesetError(f"state of cluster {found.cluster}, and this is cluster {session.cluster}")
    if found.sender != start.sender:
        raise RangeRefused("its sender has started again since the state began to come")
    newest = max(found.newest, max((head.stamp for head in start.vector.values()), default=0))
    _check_clock(session, Stamp(newest), now_ms, clock_bound_ms)
    _check_histories(session, start)
    _check_forks(session, found.vector, start)
    if reason := epochs.against_state(session, start.vector):
        raise RangeRefused(reason)


def _check_clock(session: Session, newest: Stamp, now_ms: int, clock_bound_ms: int) -> None:
    others = session.sites.newest_of_others(session.site)
    if ms_of(newest) > latest_ms(now_ms=now_ms, bound_ms=clock_bound_ms, newest_of_others=others):
        raise RangeRefused("it has stamps too far ahead", until_ms=ms_of(newest) - clock_bound_ms)


def _check_forks(session: Session, heads: Mapping[Site, Head], start: SnapshotStart) -> None:
    """Raises RangeRefused if a head shows another history of its site than the one here."""
    for origin, head in heads.items():
        if session.sites.is_closed(origin) or origin in start.closed:
            continue
        mine = session.sites.head(origin)
        if origin == session.site and head.stamp > (mine.stamp if mine else 0):
            raise RangeRefused("its sender has more of this site than there is", fork=origin)
        if contradicts(session.connection, session.sites, origin, head):
            raise RangeRefused(f"its sender has another history of site {origin}", fork=origin)


def _check_histories(session: Session, start: SnapshotStart) -> None:
    """Raises RangeRefused unless each head at the start, and the one here, are proven to be of one history.

    If the sender's is behind, the chain here shows it; if it is ahead, its runs do."""
    _check_forks(session, start.vector, start)
    for origin, head in start.vector.items():
        mine = session.sites.head(origin)
        if mine is None or mine.stamp >= head.stamp or session.sites.is_closed(origin):
            continue
        if place_of(start.runs[origin], head.stamp, stamp=mine.stamp, run=mine.run) is not Place.WITHIN:
            raise RangeRefused(f"its sender went on from another history of site {origin}", fork=origin)


def _check_seen(session: Session, start: SnapshotStart) -> None:
    """Raises RangeRefused unless what was seen here in others' states is proven to be of the sender's histories: its
    word for what is gone would not hold for that, and its head would hide it."""
    for origin, head in start.vector.items():
        if session.sites.is_closed(origin):
            continue
        for seen in session.sites.seen(origin):
            there = place_of(start.runs[origin], head.stamp, stamp=seen.stamp, run=seen.run)
            if there is Place.ELSEWHERE or (seen.stamp == head.stamp and seen != head):
                raise RangeRefused(f"another history of site {origin} was seen in somebody's state", fork=origin)
            if there is Place.UNTOLD:
                raise RangeRefused(f"more of site {origin} was seen in somebody's state than its sender has")


def _authority(session: Session, start: SnapshotStart, authority: bool, revives: bool) -> Authority:
    here = closed(session.connection)
    proven = frozen(here, start.closed)
    closed_sites = (frozenset(start.closed) | frozenset(here)) - frozenset(proven)
    seen = {origin: head.stamp for origin, head in start.vector.items()} | proven if authority else {}
    return Authority(seen=seen, closed=closed_sites, revives=revives)


def _take_rows(session: Session, found: TableRange, authority: Authority) -> Absorbed:
    table = session.tables.get(found.table)
    if table is None or table.spec.key != found.key:
        return _hold_rows(session, found)
    absorbed = absorb_range(session, table, found, authority)
    catalogue.raise_floor(session.connection, table.spec, found.floor)
    absorb_lacking(session, table)
    return absorbed


def _hold_rows(session: Session, found: TableRange) -> Absorbed:
    """Holds state of a table that is not attached here, changeset by changeset, as changes of it are held."""
    for dot, change in as_changes(found):
        held.hold_table(session.connection, found.table, dot, pack(encodable((change,))[0]))
    held.raise_floor(session.connection, found.table, found.floor)
    absorbed = Absorbed(rows=len(found.ended) + sum(1 for _ in found.alive))
    absorbed.refusals.held = absorbed.rows
    return absorbed


def _take_held(session: Session, found: HeldRange) -> Absorbed:
    absorbed = Absorbed(rows=len(found.changes))
    table = session.tables.get(found.table)
    for one in found.changes:
        if table is not None and table.spec.key == one.change.key:
            keep = one.lacking or session.sites.any_closed
            merged = absorb(session, table, one.change, one.dot, keep_unknown=lambda keep=keep: keep)  # type: ignore[misc]
            absorbed.writes.deletes += merged.touched(len(table.spec.key))
        else:
            body = pack(encodable((one.change,))[0])
            held.hold_table(session.connection, found.table, one.dot, body, lacking=one.lacking)
            absorbed.refusals.held += 1
    if table is not None:
        catalogue.raise_floor(session.connection, table.spec, found.floor)
    else:
        held.raise_floor(session.connection, found.table, found.floor)
    return absorbed


def _violations(session: Session, table: str, absorbed: Absorbed) -> tuple[Violation, ...]:
    broken = [Violation(table=table, key=key, rule="CHECK") for key in absorbed.refusals.broken]
    known = session.tables.get(table)
    touched = {} if known is None else {table: absorbed.touched(len(known.spec.key))}
    return (*broken, *session.attached.foreign_keys.orphans(touched))


def as_changes(found: TableRange) -> list[tuple[Dot, TableChange]]:
    """The changesets that could have made this state, as far as they matter: inserts and deletes first, then the rest.

    An insert carries each counter that the sender has, so that nobody takes one for left out."""
    size = len(found.key)
    begun: dict[Dot, list[RowChange]] = {}
    later: dict[Dot, list[RowChange]] = {}
    for row in found.ended:
        change = RowChange(kind=ChangeKind.DELETE, key=row[:size], life=_int(row[size]), cells={}, counts={})
        begun.setdefault(_dot(found, row, size + 1), []).append(change)
    shares: dict[int, list[tuple[str, Dot, int]]] = {}
    for name, places in found.counts.items():
        for place, number, stamp, value in places:
            shares.setdefault(place, []).append((name, Dot(Stamp(stamp), found.sites[number]), value))
    place = 0
    for group, is_plain in [(group, True) for group in found.plain] + [(group, False) for group in found.changed]:
        for row in group.rows:
            _split_row(found, group.cells, row, is_plain, shares.get(place, []), begun, later)
            place += 1
    return [
        (dot, table_change(found.table, found.key, rows)) for by_dot in (begun, later) for dot, rows in by_dot.items()
    ]


def _split_row(
    found: TableRange,
    cells: Sequence[str],
    row: tuple[Value, ...],
    is_plain: bool,
    shares: list[tuple[str, Dot, int]],
    begun: dict[Dot, list[RowChange]],
    later: dict[Dot, list[RowChange]],
) -> None:
    size = len(found.key)
    key, life, born = row[:size], _int(row[size]), _dot(found, row, size + 1)
    cells_by_dot: dict[Dot, dict[str, Value]] = {born: {}}
    for index, name in enumerate(cells):
        dot = born if is_plain else _dot(found, row, size + 3 + len(cells) + 2 * index)
        cells_by_dot.setdefault(dot, {})[name] = row[size + 3 + index]
    counts_by_dot: dict[Dot, dict[str, int]] = {born: dict.fromkeys(found.counters, 0)}
    for name, dot, value in shares:
        counts_by_dot.setdefault(dot, {})[name] = value
    for dot in {**cells_by_dot, **counts_by_dot}:
        kind = ChangeKind.INSERT if dot == born else ChangeKind.UPDATE
        change = RowChange(
            kind=kind, key=key, life=life, cells=cells_by_dot.get(dot, {}), counts=counts_by_dot.get(dot, {})
        )
        (begun if dot == born else later).setdefault(dot, []).append(change)


def _dot(found: TableRange, row: Sequence[Value], at: int) -> Dot:
    return Dot(Stamp(_int(row[at])), found.sites[_int(row[at + 1])])


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value
