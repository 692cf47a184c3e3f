"""Having the engine do something, and what follows from what it did: it is cast, or told of; who waits looks again.

What can be told is what is durable. If somebody put another state in the place of the one that was, the engine begins
again with that one, under a new site, before it does anything."""

import logging
from collections.abc import Callable
from typing import Final, Protocol

from replication.convergent.engine import Engine
from replication.convergent.members import Members
from replication.convergent.opened import BegunAgain
from replication.convergent.status import Tally
from replication.convergent.store import Done, Store, View
from replication.convergent.tails import Tails
from replication.convergent.telling import Telling
from replication.engine.identity import StateReplaced

log = logging.getLogger(__name__)

CAST_MAX_BYTES: Final = 512 * 1024
"""A larger changeset is not cast but told of, and asked for in pieces."""


class Here(Protocol):
    """What this needs of the node's replication."""

    def cast(self, peer: str, message: object) -> None:
        """Send and forget."""
        ...

    def moved(self) -> None:
        """The database is not as it was: who waits for something looks again."""
        ...

    def may_be_merged_now(self) -> None:
        """What waits to be merged may not have to wait any more."""
        ...

    def fold_is_due(self) -> None:
        """There is something to be folded that nobody committed."""
        ...

    def begun_with_another_state(self) -> None:
        """What peers said they have is to be compared with another database."""
        ...

    def warn_seldom(self, key: str, text: str) -> None:
        """Logs it, unless it was lately."""
        ...


class EngineWork:
    """See the module. Nothing is known of the database before `open`."""

    def __init__(
        self,
        here: Here,
        store: Store,
        engine: Engine,
        *,
        tally: Tally,
        members: Members,
        telling: Telling,
        tails: Tails,
    ) -> None:
        self._here = here
        self._store = store
        self._engine = engine
        self._tally = tally
        self._members = members
        self._telling = telling
        self._tails = tails
        self._view: View | None = None
        self._durable_view: View | None = None
        """What may be told: a head that a power cut could take back must not have been told to anybody."""

    async def open(self) -> None:
        """Opens the database. Raises what opening raises."""
        self._view = self._durable_view = await self._engine.run(self._store.open)

    def view(self) -> View:
        """What the database said of itself after the last transaction."""
        assert self._view is not None, "replication is open"
        return self._view

    def durable_view(self) -> View:
        """The same, as far as a power cut could not take it back: what may be told."""
        assert self._durable_view is not None, "replication is open"
        return self._durable_view

    async def run[T](self, step: Callable[[Store], T], *, rests_on_state: bool) -> T:
        """What the engine made of it. If it begins again with another state before it does it, under a new site, it
        does it there.

        Not if it `rests_on_state`, what was known of the one that was: then it raises BegunAgain, with nothing done."""
        try:
            return await self._engine.run(lambda: step(self._store))
        except StateReplaced:
            log.warning("the database was replaced under the running node: it goes on with it, under a new site")
            self._tally.new_sites += 1
            self._view = self._durable_view = await self._engine.run(self._store.begin_again)
            self._here.moved()
            self._here.begun_with_another_state()
            if rests_on_state:
                raise BegunAgain from None
            return await self._engine.run(lambda: step(self._store))

    async def do(self, step: Callable[[Store], Done], *, rests_on_state: bool) -> Done:
        """The same with what follows from it."""
        done = await self.run(step, rests_on_state=rests_on_state)
        self.take(done)
        return done

    def take(self, done: Done) -> None:
        """The engine did something: what it made is cast, and who waits for a position looks again."""
        self._view = done.view
        if done.durable:
            self._durable_view = done.view
        if done.fold_due:
            self._here.fold_is_due()
        self._tally.folded += len(done.made)
        self._tally.folded_rows += done.rows
        self._tally.violations += len(done.violations)
        for found in done.violations[:1]:  # the others are counted: a merge may bring thousands
            self._here.warn_seldom(
                f"violation {found.table} {found.rule}",
                f"since a merge, a row of table {found.table} breaks a {found.rule}: key {found.key!r}. It stays, on "
                "every node; mend it with SQL",
            )
        if done.view.tail:
            self._tails.found(done.view.tail)
        peers = self._members.up()
        tell = done.tell
        for encoded in () if done.view.tail else done.made:  # nobody would take a tail
            if len(encoded) > CAST_MAX_BYTES:
                tell = True
                continue
            message = ["changeset", encoded]
            for peer in peers:
                self._here.cast(peer, message)
        if tell:
            self._telling.tell(peers)
        self._here.moved()

    async def look(self) -> None:
        """How the database is, all of it durable now."""
        view = await self.run(lambda store: store.look(), rests_on_state=False)
        if view.number > self.view().number and view != self.view():
            self._view = view  # something was committed, and could not be made durable then
            self._here.moved()
            self._here.may_be_merged_now()
        self._durable_view = view
