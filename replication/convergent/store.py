"""The engine's side of a node: the one connection that folds and merges. Synchronous; one function runs at a time.

What `fold` and `merge` hand out for casting has been made durable, after the write lock was let go. Merged changesets
of others are only made durable by `sync`, which is called before their heads are told to anybody: a head that was told
and then lost in a power cut would let others forget what this node still needs."""

import logging
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from replication.attaching_declared import attach_declared
from replication.convergent.durability import Barrier
from replication.convergent.messages import Closed, Vector
from replication.declared import TableDeclaration
from replication.engine import state
from replication.engine.applying import CLOCK_BOUND_MS, Merged, Outcome, merge_all
from replication.engine.attaching import begin_without_tables
from replication.engine.folding import NOTHING_OWED, fold
from replication.engine.refusals import Refusal
from replication.engine.sites import vector
from replication.engine.stamps import Site, Stamp
from replication.engine.violations import Violation

log = logging.getLogger(__name__)

BUSY_TIMEOUT_S = 5.0
CHECKPOINT_PAGES = 1_000
"""SQLite's own default, 4 MB. This connection is the one of ours that checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A changeset that could not be merged, nobody knows why. It is not asked for again in this run."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the database says of itself."""

    site: Site
    vector: Vector
    closed: Closed
    clock: Stamp
    refusals: tuple[Refusal, ...] = ()
    """What speaks against attaching tables that are declared: they are not replicated."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What a store is made with. `now_ms`: this node's clock, milliseconds since 1970."""

    cluster: str
    now_ms: Callable[[], int]
    new_site: Callable[[], Site]
    barrier: Barrier
    declared: Sequence[TableDeclaration] = ()
    """Tables to be attached, as soon as they are there."""
    clock_bound_ms: int = CLOCK_BOUND_MS


@dataclass(slots=True)
class _Made:
    """Own changesets that are committed and not durable yet."""

    changesets: list[bytes] = field(default_factory=list[bytes])
    rows: int = 0


class Store:
    """See the module. `connect` is called by `open`, in the engine's thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], settings: StoreSettings) -> None:
        self._connect = connect
        self._settings = settings
        self._opened: sqlite3.Connection | None = None
        self._data_version = -1
        self._schema_version = -1
        self._refusals: tuple[Refusal, ...] = ()
        self._unsynced = False

    # --- life ---

    def open(self) -> View:
        """Opens the database and attaches the tables that are declared and there; what comes for others is held.

        Raises AttachRefused if the database is another cluster's or a newer Litecast's, and sqlite3.Error.
        """
        connection = self._opened = self._connect()
        begin_without_tables(connection, cluster=self._settings.cluster, new_site=self._settings.new_site)
        self._attach_declared()
        return self._view()

    def close(self) -> None:
        """Closes the connection."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()

    # --- work ---

    def fold_news(self, owed: Stamp = NOTHING_OWED) -> Done | None:
        """`fold`, if anybody else has committed since the last one began: else it costs some microseconds."""
        (version,) = self._connection.execute("PRAGMA main.data_version").fetchone()
        if version == self._data_version and owed == NOTHING_OWED:
            return None
        attached = self._attach_declared()
        done = self.fold(owed)
        self._data_version = version
        if done is None and attached:
            return Done(view=self.sync(), durable=True)
        return done

    def fold(self, owed: Stamp = NOTHING_OWED) -> Done | None:
        """Folds what was written here; None if nothing was. Raises sqlite3.Error and OSError."""
        folded = fold(self._connection, now_ms=self._settings.now_ms(), owed=owed)
        if folded is None:
            return None
        self._unsynced = True
        return Done(view=self.sync(), durable=True, made=(folded.encoded,), rows=folded.rows)

    def merge(self, changesets: Sequence[bytes]) -> Done:
        """Merges them, in one transaction if nothing unexpected happens. Raises sqlite3.Error and OSError: then none
        of those that are not durable yet has been handed out, and all can be merged again."""
        made = _Made()
        violations: list[Violation] = []
        try:
            outcomes: list[Outcome | Broken] = [*self._merge(changesets)]
        except (sqlite3.OperationalError, OSError):
            raise
        except Exception:
            if len(changesets) > 1:
                log.exception(
                    "a batch of %d changesets could not be merged; they are merged one by one", len(changesets)
                )
            outcomes = [self._merge_alone(encoded) for encoded in changesets]
        for outcome in outcomes:
            if isinstance(outcome, Merged):
                self._unsynced = True
                violations += outcome.violations
                if outcome.folded is not None:
                    made.changesets.append(outcome.folded.encoded)
                    made.rows += outcome.folded.rows
        if made.changesets:
            self.sync()
        return Done(
            view=self._view(),
            durable=not self._unsynced,
            made=tuple(made.changesets),
            outcomes=tuple(outcomes),
            rows=made.rows,
            violations=tuple(violations),
        )

    def sync(self) -> View:
        """Makes everything committed so far durable, if anything is not, and says what that is. Raises OSError."""
        if self._unsynced:
            self._settings.barrier(self._connection)
            self._unsynced = False
        return self._view()

    # --- inside ---

    def _attach_declared(self) -> bool:
        """Attaches what is declared and has come to be there. True if anything was."""
        version = state.schema_version(self._connection)
        if version == self._schema_version:
            return False
        outcome = attach_declared(
            self._connection,
            self._settings.declared,
            cluster=self._settings.cluster,
            new_site=self._settings.new_site,
        )
        for refusal in outcome.refusals:
            if refusal not in self._refusals:
                log.warning("a table that is declared is not replicated: %s", refusal)
        self._refusals = outcome.refusals
        self._schema_version = state.schema_version(self._connection)
        new = [table for table in outcome.attached if not table.was_attached]
        for table in new:
            log.info("attached table %s, with %d rows", table.name, table.rows)
        self._unsynced = self._unsynced or bool(new)
        return bool(new)

    def _merge(self, changesets: Sequence[bytes]) -> list[Outcome]:
        settings = self._settings
        return merge_all(self._connection, changesets, now_ms=settings.now_ms(), clock_bound_ms=settings.clock_bound_ms)

    def _merge_alone(self, encoded: bytes) -> Outcome | Broken:
        try:
            (outcome,) = self._merge([encoded])
        except (sqlite3.OperationalError, OSError):
            raise
        except Exception as error:
            log.exception("a changeset could not be merged; it is left out until this node starts again")
            return Broken(reason=f"{type(error).__name__}: {error}")
        return outcome

    def _view(self) -> View:
        found = state.read(self._connection)
        assert found is not None, "the store has attached the database"
        return View(
            site=found.site, vector=vector(self._connection), closed={}, clock=found.clock, refusals=self._refusals
        )

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._opened is not None, "the store is open"
        return self._opened
