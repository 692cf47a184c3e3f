"""Each safeguard is needed, and the simulation would notice: without it some seed must fail that does not with it.

One is not among them, that deletes are told again: rows are deleted and inserted so often here that few tombstones get
old, and of 2,500 seeds none needed it. `tests/unit/replication/engine/test_again.py` has what happens without it."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from replication.backup import uploading
from replication.convergent import inbox, joining, opened, own_clock
from replication.convergent.catching_up import CatchUp
from replication.convergent.exchange import Exchange
from replication.convergent.held_rows import HeldRows
from replication.convergent.telling import Telling
from replication.engine import applying, identity, looking
from replication.engine.absorbing import Absorber
from replication.engine.applying import Fork, Outcome, Waits
from replication.engine.mending import Mended
from replication.engine.sites import Sites
from replication.engine.stamps import STAMP_MAX, first_after
from replication.simulation import machine
from replication.simulation.disk import Disk
from replication.simulation.scenario import run

SEEDS = 100
FOUND = {
    "without_the_clock_bound": 109,
    "without_the_nonce": 16,
    "without_noticing_another_state": 42,
    "without_publishing_only_what_is_durable": 3,
    "without_hearing_what_peers_know": 18,
    "without_stamping_again": 20,
    "without_taking_shares_over": 20,
    "without_asking_for_rows_that_are_held": 13,
    "without_triggers_put_back": 4,
    "without_what_is_safe": 10,
}
"""Where a seed was found once: only to be quick."""


type TakeOut = Callable[[pytest.MonkeyPatch], None]


def needing_seed(take_out: TakeOut) -> tuple[int, Sequence[str]] | None:
    """A seed that fails without the safeguard, and not with it; and why it fails."""
    for seed in (FOUND.get(take_out.__name__, 0), *range(SEEDS)):
        with pytest.MonkeyPatch.context() as patch:
            take_out(patch)
            wrong = run(seed).wrong
        if wrong and not run(seed).wrong:
            return seed, wrong
    return None


def without_deps(patch: pytest.MonkeyPatch) -> None:
    """A changeset is merged though what its origin had seen is not here."""

    def only_the_one_before(header: Any, vector: Any, _own: Any, _closed: Any) -> Any:
        at = vector.get(header.site, first_after(header.site))
        return (header.site, header.after) if header.after > at else None

    patch.setattr(inbox, "_missing", only_the_one_before)
    patch.setattr(Sites, "covers", lambda _self, _site, _stamp: True)


def without_waiting_for_the_one_before(patch: pytest.MonkeyPatch) -> None:
    """A changeset is merged though its site's changesets before it are not here."""
    judge, missing = applying._Merger._judge, inbox._missing

    def lax(self: Any, changeset: Any, found: bytes) -> Outcome | None:
        outcome = judge(self, changeset, found)
        if isinstance(outcome, Waits) and set(outcome.missing) == {changeset.site}:
            return None
        return None if isinstance(outcome, Fork) else outcome

    def only_deps(header: Any, vector: Any, own: Any, closed: Any) -> Any:
        return missing(header, {**vector, header.site: header.after}, own, closed)

    patch.setattr(applying._Merger, "_judge", lax)
    patch.setattr(inbox, "_missing", only_deps)


def without_the_fold_inside_a_merge(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(applying, "fold_inside", lambda _session, *, now_ms: None)


def without_publishing_only_what_is_durable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Disk, "barrier", lambda _self, _connection=None: None)


def without_telling_heads(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Telling, "tell", lambda _self, _peers: None)


def without_asking_for_what_is_missing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exchange, "to_ask", lambda *_, **__: None)


def without_the_clock_bound(patch: pytest.MonkeyPatch) -> None:
    """A stamp from the future is merged when it comes, and drives every clock ahead."""
    patch.setattr(machine, "CLOCK_BOUND_MS", 3_600_000)


def without_the_nonce(patch: pytest.MonkeyPatch) -> None:
    """A copy goes on under the site of what it is a copy of."""
    begin = identity.begin_run

    def trusting(connection: sqlite3.Connection, **others: Any) -> Any:
        (found,) = connection.execute("SELECT nonce FROM _litecast_state").fetchone()
        return begin(connection, **{**others, "known_nonce": found})

    patch.setattr(opened, "begin_run", trusting)


def without_noticing_another_state(patch: pytest.MonkeyPatch) -> None:
    """A database that is put under a running node is taken for its own."""
    patch.setattr(identity, "is_as_remembered", lambda _connection, _remembered: True)


def without_hearing_what_peers_know(patch: pytest.MonkeyPatch) -> None:
    """Nobody is asked whether the own database is an older state; and a fork closes nothing."""
    patch.setattr(joining, "older_than_peers_know", lambda _view, _peers: "")
    patch.setattr(CatchUp, "see_fork", lambda _self, _site, _reason: None)


def without_stamping_again(patch: pytest.MonkeyPatch) -> None:
    """What a clock far ahead stamped, and all that its node stamps afterwards, waits until time has come."""
    patch.setattr(own_clock, "is_ahead_alone", lambda *_, **__: False)


def without_taking_shares_over(patch: pytest.MonkeyPatch) -> None:
    """What is stamped again counts beside what its first site had counted."""
    patch.setattr(Absorber, "_end_shares", lambda _self, _groups, _dot: None)


def without_asking_for_rows_that_are_held(patch: pytest.MonkeyPatch) -> None:
    """Rows that came from nodes with an older schema, and cannot be shown, stay so."""

    async def never(_self: Any, _own: Any) -> None:
        pass

    patch.setattr(HeldRows, "look", never)


def without_triggers_put_back(patch: pytest.MonkeyPatch) -> None:
    """A rebuilt table stays without capture."""
    patch.setattr(looking, "mend", lambda _connection: Mended(uncaptured=frozenset(), mixed=frozenset()))


def without_snapshots(patch: pytest.MonkeyPatch) -> None:
    """Who is beyond a peer's journal is given what there is of it."""
    take = CatchUp._take_page

    def never_beyond(self: Any, peer: Any, content: Any, progress: Any) -> tuple[bool, bool]:
        return take(self, peer, content, progress)[0], False

    patch.setattr(CatchUp, "_take_page", never_beyond)


def without_what_is_safe(patch: pytest.MonkeyPatch) -> None:
    """A backup reports what it has merged, whether that is in the bucket or not."""
    patch.setattr(uploading, "frontier", lambda _missing: STAMP_MAX)


@pytest.mark.parametrize(
    "take_out",
    [
        without_deps,
        without_waiting_for_the_one_before,
        without_the_fold_inside_a_merge,
        without_publishing_only_what_is_durable,
        without_the_clock_bound,
        without_the_nonce,
        without_noticing_another_state,
        without_hearing_what_peers_know,
        without_stamping_again,
        without_taking_shares_over,
        without_snapshots,
        without_asking_for_rows_that_are_held,
        without_triggers_put_back,
        without_telling_heads,
        without_asking_for_what_is_missing,
        without_what_is_safe,
    ],
)
def test_without_it_some_seed_fails_that_does_not_with_it(take_out: TakeOut) -> None:
    found = needing_seed(take_out)
    assert found is not None
    print(f"seed {found[0]}: {found[1][0][:300]}")
