"""The engine's side of a node: the one connection that folds and merges. Synchronous; one function runs at a time.
Where one node writes at a time there is another connection, for writes that are folded in their own transaction.

What `fold` and `merge` hand out for casting has been made durable, after the write lock was let go. Merged changesets
of others are only made durable by `sync`, which is called before their heads are told to anybody: a head that was told
and then lost in a power cut would let others forget what this node still needs."""

import logging
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from replication.convergent.broken import Broken, merge_what_can_be
from replication.convergent.messages import Closed, Vector
from replication.convergent.opened import Opened
from replication.convergent.schemas import Schemas
from replication.convergent.store_settings import StoreSettings
from replication.engine import epochs, held, state, tails
from replication.engine.applying import Deposed, Merged, Outcome, merge_all
from replication.engine.closing import close_site, forget_site, keep_parts, unite_tips
from replication.engine.copying import begin_copy
from replication.engine.decoding import LARGE_BYTES
from replication.engine.epochs import Epoch
from replication.engine.folding import NOTHING_OWED, Folded, fold
from replication.engine.identity import Remembered, adopt_new_site, remember
from replication.engine.known_tables import KnownTables
from replication.engine.progress import Progress
from replication.engine.refusals import Refusal
from replication.engine.session import NOTHING_FORGOTTEN
from replication.engine.sites import Head, known, stamps_of, vector
from replication.engine.snapshots import RangeRead, SnapshotStart
from replication.engine.stamping_again import set_aside, stamp_again
from replication.engine.stamps import Site, Stamp, stamp_at
from replication.engine.violations import Violation
from replication.tails import keeping
from replication.tails.unit import Unit

log = logging.getLogger(__name__)


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


