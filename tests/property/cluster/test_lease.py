"""Leases: never one epoch granted twice, and never two holders at one moment, whatever stores and clocks do."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest

from cluster.errors import LeaseError
from cluster.lease import object_store
from cluster.lease.deciding import MAX_DRIFT
from cluster.lease.interface import Grant
from cluster.lease.object_store import ObjectStoreLease
from replication.simulation.loop import VirtualLoop
from tests.support.lease_objects import FakeObjects
from tests.support.seeded import noted, runs, seeds

TTL_S = 3.0
RUN_S = 60.0
LOOK_S = 0.02


class Drifting:
    """A node's clock: its own beginning, and its own rate."""

    def __init__(self, true_s: Callable[[], float], random: Random) -> None:
        self._true_s = true_s
        self._began_s = random.uniform(0, 1e6)
        self._rate = 1 + random.choice([-1, 1, random.uniform(-1, 1)]) * MAX_DRIFT

    def __call__(self) -> float:
        return self._began_s + self._true_s() * self._rate


@dataclass
class Reign:
    """From when to when, in true time, a node took itself for the holder."""

    epoch: int
    began_s: float
    ended_s: float


class Run:
    """Some nodes that all want the lease, and a store that is slow at times: more than a lease lasts."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.reigns: list[Reign] = []
        slow = self.random.choice([0.0, 0.05, 0.3])
        self.objects = FakeObjects(
            lambda: self.random.uniform(0, TTL_S) if self.random.random() < slow else self.random.uniform(0, 0.05)
        )

    async def go(self) -> None:
        tasks = [asyncio.create_task(self._live(f"node-{number}")) for number in range(3)]
        await asyncio.sleep(RUN_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _live(self, name: str) -> None:
        clock = Drifting(asyncio.get_running_loop().time, self.random)
        while True:
            lease = ObjectStoreLease(
                self.objects,
                cluster="c",
                node=name,
                ttl_s=TTL_S,
                clock=clock,
                nonce=lambda: f"{self.random.random()}",
            )
            for _ in range(self.random.randint(5, 40)):  # then it is started again, and knows nothing
                with contextlib.suppress(LeaseError):
                    await self._reign(lease, await lease.acquire(above=self.random.choice([0, 0, 7])), clock)
                await asyncio.sleep(self.random.uniform(0, 0.5))

    async def _reign(self, lease: ObjectStoreLease, grant: Grant, clock: Drifting) -> None:
        true_s = asyncio.get_running_loop().time
        reign = Reign(epoch=grant.epoch, began_s=true_s(), ended_s=true_s())
        renewing: asyncio.Task[Grant] | None = None
        try:
            while clock() < grant.good_until_s:
                if not self.reigns or self.reigns[-1] is not reign:
                    self.reigns.append(reign)
                reign.ended_s = true_s()
                await asyncio.sleep(LOOK_S)
                if renewing is not None and renewing.done():
                    grant, renewing = renewing.result(), None
                elif renewing is None and clock() >= grant.renew_at_s:
                    match self.random.randrange(12):
                        case 0:
                            return await lease.release(grant)
                        case 1:
                            await asyncio.sleep(2 * TTL_S)  # stopped, and goes on
                        case _:
                            renewing = asyncio.ensure_future(lease.renew(grant))
        finally:
            if renewing is not None:
                renewing.cancel()


def _run(seed: int) -> Run:
    with VirtualLoop() as loop:
        run = Run(seed)
        loop.run_until_complete(run.go())
        return run


def _faults(run: Run) -> list[str]:
    epochs = [reign.epoch for reign in {id(reign): reign for reign in run.reigns}.values()]
    found = [f"epoch {epoch} was granted twice" for epoch in set(epochs) if epochs.count(epoch) > 1]
    ordered = sorted({id(reign): reign for reign in run.reigns}.values(), key=lambda reign: reign.began_s)
    for before, after in pairwise(ordered):
        if after.epoch <= before.epoch:
            found.append(f"epoch {after.epoch} came after {before.epoch}")
        if after.began_s <= before.ended_s:
            found.append(f"{before} and {after} at one moment")
    return found


def test_no_epoch_is_granted_twice_and_no_two_nodes_hold_the_lease_at_once() -> None:
    reigns = 0
    for seed in seeds(runs(25)):
        with noted(seed, __file__):
            run = _run(seed)
            assert _faults(run) == []
            reigns += len(run.reigns)
    assert reigns > 50


def test_who_does_not_wait_for_a_grant_to_run_out_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "has_run_out", lambda **_: True)
    assert any(_faults(_run(seed)) for seed in range(10))
