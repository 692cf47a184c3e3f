"""The database as this process has it open: how it begins with it, how it left it, and what of that is durable.

A run begins under the site that the database names, if the nonce says that it is the one that this node left; else it
is a copy, or an older state, and goes on under a new site. From then on this process knows how it left the state after
each transaction, and whatever it finds otherwise somebody put there."""

import logging
import sqlite3
from collections.abc import Callable, Collection

from replication.attaching_declared import attach_declared
from replication.convergent.schemas import Schemas, schemas_of
from replication.convergent.store_settings import StoreSettings
from replication.engine import epochs, state
from replication.engine.attaching import begin_without_tables
from replication.engine.identity import Remembered, begin_run, check_remembered, remember
from replication.engine.refusals import Refusal
from replication.engine.transacting import keep_ready_to_merge
from replication.errors import ReplicationError

log = logging.getLogger(__name__)


class BegunAgain(ReplicationError):
    """Another state is in the place of the one of which something was known: what rests on that is not done."""

    def __init__(self) -> None:
        super().__init__("the database was replaced under the running node meanwhile")


class Opened:
    """See the module. Nothing is open before `open`."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], settings: StoreSettings) -> None:
        self.connect = connect
        self.begun = 0
        """How often this process has begun with a state: at first, and whenever another one was put in its place."""
        self.remembered: Remembered | None = None
        """How this process left the state."""
        self.refusals: tuple[Refusal, ...] = ()
        """What speaks against attaching tables that are declared."""
        self.is_durable = True
        """Whether all that was committed is."""
        self._settings = settings
        self._connection: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._schema_version = -1
        self._schemas: tuple[int, Schemas] = (-1, {})
        """SQLite's count of schema changes, and what was read then."""

    @property
    def connection(self) -> sqlite3.Connection:
        """The one that folds and merges."""
        assert self._connection is not None, "the database is open"
        return self._connection

    def writer(self, connect: Callable[[], sqlite3.Connection]) -> sqlite3.Connection:
        """A second one, which `connect` makes when it is first asked for: see `writing`."""
        if self._writer is None:
            self._writer = connect()
        return self._writer

    def open(self) -> None:
        """Opens the database and begins with it. All that it says is durable then.

        Raises AttachRefused if it is another cluster's or a newer Litecast's, and sqlite3.Error, OSError."""
        self._connection = self.connect()
        keep_ready_to_merge(self._connection)
        self._begin(known_nonces=self._settings.sidecar.read())

    def begin_again(self) -> None:
        """Begins with another state, of which nothing is known, under a new site."""
        self._schema_version = -1
        self._begin(known_nonces=())

    def close(self) -> None:
        """Closes the connections."""
        opened = (self._writer, self._connection)
        self._writer = self._connection = None
        for connection in opened:
            if connection is not None:
                connection.close()

    def attach_declared(self) -> bool:
        """Attaches what is declared and has come to be there. True if anything was."""
        version = state.schema_version(self.connection)
        if version == self._schema_version:
            return False
        self.check_remembered()  # nothing is attached to what somebody put there
        outcome = attach_declared(
            self.connection,
            self._settings.declared,
            cluster=self._settings.cluster,
            new_site=self._settings.new_site,
            one_writer=self._settings.one_writer,
        )
        for refusal in outcome.refusals:
            if refusal not in self.refusals:
                log.warning("a table that is declared is not replicated: %s", refusal)
        self.refusals = outcome.refusals
        # As it was before the look: a table that came during it, or right after, is seen by the next one.
        self._schema_version = version
        new = [table for table in outcome.attached if not table.was_attached]
        for table in new:
            log.info("attached table %s, with %d rows", table.name, table.rows)
        self.is_durable = self.is_durable and not new
        self.remember()
        return bool(new)

    def schemas(self) -> Schemas:
        """Those of the attached tables, as they are now."""
        version = state.schema_version(self.connection)
        if version != self._schemas[0]:
            self._schemas = version, schemas_of(self.connection)
        return self._schemas[1]

    def remember(self) -> None:
        """This process has left the state as it is now."""
        self.remembered = remember(self.connection)

    def check_remembered(self) -> None:
        """Raises StateReplaced if the state is not as this process left it."""
        check_remembered(self.connection, self.remembered)

    def check_begun(self, begun: int) -> None:
        """Raises BegunAgain if another state was put in the place of the one with which `begun` was read."""
        if self.begun != begun:
            raise BegunAgain

    def sync(self) -> None:
        """Makes everything committed so far durable, if anything is not. Raises OSError."""
        if not self.is_durable:
            self._settings.barrier(self.connection)
            self.is_durable = True

    # --- beginning ---

    def _begin(self, *, known_nonces: Collection[bytes]) -> None:
        settings = self._settings
        self.begun += 1
        state.upgrade(self.connection)
        begin_without_tables(
            self.connection, cluster=settings.cluster, new_site=settings.new_site, one_writer=settings.one_writer
        )
        self._begin_run(known_nonces=known_nonces)
        self.attach_declared()
        if settings.fence is not None:
            epochs.raise_fence_only(self.connection, settings.fence)
            self.remember()
        self.is_durable = False
        self.sync()

    def _begin_run(self, *, known_nonces: Collection[bytes]) -> None:
        """Until the new nonce is durable in the database, either may be there after a power cut, and is known."""
        settings = self._settings
        nonce, former = settings.new_nonce(), remember(self.connection).nonce
        known_nonce = former if former in known_nonces else None
        settings.sidecar.write(nonce) if known_nonce is None else settings.sidecar.write(known_nonce, nonce)
        began = begin_run(self.connection, known_nonce=known_nonce, new_nonce=nonce, new_site=settings.new_site)
        settings.barrier(self.connection)
        settings.sidecar.write(nonce)
        if began.former is not None:
            log.warning(
                "the database is a copy, or an older state of itself: it goes on under the new site %s (was %s)",
                began.site,
                began.former,
            )
        self.remember()
        self.is_durable = False
