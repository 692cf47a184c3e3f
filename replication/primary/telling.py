"""Telling who is the primary: the peers, each second and when it changes, and other programs, by the files beside the
database."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from replication.convergent.store import View
from replication.positions import Position
from replication.primary.beside import Beside
from replication.primary.catching_up import Cluster
from replication.primary.standing import PRIMARY, Role, Standing

TELL_S: Final = 1.0
LOOK_S: Final = 0.2
"""So late at most the position beside the database is told."""


class Office(Protocol):
    """What telling needs of who leads."""

    @property
    def role(self) -> Role: ...
    @property
    def standing(self) -> Standing: ...
    def epoch(self) -> int: ...
    async def next_change(self) -> None: ...


class Telling:
    """`trouble` is told when the files cannot be written."""

    def __init__(
        self, office: Office, view: Callable[[], View], beside: Beside | None, trouble: Callable[[str], None]
    ) -> None:
        self._office = office
        self._view = view
        self._beside = beside
        self._trouble = trouble
        self._cluster: Cluster | None = None

    def start(self, cluster: Cluster) -> None:
        """The node runs."""
        self._cluster = cluster

    async def run(self) -> None:
        """Tells, until it is cancelled."""
        office, loop = self._office, asyncio.get_running_loop()
        told_s = loop.time()
        while True:
            if office.role is Role.PRIMARY and loop.time() - told_s >= TELL_S:
                self.all(is_primary=True, epoch=office.epoch())
                told_s = loop.time()
            self._tell_beside()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await office.next_change()

    def all(self, *, is_primary: bool, epoch: int) -> None:
        """All peers hear whether this node is the primary."""
        for peer in () if self._cluster is None else self._cluster.peers():
            self.one(peer.name, is_primary=is_primary, epoch=epoch)

    def one(self, peer: str, *, is_primary: bool, epoch: int) -> None:
        """One peer does."""
        if self._cluster is not None:
            self._cluster.cast(peer, PRIMARY, ["primary", epoch, is_primary])

    def clear(self) -> None:
        """This node does not run any more. Raises OSError."""
        if self._beside is not None:
            self._beside.clear()

    def _tell_beside(self) -> None:
        if self._beside is None:
            return
        view, office = self._view(), self._office
        site = None if view.epoch is None else view.epoch.site
        position = Position({site: view.vector[site].stamp}) if site in view.vector and site is not None else Position()
        other = None if office.role is Role.PRIMARY else office.standing.primary
        try:
            self._beside.tell(primary=other, position=str(position))
        except OSError as error:
            self._trouble(f"the files beside the database cannot be written: {error}")
