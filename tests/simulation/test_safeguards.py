"""Each safeguard is needed, and the simulation would notice: with one taken out, some seed must fail."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from replication.convergent import inbox
from replication.convergent.exchange import Exchange
from replication.convergent.replication import Replication
from replication.engine import applying
from replication.engine.applying import Fork, Outcome, Waits
from replication.engine.sites import Sites
from replication.engine.stamps import first_after
from replication.simulation import machine
from replication.simulation.disk import Disk
from replication.simulation.scenario import run

SEEDS = 100


def failing_seed() -> tuple[int, Sequence[str]] | None:
    """The first seed that fails, and why."""
    for seed in range(SEEDS):
        result = run(seed)
        if result.wrong:
            return seed, result.wrong
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
    patch.setattr(Replication, "_tell", lambda _self, _peers: None)


def without_asking_for_what_is_missing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Exchange, "to_ask", lambda *_, **__: None)


def without_the_clock_bound(patch: pytest.MonkeyPatch) -> None:
    """A stamp from the future is merged when it comes, and drives every clock ahead."""
    patch.setattr(machine, "CLOCK_BOUND_MS", 3_600_000)


@pytest.mark.parametrize(
    "take_out",
    [
        without_deps,
        without_waiting_for_the_one_before,
        without_the_fold_inside_a_merge,
        without_publishing_only_what_is_durable,
        without_the_clock_bound,
        without_telling_heads,
        without_asking_for_what_is_missing,
    ],
)
def test_without_it_some_seed_fails(
    take_out: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_out(monkeypatch)
    found = failing_seed()
    assert found is not None
    print(f"seed {found[0]}: {found[1][0][:300]}")
