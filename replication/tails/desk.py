"""The tails of one node, for whoever administers it: listed, shown, applied, dropped."""

import sqlite3
from collections.abc import Callable
from typing import Any, Protocol

from replication.convergent.store import Done, Store
from replication.errors import CannotTravel, NoSuchTail
from replication.tails import keeping
from replication.tails.applying import APPLY
from replication.tails.keeping import READ_MAX_BYTES, TailTooLarge
from replication.tails.unit import Change, Unit, named


class Replication(Protocol):
    """What is needed of this node's replication."""

    async def read[T](self, question: Callable[[sqlite3.Connection], T]) -> T: ...
    async def work(self, step: Callable[[Store], Done]) -> Done: ...


class Calls(Protocol):
    """What is needed of a Repo."""

    async def call(self, name: str, *arguments: Any, wait: bool = True) -> Any: ...


class TailsDesk:
    """See the module. Whatever is asked for by name raises NoSuchTail unless it is one tail's."""

    def __init__(self, replication: Replication, repo: Calls) -> None:
        self._replication = replication
        self._repo = repo

    async def units(self) -> list[Unit]:
        """All that are kept here."""
        return await self._replication.read(keeping.units)

    async def rows(self, unit: Unit) -> dict[str, int] | None:
        """How many rows of each table one comes to; None if it is too large to be looked into."""
        return await self._replication.read(lambda connection: keeping.rows(connection, unit))

    async def changes(self, name: str) -> tuple[Unit, list[Change]]:
        """What one comes to. Raises NoSuchTail for one that is too large to be looked into."""
        unit = await self._unit(name)
        try:
            return unit, await self._replication.read(lambda connection: keeping.changes(connection, unit))
        except TailTooLarge:
            raise NoSuchTail(
                f"tail {unit.name} has {unit.bytes} bytes, and {READ_MAX_BYTES} are the most that is looked into: it "
                "can only be dropped"
            ) from None

    async def apply(self, name: str) -> int:
        """Writes it again on the primary, in one transaction, and drops it here: how many rows it changed. Raises
        TailConflict, NoSuchTail and what a forwarded write raises, with nothing written unless `outcome_unknown`; it
        stays then, and may be applied again."""
        unit, changes = await self.changes(name)
        plain = [change.plain() for change in changes]
        try:
            await self._repo.call(APPLY, unit.site, unit.upto, plain)
        except CannotTravel as error:
            raise NoSuchTail(
                f"tail {unit.name} cannot be sent to the primary ({error.reason}): show it, write what should stay, "
                "and drop it"
            ) from None
        await self._replication.work(lambda store: store.drop_tail(unit))
        return len(changes)

    async def drop(self, name: str) -> Unit:
        """Forgets it, for good."""
        unit = await self._unit(name)
        await self._replication.work(lambda store: store.drop_tail(unit))
        return unit

    async def _unit(self, name: str) -> Unit:
        units = await self.units()
        found = named(units, name)
        if len(found) == 1:
            return found[0]
        known = ", ".join(unit.site if len(found) > 1 else unit.name for unit in (found or units))
        if found:
            raise NoSuchTail(f"{len(found)} tails are called {name!r}: name one by its site, {known}")
        raise NoSuchTail(f"no tail {name!r} is kept here; {f'there are {known}' if known else 'there is none'}")
