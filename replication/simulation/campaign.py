"""Many seeds, over all cores; and what they must have reached together."""

import logging
import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from replication.simulation.faults import BY_THEMSELVES, FAULTS, MIGRATE
from replication.simulation.scenario import Result, run

REACHES_ALL_FROM: Final = 500
"""A campaign of so many seeds that did not reach everything has not tried what it says."""

PATHS: Final = (
    *(f"fault: {fault.name}" for fault in (*FAULTS, *BY_THEMSELVES)),
    f"fault: {MIGRATE.name}",
    *(f"partition: {how}" for how in ("cut", "held", "one way")),
    *(f"disk: {what}" for what in ("locked", "full", "unsyncable")),
    *(f"frame {what}" for what in ("lost", "repeated", "overtaken")),
    *(f"cast {what}" for what in ("lost", "repeated", "late")),
    *(f"merge: {outcome}" for outcome in ("Merged", "Repeat")),
    "commits lost in a power cut",
    "power cut at a commit",
    "fold inside a merge",
    "a changeset merged in pieces",
    "a changeset served in pieces",
    "acknowledged ops lost with the only machine that had them",
    "a reader waited for a position",
    "a reader waited in vain",
    "status: pages",
    "status: snapshots",
    "status: trimmed_changesets",
    "status: trimmed_tombstones",
    "status: forks",
    "status: new_sites",
    "status: stamped_again",
    "status: state_exchanges",
    "could not start",
    "clone of a whole machine",
    "a copy was fetched",
    *(f"restore: {how}" for how in ("its own", "another's", "the whole machine")),
    "status: asks_failed",
    "status: problems",
    "status: collisions",
)
"""What a campaign has to reach: every fault, and every path of the protocol that is there to meet one."""


@dataclass(slots=True)
class Campaign:
    """What came of many seeds."""

    seeds: int = 0
    failed: dict[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    reached: Counter[str] = field(default_factory=Counter[str])
    slowest_s: float = 0.0
    """The longest time to converge, of virtual seconds."""

    def add(self, result: Result) -> None:
        """One more seed."""
        self.seeds += 1
        if result.wrong:
            self.failed[result.seed] = result.wrong
        self.reached += result.reached
        self.slowest_s = max(self.slowest_s, result.converged_s)

    def missed(self) -> list[str]:
        """What was never reached and should have been."""
        return [path for path in PATHS if not self.reached[path]] if self.seeds >= REACHES_ALL_FROM else []


def results(seeds: Sequence[int]) -> Iterator[Result]:
    """The result of each seed, in the order in which they come."""
    processes = min(os.cpu_count() or 1, len(seeds))
    if processes == 1:
        yield from map(_run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _quiet) as pool:
        yield from pool.imap_unordered(_run, seeds, chunksize=max(1, min(8, len(seeds) // (4 * processes))))


def _quiet() -> None:
    logging.disable()  # what a node has to say of faults that are meant to be


def _run(seed: int) -> Result:
    try:
        return run(seed)
    except Exception:
        return Result(
            seed=seed,
            wrong=(f"the simulator itself failed: {traceback.format_exc()}",),
            reached=Counter(),
            trace=(),
            converged_s=0.0,
            virtual_s=0.0,
            steps=0,
        )
