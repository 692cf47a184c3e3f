"""Many seeds, over all cores; and what they must have reached together."""

import logging
import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from replication.simulation.bucket_faults import BUCKET_FAULTS
from replication.simulation.faults import BY_THEMSELVES, FAULTS, MIGRATE
from replication.simulation.object_store import SPOILS
from replication.simulation.one_writer import faults as primary_faults
from replication.simulation.one_writer import scenario as primary_scenario
from replication.simulation.result import Result
from replication.simulation.scenario import run

REACHES_ALL_FROM: Final = 500
"""A campaign of so many seeds that did not reach everything has not tried what it says."""

PATHS: Final = (
    *(f"fault: {fault.name}" for fault in (*FAULTS, *BY_THEMSELVES, *BUCKET_FAULTS)),
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
    "status: archive_reads",
    "status: archive_fails",
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
    *(f"object store: {what}" for what in ("throttles", "does it twice", "done, and not answered", "lists late")),
    *(f"object store: answers {how}" for how in ("truncated", "altered", "newer")),
    *(f"damage: {how}, and seen" for how in SPOILS),
    "restored meanwhile",
    *(f"backup: {what}" for what in ("snapshots", "repeats", "failures", "keepings", "merged", "removed")),
    "not restored: BackupUnreachable",
    "restored all that the cluster has",
    "a machine was restored from the bucket",
)
"""What a campaign has to reach: every fault, and every path of the protocol that is there to meet one."""

PATHS_OF_PRIMARY: Final = (
    *(f"fault: {fault.name}" for fault in primary_faults.FAULTS),
    "a commit at the primary",
    "handed over",
    "calls done",
    "refused: NoPrimary",
    "refused: OutcomeUnknown",
    "refused: DuplicateRow",
    "lease store: done, and not answered",
    "acknowledged, and lost as it may be",
    "status: tails",
)
"""The same, of seeds of mode primary."""
PRIMARY_REACHES_ALL_FROM: Final = 100
SEEDS_PER_PRIMARY: Final = 10
"""A campaign has a seed of mode primary for so many of mode convergent."""


class Mode(StrEnum):
    """Of the nodes of a simulated cluster."""

    CONVERGENT = "convergent"
    PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Which:
    """One simulation."""

    seed: int
    mode: Mode = Mode.CONVERGENT

    def __str__(self) -> str:
        return f"seed {self.seed}" + (" of mode primary" if self.mode is Mode.PRIMARY else "")

    @property
    def variables(self) -> str:
        """What `make sim` wants to run it again."""
        return f"SEED={self.seed}" + (" MODE=primary" if self.mode is Mode.PRIMARY else "")

    def run(self, *, traced: bool = False) -> Result:
        """See `scenario.run`."""
        one = primary_scenario.run if self.mode is Mode.PRIMARY else run
        return one(self.seed, traced=traced)


def which_of(seeds: Sequence[int], mode: Mode | None) -> list[Which]:
    """The simulations of a campaign: of one mode, or of both."""
    if mode is not None:
        return [Which(seed, mode) for seed in seeds]
    primary = [Which(seed, Mode.PRIMARY) for seed in seeds if seed % SEEDS_PER_PRIMARY == 0]
    return [*(Which(seed) for seed in seeds), *primary]


@dataclass(slots=True)
class Campaign:
    """What came of many seeds."""

    failed: dict[Which, tuple[str, ...]] = field(default_factory=dict[Which, tuple[str, ...]])
    slowest_s: float = 0.0
    """The longest time to converge, of virtual seconds."""
    _seeds: Counter[Mode] = field(default_factory=Counter[Mode])
    _reached: dict[Mode, Counter[str]] = field(default_factory=lambda: {mode: Counter[str]() for mode in Mode})

    @property
    def seeds(self) -> int:
        """How many there were."""
        return self._seeds.total()

    def of(self, mode: Mode) -> int:
        """How many of them were of this mode."""
        return self._seeds[mode]

    @property
    def reached(self) -> Counter[str]:
        """What all of them reached, and how often."""
        return sum(self._reached.values(), Counter[str]())

    def add(self, which: Which, result: Result) -> None:
        """One more seed."""
        self._seeds[which.mode] += 1
        if result.wrong:
            self.failed[which] = result.wrong
        self._reached[which.mode] += result.reached
        self.slowest_s = max(self.slowest_s, result.converged_s)

    def missed(self) -> list[str]:
        """What was never reached and should have been."""
        wanted = (
            (Mode.CONVERGENT, PATHS, REACHES_ALL_FROM),
            (Mode.PRIMARY, PATHS_OF_PRIMARY, PRIMARY_REACHES_ALL_FROM),
        )
        return [
            path
            for mode, paths, from_ in wanted
            if self._seeds[mode] >= from_
            for path in paths
            if not self._reached[mode][path]
        ]


def results(wanted: Sequence[Which]) -> Iterator[tuple[Which, Result]]:
    """The result of each, in the order in which they come."""
    processes = min(os.cpu_count() or 1, len(wanted))
    if processes == 1:
        yield from map(_run, wanted)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _quiet) as pool:
        yield from pool.imap_unordered(_run, wanted, chunksize=max(1, min(8, len(wanted) // (4 * processes))))


def _quiet() -> None:
    logging.disable()  # what a node has to say of faults that are meant to be


def _run(which: Which) -> tuple[Which, Result]:
    try:
        return which, which.run()
    except Exception:
        return which, Result(
            seed=which.seed,
            wrong=(f"the simulator itself failed: {traceback.format_exc()}",),
            reached=Counter(),
            trace=(),
            converged_s=0.0,
            virtual_s=0.0,
            steps=0,
        )
