"""What this node tells its peers of the bucket, and what they told it: so nobody has to ask the bucket.

What is new is told at once. All that is known is told to a peer that comes up, when the node's site changes, or whether
its uploads work, and again within some seconds of anything new. A word may still be lost, and the last one has none
after it: so who believes for some seconds that something is not in the bucket asks his peers what they know."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from replication.backup import saying
from replication.backup.deciding import Peer
from replication.backup.saying import ASKED, BACKUP, Said
from replication.engine.stamps import Site, Stamp, first_after

TELL_ALL_S: Final = 10.0
ASK_AFTER_S: Final = 10.0
"""For so long something must have been lacking; and so long is waited between two questions."""


class Named(Protocol):
    """Somebody with a name."""

    @property
    def name(self) -> str: ...


class Bus(Protocol):
    """What is needed of the node."""

    @property
    def name(self) -> str:
        """This node's."""
        ...

    def cast(self, node: str, actor: str, message: object) -> None:
        """Send and forget."""
        ...

    def peers(self) -> Sequence[Named]:
        """Those that are up."""
        ...


class Uploaded:
    """How far each site is in the bucket, as far as is known here, and who knows it. `say`: what is told beside that;
    before the bus is there, nothing is told."""

    def __init__(self, say: Callable[[Mapping[Site, Stamp]], Said]) -> None:
        self.stamps: dict[Site, Stamp] = {}
        self.peers: dict[str, Peer] = {}
        self.newest_snapshot = 0
        """Of those that peers spoke of."""
        self.advances = 0
        """How often something came to be there: about once for each object, whoever uploaded it."""
        self._say = say
        self._bus: Bus | None = None
        self._untold: dict[Site, Stamp] = {}
        self._all_told_s = 0.0
        self._told: tuple[Site, bool, int] | None = None
        """The site, whether uploads work, and the snapshot, as they were told last."""
        self._lacks_since_s: float | None = None

    def start(self, bus: Bus) -> None:
        """From now on things can be told."""
        self._bus = bus

    def has(self, site: Site) -> Stamp:
        """Up to where a site is there."""
        return self.stamps.get(site, first_after(site))

    def note(self, stamps: Mapping[Site, Stamp]) -> None:
        """So far sites are there: this node uploaded it, or saw it."""
        for site, stamp in stamps.items():
            if stamp > self.has(site):
                self.advances += 1
                self.stamps[site] = self._untold[site] = stamp

    def came_up(self, peer: str) -> None:
        """A peer hears all that is known."""
        self._cast([peer], self.stamps)

    def went_down(self, peer: str) -> None:
        """What a peer has not uploaded is nobody's now."""
        self.peers.pop(peer, None)

    def heard(self, peer: str, message: object) -> None:
        """A peer said what is there, or asks. Raises Malformed."""
        if message == ASKED:
            self._cast([peer], self.stamps)
            return
        said = saying.parse(message)
        self.peers[peer] = Peer(site=said.site, works=said.works)
        for site, stamp in said.uploaded.items():
            self.advances += stamp > self.has(site)
            self.stamps[site] = max(stamp, self.has(site))
        self.newest_snapshot = max(said.snapshot, self.newest_snapshot)

    def tell(self) -> None:
        """The peers hear what is new; and all of it now and then, or if something else has changed."""
        if self._bus is None:
            return
        now_s, said = asyncio.get_running_loop().time(), self._say({})
        told = (said.site, said.works, said.snapshot)
        is_all = told != self._told or (bool(self._untold) and now_s - self._all_told_s >= TELL_ALL_S)
        if not is_all and not self._untold:
            return
        news = self.stamps if is_all else self._untold
        if is_all:
            self._all_told_s, self._told = now_s, told
        self._untold = {}
        self._cast([peer.name for peer in self._bus.peers()], news)

    def ask(self, *, lacks: bool) -> None:
        """To be called now and then. `lacks`: something here is not known to be in the bucket, and uploads work."""
        if self._bus is None:
            return
        now_s = asyncio.get_running_loop().time()
        if not lacks:
            self._lacks_since_s = None
        elif self._lacks_since_s is None:
            self._lacks_since_s = now_s
        elif now_s - self._lacks_since_s >= ASK_AFTER_S:
            self._lacks_since_s = now_s
            for peer in self._bus.peers():
                self._bus.cast(peer.name, BACKUP, ASKED)

    def _cast(self, peers: Sequence[str], stamps: Mapping[Site, Stamp]) -> None:
        if self._bus is None:
            return
        message = self._say(stamps).plain()
        for peer in peers:
            self._bus.cast(peer, BACKUP, message)
