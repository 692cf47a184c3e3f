"""Whom to ask, and when: what each peer has, as far as it said, beside what is here. Pure.

Every node says its heads when a link comes up and every second. Links are ordered and a loss on one is known to the
bus, so whatever a peer cast before its heads has arrived before them. That makes three cases in which something that a
peer has and this node has not is *missing*, and not merely on its way:

- it is of the peer's own site: its cast came before the heads, or never will; or a baseline, which nobody casts;
- the peer had it already when it spoke the time before, a second ago;
- a changeset of the peer's waits for it: at once if it is that changeset's predecessor, else after a moment, in which
  a third node's cast may come.

What is missing is asked from the peer that said so, who has it by construction. One request is open at a time, for
several would bring the same things; what it brings makes no further one. A peer that did not answer, or whose answer
brought nothing new, is left alone for a moment.

`reach` below is how far the changesets go that are here, merged or waiting to be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from replication.convergent.inbox import Lacking
from replication.convergent.messages import Heads
from replication.engine.epochs import epoch_of, newest
from replication.engine.sites import stamps_of
from replication.engine.stamps import Site, Stamp, first_after, is_baseline, ms_of

GRACE_S: Final = 0.1
"""How long a dep may be on its way from another node: a hundred times what a loopback takes, a long round trip."""


@dataclass(slots=True)
class _Peer:
    heads: Heads | None = None
    before: Mapping[Site, Stamp] = field(default_factory=dict[Site, Stamp])
    """What it had when it spoke the time before."""
    paused_until_s: float = 0.0


class Exchange:
    """What the peers said. `own_of` are the sites that they write under, as far as they said."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}
        self._unwanted: dict[Site, Stamp] = {}

    def up(self, peer: str) -> None:
        """A peer is there; nothing is known of it."""
        self._peers[peer] = _Peer()

    def down(self, peer: str) -> None:
        """It is gone."""
        self._peers.pop(peer, None)

    def heard(self, peer: str, heads: Heads) -> None:
        """A peer says what it has."""
        known = self._peers.setdefault(peer, _Peer())
        if known.heads is not None:
            known.before = stamps_of(known.heads.vector)
        else:
            known.before = stamps_of(heads.vector)  # the first time, all is missing
        known.heads = heads

    def look_back(self) -> None:
        """This node has less than it had: nothing of what peers have is on its way."""
        for known in self._peers.values():
            if known.heads is not None:
                known.before = stamps_of(known.heads.vector)

    def heads(self) -> Mapping[str, Heads]:
        """What each peer said last, of those that spoke."""
        return {name: peer.heads for name, peer in self._peers.items() if peer.heads is not None}

    def in_newest_epoch(self) -> list[str]:
        """Peers that have merged something of the newest epoch that any of them knows; none if none knows of any."""
        epochs = {
            name: epoch_of(site)
            for name, heads in self.heads().items()
            if heads.ready and (site := newest(heads.vector)) is not None
        }
        return [name for name, epoch in epochs.items() if epoch == max(epochs.values())]

    def peers(self) -> tuple[str, ...]:
        """The peers that are up."""
        return tuple(self._peers)

    def refuse(self, site: Site, stamp: Stamp) -> None:
        """What ends here will never be merged: it is not asked for again, nor what comes after it."""
        self._unwanted[site] = min(stamp, self._unwanted.get(site, stamp))

    def pause(self, peer: str, until_s: float) -> None:
        """Asking did not help."""
        if peer in self._peers:
            self._peers[peer].paused_until_s = until_s

    def is_paused(self, peer: str, now_s: float) -> bool:
        """Whether asking it did not help a moment ago."""
        known = self._peers.get(peer)
        return known is None or known.paused_until_s > now_s

    def lacks(
        self, peer: str, reach: Mapping[Site, Stamp], *, own: Site, closed: frozenset[Site], before_ms: int
    ) -> dict[Site, Stamp]:
        """Heads of a peer that are not covered here, without those that wait for time to come."""
        known = self._peers.get(peer)
        if known is None or known.heads is None:
            return {}
        return {
            site: head.stamp
            for site, head in known.heads.vector.items()
            if head.stamp > reach.get(site, first_after(site))
            and site != own
            and site not in closed
            and site not in known.heads.closed
            and ms_of(head.stamp) < before_ms
            and site not in self._unwanted
        }

    def to_ask(
        self,
        reach: Mapping[Site, Stamp],
        waiting: Iterable[Lacking],
        *,
        own: Site,
        closed: frozenset[Site],
        before_ms: int,
        now_s: float,
    ) -> str | None:
        """The peer to ask now; None if nothing is missing, or nobody has it."""
        for lacking in waiting:
            is_due = lacking.own_gap or now_s - lacking.since_s >= GRACE_S
            if is_due and lacking.site not in self._unwanted and (name := self._who_has(lacking, now_s)) is not None:
                return name
        for name, peer in self._peers.items():
            if peer.paused_until_s > now_s or peer.heads is None:
                continue
            if any(
                site == peer.heads.site
                or is_baseline(site)
                or reach.get(site, first_after(site)) < peer.before.get(site, Stamp(-2))
                for site in self.lacks(name, reach, own=own, closed=closed, before_ms=before_ms)
            ):
                return name
        return None

    def _who_has(self, lacking: Lacking, now_s: float) -> str | None:
        """A peer to ask for what keeps a changeset from being merged: who sent that, or, if that one is gone or did not
        help, any other that has it. What waits itself hides that these have more than is merged here."""
        for name, peer in sorted(self._peers.items(), key=lambda one: one[0] != lacking.peer):
            if peer.paused_until_s > now_s:
                continue
            head = None if peer.heads is None else peer.heads.vector.get(lacking.site)
            if name == lacking.peer or (head is not None and head.stamp >= lacking.stamp):
                return name
        return None