class Store:
    """See the module. `connect` is called by `open`, in the engine's thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], settings: StoreSettings) -> None:
        self.settings = settings
        self.opened = Opened(connect, settings)
        self.progress = Progress()
        """Of the fold or the merge that is under way, for any thread to look at."""
        self._data_version = -1
        self._known = KnownTables()
        self._looks = 0

    @property
    def connection(self) -> sqlite3.Connection:
        """The one that folds and merges."""
        return self.opened.connection

    @property
    def remembered(self) -> Remembered | None:
        """How this process left the state: what it finds otherwise somebody put there."""
        return self.opened.remembered

    # --- life ---

    def open(self) -> View:
        """Opens the database and attaches the tables that are declared and there; what comes for others is held.

        Raises AttachRefused if the database is another cluster's or a newer Litecast's, and sqlite3.Error.
        """
        self.opened.open()
        return self.view()

    def begin_again(self) -> View:
        """Somebody put another state in the place of the one that was, or detached it: goes on under a new site."""
        self._data_version = -1
        self.opened.begin_again()
        return self.view()

    def close(self) -> None:
        """Closes the connections."""
        self.opened.close()

    # --- work ---

    def fold_news(self, owed_by_site: Mapping[Site, Stamp] = MappingProxyType({})) -> Done | None:
        """`fold`, if anybody else has committed since the last one began: else it costs some microseconds.

        Who watches the file may have had it folded before the position of the write was told: what is owed then is
        there already, and the write lock is not taken once more for it. Nor is anything owed under a site that the
        database has left meanwhile: an empty changeset of the new one would be the beginning of another tail."""
        own = self.remembered
        owed = NOTHING_OWED if own is None else owed_by_site.get(own.site, NOTHING_OWED)
        if own is not None and own.head is not None and own.head >= owed:
            owed = NOTHING_OWED
        (version,) = self.connection.execute("PRAGMA main.data_version").fetchone()
        if version == self._data_version and owed == NOTHING_OWED:
            return None
        attached = self.opened.attach_declared()
        done = self.fold(owed)
        self._data_version = version
        return self.done(tell=True) if done is None and attached else done

    def fold(self, owed: Stamp = NOTHING_OWED) -> Done | None:
        """Folds what was written here; None if nothing was. Raises sqlite3.Error and OSError."""
        now_ms = self.settings.now_ms()
        try:
            folded = fold(
                self.connection,
                now_ms=now_ms,
                owed=owed,
                expected=self.remembered,
                known=self._known,
                progress=self.progress,
            )
        finally:
            self.progress.begin("")
        return None if folded is None else self.done(folded)

    def merge(self, changesets: Sequence[bytes]) -> Done:
        """Merges them, in one transaction if nothing unexpected happens. Raises sqlite3.Error and OSError: then none
        of those that are not durable yet has been handed out, and all can be merged again."""
        outcomes = merge_what_can_be(self._merge, changesets)
        folded = [outcome.folded for outcome in outcomes if isinstance(outcome, Merged | Deposed)]
        changed = any(isinstance(outcome, Merged) for outcome in outcomes)
        return self.done(*folded, changed=changed, outcomes=tuple(outcomes))

    # --- state ---

    def begin_copy(self) -> tuple[sqlite3.Connection, Done]:
        """A connection that sees a moment at which the log was empty, and all that it sees is durable."""
        reader, folded = begin_copy(
            self.connection,
            self.opened.connect,
            now_ms=self.settings.now_ms(),
            expected=self.remembered,
            remember=lambda: remember(self.connection),
        )
        self.opened.is_durable = False
        self.opened.sync()
        return reader, self.done(*folded)

    def close_site(self, site: Site) -> Done:
        """Nothing more is accepted from a site. If it is the own one, this database goes on under a new one."""
        head = vector(self.connection).get(site)
        close_site(
            self.connection,
            site,
            frozenset() if head is None else frozenset({head}),
            new_site=self.settings.new_site,
            expected=self.remembered,
        )
        return self.done(tell=True)

    def set_aside(self) -> Done:
        """The own site, which was stamped far ahead, is closed, and will be cut where all members stand."""
        set_aside(self.connection, expected=self.remembered)
        return self.done(tell=True)

    def stamp_again(self, tips: Collection[Head]) -> Done:
        """It is cut: what is beyond these tips is stamped again, under a new site."""
        settings = self.settings
        folded = stamp_again(
            self.connection,
            tips,
            new_site=settings.new_site(),
            now_ms=settings.now_ms(),
            expected=self.remembered,
        )
        return self.done(folded, tell=True)

    def forget_site(self, site: Site, told: frozenset[Head] | None = None) -> Done:
        """The site of a node that is gone for good is closed. `told`: its tips where it was closed before."""
        forget_site(self.connection, site, told, expected=self.remembered)
        return self.done(tell=True)

    def unite_tips(self, tips: Closed) -> Done:
        """The branches of closed sites that a peer merged are merged here, too."""
        unite_tips(self.connection, tips, expected=self.remembered)
        return self.done(tell=True)

    def keep_parts(self, site: Site) -> Done:
        """Nobody has the rest of a closed site's histories any more: the part that is here is one of its own."""
        keep_parts(self.connection, site, expected=self.remembered)
        return self.done(tell=True)

    def adopt_new_site(self) -> Done:
        """Goes on under a new site: a peer knows more of the present one than this database does."""
        adopt_new_site(self.connection, self.settings.new_site(), expected=self.remembered)
        return self.done(tell=True)

    def begin_epoch(self, site: Site) -> Done:
        """This node was granted the lease: it writes under this site, and nothing is fenced any more."""
        now_ms = self.settings.now_ms()
        made = epochs.begin(self.connection, site, now_ms=now_ms, expected=self.remembered)
        return self.done(*made, tell=True)

    def end_epoch(self, fence: str) -> Done:
        """This node does not hold the lease: its tables are fenced, and say so."""
        now_ms = self.settings.now_ms()
        folded = epochs.end(self.connection, fence, now_ms=now_ms, expected=self.remembered)
        return self.done(folded, changed=True)

    def set_tail_aside(self, tail: Mapping[Site, Stamp]) -> Done:
        """What was written in an epoch that is over is kept apart, and taken out of the tables."""
        settings = self.settings
        tails.set_aside(
            self.connection,
            tail,
            new_site=settings.new_site(),
            now_ms=settings.now_ms(),
            expected=self.remembered,
        )
        return self.done(changed=True, tell=True)

    def drop_tail(self, unit: Unit) -> Done:
        """Forgets one, for good."""
        keeping.drop(self.connection, unit)
        return self.done(changed=True)

    def look(self) -> View:
        """How it is, all of it durable: what may be told. Raises StateReplaced, OSError."""
        self.opened.check_remembered()
        return self.sync()

    def sync(self) -> View:
        """Makes everything committed so far durable, if anything is not, and says what that is. Raises OSError."""
        self.opened.sync()
        return self.view()

    def held_rows(self) -> object:
        """What changes when other rows cannot be shown here; None if all can."""
        return held.rows_mark(self.connection)

    def done(
        self,
        *folded: Folded | None,
        changed: bool = False,
        tell: bool = False,
        fold_due: bool = False,
        outcomes: tuple[Outcome | Broken, ...] = (),
        start: SnapshotStart | None = None,
        range_: RangeRead | None = None,
        range_rows: int = 0,
        is_synced: bool = False,
    ) -> Done:
        """After a transaction of this process's: what was folded in it is made durable, to be cast. `is_synced`: its
        commit has made it durable, and all that was committed before."""
        self.opened.remember()  # first: it is committed, also if it cannot be synced
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
        self.opened.is_durable = is_synced or (self.opened.is_durable and not (changed or tell or made))
        if made or tell:
            self.opened.sync()
        return Done(
            view=self.view(),
            durable=self.opened.is_durable,
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
        settings = self.settings
        try:
            return merge_all(
                self.connection,
                changesets,
                now_ms=settings.now_ms(),
                clock_bound_ms=settings.clock_bound_ms,
                forgets_before=self.forgets_before(),
                expected=self.remembered,
                known=self._known,
                progress=self.progress,
            )
        finally:
            self.progress.begin("")

    def forgets_before(self) -> Stamp:
        """Deletes that are older may have been trimmed by a node whose clock is as far off as it may be."""
        settings = self.settings
        if settings.one_writer:
            return NOTHING_FORGOTTEN
        return stamp_at(max(0, settings.now_ms() - settings.journal_max_age_ms + 2 * settings.clock_bound_ms))

    def view(self) -> View:
        """How it is. What is not durable yet must not be told: `sync` makes it so."""
        found = state.read(self.connection)
        assert found is not None, "the store has attached the database"
        sites, epoch = known(self.connection), epochs.read(self.connection)
        self._looks += 1
        return View(
            number=self._looks,
            site=found.site,
            vector=sites.vector,
            closed=sites.closed,
            clock=found.clock,
            seen=sites.seen,
            parts=sites.parts,
            refusals=self.opened.refusals,
            schemas=self.opened.schemas(),
            epoch=epoch,
            tails=0 if epoch is None else tails.count(self.connection),
            is_resetting=epoch is not None and tails.is_resetting(self.connection),
            tail={} if epoch is None else epoch.tail_of(stamps_of(sites.vector)),
        )
