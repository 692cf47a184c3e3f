"""Merging a changeset: whether it may be, and then all of it in one transaction.

A head moves from h to upto only by a changeset with `after == h` whose `previous` is the hash stored at h; only when
the deps are covered; never back. What is known already is a repeat, what comes too early waits, and anything else
claims a place in a site's chain that another changeset has: a fork. Of a site that is closed nothing is merged, and
whoever depends on it does not wait for it.

What the log holds is folded first, inside the same transaction, so that no commit of the application's slips between
and is taken for something that the merge wrote."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from replication.engine import epochs, held, journal, state
from replication.engine.absorbing import Absorbed, Absorber
from replication.engine.changesets import Changeset, ChangesetError, TableChange, decode_head, digest, encodable
from replication.engine.decoding import LARGE_BYTES, changes_of, decode
from replication.engine.epochs import Epoch, epoch_of
from replication.engine.folding import Folded, fold_inside
from replication.engine.identity import Remembered, check_remembered
from replication.engine.known_tables import KnownTables
from replication.engine.lacking import absorb_lacking, is_doubtful
from replication.engine.progress import Progress
from replication.engine.runs import Place
from replication.engine.session import NOTHING_FORGOTTEN, NeedsCare, Session, open_session
from replication.engine.showing import RowWrites
from replication.engine.sites import Head, stamps_of
from replication.engine.stamps import ALL_BRANCHES, Dot, Site, Stamp, first_after, latest_ms, ms_of
from replication.engine.transacting import merging_transaction
from replication.engine.values import pack
from replication.engine.violations import ForeignKeys, Violation

CLOCK_BOUND_MS = 60_000
"""So far ahead of this node's clock may a stamp be. One that is further waits until time has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """It is merged. `folded` is what the log held before, to be cast like any fold's.

    `rows`: how many it carried. `held`: values that cannot be shown here. `dropped`: rows with values for a column
    that was dropped here. `collisions`: inserts of a life that another site had begun too. `again`: rows whose delete
    the next fold tells again. `violations`: rows that are there, and break a CHECK or a foreign key."""

    rows: int
    held: int
    dropped: int
    collisions: int
    again: int
    violations: tuple[Violation, ...]
    folded: Folded | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """It was merged before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """It can be merged when these heads are here."""

    missing: Mapping[Site, Stamp]


@dataclass(frozen=True, slots=True, kw_only=True)
class TooEarly:
    """Its stamp is too far ahead; it can be merged from this millisecond since 1970 on."""

    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Two histories of one site. Which changeset, and what shows it. `is_old`: somebody has closed the site already."""

    site: Site
    reason: str
    is_old: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """It will never be merged here."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """Its site is closed: what it wrote comes, if at all, as somebody's state."""

    site: Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """It was written in an epoch that is over, by who did not know: see `epochs`."""

    site: Site


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposed:
    """It begins an epoch, and this database has what the epoch's node had not: a tail, from these stamps on. `folded`
    is what the log held, and is a part of it perhaps."""

    tail: Mapping[Site, Stamp]
    folded: Folded | None


type Outcome = Merged | Repeat | Waits | TooEarly | Fork | Closed | Refused | Over | Deposed


def merge(
    connection: sqlite3.Connection, encoded: bytes, *, now_ms: int, clock_bound_ms: int = CLOCK_BOUND_MS
) -> Outcome:
    """Merges a changeset into the database, all of it or nothing. Commits.

    Raises NotAttached, sqlite3.Error for what is nobody's changeset's fault (the lock, the disk), and RuntimeError
    inside a transaction; the database and the connection's settings are then as they were."""
    (outcome,) = merge_all(connection, [encoded], now_ms=now_ms, clock_bound_ms=clock_bound_ms)
    return outcome


