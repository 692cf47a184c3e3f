"""The engine's side of a node: the one connection that folds and merges. Synchronous; one function runs at a time.

What `fold` and `merge` hand out for casting has been made durable, after the write lock was let go. Merged changesets
of others are only made durable by `sync`, which is called before their heads are told to anybody: a head that was told
and then lost in a power cut would let others forget what this node still needs."""

import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from replication.attaching_declared import attach_declared
from replication.convergent.durability import Barrier
from replication.convergent.messages import Closed, Vector
from replication.convergent.schemas import Schemas, schemas_of
from replication.convergent.sidecar import Sidecar
from replication.declared import TableDeclaration
from replication.engine import epochs, held, state, tails
from replication.engine.applying import CLOCK_BOUND_MS, Deposed, Merged, Outcome, merge_all
from replication.engine.attaching import begin_without_tables
from replication.engine.closing import close_site, forget_site, keep_parts, unite_tips
from replication.engine.comparable import NotComparable
from replication.engine.copying import begin_copy
from replication.engine.decoding import LARGE_BYTES
from replication.engine.epochs import Epoch
from replication.engine.folding import NOTHING_OWED, Folded, fold
from replication.engine.identity import Remembered, StateReplaced, adopt_new_site, begin_run, check_remembered, remember
from replication.engine.known_tables import KnownTables
from replication.engine.progress import Progress
from replication.engine.refusals import Refusal
from replication.engine.repairing import Restored, Row, adopt, restore
from replication.engine.session import NOTHING_FORGOTTEN
from replication.engine.sites import Head, known, vector
from replication.engine.snapshots import RangeRead, SnapshotStart, begin, finish, merge_range, read_range
from replication.engine.stamping_again import set_aside, stamp_again
from replication.engine.stamps import Site, Stamp, stamp_at
from replication.engine.transacting import keep_ready_to_merge
from replication.engine.trimming import JournalLimits, trim_journal, trim_tombstones
from replication.engine.values import Key
from replication.engine.violations import Violation
from replication.errors import ReplicationError
from replication.tails import keeping
from replication.tails.unit import Unit

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5.0
CHECKPOINT_PAGES = 1_000
"""SQLite's own default, 4 MB. This connection is the one of ours that checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A changeset that could not be merged, nobody knows why. It is not asked for again in this run."""

    reason: str


class BegunAgain(ReplicationError):
    """Another state is in the place of the one of which something was known: what rests on that is not done."""

    def __init__(self) -> None:
        super().__init__("the database was replaced under the running node meanwhile")


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the database says of itself."""

    site: Site
    vector: Vector
    closed: Closed
    clock: Stamp
    seen: Closed = field(default_factory=dict[Site, frozenset[Head]])
    """Heads ahead of the own ones of which a state, or a part of it, was merged here."""
    parts: Closed = field(default_factory=dict[Site, frozenset[Head]])
    """Tips of closed sites of which a part of the state was merged here, and the rest has not come yet."""
    refusals: tuple[Refusal, ...] = ()
    """What speaks against attaching tables that are declared: they are not replicated."""
    schemas: Schemas = field(default_factory=dict[str, str])
    epoch: Epoch | None = None
    """The newest epoch of which anything is merged; None where many nodes write at a time."""
    tail: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    """What is here of earlier epochs beyond where that one began, by site, after which stamp: see `epochs`."""
    tails: int = 0
    """How many changesets of such are kept: see `tails`."""
    is_resetting: bool = False
    """One was set aside, and the cluster's rows in its place have not all come yet."""
    number: int = field(default=0, compare=False)
    """A later look has a higher one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a fold or a merge came to. `made`: own changesets, durable, to be cast. `view`: how it is now; `durable`:
    whether all that it says is."""

    view: View
    durable: bool
    made: tuple[bytes, ...] = ()
    outcomes: tuple[Outcome | Broken, ...] = ()
    rows: int = 0
    violations: tuple[Violation, ...] = ()
    start: SnapshotStart | None = None
    range: RangeRead | None = None
    """What was read for a peer."""
    range_rows: int = 0
    """Rows of a range that was merged."""
    fold_due: bool = False
    """Something is to be folded that nobody committed: see `engine.again`."""
    tell: bool = False
    """Peers should hear at once how it is now: nothing is cast that would show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What a store is made with. `now_ms`: this node's clock, milliseconds since 1970."""

    cluster: str
    now_ms: Callable[[], int]
    new_site: Callable[[], Site]
    barrier: Barrier
    declared: Sequence[TableDeclaration] = ()
    """Tables to be attached, as soon as they are there."""
    sidecar: Sidecar
    new_nonce: Callable[[], bytes]
    clock_bound_ms: int = CLOCK_BOUND_MS
    journal_max_age_ms: int = 7 * 24 * 3_600_000
    journal_max_bytes: int = 1024**3
    fence: str | None = None
    """Where one node writes at a time: what the tables say until this one is granted the lease."""

    @property
    def one_writer(self) -> bool:
        """Whether one node writes at a time."""
        return self.fence is not None


