"""Replicas whose journals and tombstones are trimmed, so that state has to go from one to another, at any moment.

Counting goes on before, during and between the ranges of snapshots; snapshots break off, several are under way at once,
and one that receives sends as well. With `forks`, older states are put back, too."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from replication.engine.applying import Closed, Fork
from replication.engine.closing import close_site, closed
from replication.engine.decoding import decode
from replication.engine.identity import begin_run
from replication.engine.sites import Head, vector
from replication.engine.snapshots import RangeRefused
from replication.engine.stamps import Site, Stamp
from replication.engine.trimming import trim_journal, trim_tombstones
from replication.simulation.reference import differences, reference
from tests.support import clicks
from tests.support.healing import Healing
from tests.support.playing import Counting, known_of, life_of, rows_of
from tests.support.replicas import Replica, new_site
from tests.support.sql_schema import content
from tests.support.states import Moving


@dataclass(slots=True)
class Journey:
    """A snapshot under way."""

    sender: int
    receiver: int
    moving: Moving


class Roaming(Counting):
    """See the module."""

    _drawn = False

    def __init__(
        self, seed: int, folder: Path, *, forks: bool = False, trims: bool = True, baselines: bool = False
    ) -> None:
        super().__init__(seed, folder, baselines=baselines)
        self.reached: set[str] = set()
        """What happened in this run, to see that tests reach it."""
        self.journeys: list[Journey] = []
        self._forks = forks
        self._trims = trims
        self._backups: dict[int, Path] = {}
        self._known: list[list[Mapping[Site, Head]]] = []
        self._healing = Healing(
            rng=self.rng,
            new_site=lambda: new_site(self.rng),
            now_ms=self.replicas.now_ms,
            max_rows=self.rng.choice((1, 2, 100)),
            forks=forks,
            reached=self.reached,
        )
        self._remember()

    @property
    def members(self) -> list[Replica]:
        return self.replicas.members

    def play(self, steps: int, *, deletes: bool = True) -> None:
        for _ in range(steps):
            if self._waiting and (len(self.members) < 2 or self.rng.random() < 0.03):
                self.join()
            at = self.rng.randrange(len(self.members))
            roll = self.rng.random()
            if roll < 0.42:
                self.applications[at].write(deletes=deletes)
            elif roll < 0.52:
                self.members[at].fold(self.replicas.tick())
            elif roll < 0.62:
                self._gossip()
            elif roll < 0.69:
                self._ask()
            elif roll < 0.71:
                self._meet_all()
            elif roll < 0.73 and self._trims and deletes:
                self._delete_and_forget(at)
            elif roll < 0.86:
                self._journey()
            elif roll < 0.90 and self._trims:
                self._trim_journal(at)
            elif roll < 0.96 and self._trims:
                self._trim_tombstones(at)
            elif roll < 0.98 and self._forks:
                self._back_up(at)
            elif roll < 1.0 and self._forks and at in self._backups:
                self._put_back(at)
            self._remember()

    def _rows_before(self) -> dict[str, int]:
        """The same as everybody's; perhaps nothing, of who joins last.

        (A newcomer that brings rows which the cluster has deleted, and had not from a baseline, brings them back where
        that is forgotten, and not where it is not. That is drift.)"""
        first = not self._drawn
        self._drawn = True
        return {} if first and self.rng.random() < 0.5 else {"a": 30, "b": 2}

    def _remember(self) -> None:
        """What nodes know of each other is what was so some time ago."""
        self._known.append([member.heads() for member in self.members])

    # ---- what happens

    def _gossip(self) -> None:
        origin, to = self.rng.choice(self.members), self.rng.choice(self.members)
        for encoded in self.rng.sample(origin.published, min(len(origin.published), 4)):
            self._merge(to, encoded)

    def _merge(self, to: Replica, encoded: bytes) -> None:
        outcome = to.merge(encoded, self.replicas.tick())
        if isinstance(outcome, Fork):
            assert self._forks, outcome
            self.reached.add("fork")
            self._close(to, outcome.site)
        assert self._forks or not isinstance(outcome, Closed)

    def _close(self, member: Replica, site: Site) -> None:
        close_site(member.engine, site, new_site=lambda: new_site(self.rng))

    def _ask(self) -> None:
        learner, teacher = self.rng.sample(self.members, 2)
        self._healing.now_ms = self.replicas.tick()
        if self._forks:
            self._healing.compare(learner, teacher)
        self._healing.ask(learner, teacher)

    def _meet_all(self) -> None:
        """All but one perhaps are up to date for a moment: only then can tombstones be trimmed."""
        some = self.rng.sample(self.members, len(self.members) - self.rng.choice((0, 0, 1)))
        for member in some:
            member.fold(self.replicas.tick())
        self._healing.now_ms = self.replicas.tick()
        for learner in some:
            for teacher in some:
                if learner is not teacher:
                    self._healing.meet(learner, teacher)

    def _delete_and_forget(self, at: int) -> None:
        """Pages are deleted, and the tombstones trimmed as soon as everybody has them."""
        self.applications[at].delete_some()
        self._meet_all()
        self._known.append([member.heads() for member in self.members])
        for number in range(len(self.members)):
            self._trim_tombstones(number)

    def _journey(self) -> None:
        roll = self.rng.random()
        if not self.journeys or roll < 0.15:
            sender, receiver = self.rng.sample(range(len(self.members)), 2)
            one, other = self.members[sender], self.members[receiver]
            if self._forks:
                self._healing.compare(other, one)
            moving = Moving(
                one.engine,
                other.engine,
                authority=not self._forks or self.rng.random() < 0.5,
                max_rows=self.rng.choice((1, 1, 2, 100)),
                told=lambda: _collect(one, other),
            )
            self.journeys.append(Journey(sender, receiver, moving))
            return
        journey = self.rng.choice(self.journeys)
        if roll < 0.2:
            self.journeys.remove(journey)  # the link broke
            self.reached.add("broken off")
            return
        try:
            journey.moving.step(self.replicas.tick())
        except RangeRefused as refused:
            self.journeys.remove(journey)
            if refused.fork is not None:
                assert self._forks
                self._close(self.members[journey.receiver], refused.fork)
            return
        if any(merged.deleted for merged in journey.moving.merged):
            self.reached.add("authority")
        if journey.moving.is_done:
            self.journeys.remove(journey)
            self.reached.add("snapshot")

    def _trim_journal(self, at: int) -> None:
        pins = [journey.moving.start.vector for journey in self.journeys if journey.sender == at]
        pinned: dict[Site, Stamp] | None = None
        if pins:
            named = set(pins[0]).intersection(*pins)
            pinned = {site: min(pin[site].stamp for pin in pins) for site in named}
        trimmed = trim_journal(
            self.members[at].engine,
            now_ms=self.replicas.now_ms,
            max_age_ms=self.rng.choice((0, 10, 400)),
            max_bytes=10**9,
            pinned=pinned,
        )
        self.members[at].forgot()
        if trimmed:
            self.reached.add("journal trimmed")

    def _trim_tombstones(self, at: int) -> None:
        known = self.rng.choice(self._known[-6:])
        if len(known) < len(self.members):
            return
        others = [have for number, have in enumerate(known) if number != at]
        trimmed = trim_tombstones(
            self.members[at].engine, members=others, min_age_ms=0, now_ms=self.replicas.now_ms + 10**6
        )
        if trimmed:
            self.reached.add("tombstones trimmed")

    def _back_up(self, at: int) -> None:
        member = self.members[at]
        member.fold(self.replicas.tick())
        self._backups[at] = self._folder / f"{at}.backup"
        self._backups[at].unlink(missing_ok=True)
        member.engine.execute("VACUUM INTO ?", (str(self._backups[at]),))

    def _put_back(self, at: int) -> None:
        """An older state, and the node starts again: with a nonce that tells, or all as it was, so that none does."""
        member = self.members[at]
        member.fold(self.replicas.tick())
        backup = sqlite3.connect(self._backups[at])
        try:
            backup.backup(member.engine)
        finally:
            backup.close()
        self.journeys = [journey for journey in self.journeys if at not in (journey.sender, journey.receiver)]
        self._known.clear()
        member.forgot()
        self.applications[at].forget()
        (nonce,) = member.engine.execute("SELECT nonce FROM _litecast_state").fetchone()
        begin_run(
            member.engine,
            known_nonce=None if self.rng.random() < 0.3 else nonce,
            new_nonce=self.rng.randbytes(16),
            new_site=lambda: new_site(self.rng),
        )
        self.reached.add("put back")

    # ---- and in the end

    def check(self) -> None:
        """All meet until they have nothing more to give each other, and are equal; without forks also to what the
        reference says, and exact."""
        self.journeys.clear()
        if self._waiting and self.rng.random() < 0.5:
            self._delete_and_forget(0)
            for at in range(len(self.members)):
                self._trim_journal(at)
        while self._waiting:
            self.join()
        self._healing.now_ms = self.replicas.now_ms + 1_000
        self._healing.heal(self.members)
        first, *others = self.members
        for other in others:
            assert content(other.engine, ["clicks"]) == content(first.engine, ["clicks"])
            assert _alive(other) == _alive(first)
            assert vector(other.engine) == vector(first.engine)
            assert closed(other.engine) == closed(first.engine)
        if self._forks:
            return
        expected = reference(decode(encoded) for encoded in self.replicas.everything())
        wrong = differences(expected, rows_of(first, [clicks.TABLE]))
        assert not wrong, wrong
        for page, row in rows_of(first, [clicks.TABLE]).get("clicks", {}).items():
            name = str(page[0])
            assert row["n"] == self.ledger.expected(name, life_of(first, name)), name


def _collect(*members: Replica) -> None:
    for member in members:
        member.collect()


def _alive(member: Replica) -> list[object]:
    """What is known of living rows: a tombstone may be trimmed here and not there."""
    known = known_of(member.engine)["clicks"]
    return [one for one in known if one[0] == "share" or (isinstance(one[2], int) and one[2] & 1)]