def merge_all(
    connection: sqlite3.Connection,
    changesets: Sequence[bytes],
    *,
    now_ms: int,
    clock_bound_ms: int = CLOCK_BOUND_MS,
    forgets_before: Stamp = NOTHING_FORGOTTEN,
    expected: Remembered | None = None,
    known: KnownTables | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """`merge` for several, in the order given and in one transaction: what each came to.

    Deletes before `forgets_before` may have been forgotten by others, and may have to be told again: see `again`.
    `known`: what this connection keeps of its tables. `progress` is told how far it is. Raises StateReplaced as well,
    if the state is not as `expected`."""
    opened = [_open(encoded) for encoded in changesets]
    known = known or KnownTables()
    in_haste = True
    while True:
        try:
            with merging_transaction(connection):
                check_remembered(connection, expected)
                session = open_session(connection, known)
                session.in_haste = in_haste
                session.forgets_before = forgets_before
                session.progress = progress or session.progress
                merger = _Merger(session, now_ms, clock_bound_ms)
                outcomes = [
                    changeset if isinstance(changeset, Refused) else merger.merge(changeset, encoded)
                    for changeset, encoded in zip(opened, changesets, strict=True)
                ]
                merger.finish()
        except NeedsCare:
            in_haste = False
        except _BadLater as error:
            opened = [
                error.refused if encoded is error.encoded else one
                for one, encoded in zip(opened, changesets, strict=True)
            ]
        else:
            known.keep(session.attached)
            return [outcome.merged() if isinstance(outcome, _Accepted) else outcome for outcome in outcomes]


def _open(encoded: bytes) -> Changeset | Refused:
    """A changeset, and, if it is not large, what it changes."""
    try:
        return decode(encoded) if len(encoded) <= LARGE_BYTES else decode_head(encoded)
    except ChangesetError as error:
        return Refused(reason=str(error))


class _BadLater(Exception):
    """A large changeset turned out to be none after some of it was merged. Roll back."""

    def __init__(self, encoded: bytes, reason: str) -> None:
        self.encoded = encoded
        self.refused = Refused(reason=reason)
        super().__init__(reason)


@dataclass(slots=True, kw_only=True)
class _Accepted:
    """A changeset that is being merged: what it comes to is known when the transaction has finished."""

    folded: Folded | None
    absorbed: list[tuple[str, Absorbed]]
    orphans: Sequence[Violation] = ()

    def merged(self) -> Merged:
        absorbed = [one for _, one in self.absorbed]
        broken = [
            Violation(table=name, key=key, rule="CHECK") for name, one in self.absorbed for key in one.refusals.broken
        ]
        return Merged(
            rows=sum(one.rows for one in absorbed),
            held=sum(one.refusals.held for one in absorbed),
            dropped=sum(one.dropped for one in absorbed),
            collisions=sum(one.collisions for one in absorbed),
            again=sum(one.again for one in absorbed),
            violations=(*broken, *self.orphans),
            folded=self.folded,
        )


class _Merger:
    def __init__(self, session: Session, now_ms: int, clock_bound_ms: int) -> None:
        self._session = session
        self._now_ms = now_ms
        self._bound_ms = clock_bound_ms
        self._is_folded = False
        self._epoch = epochs.read(session.connection)
        self._foreign_keys: ForeignKeys | None = None
        self._absorbers: dict[str, Absorber] = {}
        self._journal: list[tuple[journal.Journaled, bytes]] = []
        self._last: _Accepted | None = None

    def finish(self) -> None:
        """Writes what was put off. Rows without a parent are told with the last of the changesets."""
        for absorber in self._absorbers.values():
            absorber.finish()
        self._write_journal()
        self._session.sites.write_reached()
        if self._last is not None:
            state.write_clock(self._session.connection, self._session.clock)
            if self._foreign_keys is not None and self._foreign_keys.any:
                touched = {name: absorber.touched for name, absorber in self._absorbers.items()}
                self._last.orphans = self._foreign_keys.orphans(touched)

    def _write_journal(self) -> None:
        journal.append_all(self._session.connection, self._journal)
        self._journal.clear()

    def merge(self, changeset: Changeset, encoded: bytes) -> Outcome | _Accepted:
        found = digest(encoded)
        unmergeable = self._judge(changeset, found)
        if unmergeable is not None:
            return unmergeable
        folded: Folded | None = None
        if not self._is_folded:
            folded = fold_inside(self._session, now_ms=self._now_ms)
            self._is_folded = True
            self._foreign_keys = self._session.attached.foreign_keys
        if self._epoch is not None and epoch_of(changeset.site) > self._epoch.number:
            begins = Epoch(site=changeset.site, began=changeset.deps)
            tail = begins.tail_of(stamps_of(self._session.sites.heads()))
            if tail:
                return Deposed(tail=tail, folded=folded)
            epochs.note(self._session.connection, changeset.site, changeset.deps)
            self._epoch = begins
        return self._accept(changeset, encoded, found, folded)

    def _judge(self, changeset: Changeset, found: bytes) -> Outcome | None:
        """Why it is not merged now; None if it is."""
        session = self._session
        site, upto = changeset.site, changeset.upto
        if changeset.cluster != session.cluster:
            return Refused(reason=f"it is cluster {changeset.cluster}'s, and this is cluster {session.cluster}")
        if session.sites.is_closed(site):
            return Closed(site=site)
        head = session.sites.head(site)
        at = head.stamp if head else first_after(site)
        if upto <= at:
            return self._known(changeset, found, head)
        if site == session.site:
            return Fork(site=site, reason="its site is this database's, which has not written it")
        if ms_of(upto) > self._now_ms + self._bound_ms and ms_of(upto) > self._latest_ms():
            return TooEarly(until_ms=ms_of(upto) - self._bound_ms)
        if self._epoch is not None and epochs.is_over(site, self._epoch.site):
            return Over(site=site)
        missing: dict[Site, Stamp] = {}
        for dep, stamp in changeset.deps.items():
            if dep == site or session.sites.is_closed(dep):
                continue
            if session.sites.covers(dep, stamp):
                run = changeset.dep_runs.get(dep)
                if run and session.sites.place(dep, stamp=stamp, run=run) is not Place.WITHIN:
                    return Fork(site=dep, reason="its origin has seen another history of it")
                continue
            if dep == session.site:
                return Fork(site=dep, reason="it has seen more of this site than there is")
            if stamp == ALL_BRANCHES:
                return Fork(site=dep, reason="its origin knows that it is closed", is_old=True)
            missing[dep] = stamp
        if changeset.after > at:
            missing[site] = changeset.after
        if missing:
            return Waits(missing=missing)
        if changeset.after != at or changeset.previous != (head.digest if head else b""):
            return Fork(site=site, reason="it follows another changeset than the one merged here")
        for seen in session.sites.seen(site):
            if seen.stamp < upto or (seen.stamp == upto and seen.digest != found):
                return Fork(site=site, reason="it stands in the place of one of which a state was merged here")
        return None

    def _latest_ms(self) -> int:
        others = self._session.sites.newest_of_others(self._session.site)
        return latest_ms(now_ms=self._now_ms, bound_ms=self._bound_ms, newest_of_others=others)

    def _known(self, changeset: Changeset, found: bytes, head: Head | None) -> Outcome:
        """What a changeset is that ends at or before the head: known, or one in whose place another stands."""
        site, upto = changeset.site, changeset.upto
        if head is not None and upto == head.stamp:
            known = head.digest
        else:
            self._write_journal()
            there = journal.spanning(self._session.connection, self._session.sites.short(site), upto)
            if there is None:  # trimmed: who has the head has had it, if it is of the same history
                place = self._session.sites.place(site, stamp=upto, run=changeset.run)
                known = found if place is Place.WITHIN else b""
            else:
                known = there.digest if there.upto == upto else b""
        if known == found:
            return Repeat()
        return Fork(site=site, reason="another changeset stands in its place")

    def _accept(self, changeset: Changeset, encoded: bytes, found: bytes, folded: Folded | None) -> _Accepted:
        session = self._session
        site, upto = changeset.site, changeset.upto
        dot = Dot(upto, site)
        absorbed: list[tuple[str, Absorbed]] = []
        session.progress.begin("merging")
        for change in _changes(changeset, encoded):
            absorbed.append((change.table, self._absorb(change, dot, changeset.deps)))
            session.progress.rows += change.count
        journaled = journal.Journaled(site=session.sites.short(site), after=changeset.after, upto=upto, digest=found)
        self._journal.append((journaled, encoded))
        session.sites.reach(site, Head(stamp=upto, digest=found, run=changeset.run))
        session.clock = max(session.clock, upto)
        self._last = _Accepted(folded=folded, absorbed=absorbed)
        return self._last

    def _absorb(self, change: TableChange, dot: Dot, deps: Mapping[Site, Stamp]) -> Absorbed:
        session = self._session
        table = session.tables.get(change.table)
        if table is None or table.spec.key != change.key:
            held.hold_table(session.connection, change.table, dot, pack(encodable((change,))[0]))
            rows = sum(len(group.rows) for group in change.groups)
            found = Absorbed(rows=rows)
            found.refusals.held = rows
            return found
        absorber = self._absorbers.get(change.table)
        if absorber is None:
            notes = self._foreign_keys is not None and self._foreign_keys.any
            absorber = self._absorbers[change.table] = Absorber(session, table, notes_touched=notes)
        absorbed = absorber.put(change, dot, keep_unknown=lambda: is_doubtful(session, deps))
        if session.sites.any_closed:
            absorb_lacking(session, table)
        absorbed.writes = RowWrites()  # nobody wants them any more, and they may be many
        return absorbed


def _changes(changeset: Changeset, encoded: bytes) -> Iterator[TableChange]:
    """What it changes. Raises _BadLater."""
    if len(encoded) <= LARGE_BYTES:
        yield from changeset.tables
        return
    try:
        yield from changes_of(encoded)
    except ChangesetError as error:
        raise _BadLater(encoded, str(error)) from error