class Store:
    """See the module. `connect` is called by `open`, in the engine's thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], settings: StoreSettings) -> None:
        self._connect = connect
        self._settings = settings
        self._opened: sqlite3.Connection | None = None
        self._data_version = -1
        self._schema_version = -1
        self._refusals: tuple[Refusal, ...] = ()
        self._schemas: tuple[int, Schemas] = (-1, {})
        """SQLite's count of schema changes, and what was read then."""
        self._known = KnownTables()
        self.progress = Progress()
        """Of the fold or the merge that is under way, for any thread to look at."""
        self._remembered: Remembered | None = None
        """How this process left the state: what it finds otherwise somebody put there."""
        self._unsynced = False
        self._looks = 0
        self.begun = 0
        """How often this process has begun with a state: at first, and whenever another one was put in its place."""

    # --- life ---

    def open(self) -> View:
        """Opens the database and attaches the tables that are declared and there; what comes for others is held.

        Raises AttachRefused if the database is another cluster's or a newer Litecast's, and sqlite3.Error.
        """
        self._opened = self._connect()
        keep_ready_to_merge(self._opened)
        return self._begin(known_nonces=self._settings.sidecar.read())

    def close(self) -> None:
        """Closes the connection."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()

    # --- work ---

    def fold_news(self, owed: Stamp = NOTHING_OWED) -> Done | None:
        """`fold`, if anybody else has committed since the last one began: else it costs some microseconds.

        Who watches the file may have had it folded before the position of the write was told: what is owed then is
        there already, and the write lock is not taken once more for it."""
        head = None if self._remembered is None else self._remembered.head
        if head is not None and head >= owed:
            owed = NOTHING_OWED
        (version,) = self._connection.execute("PRAGMA main.data_version").fetchone()
        if version == self._data_version and owed == NOTHING_OWED:
            return None
        attached = self._attach_declared()
        done = self.fold(owed)
        self._data_version = version
        return self._done(tell=True) if done is None and attached else done

    def fold(self, owed: Stamp = NOTHING_OWED) -> Done | None:
        """Folds what was written here; None if nothing was. Raises sqlite3.Error and OSError."""
        now_ms = self._settings.now_ms()
        try:
            folded = fold(
                self._connection,
                now_ms=now_ms,
                owed=owed,
                expected=self._remembered,
                known=self._known,
                progress=self.progress,
            )
        finally:
            self.progress.begin("")
        return None if folded is None else self._done(folded)

    def merge(self, changesets: Sequence[bytes]) -> Done:
        """Merges them, in one transaction if nothing unexpected happens. Raises sqlite3.Error and OSError: then none
        of those that are not durable yet has been handed out, and all can be merged again."""
        try:
            outcomes: list[Outcome | Broken] = [*self._merge(changesets)]
        except (StateReplaced, OSError):
            raise
        except Exception as error:
            if is_the_worlds(error):
                raise
            if len(changesets) > 1:
                log.exception("a batch of %d changesets could not be merged; it is done one by one", len(changesets))
            outcomes = [self._merge_alone(encoded) for encoded in changesets]
        folded = [outcome.folded for outcome in outcomes if isinstance(outcome, Merged | Deposed)]
        changed = any(isinstance(outcome, Merged) for outcome in outcomes)
        return self._done(*folded, changed=changed, outcomes=tuple(outcomes))

    # --- state ---

    def begin_snapshot(self) -> Done:
        """Where a snapshot begins that a peer takes from now on. All that it says is durable."""
        self.sync()
        return self._done(start=begin(self._connection, expected=self._remembered))

    def read_range(self, table: str, after: Key | None, *, max_rows: int, max_bytes: int) -> Done:
        """Some of the state of a table, for a peer. Raises NoSuchTable."""
        found = read_range(
            self._connection,
            table,
            after=after,
            max_rows=max_rows,
            max_bytes=max_bytes,
            now_ms=self._settings.now_ms(),
            expected=self._remembered,
        )
        return self._done(found.folded, range_=found)

    def merge_range(self, encoded: bytes, start: SnapshotStart, *, authority: bool) -> Done:
        """Merges some of a peer's state. Raises ChangesetError, with nothing changed, if it is none."""
        settings = self._settings
        merged = merge_range(
            self._connection,
            encoded,
            start,
            now_ms=settings.now_ms(),
            clock_bound_ms=settings.clock_bound_ms,
            forgets_before=self._forgets_before(),
            authority=authority,
            expected=self._remembered,
        )
        return self._done(merged.folded, changed=True, fold_due=bool(merged.again), range_rows=merged.rows)

    def finish_snapshot(self, start: SnapshotStart) -> Done:
        """All ranges are merged: the heads move."""
        settings = self._settings
        finish(
            self._connection,
            start,
            now_ms=settings.now_ms(),
            clock_bound_ms=settings.clock_bound_ms,
            expected=self._remembered,
        )
        return self._done(tell=True)

    def begin_copy(self) -> tuple[sqlite3.Connection, Done]:
        """A connection that sees a moment at which the log was empty, and all that it sees is durable."""
        reader, folded = begin_copy(
            self._connection,
            self._connect,
            now_ms=self._settings.now_ms(),
            expected=self._remembered,
            remember=lambda: remember(self._connection),
        )
        self._unsynced = True
        self.sync()
        return reader, self._done(*folded)

    def close_site(self, site: Site) -> Done:
        """Nothing more is accepted from a site. If it is the own one, this database goes on under a new one."""
        head = vector(self._connection).get(site)
        close_site(
            self._connection,
            site,
            frozenset() if head is None else frozenset({head}),
            new_site=self._settings.new_site,
            expected=self._remembered,
        )
        return self._done(tell=True)

    def set_aside(self) -> Done:
        """The own site, which was stamped far ahead, is closed, and will be cut where all members stand."""
        set_aside(self._connection, expected=self._remembered)
        return self._done(tell=True)

    def stamp_again(self, tips: Collection[Head]) -> Done:
        """It is cut: what is beyond these tips is stamped again, under a new site."""
        settings = self._settings
        folded = stamp_again(
            self._connection,
            tips,
            new_site=settings.new_site(),
            now_ms=settings.now_ms(),
            expected=self._remembered,
        )
        return self._done(folded, tell=True)

    def forget_site(self, site: Site, told: frozenset[Head] | None = None) -> Done:
        """The site of a node that is gone for good is closed. `told`: its tips where it was closed before."""
        forget_site(self._connection, site, told, expected=self._remembered)
        return self._done(tell=True)

    def unite_tips(self, tips: Closed) -> Done:
        """The branches of closed sites that a peer merged are merged here, too."""
        unite_tips(self._connection, tips, expected=self._remembered)
        return self._done(tell=True)

    def keep_parts(self, site: Site) -> Done:
        """Nobody has the rest of a closed site's histories any more: the part that is here is one of its own."""
        keep_parts(self._connection, site, expected=self._remembered)
        return self._done(tell=True)

    def begin_again(self) -> View:
        """Somebody put another state in the place of the one that was, or detached it: goes on under a new site."""
        self._schema_version = -1
        self._data_version = -1
        return self._begin(known_nonces=())

    def check_begun(self, begun: int) -> None:
        """Raises BegunAgain if another state was put in the place of the one with which `begun` was read."""
        if self.begun != begun:
            raise BegunAgain

    def adopt_new_site(self) -> Done:
        """Goes on under a new site: a peer knows more of the present one than this database does."""
        adopt_new_site(self._connection, self._settings.new_site(), expected=self._remembered)
        return self._done(tell=True)

    def begin_epoch(self, site: Site) -> Done:
        """This node was granted the lease: it writes under this site, and nothing is fenced any more."""
        now_ms = self._settings.now_ms()
        made = epochs.begin(self._connection, site, now_ms=now_ms, expected=self._remembered)
        return self._done(*made, tell=True)

    def end_epoch(self, fence: str) -> Done:
        """This node does not hold the lease: its tables are fenced, and say so."""
        now_ms = self._settings.now_ms()
        folded = epochs.end(self._connection, fence, now_ms=now_ms, expected=self._remembered)
        return self._done(folded, changed=True)

    def set_tail_aside(self, tail: Mapping[Site, Stamp]) -> Done:
        """What was written in an epoch that is over is kept apart, and taken out of the tables."""
        settings = self._settings
        tails.set_aside(
            self._connection,
            tail,
            new_site=settings.new_site(),
            now_ms=settings.now_ms(),
            expected=self._remembered,
        )
        return self._done(changed=True, tell=True)

    def drop_tail(self, unit: Unit) -> Done:
        """Forgets one, for good."""
        keeping.drop(self._connection, unit)
        return self._done(changed=True)

    def adopt(self, table: str, keys: Sequence[Key]) -> Done:
        """Takes what damaged rows show for writes of now. Raises NotComparable."""
        view = self._view()
        if view.epoch is not None and view.site != view.epoch.site:
            raise NotComparable("this node is a replica: restore its rows, or adopt them on the primary")
        now_ms = self._settings.now_ms()
        return self._done(adopt(self._connection, table, keys, now_ms=now_ms, expected=self._remembered))

    def restore(self, table: str, rows: Mapping[Key, Row | None]) -> tuple[Restored, Done]:
        """Sets damaged rows back to what was written, as far as that is known. Raises NotComparable."""
        now_ms = self._settings.now_ms()
        restored = restore(self._connection, table, rows, now_ms=now_ms, expected=self._remembered)
        return restored, self._done(restored.folded, changed=True)

    @property
    def journal_limits(self) -> JournalLimits:
        """What `trim` leaves in the journal."""
        return JournalLimits(max_age_ms=self._settings.journal_max_age_ms, max_bytes=self._settings.journal_max_bytes)

    def trim(
        self,
        pinned: Mapping[Site, Stamp] | None,
        members: Sequence[Vector] | None,
        settled: Collection[Site] = (),
        *,
        clock_ms: int,
    ) -> tuple[int, int]:
        """Trims the journal and, with what all members have, tombstones: how many of each. `settled`: closed sites of
        which all members merged the same branches. `clock_ms`: what the slowest of all members' clocks shows. By that a
        tombstone has to be old, so that who still has it knows that others may have trimmed it."""
        settings = self._settings
        now_ms = settings.now_ms()
        changesets = trim_journal(
            self._connection,
            now_ms=now_ms,
            max_age_ms=settings.journal_max_age_ms,
            max_bytes=settings.journal_max_bytes,
            pinned=pinned,
        )
        tombstones = 0
        if members is not None and pinned is None:  # no delete may be in a journal whose tombstone is gone
            tombstones = trim_tombstones(
                self._connection,
                members=members,
                settled=settled,
                min_age_ms=settings.journal_max_age_ms,
                now_ms=min(now_ms, clock_ms),
            )
        return changesets, tombstones

    def look(self) -> View:
        """How it is, all of it durable: what may be told. Raises StateReplaced, OSError."""
        check_remembered(self._connection, self._remembered)
        return self.sync()

    def sync(self) -> View:
        """Makes everything committed so far durable, if anything is not, and says what that is. Raises OSError."""
        self._sync()
        return self._view()

    def _sync(self) -> None:
        if self._unsynced:
            self._settings.barrier(self._connection)
            self._unsynced = False

    def held_rows(self) -> object:
        """What changes when other rows cannot be shown here; None if all can."""
        return held.rows_mark(self._connection)

    # --- inside ---

    def _attach_declared(self) -> bool:
        """Attaches what is declared and has come to be there. True if anything was."""
        version = state.schema_version(self._connection)
        if version == self._schema_version:
            return False
        check_remembered(self._connection, self._remembered)  # nothing is attached to what somebody put there
        outcome = attach_declared(
            self._connection,
            self._settings.declared,
            cluster=self._settings.cluster,
            new_site=self._settings.new_site,
            one_writer=self._settings.one_writer,
        )
        for refusal in outcome.refusals:
            if refusal not in self._refusals:
                log.warning("a table that is declared is not replicated: %s", refusal)
        self._refusals = outcome.refusals
        # As it was before the look: a table that came during it, or right after, is seen by the next one.
        self._schema_version = version
        new = [table for table in outcome.attached if not table.was_attached]
        for table in new:
            log.info("attached table %s, with %d rows", table.name, table.rows)
        self._unsynced = self._unsynced or bool(new)
        self._remembered = remember(self._connection)
        return bool(new)

    def _begin(self, *, known_nonces: Collection[bytes]) -> View:
        settings = self._settings
        self.begun += 1
        state.upgrade(self._connection)
        begin_without_tables(
            self._connection, cluster=settings.cluster, new_site=settings.new_site, one_writer=settings.one_writer
        )
        self._begin_run(known_nonces=known_nonces)
        self._attach_declared()
        if settings.fence is not None:
            epochs.raise_fence_only(self._connection, settings.fence)
            self._remembered = remember(self._connection)
        self._unsynced = True
        return self.sync()

    def _begin_run(self, *, known_nonces: Collection[bytes]) -> None:
        """Until the new nonce is durable in the database, either may be there after a power cut, and is known."""
        settings = self._settings
        nonce, former = settings.new_nonce(), remember(self._connection).nonce
        known_nonce = former if former in known_nonces else None
        settings.sidecar.write(nonce) if known_nonce is None else settings.sidecar.write(known_nonce, nonce)
        began = begin_run(self._connection, known_nonce=known_nonce, new_nonce=nonce, new_site=settings.new_site)
        settings.barrier(self._connection)
        settings.sidecar.write(nonce)
        if began.former is not None:
            log.warning(
                "the database is a copy, or an older state of itself: it goes on under the new site %s (was %s)",
                began.site,
                began.former,
            )
        self._remembered = remember(self._connection)
        self._unsynced = True

    def _done(
        self,
        *folded: Folded | None,
        changed: bool = False,
        tell: bool = False,
        fold_due: bool = False,
        outcomes: tuple[Outcome | Broken, ...] = (),
        start: SnapshotStart | None = None,
        range_: RangeRead | None = None,
        range_rows: int = 0,
    ) -> Done:
        """After a transaction of this process's: what was folded in it is made durable, to be cast."""
        self._remembered = remember(self._connection)  # first: it is committed, also if it cannot be synced
        made = [one for one in folded if one is not None]
        for one in made:
            if len(one.encoded) >= LARGE_BYTES:
                log.warning(
                    "a transaction of %s rows was written (%.0f MB to be sent): while a node merges it, nobody else "
                    "can write there. Where its rows need not be seen all at once, write them in transactions of some "
                    "10,000 rows",
                    f"{one.rows:,}",
                    len(one.encoded) / 1e6,
                )
        if fold_due := fold_due or any(isinstance(one, Merged) and one.again for one in outcomes):
            self._data_version = -1
        self._unsynced = self._unsynced or changed or tell or bool(made)
        if made or tell:
            self._sync()
        return Done(
            view=self._view(),
            durable=not self._unsynced,
            made=tuple(one.encoded for one in made),
            tell=tell,
            fold_due=fold_due,
            start=start,
            range=range_,
            range_rows=range_rows,
            outcomes=outcomes,
            rows=sum(one.rows for one in made),
            violations=tuple(violation for one in outcomes if isinstance(one, Merged) for violation in one.violations),
        )

    def _merge(self, changesets: Sequence[bytes]) -> list[Outcome]:
        settings = self._settings
        try:
            return merge_all(
                self._connection,
                changesets,
                now_ms=settings.now_ms(),
                clock_bound_ms=settings.clock_bound_ms,
                forgets_before=self._forgets_before(),
                expected=self._remembered,
                known=self._known,
                progress=self.progress,
            )
        finally:
            self.progress.begin("")

    def _forgets_before(self) -> Stamp:
        """Deletes that are older may have been trimmed by a node whose clock is as far off as it may be."""
        settings = self._settings
        if settings.one_writer:
            return NOTHING_FORGOTTEN
        return stamp_at(max(0, settings.now_ms() - settings.journal_max_age_ms + 2 * settings.clock_bound_ms))

    def _merge_alone(self, encoded: bytes) -> Outcome | Broken:
        try:
            (outcome,) = self._merge([encoded])
        except (StateReplaced, OSError):
            raise
        except Exception as error:
            if is_the_worlds(error):
                raise
            log.exception("a changeset could not be merged; it is left out until this node starts again")
            return Broken(reason=f"{type(error).__name__}: {error}")
        return outcome

    def _view(self) -> View:
        found = state.read(self._connection)
        assert found is not None, "the store has attached the database"
        sites, epoch = known(self._connection), epochs.read(self._connection)
        self._looks += 1
        return View(
            number=self._looks,
            site=found.site,
            vector=sites.vector,
            closed=sites.closed,
            clock=found.clock,
            seen=sites.seen,
            parts=sites.parts,
            refusals=self._refusals,
            schemas=self._schemas_now(),
            epoch=epoch,
            tails=0 if epoch is None else tails.count(self._connection),
            is_resetting=epoch is not None and tails.is_resetting(self._connection),
            tail={} if epoch is None else epoch.tail_of(epochs.heads_of(sites.vector)),
        )

    def _schemas_now(self) -> Schemas:
        version = state.schema_version(self._connection)
        if version != self._schemas[0]:
            self._schemas = version, schemas_of(self._connection)
        return self._schemas[1]

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._opened is not None, "the store is open"
        return self._opened


_WORLDS_FAULTS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_INTERRUPT,
    }
)


def is_the_worlds(error: Exception) -> bool:
    """True if it is the lock's, the disk's or the file's fault, and no changeset's: it is tried again."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _WORLDS_FAULTS
