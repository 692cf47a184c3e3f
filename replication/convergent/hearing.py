"""What peers cast: changesets, how far they are (their heads), which schemas they have. All of it is checked first."""

import logging
from typing import Protocol

from replication.convergent.engine_work import EngineWork
from replication.convergent.exchange import Exchange
from replication.convergent.joining import Joining
from replication.convergent.members import Members, was_forgotten
from replication.convergent.merging import Merging
from replication.convergent.messages import Heads, NotAMessage, parse_heads
from replication.convergent.own_clock import OwnClock
from replication.convergent.schemas import PeerSchemas, parse_schemas
from replication.convergent.status import Tally
from replication.engine.changesets import ChangesetError
from replication.engine.closing import FORGOTTEN
from replication.engine.stamps import Site

log = logging.getLogger(__name__)


class Here(Protocol):
    """What hearing needs of the node's replication."""

    def writes_under(self, site: Site, node: str) -> None:
        """A node said that it writes under this site."""
        ...

    def look_for_forks(self, peer: str, heads: Heads) -> None:
        """What a peer says may not go together with what is here."""
        ...

    def has_something_lacking(self) -> None:
        """There is something to be asked for."""
        ...

    def stop_for_good(self) -> None:
        """Nothing is done here any more."""
        ...

    def warn_seldom(self, key: str, text: str) -> None:
        """Logs it, unless it was lately."""
        ...


class Hearing:
    """See the module."""

    def __init__(
        self,
        here: Here,
        work: EngineWork,
        joining: Joining,
        merging: Merging,
        *,
        members: Members,
        exchange: Exchange,
        clock: OwnClock,
        schemas: PeerSchemas,
        tally: Tally,
    ) -> None:
        self.forgotten_by = ""
        """A peer that says that this node was forgotten; "" if none does."""
        self._here = here
        self._work = work
        self._joining = joining
        self._merging = merging
        self._members = members
        self._exchange = exchange
        self._clock = clock
        self._schemas = schemas
        self._tally = tally

    def cast_from(self, peer: str, message: object) -> None:
        """A peer cast something. Never raises: what is none of these is counted, and dropped."""
        if self.forgotten_by:
            return
        try:
            match message:
                case ["changeset", bytes(encoded)]:
                    self._merging.take_in(peer, encoded, asked_for=False)
                case ["heads", *_]:
                    assert isinstance(message, list)
                    self.hear(peer, parse_heads(message))
                case ["schemas", *_]:
                    assert isinstance(message, list)
                    self._schemas.heard(peer, parse_schemas(message))
                case _:
                    raise NotAMessage("neither a changeset, nor heads, nor schemas")
        except (NotAMessage, ChangesetError) as error:
            self._tally.not_messages += 1
            self._here.warn_seldom(f"bad {peer}", f"dropped a cast from {peer}: {error}")

    def hear(self, peer: str, heads: Heads) -> None:
        """A peer said how far it is."""
        view = self._work.view()
        if FORGOTTEN in heads.closed.get(view.site, ()):
            log.error("%s says that this node was forgotten: nothing is sent or merged here any more", peer)
            self.forgotten_by = peer
            self._here.stop_for_good()
            return
        if was_forgotten(heads.site, view):
            self._here.warn_seldom(f"forgotten {peer}", f"{peer} was forgotten, and is back with the database it had")
            return
        self._members.hear(peer, heads)
        self._exchange.heard(peer, heads)
        self._here.writes_under(heads.site, peer)
        self._clock.heard(peer, heads.clock_ms)
        if self._joining.done.is_set():
            self._here.look_for_forks(peer, heads)
        self._joining.spoken.set()
        self._here.has_something_lacking()
