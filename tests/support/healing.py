"""Databases that meet until they have nothing more to give each other: a cluster's protocol in a few plain lines.

One learns from another: it closes what the other has closed or shows to be forked, fetches the other's whole state
where tips differ, asks for pages of its journal, and takes a snapshot where that does not reach back."""

import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from replication.engine.applying import Fork, Merged, Outcome, Waits
from replication.engine.closing import close_site, closed
from replication.engine.journal import page
from replication.engine.sites import seen, vector
from replication.engine.snapshots import RangeRefused
from replication.engine.stamps import Site, Stamp
from tests.support.states import Moving

ROUNDS_MAX = 30
PAGE_COUNT = 3


class Peer(Protocol):
    """A database that takes part."""

    @property
    def connection(self) -> sqlite3.Connection: ...

    def fold_now(self, now_ms: int) -> object: ...

    def merge_now(self, encoded: bytes, now_ms: int) -> Outcome: ...

    def collect(self) -> None:
        """Something may have been folded."""
        ...


@dataclass(slots=True)
class Healing:
    """How they meet. `now_ms` moves with each round."""

    rng: random.Random
    new_site: Callable[[], Site]
    now_ms: int
    max_rows: int = 2
    forks: bool = False
    """Sites may be forked, and then what a changeset depends on may never come, or have another stamp."""
    reached: set[str] = field(default_factory=set[str])
    """What happened, to see that a test reaches it."""

    def heal(self, peers: Sequence[Peer]) -> None:
        """They meet, each with each, until nothing changes."""
        for _ in range(ROUNDS_MAX):
            before = [self._standing(peer) for peer in peers]
            self.now_ms += 5
            for peer in peers:
                peer.fold_now(self.now_ms)
            pairs = [(one, other) for one in peers for other in peers if one is not other]
            for learner, teacher in self.rng.sample(pairs, len(pairs)):
                self.meet(learner, teacher)
            if before == [self._standing(peer) for peer in peers] and not self._close_what_never_comes(peers):
                return
        raise AssertionError("they still have something to give each other")

    def _close_what_never_comes(self, peers: Sequence[Peer]) -> bool:
        """Closes sites of which a node has seen, in somebody's state, what nobody has. True if there was any."""
        lost = [(peer, site) for peer in peers for site in seen(peer.connection)]
        for peer, site in lost:
            self.close(peer, site)
        return bool(lost)

    def _standing(self, peer: Peer) -> object:
        return vector(peer.connection), closed(peer.connection)

    def meet(self, learner: Peer, teacher: Peer) -> None:
        """One learns from another."""
        self.compare(learner, teacher)
        mine, theirs = closed(learner.connection), closed(teacher.connection)
        if any(tips - mine.get(site, frozenset()) for site, tips in theirs.items()):
            self.fetch(learner, teacher, authority=False)
        while self.ask(learner, teacher):
            pass

    def compare(self, learner: Peer, teacher: Peer) -> None:
        """Closes what the teacher has closed, or has another history of."""
        mine, theirs = vector(learner.connection), vector(teacher.connection)
        own = own_site(learner.connection)
        for site in closed(teacher.connection):
            self.close(learner, site)
        for site, head in theirs.items():
            known = mine.get(site)
            if site == own and head.stamp > (known.stamp if known else Stamp(0)):
                self.close(learner, site)
            if known is not None and known.stamp == head.stamp and known.digest != head.digest:
                self.close(learner, site)

    def close(self, peer: Peer, site: Site) -> None:
        """Closes a site, if it is not closed."""
        close_site(peer.connection, site, new_site=self.new_site)

    def ask(self, learner: Peer, teacher: Peer) -> bool:
        """A page of the teacher's journal. True if there is more, and it helps to ask again."""
        have = {site: head.stamp for site, head in vector(learner.connection).items()}
        found = page(teacher.connection, have, max_bytes=10**6, max_count=PAGE_COUNT)
        helped = False
        for served in found.changesets:
            assert served.encoded is not None, "a small one"
            outcome = learner.merge_now(served.encoded, self.now_ms)
            learner.collect()
            helped |= isinstance(outcome, Merged)
            if isinstance(outcome, Fork):
                self.close(learner, outcome.site)
                return True
            if isinstance(outcome, Waits) and not found.beyond:
                # A page is in an order in which it can be merged, but for what its sender has only seen in a state, and
                # for what comes after a hole in the journal. The next page begins with that, and says so.
                has = vector(teacher.connection)
                can = all(site in has and has[site].stamp >= stamp for site, stamp in outcome.missing.items())
                assert helped or self.forks or not can
                return helped
        if found.beyond - closed(learner.connection).keys():
            return self.fetch(learner, teacher, authority=True) and found.more
        return helped and found.more

    def fetch(self, learner: Peer, teacher: Peer, *, authority: bool) -> bool:
        """The teacher's whole state."""
        moving = Moving(
            teacher.connection, learner.connection, authority=authority, max_rows=self.max_rows, told=teacher.collect
        )
        try:
            moving.run(self.now_ms, between=learner.collect)
        except RangeRefused as refused:
            learner.collect()
            if refused.fork is not None:
                self.close(learner, refused.fork)
            return refused.fork is not None
        self.reached.add("snapshot" if authority else "exchange")
        if any(merged.deleted for merged in moving.merged):
            self.reached.add("authority")
        return True


def own_site(connection: sqlite3.Connection) -> Site:
    """Under which site a database writes."""
    (site,) = connection.execute("SELECT site FROM _litecast_state").fetchone()
    return Site(site)
